"""Voxels of `small` and `max`: *prediction*, *error*, *models* and *learning*.

Predictions and what is derived from them are in 1/256. Why no index leaves its array (numba checks
none): taps stay within the margins of the planes; signs, ratios and details are made of
comparisons, levels and tones are clipped where they are made, so no context is beyond those of its
model.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: PLR0917  # and take everything by position

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.calv import coder
from mroi.codecs.calv.adaptive.tables import INVERSE, find_level, logarithm, squash, stretch
from mroi.codecs.calv.planes import put_symbol
from mroi.codecs.compiled import Integer, inlined, step

__all__ = ["Limits", "Mixer", "Predictor", "Rows", "Statistics", "Sums", "Trail", "code_row",
           "new_mixer"]  # fmt: skip

_DECISIONS = 40  # zero (3 thirds), sign, quotient (24), remainder (3 and 6)
_MIXED = 8  # of them in `small`, those below
_SIGN, _QUOTIENT, _HIGH, _SECOND = 3, 4, 28, 31  # the first of each
_LONGEST = 24  # quotient that decisions say
_MASKS = 256  # contexts of the background, before those of the models
_SIZES = (64, 512, 800, 2048, 512, 1024)  # contexts of each model
_STARTS = tuple(_MASKS + _DECISIONS * sum(_SIZES[:model]) for model in range(len(_SIZES)))
_WEIGHT = 85536  # of all experts of a decision


class Limits(NamedTuple):
    """What holds for all voxels of a slice.

    Attributes
    ----------
    top, background : int
        Greatest symbol; the symbol of the background, -1 if there is none.
    ceiling, coarse : int
        256 `top`; how far to shift symbols so that they are below 16.
    first, scale : bool, int
        Whether there is no slice before, and how much errors count then.
    near : tuple of int
        Empty but for a 0 if nothing is lost, else `near` and `width`: a kernel is compiled for
        each length of this.
    """

    top: Integer
    background: Integer
    ceiling: Integer
    coarse: Integer
    first: bool
    scale: Integer
    near: tuple[Integer, ...]


class Rows(NamedTuple):
    """The row that is coded and those around it: views of symbols and of the noise of the blend.

    Attributes
    ----------
    here : (columns + 8,) int32
        From column -8 on.
    north, above : (columns + 2,) int32
        Of N and of U, from column -1 on.
    south : (columns,) int32
        Of US.
    noise_north, noise_above : (columns,) int32
    """

    here: NDArray[np.int32]
    north: NDArray[np.int32]
    above: NDArray[np.int32]
    south: NDArray[np.int32]
    noise_north: NDArray[np.int32]
    noise_above: NDArray[np.int32]


class Predictor(NamedTuple):
    """The stored predictor and its corrections.

    Attributes
    ----------
    coefficients : (128,) int32
        Of the slice, in 1/4096.
    weights : (corrections, taps, columns) int32
        Of the corrections in each column of the row, in 1/4096; N has none.
    near : tuple of int
        Taps in the row of the voxel: of the stored predictor, and of each correction.
    """

    coefficients: NDArray[np.int32]
    weights: NDArray[np.int32]
    near: tuple[int, ...]


class Sums(NamedTuple):
    """What the rows above and the slices before give to the voxels of a row.

    Attributes
    ----------
    stored : (columns,) int32
        To the stored prediction.
    local : (corrections, columns) int32
        To the corrections.
    noise : (predictors + 1, columns) int32
        To the activities of the predictors and, last, of the blend.
    """

    stored: NDArray[np.int32]
    local: NDArray[np.int32]
    noise: NDArray[np.int32]


class Trail(NamedTuple):
    """What voxels leave behind. The last predictor is the blend of the others.

    Attributes
    ----------
    noise : (predictors + 1, n) int32
        From the first voxel of the row on.
    west, far_west : (4,) int64
        E(W) and E(WW) of each predictor.
    predicted : (4,) int64
        By each predictor.
    errors, levels : (8 tiles,) int32, uint8
        Of the row, for least squares: of the stored prediction, and of the activity.
    """

    noise: NDArray[np.int32]
    west: NDArray[np.int64]
    far_west: NDArray[np.int64]
    predicted: NDArray[np.int64]
    errors: NDArray[np.int32]
    levels: NDArray[np.uint8]


class Mixer(NamedTuple):
    """What decisions are coded with.

    Attributes
    ----------
    models : tuple of int
        Their numbers: a kernel is compiled for each length of this.
    contexts : (n,) uint32
    shares : (4 decisions, experts) int32
        Weights of the experts, by decision and a quarter of the levels.
    places, inputs : (6,) int64, (7,) int64
        Of the voxel: the context of decision 0 in each model. Of the decision: logits of experts.
    """

    models: tuple[int, ...]
    contexts: NDArray[np.uint32]
    shares: NDArray[np.int32]
    places: NDArray[np.int64]
    inputs: NDArray[np.int64]


class Statistics(NamedTuple):
    """What voxels teach.

    Attributes
    ----------
    bias, seen : (1024,) int64
        Sum of the errors of the blend in like circumstances, and of how many voxels.
    recent : (2,) int64
        `history`, and `newest` of the voxel before.
    """

    bias: NDArray[np.int64]
    seen: NDArray[np.int64]
    recent: NDArray[np.int64]


class _Neighbours(NamedTuple):
    """Symbols around a voxel; U, UE and US mean nothing in the first slice."""

    w: Integer
    n: Integer
    nw: Integer
    ne: Integer
    u: Integer
    ue: Integer
    us: Integer


def new_mixer(models: int, experts: int) -> Mixer:
    """Return one that has learnt nothing."""
    contexts = np.full(_MASKS + _DECISIONS * sum(_SIZES[:models]), coder.HALF, np.uint32)
    shares = np.full((4 * _DECISIONS, experts), _WEIGHT // experts, np.int32)
    return Mixer(
        tuple(range(models)), contexts, shares, np.zeros(6, np.int64), np.zeros(7, np.int64)
    )


@step
def code_row(decoding, interval, words, symbols, begin, rows, sums, predictor, trail, limits, mixer,
             statistics):  # fmt: skip
    """Code the voxels of a row; return whether all symbols are sound, and the next interval."""
    for x in range(sums.stored.size):
        near = _neighbours(rows, x)
        activity = _activity(sums, trail, limits, len(predictor.near), x)
        level = find_level(activity)
        _predict(rows, sums, predictor, trail, limits, near.n, x)
        mean = _blend(sums, trail, limits, len(predictor.near), x)
        signs = _signs(near, mean >> 8, limits.first)
        k = np.uint64((level >> 3) * 128 + signs)
        final = _final(mean, statistics, k, limits.ceiling)
        fraction, guess = _in_bin(final & 255, limits), final >> 8

        at = begin + x * symbols.step
        symbol = np.int64(0 if decoding else symbols.pairs[at])
        mask = _mask(near, limits) if limits.background >= 0 else np.int64(0)
        is_background = np.int64(abs(symbol - limits.background) <= limits.near[0])
        if mask > 0:
            is_background, interval = coder.adaptive(
                decoding, interval, words, mixer.contexts, np.uint64(mask), is_background
            )
        if mask > 0 and is_background:
            symbol = limits.background
            error = _to_error(symbol - guess, limits)
        else:
            guess = _with_room(guess, mask, limits)
            error = _to_error(symbol - guess, limits)
            _choose_contexts(
                mixer, level, (mean >> 8) >> limits.coarse, fraction, signs, statistics.recent[0]
            )
            if len(mixer.models) > 3:
                west = trail.west[len(predictor.near)]
                _choose_more(mixer, near, rows, west, activity, level, limits, x)
            error, interval = _code_error(
                decoding, interval, words, mixer, error, level, fraction, activity
            )
            symbol = _to_symbol(guess, error, limits)
        if symbol < 0 or symbol > limits.top:
            return False, interval
        put_symbol(symbols, at, symbol)
        rows.here[x + 8] = symbol

        trail.levels[x] = _level_of_symbols(level, activity, limits)
        _leave(trail, symbol << 8, final - 128, len(predictor.near), limits, x)
        _learn(statistics, k, (symbol << 8) - mean, error, activity)
    return True, interval


@inlined
def _neighbours(rows, x):
    return _Neighbours(
        np.int64(rows.here[x + 7]),
        np.int64(rows.north[x + 1]),
        np.int64(rows.north[x]),
        np.int64(rows.north[x + 2]),
        np.int64(rows.above[x + 1]),
        np.int64(rows.above[x + 2]),
        np.int64(rows.south[x]),
    )


# --- prediction ---


@inlined
def _activity(sums, trail, limits, j, x):
    """Return the activity with the errors of a predictor."""
    return sums.noise[j, x] + limits.scale * (2 * trail.west[j] + trail.far_west[j])


@inlined
def _clip(value, ceiling):
    return max(np.int64(0), min(value, ceiling))


@inlined
def _predict(rows, sums, predictor, trail, limits, n, x):
    """Predict by each predictor."""
    exact = sums.stored[x]
    for i in range(predictor.near[0]):
        exact = np.int32(exact + np.int32(predictor.coefficients[i + 1] * rows.here[x + 7 - i]))
    stored = _clip(np.int64(exact) >> 4, limits.ceiling)
    trail.predicted[0] = stored
    for j in range(len(predictor.near) - 1):
        change = sums.local[j, x]
        for i in range(predictor.near[j + 1]):
            difference = np.int32(rows.here[x + 7 - i] - np.int32(n))
            change = np.int32(change + np.int32(predictor.weights[j, i, x] * difference))
        trail.predicted[j + 1] = _clip(stored + (np.int64(change) >> 4), limits.ceiling)


@inlined
def _blend(sums, trail, limits, predictors, x):
    """Return the mean of the predictions: two by two, by the errors that each made around."""
    mean = trail.predicted[0]
    best = logarithm(_activity(sums, trail, limits, 0, x))
    for j in range(1, predictors):
        log = logarithm(_activity(sums, trail, limits, j, x))
        share = squash(log - best)
        mean = trail.predicted[j] + (((mean - trail.predicted[j]) * share) >> 16)
        best = min(best, log)
    return mean


@inlined
def _signs(near, whole, first):
    """Return which neighbours are above the mean."""
    signs = (
        np.int64(near.w > whole) | np.int64(near.n > whole) << 1
        | np.int64(near.nw > whole) << 2 | np.int64(near.ne > whole) << 3
    )  # fmt: skip
    if not first:
        signs |= (
            np.int64(near.u > whole) << 4 | np.int64(near.ue > whole) << 5
            | np.int64(near.us > whole) << 6
        )  # fmt: skip
    return signs


@inlined
def _final(mean, statistics, k, ceiling):
    """Return the mean without the bias that was seen in the same circumstances, and a half."""
    inverse = INVERSE[np.uint64(statistics.seen[k])]
    return _clip(mean + ((statistics.bias[k] * inverse) >> 16), ceiling) + 128


@inlined
def _mask(near, limits):
    """Return which neighbours are background."""
    background = limits.background
    mask = (
        np.int64(near.w == background) | np.int64(near.n == background) << 1
        | np.int64(near.ne == background) << 2 | np.int64(near.nw == background) << 3
    )  # fmt: skip
    if not limits.first:
        mask |= (
            np.int64(near.u == background) << 4 | np.int64(near.ue == background) << 5
            | np.int64(near.us == background) << 6
        )  # fmt: skip
    elif mask > 0:
        mask |= 128
    return mask


# --- within near: what is coded is how many widths the symbol is off ---


@inlined
def _in_bin(fraction, limits):
    """Return the fraction of a prediction as one of the width."""
    if len(limits.near) > 1:
        return 128 + (fraction - 128) // limits.near[-1]
    return fraction


@inlined
def _with_room(guess, mask, limits):
    """Return a guess that makes the best of what is known.

    After voxels of the background, no symbol that is not said to be it is near of it; elsewhere,
    one that is near shall be it. What an error of 0 stands for lies between 0 and `top`.
    """
    if len(limits.near) > 1:
        near, width, background = limits.near[0], limits.near[-1], limits.background
        off = guess - background if background >= 0 else width
        if mask == 0 and abs(off) <= near:
            return background
        if mask > 0 and abs(off) < width:
            guess = background + (width if off >= 0 or background < width else -width)
        guess = max(near, min(guess, limits.top - near))
    return guess


@inlined
def _to_error(off, limits):
    """Return the error of a symbol that is so far off the guess."""
    if len(limits.near) > 1:
        return (off + limits.near[0]) // limits.near[-1]
    return off


@inlined
def _to_symbol(guess, error, limits):
    """Return the symbol that an error means."""
    if len(limits.near) > 1:
        return max(np.int64(0), min(guess + error * limits.near[-1], limits.top))
    return guess + error


@inlined
def _level_of_symbols(level, activity, limits):
    """Return the level for least squares, which compare symbols."""
    if len(limits.near) > 1:
        return find_level(activity * limits.near[-1])
    return level


@inlined
def _in_widths(distance, limits):
    """Return a distance of symbols as one in widths."""
    if len(limits.near) > 1:
        return distance // limits.near[-1]
    return distance


# --- error ---


@step
def _code_error(decoding, interval, words, mixer, error, level, fraction, activity):
    """Code the error; return it and the next interval."""
    shift = max(np.int64(0), (level - 21) >> 2)
    unit = np.int64(shift == 0)  # else errors are large, and 0 is one of many
    group = level >> 4
    slope = np.int64(24466000) // (activity + 34)
    below = _logistic(fraction, slope)
    index = (3 * fraction) >> 8
    if unit:
        part = 65536 - below - _logistic(256 - fraction, slope)
        is_zero = np.int64(error == 0)
        is_zero, interval = _decide(
            decoding, interval, words, mixer, index, group, part, np.int64(65536), is_zero
        )
        if is_zero:
            return np.int64(0), interval
        index = np.int64(_SIGN)
    parts = below + _logistic(256 * unit - fraction, slope)
    negative, interval = _decide(
        decoding, interval, words, mixer, index, group, below, parts, np.int64(error < 0)
    )
    m = -1 - error if error < 0 else error - unit
    distance = fraction if negative else 256 * unit - fraction
    m, interval = _code_magnitude(
        decoding, interval, words, mixer, m, shift, group, distance, slope
    )
    return -1 - m if negative else m + unit, interval


@inlined
def _code_magnitude(decoding, interval, words, mixer, m, shift, group, distance, slope):
    """Code m >= 0: its quotient by 2^shift one by one, then the remainder from its highest bit."""
    least = np.int64(0)  # of what m can still be
    width = np.int64(1) << shift
    quotient = np.int64(0)
    more = np.int64(1)
    parts = _logistic(distance, slope)
    while more and quotient < _LONGEST:
        part = _logistic(distance + ((least + width) << 8), slope)
        more, interval = _decide(
            decoding, interval, words, mixer, _QUOTIENT + quotient, group, part, parts,
            np.int64(m >= least + width),
        )  # fmt: skip
        least += width & -more
        quotient += more
        parts = part
    few = min(quotient, np.int64(2))
    if quotient == _LONGEST:
        quotient, interval = _code_long(decoding, interval, words, m >> shift)
        least = quotient << shift
    bit = np.int64(0)
    if shift > 0:
        width >>= 1
        bit, interval = _code_half(
            decoding, interval, words, mixer, _HIGH + few, group, m, least, width, distance, slope
        )
        least += width & -bit
    if shift > 1:
        width >>= 1
        bit, interval = _code_half(
            decoding, interval, words, mixer, _SECOND + 2 * few + bit, group, m, least, width,
            distance, slope,
        )  # fmt: skip
        least += width & -bit
    if shift > 2:
        rest, interval = coder.uniform(decoding, interval, words, shift - 2, m & (width - 1))
        least += rest
    return least, interval


@inlined
def _code_half(decoding, interval, words, mixer, index, group, m, least, width, distance, slope):
    """Code which half of `2 width` from `least` on m is in."""
    end = _logistic(distance + ((least + 2 * width) << 8), slope)
    part = _logistic(distance + ((least + width) << 8), slope) - end
    parts = _logistic(distance + (least << 8), slope) - end
    upper = np.int64(m >= least + width)
    return _decide(decoding, interval, words, mixer, index, group, part, parts, upper)


@step
def _code_long(decoding, interval, words, quotient):
    """Code a quotient of 24 or more at even odds."""
    beyond = quotient - 23
    length = np.int64(0)
    while not decoding and beyond >> (length + 1) > 0:
        length += 1
    length, interval = coder.uniform(decoding, interval, words, np.int64(5), length)
    length = min(length, np.int64(16))
    below = beyond & ((np.int64(1) << length) - 1)
    below, interval = coder.uniform(decoding, interval, words, length, below)
    return 23 + ((np.int64(1) << length) | below), interval


@inlined
def _logistic(distance, slope):
    """Return F: the share of errors beyond a distance, in 1/65536."""
    return squash(-((distance * slope) >> 16))


# --- models ---


@inlined
def _choose_contexts(mixer, level, tone, fraction, signs, history):
    """Find the contexts of the models 0 to 2, 3 too in `max`."""
    places = mixer.places
    places[0] = _STARTS[0] + level * _DECISIONS
    places[1] = _STARTS[1] + (level >> 2 << 5 | tone << 1 | fraction >> 7) * _DECISIONS
    places[2] = _STARTS[2] + ((level >> 1) * 25 + history) * _DECISIONS
    if len(mixer.models) > 3:
        places[3] = _STARTS[3] + (level >> 2 << 7 | signs) * _DECISIONS


@inlined
def _choose_more(mixer, near, rows, west, activity, level, limits, x):
    """Find the contexts of the models 4 and 5."""
    places = mixer.places
    west = _ratio(west, activity)
    north = _ratio(rows.noise_north[x], activity)
    above = np.int64(0) if limits.first else _ratio(rows.noise_above[x], activity)
    detail = _detail(near, limits, activity)
    places[4] = _STARTS[4] + (level >> 1 << 4 | west << 2 | north) * _DECISIONS
    places[5] = _STARTS[5] + (level >> 1 << 5 | above << 3 | detail) * _DECISIONS


@inlined
def _ratio(error, activity):
    """Return 0 to 3: an error against the mean of those around it, whose weights sum to 14."""
    t = 14 * np.int64(error)
    return np.int64(2 * t > activity) + np.int64(t > activity) + np.int64(t > 2 * activity)


@inlined
def _detail(near, limits, activity):
    """Return 0 to 5: differences of neighbours against the errors made around."""
    t = abs(near.w - near.nw) + abs(near.n - near.nw) + abs(near.n - near.ne)
    if not limits.first:
        t += abs(near.u - near.n)
    t = _in_widths(64 * t, limits)
    return (
        np.int64(2 * t > activity) + np.int64(t > activity) + np.int64(t > 2 * activity)
        + np.int64(t > 4 * activity) + np.int64(t > 8 * activity)
    )  # fmt: skip


@inlined
def _decide(decoding, interval, words, mixer, index, group, part, parts, bit):
    """Code a decision by all models, or by the first alone.

    The logistic expert gives the odds part : (parts - part).
    """
    models = len(mixer.models)
    experts = models + 1 if models > 3 else models
    if models <= 3 and index >= _MIXED:
        place = np.uint64(mixer.places[0] + index)
        return coder.adaptive(decoding, interval, words, mixer.contexts, place, bit)
    line = np.uint64(index * 4 + group)
    for i in range(models):
        context = np.int64(mixer.contexts[np.uint64(mixer.places[i] + index)])
        mixer.inputs[i] = stretch(context >> 20)
    if models > 3:
        ratio = (max(part, np.int64(0)) << 12) // (parts + 1)
        mixer.inputs[models] = stretch(min(ratio, np.int64(4095)))
    total = np.int64(0)
    for i in range(experts):
        total += mixer.inputs[i] * np.int64(mixer.shares[line, i])
    probability = squash(total >> 16)
    bit, interval = coder.decision(decoding, interval, words, probability, bit)
    miss = (65535 * bit - probability) * 4
    for i in range(experts):
        mixer.shares[line, i] += (mixer.inputs[i] * miss + 131072) >> 18
    for i in range(models):
        coder.learn(mixer.contexts, np.uint64(mixer.places[i] + index), bit)
    return bit, interval


# --- learning ---


@inlined
def _leave(trail, exact, final, predictors, limits, x):
    """Leave the errors of all predictors behind."""
    trail.errors[x] = exact - trail.predicted[0]
    trail.predicted[predictors] = final
    for j in range(predictors + 1):
        noise = _in_widths(abs(exact - trail.predicted[j]) >> 4, limits)
        noise = min(noise, np.int64(1 << 20))
        trail.far_west[j] = trail.west[j]
        trail.west[j] = noise
        trail.noise[j, x] = noise


@inlined
def _learn(statistics, k, off, error, activity):
    """Learn history and bias from an error, and from how far the mean was off."""
    bias, seen, recent = statistics.bias, statistics.seen, statistics.recent
    much = 448 * abs(error)
    grade = np.int64(much > activity) + np.int64(much > 2 * activity)
    newest = 2 + (grade if error > 0 else -grade)
    recent[0] = 5 * newest + recent[1]
    recent[1] = newest
    bias[k] += off
    seen[k] += 1
    if seen[k] == 255:
        bias[k] >>= 1
        seen[k] >>= 1
