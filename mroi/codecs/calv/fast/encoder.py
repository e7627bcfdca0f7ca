"""The encoder of `fast`: it decides everything, and stores it.

It knows all voxels, so it goes row by row: errors and activities first, then contexts and tables,
then the streams.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls
# and take everything by position

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.calv import coder
from mroi.codecs.calv.fast.model import (
    BINS,
    DIRECT,
    FEWEST,
    FINE,
    GROUPS,
    LANES,
    MOST_CONTEXTS,
    MOST_NOISE,
    ONE,
    PARTS,
    TAPS,
    TAPS_OF,
    TOKENS,
    code_head,
    code_tables,
    count_kinds,
    fold,
    is_list,
    last_row,
)
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
from mroi.codecs.compiled import Integer, inlined, kernel, step

__all__ = ["encode"]

_SORTS = PARTS + 1  # of places: a part, or flat
_SAMPLING = 32  # one voxel in so many shapes the predictor, if there are many
_FEW = 4096  # voxels that shape it at least


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


class _Around(NamedTuple):
    """Where the neighbours of a slice are in its planes.

    Attributes
    ----------
    kind, first : int, bool
        Of slices: which predictor; whether there is no slice before.
    width, up, far_up : unsigned int
        Distance of two rows, of the slice before and of the one before that.
    """

    kind: Integer
    first: bool
    width: Integer
    up: Integer
    far_up: Integer


class _Found(NamedTuple):
    """What the errors of all voxels are coded by, each (voxels,).

    Attributes
    ----------
    errors : int32
        The n of which `signed` makes the error.
    activity, sorts : int32, uint8
        The activity A; the part of the prediction, 4 where it is flat.
    """

    errors: NDArray[np.int32]
    activity: NDArray[np.int32]
    sorts: NDArray[np.uint8]


def encode(volume: NDArray[np.int32], top: int, run: int | None = None) -> bytes:
    """Return the section of a slab of symbols from 0 to `top`.

    The slices of a series come in runs of `run`, the same slice of one volume after the other.
    """
    kinds = count_kinds(volume.shape[0] if run is None else run, series=run is not None)
    run = volume.shape[0] if run is None else run
    shape = fold(volume.shape)
    _slices, rows, columns = shape
    last = last_row(volume.shape)
    alone = is_list(volume.shape)
    if alone:  # pieces are slices that have none before
        volume = np.pad(volume.reshape(-1), (0, columns - last), "edge").reshape(rows, 1, columns)
    coefficients = _fit(volume, alone, run, kinds)
    # One piece of memory: the system gives what is large in large pages, which takes less time.
    room = np.empty((3, volume.size + 2 * LANES), np.int32)
    words = room[2].view(np.uint16)
    errors, activity = room[:2, : volume.size]
    found = _Found(errors, activity, np.empty(volume.size, np.uint8))
    _predict(volume, alone, run, kinds, coefficients, top, found)
    shift = _shift(found.activity)
    histograms = np.zeros((2, int(_LEVELS[-1]) + 1, _SORTS, TOKENS), np.int64)
    fine = np.empty(volume.size, np.uint8)
    _count(found, shift, _LEVELS, volume.size - columns + last, fine, histograms)
    histogram = histograms.sum(axis=0)
    first_bin = np.searchsorted(_LEVELS, np.arange(histogram.shape[0]))
    split, cuts = _merge(histogram, first_bin)
    context_of = _context_map(split, cuts)[first_bin].ravel()
    tables = np.zeros((int(context_of.max()) + 1, TOKENS), np.int32)
    _tabulate(histogram, context_of, tables)
    bounds = np.zeros((min(LANES, rows), 2), np.int64)
    _write(found.errors, fine, context_of, tables, shape, last, words, bounds)
    counts = bounds[:, 1] - bounds[:, 0]
    side = _write_side(_Model(coefficients, shift, split, cuts, tables, counts), kinds)
    streams = [words[start:stop].astype("<u2").tobytes() for start, stop in bounds]
    return b"".join((len(side).to_bytes(4, "little"), side, *streams))


# --- prediction ---


def _fit(volume: NDArray[np.int32], alone: bool, run: int, kinds: int) -> NDArray[np.int32]:  # noqa: FBT001
    """Return the coefficients of each kind of slice in 1/4096, (3, 20).

    If slices are `alone`, all are like the first.
    """
    normal = np.zeros((3, TAPS, TAPS))
    _accumulate(volume, alone, run, kinds, normal)
    result = np.zeros((3, TAPS), np.int32)
    for kind in range(1 if alone else kinds):
        taps = TAPS_OF[kind]
        result[kind, :taps] = _solve(normal[kind], taps)
    return result


def _solve(normal: NDArray[np.float64], taps: int) -> NDArray[np.int64]:
    """Return the coefficients, of sum 1, that fit a lower triangle of normal equations.

    Unknowns are all taps but N, which the values were taken relative to.
    """
    others = solve_normal(normal[:taps, :taps], 1e-6, 1.9, ONE)
    excess = np.abs(others).sum() / (3 * ONE)
    if excess > 1:  # the sum of the magnitudes of all must stay below 8
        others = (others / excess).astype(np.int64)
    return np.concatenate([others[:1], [ONE - others.sum()], others[1:]])


@step
def _around(s, alone, run, kinds, rows, columns):
    """Return where slice `s` begins in its planes, and where its neighbours are."""
    size = plane_size(rows, columns)
    ring = _ring(kinds)
    first = s % run == 0 or alone
    kind = np.int64(0) if first else min(s % run, kinds - 1)
    up = np.uint64(((s + ring - 1) % ring - s % ring) * size)
    far_up = np.uint64(((s + ring - 2) % ring - s % ring) * size)
    return s % ring * size, _Around(kind, first, np.uint64(stride(columns)), up, far_up)


@inlined
def _ring(kinds):
    """Return how many planes are kept."""
    return 3 if kinds == 3 else 2


@kernel
def _accumulate(volume, alone, run, kinds, normal):
    """Add up the normal equations of each kind of slice."""
    slices, rows, columns = volume.shape
    planes = np.zeros(min(slices, _ring(kinds)) * plane_size(rows, columns), np.int32)
    samples = np.zeros((TAPS, BATCH))
    weighted = np.zeros((TAPS, BATCH))
    for s in range(slices):
        start, around = _around(s, alone, run, kinds, rows, columns)
        load(volume, s, planes, start)
        taps = TAPS_OF[around.kind]
        dense = s == 0 or (around.first and not alone)
        every = max(1, min(_SAMPLING, volume.size // _FEW) // (4 if dense else 1))
        k = np.int64(0)
        for y in range(rows):
            row = row_start(start, y, columns)
            for x in range((5 * y + 3 * s) % every, columns, every):
                _sample(planes, np.uint64(row + x), around, taps, samples, weighted, k)
                k += 1
                if k == BATCH:
                    add_products(weighted, samples, k, taps, normal[around.kind])
                    k = np.int64(0)
        add_products(weighted, samples, k, taps, normal[around.kind])


@inlined
def _sample(planes, p, around, taps, samples, weighted, k):
    """Store the taps of a voxel, and the voxel, less N; weighted the less the more detail is."""
    width, one, two = around.width, np.uint64(1), np.uint64(2)
    n = planes[p - width]
    w = planes[p - one] - n
    nw = planes[p - width - one] - n
    ne = planes[p - width + one] - n
    nn = planes[p - width - width] - n
    detail = abs(w - nw) + abs(nw) + abs(ne) + abs(nn)
    samples[0, k] = w
    samples[1, k] = nw
    samples[2, k] = ne
    samples[3, k] = planes[p - two] - n
    samples[4, k] = nn
    samples[5, k] = planes[p - width - two] - n
    samples[6, k] = planes[p - width + two] - n
    samples[7, k] = planes[p - width - width - one] - n
    samples[8, k] = planes[p - width - width + one] - n
    if not around.first:
        detail += _sample_before(planes, p + around.up, width, n, w, ne, samples, k)
        if around.kind == 2:
            samples[18, k] = planes[p + around.far_up] - n
    samples[taps - 1, k] = planes[p] - n
    weight = 1.0 / (detail * math.sqrt(detail) + 30.0)
    for i in range(taps):
        weighted[i, k] = weight * samples[i, k]


@inlined
def _sample_before(planes, u, width, n, w, ne, samples, k):
    """Store the taps in the slice before, around `u`; return the detail that is there."""
    one = np.uint64(1)
    uw = planes[u - one] - n
    un = planes[u - width] - n
    une = planes[u - width + one] - n
    samples[9, k] = planes[u] - n
    samples[10, k] = uw
    samples[11, k] = un
    samples[12, k] = planes[u + one] - n
    samples[13, k] = planes[u + width] - n
    samples[14, k] = planes[u - width - one] - n
    samples[15, k] = une
    samples[16, k] = planes[u + width - one] - n
    samples[17, k] = planes[u + width + one] - n
    return abs(w - uw) + abs(un) + abs(ne - une)


@step
def _sum_taps(c, planes, p, around, sums):
    """Sum what the rows and the slices before give to the prediction of each voxel of a row.

    Places are those of `sum_errors`.
    """
    width, kind = around.width, around.kind
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
    u = p + around.up
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
            sums[x] += c[19] * planes[p + around.far_up + x]


@kernel
def _predict(volume, alone, run, kinds, coefficients, top, found):
    """Predict each voxel: find its error, the activity around it and the sort of its place."""
    slices, rows, columns = volume.shape
    size = min(slices, _ring(kinds)) * plane_size(rows, columns)
    planes = np.zeros(size, np.int32)
    noise = np.zeros(size, np.int32)
    sums = np.zeros(columns, np.int32)
    activities = np.zeros(columns, np.int32)
    k = np.uint64(0)
    for s in range(slices):
        start, around = _around(s, alone, run, kinds, rows, columns)
        load(volume, s, planes, start)
        c = coefficients[around.kind]
        for y in range(rows):
            row = row_start(start, y, columns)
            p = np.uint64(row)
            open_row(noise, row, columns)
            _sum_taps(c, planes, p, around, sums)
            sum_errors(noise, p, around.up, around.width, around.first, activities)
            _find_errors(c, planes, noise, p, top, sums, found, k)
            _find_sorts(planes, p, around, sums, found.sorts, k)
            _find_activity(noise, p, around.first, activities, found.activity, k)
            k += np.uint64(columns)
            close_row(noise, row, columns)
        close_plane(noise, start, rows, columns)


@inlined
def _find_errors(c, planes, noise, p, top, sums, found, k):
    """Complete the predictions of a row that begins at `p`; find its errors and its noise."""
    ceiling = np.int32(top << 12)
    west, far = c[0], c[4]
    one, two, count = np.uint64(1), np.uint64(2), np.uint64(sums.size)
    for x in range(count):
        exact = np.int32(sums[x] + west * planes[p + x - one] + far * planes[p + x - two])
        sums[x] = max(np.int32(0), min(exact, ceiling))
    for x in range(count):
        error = np.int32(planes[p + x] - (np.int32(sums[x] + 2048) >> 12))
        found.errors[k + x] = (error << 1) ^ (error >> 31)
    for x in range(count):
        off = np.int32((planes[p + x] << 12) - sums[x])
        noise[p + x] = min(max(off, np.int32(-off)) >> 8, MOST_NOISE)


@inlined
def _find_sorts(planes, p, around, predictions, sorts, k):
    """Find which places of a row are flat, and the part of the prediction of the others."""
    one = np.uint64(1)
    u = p - around.width if around.first else p + around.up
    for x in range(np.uint64(predictions.size)):
        w = planes[p + x - one]
        flat = (
            (w == planes[p + x - around.width]) & (w == planes[p + x - around.width + one])
            & (w == planes[u + x])
        )  # fmt: skip
        sorts[k + x] = PARTS if flat else (np.int32(predictions[x] + 2048) >> 10) & 3


@inlined
def _find_activity(noise, p, first, sums, activity, k):
    """Complete the activities of a row."""
    one, two = np.uint64(1), np.uint64(2)
    scale = 2 if first else 1
    for x in range(np.uint64(sums.size)):
        near = 2 * noise[p + x - one] + noise[p + x - two]
        activity[k + x] = sums[x] + scale * near


# --- contexts and tables ---


def _fine_levels() -> NDArray[np.uint8]:
    """Return the fine level of each bin of activity: single bins first, then five an octave."""
    starts = np.unique(np.rint(2 ** np.arange(0, 10, 0.2)).astype(np.int64))
    return np.searchsorted(starts, np.arange(BINS), side="right").astype(np.uint8)


_LEVELS = _fine_levels()


def _shift(activity: NDArray[np.int32]) -> int:
    """Return how far to shift activities so that nearly all of them fall into bins."""
    sample = activity[:: 1 + activity.size // 8192]
    high = int(np.partition(sample, -1 - sample.size // 1000)[-1 - sample.size // 1000])
    return max(0, (high // (BINS - 24)).bit_length())


def _token_of(n: int) -> int:
    """Return the token of n."""
    if n < DIRECT:
        return n
    bits = n.bit_length() - 1 - FINE
    return DIRECT + ((bits - FEWEST) << FINE) + ((n >> bits) & ((1 << FINE) - 1))


_SMALL = 1024
_SMALL_TOKENS = np.array([_token_of(n) for n in range(_SMALL)], np.uint8)


@inlined
def _token(n):
    """Return the token of an unsigned n below 2^17, unsigned."""
    if n < np.uint64(_SMALL):
        return np.uint64(_SMALL_TOKENS[n])
    bits = np.uint64(1)
    while n >> bits >= np.uint64(_SMALL):
        bits += np.uint64(1)
    return np.uint64(_SMALL_TOKENS[n >> bits]) + (bits << np.uint64(FINE))


@step
def _raw_bits(token):
    """Return how many raw bits follow a token."""
    return ((token - DIRECT) >> FINE) + FEWEST if token >= DIRECT else 0


@kernel
def _count(found, shift, levels, coded, fine, histograms):
    """Count the tokens of each fine context: a level of activity and a sort.

    There are two histograms, taken in turn: to count the same twice takes time.
    """
    flat = histograms.reshape(-1)
    half = np.uint64(flat.size // 2)
    for k in range(np.uint64(coded)):
        level = levels[np.uint64(min(found.activity[k] >> shift, BINS - 1))]
        context = np.uint64(_SORTS * level + found.sorts[k])
        fine[k] = context
        token = _token(np.uint64(found.errors[k]))
        flat[(k & np.uint64(1)) * half + context * np.uint64(TOKENS) + token] += 1


_LOGS = np.arange(2048) * np.log2(np.maximum(1, np.arange(2048)))


@step
def _times_log(n):
    """Return n times the binary logarithm of n."""
    return _LOGS[n] if n < 2048 else n * math.log2(n)


@step
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


@step
def _gain(histogram, costs, i, j):
    """Return how many bits it saves to merge two levels."""
    return costs[i] + costs[j] - _cost(histogram, i, j)


@step
def _next_start(starts, i, move):
    """Return the next level that begins a context, or one beyond the last or the first."""
    i += move
    while 0 <= i < starts.size and starts[i] == 0:
        i += move
    return i


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
        best = np.int64(0)
        for i in range(levels - 1):
            if starts[i] and gains[i] > gains[best]:
                best = np.int64(i)
        joined = _next_start(starts, best, 1)
        if joined >= levels or gains[best] < 0:
            break
        for t in range(histogram.shape[1]):
            histogram[best, t] += histogram[joined, t]
        costs[best] = _cost(histogram, best, best)
        costs[joined] = 0.0
        starts[joined] = 0
        after = _next_start(starts, best, 1)
        gains[best] = _gain(histogram, costs, best, after) if after < levels else -1.0
        before = _next_start(starts, best, -1)
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
    outer = histogram[:, :PARTS].sum(axis=1)
    flat = _cuts(histogram[:, PARTS], first_bin)[1]
    best = (np.inf, 0, [np.zeros(0, np.int64), np.zeros(0, np.int64)])
    for split in (0, levels // 5, 2 * levels // 5, 3 * levels // 5):
        found = [_cuts(histogram[:split, part], first_bin) for part in range(PARTS if split else 0)]
        found.append(_cuts(outer[split:], first_bin[split:]))
        cost = sum(cost for cost, _ in found)
        cuts = [*(inner for _, inner in found), flat]
        if sum(inner.size + 1 for inner in cuts) <= MOST_CONTEXTS and cost < best[0]:
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
    result = np.empty((BINS, _SORTS), np.uint8)
    lists: list[tuple[int, int, int | slice]] = [(0, split, part) for part in range(PARTS)]
    lists = [*(lists if split else []), (split, BINS, slice(PARTS)), (0, BINS, PARTS)]
    count = 0
    for (low, high, sorts), inner in zip(lists, cuts, strict=True):
        contexts = count + np.searchsorted(inner, np.arange(low, high), side="right")
        result[low:high, sorts] = contexts if isinstance(sorts, int) else contexts[:, np.newaxis]
        count += len(inner) + 1
    return result


@kernel
def _tabulate(histogram, context_of, tables):
    """Add up the fine contexts of each context, and scale them."""
    levels, sorts, tokens = histogram.shape
    counts = np.zeros(tables.shape, np.int64)
    for i in range(levels * sorts):
        for t in range(tokens):
            counts[context_of[i], t] += histogram[i // sorts, i % sorts, t]
    for c in range(tables.shape[0]):
        _scale(counts[c], tables[c])


@step
def _scale(counts, table):
    """Make frequencies of counts: of sum 4096, at least 1 for what occurs."""
    total = np.int64(0)
    for count in counts:
        total += count
    if total == 0:
        table[0] = ONE
        return
    left = np.int64(ONE)
    for t in range(counts.size):
        if counts[t] > 0:
            table[t] = max(1, (counts[t] * ONE + total // 2) // total)
            left -= table[t]
    while left != 0:  # one step where it saves most, or costs least
        sign = 1 if left > 0 else -1
        best = -1
        most = -np.inf
        for t in range(counts.size):
            if table[t] + sign > 0 and counts[t] > 0:
                gain = counts[t] * math.log2((table[t] + sign) / table[t])
                if gain > most:
                    best = t
                    most = gain
        table[best] += sign
        left -= sign


# --- side information ---


def _write_side(model: _Model, kinds: int) -> bytes:
    layout = np.concatenate([[len(inner), *inner] for inner in model.cuts]).astype(np.int64)
    words = np.zeros(2 * model.tables.size + 1024, np.uint16)
    head = np.array([model.shift, model.split], np.int64)
    contexts = np.full(GROUPS * coder.GROUP, coder.HALF, np.int64)
    interval = _code_side(
        words, contexts, model.coefficients, kinds, head, layout, model.tables, model.counts
    )
    written = coder.close(interval, words)
    assert written is not None
    return written.astype("<u2").tobytes()


@kernel
def _code_side(words, contexts, coefficients, kinds, head, layout, tables, counts):
    """Write the side information; return the last interval."""
    decoding = False
    interval = coder.begin(decoding, words)
    _, interval = code_head(decoding, interval, words, contexts, coefficients, kinds, head, layout)
    _, interval = code_tables(decoding, interval, words, contexts, tables, counts)
    return interval


# --- streams ---


class _Symbol(NamedTuple):
    """How a token is written in a context.

    Attributes
    ----------
    inverses : (contexts * 128,) uint64
        2^44 / frequency, rounded up: that is exact.
    shares : (contexts * 128,) uint64
        First slot, frequency, raw bits: at bit 32, 8 and 0.
    """

    inverses: NDArray[np.uint64]
    shares: NDArray[np.uint64]


@kernel
def _write(errors, fine, context_of, tables, shape, last, words, bounds):
    """Write the stream of each lane, backwards; give where it begins and ends in `words`."""
    slices, rows, columns = shape
    streams = bounds.shape[0]
    ways = _Symbol(np.zeros(tables.size, np.uint64), np.zeros(tables.size, np.uint64))
    _find_ways(tables, ways)
    states = np.full(LANES, 1 << 16, np.uint64)
    places = np.zeros(LANES, np.uint64)
    end = 0
    for j in range(streams):
        # A voxel takes at most two words, a state two; a word more is written and not kept.
        end += 2 * slices * columns * ((rows - j + LANES - 1) // LANES) + 3
        places[j] = end
        bounds[j, 1] = end
    for s in range(slices - 1, -1, -1):
        for group in range((rows - 1) // LANES * LANES, -1, -LANES):
            taken = min(LANES, rows - group)
            first = (s * rows + group) * columns
            for x in range(columns - 1, -1, -1):
                short = group + taken == rows and x >= last
                for j in range(np.uint64(taken - short)):
                    k = np.uint64(first + x) + j * np.uint64(columns)
                    n = np.uint64(errors[k])
                    i = np.uint64(context_of[fine[k]]) * np.uint64(TOKENS) + _token(n)
                    states[j], places[j] = _put(states[j], places[j], words, n, ways, i)
    one, half = np.uint64(1), np.uint64(16)
    for j in range(streams):
        words[places[j] - one] = states[j]
        words[places[j] - one - one] = states[j] >> half
        bounds[j, 0] = np.int64(places[j]) - 2


@step
def _find_ways(tables, ways):
    """Find how each token is written in each context."""
    for c in range(tables.shape[0]):
        slot = np.uint64(0)
        for t in range(TOKENS):
            i = c * TOKENS + t
            frequency = np.uint64(tables[c, t])
            bits = np.uint64(_raw_bits(t))
            ways.shares[i] = slot << np.uint64(32) | frequency << np.uint64(8) | bits
            if frequency > 0:
                inverse = ((np.uint64(1) << np.uint64(44)) - np.uint64(1)) // frequency
                ways.inverses[i] = inverse + np.uint64(1)
            slot += frequency


@inlined
def _put(state, place, words, n, ways, i):
    """Put n on a stream; return its next state and place.

    Without branches, which would be guessed wrong.
    """
    one, half, whole = np.uint64(1), np.uint64(16), np.uint64(32)
    share = ways.shares[i]
    bits = share & np.uint64(15)
    full = np.uint64(state >> (whole - bits) > 0)
    words[place - one] = state
    place -= full
    state >>= half * full
    state = (state << bits) | (n & ((one << bits) - one))
    frequency = (share >> np.uint64(8)) & np.uint64(0x1FFF)
    full = np.uint64(state >> np.uint64(20) >= frequency)
    words[place - one] = state
    place -= full
    state >>= half * full
    quotient = (state * ways.inverses[i]) >> np.uint64(44)
    return state + quotient * (np.uint64(ONE) - frequency) + (share >> whole), place
