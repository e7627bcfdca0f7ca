"""Padded planes: slices in a ring, with margins, so that no neighbour is ever missing.

A plane of H x W voxels lies in one flat array with a margin of 5 rows above and below and 8 columns
on either side, row after row. Every tap of every predictor reaches at most 5 rows up, 4 down and
5 columns to a side, so no index leaves the array; what is read for whole tiles of 8 columns lies
within it, too. Margins hold, as far as taps reach, what ``spec/codecs/calv.md`` says: left of a row
the value above its first voxel, right of it its last voxel, below the plane its last row, above it
0.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np

from mroi.codecs.compiled import inlined, step

__all__ = [
    "close_plane",
    "close_row",
    "load",
    "open_row",
    "plane_size",
    "put_symbol",
    "roll",
    "row_start",
    "stride",
    "sum_errors",
    "tap_offsets",
]

_ROWS = 5  # of the margin above, and below
_COLUMNS = 8  # of the margin on either side
_REACH = 5  # of them that taps reach


@step
def stride(columns):
    """Return the distance of two rows."""
    return columns + 2 * _COLUMNS


@step
def plane_size(rows, columns):
    """Return the number of elements of a plane with its margins."""
    return (rows + 2 * _ROWS) * stride(columns)


@step
def row_start(start, y, columns):
    """Return the place of the first voxel of a row of the plane at `start`."""
    return start + (y + _ROWS) * stride(columns) + _COLUMNS


@step
def open_row(plane, row, columns):
    """Fill the margin left of a row that begins at `row`: with the value above its first voxel."""
    above = plane[row - stride(columns)]
    for i in range(1, _REACH + 1):
        plane[row - i] = above


@step
def close_row(plane, row, columns):
    """Fill the margin right of a finished row: with its last value."""
    last = plane[row + columns - 1]
    for i in range(_REACH):
        plane[row + columns + i] = last


@step
def close_plane(plane, start, rows, columns):
    """Fill the margin below a finished plane: with its last row."""
    width = stride(columns)
    last = start + (rows + _ROWS - 1) * width
    for i in range(1, _ROWS + 1):
        for x in range(width):
            plane[last + i * width + x] = plane[last + x]


@step
def roll(plane, rows, columns):
    """Begin again with the first of so many rows: the last ones become those above it."""
    width = stride(columns)
    for i in range(_ROWS * width):
        plane[i] = plane[rows * width + i]


@step
def load(volume, s, planes, start):
    """Copy slice `s` of a volume to the plane at `start`."""
    rows, columns = volume.shape[1:]
    for y in range(rows):
        row = row_start(start, y, columns)
        open_row(planes, row, columns)
        for x in range(columns):
            planes[row + x] = volume[s, y, x]
        close_row(planes, row, columns)
    close_plane(planes, start, rows, columns)


@step
def tap_offsets(taps, count, s, size, width, offsets):
    """Turn the taps of slice `s` into distances in a ring of four planes."""
    for i in range(count):
        there = (s - taps[i, 0]) & 3
        offsets[i] = (there - (s & 3)) * size - taps[i, 1] * width - taps[i, 2]


@inlined
def put_symbol(symbols, at, value):
    """Store a symbol in the sample at `at`."""
    if symbols.are_pairs:
        symbols.pairs[at] = value
    else:
        symbols.bytes_[at] = value


@step
def sum_errors(noise, p, up, width, first, sums):
    """Sum, for each voxel of a row, the errors made in the rows above and in the slice before.

    `p` is the first voxel of the row in `noise`, `up` and `width` lead to the slice before and from
    row to row, all unsigned. Each loop writes one array, or LLVM would not make vectors of it.
    """
    n = p - width
    m = n - width
    one = np.uint64(1)
    count = np.uint64(sums.size)
    for x in range(count):
        sums[x] = noise[n + x - one] + 2 * noise[n + x] + noise[n + x + one] + noise[m + x]
    if first:
        for x in range(count):
            sums[x] *= 2
        return
    u = p + up
    a = u - width
    b = u + width
    for x in range(count):
        sums[x] += (
            noise[a + x] + noise[b + x] + noise[u + x - one] + 2 * noise[u + x] + noise[u + x + one]
        )
