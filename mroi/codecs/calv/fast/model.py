"""What encoder and decoder of `fast` share: shapes, tokens, side information."""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls
# and take everything by position

from __future__ import annotations

import numpy as np

from mroi.codecs.calv import coder, lanes
from mroi.codecs.compiled import step

__all__ = [
    "BINS",
    "DIRECT",
    "FEWEST",
    "FINE",
    "GROUPS",
    "LANES",
    "MOST_CONTEXTS",
    "MOST_NOISE",
    "ONE",
    "PARTS",
    "TAPS",
    "TAPS_OF",
    "TOKENS",
    "code_head",
    "code_tables",
    "count_kinds",
    "fold",
    "is_list",
    "last_row",
]

LANES = lanes.LANES
"""Streams, at most: row y belongs to stream y modulo this."""

TAPS = 20
"""10 in the plane, the 3 x 3 around the same place in the slice before, one two before."""

TAPS_OF = (10, 19, 20)
"""In the first slice of a run, in the second, and in the others of a series."""

ONE = 4096
"""1.0 as a coefficient, and the sum of a table."""

TOKENS = 128
DIRECT = 32
"""Tokens below this are a symbol."""

FINE = 3
"""The others: 2 to this power for each octave."""

FEWEST = DIRECT.bit_length() - 1 - FINE
"""Raw bits after the first of these."""

BINS = 1024
"""Of activity."""

PARTS = 4
"""Of the fraction of a prediction."""

MOST_CONTEXTS = 64
MOST_NOISE = 65535

_FOLD = 1024  # columns of a piece of a list
_LENGTHS = 14  # bit lengths of a frequency
# Groups of contexts: coefficients, shift and split, counts of cuts, cuts, words, frequencies.
_COEFFICIENT, _SHIFT, _CUTS, _CUT, _WORDS, _FREQUENCY = 0, 1, 3, 4, 5, 6
GROUPS = _FREQUENCY + _LENGTHS
"""Of contexts of the side information."""


# --- rows, streams and lists ---


def is_list(shape: tuple[int, ...]) -> bool:
    """Return whether a chunk is one long row: it is coded in pieces that do not know each other."""
    return shape[:2] == (1, 1) and shape[2] > _FOLD


def fold(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that a chunk is coded in: pieces of a list are rows."""
    return (1, -(-shape[2] // _FOLD), _FOLD) if is_list(shape) else shape


def last_row(shape: tuple[int, ...]) -> int:
    """Return how many voxels the last row of a plane has."""
    return (shape[2] - 1) % _FOLD + 1 if is_list(shape) else shape[2]


def count_kinds(run: int, *, series: bool) -> int:
    """Return how many predictors there are: slices two before are used in series alone."""
    return min(run, 3 if series else 2)


# --- side information ---


@step
def code_head(decoding, interval, words, contexts, coefficients, kinds, head, layout):
    """Code coefficients, (3, 20), shift and split, and cuts.

    `layout` has, list after list, how many cuts there are, then the cuts. Returns whether all of
    it is sound, and the next interval.
    """
    for kind in range(kinds):
        sound, interval = _code_coefficients(
            decoding, interval, words, contexts, coefficients[kind], TAPS_OF[kind]
        )
        if not sound:
            return False, interval
    for i in range(2):
        group = np.int64(_SHIFT + i)
        head[i], interval = coder.number(decoding, interval, words, contexts, group, head[i])
    if head[0] > 20 or head[1] >= BINS:
        return False, interval
    return _code_cuts(decoding, interval, words, contexts, head[1], layout)


@step
def _code_coefficients(decoding, interval, words, contexts, coefficients, taps):
    """Code the coefficients of a slice; return whether they are sound, and the next interval."""
    total = np.int64(0)
    magnitude = np.int64(0)
    for i in range(taps):
        if i == 1:
            continue
        value = np.int64(coefficients[i])
        value = (value << 1) ^ (value >> 63)
        group = np.int64(_COEFFICIENT)
        value, interval = coder.number(decoding, interval, words, contexts, group, value)
        value = (value >> 1) ^ -(value & 1)
        if decoding:
            coefficients[i] = value
        total += value
        magnitude += abs(value)
    if decoding:
        coefficients[1] = ONE - total
    return magnitude + abs(ONE - total) <= 32767, interval


@step
def _code_cuts(decoding, interval, words, contexts, split, layout):
    """Code the cuts of each list; return whether they are sound, and the next interval."""
    at = 0
    count = 0
    for i in range(0 if split > 0 else PARTS, PARTS + 2):
        group = np.int64(_CUTS)
        size, interval = coder.number(decoding, interval, words, contexts, group, layout[at])
        count += size + 1
        if count > MOST_CONTEXTS:
            return False, interval
        layout[at] = size
        before = split if i == PARTS else np.int64(0)
        end = split if i < PARTS else np.int64(BINS)
        for j in range(at + 1, at + 1 + size):
            group = np.int64(_CUT)
            more = layout[j] - before - 1
            more, interval = coder.number(decoding, interval, words, contexts, group, more)
            before += 1 + more
            if before >= end:
                return False, interval
            layout[j] = before
        at += 1 + size
    return True, interval


@step
def code_tables(decoding, interval, words, contexts, tables, counts):
    """Code the tables, each until its sum is reached, and the words of each stream.

    Returns whether the tables are sound, and the next interval.
    """
    for c in range(tables.shape[0]):
        sound, interval = _code_table(decoding, interval, words, contexts, tables[c])
        if not sound:
            return False, interval
    for j in range(counts.size):
        group = np.int64(_WORDS)
        high = counts[j] >> 16
        high, interval = coder.number(decoding, interval, words, contexts, group, high)
        low = counts[j] & 65535
        low, interval = coder.uniform(decoding, interval, words, np.int64(16), low)
        counts[j] = (high << 16) | low
    return True, interval


@step
def _code_table(decoding, interval, words, contexts, table):
    """Code the frequencies of a table; return whether they are sound, and the next interval."""
    left = np.int64(ONE)
    for t in range(TOKENS):
        near = np.int64(0)
        if t > 0:
            near = np.int64(table[t - 1])
        if t > 1:
            near = (near + table[t - 2] + 1) >> 1
        frequency = np.int64(table[t])
        frequency, interval = _code_frequency(decoding, interval, words, contexts, near, frequency)
        if frequency > left:
            return False, interval
        if decoding:
            table[t] = frequency
        left -= frequency
        if left == 0:
            return True, interval
    return False, interval


@step
def _code_frequency(decoding, interval, words, contexts, near, value):
    """Code a number below 8192: how its bit length differs from another's, then its bits."""
    length = coder.bit_length(near)
    first = (_FREQUENCY + length) * coder.GROUP
    goal = coder.bit_length(value)
    grows = np.int64(goal >= length)
    if length > 0:
        grows, interval = coder.adaptive(decoding, interval, words, contexts, first, grows)
    end = 13 if grows else 0
    move = 1 if grows else -1
    index = first + (1 if grows else coder.GROUP - 1)
    length -= 1 - grows
    more = np.int64(1)
    while more and length != end:
        more = np.int64(goal > length if grows else goal < length)
        more, interval = coder.adaptive(decoding, interval, words, contexts, index, more)
        length += move * more
        index += move
    if length < 2:
        return length, interval
    top = np.int64(1) << (length - 1)
    rest = value & (top - 1)
    rest, interval = coder.uniform(decoding, interval, words, length - 1, rest)
    return top | rest, interval
