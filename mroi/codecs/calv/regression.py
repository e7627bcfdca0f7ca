"""Local least squares: what a decoder can fit by itself, tile by tile, from voxels it has.

A slice is cut into tiles, 8 columns wide. The products of the differences around each voxel,
weighted by how quiet its surroundings are, are summed over each tile; a tile's weights solve the
normal equations of the tiles above it and of those at the same place in the slices before. All of
it is arithmetic of integers, so every decoder finds the same weights. Normative in
``spec/codecs/calv.md``.

The sums of a tile are the lower triangle of a symmetric matrix, row after row; its last row belongs
to the error that is to be explained. Arrays have the tiles of a row of tiles last, and loops over
them innermost: compilers turn those into vector instructions.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: C901, PLR0917

from __future__ import annotations

import math

import numpy as np

from mroi.codecs.calv.compiled import kernel

__all__ = ["add_sums", "learn", "solve", "triangle"]

_ONE = 1 << 30  # 1.0 of the factors of a matrix
_LEAST = 1 << 42  # square of the least diagonal of a factor


@kernel
def triangle(size):
    """Return how many elements a lower triangle of so many rows has."""
    return size * (size + 1) // 2


@kernel
def learn(planes, first, stride, offsets, count, errors, levels, gains, rows, skip, columns, limit,
          shares, samples, sums):  # fmt: skip
    """Sum the products over each tile of a row of tiles.

    `first` is the first voxel of the row of tiles in `planes`, `rows` its height, less than that of
    a tile at the end of a slice; the first `skip` rows are left out. Of `errors` and `levels`,
    (rows, 8 tiles), `columns` are of the slice. No weighted difference is greater than `limit` /
    256, so that sums fit 32 bits. Room to work in: `shares` (8 tiles), 0 beyond the slice, and
    `samples` (tiles, quarters of a tile's rows, taps + 2, 32 voxels).
    """
    tiles = samples.shape[0]
    quarters = (rows + 3) >> 2
    samples[:, :quarters] = 0
    for y in range(skip, rows):
        p = first + y * stride
        north = planes[p - stride : p - stride + 8 * tiles]
        wrong = errors[y]
        level = levels[y]
        for x in range(columns):
            shares[x] = abs(wrong[x]) >> 8
        for i in range(count):
            there = planes[p + offsets[i] : p + offsets[i] + columns]
            for x in range(columns):
                shares[x] = max(shares[x], abs(np.int32(there[x] - north[x])))
        for x in range(columns):
            gain = gains[level[x]]
            if np.int64(gain) * (shares[x] + 1) > limit:
                gain = np.int32(limit // (shares[x] + 1))
            shares[x] = gain
        quarter = y >> 2
        left = 8 * (y & 3)
        for i in range(count):
            there = planes[p + offsets[i] : p + offsets[i] + 8 * tiles]
            for t in range(tiles):
                for c in range(8):
                    x = 8 * t + c
                    samples[t, quarter, i, left + c] = (
                        np.int32(np.int32(there[x] - north[x]) * shares[x]) + 128
                    ) >> 8
        for x in range(columns):
            samples[x >> 3, quarter, count, left + (x & 7)] = (
                np.int64(wrong[x]) * shares[x] + 32768
            ) >> 16
    for t in range(tiles):
        _multiply(samples[t], count, quarters, sums, t)


@kernel
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


@kernel
def add_sums(past, latest, fade):
    """Add the sums of a row of tiles to those of the slices before, which fade first."""
    old = past.reshape(-1)
    new = latest.reshape(-1)
    if fade:
        for i in range(old.size):
            old[i] = (5 * np.int64(old[i])) >> 3
    for i in range(old.size):
        old[i] += new[i]


@kernel
def solve(north, far, past, count, packed, rows, factor, inverses, solution, weights):
    """Find the weights of a row of tiles from the sums around each, in 1/4096.

    `north` and `far` are the sums of the rows of tiles above, `past` those of the slices before,
    (elements, tiles). `weights` is (taps, columns). Room to work in: `packed` (elements, tiles),
    `rows` (taps + 1, tiles), `factor` (taps + 1, taps + 1, tiles), `inverses` and `solution` (taps,
    tiles).
    """
    tiles = north.shape[1]
    columns = weights.shape[1]
    sides = np.zeros(tiles + 2, np.int64)
    for at in range(triangle(count + 1)):
        for t in range(tiles):
            sides[t + 1] = np.int64(north[at, t]) + np.int64(past[at, t]) + np.int64(far[at, t])
        for t in range(tiles):
            packed[at, t] = sides[t] + 2 * sides[t + 1] + sides[t + 2]
    _scale(packed, count, rows)
    _factorise(packed, count, rows, factor, inverses)
    for i in range(count - 1, -1, -1):
        rest = rows[0]
        last = factor[i, count]
        for t in range(tiles):
            rest[t] = np.int64(last[t]) << 16
        for k in range(i + 1, count):
            for t in range(tiles):
                rest[t] -= np.int64(factor[i, k, t]) * np.int64(solution[k, t])
        root, inverse, result = factor[i, i], inverses[i], solution[i]
        for t in range(tiles):
            bound = np.int64(root[t]) << 2
            result[t] = (max(-bound, min(rest[t] >> 16, bound)) * inverse[t]) >> 44
        weight = weights[i]
        for x in range(columns):
            weight[x] = (solution[i, x >> 3] + 8) >> 4


@kernel
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


@kernel
def _root(square):
    """Return the greatest integer whose square is at most `square`, at most 2^60."""
    root = np.int64(math.sqrt(np.float64(square)))
    while root * root > square:
        root -= 1
    while (root + 1) * (root + 1) <= square:
        root += 1
    return root


@kernel
def _factorise(packed, count, rows, factor, inverses):
    """Find the Cholesky factors: `factor`[k, i] has row i, column k of each, in 1/2^30.

    `inverses` are those of the diagonals, times 2^60.
    """
    tiles = packed.shape[1]
    for j in range(count):
        for i in range(j, count + 1):
            for t in range(tiles):
                rows[i, t] = packed[triangle(i) + j, t] << 30
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
        for t in range(tiles):
            root = _root(max(np.int64(_LEAST), min(rows[j, t], np.int64(1 << 60))))
            factor[j, j, t] = root
            inverses[j, t] = np.uint64(1 << 60) // np.uint64(root)
        for i in range(j + 1, count + 1):
            for t in range(tiles):
                root = np.int64(factor[j, j, t])
                value = max(-root, min(rows[i, t] >> 30, root))
                factor[j, i, t] = (value * inverses[j, t]) >> 30
