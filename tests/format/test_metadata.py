"""SLSC, sLPo, dIGE, dCMh and what is compressed: values, and what is refused under which rule."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mroi.errors import FormatError, LimitError
from mroi.format.metadata import (
    Digest,
    DigestScope,
    build_digest,
    build_records,
    deflate_payload,
    inflate_payload,
    parse_digest,
    parse_positions,
    parse_records,
    parse_rescale,
    parse_upper_bits,
    upper_bits_type,
)
from mroi.limits import DEFAULT_LIMITS, Limits
from tests.format.geometries import geom_of
from tests.format.laws import cuts, flips, patched, refusal, rules_broken

TWO_SLICES = geom_of()
SIX_SLICES = geom_of(ndim=4, shape=(4, 3, 2, 3, 1, 1, 1), roi_chunks=6)

# -- dIGE --------------------------------------------------------------------------------------

DIGEST = (
    b"\x01"  # SHA-256
    b"\x02"  # scope = volume
    b"\x00\x00\x00\x00\x00\x00"  # reserved
    b"\xe3\xb0\xc4\x42\x98\xfc\x1c\x14\x9a\xfb\xf4\xc8\x99\x6f\xb9\x24"  # digest
    b"\x27\xae\x41\xe4\x64\x9b\x93\x4c\xa4\x95\x99\x1b\x78\x52\xb8\x55"
)


def parse_volume_digest(data: bytes) -> Digest:
    return parse_digest(data, ordinal=2, offset=72)


def test_bytes_of_a_digest() -> None:
    digest = Digest(DigestScope.VOLUME, DIGEST[8:])
    assert parse_volume_digest(DIGEST) == digest
    assert build_digest(digest) == DIGEST


@given(st.sampled_from(DigestScope), st.binary(min_size=32, max_size=32))
def test_a_digest_is_read_back(scope: DigestScope, sha256: bytes) -> None:
    digest = Digest(scope, sha256)
    assert parse_digest(build_digest(digest), ordinal=scope, offset=0) == digest


def test_a_changed_digest_means_what_it_says_or_is_refused() -> None:
    found = rules_broken(flips(DIGEST), parse_volume_digest, build_digest, DIGEST)
    assert found == {"MET-2"}


@pytest.mark.parametrize(
    ("at", "new"), [(0, b"\0"), (0, b"\x02"), (1, b"\x01"), (1, b"\x04"), (7, b"\x01")]
)
def test_a_digest_that_breaks_a_rule(at: int, new: bytes) -> None:
    found = refusal(parse_volume_digest, patched(DIGEST, at, new))
    assert (found.rule, found.offset) == ("MET-2", 72)


def test_a_digest_of_another_size_or_place_is_refused() -> None:
    for data in (*cuts(DIGEST), DIGEST + b"\0"):
        assert refusal(parse_volume_digest, data).rule == "MET-2"
    for ordinal in (0, 1, 3, 4):
        found = refusal(lambda data, n=ordinal: parse_digest(data, ordinal=n, offset=0), DIGEST)
        assert found.rule == "MET-2"


# -- SLSC and sLPo -----------------------------------------------------------------------------

RESCALE = (
    b"\x00\x00\x00\x00\x00\x00\xf8\x3f\x00\x00\x00\x00\x00\x00\x08\xc0"  # 1.5, -3
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xf0\x3f"  # 0, 1
)
POSITIONS = (
    b"\x00\x00\x00\x00\x00\x00\xf8\x3f"  # 1.5
    b"\x00\x00\x00\x00\x00\x00\x08\xc0"  # -3
    b"\x00\x00\x00\x00\x00\x00\x00\x00"  # 0
    b"\x00\x00\x00\x00\x00\x00\xf8\x3f"  # 1.5
    b"\x00\x00\x00\x00\x00\x00\x08\xc0"  # -3
    b"\x00\x00\x00\x00\x00\x00\x04\x40"  # 2.5
)


def parse_two_rescales(data: bytes) -> NDArray[np.float64]:
    return parse_rescale(data, TWO_SLICES, offset=40)


def parse_two_positions(data: bytes) -> NDArray[np.float64]:
    return parse_positions(data, TWO_SLICES, offset=40)


def build_numbers(table: NDArray[np.float64]) -> bytes:
    return table.tobytes()


def test_bytes_of_tables_of_slices() -> None:
    assert parse_two_rescales(RESCALE).tolist() == [[1.5, -3], [0, 1]]
    assert parse_two_positions(POSITIONS).tolist() == [[1.5, -3, 0], [1.5, -3, 2.5]]


def test_a_changed_table_of_slices_means_what_it_says_or_is_refused() -> None:
    found = rules_broken(flips(RESCALE), parse_two_rescales, build_numbers, RESCALE)
    assert found == {"SLS-1"}
    found = rules_broken(flips(POSITIONS), parse_two_positions, build_numbers, POSITIONS)
    assert found == {"MET-3"}


def test_tables_have_a_row_for_each_slice_of_each_volume() -> None:
    for data in (*cuts(RESCALE), RESCALE + b"\0", RESCALE * 3):
        found = refusal(parse_two_rescales, data)
        assert (found.rule, found.offset) == ("SLS-1", 40)
    for data in (*cuts(POSITIONS), POSITIONS + b"\0", POSITIONS * 3):
        found = refusal(parse_two_positions, data)
        assert (found.rule, found.offset) == ("MET-3", 40)
    assert parse_rescale(RESCALE * 3, SIX_SLICES, offset=0).shape == (6, 2)
    assert parse_positions(POSITIONS * 3, SIX_SLICES, offset=0).shape == (6, 3)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_of_tables_are_finite(number: float) -> None:
    new = struct.pack("<d", number)
    assert refusal(parse_two_rescales, patched(RESCALE, 24, new)).rule == "SLS-1"
    assert refusal(parse_two_positions, patched(POSITIONS, 40, new)).rule == "MET-3"


@pytest.mark.parametrize("scaling", [{"slope": 2.0}, {"inter": 1.0}])
def test_no_slope_of_slices_beside_one_of_the_volume(scaling: dict[str, float]) -> None:
    scaled = geom_of(**scaling)
    assert refusal(lambda data: parse_rescale(data, scaled, offset=0), RESCALE).rule == "SLS-1"
    assert parse_positions(POSITIONS, scaled, offset=0).shape == (2, 3)


# -- dCMh --------------------------------------------------------------------------------------

RECORDS = (
    b"\x01\x00\x00\x00"  # slice 1
    b"\x00\x00\x00\x00"  # reserved
    b"\x03\x00\x00\x00\x00\x00\x00\x00"  # size = 3
    b"abc"
    b"\x00\x00\x00\x00"  # slice 0
    b"\x00\x00\x00\x00"  # reserved
    b"\x00\x00\x00\x00\x00\x00\x00\x00"  # size = 0
)


def parse_two_records(data: bytes) -> list[tuple[int, bytes]]:
    return parse_records(data, 2, offset=300)


def test_bytes_of_records() -> None:
    assert parse_two_records(RECORDS) == [(1, b"abc"), (0, b"")]
    assert build_records([(1, b"abc"), (0, b"")]) == RECORDS
    assert parse_two_records(b"") == []


@given(st.lists(st.tuples(st.integers(0, 1), st.binary(max_size=40)), max_size=6))
def test_records_are_read_back(records: list[tuple[int, bytes]]) -> None:
    assert parse_two_records(build_records(records)) == records


def test_changed_records_mean_what_they_say_or_are_refused() -> None:
    assert rules_broken(flips(RECORDS), parse_two_records, build_records, RECORDS) == {"DCM-1"}


def test_records_that_are_cut_are_refused() -> None:
    whole = {0, 19, len(RECORDS)}
    for data in cuts(RECORDS):
        if len(data) not in whole:
            found = refusal(parse_two_records, data)
            assert (found.rule, found.offset) == ("DCM-1", 300)


@pytest.mark.parametrize(
    ("at", "new"),
    [
        (0, b"\x02"),  # of a third slice
        (4, b"\x01"),  # reserved
        (8, b"\xff"),  # size
        (8, b"\xff\xff\xff\xff\xff\xff\xff\xff"),
        (15, b"\x80"),
        (27, b"\x01"),
    ],
)
def test_records_that_break_a_rule(at: int, new: bytes) -> None:
    assert refusal(parse_two_records, patched(RECORDS, at, new)).rule == "DCM-1"


@pytest.mark.parametrize(
    ("code", "itemsize", "stored", "size"),
    [
        (512, 2, 15, 1),
        (512, 2, 8, 1),
        (512, 2, 7, 2),
        (512, 2, 1, 2),
        (768, 4, 17, 2),
        (768, 4, 15, 4),
        (1024, 8, 31, 8),
        (2, 1, 1, 1),
    ],
)
def test_upper_bits_take_the_least_integers_with_room(
    code: int, itemsize: int, stored: int, size: int
) -> None:
    geom = geom_of(datatype=code, itemsize=itemsize, bits_stored=stored)
    assert upper_bits_type(geom) == np.dtype(f"<u{size}")


@pytest.mark.parametrize(("code", "itemsize", "stored"), [(512, 2, 16), (2, 1, 8), (2048, 32, 1)])
def test_samples_without_upper_bits_have_no_records_of_them(
    code: int, itemsize: int, stored: int
) -> None:
    geom = geom_of(datatype=code, itemsize=itemsize, bits_stored=stored)
    with pytest.raises(FormatError) as caught:
        parse_upper_bits(build_records([(0, bytes(12))]), geom, offset=0)
    assert caught.value.rule == "DCM-2"


def test_upper_bits_of_slices() -> None:
    bits = bytes(range(12))  # 4 x 3 samples, 4 bits of each
    found = parse_upper_bits(build_records([(1, bits)]), TWO_SLICES, offset=0)
    assert {number: samples.tolist() for number, samples in found.items()} == {1: list(range(12))}
    colours = geom_of(datatype=128, itemsize=3, bits_stored=7)
    assert len(parse_upper_bits(build_records([(0, bits * 3)]), colours, offset=0)[0]) == 36
    across = geom_of(slice_axis=0, chunk_shape=(1, 3, 2, 1), roi_chunks=4)
    assert len(parse_upper_bits(build_records([(3, bits[:6])]), across, offset=0)[3]) == 6


@pytest.mark.parametrize(
    ("records", "rule"),
    [
        ([(0, bytes(11))], "DCM-2"),
        ([(0, bytes(13))], "DCM-2"),
        ([(0, b"")], "DCM-2"),
        ([(0, bytes(12)), (0, bytes(12))], "DCM-2"),
        ([(2, bytes(12))], "DCM-1"),
    ],
)
def test_upper_bits_that_break_a_rule(records: list[tuple[int, bytes]], rule: str) -> None:
    found = refusal(
        lambda data: parse_upper_bits(data, TWO_SLICES, offset=9), build_records(records)
    )
    assert (found.rule, found.offset) == (rule, 9)


# -- compressed payloads -----------------------------------------------------------------------


def inflate(data: bytes) -> bytes:
    return inflate_payload(data, DEFAULT_LIMITS, offset=80)


@given(st.binary(max_size=300))
def test_what_is_deflated_is_inflated(content: bytes) -> None:
    assert inflate(deflate_payload(content)) == content


PAYLOAD = deflate_payload(b"a header, a header, and a header" * 4)


def test_a_payload_that_is_cut_or_longer_is_refused() -> None:
    for data in (*cuts(PAYLOAD), PAYLOAD + b"\0", PAYLOAD + PAYLOAD, deflate_payload(b"") + b"x"):
        found = refusal(inflate, data)
        assert (found.rule, found.offset) == ("FRM-11", 80)


def test_a_changed_payload_is_refused_or_has_the_size_that_it_declares() -> None:
    rules = set()
    for data in flips(PAYLOAD):
        try:
            content = inflate(data)
        except FormatError as exc:
            rules.add(exc.rule)
        else:
            assert len(content) == zstandard.get_frame_parameters(data).content_size
    assert rules == {"FRM-11"}


def test_what_is_no_frame_of_known_size_is_refused() -> None:
    content = b"some bytes" * 20
    unknown = zstandard.ZstdCompressor(write_content_size=False).compress(content)
    words = zstandard.ZstdCompressionDict(content)
    foreign = zstandard.ZstdCompressor(dict_data=words).compress(content)
    numbered = zstandard.train_dictionary(512, [bytes([n % 251, n % 7]) * 40 for n in range(400)])
    with_dictionary = zstandard.ZstdCompressor(dict_data=numbered).compress(content)
    for data in (b"", b"plain", unknown, foreign, with_dictionary):
        assert refusal(inflate, data).rule == "FRM-11"


def test_payloads_inflate_within_limits() -> None:
    small = replace(DEFAULT_LIMITS, metadata_size=1000)
    assert len(inflate_payload(deflate_payload(bytes(1000)), small, offset=0)) == 1000
    with pytest.raises(LimitError) as caught:
        inflate_payload(deflate_payload(bytes(1001)), small, offset=80)
    assert (caught.value.rule, caught.value.offset) == ("LIM-1", 80)


def test_a_bomb_is_refused_before_memory_is_taken_for_it() -> None:
    """100 MiB of 3 KiB: within `metadata_size`, but no header is like that."""
    bomb = deflate_payload(bytes(100 << 20))
    assert len(bomb) < 20_000
    with pytest.raises(LimitError) as caught:
        inflate_payload(bomb, Limits(metadata_stored=1 << 20), offset=0)
    assert caught.value.rule == "LIM-1"


def test_a_frame_that_lies_about_its_size_is_refused() -> None:
    frame = bytearray(zstandard.ZstdCompressor(write_checksum=False).compress(b"x" * 100))
    assert frame[5] == 100  # the declared size, of one byte
    for size in (0, 1, 99, 101, 255):
        frame[5] = size
        assert refusal(inflate, bytes(frame)).rule == "FRM-11"
