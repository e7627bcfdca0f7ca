"""The chunks of a grid share out the voxels: each belongs to exactly one, in the stated order."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mroi.geometry import Box, ChunkGrid


@st.composite
def grids(draw: st.DrawFn) -> ChunkGrid:
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    outer = draw(st.lists(st.integers(1, 3), max_size=2).map(tuple))
    start = tuple(draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    roi = Box(start, stop)
    chunk = tuple(draw(st.integers(1, n)) for n in (*roi.shape, (*outer, 1)[0]))
    background = draw(st.booleans()) and roi != Box.whole(shape)
    return ChunkGrid(shape + outer, roi, chunk, draw(st.integers(0, 2)), background)


@st.composite
def boxes_in(draw: st.DrawFn, grid: ChunkGrid) -> Box:
    start = tuple(draw(st.integers(0, n - 1)) for n in grid.shape[:3])
    stop = tuple(draw(st.integers(a + 1, n)) for a, n in zip(start, grid.shape[:3], strict=True))
    return Box(start, stop)


def owners(grid: ChunkGrid) -> np.ndarray:
    """The ordinal of the chunk that holds each voxel (x, y, z, volume), -1 for none."""
    owner = np.full((*grid.shape[:3], grid.volumes), -1)
    for ordinal in range(grid.roi_chunks):
        chunk = grid.chunk(ordinal)
        part = owner[(*chunk.box.slices, list(chunk.volumes))]
        assert (part == -1).all(), "two chunks hold one voxel"
        owner[(*chunk.box.slices, list(chunk.volumes))] = ordinal
    for ordinal in range(grid.roi_chunks, grid.chunks):
        box = grid.background_box(ordinal)
        for outside in grid.outside_boxes(box):
            where = (*outside.slices, list(grid.background_volumes(ordinal)))
            assert (owner[where] == -1).all(), "two chunks hold one voxel"
            owner[where] = ordinal
    return owner


@given(grids())
def test_every_voxel_has_one_chunk(grid):
    owner = owners(grid)
    inside = np.zeros(grid.shape[:3], bool)
    inside[grid.roi.slices] = True
    assert (owner[inside] >= 0).all()
    assert (owner[inside] < grid.roi_chunks).all()
    outside = owner[~inside]
    assert (outside >= grid.roi_chunks).all() if grid.background else (outside == -1).all()
    assert grid.chunks == grid.roi_chunks + grid.background_chunks
    sizes = np.bincount(owner[owner >= 0], minlength=grid.chunks)
    assert sizes.tolist() == [grid.voxels(i) for i in range(grid.chunks)]


@given(grids())
def test_ordinals_follow_the_formula(grid):
    """`((g * n_slice + s) * n_slow + w) * n_fast + f`, from the specification."""
    axes = grid.axes
    assert axes[0] == grid.slice_axis
    assert axes[1] > axes[2]
    numbers = [math.ceil(grid.roi.shape[a] / grid.chunk_shape[a]) for a in axes]
    for ordinal in range(grid.roi_chunks):
        chunk = grid.chunk(ordinal)
        s, w, f = ((chunk.box.start[a] - grid.roi.start[a]) // grid.chunk_shape[a] for a in axes)
        series = grid.shape[3] if len(grid.shape) > 3 else 1
        outer, t = divmod(chunk.volumes.start, series)
        g = outer * math.ceil(series / grid.span) + t // grid.span
        expected = ((g * numbers[0] + s) * numbers[1] + w) * numbers[2] + f
        assert t % grid.span == 0
        assert len(chunk.volumes) == min(grid.span, series - t)
        assert chunk.ordinal == ordinal == expected
        assert grid.roi.contains(chunk.box)


@given(grids(), st.data())
def test_chunks_are_found_by_the_voxels_they_hold(grid, data):
    owner = owners(grid)
    box = data.draw(boxes_in(grid))
    volume = data.draw(st.integers(0, grid.volumes - 1))
    group = grid.group_of(volume)
    volumes = list(grid.group_volumes(group))
    assert volume in volumes
    wanted = set(np.unique(owner[(*box.slices, volumes)])) - {-1}
    chunks = [c.ordinal for c in grid.find_chunks(box, group)]
    behind = list(grid.find_background(box, group))
    assert chunks == sorted(chunks)
    assert set(chunks) == {i for i in wanted if i < grid.roi_chunks}
    assert behind == sorted(behind)
    # Background chunks are found by slab: more than hold a voxel of the box, never fewer.
    assert set(behind) >= {i for i in wanted if i >= grid.roi_chunks}
    assert all(grid.voxels(i) for i in behind)


@given(grids())
def test_scan_order_is_slice_slow_fast(grid):
    box = grid.chunk(grid.roi_chunks - 1).box
    assert grid.scan_shape(box) == tuple(box.shape[a] for a in grid.axes)
    slabs = [grid.background_box(i) for i in range(grid.roi_chunks, grid.chunks)]
    for slab in slabs:
        others = [a for a in range(3) if a != grid.slice_axis]
        assert all(slab.shape[a] == grid.shape[a] for a in others)
        assert slab.start[grid.slice_axis] % grid.slab == 0
