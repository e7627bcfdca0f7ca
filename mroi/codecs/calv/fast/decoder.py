"""The decoder of `fast`: 16 adjacent rows at once.

Each row is three columns behind the one above it, so that all neighbours are there when they are
needed. Lane j decodes the rows j, j + 16, ... of a slice one after the other: in step t it is at
column t - 3j of them. A row takes `period` steps: its columns, two for the margin right of it and
two for the margin left of the next, more if there are few columns. What the lanes give in a step is
stored side by side in a plane of steps, so that a tap of the slice before is at a fixed distance.
For that, lane -1 of a step holds what lane 15 gave `lag` before, which is the row above lane 0, and
lane 16 what lane 0 will give as much later, the row below lane 15. Taps of the same slice are kept
in registers: what was just stored cannot be loaded soon.

In a small array the steps of all slices follow each other, and lanes go on with the next slice as
soon as they have finished one; only before another predictor all of them come to an end. Nothing is
above the first row of a slice, so lane -1 is 0 while lane 0 is there; below the last row is the
same row again, so a lane that has no row copies the one above, and lane 16 copies lane 15.

Why no index leaves its array (numba checks none), whatever the section says: places in planes
depend on the shape alone, and `_new_planes` allocates the steps that taps reach beyond the first
and the last. A bin is clipped to 1023 as an unsigned integer, a part has 2 bits, so the index of a
first slot is below 5120; first slots are those of tables that exist, a slot has 12 bits, and all
4096 entries of a table are set, since its frequencies have that sum. The words of all streams lie
in one array; a step takes at most two of each, and no stream goes on past the check after each row
if it has passed its end: words are padded by what goes before that check.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: PLR0917  # and take everything by position

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.calv import coder, lanes
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
    TOKENS,
    code_head,
    code_tables,
    count_kinds,
    fold,
    is_list,
    last_row,
)
from mroi.codecs.calv.values import Symbols
from mroi.codecs.compiled import Integer, inlined, kernel, part, step

__all__ = ["decode"]

_SKEW = 3  # columns from a row to the one above it, both in decoding
_STEP = LANES + 2  # places of a step: a row before, the lanes, one after
_AHEAD = 8  # steps before the first that taps reach, and more
_SMALL = 1 << 18  # places of the steps of all slices of a small array: 1 MiB, of symbols and noise
_NEVER = -(1 << 30)  # position of a lane that has come to an end


class _Model(NamedTuple):
    """What the side information of a section says.

    Attributes
    ----------
    coefficients : (3, 20) int32
        In 1/4096, of the first slice of a run, the second, and the others.
    shift : int
        From activity to bins.
    first_slots : (5120,) int32
        First entry of the table of each place: bin and part, then bins that are flat.
    entries : (4096 * tables,) uint32
        Of the slots of each table: token, frequency less 1, place within it.
    """

    coefficients: NDArray[np.int32]
    shift: int
    first_slots: NDArray[np.int32]
    entries: NDArray[np.uint32]


class _Slab(NamedTuple):
    """What is decoded.

    Attributes
    ----------
    shape : tuple of int
    top, last : int
        Greatest symbol; voxels of the last row of a slice.
    alone : bool
        Rows are pieces of a list: nothing is above them.
    run, kinds : int
        Slices of a run, and predictors.
    """

    shape: tuple[int, ...]
    top: int
    last: int
    alone: bool
    run: int
    kinds: int


class _Planes(NamedTuple):
    """Planes of steps, and where the steps of the lanes are.

    Attributes
    ----------
    symbols, noise : (n,) uint16
    size, ring : int
        Elements of a plane; how many planes there are.
    is_small : bool
        Whether there is a plane for each slice, without a gap between them.
    groups, period, tail : int
        Groups of 16 rows; steps of a group, and of the last one before lanes come to an end.
    lag, ahead : int
        Elements that lane 15 is late; elements before step 0.
    """

    symbols: NDArray[np.uint16]
    noise: NDArray[np.uint16]
    size: int
    ring: int
    is_small: bool
    groups: int
    period: int
    tail: int
    lag: int
    ahead: int


class _Plane(NamedTuple):
    """Of a slice: where lane 0 of step 0 is, how far the slices before are, which predictor."""

    zero: Integer
    up: Integer
    far_up: Integer
    kind: Integer


class _Streams(NamedTuple):
    """The streams, a lane each: next word, end of the stream, state."""

    place: Any
    limit: Any
    state: Any


class _Taps(NamedTuple):
    """Symbols in the rows above, and at the left."""

    nee: Any
    ne: Any
    n: Any
    nw: Any
    nww: Any
    nne: Any
    nn: Any
    nnw: Any
    w: Any
    ww: Any


class _Noise(NamedTuple):
    """Noise in the rows above, and at the left."""

    nee: Any
    ne: Any
    n: Any
    nw: Any
    nww: Any
    nn: Any
    w: Any
    ww: Any


class _Lanes(NamedTuple):
    """Where the lanes are.

    Attributes
    ----------
    column, position : vector
        Column of the row, the margins included; step of the slice.
    end : vector
        The first step of a slice without a voxel.
    spare, idle : vector
        Less the step from which a lane has no row, and for how many steps that is so.
    """

    column: Any
    position: Any
    end: Any
    spare: Any
    idle: Any


class _Edge(NamedTuple):
    """Whether lane 0 is in the first group of a slice, and in the last one; its column."""

    top: bool
    bottom: bool
    column: Integer


def decode(
    section: memoryview,
    out: Symbols,
    shape: tuple[int, int, int],
    slices: int,
    top: int,
    run: int | None = None,
) -> bool:
    """Fill `out`, of `shape`, the first of so many slices; return whether the section is sound."""
    kinds = count_kinds(slices if run is None else run, series=run is not None)
    start = 4 + int.from_bytes(section[:4], "little")
    if start < 10 or start > len(section) or start % 2 or len(section) % 2:
        return False
    alone = is_list((slices, *shape[1:]))
    run = slices if run is None else run
    slab = _Slab(fold(shape) if alone else shape, top, last_row(shape), alone, run, kinds)
    octets = np.frombuffer(section, np.uint8)
    return bool(_decode(octets[4:start], octets[start:], slab, shape[0] == slices, out))


@kernel
def _decode(side, streams, slab, whole, out):
    """Decode slices from the side information and the streams; return whether all is sound.

    One kernel does everything, so that a thread has the GIL only between chunks.
    """
    counts = np.zeros(min(LANES, slab.shape[1]), np.int64)
    sound, model = _read_side(side, slab.kinds, counts)
    if not sound or 2 * _total(counts) != streams.size:
        return False
    # At most two words a step; checked after the steps of a row and the lag of the last lane.
    words = _to_words(streams, 2 * (slab.shape[2] + _SKEW * LANES + 4))
    heads = np.zeros((3, LANES), np.int32)  # next word, end, state
    _open_streams(words, counts, heads)
    sound = _read(words, heads, model, slab, _new_planes(slab), out)
    if sound and whole:
        for j in range(counts.size):
            sound &= heads[0, j] == heads[1, j] and heads[2, j] == 1 << 16  # CLV-13
    return sound


@step
def _total(counts):
    total = np.int64(0)
    for count in counts:
        total += count
    return total


@part
def _to_words(octets, more):
    """Return the words of little-endian octets, and zeros after them."""
    words = np.zeros(octets.size // 2 + more, np.uint16)
    for i in range(np.uint64(octets.size // 2)):
        two = np.uint64(2) * i
        words[i] = np.uint16(octets[two]) | np.uint16(octets[two + np.uint64(1)]) << np.uint16(8)
    return words


# --- side information ---


@part
def _read_side(side, kinds, counts):
    """Return whether the side information is sound, and what it says; set the words of streams."""
    words = _to_words(side, 0)
    decoding = True
    interval = coder.begin(decoding, words)
    contexts = np.full(GROUPS * coder.GROUP, coder.HALF, np.int64)
    coefficients = np.zeros((3, TAPS), np.int32)
    head = np.zeros(2, np.int64)
    layout = np.zeros(MOST_CONTEXTS + 8, np.int64)
    first_slots = np.empty((PARTS + 1) * BINS, np.int32)
    sound, interval = code_head(
        decoding, interval, words, contexts, coefficients, kinds, head, layout
    )
    used = _map_contexts(head[1], layout, first_slots) if sound else 0
    tables = np.zeros((used, TOKENS), np.int32)
    entries = np.empty(used * ONE, np.uint32)
    if sound:
        sound, interval = code_tables(decoding, interval, words, contexts, tables, counts)
        sound &= interval.code == 0 and interval.at == words.size  # CLV-8
    if sound:
        _lay_out(tables, entries)
    return sound, _Model(coefficients, head[0], first_slots, entries)


@step
def _map_contexts(split, layout, first_slots):
    """Find the first slot of each place: bin and part, then bins that are flat.

    Returns how many contexts there are.
    """
    at = 0
    count = 0
    for i in range(0 if split > 0 else PARTS, PARTS + 2):
        size = layout[at]
        inner = 0
        for b in range(split if i == PARTS else 0, split if i < PARTS else BINS):
            while inner < size and layout[at + 1 + inner] <= b:
                inner += 1
            slot = (count + inner) << 12
            if i < PARTS:
                first_slots[PARTS * b + i] = slot
            elif i == PARTS:
                for part in range(PARTS):
                    first_slots[PARTS * b + part] = slot
            else:
                first_slots[PARTS * BINS + b] = slot
        count += size + 1
        at += 1 + size
    return count


@step
def _lay_out(tables, entries):
    """Lay out the 4096 slots of each table: token, frequency less 1, place within it."""
    for c in range(tables.shape[0]):
        slot = c * ONE
        for t in range(TOKENS):
            frequency = tables[c, t]
            entry = (t << 24) | ((frequency - 1) << 12)
            for i in range(frequency):
                entries[slot + i] = entry + i
            slot += frequency


@step
def _open_streams(words, counts, heads):
    """Find next word, end and state of each stream."""
    at = np.int64(0)
    for j in range(counts.size):
        heads[0, j] = at + 2
        heads[2, j] = np.int32(np.uint32(words[at]) << np.uint32(16) | np.uint32(words[at + 1]))
        at += counts[j]
        heads[1, j] = at


# --- voxels ---


@part
def _new_planes(slab):
    """Return planes of steps for a slab."""
    slices, rows, columns = slab.shape
    period = max(columns + 4, _SKEW * LANES)
    groups = (rows + LANES - 1) // LANES
    lowest = (rows - 1) % LANES  # lane of the last row
    tail = _SKEW * min(lowest + 1, LANES - 1) + columns + 2
    lag = (period - _SKEW * LANES) * _STEP
    ahead = lag + _AHEAD * _STEP
    is_small = 1 < slices <= _SMALL // (groups * period * _STEP)
    if is_small:
        ring = slices
        size = groups * period * _STEP
        count = ahead + slices * size + (_SKEW * LANES + _AHEAD) * _STEP
    else:
        steps = (groups - 1) * period + tail
        # A single slice needs the last period only.
        held = steps if slices > 1 else min(steps, 2 * period + _SKEW * LANES)
        ring = 3 if slab.kinds == 3 else 2
        size = ahead + (held + _SKEW + 3) * _STEP
        count = min(slices, ring) * size
    symbols, noise = np.zeros(count, np.uint16), np.zeros(count, np.uint16)
    return _Planes(symbols, noise, size, ring, is_small, groups, period, tail, lag, ahead)


@part
def _find_lanes(slab, planes):
    """Return where the lanes are in the first step of a slice, as `_open_lanes` takes it."""
    _, rows, columns = slab.shape
    period = planes.period
    begins = np.zeros(5 * LANES, np.int32)
    for j in range(LANES):
        own = (rows - j + LANES - 1) // LANES
        begins[j] = -_SKEW * j % period
        begins[LANES + j] = -_SKEW * j
        begins[3 * LANES + j] = 2 - own * period
        begins[4 * LANES + j] = (planes.groups - own) * period if own > 0 else -_NEVER
        if own > 0:  # its voxels, and the margins between them
            lacking = columns - slab.last if j == (rows - 1) % LANES else 0
            begins[2 * LANES + j] = (own - 1) * period + columns - lacking
    return begins


@inlined
def _open_lanes(begins):
    """Return the lanes in the first step of a slice."""
    return _Lanes(
        lanes.load(begins, 0), lanes.load(begins, LANES), lanes.load(begins, 2 * LANES),
        lanes.load(begins, 3 * LANES), lanes.load(begins, 4 * LANES),
    )  # fmt: skip


@step
def _count_alike(slab, planes, s):
    """Return how many slices from `s` on follow each other without a gap: of one predictor."""
    before = s % slab.run
    if not planes.is_small or before < slab.kinds - 1:
        return np.int64(1)
    return np.int64(min(slab.run - before, slab.shape[0] - s))


@part
def _read(words, heads, model, slab, planes, out):
    """Decode slices into `out`; return whether they are sound."""
    begins = _find_lanes(slab, planes)
    flat = heads.reshape(-1)
    streams = _Streams(lanes.load(flat, 0), lanes.load(flat, LANES), lanes.load(flat, 2 * LANES))
    sound = True
    s = np.int64(0)
    while sound and s < slab.shape[0]:
        count = _count_alike(slab, planes, s)
        sound, streams = _read_slices(words, streams, begins, model, slab, planes, s, count, out)
        s += count
    lanes.store(flat, 0, streams.place)
    lanes.store(flat, 2 * LANES, streams.state)
    return sound


@step
def _read_slices(words, streams, begins, model, slab, planes, s, count, out):
    """Decode slices that follow each other; return whether they are sound, and the streams."""
    groups, period = planes.groups, planes.period
    plane = _plane(slab, planes, s)
    where = _open_lanes(begins)
    o = lanes.broadcast(0)
    wrong = o
    taps = _Taps(o, o, o, o, o, o, o, o, o, o)
    noise = _Noise(o, o, o, o, o, o, o, o)
    _open_slice(planes.symbols, plane.zero)
    _open_slice(planes.noise, plane.zero)
    for group in range(count * groups):
        first = group * period
        stop = first + (period if group < count * groups - 1 else planes.tail)
        top, bottom = group % groups == 0, group % groups == groups - 1
        for t in range(first, stop):
            more = t + 1 < count * groups * period
            streams, wrong, where, taps, noise = _step(
                words, streams, wrong, model, slab, planes, plane, where, taps, noise, t,
                _Edge(top, bottom, t - first), more,
            )  # fmt: skip
        if lanes.any_negative(wrong | (streams.limit - streams.place)):
            return False, streams
        if group > 0:
            _unravel(planes, plane.zero, group - 1, slab, s, out)
            if slab.shape[0] == 1:
                _forget(planes.symbols, period * _STEP)
                _forget(planes.noise, period * _STEP)
                plane = _Plane(plane.zero - period * _STEP, plane.up, plane.far_up, plane.kind)
    _unravel(planes, plane.zero, count * groups - 1, slab, s, out)
    if not planes.is_small and s + 1 < slab.shape[0]:
        _close(planes.symbols, plane.zero, period, slab.shape)
        _close(planes.noise, plane.zero, period, slab.shape)
    return True, streams


@inlined
def _plane(slab, planes, s):
    """Return where the steps of slice `s` are."""
    ring, size = planes.ring, planes.size
    up = ((s + ring - 1) % ring - s % ring) * size
    far_up = ((s + ring - 2) % ring - s % ring) * size
    kind = min(s % slab.run, slab.kinds - 1)
    return _Plane(s % ring * size + planes.ahead + 1, up, far_up, kind)


@part
def _step(words, streams, wrong, model, slab, planes, plane, where, taps, noise, t, edge, more):
    """Decode a voxel in each lane that has one in step `t`; there are `more` in these slices."""
    p = plane.zero + t * _STEP
    q = p - planes.lag + LANES
    outside = planes.is_small and _is_outside(edge, planes.period, 4)
    taps = _slide_taps(planes.symbols, taps, p, q, outside, slab.alone)
    noise = _slide_noise(planes.noise, noise, p, q, outside, slab.alone)
    exact, before = _predict(planes.symbols, taps, model.coefficients, plane, p, slab.top)
    activity = _activity(planes.noise, noise, plane, p)
    entry = _find_entry(model, streams, taps, before, exact, activity)

    inside = lanes.less_unsigned(where.position, where.end) & (where.column < slab.shape[2])
    n, streams = _read_token(words, streams, entry, inside)
    symbol = ((exact + 2048) >> 12) + (lanes.logical_shift(n, 1) ^ (lanes.broadcast(0) - (n & 1)))
    wrong = wrong | lanes.select(inside, symbol | (lanes.broadcast(slab.top) - symbol), 0)
    error = (symbol << 12) - exact
    error = lanes.minimum(lanes.maximum(error, lanes.broadcast(0) - error) >> 8, MOST_NOISE)

    left = where.column == planes.period - 2  # of a row: what is above its first voxel
    w, e = lanes.select(left, taps.nee, taps.w), lanes.select(left, noise.nee, noise.w)
    if planes.is_small:
        copies = lanes.less_unsigned(where.position + where.spare, where.idle)
        w, e = lanes.select(copies, taps.n, w), lanes.select(copies, noise.n, e)
    w, e = lanes.select(inside, symbol, w), lanes.select(inside, error, e)
    if planes.is_small:
        began = where.position > -3
        above, below = _is_outside(edge, planes.period, 5), _is_outside(edge, planes.period, 3)
        _store_small(planes.symbols, w, p, q, began, t, above, below)
        _store_small(planes.noise, e, p, q, began, t, above, below)
    else:
        _store(planes.symbols, w, p, q)
        _store(planes.noise, e, p, q)
    where = _advance(where, planes, more)
    return streams, wrong, where, _taps_after(taps, w), _noise_after(noise, e)


@inlined
def _is_outside(edge, period, columns):
    """Return whether, so many columns on, lane 0 is above or just below a slice."""
    return edge.top if edge.column + columns < period else edge.bottom


@inlined
def _slide_taps(planes, old, p, q, outside, alone):
    """Return the taps of the next column; what is above lane 0 is in the planes."""
    nee = lanes.slide(old.w, np.int64(planes[np.uint64(p - _STEP - 1)]))
    nne = np.int64(0 if outside else planes[np.uint64(q - 5 * _STEP - 2)])
    nne = lanes.slide(old.nw, nne)
    if alone:
        nee = nne = lanes.broadcast(0)
    return _Taps(nee, old.nee, old.ne, old.n, old.nw, nne, old.nne, old.nn, old.w, old.ww)


@inlined
def _slide_noise(planes, old, p, q, outside, alone):
    """Return the noise around the next column."""
    nee = lanes.slide(old.w, np.int64(planes[np.uint64(p - _STEP - 1)]))
    nn = np.int64(0 if outside else planes[np.uint64(q - 6 * _STEP - 2)])
    nn = lanes.slide(old.nww, nn)
    if alone:
        nee = nn = lanes.broadcast(0)
    return _Noise(nee, old.nee, old.ne, old.n, old.nw, nn, old.w, old.ww)


@inlined
def _predict(planes, taps, coefficients, plane, p, top):
    """Return the predictions, in 1/4096, and what is before the voxels; of a first slice, N."""
    c = coefficients[plane.kind]
    exact = (
        taps.nww * c[6] + taps.nw * c[2] + taps.n * c[1] + taps.ne * c[3] + taps.nee * c[7]
        + taps.nnw * c[8] + taps.nn * c[5] + taps.nne * c[9]
    )  # fmt: skip
    before = taps.n
    if plane.kind > 0:
        u = p + plane.up
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
        if plane.kind == 2:
            exact = exact + lanes.load(planes, p + plane.far_up) * c[19]
    exact = exact + (taps.ww * c[4] + taps.w * c[0])
    return lanes.minimum(lanes.maximum(exact, 0), lanes.broadcast(top << 12)), before


@inlined
def _activity(planes, noise, plane, p):
    """Return the activity."""
    activity = noise.nw + noise.n * 2 + noise.ne + noise.nn
    west = noise.w * 2 + noise.ww
    if plane.kind == 0:
        return (activity + west) * 2
    u = p + plane.up
    before = (
        lanes.load(planes, u - _SKEW * _STEP - 1) + lanes.load(planes, u - _STEP)
        + lanes.load(planes, u) * 2 + lanes.load(planes, u + _STEP)
        + lanes.load(planes, u + _SKEW * _STEP + 1)
    )  # fmt: skip
    return activity + before + west


@inlined
def _find_entry(model, streams, taps, before, exact, activity):
    """Return the entries of the slots, in the tables of the contexts."""
    bins = lanes.minimum_unsigned(lanes.logical_shift(activity, model.shift), BINS - 1)
    flat = (taps.w == taps.n) & (taps.w == taps.ne) & (taps.w == before)
    part = (bins << 2) | (((exact + 2048) >> 10) & 3)
    place = lanes.select(flat, bins + PARTS * BINS, part)
    slot = streams.state & (ONE - 1)
    return lanes.gather_through(model.first_slots, place, model.entries, slot)


@inlined
def _read_token(words, streams, entry, inside):
    """Return the n of which `signed` makes the errors, and the streams after it."""
    n = lanes.logical_shift(entry, 24)
    share = lanes.logical_shift(streams.state, 12)
    state = share * (lanes.logical_shift(entry, 12) & 4095) + share + (entry & 4095)
    state, place = _refill(words, state, streams.place, inside)
    coarse = inside & (n > DIRECT - 1)
    if lanes.any_true(coarse):
        bits = lanes.logical_shift(n - DIRECT, FINE) + FEWEST
        bits = lanes.select(coarse, bits, 0)
        rest = state & ((lanes.broadcast(1) << bits) - 1)
        rest = rest | (((n & ((1 << FINE) - 1)) | (1 << FINE)) << bits)
        n = lanes.select(coarse, rest, n)
        state, place = _refill(words, lanes.logical_shift(state, bits), place, coarse)
    state = lanes.select(inside, state, streams.state)
    return n, _Streams(place, streams.limit, state)


@inlined
def _refill(words, state, place, lanes_in_use):
    """Take a word where a state has become small."""
    need = lanes_in_use & lanes.less_unsigned(state, 65536)
    state = lanes.select(need, (state << 16) | lanes.gather(words, place), state)
    return state, place + lanes.ones(need)


@inlined
def _store(planes, vector, p, q):
    """Store what the lanes give in a step; complete the rows above lane 0 and below lane 15."""
    lanes.store(planes, p, vector)
    planes[np.uint64(p - 1)] = planes[np.uint64(q - 1)]
    planes[np.uint64(q)] = planes[np.uint64(p)]


@inlined
def _store_small(planes, vector, p, q, began, t, above, below):
    """Store what the lanes give in step `t`, where slices follow each other without a gap."""
    if t < _SKEW * LANES:  # what lanes that have not begun gave in the slice before stays
        vector = lanes.select(began, vector, lanes.load(planes, p))
    lanes.store(planes, p, vector)
    planes[np.uint64(p - 1)] = 0 if above else planes[np.uint64(q - 1)]
    planes[np.uint64(q)] = planes[np.uint64(q - _SKEW * _STEP - 1 if below else p)]


@inlined
def _taps_after(taps, w):
    """Return taps with what was decoded as W."""
    return _Taps(taps.nee, taps.ne, taps.n, taps.nw, taps.nww, taps.nne, taps.nn, taps.nnw, w,
                 taps.w)  # fmt: skip


@inlined
def _noise_after(noise, w):
    """Return noise with that of what was decoded as E(W)."""
    return _Noise(noise.nee, noise.ne, noise.n, noise.nw, noise.nww, noise.nn, w, noise.w)


@inlined
def _advance(where, planes, more):
    """Return where the lanes are in the next step: of the next slice if there are `more`."""
    column = where.column + 1
    column = lanes.select(column < planes.period, column, 0)
    position = where.position + 1
    if planes.is_small:
        again = lanes.broadcast(np.int64(0 if more else _NEVER))
        position = lanes.select(position < planes.groups * planes.period, position, again)
    return _Lanes(column, position, where.end, where.spare, where.idle)


# --- planes of steps ---


@step
def _open_slice(planes, zero):
    """Fill the margin left of the first row, and what is above that, before the first step."""
    for i in range(1, 6):
        planes[zero - i * _STEP - 1] = 0
        if i < 3:
            planes[zero - i * _STEP] = 0


@step
def _unravel(planes, zero, group, slab, s, out):
    """Copy a group of 16 rows, of slices from `s` on, out of the steps that gave them."""
    _, rows, columns = slab.shape
    s += group // planes.groups
    for j in range(min(LANES, rows - group % planes.groups * LANES)):
        y = group % planes.groups * LANES + j
        first = np.uint64(zero + (group * planes.period + _SKEW * j) * _STEP + j)
        count = np.uint64(slab.last if y == rows - 1 else columns)
        at = np.uint64(out.first + (s * rows + y) * columns * out.step)
        if out.are_pairs:
            for x in range(count):
                out.pairs[at + x * np.uint64(out.step)] = planes.symbols[
                    first + x * np.uint64(_STEP)
                ]
        else:
            for x in range(count):
                out.bytes_[at + x * np.uint64(out.step)] = planes.symbols[
                    first + x * np.uint64(_STEP)
                ]


@step
def _forget(planes, count):
    """Move everything to so many places before."""
    for i in range(0, planes.size - count - LANES + 1, LANES):
        lanes.store(planes, i, lanes.load(planes, i + count))


@step
def _close(planes, zero, period, shape):
    """Fill the row below the last with it, margins too."""
    _, rows, columns = shape
    group, j = divmod(rows - 1, LANES)
    first = zero + (group * period + _SKEW * j) * _STEP + j
    for x in range(-2, columns + 2):
        planes[first + (x + _SKEW) * _STEP + 1] = planes[first + x * _STEP]
