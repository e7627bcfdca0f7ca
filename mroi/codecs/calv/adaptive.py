"""Levels `small` and `max`: a long predictor that is stored, corrected by ones that are learnt.

The encoder fits one linear predictor over many neighbours to each slab and stores it. Local least
squares (`regression`) correct it from what they learn while coding. The predictions are blended by
the errors that each made around the voxel; the result, less the bias seen in the same
circumstances, is rounded, and the error is coded in decisions whose probabilities are learnt in
several contexts and mixed. `max` has more correction and more contexts than `small`. Normative in
``spec/codecs/calv.md``, where the words used here are defined.

Why no index leaves its array (numba checks none): taps stay within the margins of the planes;
levels come from a table of 0 to 63 whose index is clipped; classes, signs, ratios and parts are
made of comparisons or clipped where they are made; words read beyond the end are 0.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls
# A kernel is one long function: what a voxel needs stays in registers.
# ruff: noqa: C901, PLR0912, PLR0915, PLR0917

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.calv import coder
from mroi.codecs.calv.compiled import kernel
from mroi.codecs.calv.fitting import BATCH, add_products, solve_normal
from mroi.codecs.calv.planes import (
    close_plane,
    close_row,
    load,
    open_row,
    plane_size,
    roll,
    row_start,
    stride,
    sum_errors,
)
from mroi.codecs.calv.regression import add_sums, learn, solve, triangle
from mroi.codecs.calv.values import Numbers, numbers_in

__all__ = ["MAX", "SMALL", "Profile", "decode", "encode"]

Reach = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Local:
    """A local correction: which neighbours it has, and how large its tiles are.

    Attributes
    ----------
    reach : tuple of int
        Squared distance of the neighbours in the plane and in the three slices before, -1 if none.
    rows, block : int
        Rows of a tile, and of the tiles whose sums the next slice sees as one.
    limit : int
        Greatest product of a difference and its weight. With it sums of tiles fit 32 bits, and
        those of a block still do after all slices: 8/3 of those of one.
    """

    reach: Reach
    rows: int
    block: int
    limit: int


@dataclass(frozen=True, slots=True)
class Profile:
    """What distinguishes the levels.

    Attributes
    ----------
    local : tuple of Local
        One or two corrections.
    models : int
        Contexts of which each decision mixes the probabilities, 1 to 6.
    mixed : int
        Decisions with numbers below this are mixed, the others use the first context alone.
    reaches : tuple of (int, tuple of int)
        Reaches of the stored predictor that the encoder takes, each from so many voxels on.
    """

    local: tuple[Local, ...]
    models: int
    mixed: int
    reaches: tuple[tuple[int, Reach], ...]


_NEAR = Local((8, 4, 1, -1), 4, 8, 3 << 18)
_FAR = Local((17, 10, 5, -1), 16, 16, 1 << 19)
SMALL = Profile((_NEAR,), 3, 8, ((1 << 18, (25, 10, 4, 1)), (0, (8, 4, 1, -1))))
MAX = Profile((_NEAR, _FAR), 6, 40, ((1 << 18, (25, 16, 5, 2)), (0, (8, 4, 1, -1))))

_HELD = 112  # rows of a single slice; a multiple of those of every tile
_TAPS = 128  # more than a reach may have
_DECISIONS = 40  # zero (3 parts), sign, quotient (24), remainder (3 and 6)
_MASKS = 256  # contexts of the background, before those of the models
_SIZES = (64, 512, 800, 2048, 512, 1024)  # contexts of each model
_HALF = 1 << 31  # a context that has seen nothing
_SAMPLING = 24000  # voxels that shape the stored predictor
_MASK, _ZERO, _SIGN, _QUOTIENT, _HIGH, _NEXT, _LOW, _DONE = range(8)  # of an error


@lru_cache(maxsize=16)
def _taps(reach: Reach) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the taps (slices back, rows up, columns left) of a reach, and how many by slice.

    N comes first, then those of the same row, then the others by distance. A slice with so many
    before it has the first `counts[before]` taps.
    """
    plane = [(r, c) for r in range(1, 6) for c in range(-5, 6)]
    disc = [(r, c) for r in range(-5, 6) for c in range(-5, 6)]
    taps = [(0, 1, 0), *((0, 0, c) for c in range(1, math.isqrt(reach[0]) + 1))]
    counts = []
    for back, square in enumerate(reach):
        places = plane if back == 0 else disc
        near = sorted((r * r + c * c, r, c) for r, c in places if r * r + c * c <= square)
        taps += [(back, r, c) for _, r, c in near if (back, r, c) != (0, 1, 0)]
        counts.append(len(taps))
    return np.array(taps, np.int64), np.array(counts, np.int64)


def _level_table() -> NDArray[np.uint8]:
    """Return the level of activities below 4096, then of 1024 times 0 to 1023."""
    table = np.zeros(5120, np.uint8)
    for i in range(5120):
        activity = i if i < 4096 else (i - 4096) << 10
        length = activity.bit_length()
        if activity >= 8:
            table[i] = min(63, 4 * (length - 4) + (activity >> (length - 3) & 3))
    return table


def _gain(level: int) -> int:
    """Return how much a voxel of a level weighs in local least squares."""
    activity = 0.0 if level == 0 else (4.5 + level % 4) * 2 ** (level // 4 + 1)
    return round(65536 / math.sqrt((activity * 3 / 224) ** 1.5 + 30))


_LEVEL = _level_table()
_GAIN = np.array([_gain(level) for level in range(64)], np.int32)
_LOG = np.array(
    [round(1024 * math.log(i + 16)) for i in (*range(4096), *range(128, 1 << 20, 256))], np.int16
)
_INVERSE = np.array([65536 // (n + 1) for n in range(256)], np.int64)
_STRETCH = np.array(
    [round(256 * math.log((2 * i + 1) / (8191 - 2 * i))) for i in range(4096)], np.int16
)
_SQUASH = np.array([round(65536 / (1 + math.exp(-i / 256))) for i in range(-2816, 2817)], np.uint16)


def encode(
    volume: NDArray[np.int32], top: int, profile: Profile, run: int | None = None
) -> bytes | None:
    """Return the section of a slab of numbers from 0 to `top`, or None if it is larger than raw.

    The slices of a series come in runs of `run`, the same slice of one volume after the other.
    """
    run = volume.shape[0] if run is None else run
    reach = next(reach for least, reach in profile.reaches if volume.size >= least)
    head = np.array([_find_background(volume, top), *reach], np.int64) + 1
    coefficients = _fit(volume, run, *_taps(reach))
    state, words = coder.open_writer(volume.size + volume.size // 8 + 1024)
    numbers = numbers_in(volume.astype("<u2"))
    shape = volume.shape
    _run(state, words, numbers, shape, coefficients, head, run, top, profile, decoding=False)
    written = coder.close(state, words)
    return None if written is None else written.astype("<u2").tobytes()


def decode(
    section: memoryview,
    out: Numbers,
    shape: tuple[int, int, int],
    slices: int,
    top: int,
    profile: Profile,
    run: int | None = None,
) -> bool:
    """Fill `out`, of `shape`, the first of so many slices; return whether the section is sound."""
    run = slices if run is None else run
    if len(section) < 6 or len(section) % 2:
        return False
    words = np.frombuffer(section, "<u2").astype(np.uint16)
    state = coder.open_reader(words)
    coefficients = np.zeros((4, _TAPS), np.int32)
    head = np.zeros(5, np.int64)
    if not _run(state, words, out, shape, coefficients, head, run, top, profile, decoding=True):
        return False
    return shape[0] < slices or bool(state[0] == 0 and state[2] == words.size)


def _run(
    state: NDArray[np.int64],
    words: NDArray[np.uint16],
    voxels: Numbers,
    shape: tuple[int, ...],
    coefficients: NDArray[np.int32],
    head: NDArray[np.int64],
    run: int,
    top: int,
    profile: Profile,
    *,
    decoding: bool,
) -> bool:
    """Code the head, then the voxels; return whether all of it is sound."""
    numbers = np.full(3 * 21, _HALF, np.int64)
    if not _code_head(decoding, state, words, numbers, head, coder.RATES):
        return False
    taps, counts = _taps(tuple((head[1:] - 1).tolist()))
    if len(taps) >= _TAPS:
        return False
    if not _code_coefficients(
        decoding, state, words, numbers, coefficients, counts[: min(run, 4)], coder.RATES
    ):
        return False
    locals_ = [_taps(local.reach) for local in profile.local]
    local_taps = np.zeros((len(locals_), _TAPS, 3), np.int64)
    for table, (found, _) in zip(local_taps, locals_, strict=True):
        table[: len(found)] = found
    local_counts = np.array([found[:3] for _, found in locals_])
    shapes = tuple((local.rows, local.block, local.limit) for local in profile.local)
    lanes = -(-shape[2] // 64) * 8  # tiles, in eights as vector instructions like them
    sizes = [triangle(int(found[-1])) for found in local_counts]
    latest = tuple(np.zeros((2, size, lanes), np.int32) for size in sizes)
    far = tuple(np.zeros((size, lanes), np.int32) for size in sizes)
    blocks = [-(-shape[1] // local.block) if run > 2 else 1 for local in profile.local]
    past = tuple(
        np.zeros((count, size, lanes), np.int32) for count, size in zip(blocks, sizes, strict=True)
    )
    nothing = tuple(np.zeros((size, lanes), np.int32) for size in sizes)
    models = profile.models
    starts = tuple(_MASKS + _DECISIONS * sum(_SIZES[:model]) for model in range(models))
    contexts = np.full(_MASKS + _DECISIONS * sum(_SIZES[:models]), _HALF, np.uint32)
    experts = models + 1 if models > 3 else models
    shares = np.full((4 * _DECISIONS, experts), 85536 // experts, np.int32)
    return bool(
        _code(
            decoding, state, words, voxels, shape, run, top, int(head[0]) - 1, coefficients, taps,
            counts, local_taps, local_counts, shapes, latest, far, past, nothing, profile.mixed,
            starts, contexts, shares, coder.RATES, _LEVEL, _GAIN, _LOG, _INVERSE, _STRETCH, _SQUASH,
        )
    )  # fmt: skip


def _find_background(volume: NDArray[np.int32], top: int) -> int:
    """Return the number that fills whole areas, or -1 if none does."""
    number = int(np.bincount(volume.ravel(), minlength=top + 1).argmax())
    here = volume == number
    count = np.count_nonzero(here)
    pairs = np.count_nonzero(here[..., 1:] & here[..., :-1])
    return number if 50 * count > volume.size and 10 * pairs > 7 * count else -1


def _fit(
    volume: NDArray[np.int32], run: int, taps: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Return the coefficients of the first four slices of a run, in 1/4096, (4, 128)."""
    normal = np.zeros((4, _TAPS, _TAPS))
    _accumulate(volume, run, normal, taps, counts, _SAMPLING)
    result = np.zeros((4, _TAPS), np.int32)
    for kind in range(min(4, run)):
        count = int(counts[kind])
        others = solve_normal(normal[kind, :count, :count], 1e-5, 7.9, 4096)
        result[kind, 0] = 4096 - others.sum()
        result[kind, 1:count] = others
    return result


@kernel
def _offsets(taps, count, s, size, width, offsets):
    """Turn the taps of a slice into distances in the ring of planes."""
    for i in range(count):
        there = (s - taps[i, 0]) & 3
        offsets[i] = (there - (s & 3)) * size - taps[i, 1] * width - taps[i, 2]


@kernel
def _accumulate(volume, run, normal, taps, counts, sampling):
    """Add up the normal equations, each voxel weighted the less the more detail is around."""
    slices, rows, columns = volume.shape
    width = stride(columns)
    size = plane_size(rows, columns)
    planes = np.zeros(min(slices, 4) * size, np.int32)
    offsets = np.zeros(128, np.int64)
    samples = np.zeros((128, BATCH))
    for s in range(slices):
        start = (s & 3) * size
        load(volume, s, planes, start)
        kind = min(s % run, 3)
        count = counts[kind]
        _offsets(taps, count, s, size, width, offsets)
        alike = (run - 3 if kind > 2 else 1) * (slices // run)
        step = max(4, alike * rows * columns // (sampling if kind > 2 else sampling // 4))
        filled = 0
        for y in range(rows):
            for x in range((5 * y + 3 * s) % step, columns, step):
                p = row_start(start, y, columns) + x
                nw = planes[p - width - 1]
                n = planes[p - width]
                detail = abs(planes[p - 1] - nw) + abs(n - nw) + abs(n - planes[p - width + 1])
                share = 1.0 / math.sqrt(detail * math.sqrt(detail) + 30.0)
                for i in range(1, count):
                    samples[i - 1, filled] = share * (planes[p + offsets[i]] - n)
                samples[count - 1, filled] = share * (planes[p] - n)
                filled += 1
                if filled == BATCH:
                    add_products(samples, samples, filled, count, normal[kind])
                    filled = 0
        add_products(samples, samples, filled, count, normal[kind])


@kernel
def _code_head(decoding, state, words, numbers, head, rates):
    """Code background and reach; return whether they are sound."""
    for i in range(5):
        first = np.int64(0 if i == 0 else 21)
        head[i] = coder.adaptive_number(decoding, state, words, numbers, first, head[i], rates)
        if head[i] > (65536 if i == 0 else 26 if i == 1 else 17):
            return False
    return head[1] > 1


@kernel
def _code_coefficients(decoding, state, words, numbers, coefficients, counts, rates):
    """Code the coefficients of each slice that differs; return whether they are sound."""
    for kind in range(counts.size):
        total = np.int64(0)
        for i in range(1, counts[kind]):
            value = np.int64(coefficients[kind, i])
            number = (value << 1) ^ (value >> 63)
            number = coder.adaptive_number(
                decoding, state, words, numbers, np.int64(42), number, rates
            )
            if number > 65535:
                return False
            value = (number >> 1) ^ -(number & 1)
            coefficients[kind, i] = value
            total += value
        coefficients[kind, 0] = 4096 - total
    return True


@kernel
def _ratio(error, activity):
    """Return 0 to 3: an error against the mean of those around it, whose weights sum to 14."""
    t = 14 * np.int64(error)
    return np.int64(2 * t > activity) + np.int64(t > activity) + np.int64(t > 2 * activity)


@kernel
def _detail(w, n, ne, nw, u, first, activity):
    """Return 0 to 5: differences of neighbours against the errors made around."""
    t = abs(w - nw) + abs(n - nw) + abs(n - ne)
    if not first:
        t += abs(u - n)
    t *= 64
    return (
        np.int64(2 * t > activity) + np.int64(t > activity) + np.int64(t > 2 * activity)
        + np.int64(t > 4 * activity) + np.int64(t > 8 * activity)
    )  # fmt: skip


@kernel
def _escape(decoding, state, words, quotient):
    """Code a quotient of 24 or more at even odds."""
    beyond = quotient - 23
    length = np.int64(0)
    while not decoding and beyond >> (length + 1) > 0:
        length += 1
    length = coder.uniform(decoding, state, words, np.int64(5), length)
    length = min(length, np.int64(16))
    below = beyond & ((np.int64(1) << length) - 1)
    below = coder.uniform(decoding, state, words, length, below)
    return 23 + ((np.int64(1) << length) | below)


@kernel
def _add_stored(planes, row, offsets, coefficients, count, near, sums):
    """Sum what the taps outside a row give to the stored prediction of each of its voxels."""
    columns = sums.size
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


@kernel
def _add_local(planes, row, width, offsets, weights, count, near, sums):
    """Sum what the taps outside a row give to the local correction of each of its voxels."""
    columns = sums.size
    for x in range(columns):
        sums[x] = 0
    north = planes[row - width : row - width + columns]
    for i in range(near, count):
        there = planes[row + offsets[i] : row + offsets[i] + columns]
        weight = weights[i]
        for x in range(columns):
            sums[x] += np.int32(weight[x] * np.int32(there[x] - north[x]))


@kernel
def _code(decoding, state, words, voxels, shape, run, top, background, coefficients, taps, counts,
          local_taps, local_counts, shapes, latest, far, past, nothing, mixed, starts, contexts,
          shares, rates, level_of, gains, log_of, inverse, stretch, squash):  # fmt: skip
    """Code a slab; return whether all its numbers are sound."""
    slices, rows, columns = shape
    data, pairs, are_pairs, first_number, every = voxels
    models = len(starts)
    experts = models + 1 if models > 3 else models
    predictors = 1 + len(shapes)
    width = stride(columns)
    held = rows if slices > 1 else min(rows, _HELD)  # of a single slice, the last rows will do
    size = plane_size(held, columns)
    ceiling = np.int64(top) << 8
    coarse = 0
    while top >> coarse >= 16:
        coarse += 1
    tiles = (columns + 7) // 8
    lanes = latest[0].shape[2]
    planes = np.zeros(min(slices, 4) * size, np.int32)
    noises = np.zeros((predictors + 1, min(slices, 2) * size), np.int32)
    offsets = np.zeros(128, np.int64)
    local_offsets = np.zeros((predictors - 1, 128), np.int64)
    near = _count_near(taps)
    local_near = np.zeros(predictors - 1, np.int64)
    most = np.int64(0)
    for j in range(predictors - 1):
        local_near[j] = _count_near(local_taps[j])
        most = max(most, local_counts[j].max())
    weights = np.zeros((predictors - 1, most, columns), np.int32)
    samples = np.zeros((tiles, 4, most + 1, 32), np.int16)
    packed = np.zeros((triangle(most), lanes), np.int64)
    lines = np.zeros((most, lanes), np.int64)
    factor = np.zeros((most, most, lanes), np.int32)
    inverses = np.zeros((most, lanes), np.int64)
    solution = np.zeros((most, lanes), np.int32)
    room = np.zeros(8 * tiles, np.int32)
    errors = np.zeros((16, 8 * tiles), np.int32)
    levels = np.zeros((16, 8 * tiles), np.uint8)
    stored_row = np.zeros(columns, np.int32)
    local_rows = np.zeros((predictors - 1, columns), np.int32)
    noise_rows = np.zeros((predictors + 1, columns), np.int32)
    bias = np.zeros(8 * 128, np.int64)
    seen = np.zeros(8 * 128, np.int64)
    places = np.zeros(6, np.int64)
    inputs = np.zeros(7, np.int64)
    predicted = np.zeros(3, np.int64)
    last = np.zeros(4, np.int64)
    second = np.zeros(4, np.int64)
    history = np.int64(0)
    older = np.int64(0)
    code, span, at = state[0], state[1], state[2]
    for s in range(slices):
        start = (s & 3) * size
        quiet = (s & 1) * size
        back = (1 - 2 * (s & 1)) * size
        t = s % run  # slices before it that predict it
        count = counts[min(t, 3)]
        c = coefficients[min(t, 3)]
        _offsets(taps, count, s, size, width, offsets)
        up = np.int64((((s - 1) & 3) - (s & 3)) * size) if t > 0 else np.int64(0)
        scale = np.int64(2 if t == 0 else 1)
        for j in range(predictors - 1):
            _offsets(local_taps[j], local_counts[j, min(t, 2)], s, size, width, local_offsets[j])
            latest[j][:] = 0
            far[j][:] = 0
        for y in range(rows):
            if y > 0 and y % held == 0:
                roll(planes, held, columns)
                for j in range(predictors + 1):
                    roll(noises[j], held, columns)
            row = row_start(start, y % held, columns)
            noise_row = row_start(quiet, y % held, columns)
            open_row(planes, row, columns)
            _add_stored(planes, row, offsets, c, count, near, stored_row)
            for j in range(predictors - 1):
                n_taps = local_counts[j, min(t, 2)] - 1
                if y % shapes[j][0] == 0:
                    tile = y // shapes[j][0]
                    _fade(far[j], latest[j][tile & 1], 1 if t == 0 else 2)
                    before = past[j][y // shapes[j][1]] if t > 1 else nothing[j]
                    solve(
                        latest[j][(tile - 1) & 1], far[j], before, n_taps, packed, lines, factor,
                        inverses, solution, weights[j],
                    )  # fmt: skip
                _add_local(
                    planes, row, width, local_offsets[j, 1:], weights[j], n_taps, local_near[j],
                    local_rows[j],
                )  # fmt: skip
            for j in range(predictors + 1):
                open_row(noises[j], noise_row, columns)
                sum_errors(
                    noises[j], np.uint64(noise_row), np.uint64(back), np.uint64(width), t == 0,
                    noise_rows[j],
                )  # fmt: skip
                last[j] = second[j] = noises[j, noise_row - 1]
            begin = first_number + (s * rows + y) * columns * every
            here = planes[row - 8 : row + columns]
            norths = planes[row - width - 1 : row - width + columns + 1]
            aboves = planes[row + up - 1 : row + up + columns + 1]
            souths = planes[row + up + width : row + up + width + columns]
            noise = noises[predictors]
            noise_north = noise[noise_row - width : noise_row - width + columns]
            noise_above = (
                noise[noise_row + back : noise_row + back + columns] if t > 0 else noise_north
            )
            wrong = errors[y & 15]
            level_row = levels[y & 15]
            for x in range(columns):
                # Neighbours, and the errors made there.
                w = np.int64(here[x + 7])
                nw = np.int64(norths[x])
                n = np.int64(norths[x + 1])
                ne = np.int64(norths[x + 2])
                u = np.int64(aboves[x + 1])
                ue = np.int64(aboves[x + 2])
                us = np.int64(souths[x])
                activity = noise_rows[predictors, x] + scale * (
                    2 * last[predictors] + second[predictors]
                )
                level = np.int64(
                    level_of[
                        np.uint64(activity if activity < 4096 else 4096 + min(activity >> 10, 1023))
                    ]
                )

                # Predictions, in 1/256.
                exact = stored_row[x]
                for i in range(near):
                    exact = np.int32(exact + np.int32(c[i + 1] * here[x + 7 - i]))
                stored = max(np.int64(0), min(np.int64(exact) >> 4, ceiling))
                predicted[0] = stored
                for j in range(predictors - 1):
                    change = local_rows[j, x]
                    for i in range(local_near[j]):
                        change = np.int32(
                            change
                            + np.int32(weights[j, i, x] * np.int32(here[x + 7 - i] - np.int32(n)))
                        )
                    predicted[1 + j] = max(
                        np.int64(0), min(stored + (np.int64(change) >> 4), ceiling)
                    )
                # Blended two by two: each has a share by the errors that it made around.
                mean = stored
                best = np.int64(0)
                for j in range(predictors):
                    made = noise_rows[j, x] + scale * (2 * last[j] + second[j])
                    log = np.int64(
                        log_of[np.uint64(made if made < 4096 else 4096 + min(made >> 8, 4095))]
                    )
                    if j > 0:
                        mark = max(np.int64(0), min(log - best + 2816, np.int64(5632)))
                        share = np.int64(squash[np.uint64(mark)])
                        mean = predicted[j] + (((mean - predicted[j]) * share) >> 16)
                    best = log if j == 0 else min(best, log)
                whole = mean >> 8
                signs = (
                    np.int64(w > whole) | np.int64(n > whole) << 1
                    | np.int64(nw > whole) << 2 | np.int64(ne > whole) << 3
                )  # fmt: skip
                if t > 0:
                    signs |= (
                        np.int64(u > whole) << 4 | np.int64(ue > whole) << 5
                        | np.int64(us > whole) << 6
                    )  # fmt: skip
                k = np.uint64((level >> 3) * 128 + signs)
                final = mean + ((bias[k] * inverse[np.uint64(seen[k])]) >> 16)
                final = max(np.int64(0), min(final, ceiling)) + 128
                fraction = final & 255
                guess = final >> 8

                # Contexts.
                mask = np.int64(0)
                if background >= 0:
                    mask = (
                        np.int64(w == background) | np.int64(n == background) << 1
                        | np.int64(ne == background) << 2 | np.int64(nw == background) << 3
                    )  # fmt: skip
                    if t > 0:
                        mask |= (
                            np.int64(u == background) << 4 | np.int64(ue == background) << 5
                            | np.int64(us == background) << 6
                        )  # fmt: skip
                    elif mask > 0:
                        mask |= 128
                shade = (whole >> coarse) << 1 | fraction >> 7
                places[0] = starts[0] + level * 40
                places[1] = starts[1] + ((level >> 2 << 5) | shade) * 40
                places[2] = starts[2] + ((level >> 1) * 25 + history) * 40
                if models > 3:
                    west = _ratio(last[predictors], activity)
                    north = _ratio(noise_north[x], activity)
                    above = _ratio(noise_above[x], activity) if t > 0 else np.int64(0)
                    detail = _detail(w, n, ne, nw, u, t == 0, activity)
                    places[3] = starts[3] + ((level >> 2 << 7) | signs) * 40
                    places[4] = starts[4] + ((level >> 1 << 4) | west << 2 | north) * 40
                    places[5] = starts[5] + ((level >> 1 << 5) | above << 3 | detail) * 40

                # The error, decision by decision.
                value = np.int64(0 if decoding else pairs[begin + x * every])
                error = value - guess
                shift = max(np.int64(0), (level - 21) >> 2)
                unit = np.int64(shift == 0)  # else errors are large, and 0 is one of many
                rest = -1 - error if error < 0 else error - unit
                slope = np.int64(24466000) // (activity + 34)
                least = np.int64(0)  # of what `rest` can still be
                step = np.int64(0)
                quotient = np.int64(0)
                negative = np.int64(0)
                offset = np.int64(0)
                group = level >> 4
                decision = (fraction * 3) >> 8
                first = _ZERO if unit else _SIGN
                stage = _MASK if mask > 0 else first
                while stage != _DONE:
                    mixing = decision < mixed and _MASK < stage < _LOW
                    bit = np.int64(0)
                    if not decoding:
                        if stage == _MASK:
                            bit = np.int64(value == background)
                        elif stage == _ZERO:
                            bit = np.int64(error == 0)
                        elif stage == _SIGN:
                            bit = np.int64(error < 0)
                        else:
                            bit = np.int64(rest >= least + step)

                    # Its chance, were errors of the logistic distribution.
                    if models > 3 and mixing:
                        if stage <= _SIGN:
                            part = np.int64(squash[_mark(fraction, slope)])
                            parts = part + squash[_mark(256 * unit - fraction, slope)]
                            if stage == _ZERO:
                                part, parts = 65536 - parts, np.int64(65536)
                        else:
                            part = np.int64(squash[_mark(offset + ((least + step) << 8), slope)])
                            parts = np.int64(squash[_mark(offset + (least << 8), slope)])
                            if stage != _QUOTIENT:
                                end = np.int64(
                                    squash[_mark(offset + ((least + 2 * step) << 8), slope)]
                                )
                                part -= end
                                parts -= end
                        ratio = (max(part, np.int64(0)) << 12) // (parts + 1)
                        inputs[models] = stretch[np.uint64(min(ratio, np.int64(4095)))]

                    # Its chance.
                    line = np.uint64(decision * 4 + group)
                    place = np.uint64(mask if stage == _MASK else places[0] + decision)
                    if mixing:
                        dot = np.int64(0)
                        for i in range(models):
                            context = np.int64(contexts[np.uint64(places[i] + decision)])
                            inputs[i] = stretch[np.uint64(context >> 20)]
                        for i in range(experts):
                            dot += inputs[i] * np.int64(shares[line, i])
                        mark = max(np.int64(0), min((dot >> 16) + 2816, np.int64(5632)))
                        chance = np.int64(squash[np.uint64(mark)])
                    else:
                        chance = np.int64(contexts[place]) >> 16

                    # The coder, without branches where decisions cannot be foreseen.
                    if stage == _LOW:
                        span >>= shift - 2
                        low = rest & ((np.int64(1) << (shift - 2)) - 1)
                        if decoding:
                            low = np.int64(np.uint64(code) // np.uint64(span))
                            low = min(low, (np.int64(1) << (shift - 2)) - 1)
                            code = min(code - low * span, span - 1)
                        else:
                            code += low * span
                        least += low
                        stage = _DONE
                    else:
                        bound = (span >> 16) * max(np.int64(32), min(chance, np.int64(65504)))
                        if decoding:
                            bit = np.int64(code < bound)
                            code -= bound & (bit - 1)
                        else:
                            code += bound & (bit - 1)
                        span = (bound & -bit) | ((span - bound) & (bit - 1))
                    if span < 4294967296:
                        span <<= 16
                        if decoding:
                            code <<= 16
                            if at < words.size:
                                code |= np.int64(words[np.uint64(at)])
                            at += 1
                        else:
                            state[0] = code
                            state[2] = at
                            coder.put(state, words)
                            code = state[0]
                            at = state[2]
                    if stage == _DONE:
                        break

                    # What it teaches.
                    goal = 65535 * bit
                    if mixing:
                        miss = (goal - chance) * 4
                        for i in range(experts):
                            shares[line, i] += (inputs[i] * miss + 131072) >> 18
                        for i in range(models):
                            place = np.uint64(places[i] + decision)
                            context = np.int64(contexts[place])
                            chance = context >> 16
                            chance += ((goal - chance) * rates[np.uint64(context & 65535)]) >> 16
                            contexts[place] = (chance << 16) | min((context & 65535) + 1, 255)
                    else:
                        context = np.int64(contexts[place])
                        chance += ((goal - chance) * rates[np.uint64(context & 65535)]) >> 16
                        contexts[place] = (chance << 16) | min((context & 65535) + 1, 255)

                    # What comes next.
                    if stage == _QUOTIENT:
                        least += step & -bit
                        quotient += bit
                        decision += 1
                        if bit == 0 or quotient == 24:
                            if bit:
                                state[0], state[1], state[2] = code, span, at
                                least = _escape(decoding, state, words, rest >> shift) << shift
                                code, span, at = state[0], state[1], state[2]
                            decision = 28 + min(quotient, np.int64(2))
                            step >>= 1
                            stage = _HIGH if shift > 0 else _DONE
                    elif stage == _SIGN:
                        negative = bit
                        offset = fraction if bit else 256 * unit - fraction
                        step = np.int64(1) << shift
                        decision = np.int64(4)
                        stage = _QUOTIENT
                    elif stage == _ZERO:
                        error = error & (bit - 1)
                        decision = np.int64(3)
                        stage = _DONE if bit else _SIGN
                    elif stage == _MASK:
                        if bit:
                            error = background - guess
                        stage = _DONE if bit else first
                    elif stage == _HIGH:
                        least += step & -bit
                        decision = 31 + 2 * min(quotient, np.int64(2)) + bit
                        step >>= 1
                        stage = _NEXT if shift > 1 else _DONE
                    else:
                        least += step & -bit
                        stage = _LOW if shift > 2 else _DONE
                if decision >= 28:
                    error = -1 - least if negative else least + unit
                value = guess + error
                if value < 0 or value > top:
                    return False
                if are_pairs:
                    pairs[begin + x * every] = value
                else:
                    data[begin + x * every] = value
                here[x + 8] = value

                # Everything learns.
                exact = np.int64(value << 8)
                for j in range(predictors + 1):
                    guessed = predicted[j] if j < predictors else final - 128
                    second[j] = last[j]
                    last[j] = min(abs(exact - guessed) >> 4, np.int64(1 << 20))
                    noises[j, noise_row + x] = last[j]
                wrong[x] = exact - stored
                level_row[x] = level
                much = 448 * abs(error)
                grade = np.int64(much > activity) + np.int64(much > 2 * activity)
                newest = 2 + (grade if error > 0 else -grade)
                history = 5 * newest + older
                older = newest
                bias[k] += exact - mean
                seen[k] += 1
                if seen[k] == 255:
                    bias[k] >>= 1
                    seen[k] >>= 1
            close_row(planes, row, columns)
            for j in range(predictors + 1):
                close_row(noises[j], noise_row, columns)
            if at > words.size + 3:
                return False
            for j in range(predictors - 1):
                height = shapes[j][0]
                if (y + 1) % height and y + 1 < rows:
                    continue
                tile = y // height
                first = tile * height
                learn(
                    planes, row_start(start, first % held, columns), width, local_offsets[j, 1:],
                    local_counts[j, min(t, 2)] - 1, errors[first & 15 :], levels[first & 15 :],
                    gains, y + 1 - first, min(y + 1 - first, max(0, 2 - first)), columns,
                    shapes[j][2], room, samples, latest[j][tile & 1],
                )  # fmt: skip
                block = y // shapes[j][1]
                if t > 1 and ((y + 1) % shapes[j][1] == 0 or y + 1 == rows):
                    fade = True
                    for other in range(block * shapes[j][1] // height, tile + 1):
                        add_sums(past[j][block], latest[j][other & 1], fade)
                        fade = False
        close_plane(planes, start, held, columns)
        for j in range(predictors + 1):
            close_plane(noises[j], quiet, held, columns)
    state[0], state[1], state[2] = code, span, at
    return True


@kernel
def _mark(distance, slope):
    """Return the place in `squash` of a distance from the prediction, in 1/256."""
    return np.uint64(max(np.int64(0), min(2816 - ((distance * slope) >> 16), np.int64(5632))))


@kernel
def _fade(far, leaving, shift):
    """Let the sums of all rows of tiles above fade, with one more among them."""
    a = far.reshape(-1)
    b = leaving.reshape(-1)
    for i in range(a.size):
        a[i] = (np.int64(a[i]) + b[i]) >> shift


@kernel
def _count_near(taps):
    """Return how many taps after N lie in the row of the voxel."""
    near = 0
    while near + 1 < taps.shape[0] and taps[near + 1, 1] == 0 and taps[near + 1, 0] == 0:
        near += 1
    return near
