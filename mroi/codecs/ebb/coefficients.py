"""Coefficients of a band, coded in decisions whose probabilities several models give.

A coefficient is a sign and a magnitude; the magnitude is said in decisions "is it more than t?".
What is known of it comes from five sources: the same band, its slice before, the band of the next
coarser level (the parent), and the bands of the same level that come before (siblings).

`near` holds each coefficient so far, clipped to 127, in bands with margins of zeros. Why no index
leaves its array (numba checks none): margins are as wide as neighbours reach, places in a parent
and in siblings are clipped to them, and every context is made of numbers that are clipped.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: PLR0917  # and take everything by position

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.calv import coder
from mroi.codecs.compiled import Integer, inlined, kernel, step
from mroi.codecs.ebb import start

__all__ = [
    "Neighbours",
    "code_section",
    "code_taps",
    "new_model",
    "open_section",
    "restore",
    "sum_excess",
]

_T = 8  # decisions of a magnitude that have contexts of their own
_LONGEST = 14  # decisions of a magnitude at most
_SIZES = (1152, 6912, 1408, 7776, 1152, 1152, 528, 1296)  # contexts of each model
_MODELS = len(_SIZES)
_STARTS = np.cumsum([0, *_SIZES[:-1]]) * _T
_SIGNS = 6
_SIGN_SIZE = 648
_LEVELS = 44  # of expectations
_SURPRISE = 600  # error of a probability from which weights learn
_SETTLED = 24  # times that a context has learnt at most where a band begins

_TRUST = np.array([256 * (10 * n + 6) // (10 * n + 20) for n in range(32)], np.int64)

_STRETCH = np.array(
    [round(256 * math.log((2 * i + 1) / (8191 - 2 * i))) for i in range(4096)], np.int16
)
_SQUASH = np.array([round(65536 / (1 + math.exp(-i / 256))) for i in range(-2816, 2817)], np.int32)
_COST = np.array([-math.log2((i + 0.5) / 4096) for i in range(4096)], np.float32)


def _quantised(n: int) -> int:
    """Return the class, 0 to 11, of a sum of magnitudes."""
    limits = (1, 2, 3, 5, 7, 10, 15, 23, 37, 61, 111)
    return sum(n >= limit for limit in limits)


def _level(n: int) -> int:
    """Return the level, 0 to 43, of an expectation: four for each factor of two."""
    bits = n.bit_length()
    return n if n < 4 else 4 * (bits - 2) + (n >> (bits - 3) & 3)


_CLASS = np.array([_quantised(n) for n in range(256)], np.uint8)
_LEVEL = np.array([_level(n) for n in range(4096)], np.uint8)


class Model(NamedTuple):
    """What is learnt while coding, and scratch space.

    Attributes
    ----------
    contexts : (n,) uint32
        Of the decisions of magnitudes, `_T` for each circumstance of each model.
    calm : (32,) uint32
        Of whether anything begins where all around is 0.
    signs : (n,) uint32
    rest : (2 groups,) uint32
        Of what is left of long magnitudes, and of the lowest band.
    by_band, by_level : (n, models) int32
        Weights of the models, by decision and class of the band, and by decision and level.
    by_sign : (32, 6) int32
        Weights of the models of signs, by class of the band.
    places, inputs, sign_places, sign_inputs : (n,) int64
        Of the decision at hand: its context in each model, and what that says.
    sibling_rows, sibling_last : (6,) int64
        Of the row at hand: where it lies in each sibling, and the last place of it.
    """

    contexts: NDArray[np.uint32]
    calm: NDArray[np.uint32]
    signs: NDArray[np.uint32]
    rest: NDArray[np.uint32]
    by_band: NDArray[np.int32]
    by_level: NDArray[np.int32]
    by_sign: NDArray[np.int32]
    places: NDArray[np.int64]
    inputs: NDArray[np.int64]
    sign_places: NDArray[np.int64]
    sign_inputs: NDArray[np.int64]
    sibling_rows: NDArray[np.int64]
    sibling_last: NDArray[np.int64]


class Neighbours(NamedTuple):
    """What coefficients of a slab are known so far.

    Attributes
    ----------
    near : (n,) int8
        Of all bands, in steps, clipped to 127, with margins.
    sums : (n,) int16
        Magnitudes of the bands of a level, summed at each place, with margins.
    table : (bands, n) int64
        See `mroi.codecs.ebb.bands.plan`.
    """

    near: NDArray[np.int8]
    sums: NDArray[np.int16]
    table: NDArray[np.int64]


class _Row(NamedTuple):
    """A row of a band, and where its neighbours are.

    Attributes
    ----------
    z, y : int
        In the band.
    near, sums, parent : int
        Its first place among neighbours and sums, and that of its parent.
    up, back : int
        Distance of rows, and of slices, among neighbours.
    sums_up, sums_back : int
        The same among sums.
    parent_y, parent_z : int
        From the parent to the neighbour of the parent that is nearer.
    halves, last : int
        Whether the parent is half as long; its last column, -1 if there is none.
    siblings, orientation, band_class : int
        Of the band.
    """

    z: Integer
    y: Integer
    near: Integer
    sums: Integer
    parent: Integer
    up: Integer
    back: Integer
    sums_up: Integer
    sums_back: Integer
    parent_y: Integer
    parent_z: Integer
    halves: Integer
    last: Integer
    siblings: Integer
    orientation: Integer
    band_class: Integer


class _Around(NamedTuple):
    """Magnitudes around a coefficient: see *contexts* in ``spec/codecs/ebb.md``."""

    w: Integer
    n: Integer
    u: Integer
    diagonal: Integer
    ww_nn: Integer
    cross: Integer
    corners: Integer
    uu: Integer
    wide: Integer
    p: Integer
    pn: Integer
    s: Integer
    sn: Integer


def new_model() -> Model:
    """Return one that knows what the starting state does."""
    first = start.load()
    return Model(
        first.contexts.copy(),
        first.calm.copy(),
        first.signs.copy(),
        np.full(2 * coder.GROUP, coder.HALF, np.uint32),
        np.repeat(first.weights, 32, axis=0),
        np.repeat(first.weights, _LEVELS, axis=0),
        np.repeat(first.sign_weights[None], 32, axis=0),
        np.zeros(_MODELS, np.int64),
        np.zeros(_MODELS, np.int64),
        np.zeros(_SIGNS, np.int64),
        np.zeros(_SIGNS, np.int64),
        np.zeros(6, np.int64),
        np.zeros(6, np.int64),
    )


@step
def _settle(contexts):
    """Forget how much contexts have learnt, but not what: a new band is another one."""
    for i in range(contexts.size):
        context = contexts[i]
        if (context & 65535) > _SETTLED:
            contexts[i] = (context & np.uint32(0xFFFF0000)) | np.uint32(_SETTLED)


@inlined
def _squash(logit):
    return np.int64(_SQUASH[np.uint64(max(np.int64(0), min(logit + 2816, np.int64(5632))))])


@inlined
def _magnitude(near, at):
    return abs(np.int64(near[np.uint64(at)]))


@inlined
def _class(n):
    return np.int64(_CLASS[np.uint64(min(n, np.int64(255)))])


@inlined
def _trit(value):
    """Return 0, 1, 2 for a negative, no, a positive value."""
    return np.int64(value > 0) - np.int64(value < 0) + 1


@inlined
def _sign_at(near, at):
    return _trit(np.int64(near[np.uint64(at)]))


@step
def _predict(model, t, band_class, level):
    """Return the probability that the magnitude is more than t."""
    slot = min(t, np.int64(_T - 1))
    few = min(t, np.int64(3))
    by_band = model.by_band[np.uint64(few * 32 + band_class)]
    by_level = model.by_level[np.uint64(few * _LEVELS + level)]
    total = np.int64(0)
    for i in range(_MODELS):
        context = np.int64(model.contexts[np.uint64(model.places[i] + slot)])
        value = np.int64(_STRETCH[np.uint64(context >> 20)])
        value = (value * _TRUST[np.uint64(min(context & 65535, np.int64(31)))]) >> 8
        model.inputs[i] = value
        total += value * (np.int64(by_band[i]) + np.int64(by_level[i]))
    return _squash(total >> 17)


@step
def _update(model, t, band_class, level, probability, bit):
    slot = min(t, np.int64(_T - 1))
    few = min(t, np.int64(3))
    by_band = model.by_band[np.uint64(few * 32 + band_class)]
    by_level = model.by_level[np.uint64(few * _LEVELS + level)]
    error = 65535 * bit - probability
    surprises = abs(error) >= _SURPRISE
    for i in range(_MODELS):
        coder.learn(model.contexts, np.uint64(model.places[i] + slot), bit)
    if not surprises:
        return
    for i in range(_MODELS):
        change = (model.inputs[i] * error + 32768) >> 16
        by_band[i] = np.int32(np.int64(by_band[i]) + change)
        by_level[i] = np.int32(np.int64(by_level[i]) + change)


@step
def _code_sign(decoding, interval, words, model, band_class, negative):
    """Code whether a coefficient is negative."""
    weights = model.by_sign[np.uint64(band_class)]
    total = np.int64(0)
    for i in range(_SIGNS):
        context = np.int64(model.signs[np.uint64(model.sign_places[i])])
        value = np.int64(_STRETCH[np.uint64(context >> 20)])
        model.sign_inputs[i] = value
        total += value * np.int64(weights[i])
    probability = max(np.int64(655), min(_squash(total >> 16), np.int64(64880)))
    negative, interval = coder.sharp_decision(decoding, interval, words, probability, negative)
    error = 65535 * negative - probability
    for i in range(_SIGNS):
        change = (model.sign_inputs[i] * error + 8192) >> 14
        weights[i] = np.int32(np.int64(weights[i]) + change)
        coder.learn(model.signs, np.uint64(model.sign_places[i]), negative)
    return negative, interval


@step
def _choose(model, magnitude, rate, band_class, level):
    """Return the magnitude with the best of distortion and bits: rounded, one less, or 0.

    `magnitude` is in steps, `rate` what a bit costs in squared steps.
    """
    rounded = np.int64(magnitude + 0.5)
    if rounded == 0 or rounded > 7:
        return rounded
    bits = 0.0
    best, least = np.int64(0), np.float64(0)
    for t in range(rounded + 1):
        probability = _predict(model, np.int64(t), band_class, level)
        if t == 0 or t >= rounded - 1:
            ends = bits + _COST[np.uint64((65535 - probability) >> 4)] + (t > 0)
            off = magnitude - t
            cost = off * off + rate * ends
            if t == 0 or cost < least:
                best, least = np.int64(t), cost
        bits += _COST[np.uint64(probability >> 4)]
    return best


@step
def _code_magnitude(decoding, interval, words, model, magnitude, band_class, level, t):
    more = np.int64(1)
    while more and t < _LONGEST:
        probability = _predict(model, t, band_class, level)
        more = np.int64(magnitude > t)
        more, interval = coder.sharp_decision(decoding, interval, words, probability, more)
        _update(model, t, band_class, level, probability, more)
        t += more
    if t == _LONGEST:
        rest, interval = coder.number(
            decoding, interval, words, model.rest, 0, magnitude - _LONGEST
        )
        t += rest
    return t, interval


@inlined
def _begins(exact, probability, rate):
    """Return whether a coefficient where all around is 0 is worth its bits."""
    if exact >= 1.5:
        return np.int64(1)
    more = _COST[np.uint64(probability >> 4)] - _COST[np.uint64((65535 - probability) >> 4)] + 1.5
    return np.int64(exact * exact > (exact - 1) * (exact - 1) + rate * more)


@step
def _code_calm(decoding, interval, words, model, band_class, exact, rate):
    """Code whether anything begins where all around is 0."""
    index = np.uint64(band_class)
    probability = np.int64(model.calm[index]) >> 16
    begins = np.int64(0)
    if not decoding:
        begins = _begins(exact, probability, rate)
    begins, interval = coder.sharp_decision(decoding, interval, words, probability, begins)
    coder.learn(model.calm, index, begins)
    return begins, interval


@step
def _open_row(known, model, b, z, y):
    """Return where a row of a band and its neighbours are."""
    table = known.table
    band = table[b]
    parent = table[max(band[11], np.int64(0))]
    start = parent[8]
    start += min(z >> band[12], parent[5] - 1) * parent[10]
    start += min(y >> band[13], parent[6] - 1) * parent[9]
    for j in range(band[17]):
        other = table[b - band[17] + j]
        there = min(z, other[5] - 1) * other[10] + min(y, other[6] - 1) * other[9]
        model.sibling_rows[j] = other[8] + there
        model.sibling_last[j] = other[7] - 1
    return _Row(
        z, y, band[8] + z * band[10] + y * band[9],
        (z + 2) * band[16] + (y + 2) * band[15] + 3,
        start, band[9], band[10], band[15], band[16],
        parent[9] if y & 1 else -parent[9], parent[10] if z & 1 else -parent[10],
        band[14], parent[7] - 1 if band[11] >= 0 else np.int64(-1), band[17], band[1],
        min(band[0] - 1, np.int64(3)) * 8 + band[1],
    )  # fmt: skip


@inlined
def _parent_place(row, x):
    return row.parent + min(x >> row.halves, row.last)


@inlined
def _look(known, row, x):
    """Return the magnitudes around a coefficient."""
    near, sums = known.near, known.sums
    i = row.near + x
    n, u = i - row.up, i - row.back
    nn = n - row.up
    un, us = u - row.up, u + row.up
    p0 = pn = s0 = sn = np.int64(0)
    if row.last >= 0:
        p = _parent_place(row, x)
        dx = 2 * (x & 1) - 1
        p0 = _magnitude(near, p)
        pn = (
            2 * (_magnitude(near, p + dx) + _magnitude(near, p + row.parent_y)
                 + _magnitude(near, p + row.parent_z))
            + _magnitude(near, p - dx) + _magnitude(near, p - row.parent_y)
            + _magnitude(near, p - row.parent_z)
        )  # fmt: skip
    if row.siblings:
        s = row.sums + x
        s0 = np.int64(sums[np.uint64(s)])
        sn = (
            np.int64(sums[np.uint64(s - 1)]) + sums[np.uint64(s + 1)]
            + sums[np.uint64(s - row.sums_up)] + sums[np.uint64(s + row.sums_up)]
            + sums[np.uint64(s - row.sums_back)] + sums[np.uint64(s + row.sums_back)]
        )  # fmt: skip
    return _Around(
        _magnitude(near, i - 1), _magnitude(near, n), _magnitude(near, u),
        _magnitude(near, n - 1) + _magnitude(near, n + 1),
        _magnitude(near, i - 2) + _magnitude(near, nn),
        _magnitude(near, u - 1) + _magnitude(near, u + 1)
        + _magnitude(near, un) + _magnitude(near, us),
        _magnitude(near, un - 1) + _magnitude(near, un + 1)
        + _magnitude(near, us - 1) + _magnitude(near, us + 1),
        _magnitude(near, u - row.back),
        _magnitude(near, n - 2) + _magnitude(near, n + 2) + _magnitude(near, nn - 1)
        + _magnitude(near, nn + 1) + _magnitude(near, i - 3),
        p0, pn, s0, sn,
    )  # fmt: skip


@inlined
def _expect(around):
    """Return about 16 times 9 what magnitude the neighbours make one expect."""
    return (
        16 * (around.w + around.n + around.u) + 8 * around.diagonal
        + 6 * (around.ww_nn + around.cross + around.uu) + 2 * around.corners
        + 10 * around.p + 2 * around.pn + 5 * around.s + around.sn
    )  # fmt: skip


@inlined
def _digit(magnitude):
    return min(magnitude, np.int64(2))


@step
def _sibling_pattern(near, model, siblings, x):
    """Return how large the coefficients at the same place of the siblings are."""
    pattern, factor = np.int64(0), np.int64(1)
    for j in range(siblings):
        at = model.sibling_rows[j] + min(np.int64(x), model.sibling_last[j])
        most = np.int64(2) if j < 3 else np.int64(1)
        pattern += factor * min(_magnitude(near, at), most)
        factor *= most + 1
    return pattern


@inlined
def _place(model, number, context):
    model.places[number] = _STARTS[number] + context * _T


@step
def _choose_contexts(known, model, row, around, level, x):
    """Choose the context of each model."""
    o = row.orientation
    beside = 2 * (around.w + around.n) + around.diagonal
    before = 2 * around.u + around.cross
    coarser = 4 * around.p + around.pn
    wide = around.ww_nn + around.uu + around.corners + around.wide
    q1, q2, q3 = _class(beside), _class(before), _class(coarser >> 1)
    _place(model, 0, (q1 * 12 + q2) * 8 + o)
    few = min(_class(around.w + around.n), np.int64(5))
    _place(model, 1, ((q2 * 12 + q3) * 6 + few) * 8 + o)
    _place(model, 2, level * 32 + row.band_class)
    digits = _digit(around.w) + 3 * _digit(around.n) + 9 * _digit(around.u)
    digits += 27 * _digit(around.p) + 81 * _digit(around.s)
    far = np.int64(around.ww_nn > 1) + 2 * np.int64(around.uu + around.corners > 0)
    _place(model, 3, (digits + 243 * far) * 8 + o)
    siblings = _class((4 * around.s + around.sn) >> 2)
    _place(model, 4, (siblings * 12 + _class((beside + before) >> 1)) * 8 + o)
    _place(model, 5, (_class(wide) * 12 + _class((beside + before + coarser) >> 2)) * 8 + o)
    _place(model, 6, level * 12 + _class(around.sn + around.pn))
    pattern = _sibling_pattern(known.near, model, row.siblings, x)
    _place(model, 7, pattern * 6 + (level >> 3))


@step
def _choose_sign_contexts(known, model, row, x):
    """Choose the context of each model of signs."""
    near, o = known.near, row.orientation
    i = row.near + x
    up, u = i - row.up, i - row.back
    w, n, before = _sign_at(near, i - 1), _sign_at(near, up), _sign_at(near, u)
    parent = beside = below = np.int64(1)
    if row.last >= 0:
        p = _parent_place(row, x)
        parent = _sign_at(near, p)
        beside = _sign_at(near, p + 2 * (x & 1) - 1)
        below = _sign_at(near, p + row.parent_y)
    pattern = np.int64(0)
    for j in range(min(row.siblings, np.int64(4))):
        at = model.sibling_rows[j] + min(np.int64(x), model.sibling_last[j])
        pattern = 3 * pattern + _sign_at(near, at)
    places = model.sign_places
    places[0] = w + 3 * n + 9 * before + 27 * parent
    places[1] = pattern
    places[2] = w + 3 * _sign_at(near, i - 2) + 9 * n + 27 * _sign_at(near, up - row.up)
    places[3] = (
        before + 3 * _sign_at(near, u - row.back)
        + 9 * _sign_at(near, u - 1) + 27 * _sign_at(near, u + 1)
    )  # fmt: skip
    places[4] = w + 3 * _sign_at(near, up - 1) + 9 * n + 27 * _sign_at(near, up + 1)
    places[5] = parent + 3 * beside + 9 * below
    for k in range(5):
        places[k] = k * _SIGN_SIZE + 8 * places[k] + o
    parity = (x & 1) + 2 * (row.y & 1) + 4 * (row.z & 1)
    places[5] = 5 * _SIGN_SIZE + 8 * places[5] + parity


@step
def _code_coefficient(decoding, interval, words, model, known, row, x, exact, rate):
    """Code a coefficient, `exact` steps in an encoder; return it and the next interval."""
    around = _look(known, row, x)
    expected = _expect(around)
    size = abs(exact)
    begins = np.int64(0)
    if expected + around.wide == 0:
        begins, interval = _code_calm(decoding, interval, words, model, row.band_class, size, rate)
        if not begins:
            return np.int64(0), interval
    level = np.int64(_LEVEL[np.uint64(min(expected, np.int64(4095)))])
    _choose_contexts(known, model, row, around, level, x)
    magnitude = begins
    if not decoding:
        if begins:
            magnitude = max(np.int64(1), np.int64(size + 0.4))
        else:
            magnitude = _choose(model, size, rate, row.band_class, level)
    magnitude, interval = _code_magnitude(
        decoding, interval, words, model, magnitude, row.band_class, level, begins
    )
    if magnitude == 0:
        return magnitude, interval
    _choose_sign_contexts(known, model, row, x)
    negative, interval = _code_sign(
        decoding, interval, words, model, row.band_class, np.int64(exact < 0)
    )
    return -magnitude if negative else magnitude, interval


@step
def _code_band(decoding, interval, words, model, known, b, source, values, unit, rate):
    """Code a band; return the next interval."""
    band = known.table[b]
    z0, y0, x0 = band[2], band[3], band[4]
    most = np.int64(127)
    scale = 1.0 / unit
    exact = 0.0
    for z in range(band[5]):
        for y in range(band[6]):
            row = _open_row(known, model, b, z, y)
            for x in range(band[7]):
                if not decoding:
                    exact = np.float64(source[z0 + z, y0 + y, x0 + x]) * scale
                value, interval = _code_coefficient(
                    decoding, interval, words, model, known, row, x, exact, rate
                )
                values[z0 + z, y0 + y, x0 + x] = value
                known.near[np.uint64(row.near + x)] = max(-most, min(value, most))
    return interval


@step
def _add_to_sums(known, b):
    """Add a finished band to the sums of its level."""
    near, sums, table = known
    band = table[b]
    ty, tz = band[15], band[16]
    for z in range(band[5]):
        for y in range(band[6]):
            row = band[8] + z * band[10] + y * band[9]
            to = 2 * tz + 2 * ty + 3 + z * tz + y * ty
            for x in range(band[7]):
                sums[np.uint64(to + x)] += np.int16(abs(np.int64(near[np.uint64(row + x)])))


@step
def _code_lowest(decoding, interval, words, model, values, band, bits):
    """Code the lowest band: each value less what its neighbours say; return the next interval."""
    for z in range(band[5]):
        for y in range(band[6]):
            for x in range(band[7]):
                guess = np.int64(0)
                if x > 0 and y > 0:
                    w, n = np.int64(values[z, y, x - 1]), np.int64(values[z, y - 1, x])
                    guess = w + n - np.int64(values[z, y - 1, x - 1])
                    if z > 0:
                        guess = (guess + np.int64(values[z - 1, y, x])) >> 1
                elif x > 0:
                    guess = np.int64(values[z, y, x - 1])
                elif y > 0:
                    guess = np.int64(values[z, y - 1, x])
                elif z > 0:
                    guess = np.int64(values[z - 1, y, x])
                error = np.int64(values[z, y, x]) - guess
                mapped = -2 * error - 1 if error < 0 else 2 * error
                high, interval = coder.number(
                    decoding, interval, words, model.rest, 1, mapped >> bits
                )
                low = mapped & ((np.int64(1) << bits) - 1)
                if bits > 0:
                    low, interval = coder.uniform(decoding, interval, words, bits, low)
                mapped = (high << bits) | low
                error = -((mapped + 1) >> 1) if mapped & 1 else mapped >> 1
                values[z, y, x] = np.int32(guess + error)
    return interval


@kernel
def open_section(decoding, words):
    """Return the first interval of a section."""
    return coder.begin(decoding, words)


@kernel
def code_section(
    decoding, interval, words, model, known, bands, settles, bits, source, values, unit, rate
):
    """Code the bands of a section of one slab, from the first of two numbers to the last.

    Parameters
    ----------
    known : Neighbours
        Of the slab.
    bands : tuple of 2 int
        The first band, and the one after the last.
    settles : bool
        Whether contexts settle where a band begins: in the first slab.
    bits : int
        Low bits of the lowest band that no model knows.
    source : (slices, rows, columns) float32
        The coefficients, for an encoder.
    values : (slices, rows, columns) int32
        Gets them in steps. An encoder has put the lowest band there.
    unit : float
        The step, in units of `source`.
    rate : float
        What a bit costs an encoder, in squared steps.

    Returns
    -------
    Interval
    """
    for b in range(bands[0], bands[1]):
        band = known.table[b]
        if settles:
            _settle(model.contexts)
        if band[1] == 0:
            interval = _code_lowest(decoding, interval, words, model, values, band, bits)
            continue
        if band[17] == 0:
            known.sums[:] = 0
        interval = _code_band(
            decoding, interval, words, model, known, b, source, values, unit, rate
        )
        _add_to_sums(known, b)
    return interval


@kernel
def restore(values, table, bands, size, shifts):
    """Turn steps into coefficients, in place: multiples of `size`, shifted by magnitude."""
    for b in range(bands[0], bands[1]):
        band = table[b]
        first = 3 * (3 - min(band[0], np.int64(3)))
        for z in range(band[2], band[2] + band[5]):
            for y in range(band[3], band[3] + band[6]):
                for x in range(band[4], band[4] + band[7]):
                    value = np.int64(values[z, y, x])
                    magnitude = abs(value)
                    if magnitude:
                        exact = magnitude * size
                        if band[1]:
                            shift = shifts[first + min(magnitude, np.int64(3)) - 1]
                            exact += (shift * size) >> 6
                        exact = min(exact, np.int64(1 << 30))
                        values[z, y, x] = -exact if value < 0 else exact


@kernel
def sum_excess(source, values, table, bands, unit, sums, counts):
    """Sum by how much coefficients are beyond their steps, by magnitude: 1, 2, more."""
    scale = 1.0 / unit
    for b in range(bands[0], bands[1]):
        band = table[b]
        if band[1] == 0:
            continue
        first = 3 * (3 - min(band[0], np.int64(3)))
        for z in range(band[2], band[2] + band[5]):
            for y in range(band[3], band[3] + band[6]):
                for x in range(band[4], band[4] + band[7]):
                    magnitude = abs(np.int64(values[z, y, x]))
                    if magnitude:
                        k = first + min(magnitude, np.int64(3)) - 1
                        sums[k] += abs(np.float64(source[z, y, x])) * scale - magnitude
                        counts[k] += 1


@kernel
def code_taps(decoding, words, contexts, taps):
    """Code the taps of a filter; return the interval behind them."""
    interval = coder.begin(decoding, words)
    for g in range(taps.shape[0]):
        used = np.int64(np.any(taps[g] != 0))
        used, interval = coder.adaptive(decoding, interval, words, contexts, np.uint64(0), used)
        for k in range(taps.shape[1]):
            if used:
                tap = np.int64(taps[g, k])
                mapped = -2 * tap - 1 if tap < 0 else 2 * tap
                group = 1 + k // 6
                mapped, interval = coder.number(decoding, interval, words, contexts, group, mapped)
                taps[g, k] = -((mapped + 1) >> 1) if mapped & 1 else mapped >> 1
            else:
                taps[g, k] = 0
    return interval
