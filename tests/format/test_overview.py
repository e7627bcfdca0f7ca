"""oVRW: what each byte means, and what is refused under which rule."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mroi.format.codec_table import CodecEntry, Role
from mroi.format.geom import Geom
from mroi.format.overview import (
    OVERVIEW_FACTORS,
    OverviewMethod,
    OverviewRecord,
    build_overview,
    parse_overview,
)
from tests.format.geometries import geom_of
from tests.format.laws import cuts, flips, patched, refusal, rules_broken

OVERVIEW = (
    b"\x04\x02\x01"  # factor = 4, 2, 1
    b"\x01"  # method = MEAN
    b"\x01"  # codec_slot = 1
    b"\x00\x00\x00"  # reserved
    b"\x02\x00\x00\x00"  # volumes = 2
    b"\x11\xf7\x4a\x38"  # decoded_crc
    b"payload"
)
RECORD = OverviewRecord((4, 2, 1), OverviewMethod.MEAN, 1, 2, 0x384AF711, b"payload")
HEADER_SIZE = 16


def slot(role: Role) -> CodecEntry:
    return CodecEntry("raw", 1, 1, role, 1, is_deterministic=True, parameters={})


@dataclass(frozen=True)
class Head:
    """What of a head an overview depends on."""

    geom: Geom
    codecs: tuple[CodecEntry, ...]
    rescale: object = None


HEAD = Head(
    geom_of(ndim=4, shape=(4, 3, 2, 3, 1, 1, 1), roi_chunks=6),  # three volumes
    (slot(Role.ROI), slot(Role.OVERVIEW), slot(Role.BACKGROUND)),
)


def parse(data: bytes) -> OverviewRecord:
    return parse_overview(data, HEAD, offset=700)


def test_bytes_of_an_overview() -> None:
    assert parse(OVERVIEW) == RECORD
    assert build_overview(RECORD) == OVERVIEW
    assert RECORD.extent(HEAD.geom) == (1, 2, 2)


@given(
    st.tuples(*[st.sampled_from(OVERVIEW_FACTORS)] * 3),
    st.sampled_from(OverviewMethod),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=30),
)
def test_an_overview_is_read_back(
    factor: tuple[int, int, int], method: OverviewMethod, volumes: int, crc: int, payload: bytes
) -> None:
    record = OverviewRecord(factor, method, 1, volumes, crc, payload)
    assert parse(build_overview(record)) == record
    expected = [len(range(0, n, f)) for n, f in zip((4, 3, 2), factor, strict=True)]
    assert list(record.extent(HEAD.geom)) == expected


def test_a_changed_overview_means_what_it_says_or_is_refused() -> None:
    assert rules_broken(flips(OVERVIEW), parse, build_overview, OVERVIEW) == {"OVR-1", "OVR-2"}


def test_an_overview_without_a_whole_header_is_refused() -> None:
    for data in itertools.islice(cuts(OVERVIEW), HEADER_SIZE):
        found = refusal(parse, data)
        assert (found.rule, found.offset) == ("OVR-1", 700)
    assert parse(OVERVIEW[:HEADER_SIZE]).payload == b""  # for the codec to refuse (OVR-3)


FAULTS = [
    (0, b"\x00", "OVR-1"),
    (0, b"\x03", "OVR-1"),
    (1, b"\x20", "OVR-1"),  # 32
    (2, b"\xff", "OVR-1"),
    (3, b"\x02", "OVR-1"),
    (5, b"\x01", "OVR-1"),
    (7, b"\x80", "OVR-1"),
    (8, b"\x00", "OVR-1"),
    (8, b"\x04", "OVR-1"),  # of three volumes
    (8, b"\xff\xff\xff\xff", "OVR-1"),
    (4, b"\x00", "OVR-2"),  # of the ROI
    (4, b"\x02", "OVR-2"),  # of the background
    (4, b"\x03", "OVR-2"),  # there is none
    (4, b"\xff", "OVR-2"),
]


@pytest.mark.parametrize(("at", "new", "rule"), FAULTS)
def test_an_overview_that_breaks_a_rule(at: int, new: bytes, rule: str) -> None:
    found = refusal(parse, patched(OVERVIEW, at, new))
    assert (found.rule, found.offset) == (rule, 700)


def test_no_overview_beside_a_slope_of_each_slice() -> None:
    head = replace(HEAD, rescale=object())
    assert refusal(lambda data: parse_overview(data, head, offset=0), OVERVIEW).rule == "OVR-1"
