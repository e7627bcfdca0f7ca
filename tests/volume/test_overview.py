"""The overview is the volume reduced as the specification says, proven, and costs nobody else."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mroi
from mroi.container import ContainerReader, MemorySource
from mroi.volume.overview import parse_factor

FACTORS = (1, 2, 4, 8, 16)
DTYPES = ("uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")


@st.composite
def volumes(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.lists(st.integers(1, 9), min_size=3, max_size=4).map(tuple))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if dtype.kind == "f":
        return rng.normal(0, 100, shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


def packed(array, **options) -> bytes:
    file = io.BytesIO()
    mroi.pack(array, file, **options)
    return file.getvalue()


def boxes(shape, factor):
    """Index of each voxel of the overview, and the slices of the box that it stands for."""
    counts = [-(-n // f) for n, f in zip(shape, factor, strict=True)]
    for index in np.ndindex(*counts):
        yield index, tuple(slice(i * f, (i + 1) * f) for i, f in zip(index, factor, strict=True))


@given(volumes(), st.tuples(*[st.sampled_from(FACTORS)] * 3), st.integers(0, 2))
def test_means_are_those_of_the_specification(array, factor, slice_axis):
    data = packed(array, overview=factor, slice_axis=slice_axis, roi="full", codec="zstd")
    overview = mroi.open(data).overview
    assert overview is not None
    assert (overview.factor, overview.array.dtype) == (factor, array.dtype)
    first = array if array.ndim == 3 else array[..., 0]
    if overview.method == "nearest":  # few voxels may look like labels
        return
    for index, box in boxes(first.shape, factor):
        values = first[box].ravel().tolist()
        if array.dtype.kind == "f":
            expected = np.float64(sum(values)) / len(values)
            assert overview.array[index] == pytest.approx(expected, rel=1e-6, abs=1e-3)
        else:
            assert overview.array[index] == (2 * sum(values) + len(values)) // (2 * len(values))
    report = mroi.verify(data)
    assert report.problems == ()


def test_labels_keep_their_values():
    array = np.zeros((40, 32, 20), np.uint16)
    array[5:30, 5:25, 3:17] = 1002
    array[10:20, 10:20, 5:15] = 77
    overview = mroi.open(packed(array, overview=4)).overview
    assert overview.method == "nearest"
    assert set(np.unique(overview.array)) == {0, 77, 1002}
    assert np.array_equal(overview.array, array[2::4, 2::4, 2::4])


def test_the_affine_leads_to_the_centre_of_the_box():
    affine = np.array([[2.0, 0, 0, -30], [0, 0, 3, -40], [0, 2.5, 0, -50], [0, 0, 0, 1]])
    array = np.random.default_rng(1).integers(0, 1000, (8, 8, 8)).astype(np.int16)
    overview = mroi.open(packed(array, overview=(2, 4, 8), affine=affine)).overview
    assert overview.method == "mean"
    centre = affine @ [(2 * 1 + 2 * 1 + 1) / 2, (4 * 1 + 4 * 1 + 3) / 2, 3.5, 1]
    assert np.allclose(overview.affine @ [1, 1, 0, 1], centre)


def test_values_are_in_real_units():
    array = np.full((4, 4, 4), 10, np.int16)
    array[0, 0, 0] = 12
    writer_file = io.BytesIO()
    from mroi.packing.write import plan_pack, write_plan
    from mroi.volume.source import ArraySource

    source = ArraySource(array, slope=0.5, inter=-1.0)
    write_plan(source, writer_file, plan_pack(source, overview=4, roi="full"))
    volume = mroi.open(writer_file.getvalue())
    assert volume.overview.array.tolist() == [[[4.0]]]
    assert volume.unscaled.overview.array.tolist() == [[[10]]]


def test_what_was_dropped_does_not_shine_through():
    array = np.random.default_rng(3).integers(1000, 1200, (8, 8, 8)).astype(np.int16)
    roi = mroi.Box((2, 2, 2), (6, 6, 6))
    data = packed(array, overview=4, roi=roi, background="drop")
    kept = np.zeros_like(array)
    kept[roi.slices] = array[roi.slices]
    overview = mroi.open(data).overview
    assert overview.method == "mean"
    for index, box in boxes(array.shape, (4, 4, 4)):
        assert overview.array[index] == (2 * int(kept[box].sum()) + 64) // 128
    report = mroi.verify(data)
    assert report.problems == ()


def test_a_file_without_one_has_none():
    assert mroi.open(packed(np.zeros((4, 4, 4), np.uint8))).overview is None


def test_files_for_viewers_have_one_by_default():
    array = np.random.default_rng(5).integers(0, 900, (9, 9, 9)).astype(np.int16)
    assert mroi.open(packed(array, purpose="planes")).overview.factor == (4, 4, 4)
    assert mroi.open(packed(array, purpose="planes", overview=0)).overview is None
    assert mroi.open(packed(array, purpose="archive")).overview is None


@pytest.mark.parametrize(
    ("text", "factor"), [("0", 0), ("4", (4, 4, 4)), ("1", (1, 1, 1)), ("4x8x1", (4, 8, 1))]
)
def test_texts_that_name_factors(text, factor):
    assert parse_factor(text) == factor


@pytest.mark.parametrize("text", ["", "3", "x", "4x4", "4x4x0", "4x4x4x4", "-4", "4.0", "32"])
def test_what_names_no_factor_is_refused(text):
    with pytest.raises(mroi.UsageError, match="each 1, 2, 4, 8 or 16; 0 for none"):
        parse_factor(text)


def test_a_factor_may_be_an_integer_of_numpy():
    array = np.zeros((8, 8, 8), np.uint8)
    assert mroi.open(packed(array, overview=np.int64(4))).overview.factor == (4, 4, 4)


@pytest.mark.parametrize("factor", [3, 32, (2, 2), (2, 4, 5), 2.5, "4"])
def test_an_odd_factor_is_refused(factor):
    with pytest.raises(mroi.UsageError, match="factor"):
        packed(np.zeros((4, 4, 4), np.uint8), overview=factor)


class Counting(MemorySource):
    """Counts reads, as a remote source that costs a round trip each."""

    is_remote = True

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reads: list[tuple[int, int]] = []

    def read(self, offset: int, size: int) -> bytes:
        self.reads.append((offset, size))
        return super().read(offset, size)


def test_one_request_brings_a_small_overview_and_others_are_stepped_over():
    rng = np.random.default_rng(0)
    array = rng.integers(0, 4000, (96, 96, 48)).astype(np.int16)
    source = Counting(packed(array, overview=8))
    volume = mroi.open(source)
    assert volume.overview.array.shape == (12, 12, 6)
    assert len(source.reads) == 1
    source = Counting(packed(array, overview=2))
    volume = mroi.open(source)
    assert np.array_equal(volume.slice(20), array[:, :, 20])
    assert len(source.reads) == 2
    assert sum(size for _, size in source.reads) < len(packed(array)) // 2


def test_every_changed_byte_of_an_overview_is_found():
    array = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)
    data = bytearray(packed(array, overview=2, codec="zstd"))
    reader = ContainerReader(MemorySource(bytes(data)))
    start, stop = reader.head.prefix.head_size, reader.index.first
    assert stop > start
    for at in range(start, stop):
        data[at] ^= 16
        with pytest.raises(mroi.MroiError):
            _ = mroi.open(bytes(data)).overview
        report = mroi.verify(bytes(data))
        assert report.problems
        assert np.array_equal(mroi.open(bytes(data)).unscaled, array)  # the voxels are whole
        data[at] ^= 16


def test_slices_of_different_scale_have_no_overview():
    source_file = io.BytesIO()
    from mroi.packing.write import plan_pack
    from mroi.volume.source import ArraySource

    source = ArraySource(np.zeros((4, 4, 4), np.int16))
    source.rescale = np.ones((4, 2)).astype("<f8").tobytes()
    with pytest.raises(mroi.SourceError, match="differ in scale"):
        plan_pack(source, overview=2)
    assert not source_file.getvalue()
