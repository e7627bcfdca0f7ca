"""Sections of `small` and `max`: *head*, then row after row of voxels.

Why no index leaves its array (numba checks none): taps stay within the margins of the planes, and
what is kept of rows is as long as they are.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls
# and take everything by position

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.calv import coder
from mroi.codecs.calv.adaptive import least_squares, voxel
from mroi.codecs.calv.adaptive.fit import find_background, fit_predictor
from mroi.codecs.calv.adaptive.profile import MOST_TAPS, Local, Profile, find_taps
from mroi.codecs.calv.planes import (
    close_plane,
    close_row,
    open_row,
    plane_size,
    roll,
    row_start,
    stride,
    sum_errors,
    tap_offsets,
)
from mroi.codecs.calv.values import Symbols, symbols_in
from mroi.codecs.compiled import kernel, part, step

__all__ = ["decode", "encode"]

_HELD = 112  # rows of a single slice; a multiple of those of every tile
_GROUPS = 3  # of contexts of the head: background, reach, coefficients
_MOST = (65536, 26, 17, 17, 17)  # of the numbers of background and reach


class _Slab(NamedTuple):
    """What is coded.

    Attributes
    ----------
    shape : tuple of int
    run : int
        Slices of a run.
    top, background : int
        Greatest symbol; the symbol of the background, -1 if there is none.
    near : tuple of int
        As `voxel.Limits` has it.
    """

    shape: tuple[int, ...]
    run: int
    top: int
    background: int
    near: tuple[int, ...]


class _Stored(NamedTuple):
    """The stored predictor.

    Attributes
    ----------
    taps, counts : (taps, 3) int64, (4,) int64
        As `find_taps` gives them.
    coefficients : (4, 128) int32
        Of the first four slices of a run, in 1/4096.
    near : tuple of int
        Taps in the row of the voxel: of this predictor, and of each correction.
    """

    taps: NDArray[np.int64]
    counts: NDArray[np.int64]
    coefficients: NDArray[np.int32]
    near: tuple[int, ...]


class _Correction(NamedTuple):
    """A correction: a `Local`, its taps and its memory."""

    taps: NDArray[np.int64]
    counts: NDArray[np.int64]
    rows: int
    band: int
    limit: int
    tiles: least_squares.Tiles


class _Planes(NamedTuple):
    """Symbols of four slices and noise of two, for each predictor and the blend.

    Attributes
    ----------
    symbols, noises : (n,) int32, (predictors + 1, n) int32
    held, columns : int
        Rows of a plane, less than those of the slice if it is the only one; columns.
    """

    symbols: NDArray[np.int32]
    noises: NDArray[np.int32]
    held: int
    columns: int


class _Buffers(NamedTuple):
    """What is kept of one row, or of the rows of a tile.

    Attributes
    ----------
    offsets, local_offsets : (128,) int64, (corrections, 128) int64
        Of the taps, in the planes.
    weights : (corrections, taps, columns) int32
    sums : voxel.Sums
    west, far_west, predicted : (4,) int64
    errors, levels : (16, 8 tiles) int32, uint8
    """

    offsets: NDArray[np.int64]
    local_offsets: NDArray[np.int64]
    weights: NDArray[np.int32]
    sums: voxel.Sums
    west: NDArray[np.int64]
    far_west: NDArray[np.int64]
    predicted: NDArray[np.int64]
    errors: NDArray[np.int32]
    levels: NDArray[np.uint8]


def encode(
    volume: NDArray[np.int32], top: int, profile: Profile, run: int | None = None, near: int = 0
) -> bytes | None:
    """Return the section of a slab of symbols from 0 to `top`, or None if it is larger than raw.

    The slices of a series come in runs of `run`, the same slice of one volume after the other. What
    is decoded is within `near` of the symbols, at most half of `top`.
    """
    run = volume.shape[0] if run is None else run
    reach = next(reach for least, reach in profile.reaches if volume.size >= least)
    head = np.array([find_background(volume, top), *reach], np.int64) + 1
    coefficients = fit_predictor(volume, run, *find_taps(reach))
    words = np.zeros(volume.size + volume.size // 8 + 1024, np.uint16)
    symbols = symbols_in(volume.astype("<u2"))
    shape = volume.shape
    interval = _code(
        words, symbols, shape, coefficients, head, run, top, profile, near=near, decoding=False
    )
    written = None if interval is None else coder.close(interval, words)
    return None if written is None else written.astype("<u2").tobytes()


def decode(
    section: memoryview,
    out: Symbols,
    shape: tuple[int, int, int],
    slices: int,
    top: int,
    profile: Profile,
    run: int | None = None,
    near: int = 0,
) -> bool:
    """Fill `out`, of `shape`, the first of so many slices; return whether the section is sound."""
    run = slices if run is None else run
    if len(section) < 6 or len(section) % 2:
        return False
    words = np.frombuffer(section, "<u2").astype(np.uint16)
    coefficients = np.zeros((4, MOST_TAPS + 1), np.int32)
    head = np.zeros(len(_MOST), np.int64)
    interval = _code(
        words, out, shape, coefficients, head, run, top, profile, near=near, decoding=True
    )
    return interval is not None and (shape[0] < slices or coder.is_finished(interval, words))


def _code(
    words: NDArray[np.uint16],
    symbols: Symbols,
    shape: tuple[int, ...],
    coefficients: NDArray[np.int32],
    head: NDArray[np.int64],
    run: int,
    top: int,
    profile: Profile,
    *,
    near: int,
    decoding: bool,
) -> coder.Interval | None:
    """Code the head, then the voxels; return the last interval, or None if anything is broken."""
    contexts = np.full(_GROUPS * coder.GROUP, coder.HALF, np.int64)
    sound, interval = _code_head(decoding, words, contexts, head)
    if not sound:
        return None
    taps, counts = find_taps(tuple((head[1:] - 1).tolist()))
    if len(taps) > MOST_TAPS:
        return None
    sound, interval = _code_coefficients(
        decoding, interval, words, contexts, coefficients, counts[: min(run, 4)]
    )
    if not sound:
        return None
    corrections = tuple(_correction(local, shape, run) for local in profile.corrections)
    beside = tuple(_count_near(some) for some in (taps, *(c.taps for c in corrections)))
    stored = _Stored(taps, counts, coefficients, beside)
    slab = _Slab(shape, run, top, int(head[0]) - 1, (near, 2 * near + 1) if near else (0,))
    mixer = voxel.new_mixer(profile.models, profile.experts)
    sound, interval = _code_voxels(
        decoding, interval, words, symbols, slab, stored, corrections, mixer
    )
    return coder.Interval(*interval) if sound else None


def _correction(local: Local, shape: tuple[int, ...], run: int) -> _Correction:
    """Return a correction that has learnt nothing."""
    taps, counts = find_taps(local.reach)
    bands = -(-shape[1] // local.band) if run > 2 else 1
    tiles = least_squares.new_tiles(len(taps) - 1, shape[2], bands)
    return _Correction(taps, counts, local.rows, local.band, local.limit, tiles)


def _count_near(taps: NDArray[np.int64]) -> int:
    """Return how many taps after N lie in the row of the voxel."""
    return int(np.count_nonzero((taps[:, 0] == 0) & (taps[:, 1] == 0)))


# --- head ---


@kernel
def _code_head(decoding, words, contexts, head):
    """Code background and reach; return whether they are sound, and the interval."""
    interval = coder.begin(decoding, words)
    for i in range(len(_MOST)):
        group = np.int64(min(i, 1))
        head[i], interval = coder.number(decoding, interval, words, contexts, group, head[i])
        if head[i] > _MOST[i]:
            return False, interval
    return head[1] > 1, interval


@kernel
def _code_coefficients(decoding, interval, words, contexts, coefficients, counts):
    """Code the coefficients of each slice that differs; return whether they are sound, too."""
    for kind in range(counts.size):
        total = np.int64(0)
        for i in range(1, counts[kind]):
            value = np.int64(coefficients[kind, i])
            value = (value << 1) ^ (value >> 63)
            value, interval = coder.number(decoding, interval, words, contexts, np.int64(2), value)
            if value > 65535:
                return False, interval
            value = (value >> 1) ^ -(value & 1)
            coefficients[kind, i] = value
            total += value
        coefficients[kind, 0] = 4096 - total
    return True, interval


# --- rows ---


@kernel
def _code_voxels(decoding, interval, words, symbols, slab, stored, corrections, mixer):
    """Code a slab; return whether all its symbols are sound, and the last interval."""
    slices, rows, columns = slab.shape
    planes = _new_planes(slab, len(corrections) + 2)
    most = _most_taps(corrections)
    buffers = _new_buffers(columns, len(corrections), most)
    room = least_squares.new_room(most, columns)
    statistics = voxel.Statistics(
        np.zeros(8 * 128, np.int64), np.zeros(8 * 128, np.int64), np.zeros(2, np.int64)
    )
    for s in range(slices):
        t = s % slab.run  # slices before it that predict it
        _open_slice(planes, stored, corrections, buffers, s, t)
        for y in range(rows):
            _open_row(planes, stored, corrections, buffers, room, s, t, y)
            limits = _limits(slab, t)
            begin = symbols.first + (s * rows + y) * columns * symbols.step
            predictor = voxel.Predictor(
                stored.coefficients[min(t, 3)], buffers.weights, stored.near
            )
            sound, interval = voxel.code_row(
                decoding, interval, words, symbols, begin, _rows(planes, s, t, y), buffers.sums,
                predictor, _trail(planes, buffers, s, y), limits, mixer, statistics,
            )  # fmt: skip
            if not sound or interval.at > words.size + 3:
                return False, interval
            _close_row(planes, corrections, buffers, room, s, t, y, rows)
        _close_slice(planes, s)
    return True, interval


@step
def _most_taps(corrections):
    """Return the most taps of a correction."""
    most = np.int64(0)
    for correction in corrections:
        most = max(most, np.int64(correction.taps.shape[0] - 1))
    return most


@step
def _limits(slab, t):
    """Return what holds for all voxels of a slice with `t` before it."""
    coarse = np.int64(0)
    while slab.top >> coarse >= 16:
        coarse += 1
    scale = np.int64(2 if t == 0 else 1)
    ceiling = np.int64(slab.top) << 8
    return voxel.Limits(slab.top, slab.background, ceiling, coarse, t == 0, scale, slab.near)


@part
def _new_planes(slab, noises):
    slices, rows, columns = slab.shape
    held = rows if slices > 1 else min(rows, _HELD)  # of a single slice, the last rows will do
    size = plane_size(held, columns)
    return _Planes(
        np.zeros(min(slices, 4) * size, np.int32),
        np.zeros((noises, min(slices, 2) * size), np.int32),
        held,
        columns,
    )


@part
def _new_buffers(columns, corrections, taps):
    wide = (columns + 7) // 8 * 8
    sums = voxel.Sums(
        np.zeros(columns, np.int32),
        np.zeros((corrections, columns), np.int32),
        np.zeros((corrections + 2, columns), np.int32),
    )
    return _Buffers(
        np.zeros(128, np.int64),
        np.zeros((corrections, 128), np.int64),
        np.zeros((corrections, taps + 1, columns), np.int32),
        sums,
        np.zeros(4, np.int64),
        np.zeros(4, np.int64),
        np.zeros(4, np.int64),
        np.zeros((16, wide), np.int32),
        np.zeros((16, wide), np.uint8),
    )


@step
def _symbol_row(planes, s, y):
    """Return where row `y` of slice `s` begins among the symbols."""
    start = (s & 3) * plane_size(planes.held, planes.columns)
    return row_start(start, y % planes.held, planes.columns)


@step
def _noise_row(planes, s, y):
    """Return where it begins among the noise."""
    start = (s & 1) * plane_size(planes.held, planes.columns)
    return row_start(start, y % planes.held, planes.columns)


@step
def _up(planes, s, ring):
    """Return the distance to the slice before, in a ring of so many planes."""
    return (((s - 1) & (ring - 1)) - (s & (ring - 1))) * plane_size(planes.held, planes.columns)


@part
def _rows(planes, s, t, y):
    """Return views of the rows around a row; of the first slice, it stands for the one before."""
    columns = planes.columns
    width = stride(columns)
    row = _symbol_row(planes, s, y)
    above = row + (_up(planes, s, 4) if t > 0 else 0)
    noise = planes.noises[planes.noises.shape[0] - 1]
    north_noise = _noise_row(planes, s, y) - width
    above_noise = _noise_row(planes, s, y) + _up(planes, s, 2) if t > 0 else north_noise
    return voxel.Rows(
        planes.symbols[row - 8 : row + columns],
        planes.symbols[row - width - 1 : row - width + columns + 1],
        planes.symbols[above - 1 : above + columns + 1],
        planes.symbols[above + width : above + width + columns],
        noise[north_noise : north_noise + columns],
        noise[above_noise : above_noise + columns],
    )


@part
def _trail(planes, buffers, s, y):
    """Return where a row leaves what it teaches."""
    row = _noise_row(planes, s, y)
    return voxel.Trail(
        planes.noises[:, row : row + planes.columns],
        buffers.west,
        buffers.far_west,
        buffers.predicted,
        buffers.errors[y & 15],
        buffers.levels[y & 15],
    )


@step
def _open_slice(planes, stored, corrections, buffers, s, t):
    """Find the taps of a slice, and forget the tiles of the one before."""
    width = stride(planes.columns)
    size = plane_size(planes.held, planes.columns)
    tap_offsets(stored.taps, stored.counts[min(t, 3)], s, size, width, buffers.offsets)
    for j in range(len(corrections)):
        correction = corrections[j]
        count = correction.counts[min(t, 2)]
        tap_offsets(correction.taps, count, s, size, width, buffers.local_offsets[j])
        correction.tiles.latest[:] = 0
        correction.tiles.far[:] = 0


@part
def _open_row(planes, stored, corrections, buffers, room, s, t, y):
    """Fill the margins, find the weights of new tiles, sum what other rows give to this one."""
    columns = planes.columns
    width = stride(columns)
    if y > 0 and y % planes.held == 0:
        roll(planes.symbols, planes.held, columns)
        for j in range(planes.noises.shape[0]):
            roll(planes.noises[j], planes.held, columns)
    row = _symbol_row(planes, s, y)
    open_row(planes.symbols, row, columns)
    kind = min(t, 3)
    offsets = buffers.offsets[: stored.counts[kind]]
    _add_stored(
        planes.symbols, row, offsets, stored.coefficients[kind], stored.near[0], buffers.sums.stored
    )
    for j in range(len(corrections)):
        correction = corrections[j]
        count = correction.counts[min(t, 2)] - 1
        if y % correction.rows == 0:
            _weigh_tiles(correction, buffers.weights[j], count, room, t, y)
        offsets = buffers.local_offsets[j, 1 : 1 + count]
        _add_local(
            planes.symbols, row, width, offsets, buffers.weights[j], stored.near[j + 1],
            buffers.sums.local[j],
        )  # fmt: skip
    row = _noise_row(planes, s, y)
    up = np.uint64(_up(planes, s, 2))
    for j in range(planes.noises.shape[0]):
        noise = planes.noises[j]
        open_row(noise, row, columns)
        sum_errors(noise, np.uint64(row), up, np.uint64(width), t == 0, buffers.sums.noise[j])
        buffers.west[j] = buffers.far_west[j] = noise[row - 1]


@part
def _weigh_tiles(correction, weights, count, room, t, y):
    """Find the weights of a row of tiles."""
    tiles = correction.tiles
    tile = y // correction.rows
    least_squares.fade(tiles.far, tiles.latest[tile & 1], 1 if t == 0 else 2)
    before = tiles.past[y // correction.band] if t > 1 else tiles.nothing
    north = tiles.latest[(tile - 1) & 1]
    least_squares.solve(north, tiles.far, before, count, room, weights)


@step
def _add_stored(planes, row, offsets, coefficients, near, sums):
    """Sum what the taps outside a row give to the stored prediction of each of its voxels."""
    columns = sums.size
    count = offsets.size
    first = planes[row + offsets[0] : row + offsets[0] + columns]
    for x in range(columns):
        sums[x] = coefficients[0] * first[x]
    i = near + 1
    while i < count:
        # Two at a time; the coefficient after the last is 0.
        c0, c1 = coefficients[i], coefficients[i + 1]
        p0 = row + offsets[i]
        p1 = row + offsets[min(i + 1, count - 1)]
        a0 = planes[p0 : p0 + columns]
        a1 = planes[p1 : p1 + columns]
        for x in range(columns):
            sums[x] += c0 * a0[x] + c1 * a1[x]
        i += 2


@step
def _add_local(planes, row, width, offsets, weights, near, sums):
    """Sum what the taps outside a row give to the correction of each of its voxels."""
    columns = sums.size
    for x in range(columns):
        sums[x] = 0
    north = planes[row - width : row - width + columns]
    for i in range(near, offsets.size):
        there = planes[row + offsets[i] : row + offsets[i] + columns]
        weight = weights[i]
        for x in range(columns):
            sums[x] += np.int32(weight[x] * np.int32(there[x] - north[x]))


@step
def _close_row(planes, corrections, buffers, room, s, t, y, rows):
    """Fill the margins, and learn the tiles that end with a row."""
    columns = planes.columns
    close_row(planes.symbols, _symbol_row(planes, s, y), columns)
    for j in range(planes.noises.shape[0]):
        close_row(planes.noises[j], _noise_row(planes, s, y), columns)
    for j in range(len(corrections)):
        correction = corrections[j]
        if (y + 1) % correction.rows == 0 or y + 1 == rows:
            count = correction.counts[min(t, 2)] - 1
            offsets = buffers.local_offsets[j, 1 : 1 + count]
            _learn_tiles(planes, correction, offsets, buffers, room, s, y)
            if t > 1 and ((y + 1) % correction.band == 0 or y + 1 == rows):
                _remember(correction, y)


@step
def _learn_tiles(planes, correction, offsets, buffers, room, s, y):
    """Sum the products over the tiles whose last row is `y`."""
    tile = y // correction.rows
    first = tile * correction.rows
    count = y + 1 - first
    begin = first & 15
    least_squares.learn(
        planes.symbols, _symbol_row(planes, s, first), stride(planes.columns), offsets,
        buffers.errors[begin : begin + count], buffers.levels[begin : begin + count],
        min(count, max(0, 2 - first)), planes.columns, correction.limit, room,
        correction.tiles.latest[tile & 1],
    )  # fmt: skip


@step
def _remember(correction, y):
    """Add the sums of a band of rows of tiles, the last of which ends with row `y`, to P."""
    band = y // correction.band
    fades = True
    for tile in range(band * correction.band // correction.rows, y // correction.rows + 1):
        least_squares.add_sums(
            correction.tiles.past[band], correction.tiles.latest[tile & 1], fades
        )
        fades = False


@step
def _close_slice(planes, s):
    """Fill the margins below a slice."""
    size = plane_size(planes.held, planes.columns)
    close_plane(planes.symbols, (s & 3) * size, planes.held, planes.columns)
    for j in range(planes.noises.shape[0]):
        close_plane(planes.noises[j], (s & 1) * size, planes.held, planes.columns)
