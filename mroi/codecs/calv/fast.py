"""Level `fast`: everything is fitted by the encoder and stored, the decoder only applies it.

One linear predictor for the first slice of a slab and one for the others; contexts made of the
errors around a voxel; one static table of errors for each context; four interleaved rANS states.
Normative in ``spec/codecs/calv.md``, where the words used here are defined.

Why no index leaves its array (numba checks none): taps stay within the margins of `planes`;
`activity` is clipped to the 1024 entries of the context map; the map holds numbers of contexts
that exist; the slot of a state is masked to the 4096 entries of a table; tokens come from tables
built here; words and bits are padded by what one row can take, and checked after each row.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls
# A kernel is one long function: what a voxel needs stays in registers.
# ruff: noqa: C901, PLR0915, PLR0917

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.calv import coder
from mroi.codecs.calv.compiled import kernel
from mroi.codecs.calv.planes import close_plane, close_row, load, open_row

__all__ = ["decode", "encode"]

_TAPS = 19  # 10 in the plane, then the 3 x 3 around the same place in the slice before
_FIRST = 10  # of them in a first slice
_ONE = 4096  # 1.0 as a coefficient, and the total of a table
_TOKENS = 128
_BINS = 1024  # of activity
_PARTS = 4  # of the fraction of a prediction
_MAX_CONTEXTS = 64
_SAMPLING = 16  # one voxel in so many shapes the predictor


def encode(volume: NDArray[np.int32], top: int) -> bytes:
    """Return the section of a slab of numbers from 0 to `top`."""
    coefficients = _fit(volume)
    errors = np.empty(volume.shape, np.int32)
    activity = np.empty(volume.shape, np.int32)
    parts = np.empty(volume.shape, np.uint8)
    _model(volume, coefficients, top, errors, activity, parts)
    shift = _shift(activity)
    tokens = np.empty(volume.size, np.uint8)
    fine = np.empty(volume.size, np.uint8)
    histogram = np.zeros((int(_LEVELS[-1]) + 1, _PARTS, _TOKENS), np.int64)
    raw_bits = _tokenise(errors, activity, parts, shift, _LEVELS, tokens, fine, histogram)
    split, cuts = _merge(histogram)
    context_of = _context_map(split, cuts, _BINS)
    first_bin = np.searchsorted(_LEVELS, np.arange(histogram.shape[0]))
    of_fine = context_of.reshape(-1, _PARTS)[first_bin].ravel()
    counts = np.zeros((int(of_fine.max()) + 1, _TOKENS), np.int64)
    np.add.at(counts, of_fine, histogram.reshape(-1, _TOKENS))
    tables = np.stack([_normalise(row) for row in counts]).astype(np.int32)
    words = np.empty(volume.size, np.uint16)
    bits = np.zeros(raw_bits // 32 + 2, np.uint32)
    states = np.full(4, 1 << 16, np.int64)
    first_word = _write(errors, tokens, fine, of_fine, tables, words, bits, states)
    side = _write_side(coefficients, volume.shape[0], shift, split, cuts, tables)
    coded = words[first_word:]
    return b"".join(
        (
            len(side).to_bytes(4, "little"),
            coded.size.to_bytes(4, "little"),
            side,
            states.astype("<u4").tobytes(),
            coded.astype("<u2").tobytes(),
            bits.astype("<u4").tobytes()[: (raw_bits + 7) // 8],
        )
    )


def decode(section: memoryview, out: NDArray[np.int32], slices: int, top: int) -> bool:
    """Fill `out`, the first of so many slices, from a section; return whether it is sound."""
    if len(section) < 8:
        return False
    side_size = int.from_bytes(section[:4], "little")
    count = int.from_bytes(section[4:8], "little")
    start = 8 + side_size
    stop = start + 16 + 2 * count
    if side_size < 6 or side_size % 2 or stop > len(section):
        return False
    side = _read_side(np.frombuffer(section[8:start], "<u2").astype(np.uint16), slices)
    if side is None:
        return False
    coefficients, shift, context_of, tables = side
    columns = out.shape[2]
    states = np.frombuffer(section[start : start + 16], "<u4").astype(np.int64)
    words = np.zeros(count + columns + 1, np.uint16)
    words[:count] = np.frombuffer(section[start + 16 : stop], "<u2")
    rest = len(section) - stop
    # One row takes at most 13 bits a voxel.
    padded = np.zeros(4 * (rest // 4 + columns // 2 + 4), np.uint8)
    padded[:rest] = np.frombuffer(section[stop:], np.uint8)
    symbols = np.empty(tables.shape[0] * _ONE, np.uint8)
    slots = np.empty((tables.shape[0], _TOKENS), np.uint32)
    _build(tables, symbols, slots)
    bits = padded.view("<u4").astype(np.uint32, copy=False)
    status = _read(
        words, count, bits, 8 * rest, symbols, slots, context_of, shift, coefficients, top, states,
        out,
    )  # fmt: skip
    if status < 0:
        return False
    if out.shape[0] < slices:
        return True
    left = 8 * rest - status  # of the last byte, and 0
    return 0 <= left < 8 and (rest == 0 or section[-1] >> (8 - left) == 0)


# --- prediction ---


def _fit(volume: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the coefficients in 1/4096 of the first slice and of the others, (2, 15)."""
    normal = np.zeros((2, _TAPS, _TAPS))
    _accumulate(volume, normal)
    result = np.zeros((2, _TAPS), np.int32)
    for kind, taps in enumerate((_FIRST, _TAPS)):
        if kind < volume.shape[0]:
            result[kind, :taps] = _solve(normal[kind], taps)
    return result


def _solve(normal: NDArray[np.float64], taps: int) -> NDArray[np.int64]:
    """Return the coefficients, of sum 1, that fit a lower triangle of normal equations.

    Unknowns are all taps but N, which the values were taken relative to.
    """
    count = taps - 1
    lower = normal[:taps, :taps]
    matrix = np.tril(lower[:count, :count])
    matrix = matrix + np.tril(matrix, -1).T
    ridge = 1e-6 * np.trace(matrix) / count + 1e-3
    solution = np.linalg.solve(matrix + ridge * np.eye(count), lower[count, :count])
    others = np.rint(np.clip(solution, -1.9, 1.9) * _ONE).astype(np.int64)
    excess = np.abs(others).sum() / (3 * _ONE)
    if excess > 1:  # the sum of the magnitudes of all must stay below 8
        others = (others / excess).astype(np.int64)
    return np.concatenate([others[:1], [_ONE - others.sum()], others[1:]])


@kernel
def _accumulate(volume, normal):
    """Add up the normal equations, each voxel weighted the less the more detail is around."""
    slices, rows, columns = volume.shape
    width = columns + 6
    size = (rows + 5) * width
    planes = np.zeros(2 * size, np.int32)
    d = np.zeros(_TAPS)
    for s in range(slices):
        start = (s & 1) * size
        up = (1 - 2 * (s & 1)) * size
        load(volume, s, planes, start)
        taps = _FIRST if s == 0 else _TAPS
        kind = min(s, 1)
        step = _SAMPLING // 4 if s == 0 else _SAMPLING
        for y in range(rows):
            for x in range((5 * y + 3 * s) % step, columns, step):
                p = start + (y + 3) * width + x + 3
                n = planes[p - width]
                d[0] = planes[p - 1] - n
                d[1] = planes[p - width - 1] - n
                d[2] = planes[p - width + 1] - n
                d[3] = planes[p - 2] - n
                d[4] = planes[p - 2 * width] - n
                d[5] = planes[p - width - 2] - n
                d[6] = planes[p - width + 2] - n
                d[7] = planes[p - 2 * width - 1] - n
                d[8] = planes[p - 2 * width + 1] - n
                detail = abs(d[0] - d[1]) + abs(d[1]) + abs(d[2]) + abs(d[4])
                if s > 0:
                    q = p + up
                    d[9] = planes[q] - n
                    d[10] = planes[q - 1] - n
                    d[11] = planes[q - width] - n
                    d[12] = planes[q + 1] - n
                    d[13] = planes[q + width] - n
                    d[14] = planes[q - width - 1] - n
                    d[15] = planes[q - width + 1] - n
                    d[16] = planes[q + width - 1] - n
                    d[17] = planes[q + width + 1] - n
                    detail += abs(d[0] - d[10]) + abs(d[11]) + abs(d[2] - d[15])
                d[taps - 1] = planes[p] - n
                weight = 1.0 / (detail * math.sqrt(detail) + 30.0)
                for i in range(taps):
                    t = weight * d[i]
                    for j in range(i + 1):
                        normal[kind, i, j] += t * d[j]


@kernel
def _row_part(c, planes, p, up, noise, q, back, first, sums, activities):
    """Sum what the rows and the slice before give to each voxel of a row.

    `p` and `q` are the first voxel of the row in `planes` and `noise`; `up` and `back` lead from
    there to the same place in the slice before.
    """
    columns = sums.size
    width = columns + 6
    c1, c2, c3, c5, c6, c7, c8, c9 = c[1], c[2], c[3], c[5], c[6], c[7], c[8], c[9]
    n1 = planes[p - width - 2 : p - width + columns + 2]
    n2 = planes[p - 2 * width - 1 : p - 2 * width + columns + 1]
    e1 = noise[q - width - 1 : q - width + columns + 1]
    e2 = noise[q - 2 * width : q - 2 * width + columns]
    for x in range(columns):
        sums[x] = (
            c6 * n1[x] + c2 * n1[x + 1] + c1 * n1[x + 2] + c3 * n1[x + 3] + c7 * n1[x + 4]
            + c8 * n2[x] + c5 * n2[x + 1] + c9 * n2[x + 2]
        )  # fmt: skip
        activities[x] = e1[x] + 2 * e1[x + 1] + e1[x + 2] + e2[x]
    if first:
        for x in range(columns):
            activities[x] *= 2
        return
    u0 = planes[p + up - width - 1 : p + up - width + columns + 1]
    u1 = planes[p + up - 1 : p + up + columns + 1]
    u2 = planes[p + up + width - 1 : p + up + width + columns + 1]
    f0 = noise[q + back - width : q + back - width + columns]
    f1 = noise[q + back - 1 : q + back + columns + 1]
    f2 = noise[q + back + width : q + back + width + columns]
    a0, a1, a2, a3, a4 = c[15], c[12], c[16], c[11], c[10]
    a5, a6, a7, a8 = c[13], c[17], c[14], c[18]
    for x in range(columns):
        sums[x] += (
            a0 * u0[x] + a1 * u0[x + 1] + a2 * u0[x + 2]
            + a3 * u1[x] + a4 * u1[x + 1] + a5 * u1[x + 2]
            + a6 * u2[x] + a7 * u2[x + 1] + a8 * u2[x + 2]
        )  # fmt: skip
        activities[x] += f0[x] + f1[x] + 2 * f1[x + 1] + f1[x + 2] + f2[x]


@kernel
def _model(volume, coefficients, top, errors, activity, parts):
    """Predict each voxel: its error, the activity around it, the part of a step left over."""
    slices, rows, columns = volume.shape
    width = columns + 6
    size = (rows + 5) * width
    planes = np.zeros(2 * size, np.int32)
    noise = np.zeros(2 * size, np.int32)
    sums = np.zeros(columns, np.int32)
    activities = np.zeros(columns, np.int32)
    ceiling = np.int64(top) << 12
    for s in range(slices):
        start = (s & 1) * size
        up = (1 - 2 * (s & 1)) * size
        load(volume, s, planes, start)
        c = coefficients[min(s, 1)]
        west, far = np.int64(c[0]), np.int64(c[4])
        scale = 2 if s == 0 else 1
        for y in range(rows):
            p = start + (y + 3) * width + 3
            open_row(noise, p, columns)
            _row_part(c, planes, p, up, noise, p, up, s == 0, sums, activities)
            row = planes[p - 2 : p + columns]
            made = noise[p - 2 : p + columns]
            for x in range(columns):
                exact = np.int64(sums[x]) + west * row[x + 1] + far * row[x]
                exact = max(np.int64(0), min(exact, ceiling))
                value = np.int64(row[x + 2])
                parts[s, y, x] = ((exact + 2048) >> 10) & 3
                errors[s, y, x] = value - ((exact + 2048) >> 12)
                made[x + 2] = abs((value << 12) - exact) >> 8
            for x in range(columns):
                activity[s, y, x] = activities[x] + scale * (2 * made[x + 1] + made[x])
            close_row(noise, p, columns)
        close_plane(noise, start, rows, columns)


# --- contexts and tables, chosen by the encoder ---


def _fine_levels() -> NDArray[np.uint8]:
    """Return the fine level of each bin of activity: single bins first, then five an octave."""
    starts = np.unique(np.rint(2 ** np.arange(0, 10, 0.2)).astype(np.int64))
    return np.searchsorted(starts, np.arange(_BINS), side="right").astype(np.uint8)


_LEVELS = _fine_levels()


def _shift(activity: NDArray[np.int32]) -> int:
    """Return how far to shift activities so that nearly all of them fall into bins."""
    high = int(np.quantile(activity.ravel()[:: 1 + activity.size // 16384], 0.999))
    return max(0, (high // (_BINS - 24)).bit_length())


@kernel
def _tokenise(errors, activity, parts, shift, levels, tokens, fine, histogram):
    """Give each error its token and fine context, count them; return the number of raw bits."""
    e = errors.reshape(-1)
    a = activity.reshape(-1)
    f = parts.reshape(-1)
    raw = np.int64(0)
    for i in range(e.size):
        number = (np.int64(e[i]) << 1) ^ (np.int64(e[i]) >> 63)
        level = np.int64(levels[min(np.int64(a[i]) >> shift, 1023)])
        token = number
        if number >= 32:
            extra = np.int64(2)
            while number >> extra >= 16:
                extra += 1
            token = 32 + (extra - 2) * 8 + ((number >> extra) & 7)
            raw += extra
        tokens[i] = token
        fine[i] = level * 4 + f[i]
        histogram[level, f[i], token] += 1
    return raw


@kernel
def _cost(histogram, i, j):
    """Return about how many bits two levels cost in one context: tokens and table."""
    total = np.int64(0)
    cost = 0.0
    for t in range(128):
        n = histogram[i, t]
        if j != i:
            n += histogram[j, t]
        if n > 0:
            total += n
            cost += 6.0 - n * math.log2(n)
    if total == 0:
        return 0.0
    return cost + total * math.log2(total) + 20.0


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
        gains[i] = costs[i] + costs[i + 1] - _cost(histogram, i, i + 1)
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
        for t in range(128):
            histogram[best, t] += histogram[joined, t]
        costs[best] = _cost(histogram, best, best)
        costs[joined] = 0.0
        starts[joined] = 0
        after = joined + 1
        while after < levels and starts[after] == 0:
            after += 1
        gains[best] = -1.0
        if after < levels:
            gains[best] = costs[best] + costs[after] - _cost(histogram, best, after)
        before = best - 1
        while before >= 0 and starts[before] == 0:
            before -= 1
        if before >= 0:
            gains[before] = costs[before] + costs[best] - _cost(histogram, before, best)
    total = 0.0
    for i in range(levels):
        total += costs[i]
    return total


def _merge(histogram: NDArray[np.int64]) -> tuple[int, list[NDArray[np.int64]]]:
    """Choose the contexts: the bin up to which fractions count, and the cuts of each list."""
    levels = histogram.shape[0]
    first_bin = np.searchsorted(_LEVELS, np.arange(levels))
    best = (np.inf, 0, [np.zeros(0, np.int64)])
    for split in (0, levels // 5, 2 * levels // 5, 3 * levels // 5):
        cost = 0.0
        cuts = []
        lists = [(histogram[:split, part], 0) for part in range(_PARTS)] if split else []
        lists.append((histogram[split:].sum(axis=1), split))
        for counts, offset in lists:
            size = counts.shape[0]
            starts = np.zeros(size, np.int64)
            cost += _join(counts.copy(), starts, np.zeros(size), np.full(size, -1.0))
            cuts.append(first_bin[np.flatnonzero(starts)[1:] + offset])
        if len(lists) + sum(map(len, cuts)) <= _MAX_CONTEXTS and cost < best[0]:
            best = (cost, int(first_bin[split]), cuts)
    return best[1], best[2]


def _context_map(split: int, cuts: list[NDArray[np.int64]], bins: int) -> NDArray[np.uint8]:
    """Return the context of each bin and part, (bins * 4,); contexts are numbered list by list."""
    result = np.empty((bins, _PARTS), np.uint8)
    count = 0
    for part, inner in enumerate(cuts[:-1]):
        result[:split, part] = count + np.searchsorted(inner, np.arange(split), side="right")
        count += len(inner) + 1
    outer = count + np.searchsorted(cuts[-1], np.arange(split, bins), side="right")
    result[split:] = outer[:, np.newaxis]
    return result.ravel()


def _normalise(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return frequencies of total 4096, at least 1 for each token that occurs."""
    total = max(1, int(counts.sum()))
    result = np.where(counts > 0, np.maximum(1, (counts * _ONE + total // 2) // total), 0)
    if not counts.any():
        result[0] = _ONE
    while excess := int(result.sum()) - _ONE:
        most = int(result.argmax())
        result[most] -= min(excess, int(result[most]) // 2) if excess > 0 else excess
    return result


# --- side information ---

_NUMBER = 21  # contexts of an adaptive number


def _write_side(
    coefficients: NDArray[np.int32],
    slices: int,
    shift: int,
    split: int,
    cuts: list[NDArray[np.int64]],
    tables: NDArray[np.int32],
) -> bytes:
    layout = np.concatenate([[len(inner), *inner] for inner in cuts]).astype(np.int64)
    state, words = coder.open_writer(2 * tables.size + 1024)
    contexts = np.full(20 * _NUMBER, 1 << 31, np.int64)
    head = np.zeros(2, np.int64)
    head[:] = shift, split
    _side(False, state, words, contexts, coefficients, min(slices, 2), head, layout, coder.RATES)  # noqa: FBT003
    _code_tables(False, state, words, contexts, tables, coder.RATES)  # noqa: FBT003
    written = coder.close(state, words)
    assert written is not None
    return written.astype("<u2").tobytes()


def _read_side(
    words: NDArray[np.uint16], slices: int
) -> tuple[NDArray[np.int32], int, NDArray[np.uint8], NDArray[np.int32]] | None:
    """Return coefficients, shift, context map and tables, or None if they are not sound."""
    state = coder.open_reader(words)
    contexts = np.full(20 * _NUMBER, 1 << 31, np.int64)
    coefficients = np.zeros((2, _TAPS), np.int32)
    head = np.zeros(2, np.int64)
    layout = np.zeros(_MAX_CONTEXTS + 8, np.int64)
    sound = _side(
        True, state, words, contexts, coefficients, min(slices, 2), head, layout, coder.RATES  # noqa: FBT003
    )  # fmt: skip
    if not sound:
        return None
    split = int(head[1])
    cuts = []
    at = 0
    for _ in range(_PARTS + 1 if split else 1):
        size = int(layout[at])
        cuts.append(layout[at + 1 : at + 1 + size])
        at += 1 + size
    context_of = _context_map(split, cuts, _BINS)
    tables = np.zeros((int(context_of.max()) + 1, _TOKENS), np.int32)
    if not _code_tables(True, state, words, contexts, tables, coder.RATES):  # noqa: FBT003
        return None
    if state[2] != words.size or state[0] != 0:
        return None
    return coefficients, int(head[0]), context_of, tables


@kernel
def _side(decoding, state, words, contexts, coefficients, kinds, head, layout, rates):
    """Code coefficients, shift, split bin and cuts; return whether they are sound."""
    for kind in range(kinds):
        taps = _FIRST if kind == 0 else _TAPS
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
    for part in range(5 if split > 0 else 1):
        last = part == 4 or split == 0
        size = coder.adaptive_number(
            decoding, state, words, contexts, np.int64(63), layout[at], rates
        )
        count += size + 1
        if count > 64:
            return False
        layout[at] = size
        before = split if last else np.int64(0)
        end = np.int64(1024) if last else split
        for i in range(at + 1, at + 1 + size):
            before += 1 + coder.adaptive_number(
                decoding, state, words, contexts, np.int64(84), layout[i] - before - 1, rates
            )
            if before >= end:
                return False
            layout[i] = before
        at += 1 + size
    return True


@kernel
def _bit_length(n):
    length = 0
    while n >> length > 0:
        length += 1
    return length


@kernel
def _code_tables(decoding, state, words, contexts, tables, rates):
    """Code the tables, each until its total is reached; return whether they are sound."""
    for c in range(tables.shape[0]):
        left = np.int64(4096)
        for t in range(128):
            near = np.int64(0)
            if t > 0:
                near = np.int64(tables[c, t - 1])
            if t > 1:
                near = (near + tables[c, t - 2] + 1) >> 1
            first = np.int64(105 + 21 * _bit_length(near))
            n = coder.adaptive_number(
                decoding, state, words, contexts, first, np.int64(tables[c, t]), rates
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
    return True


# --- entropy coding ---


@kernel
def _write(errors, tokens, fine, of_fine, tables, words, bits, states):
    """Write raw bits forwards and tokens backwards; return the first word."""
    e = errors.reshape(-1)
    held = np.int64(0)
    count = np.int64(0)
    at = 0
    for i in range(tokens.size):
        token = np.int64(tokens[i])
        if token >= 32:
            extra = ((token - 32) >> 3) + 2
            number = (np.int64(e[i]) << 1) ^ (np.int64(e[i]) >> 63)
            held |= (number & ((np.int64(1) << extra) - 1)) << count
            count += extra
            if count >= 32:
                bits[at] = held & 0xFFFFFFFF
                at += 1
                held >>= 32
                count -= 32
    if count > 0:
        bits[at] = held
    starts = np.zeros((tables.shape[0], 128), np.int64)
    for c in range(tables.shape[0]):
        for t in range(127):
            starts[c, t + 1] = starts[c, t] + tables[c, t]
    first = words.size
    for i in range(tokens.size - 1, -1, -1):
        state = states[i & 3]
        c = of_fine[fine[i]]
        token = tokens[i]
        frequency = np.int64(tables[c, token])
        if state >= frequency << 20:
            first -= 1
            words[first] = state & 65535
            state >>= 16
        quotient = np.int64(np.uint32(state) // np.uint32(frequency))
        states[i & 3] = (quotient << 12) + state - quotient * frequency + starts[c, token]
    return first


@kernel
def _build(tables, symbols, slots):
    """Lay out the 4096 slots of each table: their tokens, and each token's frequency and start."""
    for c in range(tables.shape[0]):
        start = 0
        for t in range(128):
            frequency = tables[c, t]
            slots[c, t] = (frequency << 12) | (start & 4095)
            for i in range(start, start + frequency):
                symbols[(c << 12) + i] = t
            start += frequency


@kernel
def _read(words, count, bits, bit_count, symbols, slots, context_of, shift, coefficients, top,
          states, out):  # fmt: skip
    """Decode slices into `out`; return the number of raw bits used, or -1 if it is not sound."""
    slices, rows, columns = out.shape
    width = columns + 6
    size = (rows + 5) * width
    planes = np.zeros(2 * size, np.int32)
    noise = np.zeros(2 * size, np.int32)
    sums = np.zeros(columns, np.int32)
    activities = np.zeros(columns, np.int32)
    bases = np.zeros(128, np.int64)
    extras = np.zeros(128, np.int64)
    for t in range(128):
        bases[t] = t
        if t >= 32:
            extras[t] = ((t - 32) >> 3) + 2
            bases[t] = (8 + (t & 7)) << extras[t]
    ceiling = np.int64(top) << 12
    s0, s1, s2, s3 = states[0], states[1], states[2], states[3]
    at = np.int64(0)
    bit = np.int64(0)
    flat = slots.reshape(-1)
    for s in range(slices):
        start = (s & 1) * size
        up = (1 - 2 * (s & 1)) * size
        c = coefficients[min(s, 1)]
        west, far = np.int64(c[0]), np.int64(c[4])
        scale = np.int64(2 if s == 0 else 1)
        for y in range(rows):
            p = start + (y + 3) * width + 3
            open_row(planes, p, columns)
            open_row(noise, p, columns)
            _row_part(c, planes, p, up, noise, p, up, s == 0, sums, activities)
            row = planes[p : p + columns]
            made = noise[p : p + columns]
            result = out[s, y]
            w1 = np.int64(planes[p - 1])
            w2 = w1
            e1 = np.int64(noise[p - 1])
            e2 = e1
            wrong = np.int64(0)
            for x in range(columns):
                exact = np.int64(sums[x]) + west * w1 + far * w2
                exact = max(np.int64(0), min(exact, ceiling))
                rounded = exact + 2048
                activity = min((np.int64(activities[x]) + scale * (2 * e1 + e2)) >> shift, 1023)
                context = np.int64(context_of[(activity << 2) | ((rounded >> 10) & 3)])
                slot = s0 & 4095
                token = np.int64(symbols[(context << 12) | slot])
                entry = np.int64(flat[(context << 7) | token])
                s0 = (entry >> 12) * (s0 >> 12) + slot - (entry & 4095)
                low = s0 < 65536
                s0 = (s0 << 16) | np.int64(words[at]) if low else s0
                at += np.int64(low)
                s0, s1, s2, s3 = s1, s2, s3, s0
                word = bit >> 5
                window = (np.int64(bits[word]) | (np.int64(bits[word + 1]) << 32)) >> (bit & 31)
                extra = extras[token]
                number = bases[token] + (window & ((1 << extra) - 1))
                bit += extra
                value = (rounded >> 12) + ((number >> 1) ^ -(number & 1))
                wrong |= value | (top - value)
                row[x] = value
                result[x] = value
                w2 = w1
                w1 = value
                e2 = e1
                e1 = abs((value << 12) - exact) >> 8
                made[x] = e1
            if wrong < 0 or at > count or bit > bit_count:
                return np.int64(-1)
            close_row(planes, p, columns)
            close_row(noise, p, columns)
        close_plane(planes, start, rows, columns)
        close_plane(noise, start, rows, columns)
    return bit
