"""Levels `small` and `max`: predictors and probabilities that adapt after every voxel.

Sets of weights, adapted by normalised LMS, each predict a voxel from up to 30 neighbours; their
mean, less the bias seen in the same circumstances, is rounded, and the error is coded in decisions
whose probabilities are learnt in several contexts and mixed. `max` has more sets and more contexts
than `small`. Normative in ``spec/codecs/calv.md``, where the words used here are defined.

Why no index leaves its array (numba checks none): taps stay within the margins of `planes`; levels
come from a table of 0 to 63 whose index is clipped; classes, signs, ratios and parts are made of
comparisons or clipped where they are made; words read beyond the end are 0.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls
# A kernel is one long function: what a voxel needs stays in registers.
# ruff: noqa: C901, PLR0912, PLR0915, PLR0917

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.calv import coder
from mroi.codecs.calv.compiled import kernel
from mroi.codecs.calv.planes import close_plane, close_row, load, open_row

__all__ = ["MAX", "SMALL", "Profile", "decode", "encode"]


@dataclass(frozen=True, slots=True)
class Profile:
    """What distinguishes the levels.

    Attributes
    ----------
    sets : int
        Sets of weights, 1 to 3.
    models : int
        Contexts of which each decision mixes the probabilities, 1 to 6.
    mixed : int
        Decisions with numbers below this are mixed, the others use the first context alone.
    rates : tuple of tuple of int
        Rates of adaptation of the sets that the encoder tries.
    """

    sets: int
    models: int
    mixed: int
    rates: tuple[tuple[int, int, int], ...]


SMALL = Profile(2, 3, 5, ((200, 200, 0),))
MAX = Profile(3, 6, 40, ((100, 100, 100), (200, 200, 200), (350, 350, 350)))

_WIDTH = 32  # taps, with zeros after the last
_DECISIONS = 40  # zero (3 parts), sign, quotient (24), remainder (3 and 6)
_MASKS = 256  # contexts of the background, before those of the models
_SIZES = (64, 2048, 512, 832, 512, 1024)  # contexts of each model
_HALF = 1 << 31  # a context that has seen nothing
_SAMPLING = 16  # one voxel in so many shapes the first weights
_STAGES = range(7)
_MASK, _ZERO, _SIGN, _QUOTIENT, _HIGH, _NEXT, _DONE = _STAGES

# Taps as (slices back, rows up, columns left). W, N and the same place above come first.
_NEAREST = ((0, 0, 1), (0, 1, 0))
_PLANE = (
    *((0, 1, 1), (0, 1, -1), (0, 0, 2), (0, 2, 0), (0, 1, -2), (0, 1, 2), (0, 2, 1), (0, 2, -1)),
    *((0, 0, 3), (0, 3, 0)),
)
_WIDE = (
    *((0, 2, 2), (0, 2, -2), (0, 1, 3), (0, 1, -3), (0, 3, 1), (0, 3, -1), (0, 2, 3), (0, 2, -3)),
    *((0, 3, 2), (0, 3, -2)),
)
_BEFORE = (
    *((1, 0, 1), (1, 1, 0), (1, 0, -1), (1, -1, 0), (1, 1, 1), (1, 1, -1), (1, -1, 1), (1, -1, -1)),
    *((1, 0, 2), (1, 0, -2), (1, 2, 0), (1, -2, 0)),
)
_EARLIER = ((2, 0, 0), (2, 0, 1), (2, 0, -1), (2, 1, 0), (2, -1, 0))
_TAPS = (
    (*_NEAREST, *_PLANE, *_WIDE),
    (*_NEAREST, (1, 0, 0), *_PLANE, *_BEFORE),
    (*_NEAREST, (1, 0, 0), *_PLANE, *_BEFORE, *_EARLIER),
)


def _tap_table() -> NDArray[np.int64]:
    """Return the taps of the first, the second and later slices, (3, 32, 3), zeros after them."""
    table = np.zeros((3, _WIDTH, 3), np.int64)
    for kind, taps in enumerate(_TAPS):
        table[kind, : len(taps)] = taps
    return table


def _level_table() -> NDArray[np.uint8]:
    """Return the level of activities below 4096, then of 1024 times 0 to 1023."""
    table = np.zeros(5120, np.uint8)
    for i in range(5120):
        activity = i if i < 4096 else (i - 4096) << 10
        length = activity.bit_length()
        if activity >= 8:
            table[i] = min(63, 4 * (length - 4) + (activity >> (length - 3) & 3))
    return table


_TABLE = _tap_table()
_COUNTS = np.array([len(taps) for taps in _TAPS], np.int64)
_LEVEL = _level_table()
_INVERSE = np.array([65536 // (n + 1) for n in range(256)], np.int64)
_STRETCH = np.array(
    [round(256 * math.log((2 * i + 1) / (8191 - 2 * i))) for i in range(4096)], np.int64
)
_SQUASH = np.array([round(65536 / (1 + math.exp(-i / 256))) for i in range(-2816, 2817)], np.int64)


def encode(volume: NDArray[np.int32], top: int, profile: Profile) -> bytes | None:
    """Return the section of a slab of numbers from 0 to `top`, or None if it is larger than raw."""
    weights = _fit(volume)
    best = None
    for rates in profile.rates:
        head = np.array([_find_background(volume, top) + 1, *rates], np.int64)
        state, words = coder.open_writer(volume.size + volume.size // 8 + 1024)
        _run(state, words, volume, weights, head, volume.shape[0], top, profile, decoding=False)
        written = coder.close(state, words)
        if written is not None and (best is None or written.size < best.size):
            best = written
    return None if best is None else best.astype("<u2").tobytes()


def decode(
    section: memoryview, out: NDArray[np.int32], slices: int, top: int, profile: Profile
) -> bool:
    """Fill `out`, the first of so many slices, from a section; return whether it is sound."""
    if len(section) < 6 or len(section) % 2:
        return False
    words = np.frombuffer(section, "<u2").astype(np.uint16)
    state = coder.open_reader(words)
    weights = np.zeros((3, _WIDTH), np.int64)
    head = np.zeros(4, np.int64)
    if not _run(state, words, out, weights, head, slices, top, profile, decoding=True):
        return False
    return out.shape[0] < slices or bool(state[0] == 0 and state[2] == words.size)


def _run(
    state: NDArray[np.int64],
    words: NDArray[np.uint16],
    volume: NDArray[np.int32],
    weights: NDArray[np.int64],
    head: NDArray[np.int64],
    slices: int,
    top: int,
    profile: Profile,
    *,
    decoding: bool,
) -> bool:
    """Code the head, then the voxels; return whether all of it is sound."""
    numbers = np.full(3 * 21, _HALF, np.int64)
    counts = _COUNTS[: min(slices, 3)]
    if not _code_head(decoding, state, words, numbers, head, weights, counts, coder.RATES):
        return False
    models = profile.models
    starts = _MASKS + _DECISIONS * np.cumsum((0, *_SIZES))[:-1]
    contexts = np.full(_MASKS + _DECISIONS * sum(_SIZES[:models]), _HALF, np.uint32)
    shares = np.full(4 * _DECISIONS * models, 85536 // models, np.int32)
    return bool(
        _code(
            decoding, state, words, volume, top, head, weights, _TABLE, _COUNTS, profile.sets,
            models, profile.mixed, starts, contexts, shares, coder.RATES, _LEVEL, _INVERSE,
            _STRETCH, _SQUASH,
        )
    )  # fmt: skip


def _find_background(volume: NDArray[np.int32], top: int) -> int:
    """Return the number that fills whole areas, or -1 if none does."""
    number = int(np.bincount(volume.ravel(), minlength=top + 1).argmax())
    here = volume == number
    count = np.count_nonzero(here)
    pairs = np.count_nonzero(here[..., 1:] & here[..., :-1])
    return number if 50 * count > volume.size and 10 * pairs > 7 * count else -1


def _fit(volume: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the weights that each set begins with, in 1/1024, (3, 32), by least squares."""
    normal = np.zeros((3, _WIDTH + 1, _WIDTH + 1))
    _accumulate(volume, normal, _TABLE, _COUNTS, _SAMPLING)
    result = np.zeros((3, _WIDTH), np.int64)
    for kind in range(min(3, volume.shape[0])):
        count = int(_COUNTS[kind])
        lower = normal[kind, : count + 1, : count + 1]
        matrix = np.tril(lower[:count, :count])
        matrix = matrix + np.tril(matrix, -1).T
        ridge = 1e-5 * np.trace(matrix) / count + 1e-3
        solution = np.linalg.solve(matrix + ridge * np.eye(count), lower[count, :count])
        result[kind, :count] = np.rint(np.clip(solution, -1.9, 1.9) * 1024)
    return result


@kernel
def _base(planes, p, width, up):
    """Return the mean of W, N and twice the same place above: what neighbours are relative to."""
    near = np.int64(planes[p - 1]) + planes[p - width]
    return near >> 1 if up == 0 else (near + 2 * np.int64(planes[p + up])) >> 2


@kernel
def _offsets(table, count, kind, s, size, width, offsets):
    """Turn the taps of a slice into distances in the ring of planes."""
    for i in range(count):
        there = (s - table[kind, i, 0]) % 3
        offsets[i] = (there - s % 3) * size - table[kind, i, 1] * width - table[kind, i, 2]


@kernel
def _accumulate(volume, normal, table, counts, sampling):
    """Add up the normal equations, each voxel weighted the less the more detail is around."""
    slices, rows, columns = volume.shape
    width = columns + 6
    size = (rows + 5) * width
    planes = np.zeros(min(slices, 3) * size, np.int32)
    offsets = np.zeros(32, np.int64)
    d = np.zeros(33)
    for s in range(slices):
        start = (s % 3) * size
        load(volume, s, planes, start)
        kind = min(s, 2)
        count = counts[kind]
        _offsets(table, count, kind, s, size, width, offsets)
        up = offsets[2] if s > 0 else np.int64(0)
        step = sampling // 4 if s == 0 else sampling
        for y in range(rows):
            for x in range((5 * y + 3 * s) % step, columns, step):
                p = start + (y + 3) * width + x + 3
                base = _base(planes, p, width, up)
                nw = planes[p - width - 1]
                n = planes[p - width]
                detail = abs(planes[p - 1] - nw) + abs(n - nw) + abs(n - planes[p - width + 1])
                weight = 1.0 / (detail * math.sqrt(detail) + 30.0)
                for i in range(count):
                    d[i] = planes[p + offsets[i]] - base
                d[count] = planes[p] - base
                for i in range(count + 1):
                    t = weight * d[i]
                    for j in range(i + 1):
                        normal[kind, i, j] += t * d[j]


@kernel
def _code_head(decoding, state, words, numbers, head, weights, counts, rates):
    """Code background, rates and first weights; return whether they are sound."""
    for i in range(4):
        first = np.int64(0 if i == 0 else 21)
        head[i] = coder.adaptive_number(decoding, state, words, numbers, first, head[i], rates)
        if head[i] > (65536 if i == 0 else 1023):
            return False
    for kind in range(counts.size):
        for i in range(counts[kind]):
            value = weights[kind, i]
            number = coder.adaptive_number(
                decoding, state, words, numbers, np.int64(42), (value << 1) ^ (value >> 63), rates
            )
            if number > 4095:
                return False
            weights[kind, i] = (number >> 1) ^ -(number & 1)
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
def _escape(decoding, state, words, quotient, remainder, shift, rest):
    """Code what the decisions left over at even odds; return the number it completes."""
    if quotient == 24:
        beyond = (rest >> shift) - 23
        length = np.int64(0)
        while not decoding and beyond >> (length + 1) > 0:
            length += 1
        length = coder.uniform(decoding, state, words, np.int64(5), length)
        length = min(length, np.int64(16))
        below = beyond & ((np.int64(1) << length) - 1)
        below = coder.uniform(decoding, state, words, length, below)
        quotient = 23 + ((np.int64(1) << length) | below)
    if shift > 2:
        low = rest & ((np.int64(1) << (shift - 2)) - 1)
        low = coder.uniform(decoding, state, words, shift - 2, low)
        remainder = (remainder << (shift - 2)) | low
    return (quotient << shift) | remainder


@kernel
def _code(decoding, state, words, volume, top, head, first_weights, table, counts, sets, models,
          mixed, starts, contexts, shares, rates, level_of, inverse, stretch, squash):  # fmt: skip
    """Code a slab; return whether all its numbers are sound."""
    slices, rows, columns = volume.shape
    lanes = table.shape[1]
    width = columns + 6
    size = (rows + 5) * width
    background = head[0] - 1
    ceiling = np.int64(top) << 8
    planes = np.zeros(min(slices, 3) * size, np.int32)
    noise = np.zeros(min(slices, 2) * size, np.int32)
    weights = np.zeros((3, 16, lanes), np.int32)
    d = np.zeros(lanes, np.int32)
    offsets = np.zeros(lanes, np.int64)
    bias = np.zeros(8 * 128, np.int64)
    seen = np.zeros(8 * 128, np.int64)
    places = np.zeros(6, np.int64)
    inputs = np.zeros(6, np.int64)
    predicted = np.zeros(3, np.int64)
    chosen = np.zeros(3, np.int64)
    history = np.int64(0)
    code, span, at = state[0], state[1], state[2]
    for s in range(slices):
        start = (s % 3) * size
        quiet = (s & 1) * size
        back = (1 - 2 * (s & 1)) * size
        kind = min(s, 2)
        count = counts[kind]
        _offsets(table, count, kind, s, size, width, offsets)
        up = offsets[2] if s > 0 else np.int64(0)
        if s < 3:
            for i in range(lanes):
                for j in range(sets):
                    for c in range(16):
                        weights[j, c, i] = first_weights[s, i] << 6
        for y in range(rows):
            row = start + (y + 3) * width + 3
            noise_row = quiet + (y + 3) * width + 3
            open_row(planes, row, columns)
            open_row(noise, noise_row, columns)
            for x in range(columns):
                p = row + x
                q = noise_row + x

                # Neighbours, and the errors made there.
                w = np.int64(planes[p - 1])
                n = np.int64(planes[p - width])
                ne = np.int64(planes[p - width + 1])
                nw = np.int64(planes[p - width - 1])
                low = min(w, n, ne)
                high = max(w, n, ne)
                activity = (
                    2 * np.int64(noise[q - 1]) + 2 * np.int64(noise[q - width])
                    + noise[q - width - 1] + noise[q - width + 1]
                    + noise[q - 2] + noise[q - 2 * width]
                )  # fmt: skip
                u = np.int64(0)
                ue = np.int64(0)
                us = np.int64(0)
                if s == 0:
                    activity *= 2
                else:
                    u = np.int64(planes[p + up])
                    ue = np.int64(planes[p + up + 1])
                    us = np.int64(planes[p + up + width])
                    low = min(low, u)
                    high = max(high, u)
                    b = q + back
                    activity += (
                        2 * np.int64(noise[b]) + noise[b + 1] + noise[b + width]
                        + noise[b - 1] + noise[b - width]
                    )  # fmt: skip
                level = np.int64(
                    level_of[activity if activity < 4096 else 4096 + min(activity >> 10, 1023)]
                )

                # Prediction, in 1/256.
                base = _base(planes, p, width, up)
                for i in range(count):
                    d[i] = planes[np.uint64(p + offsets[i])] - base
                chosen[0] = level >> 3
                chosen[1] = min(base * 16 // (top + 1), 15)
                chosen[2] = (
                    np.int64(w > n) | np.int64(nw > n) << 1
                    | np.int64(ne > n) << 2 | np.int64(u > n) << 3
                )  # fmt: skip
                energy = np.int64(0)
                for i in range(lanes):
                    energy += np.int64(d[i]) * np.int64(d[i])
                total = np.int64(0)
                for j in range(sets):
                    weight = weights[j, chosen[j]]
                    dot = np.int64(0)
                    for i in range(lanes):
                        dot += np.int64(weight[i]) * np.int64(d[i])
                    predicted[j] = max(np.int64(0), min((base << 8) + (dot >> 8), ceiling))
                    total += predicted[j]
                mean = total >> 1 if sets == 2 else (total * 21846) >> 16
                margin = (high - low) * 128 + 512
                mean = max((low << 8) - margin, min(mean, (high << 8) + margin))
                mean = max(np.int64(0), min(mean, ceiling))
                whole = mean >> 8
                signs = (
                    np.int64(w > whole) | np.int64(n > whole) << 1
                    | np.int64(nw > whole) << 2 | np.int64(ne > whole) << 3
                )  # fmt: skip
                if s > 0:
                    signs |= (
                        np.int64(u > whole) << 4 | np.int64(ue > whole) << 5
                        | np.int64(us > whole) << 6
                    )  # fmt: skip
                k = chosen[0] * 128 + signs
                final = mean + ((bias[k] * inverse[seen[k]]) >> 16)
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
                    if s > 0:
                        mask |= (
                            np.int64(u == background) << 4 | np.int64(ue == background) << 5
                            | np.int64(us == background) << 6
                        )  # fmt: skip
                    elif mask > 0:
                        mask |= 128
                shade = chosen[1] << 1 | fraction >> 7
                places[0] = starts[0] + level * 40
                places[1] = starts[1] + ((level >> 2 << 7) | signs) * 40
                places[2] = starts[2] + ((level >> 2 << 5) | shade) * 40
                if models > 3:
                    west = _ratio(noise[q - 1], activity)
                    north = _ratio(noise[q - width], activity)
                    above = _ratio(noise[q + back], activity) if s > 0 else np.int64(0)
                    detail = _detail(w, n, ne, nw, u, s == 0, activity)
                    places[3] = starts[3] + ((level >> 1) * 25 + history) * 40
                    places[4] = starts[4] + ((level >> 1 << 4) | west << 2 | north) * 40
                    places[5] = starts[5] + ((level >> 1 << 5) | above << 3 | detail) * 40

                # The error, decision by decision.
                value = np.int64(volume[s, y, x])
                error = value - guess
                rest = abs(error) - 1
                shift = max(np.int64(0), (level - 21) >> 2)
                quotient = np.int64(0)
                remainder = np.int64(0)
                negative = np.int64(0)
                stage = _MASK if mask > 0 else _ZERO
                decision = (fraction * 3) >> 8
                while stage != _DONE:
                    bit = np.int64(0)
                    if not decoding:
                        if stage == _MASK:
                            bit = np.int64(value == background)
                        elif stage == _ZERO:
                            bit = np.int64(error == 0)
                        elif stage == _SIGN:
                            bit = np.int64(error < 0)
                        elif stage == _QUOTIENT:
                            bit = np.int64(rest >> shift > quotient)
                        elif stage == _HIGH:
                            bit = (rest >> (shift - 1)) & 1
                        else:
                            bit = (rest >> (shift - 2)) & 1
                    place = mask if stage == _MASK else places[0] + decision
                    mixing = stage != _MASK and decision < mixed
                    share = (decision * 4 + (level >> 4)) * models
                    chance = np.int64(contexts[place]) >> 16
                    if mixing:
                        dot = np.int64(0)
                        for i in range(models):
                            inputs[i] = stretch[np.int64(contexts[places[i] + decision]) >> 20]
                            dot += inputs[i] * shares[share + i]
                        chance = squash[max(np.int64(0), min((dot >> 16) + 2816, np.int64(5632)))]
                    bound = (span >> 16) * max(np.int64(32), min(chance, np.int64(65504)))
                    if decoding:
                        bit = np.int64(code < bound)
                    if bit:
                        span = bound
                    else:
                        span -= bound
                        code += -bound if decoding else bound
                    if span < 4294967296:
                        span <<= 16
                        if decoding:
                            code <<= 16
                            if at < words.size:
                                code |= np.int64(words[at])
                            at += 1
                        else:
                            state[0] = code
                            state[2] = at
                            coder.put(state, words)
                            code = state[0]
                            at = state[2]
                    goal = 65535 * bit
                    miss = (goal - chance) * 6
                    for i in range(models if mixing else 1):
                        if mixing:
                            shares[share + i] += (inputs[i] * miss + 131072) >> 18
                            place = places[i] + decision
                        context = np.int64(contexts[place])
                        times = context & 65535
                        chance = context >> 16
                        chance += ((goal - chance) * rates[times]) >> 16
                        contexts[place] = (chance << 16) | min(times + 1, np.int64(255))
                    if stage == _MASK:
                        stage = _DONE if bit else _ZERO
                        if bit:
                            error = background - guess
                    elif stage == _ZERO:
                        stage = _DONE if bit else _SIGN
                        decision = np.int64(3)
                        if bit:
                            error = np.int64(0)
                    elif stage == _SIGN:
                        negative = bit
                        stage = _QUOTIENT
                        decision = np.int64(4)
                    elif stage == _QUOTIENT:
                        quotient += bit
                        decision += 1
                        if bit == 0 or quotient == 24:
                            decision = 28 + min(quotient, np.int64(2))
                            stage = _HIGH if shift > 0 else _DONE
                    elif stage == _HIGH:
                        remainder = bit
                        decision = 31 + 2 * min(quotient, np.int64(2)) + bit
                        stage = _NEXT if shift > 1 else _DONE
                    else:
                        remainder = 2 * remainder + bit
                        stage = _DONE
                    if stage == _DONE and decision >= 28:
                        rest = (quotient << shift) | remainder
                        if quotient == 24 or shift > 2:
                            state[0], state[1], state[2] = code, span, at
                            original = abs(value - guess) - 1
                            rest = _escape(
                                decoding, state, words, quotient, remainder, shift, original
                            )
                            code, span, at = state[0], state[1], state[2]
                        error = -1 - rest if negative else rest + 1
                value = guess + error
                if value < 0 or value > top:
                    return False
                volume[s, y, x] = value
                planes[p] = value

                # Everything learns.
                exact = value << 8
                noise[q] = min(abs(exact - final + 128) >> 4, 1 << 20)
                if models > 3:
                    grade = error * 448 // (activity + 1)
                    grade = max(np.int64(-2), min(grade, np.int64(2)))
                    history = (history % 5) * 5 + 2 + grade
                bias[k] += exact - mean
                seen[k] += 1
                if seen[k] == 255:
                    bias[k] >>= 1
                    seen[k] >>= 1
                power = energy + count * ((activity * activity >> 14) + 2)
                gain = (count << 24) // power
                for j in range(sets):
                    step = exact - predicted[j]
                    step = (step * gain * head[1 + j]) >> 20
                    step = max(np.int64(-2147483647), min(step, np.int64(2147483647)))
                    small = np.int32(step)
                    weight = weights[j, chosen[j]]
                    for i in range(lanes):
                        change = np.int32(np.int32(small * d[i]) + np.int32(2048))
                        weight[i] = np.int32(weight[i] + np.int32(change >> np.int32(12)))
            close_row(planes, row, columns)
            close_row(noise, noise_row, columns)
            if at > words.size + 3:
                return False
        close_plane(planes, start, rows, columns)
        close_plane(noise, quiet, rows, columns)
    state[0], state[1], state[2] = code, span, at
    return True
