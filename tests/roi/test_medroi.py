"""MedROI's ROI: equal to the oracle voxel for voxel, whatever the array looks like in memory."""

from __future__ import annotations

import medroi_oracle as oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from mroi.errors import SourceError
from mroi.roi import medroi
from mroi.roi.medroi import find_image_roi, find_volume_roi

SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7)
INTEGERS = st.sampled_from(["u1", "i1", "<u2", "<i2", ">i2", "<i4", ">u4", "<i8"])
FLOATS = st.sampled_from(["<f2", "<f4", ">f4", "<f8"])


def inclusive(start, stop):
    return list(start), [n - 1 for n in stop]


def as_oracle(roi):
    """The three things the oracle says of a volume."""
    return (
        roi.box and inclusive(roi.box.start, roi.box.stop),
        roi.threshold,
        [
            (s.threshold, s.rect and inclusive(s.rect.start, s.rect.stop), s.miss_rate)
            for s in roi.slices
        ],
    )


def head(rng, shape, dtype):
    """A bright ellipsoid in noise: boxes smaller than the volume, some slices that miss."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1.4, 1.4, n) for n in shape], indexing="ij"))
    radius = np.sqrt((grid**2).sum(axis=0))
    bright = (radius < 1) * (600 + 300 * np.cos(9 * radius))
    noise = np.abs(rng.normal(0, 30, shape))
    specks = (rng.random(shape) < 0.01) * 900
    return (bright + noise + specks).astype(dtype)


@settings(deadline=None)
@given(
    SHAPES.flatmap(
        lambda shape: INTEGERS.flatmap(
            lambda dtype: hnp.arrays(dtype, shape, elements=st.integers(0, 100), fill=st.just(0))
        )
    )
)
def test_volume_of_integers_equals_the_oracle(volume):
    assert as_oracle(find_volume_roi(volume)) == oracle.volume_roi(volume.astype(np.float64))


@settings(deadline=None)
@given(
    SHAPES.flatmap(
        lambda shape: FLOATS.flatmap(
            lambda dtype: hnp.arrays(dtype, shape, elements=st.floats(-4, 60, width=16))
        )
    )
)
def test_volume_of_floats_equals_the_oracle(volume):
    assert as_oracle(find_volume_roi(volume)) == oracle.volume_roi(volume.astype(np.float64))


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["u1", "<i2", ">u2", "<i4", "<f4"]),
    st.sampled_from([(1.0, 0.0), (0.37, 0.0), (1.0, -200.0), (-0.013, 9.0), (2.5, 7.25)]),
    st.sampled_from("CF"),
)
def test_rescaled_heads_equal_the_oracle(seed, dtype, scaling, order):
    slope, inter = scaling
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(5, 18, 3))
    volume = np.asarray(head(rng, shape, dtype), order=order)
    intensity = volume.astype(np.float64)
    if slope != 1:
        intensity = intensity * slope
    if inter != 0:
        intensity = intensity + inter
    assert as_oracle(find_volume_roi(volume, slope, inter)) == oracle.volume_roi(intensity)


def test_boxes_and_misses_are_not_trivial():
    """The phantom does what it is for: boxes smaller than the volume, slices that miss pixels."""
    volume = np.zeros((24, 40, 44), np.int16)
    volume[7:17, 12:25, 15:30] = np.random.default_rng(3).integers(600, 900, (10, 13, 15))
    volume[1:6, 12:25, 15:30] = np.random.default_rng(4).integers(1, 400, (5, 13, 15))
    volume[7:17, 2:5, 2:5] = 650  # bright for the volume, dim for its slices
    roi = find_volume_roi(volume)
    assert as_oracle(roi) == oracle.volume_roi(volume.astype(np.float64))
    assert 0 < roi.box.count < volume.size
    assert {s.rect is None for s in roi.slices} == {False, True}
    assert any(s.miss_rate > medroi.MISS_LIMIT for s in roi.slices)


def test_slabs_do_not_show(monkeypatch):
    volume = head(np.random.default_rng(5), (20, 19, 23), "i2")
    whole = find_volume_roi(volume)
    for size in (1, 400, 1000):
        monkeypatch.setattr(medroi, "SLAB_VOXELS", size)
        assert find_volume_roi(volume) == whole
        assert find_volume_roi(volume.astype("f8")) == whole


def test_slabs_do_not_show_in_the_reference(monkeypatch):
    levels = np.random.default_rng(6).integers(0, 3, (13, 9, 8)).astype(np.uint8)
    expected = [
        int(oracle.erode(oracle.dilate(levels[:, :, x] >= 2), outside=True).sum()) for x in range(8)
    ]
    for size in (1, 150, 300, 10_000):
        monkeypatch.setattr(medroi, "SLAB_VOXELS", size)
        assert medroi._count_missed(levels, 2, [[None] * 8]) == (expected, [expected])


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("end", [slice(None, 2), slice(-2, None)])
@pytest.mark.parametrize("size", [1, 2**22])
def test_outside_is_dark_at_every_face(monkeypatch, axis, end, size):
    """Two bright slices at a face do not survive the opening, a third one makes a box."""
    monkeypatch.setattr(medroi, "SLAB_VOXELS", size)
    levels = np.zeros((9, 10, 11), np.uint8)
    np.moveaxis(levels, axis, 0)[end] = 200
    assert medroi._opened_box(levels.T, 100) is None
    levels = np.maximum(levels, np.roll(levels, 1 if end.stop else -1, axis))
    assert ndimage.binary_opening(levels > 0).any()
    assert medroi._opened_box(levels.T, 100) is not None


def test_box_is_that_of_the_opening_by_scipy():
    rng = np.random.default_rng(11)
    for _ in range(20):
        levels = (rng.random((9, 8, 10)) < 0.8) * np.uint8(200)
        opened = ndimage.binary_opening(levels > 100)
        box = medroi._opened_box(levels.T, 101)
        if not opened.any():
            assert box is None
            continue
        low, high = oracle.widen(oracle.bounds(opened), 3, levels.shape)
        assert inclusive(box.start, box.stop) == (low, high)


@settings(deadline=None)
@given(
    hnp.arrays("f8", st.integers(1, 300), elements=st.floats(0.001, 1e6)),
    st.sampled_from([1, 10, 99]),
    st.sampled_from(["f4", "f8"]),
)
def test_percentiles_are_those_of_numpy(values, percent, dtype):
    values = values.astype(dtype)
    ordered = np.sort(values)
    found = medroi._percentile(lambda rank: ordered[rank], values.size, percent)
    assert found == np.percentile(values, percent)
    assert found.dtype == values.dtype


@settings(deadline=None)
@given(
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=24).flatmap(
        lambda shape: st.sampled_from(["u1", "<u2", ">u2", "<i2", "<f4"]).flatmap(
            lambda dtype: hnp.arrays(dtype, shape, elements=st.integers(0, 90), fill=st.just(0))
        )
    ),
    st.sampled_from([(1.0, 0.0), (0.37, 0.0), (1.0, -20.0), (-0.5, 30.0)]),
)
def test_image_equals_the_oracle(image, scaling):
    slope, inter = (np.float32(value) for value in scaling)
    expected = oracle.image_roi(image.astype(np.float32) * slope + inter)
    found = find_image_roi(image, *scaling)
    if expected is None:
        assert found is None
    else:
        rect = inclusive(found.rect.start, found.rect.stop)
        assert (rect, found.threshold, found.first_miss_rate, found.miss_rate) == expected


def test_image_with_a_bright_spot_far_off_is_widened():
    rng = np.random.default_rng(2)
    image = np.zeros((60, 80), np.uint16)
    image[20:50, 10:40] = rng.integers(500, 4000, (30, 30))
    image[5:15, 45:55] = rng.integers(1, 60, (10, 10))  # faint: in the reference, not in the box
    found = find_image_roi(image)
    expected = oracle.image_roi(image.astype(np.float32))
    rect = inclusive(found.rect.start, found.rect.stop)
    assert (rect, found.threshold, found.first_miss_rate, found.miss_rate) == expected
    assert found.first_miss_rate > found.miss_rate
    assert found.first_miss_rate > medroi.MISS_LIMIT


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("value", [0, 7])
def test_constant_volume_has_no_roi(dtype, value):
    volume = np.full((6, 7, 8), value, dtype)
    roi = find_volume_roi(volume)
    assert (roi.box, roi.threshold, roi.slices) == (None, 0.0, ())
    assert find_image_roi(volume[0]) is None


@pytest.mark.parametrize("dtype", ["i2", "f4"])
def test_one_bright_voxel_or_none_has_no_roi(dtype):
    volume = np.zeros((9, 9, 9), dtype)
    volume[4, 5, 6] = 100
    assert find_volume_roi(volume).box is None
    assert find_volume_roi(-volume - 1).box is None
    assert find_image_roi(volume[4]) is None
    assert find_image_roi(-volume[4] - 1) is None


def test_isolated_voxels_leave_slices_but_no_box():
    volume = np.zeros((9, 9, 9), np.int16)
    volume[::4, ::4, ::4] = np.arange(1, 28).reshape(3, 3, 3)
    roi = find_volume_roi(volume)
    assert roi.box is None
    assert len(roi.slices) == 9
    assert as_oracle(roi) == oracle.volume_roi(volume.astype(np.float64))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_values_that_are_not_finite(dtype):
    volume = head(np.random.default_rng(1), (12, 13, 14), dtype)
    clean = find_volume_roi(volume)
    volume[0, :3, 0] = np.nan, -np.inf, np.nan
    zeros = volume.copy()
    zeros[0, :3, 0] = 0
    assert find_volume_roi(volume) == find_volume_roi(zeros)
    volume[6, 6, 6] = np.inf  # brighter than the rest, like any other bright voxel
    assert find_volume_roi(volume).box == clean.box
    assert find_image_roi(volume[:, :, 0]) == find_image_roi(zeros[:, :, 0])
    volume[volume > np.percentile(zeros, 70)] = np.inf
    for find, array in ((find_volume_roi, volume), (find_image_roi, volume[6])):
        with pytest.raises(SourceError, match="infinite"):
            find(array)


@pytest.mark.parametrize(
    ("array", "scaling"),
    [
        (np.zeros((3, 3, 3), "c8"), (1, 0)),
        (np.zeros((3, 3, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")]), (1, 0)),
        (np.zeros((3, 3, 3, 2), "u1"), (1, 0)),
        (np.zeros((0, 3, 3), "u1"), (1, 0)),
        (np.zeros((3, 3, 3), "u1"), (np.nan, 0)),
        (np.zeros((3, 3, 3), "u1"), (1, np.inf)),
    ],
)
def test_what_is_not_a_volume_is_refused(array, scaling):
    with pytest.raises(SourceError):
        find_volume_roi(array, *scaling)


def test_image_with_colours_is_refused():
    with pytest.raises(SourceError):
        find_image_roi(np.zeros((4, 4, 3), "u1"))


def test_the_input_is_left_alone():
    volume = head(np.random.default_rng(8), (8, 9, 10), "f4")
    before = volume.copy()
    find_volume_roi(volume)
    find_image_roi(volume[3])
    assert np.array_equal(volume, before)
