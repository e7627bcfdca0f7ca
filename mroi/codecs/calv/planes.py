"""Padded planes: three slices in a ring, with margins, so that no neighbour is ever missing.

A plane of H x W voxels lies in one flat array with a margin of 3 rows above, 2 below and 3 columns
on either side, row after row. Every tap of every predictor reaches at most 3 rows up, 2 down and
3 columns to a side, so no index leaves the array. Margins hold what ``spec/codecs/calv.md`` says:
left of a row the value above its first voxel, right of it its last voxel, below the plane its
last row, above it 0.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from mroi.codecs.calv.compiled import kernel

__all__ = ["close_plane", "close_row", "load", "open_row", "plane_size", "stride"]


@kernel
def stride(columns):
    """Return the distance of two rows."""
    return columns + 6


@kernel
def plane_size(rows, columns):
    """Return the number of elements of a plane with its margins."""
    return (rows + 5) * (columns + 6)


@kernel
def open_row(plane, row, columns):
    """Fill the margin left of a row that begins at `row`: with the value above its first voxel."""
    above = plane[row - (columns + 6)]
    plane[row - 1] = above
    plane[row - 2] = above
    plane[row - 3] = above


@kernel
def close_row(plane, row, columns):
    """Fill the margin right of a finished row: with its last value."""
    last = plane[row + columns - 1]
    plane[row + columns] = last
    plane[row + columns + 1] = last
    plane[row + columns + 2] = last


@kernel
def close_plane(plane, start, rows, columns):
    """Fill the margin below a finished plane: with its last row."""
    width = columns + 6
    last = start + (rows + 2) * width
    for x in range(width):
        plane[last + width + x] = plane[last + x]
        plane[last + 2 * width + x] = plane[last + x]


@kernel
def load(volume, s, planes, start):
    """Copy slice `s` of a volume to the plane at `start`."""
    rows, columns = volume.shape[1:]
    for y in range(rows):
        row = start + (y + 3) * (columns + 6) + 3
        open_row(planes, row, columns)
        for x in range(columns):
            planes[row + x] = volume[s, y, x]
        close_row(planes, row, columns)
    close_plane(planes, start, rows, columns)
