"""Level `fast`: everything is fitted by the encoder and stored, the decoder only applies it.

One linear predictor for the first slice of a slab and one for the others; contexts made of the
errors around a voxel; one static table of errors for each context; 16 rANS streams, one for every
16th row. Normative in ``spec/codecs/calv.md``, where the words used here are defined.

The decoder takes 16 adjacent rows at once, each three columns behind the one above it, so that all
neighbours are there when they are needed: `_read` says how. The encoder knows all voxels and goes
row by row.

Why no index leaves its array (numba checks none), whatever the section says: places in planes
depend on the shape alone, and `_read` allocates the steps that taps reach beyond the first and the
last. A bin is clipped to 1023 as an unsigned integer, a part has 2 bits, so the index of a first
slot is below 5120; first slots are those of tables that exist, a slot has 12 bits, and all 4096
entries of a table are set, since its frequencies have that sum. The words of all streams lie in one
array; a step takes at most two of each, and no stream goes on past the check after each row if it
has passed its end: words are padded by what goes before that check.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls
# A kernel is one long function: what a voxel needs stays in registers.
# ruff: noqa: C901, PLR0915, PLR0917

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.calv import coder, lanes
from mroi.codecs.calv.compiled import kernel
from mroi.codecs.calv.fitting import BATCH, add_products, solve_normal
from mroi.codecs.calv.planes import (
    close_plane,
    close_row,
    load,
    open_row,
    plane_size,
    row_start,
    stride,
    sum_errors,
)
from mroi.codecs.calv.values import Numbers

__all__ = ["decode", "encode"]

_TAPS = 20  # 10 in the plane, the 3 x 3 around the same place in the slice before, two before
_FIRST = 10  # of them in the first slice of a run
_SECOND = 19  # in the others, but for those of a series from the third on
_ONE = 4096  # 1.0 as a coefficient, and the total of a table
_TOKENS = 128
_DIRECT = 32  # tokens that are a number
_FINE = 3  # the others: 2 to this power for each octave
_FEWEST = _DIRECT.bit_length() - 1 - _FINE  # raw bits after the first of them
_BINS = 1024  # of activity
_PARTS = 4  # of the fraction of a prediction
_SORTS = 5  # of places: a part, or flat
_MAX_CONTEXTS = 64
_NOISE = 65535  # greatest
_FOLD = 1024  # columns of a piece of a list
_SAMPLING = 32  # one voxel in so many shapes the predictor, if there are many
_FEW = 4096  # voxels that shape it at least

_LANES = lanes.LANES
_SKEW = 3  # columns from a row to the one above it, both in decoding
_STEP = _LANES + 2  # places of a step in the decoder's planes: a row before, the lanes, one after
_AHEAD = 8  # steps before the first that taps reach, and more


class _Model(NamedTuple):
    """What the side information of a section says.

    Attributes
    ----------
    coefficients : (3, 20) int32
        In 1/4096, of the first slice of a run, the second, and the others.
    shift, split : int
        From activity to bins; the bin up to which parts count.
    cuts : list of arrays
        The lists of cuts.
    tables : (contexts, 128) int32
        Frequencies of the tokens, of sum 4096.
    counts : (streams,) int64
        Words of each stream.
    """

    coefficients: NDArray[np.int32]
    shift: int
    split: int
    cuts: list[NDArray[np.int64]]
    tables: NDArray[np.int32]
    counts: NDArray[np.int64]


def encode(volume: NDArray[np.int32], top: int, run: int | None = None) -> bytes:
    """Return the section of a slab of numbers from 0 to `top`.

    The slices of a series come in runs of `run`, the same slice of one volume after the other.
    """
    kinds = _kinds(volume.shape[0] if run is None else run, series=run is not None)
    run = volume.shape[0] if run is None else run
    shape = _folded_shape(volume.shape)
    _slices, rows, columns = shape
    last = _last_row(volume.shape)
    alone = _is_list(volume.shape)
    if alone:  # pieces are slices that have none before
        volume = np.pad(volume.reshape(-1), (0, columns - last), "edge").reshape(rows, 1, columns)
    coefficients = _fit(volume, alone, run, kinds)
    # One piece of memory: the system gives what is large in large pages, which takes less time.
    room = np.empty((3, volume.size + 2 * _LANES), np.int32)
    numbers, activity = room[:2, : volume.size]
    words = room[2].view(np.uint16)
    sorts = np.empty(volume.size, np.uint8)
    _predict(volume, alone, run, kinds, coefficients, top, numbers, activity, sorts)
    shift = _shift(activity)
    levels = int(_LEVELS[-1]) + 1
    histograms = np.zeros((2, levels, _SORTS, _TOKENS), np.int64)
    fine = np.empty(volume.size, np.uint8)
    coded = volume.size - columns + last
    _count(numbers, activity, sorts, shift, _LEVELS, coded, fine, histograms)
    histogram = histograms.sum(axis=0)
    first_bin = np.searchsorted(_LEVELS, np.arange(levels))
    split, cuts = _merge(histogram, first_bin)
    context_of = _context_map(split, cuts)[first_bin].ravel()
    tables = np.zeros((int(context_of.max()) + 1, _TOKENS), np.int32)
    _tabulate(histogram, context_of, tables)
    bounds = np.zeros((min(_LANES, rows), 2), np.int64)
    _write(numbers, fine, context_of, tables, shape, last, words, bounds)
    counts = bounds[:, 1] - bounds[:, 0]
    side = _write_side(_Model(coefficients, shift, split, cuts, tables, counts), kinds)
    streams = [words[start:stop].astype("<u2").tobytes() for start, stop in bounds]
    return b"".join((len(side).to_bytes(4, "little"), side, *streams))


def decode(
    section: memoryview,
    out: Numbers,
    shape: tuple[int, int, int],
    slices: int,
    top: int,
    run: int | None = None,
) -> bool:
    """Fill `out`, of `shape`, the first of so many slices; return whether the section is sound."""
    kinds = _kinds(slices if run is None else run, series=run is not None)
    start = 4 + int.from_bytes(section[:4], "little")
    if start < 10 or start > len(section) or start % 2 or len(section) % 2:
        return False
    last = _last_row(shape)
    alone = _is_list((slices, *shape[1:]))
    folded = _folded_shape(shape) if alone else shape
    octets = np.frombuffer(section, np.uint8)
    sound = _decode(
        octets[4:start], octets[start:], top, alone, last, slices if run is None else run, kinds,
        shape[0] == slices, coder.RATES, folded, out,
    )  # fmt: skip
    return bool(sound)


def _is_list(shape: tuple[int, ...]) -> bool:
    """Return whether a chunk is one long row: it is coded in pieces that do not know each other."""
    return shape[:2] == (1, 1) and shape[2] > _FOLD


def _folded_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that a chunk is coded in: pieces of a list are rows."""
    return (1, -(-shape[2] // _FOLD), _FOLD) if _is_list(shape) else shape


def _last_row(shape: tuple[int, ...]) -> int:
    """Return how many voxels the last row of a plane has."""
    return (shape[2] - 1) % _FOLD + 1 if _is_list(shape) else shape[2]


def _kinds(run: int, *, series: bool) -> int:
    """Return how many predictors there are: slices two before are used in series alone."""
    return min(run, 3 if series else 2)


# --- prediction ---


def _fit(volume: NDArray[np.int32], alone: bool, run: int, kinds: int) -> NDArray[np.int32]:  # noqa: FBT001
    """Return the coefficients of each kind of slice in 1/4096, (3, 20).

    If slices are `alone`, all are like the first.
    """
    normal = np.zeros((3, _TAPS, _TAPS))
    _accumulate(volume, alone, run, kinds, normal)
    result = np.zeros((3, _TAPS), np.int32)
    for kind, taps in enumerate((_FIRST, _SECOND, _TAPS)[: 1 if alone else kinds]):
        result[kind, :taps] = _solve(normal[kind], taps)
    return result


def _solve(normal: NDArray[np.float64], taps: int) -> NDArray[np.int64]:
    """Return the coefficients, of sum 1, that fit a lower triangle of normal equations.

    Unknowns are all taps but N, which the values were taken relative to.
    """
    others = solve_normal(normal[:taps, :taps], 1e-6, 1.9, _ONE)
    excess = np.abs(others).sum() / (3 * _ONE)
    if excess > 1:  # the sum of the magnitudes of all must stay below 8
        others = (others / excess).astype(np.int64)
    return np.concatenate([others[:1], [_ONE - others.sum()], others[1:]])


@kernel
def _accumulate(volume, alone, run, kinds, normal):
    """Add up the normal equations, each voxel weighted the less the more detail is around."""
    slices, rows, columns = volume.shape
    width = stride(columns)
    size = plane_size(rows, columns)
    ring = 3 if kinds == 3 else 2
    planes = np.zeros(min(slices, ring) * size, np.int32)
    samples = np.zeros((_TAPS, BATCH))
    weighted = np.zeros((_TAPS, BATCH))
    one, two, wide = np.uint64(1), np.uint64(2), np.uint64(width)
    for s in range(slices):
        start = s % ring * size
        up = np.uint64(((s + ring - 1) % ring - s % ring) * size)
        up2 = np.uint64(((s + ring - 2) % ring - s % ring) * size)
        load(volume, s, planes, start)
        first = s % run == 0 or alone
        kind = 0 if first else min(s % run, kinds - 1)
        taps = _FIRST if first else _SECOND if kind == 1 else _TAPS
        dense = s == 0 or (first and not alone)
        step = max(1, min(_SAMPLING, volume.size // _FEW) // (4 if dense else 1))
        k = 0
        for y in range(rows):
            for x in range((5 * y + 3 * s) % step, columns, step):
                p = np.uint64(row_start(start, y, columns) + x)
                n = planes[p - wide]
                w = planes[p - one] - n
                nw = planes[p - wide - one] - n
                ne = planes[p - wide + one] - n
                nn = planes[p - wide - wide] - n
                detail = abs(w - nw) + abs(nw) + abs(ne) + abs(nn)
                samples[0, k] = w
                samples[1, k] = nw
                samples[2, k] = ne
                samples[3, k] = planes[p - two] - n
                samples[4, k] = nn
                samples[5, k] = planes[p - wide - two] - n
                samples[6, k] = planes[p - wide + two] - n
                samples[7, k] = planes[p - wide - wide - one] - n
                samples[8, k] = planes[p - wide - wide + one] - n
                if not first:
                    q = p + up
                    uw = planes[q - one] - n
                    un = planes[q - wide] - n
                    une = planes[q - wide + one] - n
                    detail += abs(w - uw) + abs(un) + abs(ne - une)
                    samples[9, k] = planes[q] - n
                    samples[10, k] = uw
                    samples[11, k] = un
                    samples[12, k] = planes[q + one] - n
                    samples[13, k] = planes[q + wide] - n
                    samples[14, k] = planes[q - wide - one] - n
                    samples[15, k] = une
                    samples[16, k] = planes[q + wide - one] - n
                    samples[17, k] = planes[q + wide + one] - n
                    if kind == 2:
                        samples[18, k] = planes[p + up2] - n
                samples[taps - 1, k] = planes[p] - n
                weight = 1.0 / (detail * math.sqrt(detail) + 30.0)
                for i in range(taps):
                    weighted[i, k] = weight * samples[i, k]
                k += 1
                if k == BATCH:
                    add_products(weighted, samples, k, taps, normal[kind])
                    k = 0
        add_products(weighted, samples, k, taps, normal[kind])


@kernel
def _sum_taps(c, planes, p, up, up2, width, kind, sums):
    """Sum what the rows and the slices before give to the prediction of each voxel of a row.

    Places are those of `sum_errors`.
    """
    n = p - width
    m = n - width
    one, two = np.uint64(1), np.uint64(2)
    count = np.uint64(sums.size)
    c1, c2, c3, c5, c6, c7, c8, c9 = c[1], c[2], c[3], c[5], c[6], c[7], c[8], c[9]
    for x in range(count):
        sums[x] = (
            c6 * planes[n + x - two] + c2 * planes[n + x - one] + c1 * planes[n + x]
            + c3 * planes[n + x + one] + c7 * planes[n + x + two]
            + c8 * planes[m + x - one] + c5 * planes[m + x] + c9 * planes[m + x + one]
        )  # fmt: skip
    if kind == 0:
        return
    u = p + up
    a = u - width
    b = u + width
    a0, a1, a2, a3, a4 = c[15], c[12], c[16], c[11], c[10]
    a5, a6, a7, a8 = c[13], c[17], c[14], c[18]
    for x in range(count):
        sums[x] += (
            a0 * planes[a + x - one] + a1 * planes[a + x] + a2 * planes[a + x + one]
            + a3 * planes[u + x - one] + a4 * planes[u + x] + a5 * planes[u + x + one]
            + a6 * planes[b + x - one] + a7 * planes[b + x] + a8 * planes[b + x + one]
        )  # fmt: skip
    if kind == 2:
        for x in range(count):
            sums[x] += c[19] * planes[p + up2 + x]


@kernel
def _predict(volume, alone, run, kinds, coefficients, top, numbers, activity, sorts):
    """Predict each voxel: the number of its error, the activity around it, the sort of its place.

    The results have one axis.
    """
    slices, rows, columns = volume.shape
    width = np.uint64(stride(columns))
    size = plane_size(rows, columns)
    ring = 3 if kinds == 3 else 2
    planes = np.zeros(min(slices, ring) * size, np.int32)
    noise = np.zeros(min(slices, ring) * size, np.int32)
    sums = np.zeros(columns, np.int32)
    activities = np.zeros(columns, np.int32)
    ceiling = np.int32(top << 12)
    one, two, count = np.uint64(1), np.uint64(2), np.uint64(columns)
    k = np.uint64(0)
    for s in range(slices):
        start = s % ring * size
        up = np.uint64(((s + ring - 1) % ring - s % ring) * size)
        up2 = np.uint64(((s + ring - 2) % ring - s % ring) * size)
        load(volume, s, planes, start)
        first = s % run == 0 or alone
        kind = 0 if first else min(s % run, kinds - 1)
        c = coefficients[kind]
        west, far = c[0], c[4]
        for y in range(rows):
            row = row_start(start, y, columns)
            p = np.uint64(row)
            open_row(noise, row, columns)
            _sum_taps(c, planes, p, up, up2, width, kind, sums)
            sum_errors(noise, p, up, width, first, activities)
            for x in range(count):
                exact = np.int32(sums[x] + west * planes[p + x - one] + far * planes[p + x - two])
                sums[x] = max(np.int32(0), min(exact, ceiling))
            for x in range(count):
                error = np.int32(planes[p + x] - (np.int32(sums[x] + 2048) >> 12))
                numbers[k + x] = (error << 1) ^ (error >> 31)
            for x in range(count):
                off = np.int32((planes[p + x] << 12) - sums[x])
                noise[p + x] = min(max(off, np.int32(-off)) >> 8, _NOISE)
            u = p - width if first else p + up
            for x in range(count):
                w = planes[p + x - one]
                flat = (
                    (w == planes[p + x - width]) & (w == planes[p + x - width + one])
                    & (w == planes[u + x])
                )  # fmt: skip
                sorts[k + x] = _PARTS if flat else (np.int32(sums[x] + 2048) >> 10) & 3
            scale = 2 if first else 1
            for x in range(count):
                near = 2 * noise[p + x - one] + noise[p + x - two]
                activity[k + x] = activities[x] + scale * near
            k += count
            close_row(noise, row, columns)
        close_plane(noise, start, rows, columns)


# --- contexts and tables, chosen by the encoder ---


def _fine_levels() -> NDArray[np.uint8]:
    """Return the fine level of each bin of activity: single bins first, then five an octave."""
    starts = np.unique(np.rint(2 ** np.arange(0, 10, 0.2)).astype(np.int64))
    return np.searchsorted(starts, np.arange(_BINS), side="right").astype(np.uint8)


_LEVELS = _fine_levels()


def _shift(activity: NDArray[np.int32]) -> int:
    """Return how far to shift activities so that nearly all of them fall into bins."""
    sample = activity[:: 1 + activity.size // 8192]
    high = int(np.partition(sample, -1 - sample.size // 1000)[-1 - sample.size // 1000])
    return max(0, (high // (_BINS - 24)).bit_length())


def _token_of(number: int) -> int:
    """Return the token of a number."""
    if number < _DIRECT:
        return number
    bits = number.bit_length() - 1 - _FINE
    return _DIRECT + ((bits - _FEWEST) << _FINE) + ((number >> bits) & ((1 << _FINE) - 1))


_SMALL = 1024
_SMALL_TOKENS = np.array([_token_of(number) for number in range(_SMALL)], np.uint8)


@kernel
def _token(number):
    """Return the token of an unsigned number below 2^17, unsigned."""
    if number < np.uint64(_SMALL):
        return np.uint64(_SMALL_TOKENS[number])
    bits = np.uint64(1)
    while number >> bits >= np.uint64(_SMALL):
        bits += np.uint64(1)
    return np.uint64(_SMALL_TOKENS[number >> bits]) + (bits << np.uint64(_FINE))


@kernel
def _raw_bits(token):
    """Return how many raw bits follow a token."""
    return ((token - _DIRECT) >> _FINE) + _FEWEST if token >= _DIRECT else 0


@kernel
def _count(numbers, activity, sorts, shift, levels, coded, fine, histograms):
    """Count the tokens of each fine context: a level of activity and a sort.

    There are two histograms, taken in turn: to count the same twice takes time.
    """
    flat = histograms.reshape(-1)
    half = np.uint64(flat.size // 2)
    for k in range(np.uint64(coded)):
        level = levels[np.uint64(min(activity[k] >> shift, _BINS - 1))]
        context = np.uint64(_SORTS * level + sorts[k])
        fine[k] = context
        token = _token(np.uint64(numbers[k]))
        flat[(k & np.uint64(1)) * half + context * np.uint64(_TOKENS) + token] += 1


_LOGS = np.arange(2048) * np.log2(np.maximum(1, np.arange(2048)))


@kernel
def _times_log(n):
    """Return n times the binary logarithm of n."""
    return _LOGS[n] if n < 2048 else n * math.log2(n)


@kernel
def _cost(histogram, i, j):
    """Return about how many bits two levels cost in one context: tokens and table.

    A context costs something beyond its bits: its table takes time and cache.
    """
    total = np.int64(0)
    cost = 0.0
    for t in range(histogram.shape[1]):
        n = histogram[i, t]
        if j != i:
            n += histogram[j, t]
        if n > 0:
            total += n
            cost += 6.0 - _times_log(n)
    if total == 0:
        return 0.0
    return cost + _times_log(total) + 100.0


@kernel
def _gain(histogram, costs, i, j):
    """Return how many bits it saves to merge two levels."""
    return costs[i] + costs[j] - _cost(histogram, i, j)


@kernel
def _join(histogram, starts, costs, gains):
    """Merge neighbouring levels while it pays; `starts` marks the levels that begin a context.

    Returns the cost of what is left. `histogram` (levels, tokens) is added up in place.
    """
    levels = histogram.shape[0]
    for i in range(levels):
        starts[i] = 1
        costs[i] = _cost(histogram, i, i)
    for i in range(levels - 1):
        gains[i] = _gain(histogram, costs, i, i + 1)
    while True:
        best = 0
        for i in range(levels - 1):
            if starts[i] and gains[i] > gains[best]:
                best = i
        joined = best + 1
        while joined < levels and starts[joined] == 0:
            joined += 1
        if joined >= levels or gains[best] < 0:
            break
        for t in range(histogram.shape[1]):
            histogram[best, t] += histogram[joined, t]
        costs[best] = _cost(histogram, best, best)
        costs[joined] = 0.0
        starts[joined] = 0
        after = joined + 1
        while after < levels and starts[after] == 0:
            after += 1
        gains[best] = -1.0
        if after < levels:
            gains[best] = _gain(histogram, costs, best, after)
        before = best - 1
        while before >= 0 and starts[before] == 0:
            before -= 1
        if before >= 0:
            gains[before] = _gain(histogram, costs, before, best)
    total = 0.0
    for i in range(levels):
        total += costs[i]
    return total


def _merge(
    histogram: NDArray[np.int64], first_bin: NDArray[np.int64]
) -> tuple[int, list[NDArray[np.int64]]]:
    """Choose the contexts: the bin up to which parts count, and the cuts of each list."""
    levels = histogram.shape[0]
    used = int(np.flatnonzero(histogram.any(axis=(0, 1)))[-1]) + 1
    histogram = histogram[:, :, :used]
    outer = histogram[:, :_PARTS].sum(axis=1)
    flat = _cuts(histogram[:, _PARTS], first_bin)[1]
    best = (np.inf, 0, [np.zeros(0, np.int64), np.zeros(0, np.int64)])
    for split in (0, levels // 5, 2 * levels // 5, 3 * levels // 5):
        found = [
            _cuts(histogram[:split, part], first_bin) for part in range(_PARTS if split else 0)
        ]
        found.append(_cuts(outer[split:], first_bin[split:]))
        cost = sum(cost for cost, _ in found)
        cuts = [*(inner for _, inner in found), flat]
        if sum(inner.size + 1 for inner in cuts) <= _MAX_CONTEXTS and cost < best[0]:
            best = (cost, int(first_bin[split]), cuts)
    return best[1], best[2]


def _cuts(
    histogram: NDArray[np.int64], first_bin: NDArray[np.int64]
) -> tuple[float, NDArray[np.int64]]:
    """Return the bits that some levels cost in contexts of their own, and where these begin."""
    levels = histogram.shape[0]
    starts = np.zeros(levels, np.int64)
    cost = _join(histogram.copy(), starts, np.zeros(levels), np.full(levels, -1.0))
    return cost, first_bin[np.flatnonzero(starts)[1:]]


def _context_map(split: int, cuts: list[NDArray[np.int64]]) -> NDArray[np.uint8]:
    """Return the context of each bin and sort, (bins, 5); contexts are numbered list by list."""
    result = np.empty((_BINS, _SORTS), np.uint8)
    lists: list[tuple[int, int, int | slice]] = [(0, split, part) for part in range(_PARTS)]
    lists = [*(lists if split else []), (split, _BINS, slice(_PARTS)), (0, _BINS, _PARTS)]
    count = 0
    for (low, high, sorts), inner in zip(lists, cuts, strict=True):
        contexts = count + np.searchsorted(inner, np.arange(low, high), side="right")
        result[low:high, sorts] = contexts if isinstance(sorts, int) else contexts[:, np.newaxis]
        count += len(inner) + 1
    return result


@kernel
def _tabulate(histogram, context_of, tables):
    """Add up the fine contexts of each context; scale to 4096, at least 1 for what occurs."""
    levels, sorts, tokens = histogram.shape
    counts = np.zeros(tables.shape, np.int64)
    for i in range(levels * sorts):
        for t in range(tokens):
            counts[context_of[i], t] += histogram[i // sorts, i % sorts, t]
    for c in range(tables.shape[0]):
        total = counts[c].sum()
        table = tables[c]
        if total == 0:
            table[0] = _ONE
            continue
        left = np.int64(_ONE)
        for t in range(tokens):
            if counts[c, t] > 0:
                table[t] = max(1, (counts[c, t] * _ONE + total // 2) // total)
                left -= table[t]
        while left != 0:  # one step where it saves most, or costs least
            sign = 1 if left > 0 else -1
            best = -1
            most = -np.inf
            for t in range(tokens):
                if table[t] + sign > 0 and counts[c, t] > 0:
                    gain = counts[c, t] * math.log2((table[t] + sign) / table[t])
                    if gain > most:
                        best = t
                        most = gain
            table[best] += sign
            left -= sign


# --- side information ---

_NUMBER = 21  # contexts of an adaptive number
_GROUPS = 20  # of contexts


def _write_side(model: _Model, kinds: int) -> bytes:
    layout = np.concatenate([[len(inner), *inner] for inner in model.cuts]).astype(np.int64)
    state, words = coder.open_writer(2 * model.tables.size + 1024)
    contexts = np.full(_GROUPS * _NUMBER, 1 << 31, np.int64)
    head = np.array([model.shift, model.split], np.int64)
    _code_side(
        False, state, words, contexts, model.coefficients, kinds, head, layout, coder.RATES  # noqa: FBT003
    )  # fmt: skip
    _code_tables(
        False, state, words, contexts, model.tables, model.counts, coder.RATES  # noqa: FBT003
    )  # fmt: skip
    written = coder.close(state, words)
    assert written is not None
    return written.astype("<u2").tobytes()


@kernel
def _code_side(decoding, state, words, contexts, coefficients, kinds, head, layout, rates):
    """Code coefficients, shift, split bin and cuts; return whether they are sound."""
    for kind in range(kinds):
        taps = _FIRST if kind == 0 else _SECOND if kind == 1 else _TAPS
        total = np.int64(0)
        magnitude = np.int64(0)
        for i in range(taps):
            if i == 1:
                continue
            value = np.int64(coefficients[kind, i])
            number = (value << 1) ^ (value >> 63)
            number = coder.adaptive_number(
                decoding, state, words, contexts, np.int64(0), number, rates
            )
            value = (number >> 1) ^ -(number & 1)
            if decoding:
                coefficients[kind, i] = value
            total += value
            magnitude += abs(value)
        if decoding:
            coefficients[kind, 1] = 4096 - total
        if magnitude + abs(4096 - total) > 32767:
            return False
    for i in range(2):
        head[i] = coder.adaptive_number(
            decoding, state, words, contexts, np.int64(21 * (1 + i)), head[i], rates
        )
    split = head[1]
    if head[0] > 20 or split >= 1024:
        return False
    at = 0
    count = 0
    for i in range(0 if split > 0 else _PARTS, _PARTS + 2):
        size = coder.adaptive_number(
            decoding, state, words, contexts, np.int64(63), layout[at], rates
        )
        count += size + 1
        if count > 64:
            return False
        layout[at] = size
        before = split if i == _PARTS else np.int64(0)
        end = split if i < _PARTS else np.int64(_BINS)
        for j in range(at + 1, at + 1 + size):
            before += 1 + coder.adaptive_number(
                decoding, state, words, contexts, np.int64(84), layout[j] - before - 1, rates
            )
            if before >= end:
                return False
            layout[j] = before
        at += 1 + size
    return True


@kernel
def _bit_length(n):
    length = 0
    while n >> length > 0:
        length += 1
    return length


@kernel
def _code_frequency(decoding, state, words, contexts, near, value, rates):
    """Code a number below 8192: how its bit length differs from another's, then its bits."""
    length = _bit_length(near)
    first = 126 + 21 * length
    goal = _bit_length(value)
    if length == 0 or coder.adaptive(
        decoding, state, words, contexts, first, np.int64(goal >= length), rates
    ):
        i = first + 1
        while length < 13 and coder.adaptive(
            decoding, state, words, contexts, i, np.int64(goal > length), rates
        ):
            length += 1
            i += 1
    else:
        i = first + 20
        length -= 1
        while length > 0 and coder.adaptive(
            decoding, state, words, contexts, i, np.int64(goal < length), rates
        ):
            length -= 1
            i -= 1
    if length < 2:
        return np.int64(length)
    top = np.int64(1) << (length - 1)
    return top | coder.uniform(decoding, state, words, np.int64(length - 1), value & (top - 1))


@kernel
def _code_tables(decoding, state, words, contexts, tables, counts, rates):
    """Code the tables, each until its total is reached, and the words of each stream.

    Returns whether the tables are sound.
    """
    for c in range(tables.shape[0]):
        left = np.int64(_ONE)
        for t in range(_TOKENS):
            near = np.int64(0)
            if t > 0:
                near = np.int64(tables[c, t - 1])
            if t > 1:
                near = (near + tables[c, t - 2] + 1) >> 1
            n = _code_frequency(
                decoding, state, words, contexts, near, np.int64(tables[c, t]), rates
            )
            if n > left:
                return False
            if decoding:
                tables[c, t] = n
            left -= n
            if left == 0:
                break
        if left > 0:
            return False
    for j in range(counts.size):
        high = coder.adaptive_number(
            decoding, state, words, contexts, np.int64(105), counts[j] >> 16, rates
        )
        low = coder.uniform(decoding, state, words, np.int64(16), counts[j] & 65535)
        counts[j] = (high << 16) | low
    return True


# --- entropy coding ---


@kernel
def _write(numbers, fine, context_of, tables, shape, last, words, bounds):
    """Write the stream of each lane, backwards; give where it begins and ends in `words`."""
    slices, rows, columns = shape
    streams = bounds.shape[0]
    inverses = np.zeros(tables.size, np.uint64)  # 2^44 / frequency, rounded up: that is exact
    shares = np.zeros(tables.size, np.uint64)  # first slot, frequency, raw bits
    for c in range(tables.shape[0]):
        slot = np.uint64(0)
        for t in range(_TOKENS):
            i = c * _TOKENS + t
            frequency = np.uint64(tables[c, t])
            bits = np.uint64(_raw_bits(t))
            shares[i] = slot << np.uint64(32) | frequency << np.uint64(8) | bits
            if frequency > 0:
                inverses[i] = ((np.uint64(1) << np.uint64(44)) - np.uint64(1)) // frequency
                inverses[i] += np.uint64(1)
            slot += frequency
    states = np.full(_LANES, 1 << 16, np.uint64)
    places = np.zeros(_LANES, np.uint64)
    end = 0
    for j in range(streams):
        # A voxel takes at most two words, a state two; a word more is written and not kept.
        end += 2 * slices * columns * ((rows - j + _LANES - 1) // _LANES) + 3
        places[j] = end
        bounds[j, 1] = end
    one, half, whole = np.uint64(1), np.uint64(16), np.uint64(32)
    for s in range(slices - 1, -1, -1):
        for group in range((rows - 1) // _LANES * _LANES, -1, -_LANES):
            taken = min(_LANES, rows - group)
            first = (s * rows + group) * columns
            for x in range(columns - 1, -1, -1):
                short = group + taken == rows and x >= last
                for j in range(np.uint64(taken - short)):
                    k = np.uint64(first + x) + j * np.uint64(columns)
                    number = np.uint64(numbers[k])
                    i = np.uint64(context_of[fine[k]]) * np.uint64(_TOKENS) + _token(number)
                    share = shares[i]
                    state = states[j]
                    place = places[j]
                    # Without branches, which would be guessed wrong.
                    bits = share & np.uint64(15)
                    full = np.uint64(state >> (whole - bits) > 0)
                    words[place - one] = state
                    place -= full
                    state >>= half * full
                    state = (state << bits) | (number & ((one << bits) - one))
                    frequency = (share >> np.uint64(8)) & np.uint64(0x1FFF)
                    full = np.uint64(state >> np.uint64(20) >= frequency)
                    words[place - one] = state
                    place -= full
                    state >>= half * full
                    quotient = (state * inverses[i]) >> np.uint64(44)
                    states[j] = state + quotient * (np.uint64(_ONE) - frequency) + (share >> whole)
                    places[j] = place
    for j in range(streams):
        words[places[j] - one] = states[j]
        words[places[j] - one - one] = states[j] >> half
        bounds[j, 0] = np.int64(places[j]) - 2


@kernel
def _decode(side, streams, top, alone, last, run, kinds, whole, rates, shape, out):
    """Decode slices from the side information and the streams; return whether all is sound.

    One kernel does everything, so that a thread has the GIL only between chunks.
    """
    words = _to_words(side, 0)
    state = coder.open_reader(words)
    contexts = np.full(_GROUPS * _NUMBER, 1 << 31, np.int64)
    coefficients = np.zeros((3, _TAPS), np.int32)
    head = np.zeros(2, np.int64)
    layout = np.zeros(_MAX_CONTEXTS + 8, np.int64)
    decoding = True
    if not _code_side(decoding, state, words, contexts, coefficients, kinds, head, layout, rates):
        return False
    first_slots = np.empty((_PARTS + 1) * _BINS, np.int32)
    used = _map_contexts(head[1], layout, first_slots)
    tables = np.zeros((used, _TOKENS), np.int32)
    counts = np.zeros(min(_LANES, shape[1]), np.int64)
    if not _code_tables(decoding, state, words, contexts, tables, counts, rates):
        return False
    if state[2] != words.size or state[0] != 0 or 2 * counts.sum() != streams.size:
        return False
    entries = np.empty(used * _ONE, np.uint32)
    _build(tables, entries)
    # At most two words a step; checked after the steps of a row and the lag of the last lane.
    words = _to_words(streams, 2 * (shape[2] + _SKEW * _LANES + 4))
    lanes_of = np.zeros((3, _LANES), np.int32)  # next word, end, state
    at = np.int64(0)
    for j in range(counts.size):
        lanes_of[0, j] = at + 2
        lanes_of[2, j] = np.int32(np.uint32(words[at]) << np.uint32(16) | np.uint32(words[at + 1]))
        at += counts[j]
        lanes_of[1, j] = at
    sound = _read(
        words, lanes_of, entries, first_slots, head[0], coefficients, top, alone, last, run,
        kinds, shape, out,
    )  # fmt: skip
    if sound and whole:
        for j in range(counts.size):
            sound &= lanes_of[0, j] == lanes_of[1, j] and lanes_of[2, j] == 1 << 16
    return sound


@kernel
def _to_words(octets, more):
    """Return the words of little-endian octets, and zeros after them."""
    words = np.zeros(octets.size // 2 + more, np.uint16)
    for i in range(np.uint64(octets.size // 2)):
        two = np.uint64(2) * i
        words[i] = np.uint16(octets[two]) | np.uint16(octets[two + np.uint64(1)]) << np.uint16(8)
    return words


@kernel
def _map_contexts(split, layout, first_slots):
    """Find the first slot of each place: bin and part, then bins that are flat.

    Returns how many contexts there are. Places are as in `_context_map`, the lists as coded.
    """
    at = 0
    count = 0
    for i in range(0 if split > 0 else _PARTS, _PARTS + 2):
        size = layout[at]
        inner = 0
        for b in range(split if i == _PARTS else 0, split if i < _PARTS else _BINS):
            while inner < size and layout[at + 1 + inner] <= b:
                inner += 1
            slot = (count + inner) << 12
            if i < _PARTS:
                first_slots[_PARTS * b + i] = slot
            elif i == _PARTS:
                for part in range(_PARTS):
                    first_slots[_PARTS * b + part] = slot
            else:
                first_slots[_PARTS * _BINS + b] = slot
        count += size + 1
        at += 1 + size
    return count


@kernel
def _build(tables, entries):
    """Lay out the 4096 slots of each table: token, frequency less 1, place within it."""
    for c in range(tables.shape[0]):
        slot = c * _ONE
        for t in range(_TOKENS):
            frequency = tables[c, t]
            entry = (t << 24) | ((frequency - 1) << 12)
            for i in range(frequency):
                entries[slot + i] = entry + i
            slot += frequency


@kernel
def _read(words, streams, entries, first_slots, shift, coefficients, top, alone, last, run, kinds,
          shape, out):  # fmt: skip
    """Decode slices into `out`; return whether they are sound. Rows may be `alone`: nothing above.

    Lane j decodes the rows j, j + 16, ... of a slice one after the other: in step t it is at
    column t - 3j of them. A row takes `period` steps: its columns, two for the margin right of it
    and two for the margin left of the next, more if there are few columns. What the lanes give in
    a step is stored side by side in a plane of steps, so that a tap of the slice before is at a
    fixed distance. For that, lane -1 of a step holds what lane 15 gave `lag` before, which is the
    row above lane 0, and lane 16 what lane 0 will give as much later, the row below lane 15. Taps
    of the same slice are kept in registers: what was just stored cannot be loaded soon.
    """
    slices, rows, columns = shape
    period = max(columns + 4, _SKEW * _LANES)
    lag = (period - _SKEW * _LANES) * _STEP
    groups = (rows + _LANES - 1) // _LANES
    ends = np.zeros(_LANES, np.int32)  # of each lane: voxels, and margins between them
    begins = np.zeros(_LANES, np.int32)  # its column in the first step
    offsets = np.zeros(_LANES, np.int32)  # its steps until then
    steps = 0
    for j in range(_LANES):
        own = (rows - j + _LANES - 1) // _LANES
        begins[j] = -_SKEW * j % period
        offsets[j] = -_SKEW * j
        if own > 0:
            lacking = columns - last if j == (rows - 1) % _LANES else 0
            ends[j] = (own - 1) * period + columns - lacking
            steps = max(steps, (own - 1) * period + _SKEW * j + columns + 2)
    # A single slice needs the last period only.
    held = steps if slices > 1 else min(steps, 2 * period + _SKEW * _LANES)
    ahead = lag + _AHEAD * _STEP
    size = ahead + (held + _SKEW + 3) * _STEP
    ring = 3 if kinds == 3 else 2
    planes = np.zeros(min(slices, ring) * size, np.uint16)
    noise = np.zeros(min(slices, ring) * size, np.uint16)
    end = lanes.load(ends, 0)
    flat_streams = streams.reshape(-1)
    place = lanes.load(flat_streams, 0)
    limit = lanes.load(flat_streams, _LANES)
    state = lanes.load(flat_streams, 2 * _LANES)
    nothing = lanes.spread(0)
    wrong = nothing
    highest = lanes.spread(top)
    ceiling = lanes.spread(top << 12)
    for s in range(slices):
        zero = s % ring * size + ahead + 1  # where lane 0 of step 0 is
        up = ((s + ring - 1) % ring - s % ring) * size
        up2 = ((s + ring - 2) % ring - s % ring) * size
        kind = min(s % run, kinds - 1)
        c = coefficients[kind]
        column = lanes.load(begins, 0)
        position = lanes.load(offsets, 0)
        w1 = w2 = e1 = e2 = nothing
        n1 = n2 = n3 = n4 = n5 = m1 = m2 = m3 = nothing  # rows above, from the right
        f0 = f1 = f2 = f3 = f4 = nothing  # noise above
        for group in range(groups):
            stop = (group + 1) * period if group < groups - 1 else steps
            for t in range(group * period, stop):
                p = zero + t * _STEP
                q = p - lag + _LANES
                n5, n4, n3, n2 = n4, n3, n2, n1
                n1 = lanes.slide(w1, np.int64(planes[np.uint64(p - _STEP - 1)]))
                m3, m2 = m2, m1
                m1 = lanes.slide(n5, np.int64(planes[np.uint64(q - 5 * _STEP - 2)]))
                g = lanes.slide(f4, np.int64(noise[np.uint64(q - 6 * _STEP - 2)]))
                f4, f3, f2, f1 = f3, f2, f1, f0
                f0 = lanes.slide(e1, np.int64(noise[np.uint64(p - _STEP - 1)]))
                if alone:
                    n1 = m1 = f0 = g = nothing
                exact = (
                    n5 * c[6] + n4 * c[2] + n3 * c[1] + n2 * c[3] + n1 * c[7]
                    + m3 * c[8] + m2 * c[5] + m1 * c[9]
                )  # fmt: skip
                activity = f3 + f2 * 2 + f1 + g
                before = n3
                if kind > 0:
                    u = p + up
                    un = u - _SKEW * _STEP - 1
                    us = u + _SKEW * _STEP + 1
                    before = lanes.load(planes, u)
                    exact = exact + (
                        lanes.load(planes, un - _STEP) * c[15] + lanes.load(planes, un) * c[12]
                        + lanes.load(planes, un + _STEP) * c[16]
                        + lanes.load(planes, u - _STEP) * c[11] + before * c[10]
                        + lanes.load(planes, u + _STEP) * c[13]
                        + lanes.load(planes, us - _STEP) * c[17] + lanes.load(planes, us) * c[14]
                        + lanes.load(planes, us + _STEP) * c[18]
                    )  # fmt: skip
                    if kind == 2:
                        exact = exact + lanes.load(planes, p + up2) * c[19]
                    activity = activity + (
                        lanes.load(noise, un) + lanes.load(noise, u - _STEP)
                        + lanes.load(noise, u) * 2 + lanes.load(noise, u + _STEP)
                        + lanes.load(noise, us)
                    ) + (e1 * 2 + e2)  # fmt: skip
                else:
                    activity = (activity + (e1 * 2 + e2)) * 2
                exact = exact + (w2 * c[4] + w1 * c[0])
                exact = lanes.lower(lanes.higher(exact, 0), ceiling)
                rounded = exact + 2048
                where = lanes.lowest(lanes.shift(activity, shift), _BINS - 1)
                flat = (w1 == n3) & (w1 == n2) & (w1 == before)
                part = (where << 2) | ((rounded >> 10) & 3)
                where = lanes.select(flat, where + _PARTS * _BINS, part)
                slot = state & (_ONE - 1)
                entry = lanes.gather_through(first_slots, where, entries, slot)

                inside = lanes.below(position, end) & (column < columns)
                number = lanes.shift(entry, 24)
                share = lanes.shift(state, 12)
                after = share * (lanes.shift(entry, 12) & 4095) + share + (entry & 4095)
                need = inside & lanes.below(after, 65536)
                after = lanes.select(need, (after << 16) | lanes.gather(words, place), after)
                place = place + lanes.ones(need)
                coarse = inside & (number > _DIRECT - 1)
                if lanes.any_true(coarse):
                    bits = lanes.shift(number - _DIRECT, _FINE) + _FEWEST
                    bits = lanes.select(coarse, bits, 0)
                    rest = after & ((lanes.spread(1) << bits) - 1)
                    rest = rest | (((number & ((1 << _FINE) - 1)) | (1 << _FINE)) << bits)
                    number = lanes.select(coarse, rest, number)
                    after = lanes.shift(after, bits)
                    need = coarse & lanes.below(after, 65536)
                    after = lanes.select(need, (after << 16) | lanes.gather(words, place), after)
                    place = place + lanes.ones(need)
                state = lanes.select(inside, after, state)
                value = (rounded >> 12) + (lanes.shift(number, 1) ^ (nothing - (number & 1)))
                wrong = wrong | lanes.select(inside, value | (highest - value), 0)
                error = (value << 12) - exact
                error = lanes.lower(lanes.higher(error, nothing - error) >> 8, _NOISE)

                left = column == period - 2  # of a row: what is above its first voxel
                w2, e2 = w1, e1
                w1 = lanes.select(inside, value, lanes.select(left, n1, w1))
                e1 = lanes.select(inside, error, lanes.select(left, f0, e1))
                lanes.store(planes, p, w1)
                lanes.store(noise, p, e1)
                column = column + 1
                column = lanes.select(column < period, column, 0)
                position = position + 1
                planes[np.uint64(p - 1)] = planes[np.uint64(q - 1)]
                noise[np.uint64(p - 1)] = noise[np.uint64(q - 1)]
                planes[np.uint64(q)] = planes[np.uint64(p)]
                noise[np.uint64(q)] = noise[np.uint64(p)]
            if lanes.any_negative(wrong | (limit - place)):
                return False
            if group > 0:
                _unravel(planes, zero, period, group - 1, shape, last, s, out)
                if slices == 1:
                    _forget(planes, period * _STEP)
                    _forget(noise, period * _STEP)
                    zero -= period * _STEP
        _unravel(planes, zero, period, groups - 1, shape, last, s, out)
        if s + 1 < slices:
            _close(planes, zero, period, rows, columns)
            _close(noise, zero, period, rows, columns)
    lanes.store(flat_streams, 0, place)
    lanes.store(flat_streams, 2 * _LANES, state)
    return True


@kernel
def _unravel(planes, zero, period, group, shape, last, s, out):
    """Copy 16 rows of a slice out of the steps that gave them; the last row has `last` voxels."""
    _, rows, columns = shape
    data, pairs, are_pairs, begin, step = out
    for y in range(group * _LANES, min((group + 1) * _LANES, rows)):
        j = y - group * _LANES
        first = np.uint64(zero + (group * period + _SKEW * j) * _STEP + j)
        count = np.uint64(last if y == rows - 1 else columns)
        at = np.uint64(begin + (s * rows + y) * columns * step)
        if are_pairs:
            for x in range(count):
                pairs[at + x * np.uint64(step)] = planes[first + x * np.uint64(_STEP)]
        else:
            for x in range(count):
                data[at + x * np.uint64(step)] = planes[first + x * np.uint64(_STEP)]


@kernel
def _forget(planes, count):
    """Move everything to so many places before."""
    for i in range(0, planes.size - count - _LANES + 1, _LANES):
        lanes.store(planes, i, lanes.load(planes, i + count))


@kernel
def _close(planes, zero, period, rows, columns):
    """Fill the row below the last with it, margins too."""
    group, j = divmod(rows - 1, _LANES)
    first = zero + (group * period + _SKEW * j) * _STEP + j
    for x in range(-2, columns + 2):
        planes[first + (x + _SKEW) * _STEP + 1] = planes[first + x * _STEP]
