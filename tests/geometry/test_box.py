"""Boxes are sets of voxels: every operation does what it does to the sets."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mroi.geometry import Box, in_plane_axes

SIDES = st.tuples(*[st.integers(1, 5)] * 3)


@st.composite
def boxes(draw: st.DrawFn, within: int = 6) -> Box:
    start = draw(st.tuples(*[st.integers(0, within - 1)] * 3))
    stop = tuple(draw(st.integers(a + 1, within)) for a in start)
    return Box(start, stop)


def voxels(box: Box | None) -> set[tuple[int, ...]]:
    if box is None:
        return set()
    ranges = (range(a, b) for a, b in zip(box.start, box.stop, strict=True))
    return set(itertools.product(*ranges))


@given(boxes())
def test_shape_count_and_slices_are_those_of_the_voxels(box):
    assert box.count == len(voxels(box))
    assert box.shape == tuple(len({v[a] for v in voxels(box)}) for a in range(3))
    grid = [[*range(6)][part] for part in box.slices]
    assert set(itertools.product(*grid)) == voxels(box)


@given(boxes(), boxes())
def test_two_boxes_are_two_sets(a, b):
    assert voxels(a.find_overlap(b)) == voxels(a) & voxels(b)
    assert a.contains(b) == (voxels(a) >= voxels(b))
    both = a.union(b)
    assert voxels(both) >= voxels(a) | voxels(b)
    for axis in range(3):  # and no smaller box does
        assert {v[axis] for v in voxels(a) | voxels(b)} >= {
            both.start[axis],
            both.stop[axis] - 1,
        }


@given(boxes(), st.tuples(*[st.integers(0, 3)] * 3))
def test_margins_end_at_the_border_and_offsets_move(box, margin):
    wide = box.padded(margin, (6, 6, 6))
    expected = {
        v
        for v in itertools.product(range(6), repeat=3)
        if any(
            all(abs(a - b) <= m for a, b, m in zip(v, w, margin, strict=True)) for w in voxels(box)
        )
    }
    assert voxels(wide) == expected
    moved = box.shifted(margin)
    assert moved.shape == box.shape
    assert moved.shifted([-m for m in margin]) == box


@pytest.mark.parametrize(
    ("start", "stop"),
    [((0, 0, 0), (0, 1, 1)), ((2, 0, 0), (1, 1, 1)), ((-1, 0, 0), (1, 1, 1))],
)
def test_empty_and_negative_boxes_do_not_exist(start, stop):
    with pytest.raises(ValueError, match="is empty or has negative indices"):
        Box(start, stop)


def test_boxes_are_written_as_they_are_read():
    assert str(Box((1, 2, 3), (4, 5, 6))) == "1:4,2:5,3:6"
    assert Box.whole((7, 8, 9, 2)) == Box((0, 0, 0), (7, 8, 9))


def test_in_plane_axes_are_the_others_in_order():
    assert [in_plane_axes(axis) for axis in range(3)] == [(1, 2), (0, 2), (0, 1)]
