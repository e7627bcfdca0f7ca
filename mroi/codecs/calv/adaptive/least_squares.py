"""*Least squares*: what a decoder can fit by itself, tile by tile, from voxels it has.

A slice is cut into tiles, 8 columns wide. The products of the differences around each voxel,
weighted by how quiet its surroundings are, are summed over each tile; a tile's weights solve the
normal equations of the tiles above it and of those at the same place in the slices before. All of
it is arithmetic of integers, so every decoder finds the same weights.

The sums of a tile are the lower triangle of a symmetric matrix, row after row; its last row belongs
to the error that is to be explained. Arrays have the tiles of a row of tiles last, and loops over
them innermost: compilers turn those into vector instructions.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: PLR0917  # and take everything by position

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.calv.adaptive.tables import GAIN
from mroi.codecs.compiled import inlined, part, step

__all__ = ["Room", "Tiles", "add_sums", "fade", "learn", "new_room", "new_tiles", "solve"]

_ONE = 1 << 30  # 1.0 of the factors of a matrix
_LEAST = 1 << 42  # square of the least diagonal of a factor


class Tiles(NamedTuple):
    """What a correction remembers of its tiles: sums of products, each (..., elements, tiles).

    Attributes
    ----------
    latest : (2, ...) int32
        S of the two last rows of tiles, the even and the odd ones.
    far : int32
        F, of the tiles further up.
    past : (bands, ...) int32
        P, of the slices before.
    nothing : int32
        What counts as P in the first slices: 0.
    """

    latest: NDArray[np.int32]
    far: NDArray[np.int32]
    past: NDArray[np.int32]
    nothing: NDArray[np.int32]


class Room(NamedTuple):
    """Room to work in, for the correction with the most taps; matrices have one more row.

    Attributes
    ----------
    matrices : (elements, tiles) int64
        B.
    lines : (taps + 1, tiles) int64
    factor : (taps + 1, taps + 1, tiles) int32
        C, column by column, in 1/2^30.
    inverses, solution : (taps, tiles) int64, int32
        I, in 1/2^60, and x.
    shares : (8 tiles,) int32
        Of a row of voxels; 0 beyond the slice.
    samples : (tiles, quarters of a tile's rows, taps + 2, 32 voxels) int16
    """

    matrices: NDArray[np.int64]
    lines: NDArray[np.int64]
    factor: NDArray[np.int32]
    inverses: NDArray[np.int64]
    solution: NDArray[np.int32]
    shares: NDArray[np.int32]
    samples: NDArray[np.int16]


def new_tiles(taps: int, columns: int, bands: int) -> Tiles:
    """Return the memory of a correction with so many taps."""
    shape = (_triangle(taps + 1), _padded(columns))
    sizes = ((2, *shape), shape, (bands, *shape), shape)
    return Tiles(*(np.zeros(size, np.int32) for size in sizes))


@part
def new_room(taps, columns):
    """Return room for so many taps."""
    size = taps + 1
    tiles = (columns + 7) // 8
    lanes = _lanes(columns)
    return Room(
        np.zeros((triangle(size), lanes), np.int64),
        np.zeros((size, lanes), np.int64),
        np.zeros((size, size, lanes), np.int32),
        np.zeros((size, lanes), np.int64),
        np.zeros((size, lanes), np.int32),
        np.zeros(8 * tiles, np.int32),
        np.zeros((tiles, 4, size + 1, 32), np.int16),
    )


def _triangle(size):
    return size * (size + 1) // 2


def _padded(columns):
    """Return how many tiles there is room for: eights, as vector instructions like them."""
    return (columns + 63) // 64 * 8


triangle = inlined(_triangle)
"""How many elements a lower triangle of so many rows has."""

_lanes = inlined(_padded)


@step
def learn(planes, first, stride, offsets, errors, levels, skip, columns, limit, room, sums):
    """Sum the products over each tile of a row of tiles.

    `first` is the first voxel of the row of tiles in `planes`; the first `skip` of its rows are
    left out. Of `errors` and `levels`, (rows, 8 tiles), `columns` are of the slice. No weighted
    difference is greater than `limit` / 256, so that sums fit 32 bits.
    """
    rows = errors.shape[0]
    quarters = (rows + 3) >> 2
    room.samples[:, :quarters] = 0
    for y in range(skip, rows):
        p = first + y * stride
        _weigh(planes, p, stride, offsets, errors[y], levels[y], columns, limit, room.shares)
        _sample(planes, p, stride, offsets, errors[y], y, columns, room)
    for t in range(room.samples.shape[0]):
        _multiply(room.samples[t], offsets.size, quarters, sums, t)


@step
def _weigh(planes, p, stride, offsets, errors, levels, columns, limit, shares):
    """Find the weight g of each voxel of a row that begins at `p`."""
    north = planes[p - stride : p - stride + columns]
    for x in range(columns):
        shares[x] = abs(errors[x]) >> 8
    for i in range(offsets.size):
        there = planes[p + offsets[i] : p + offsets[i] + columns]
        for x in range(columns):
            shares[x] = max(shares[x], abs(np.int32(there[x] - north[x])))
    for x in range(columns):
        gain = GAIN[levels[x]]
        if np.int64(gain) * (shares[x] + 1) > limit:
            gain = np.int32(limit // (shares[x] + 1))
        shares[x] = gain


@step
def _sample(planes, p, stride, offsets, errors, y, columns, room):
    """Store the weighted differences a of row `y` of the tiles, which begins at `p`."""
    tiles = room.samples.shape[0]
    samples, shares = room.samples, room.shares
    north = planes[p - stride : p - stride + 8 * tiles]
    quarter = y >> 2
    left = 8 * (y & 3)
    for i in range(offsets.size):
        there = planes[p + offsets[i] : p + offsets[i] + 8 * tiles]
        for t in range(tiles):
            for c in range(8):
                x = 8 * t + c
                samples[t, quarter, i, left + c] = (
                    np.int32(np.int32(there[x] - north[x]) * shares[x]) + 128
                ) >> 8
    for x in range(columns):
        samples[x >> 3, quarter, offsets.size, left + (x & 7)] = (
            np.int64(errors[x]) * shares[x] + 32768
        ) >> 16


@step
def _multiply(samples, count, quarters, sums, tile):
    """Sum the products of one tile: of two rows with two columns at a time, 32 voxels at a time."""
    for i in range(0, count + 1, 2):
        for j in range(0, i + 1, 2):
            d00 = d01 = d10 = d11 = np.int32(0)
            for quarter in range(quarters):
                a0 = samples[quarter, i]
                a1 = samples[quarter, i + 1]
                b0 = samples[quarter, j]
                b1 = samples[quarter, j + 1]
                for v in range(32):
                    d00 = np.int32(d00 + np.int32(np.int32(a0[v]) * np.int32(b0[v])))
                    d01 = np.int32(d01 + np.int32(np.int32(a0[v]) * np.int32(b1[v])))
                    d10 = np.int32(d10 + np.int32(np.int32(a1[v]) * np.int32(b0[v])))
                    d11 = np.int32(d11 + np.int32(np.int32(a1[v]) * np.int32(b1[v])))
            at = triangle(i) + j
            sums[at, tile] = d00
            if j < i:
                sums[at + 1, tile] = d01
            if i < count:
                sums[at + i + 1, tile] = d10
                sums[at + i + 2, tile] = d11


@step
def fade(far, leaving, shift):
    """Let the sums of all rows of tiles above fade, with one more among them."""
    a = far.reshape(-1)
    b = leaving.reshape(-1)
    for i in range(a.size):
        a[i] = (np.int64(a[i]) + b[i]) >> shift


@step
def add_sums(past, latest, fades):
    """Add the sums of a row of tiles to those of the slices before, which fade first."""
    old = past.reshape(-1)
    new = latest.reshape(-1)
    if fades:
        for i in range(old.size):
            old[i] = (5 * np.int64(old[i])) >> 3
    for i in range(old.size):
        old[i] += new[i]


@part
def solve(north, far, past, count, room, weights):
    """Find the weights, (taps, columns), of a row of tiles from the sums around each.

    `north` is S of the tiles above, `far` and `past` are F and P, (elements, tiles).
    """
    _gather(north, far, past, count, room.matrices)
    _scale(room.matrices, count, room.lines)
    _factorise(room.matrices, count, room.lines, room.factor, room.inverses)
    _substitute(room, count)
    for i in range(count):
        weight = weights[i]
        for x in range(weights.shape[1]):
            weight[x] = (room.solution[i, x >> 3] + 8) >> 4


@part
def _gather(north, far, past, count, matrices):
    """Add up Q of each column of tiles and its neighbours."""
    tiles = north.shape[1]
    sides = np.zeros(tiles + 2, np.int64)
    for at in range(triangle(count + 1)):
        for t in range(tiles):
            sides[t + 1] = np.int64(north[at, t]) + np.int64(past[at, t]) + np.int64(far[at, t])
        for t in range(tiles):
            matrices[at, t] = sides[t] + 2 * sides[t + 1] + sides[t + 2]


@step
def _substitute(room, count):
    """Solve the equations from the factors, from the last tap to the first."""
    factor, solution = room.factor, room.solution
    tiles = factor.shape[2]
    rest = room.lines[0]
    for i in range(count - 1, -1, -1):
        last = factor[i, count]
        for t in range(tiles):
            rest[t] = np.int64(last[t]) << 16
        for k in range(i + 1, count):
            for t in range(tiles):
                rest[t] -= np.int64(factor[i, k, t]) * np.int64(solution[k, t])
        root, inverse, result = factor[i, i], room.inverses[i], solution[i]
        for t in range(tiles):
            bound = np.int64(root[t]) << 2
            result[t] = (max(-bound, min(rest[t] >> 16, bound)) * inverse[t]) >> 44


@step
def _scale(packed, count, rows):
    """Add the ridge to the diagonals, and scale each matrix so that its greatest is below 1."""
    tiles = packed.shape[1]
    most = rows[0]
    most[:] = 0
    for i in range(count + 1):
        for t in range(tiles):
            most[t] = max(most[t], packed[triangle(i + 1) - 1, t])
    ridge = rows[1]
    shift = rows[2]
    for t in range(tiles):
        ridge[t] = 40000 + (most[t] >> 17)
        shift[t] = 0
        while (most[t] + ridge[t]) >> shift[t] >= _ONE:
            shift[t] += 1
    for i in range(count + 1):
        diagonal = packed[triangle(i + 1) - 1]
        for t in range(tiles):
            diagonal[t] += ridge[t]
    for at in range(triangle(count + 1)):
        for t in range(tiles):
            packed[at, t] >>= shift[t]


@step
def _root(square):
    """Return the greatest integer whose square is at most `square`, at most 2^60."""
    root = np.int64(math.sqrt(np.float64(square)))
    while root * root > square:
        root -= 1
    while (root + 1) * (root + 1) <= square:
        root += 1
    return root


@step
def _factorise(packed, count, rows, factor, inverses):
    """Find the Cholesky factors: `factor`[k, i] has row i, column k of each, in 1/2^30.

    `inverses` are those of the diagonals, times 2^60.
    """
    tiles = packed.shape[1]
    for j in range(count):
        for i in range(j, count + 1):
            for t in range(tiles):
                rows[i, t] = packed[triangle(i) + j, t] << 30
        _subtract(factor, rows, j, count)
        for t in range(tiles):
            root = _root(max(np.int64(_LEAST), min(rows[j, t], np.int64(1 << 60))))
            factor[j, j, t] = root
            inverses[j, t] = np.uint64(1 << 60) // np.uint64(root)
        for i in range(j + 1, count + 1):
            for t in range(tiles):
                root = np.int64(factor[j, j, t])
                value = max(-root, min(rows[i, t] >> 30, root))
                factor[j, i, t] = (value * inverses[j, t]) >> 30


@inlined
def _subtract(factor, rows, j, count):
    """Subtract the products of the columns before column j, four at a time as far as it goes."""
    tiles = rows.shape[1]
    for k in range(0, j - 3, 4):
        for i in range(j, count + 1):
            for t in range(tiles):
                rows[i, t] -= (
                    np.int64(factor[k, i, t]) * np.int64(factor[k, j, t])
                    + np.int64(factor[k + 1, i, t]) * np.int64(factor[k + 1, j, t])
                    + np.int64(factor[k + 2, i, t]) * np.int64(factor[k + 2, j, t])
                    + np.int64(factor[k + 3, i, t]) * np.int64(factor[k + 3, j, t])
                )
    for k in range(j & ~3, j):
        for i in range(j, count + 1):
            for t in range(tiles):
                rows[i, t] -= np.int64(factor[k, i, t]) * np.int64(factor[k, j, t])
