"""Heads: a file without its pixels and its pixels make the file again; records of heads."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import dicom_phantoms as phantoms
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mroi.adapters.dicom import Head, build_heads, build_instance, parse_heads, read_series
from mroi.adapters.dicom.part10 import join_tiles, read_header, split_tiles, strip_pixels
from mroi.adapters.dicom.stored import form_of
from mroi.errors import FormatError, SourceError

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"


def rebuilt(path):
    """The file that heads and planes of a series of one instance make, and the series."""
    found = read_series(path, all_bits=True)
    (head,) = found.heads()
    planes = dict(found.planes())
    return build_instance(head.part10, [planes[number] for number in head.slices]), found


@pytest.mark.parametrize(
    "name",
    ["CT_small.dcm", "MR_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm",
     "MR_small_expb.dcm", "MR_small_padded.dcm", "SC_rgb_small_odd.dcm", "ExplVR_BigEnd.dcm",
     "UN_sequence.dcm", "rtdose.dcm", "rtdose_1frame.dcm", "rtdose_expb.dcm",
     "examples_rgb_color.dcm", "examples_overlay.dcm", "examples_palette.dcm",
     "nested_priv_SQ.dcm", "priv_SQ.dcm"],
)  # fmt: skip
def test_files_that_pydicom_ships_come_back_bit_for_bit(name):
    path = SHIPPED / name
    if not path.exists():
        pytest.skip("not shipped with this pydicom")
    try:
        data, found = rebuilt(path)
    except SourceError as error:
        reasons = ("not DICOM", "has no pixels", "not supported", "is missing")
        assert any(reason in str(error) for reason in reasons), error  # noqa: PT017
        pytest.skip(str(error))
    assert data == path.read_bytes()
    assert len(next(iter(found.heads())).part10) < len(data)


@settings(deadline=None, max_examples=60)
@given(
    dtype=st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"]),
    frames=st.integers(1, 3),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    syntax=st.sampled_from(["explicit", "implicit", "big"]),
    trailing=st.booleans(),
    padding=st.integers(0, 3),
)
def test_uncompressed_files_come_back_bit_for_bit(
    tmp_path_factory, dtype, frames, shape, syntax, trailing, padding
):
    pixels = phantoms.noise((frames, *shape), dtype)
    ds = phantoms.blank()
    phantoms.set_pixels(ds, pixels)
    ds.NumberOfFrames = frames
    if "PixelData" in ds:
        ds.PixelData += bytes(range(1, 2 * padding + 1))  # more than the pixels need
    if trailing:
        ds.add_new(0xFFFCFFFC, "OB", b"\1\2\3\4")
    if syntax == "implicit":
        ds.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    elif syntax == "big" and dtype not in {"u1", "i1"}:
        ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
        for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
            if keyword in ds:
                value = np.frombuffer(ds[keyword].value[: pixels.nbytes], pixels.dtype)
                ds[keyword].value = value.byteswap().tobytes() + ds[keyword].value[pixels.nbytes :]
    path = tmp_path_factory.mktemp("part10") / "a.dcm"
    path.write_bytes(phantoms.to_bytes(ds))
    data, found = rebuilt(path)
    assert data == path.read_bytes()
    planes = np.stack([plane for _, plane in found.planes()])
    assert planes.dtype == np.dtype(dtype).newbyteorder("<")
    assert np.array_equal(planes, pixels)


@pytest.mark.parametrize("planar", [0, 1])
def test_colours_come_back_bit_for_bit(tmp_path, planar):
    pixels = phantoms.noise((5, 7, 3), "u1", high=255)
    ds = phantoms.blank()
    phantoms.set_pixels(ds, pixels, colour=True)
    ds.PlanarConfiguration = planar
    if planar:
        ds.PixelData = np.ascontiguousarray(pixels.transpose(2, 0, 1)).tobytes() + b"\0"
    (path,) = phantoms.write(tmp_path, [ds])
    data, found = rebuilt(path)
    assert data == path.read_bytes()
    ((_, plane),) = found.planes()
    assert np.array_equal(plane, pixels)
    assert found.samples == 3


def test_head_keeps_every_other_byte(tmp_path):
    ds = phantoms.blank()
    phantoms.set_pixels(ds, np.full((4, 4), 0x4142, "u2"))
    ds.add_new(0xFFFCFFFC, "OB", b"tail")
    data = phantoms.to_bytes(ds)
    file = io.BytesIO(data)
    dataset, element = read_header(file, "x")
    head = strip_pixels(file, element, form_of(dataset, element.vr, "<"), 16)
    assert len(head) == len(data) - 32
    assert data[: element.start] == head[: element.start]
    assert data[element.start + 32 :] == head[element.start :]
    assert b"BABA" not in head


def test_frames_that_do_not_fit_a_head_are_refused(tmp_path):
    ds = phantoms.blank()
    phantoms.set_pixels(ds, np.zeros((4, 6), "u2"))
    (path,) = phantoms.write(tmp_path, [ds])
    (head,) = read_series(path).heads()
    for frames in (
        [np.zeros((6, 4), "u2")],
        [np.zeros((4, 6), "u1")],
        [np.zeros((4, 6), "u2")] * 2,
        [np.zeros((4, 6), "u2"), np.zeros((4, 5), "u2")],
        [],
    ):
        with pytest.raises(SourceError):
            build_instance(head.part10, frames)


@given(st.integers(1, 30), st.integers(1, 4), st.integers(1, 4))
def test_tiles_of_a_mosaic(count, rows, columns):
    tiles = np.arange(1, count * rows * columns + 1).reshape(count, rows, columns)
    side = next(n for n in range(1, 9) if n * n >= count)
    mosaic = join_tiles(tiles, side * rows, side * columns)
    assert np.array_equal(split_tiles(mosaic, count), tiles)
    for k in range(count):
        r, c = divmod(k, side)
        assert np.array_equal(mosaic[r * rows :, c * columns :][:rows, :columns], tiles[k])
    if side * side > count:
        mosaic[-1, -1] = 1
        with pytest.raises(SourceError, match="unused"):
            split_tiles(mosaic, count)


HEADS = st.permutations(range(12)).flatmap(
    lambda order: st.lists(st.integers(1, 4), min_size=3, max_size=12).map(
        lambda sizes: [
            Head(tuple(order[sum(sizes[:i]) :][: sizes[i]]), bytes([i + 1]) * (i + 1))
            for i in range(len(sizes))
            if sum(sizes[:i]) < 12
        ]
    )
)


@given(HEADS)
def test_records_are_read_back(heads):
    count = sum(len(head.slices) for head in heads)
    heads = [Head(tuple(n % count for n in head.slices), head.part10) for head in heads]
    used = {n for head in heads for n in head.slices}
    if len(used) == count:
        assert parse_heads(build_heads(heads), count) == heads


@given(HEADS, st.data())
def test_damaged_records_name_the_rule(heads, data):
    count = sum(len(head.slices) for head in heads)
    numbers = iter(range(count))
    heads = [Head(tuple(next(numbers) for _ in head.slices), head.part10) for head in heads]
    payload = build_heads(heads)
    assert parse_heads(payload, count) == heads
    cut = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(FormatError) as caught:
        parse_heads(payload[:cut], count)
    assert caught.value.rule == "DCM-1"
    place = data.draw(st.integers(0, len(payload) - 1))
    damaged = bytearray(payload)
    damaged[place] ^= data.draw(st.integers(1, 255))
    try:
        assert parse_heads(bytes(damaged), count) != heads
    except FormatError as error:
        assert error.rule == "DCM-1"  # noqa: PT017


@pytest.mark.parametrize(
    "payload",
    [
        struct.pack("<IIQ", 0, 0, 2**64 - 1),
        struct.pack("<IIQ", 0, 1, 1) + b"a",  # reserved
        struct.pack("<IIQ", 0, 0, 0),  # a frame of no instance
        struct.pack("<IIQ", 1, 0, 1) + b"a",  # no such slice
        struct.pack("<IIQ", 0, 0, 1) + b"ab",
        b"",
    ],
)
def test_broken_records(payload):
    with pytest.raises(FormatError) as caught:
        parse_heads(payload, 1)
    assert caught.value.rule == "DCM-1"
