"""GEOM and rOIB: what each byte means, and what is refused under which rule."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mroi.errors import FormatError
from mroi.format.geom import (
    GEOM_SIZE,
    Background,
    Geom,
    SourceFlags,
    SourceKind,
    build_geom,
    build_roi_record,
    check_roi_record,
    has_roi_record,
    parse_geom,
)
from tests.format.geometries import LAYOUT, geom_bytes, geom_of, geom_payloads
from tests.format.laws import cuts, flips, patched, refusal, rules_broken

GEOM = (
    b"\x58\x01"  # size = 344
    b"\x04"  # ndim = 4
    b"\x01"  # slice_axis = 1
    b"\x04\x00"  # datatype = int16
    b"\x02"  # itemsize = 2
    b"\x0c"  # bits_stored = 12
    b"\x06\x00\x00\x00\x00\x00\x00\x00"  # shape = 6, 5, 4, 3, 1, 1, 1
    b"\x05\x00\x00\x00\x00\x00\x00\x00"
    b"\x04\x00\x00\x00\x00\x00\x00\x00"
    b"\x03\x00\x00\x00\x00\x00\x00\x00"
    b"\x01\x00\x00\x00\x00\x00\x00\x00"
    b"\x01\x00\x00\x00\x00\x00\x00\x00"
    b"\x01\x00\x00\x00\x00\x00\x00\x00"
    b"\x01\x00\x00\x00\x00\x00\x00\x00"  # roi_start = 1, 0, 2
    b"\x00\x00\x00\x00\x00\x00\x00\x00"
    b"\x02\x00\x00\x00\x00\x00\x00\x00"
    b"\x05\x00\x00\x00\x00\x00\x00\x00"  # roi_stop = 5, 4, 4
    b"\x04\x00\x00\x00\x00\x00\x00\x00"
    b"\x04\x00\x00\x00\x00\x00\x00\x00"
    b"\x03\x00\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00"  # chunk_shape = 3, 2, 2, 2
    b"\x02"  # background = RESIDUE_EXACT
    b"\x01"  # source_kind = NIfTI-1
    b"\x02"  # source_flags = gzipped
    b"\x0a"  # xyzt_units = mm, s
    b"\x01\x00"  # xform_code = scanner
    b"\x00\x00"  # reserved
    b"\x00\x00\x00\x00\x00\x00\xf8\x3f"  # slope = 1.5
    b"\x00\x00\x00\x00\x00\x00\x08\xc0"  # inter = -3
    b"\x00\x00\x00\x00\x00\x00\xf8\x3f"  # spacing = 1.5, 2, 2.5, 3, 0, 0, 0
    b"\x00\x00\x00\x00\x00\x00\x00\x40"
    b"\x00\x00\x00\x00\x00\x00\x04\x40"
    b"\x00\x00\x00\x00\x00\x00\x08\x40"
    b"\x00\x00\x00\x00\x00\x00\x00\x00"
    b"\x00\x00\x00\x00\x00\x00\x00\x00"
    b"\x00\x00\x00\x00\x00\x00\x00\x00"
    b"\x00\x00\x00\x00\x00\x00\xf8\xbf"  # affine = -1.5, 0, 0, 90
    b"\x00\x00\x00\x00\x00\x00\x00\x00"
    b"\x00\x00\x00\x00\x00\x00\x00\x00"
    b"\x00\x00\x00\x00\x00\x80\x56\x40"
    b"\x00\x00\x00\x00\x00\x00\x00\x00"  # 0, 2, 0, -126
    b"\x00\x00\x00\x00\x00\x00\x00\x40"
    b"\x00\x00\x00\x00\x00\x00\x00\x00"
    b"\x00\x00\x00\x00\x00\x80\x5f\xc0"
    b"\x00\x00\x00\x00\x00\x00\x00\x00"  # 0, 0, 2.5, -72
    b"\x00\x00\x00\x00\x00\x00\x00\x00"
    b"\x00\x00\x00\x00\x00\x00\x04\x40"
    b"\x00\x00\x00\x00\x00\x00\x52\xc0"
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"  # fill, not used
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    b"\x08\x00\x00\x00"  # roi_chunks = 8: 2 x 2 x 1, twice for 3 volumes in pairs
    b"\x06\x00\x00\x00"  # background_chunks = 6: 3 slabs of 2 planes, twice
)

ROI_RECORD = (
    b"\x01\x00\x04\x00"  # bounds = 1..4, 0..3, 2..3
    b"\x00\x00\x03\x00"
    b"\x02\x00\x03\x00"
    b"\x06\x00\x05\x00\x04\x00"  # shape = 6, 5, 4
    b"\x00\x00\xc0\xbf\x00\x00\x00\x00\x00\x00\x00\x00"  # matrix = -1.5, 0, 0
    b"\x00\x00\x00\x00\x00\x00\x00\x40\x00\x00\x00\x00"  # 0, 2, 0
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x20\x40"  # 0, 0, 2.5
)


def parse(data: bytes) -> Geom:
    return parse_geom(data, offset=184)


# -- GEOM --------------------------------------------------------------------------------------


def test_bytes_of_a_geometry() -> None:
    geom = parse(GEOM)
    assert len(GEOM) == GEOM_SIZE == LAYOUT.itemsize == 344
    assert (geom.ndim, geom.shape, geom.slice_axis) == (4, (6, 5, 4, 3), 1)
    assert (geom.datatype.name, geom.itemsize, geom.bits_stored) == ("int16", 2, 12)
    assert (geom.roi.start, geom.roi.stop) == ((1, 0, 2), (5, 4, 4))
    assert geom.chunk_shape == (3, 2, 2, 2)
    assert (geom.background, geom.fill) == (Background.RESIDUE_EXACT, bytes(2))
    assert (geom.source_kind, geom.source_flags) == (SourceKind.NIFTI1, SourceFlags.GZIPPED)
    assert (geom.xyzt_units, geom.xform_code) == (10, 1)
    assert (geom.slope, geom.inter) == (1.5, -3)
    assert geom.spacing == (1.5, 2, 2.5, 3)
    expected = [[-1.5, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2.5, -72], [0, 0, 0, 1]]
    assert geom.affine.tolist() == expected
    assert (geom.grid.roi_chunks, geom.grid.background_chunks) == (8, 6)
    assert build_geom(geom) == GEOM


def test_what_follows_from_a_geometry() -> None:
    geom = parse(GEOM)
    assert geom.size == 6 * 5 * 4 * 3 * 2
    assert geom.slice_count == 5 * 3
    assert geom.decoded_size(0) == 3 * 2 * 2 * 2 * 2  # voxels, volumes, bytes
    assert geom.decoded_size(7) == 1 * 2 * 2 * 1 * 2  # the last one is short along x and in time
    assert geom.decoded_size(8) == (6 * 2 * 4 - 4 * 2 * 2) * 2 * 2  # planes 0 and 1 but for the ROI
    assert geom.decoded_size(13) == 6 * 1 * 4 * 1 * 2  # plane 4, which the ROI does not meet
    assert geom.fill_samples.tolist() == 0
    colours = geom_of(datatype=128, itemsize=3, bits_stored=8, fill=b"\x01\x02\x03")
    assert colours.fill_samples.tolist() == [1, 2, 3]


@given(geom_payloads())
def test_a_geometry_is_read_back(data: bytes) -> None:
    geom = parse(data)
    assert build_geom(geom) == data
    record = np.frombuffer(data, LAYOUT)[0]
    axes = max(geom.ndim, 3)
    assert geom.shape == tuple(record["shape"][:axes])
    assert (geom.roi.start, geom.roi.stop) == (
        tuple(record["roi_start"]),
        tuple(record["roi_stop"]),
    )
    assert geom.affine[:3].ravel().tolist() == record["affine"].tolist()
    assert geom.fill == record["fill"].tobytes()[: geom.itemsize]
    sizes = [geom.decoded_size(i) for i in range(min(geom.grid.chunks, 50))]
    assert all(size % geom.itemsize == 0 for size in sizes)


@given(geom_payloads())
def test_chunks_hold_the_voxels_of_the_roi_and_of_the_background(data: bytes) -> None:
    geom = parse(data)
    if geom.grid.chunks > 3000:
        return
    sizes = [geom.decoded_size(i) for i in range(geom.grid.chunks)]
    inside = geom.itemsize * geom.grid.volumes * int(np.prod(geom.roi.shape))
    assert sum(sizes[: geom.grid.roi_chunks]) == inside
    assert sum(sizes[geom.grid.roi_chunks :]) == (
        geom.size - inside if geom.background.is_stored else 0
    )


def test_a_changed_geometry_means_what_it_says_or_is_refused() -> None:
    found = rules_broken(flips(GEOM), parse, build_geom, GEOM)
    assert found == {f"GEO-{number}" for number in range(1, 15)}


@given(geom_payloads(), st.data())
def test_any_changed_geometry_means_what_it_says_or_is_refused(
    payload: bytes, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(payload) - 1))
    new = data.draw(st.binary(min_size=1, max_size=min(8, len(payload) - at)))
    found = rules_broken([patched(payload, at, new)], parse, build_geom, payload)
    assert all(rule.startswith("GEO-") for rule in found)


def test_a_geometry_of_another_size_is_refused() -> None:
    for data in (*cuts(GEOM), GEOM + b"\0"):
        found = refusal(parse, data)
        assert (found.rule, found.offset) == ("GEO-1", 184)


def test_a_longer_geometry_is_read_and_its_end_ignored() -> None:
    long = patched(GEOM, 0, (352).to_bytes(2, "little")) + b"\xff" * 8
    assert build_geom(parse(long)) == GEOM


FAULTS: list[tuple[dict[str, Any], str, int]] = [
    ({"size": 343}, "GEO-1", 0),
    ({"ndim": 0}, "GEO-2", 2),
    ({"ndim": 8}, "GEO-2", 2),
    ({"ndim": 2}, "GEO-2", 2),  # with a third extent
    ({"shape": (4, 3, 0, 1, 1, 1, 1)}, "GEO-2", 8),
    ({"ndim": 7, "shape": (4, 3, 2, 1, 1, 1, 2**40 + 1)}, "GEO-2", 8),
    ({"ndim": 4, "shape": (2**30, 2**30, 2, 1, 1, 1, 1)}, "GEO-2", 8),  # 2^62 bytes
    ({"slice_axis": 3}, "GEO-3", 3),
    ({"datatype": 1}, "GEO-4", 4),  # one bit
    ({"datatype": 2304}, "GEO-4", 4),  # of 4 bytes
    ({"itemsize": 1}, "GEO-4", 4),
    ({"bits_stored": 0}, "GEO-5", 7),
    ({"bits_stored": 17}, "GEO-5", 7),
    ({"datatype": 128, "itemsize": 3, "bits_stored": 9}, "GEO-5", 7),  # of a sample
    ({"roi_start": (4, 0, 0)}, "GEO-6", 64),
    ({"roi_start": (0, 2**63, 0)}, "GEO-6", 64),
    ({"roi_stop": (4, 3, 0)}, "GEO-6", 64),
    ({"roi_stop": (4, 4, 2)}, "GEO-6", 64),
    ({"chunk_shape": (0, 3, 1, 1)}, "GEO-7", 112),
    ({"chunk_shape": (5, 3, 1, 1)}, "GEO-7", 112),
    ({"chunk_shape": (4, 3, 1, 0)}, "GEO-7", 112),
    ({"chunk_shape": (4, 3, 1, 2)}, "GEO-7", 112),
    ({"roi_start": (1, 0, 0)}, "GEO-7", 112),  # chunks larger than the ROI
    ({"background": 5}, "GEO-8", 128),
    ({"background": 0}, "GEO-8", 128),  # of a ROI that leaves nothing out
    ({"background": 4}, "GEO-8", 128),
    ({"source_kind": 6}, "GEO-9", 129),
    ({"source_kind": 254}, "GEO-9", 129),
    ({"source_flags": 4}, "GEO-9", 130),
    ({"xform_code": -1}, "GEO-9", 130),
    ({"xform_code": 6}, "GEO-9", 130),
    ({"slope": 0.0}, "GEO-10", 136),
    ({"slope": -0.0}, "GEO-10", 136),
    ({"slope": np.nan}, "GEO-10", 136),
    ({"inter": np.inf}, "GEO-10", 136),
    ({"affine": [*[0] * 11, np.nan]}, "GEO-11", 208),
    ({"affine": [-np.inf, *[0] * 11]}, "GEO-11", 208),
    ({"spacing": (-1, 1, 1, 0, 0, 0, 0)}, "GEO-11", 152),
    ({"spacing": (np.nan, 1, 1, 0, 0, 0, 0)}, "GEO-11", 152),
    ({"spacing": (1, 1, 1, 1, 0, 0, 0)}, "GEO-11", 152),  # of an axis that is not there
    ({"fill": b"\0\0\x01"}, "GEO-12", 304),  # longer than an element
    ({"fill": bytes(31) + b"\x01"}, "GEO-12", 304),
    ({"roi_chunks": 1}, "GEO-13", 336),
    ({"roi_chunks": 3}, "GEO-13", 336),
    ({"background_chunks": 1}, "GEO-13", 336),
    ({"reserved": b"\0\x01"}, "GEO-14", 134),
    ({"reserved": b"\x80"}, "GEO-14", 134),
]


@pytest.mark.parametrize(("fields", "rule", "at"), FAULTS, ids=str)
def test_a_geometry_that_breaks_a_rule(fields: dict[str, Any], rule: str, at: int) -> None:
    found = refusal(parse, geom_bytes(**fields))
    assert (found.rule, found.offset) == (rule, 184 + at)


@pytest.mark.parametrize("policy", Background)
def test_which_policies_have_a_fill_and_which_have_chunks(policy: Background) -> None:
    has_fill = policy in (Background.FILL_VERIFIED, Background.FILL_LOSSY)
    fields = {
        "background": policy,
        "roi_stop": (4, 3, 1),
        "roi_chunks": 1,
        "background_chunks": 2 if policy.is_stored else 0,
    }
    assert geom_of(**fields).fill == b"\0\0"
    if has_fill:
        assert geom_of(**fields, fill=b"\x07\x08").fill == b"\x07\x08"
    else:
        assert refusal(parse, geom_bytes(**fields, fill=b"\x07\x08")).rule == "GEO-12"
    assert policy.is_stored == (policy in (Background.RESIDUE_EXACT, Background.RESIDUE_LOSSY))


LARGEST: list[dict[str, Any]] = [
    {"ndim": 3, "shape": (2**40, 2, 1, 1, 1, 1, 1), "roi_stop": (4, 1, 1), "background": 0},
    {"ndim": 7, "shape": (4, 3, 1, 1, 1, 1, 2**31), "chunk_shape": (4, 3, 1, 1)},
]


@pytest.mark.parametrize("fields", LARGEST, ids=["an axis", "chunks"])
def test_the_largest_volumes(fields: dict[str, Any]) -> None:
    fields = {"roi_stop": (4, 3, 1), "roi_chunks": 1, **fields}
    if fields["ndim"] == 7:
        fields["roi_chunks"] = 2**31
    else:
        fields["chunk_shape"] = (4, 1, 1, 1)
    data = geom_bytes(**fields)
    assert build_geom(parse(data)) == data


def test_more_chunks_than_ordinals_cannot_be_written() -> None:
    huge = replace(geom_of(), ndim=4, shape=(4, 3, 2, 2**31), spacing=(0.0,) * 4)
    with pytest.raises(FormatError) as caught:
        build_geom(huge)
    assert caught.value.rule == "GEO-13"


def test_a_writer_keeps_the_rules_of_a_reader() -> None:
    wrong = [
        (replace(geom_of(), slope=0.0), "GEO-10"),
        (replace(geom_of(), xform_code=1 << 15), "GEO-2"),  # too large for its field
    ]
    for geom, rule in wrong:
        with pytest.raises(FormatError) as caught:
            build_geom(geom)
        assert caught.value.rule == rule


# -- rOIB --------------------------------------------------------------------------------------


def test_bytes_of_a_roi_record() -> None:
    geom = parse(GEOM)
    assert len(ROI_RECORD) == 54
    assert build_roi_record(geom) == ROI_RECORD
    check_roi_record(ROI_RECORD, geom, offset=96)


@given(geom_payloads())
def test_a_roi_record_says_what_the_geometry_says(data: bytes) -> None:
    geom = parse(data)
    assert has_roi_record(geom) == (max(geom.shape[:3]) <= 32767)
    if not has_roi_record(geom):
        check_roi_record(None, geom, offset=64)
        return
    record = build_roi_record(geom)
    numbers = struct.unpack("<9h9f", record)
    assert numbers[:6:2] == geom.roi.start
    assert tuple(last + 1 for last in numbers[1:6:2]) == geom.roi.stop
    assert numbers[6:9] == geom.shape[:3]
    with np.errstate(over="ignore"):
        assert numbers[9:] == tuple(geom.affine[:3, :3].astype("f4").ravel().tolist())
    check_roi_record(record, geom, offset=96)


def test_a_changed_roi_record_is_refused() -> None:
    geom = parse(GEOM)
    for number, changed in enumerate(flips(ROI_RECORD)):
        found = refusal(lambda data: check_roi_record(data, geom, offset=96), changed)
        is_matrix = number >= 8 * 18
        assert found.rule == ("ROI-3" if is_matrix else "ROI-2")
        assert found.offset == (96 + 18 if is_matrix else 96)
    for changed in (*cuts(ROI_RECORD), ROI_RECORD + b"\0"):
        found = refusal(lambda data: check_roi_record(data, geom, offset=96), changed)
        assert found.rule == "ROI-2"


def test_a_roi_record_is_there_for_volumes_that_it_can_hold_and_no_others() -> None:
    geom = parse(GEOM)
    assert refusal(lambda _: check_roi_record(None, geom, offset=64), b"").rule == "ROI-1"
    for extent, fits in ((32767, True), (32768, False)):
        long = geom_of(
            shape=(extent, 3, 2, 1, 1, 1, 1),
            roi_stop=(extent, 3, 2),
            chunk_shape=(extent, 3, 1, 1),
        )
        assert has_roi_record(long) == fits
    assert refusal(lambda data: check_roi_record(data, long, offset=64), ROI_RECORD).rule == "ROI-1"
