"""Other ways to say the ROI: tight boxes, masks, written boxes, margins."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mroi.errors import SourceError, UsageError
from mroi.geometry.box import Box
from mroi.roi.boxes import (
    Margin,
    TightBox,
    check_same_grid,
    mask_box,
    parse_box,
    parse_margin,
    split_label,
    tight_box,
)

SIDES = hnp.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=4)
DTYPES = st.sampled_from(["u1", "<i2", ">i2", "<f4", "<f8", "<c16", "V3", "V16"])


def smallest_by_trying(volume):
    """Count of voxels of the smallest box with one constant outside, of all boxes there are."""
    shape = volume.shape[:3]
    elements = np.ascontiguousarray(volume).view("u1").reshape(*volume.shape, -1)
    best = math.prod(shape)
    ranges = [list(itertools.combinations(range(n + 1), 2)) for n in shape]
    for bounds in itertools.product(*ranges):
        count = math.prod(hi - lo for lo, hi in bounds)
        if count >= best:
            continue
        outside = np.ones(shape, bool)
        outside[tuple(slice(*b) for b in bounds)] = False
        values = elements[outside].reshape(-1, elements.shape[-1])
        if len(np.unique(values, axis=0)) == 1:
            best = count
    return best


def volumes(draw):
    shape = draw(SIDES)
    dtype = np.dtype(draw(DTYPES))
    choice = draw(hnp.arrays("u1", shape, elements=st.integers(0, 2), fill=st.just(0)))
    box = tuple(
        slice(*sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n))))) for n in shape
    )
    if draw(st.booleans()):  # else often nothing would be outside
        kept = choice.copy()
        choice[:] = 1
        choice[box] = kept[box]
    patterns = np.frombuffer(bytes(range(3 * dtype.itemsize)), "u1").reshape(3, -1)
    return patterns[choice].view(dtype)[..., 0]


@settings(deadline=None)
@given(st.composite(volumes)(), st.integers(0, 2))
def test_tight_box_is_exact_and_smallest(volume, slice_axis):
    box, fill = tight_box(volume, slice_axis)
    outside = np.ones(volume.shape, bool)
    outside[box.slices] = False
    assert set(volume[outside].view(f"V{volume.dtype.itemsize}").tolist()) <= {fill}
    assert (fill is None) == (box.shape == volume.shape[:3])
    assert box.count == smallest_by_trying(volume)


@settings(deadline=None)
@given(st.composite(volumes)(), st.randoms(use_true_random=False))
def test_tight_box_does_not_depend_on_the_order_of_planes(volume, random):
    tight = TightBox(volume.shape)
    flat = volume.reshape(*volume.shape[:3], -1)
    planes = list(itertools.product(range(flat.shape[2]), range(flat.shape[3])))
    random.shuffle(planes)
    for z, t in planes:
        tight.update(z, flat[:, :, z, t].T)
    box, _ = tight.result()
    assert box.count == tight_box(volume)[0].count


def test_tight_box_compares_bits():
    volume = np.zeros((4, 4, 4))
    volume[1, 1, 1] = -0.0
    assert tight_box(volume) == (Box((1, 1, 1), (2, 2, 2)), bytes(8))
    volume[:] = np.nan
    volume[2, 1, 3] = 1
    box, fill = tight_box(volume)
    assert (box, fill) == (Box((2, 1, 3), (3, 2, 4)), np.float64(np.nan).tobytes())


def test_constant_volume_keeps_one_voxel():
    assert tight_box(np.full((3, 4, 5), 7, "<i2")) == (Box((0, 0, 0), (1, 1, 1)), b"\7\0")
    assert tight_box(np.full((1, 1, 1), 7, "<i2")) == (Box((0, 0, 0), (1, 1, 1)), None)


def test_colour_planes_with_samples_last():
    tight = TightBox((3, 2, 2))
    plane = np.zeros((2, 3, 3), "u1")
    tight.update(0, plane)
    plane[1, 2, 1] = 9
    tight.update(1, plane)
    assert tight.result() == (Box((2, 1, 1), (3, 2, 2)), bytes(3))


def test_tight_box_wants_every_plane_and_the_right_shape():
    tight = TightBox((3, 2, 2))
    tight.update(0, np.zeros((2, 3)))
    with pytest.raises(UsageError, match="1 of 2"):
        tight.result()
    for index, shape in ((1, (3, 2)), (2, (2, 3)), (-1, (2, 3))):
        with pytest.raises(UsageError, match="the volume has"):
            tight.update(index, np.zeros(shape))


@given(
    hnp.arrays(
        st.sampled_from(["u1", "i2", "f4", "?"]),
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=5),
        elements=st.integers(0, 1),
        fill=st.just(0),
    )
)
def test_mask_box_holds_the_mask_and_no_empty_face(mask):
    if not mask.any():
        with pytest.raises(SourceError, match="empty"):
            mask_box(mask)
        return
    box = mask_box(mask)
    inside = mask[box.slices]
    assert np.count_nonzero(inside) == np.count_nonzero(mask)
    for axis in range(3):
        assert inside.take(0, axis).any()
        assert inside.take(-1, axis).any()
    assert mask_box(mask[..., np.newaxis]) == box


def test_mask_box_of_a_label():
    mask = np.zeros((5, 6, 7), np.int16)
    mask[1, 2, 3] = 4
    mask[2:4, 5, 6] = 9
    assert mask_box(mask, 9) == Box((2, 5, 6), (4, 6, 7))
    assert mask_box(mask) == Box((1, 2, 3), (4, 6, 7))
    with pytest.raises(SourceError, match="no voxel of label 5; it has 4, 9"):
        mask_box(mask, 5)


def test_mask_that_is_no_mask():
    holes = np.full((3, 3, 3), np.nan)
    holes[1, 1, 1] = 1
    assert mask_box(holes) == Box((1, 1, 1), (2, 2, 2))
    for bad in (np.ones((3, 3, 3, 2)), np.ones((3, 3)), np.ones((3, 3, 3), "c8")):
        with pytest.raises(SourceError, match="volume of numbers"):
            mask_box(bad)


def test_masks_on_another_grid_are_refused():
    affine = np.array([[0, -2.0, 0.1, 30], [1, 0, 0, -20], [0, 0, 3, 7], [0, 0, 0, 1]])
    shape = (20, 30, 40)
    check_same_grid(shape, affine.astype(np.float32).astype(np.float64), shape, affine)
    check_same_grid((*shape, 1), affine, (*shape, 5), affine)
    with pytest.raises(SourceError, match="shape"):
        check_same_grid((20, 30, 41), affine, shape, affine)
    for row, column, change in ((0, 3, 0.02), (1, 0, 0.001), (2, 2, -6)):
        other = affine.copy()
        other[row, column] += change
        with pytest.raises(SourceError, match="different grids"):
            check_same_grid(shape, other, shape, affine)
    with pytest.raises(SourceError, match="different grids"):
        check_same_grid(shape, np.full((4, 4), np.nan), shape, affine)


@given(st.data(), hnp.array_shapes(min_dims=3, max_dims=3, max_side=9))
def test_written_boxes_are_read_back(data, shape):
    bounds = [
        data.draw(st.tuples(st.integers(0, n - 1), st.integers(1, n)).filter(lambda b: b[0] < b[1]))
        for n in shape
    ]
    box = Box(tuple(b[0] for b in bounds), tuple(b[1] for b in bounds))
    assert parse_box(str(box), shape) == box
    assert parse_box(" " + str(box).replace(",", " , ") + " ", shape) == box


@pytest.mark.parametrize(
    "text",
    ["", "1:2", "1:2,3:4", "1:2,3:4,5:6,7:8", "a:2,3:4,5:6", "-1:2,:,:", "1-2,:,:", "1:2:1,:,:",
     "3:3,:,:", "4:3,:,:", ":,:,:11", "10:,:,:", "9" * 30 + ":,:,:", "٣:5,:,:"],
)  # fmt: skip
def test_bad_boxes_are_refused(text):
    with pytest.raises(SourceError, match="box"):
        parse_box(text, (10, 10, 10))


def test_margins():
    for text in ("3", " 3vox ", "3 voxels"):
        assert parse_margin(text) == Margin(3, in_mm=False)
    for text in ("2.5mm", "2.5 mm"):
        assert parse_margin(text) == Margin(2.5, in_mm=True)
    assert parse_margin("3").voxels((0.5, 1, 9)) == (3, 3, 3)
    assert parse_margin("2.5mm").voxels((0.5, 1, 3)) == (5, 3, 1)
    assert parse_margin("5mm").voxels((0.99999999, 1, 1.00000001)) == (5, 5, 5)
    for text in ("", "-1", "2.5", "2.5vox", "1cm", "mm", "1e3", "nan"):
        with pytest.raises(SourceError, match="margin"):
            parse_margin(text)


def test_labels_after_a_file_name():
    assert split_label("seg.nii:12") == ("seg.nii", 12)
    assert split_label("D:\\seg.nii") == ("D:\\seg.nii", None)
    assert split_label("seg:left") == ("seg:left", None)
