"""The adaptive binary range coder of calv: one decision at a time, with its probability.

Range of 48 bits, words of 16 bits, probabilities of 16 bits: *Binary coder* in
``spec/codecs/calv.md``. Each step works in both directions, so that a decoder cannot drift from
its encoder: with `decoding` it returns what was coded, without it codes the value that it is given
and returns that. Every step takes an `Interval` and returns the next one.

A context is a probability of 1, in 1/65536, times 65536, and below it how often it has learnt.
While decoding the code stays below the range, whatever the words, so no result is out of its range.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.compiled import Integer, inlined, kernel, step

__all__ = [
    "GROUP",
    "HALF",
    "Interval",
    "adaptive",
    "begin",
    "bit_length",
    "close",
    "decision",
    "is_finished",
    "learn",
    "number",
    "sharp_decision",
    "uniform",
]

_FULL = (1 << 48) - 1
_REFRESH = 1 << 32  # a range below this takes another word
_RATES = np.array([655360 // (10 * n + 16) for n in range(256)], np.int64)

GROUP = 21
"""Contexts of a number."""

HALF = 1 << 31
"""A context that has learnt nothing."""


class Interval(NamedTuple):
    """State of a coder.

    Attributes
    ----------
    code : int
        The code read so far less the low end of the interval; for an encoder, the low end.
    range : int
        Width of the interval.
    at : int
        Words taken or given so far. Words beyond the end are 0, or are lost.
    """

    code: Integer
    range: Integer
    at: Integer


def close(interval: Interval, words: NDArray[np.uint16]) -> NDArray[np.uint16] | None:
    """Give the three last words; return all of them, or None if there was no room."""
    count = _flush(interval, words)
    return None if count > words.size else words[:count]


def is_finished(interval: Interval, words: NDArray[np.uint16]) -> bool:
    """Return whether the code is 0 and all words have been taken, none beyond (CLV-8)."""
    return bool(interval.code == 0 and interval.at == words.size)


@step
def begin(decoding, words):
    """Return the first interval; a decoder needs at least 3 words."""
    if not decoding:
        return Interval(np.int64(0), np.int64(_FULL), np.int64(0))
    code = np.int64(words[0]) << 32 | np.int64(words[1]) << 16 | np.int64(words[2])
    return Interval(min(code, np.int64(_FULL - 1)), np.int64(_FULL), np.int64(3))


@step
def _give(code, words, at):
    """Write the top word of the low end of the interval; return what is left of it."""
    if at >= words.size:
        return code & 0xFFFFFFFF
    if code >> 48:  # a carry: into the words before
        back = at - 1
        while words[back] == 65535:
            words[back] = 0
            back -= 1
        words[back] += 1
    words[at] = (code >> 32) & 65535
    return (code & 0xFFFFFFFF) << 16


@kernel
def _flush(interval, words):
    """Write the three last words; return how many there are, more than fit if some are lost."""
    code = interval.code
    for i in range(3):
        code = _give(code, words, interval.at + i)
    return interval.at + 3


@step
def _next_word(decoding, interval, words):
    """Take or give a word."""
    code, at = interval.code, interval.at
    if decoding:
        word = np.int64(words[np.uint64(at)]) if at < words.size else np.int64(0)
        code = code << 16 | word
    else:
        code = _give(code, words, at)
    return Interval(code, interval.range << 16, at + 1)


@inlined
def _refresh(decoding, interval, words):
    """Take or give a word if the range has become small."""
    if interval.range < _REFRESH:
        return _next_word(decoding, interval, words)
    return interval


@inlined
def sharp_decision(decoding, interval, words, probability, bit):
    """Code a decision as `decision` does, also one that is all but certain: from 1/65536 on."""
    code = interval.code
    bound = (interval.range >> 16) * max(np.int64(1), min(probability, np.int64(65535)))
    if decoding:
        bit = np.int64(code < bound)
        code -= bound & (bit - 1)
    else:
        code += bound & (bit - 1)
    width = (bound & -bit) | ((interval.range - bound) & (bit - 1))
    return bit, _refresh(decoding, Interval(code, width, interval.at), words)


@inlined
def decision(decoding, interval, words, probability, bit):
    """Code a decision that is 1 with a probability, in 1/65536; return it and the next interval.

    Without branches, which would be guessed wrong.
    """
    likely = max(np.int64(32), min(probability, np.int64(65504)))
    return sharp_decision(decoding, interval, words, likely, bit)


@step
def uniform(decoding, interval, words, bits, value):
    """Code an integer of up to 16 bits, all values equally likely."""
    part = interval.range >> bits
    code = interval.code
    if decoding:
        most = (np.int64(1) << bits) - 1
        value = min(np.int64(np.uint64(code) // np.uint64(part)), most)
        code = min(code - value * part, part - 1)
    else:
        code += value * part
    return value, _refresh(decoding, Interval(code, part, interval.at), words)


@inlined
def learn(contexts, index, bit):
    """Move the probability of a context towards a decision."""
    context = np.int64(contexts[index])
    probability, count = context >> 16, context & 65535
    probability += ((65535 * bit - probability) * _RATES[np.uint64(count)]) >> 16
    contexts[index] = (probability << 16) | min(count + 1, np.int64(255))


@inlined
def adaptive(decoding, interval, words, contexts, index, bit):
    """Code a decision in a context, which learns it."""
    probability = np.int64(contexts[index]) >> 16
    bit, interval = decision(decoding, interval, words, probability, bit)
    learn(contexts, index, bit)
    return bit, interval


@step
def number(decoding, interval, words, contexts, group, value):
    """Code a number of up to 20 bits in a group of contexts: its bit length, then its bits."""
    length = np.int64(0)
    more = np.int64(1)
    while more and length < 20:
        index = np.uint64(group * GROUP + length)
        more = np.int64(value >> length > 0)
        more, interval = adaptive(decoding, interval, words, contexts, index, more)
        length += more
    if length < 2:
        return length, interval
    low = length - 1
    high = max(low - 16, np.int64(0))
    rest = value & ((np.int64(1) << low) - 1)
    upper = np.int64(0)
    if high > 0:
        upper, interval = uniform(decoding, interval, words, high, rest >> 16)
    lower, interval = uniform(decoding, interval, words, low - high, rest & 65535)
    return (np.int64(1) << low) | upper << 16 | lower, interval


@step
def bit_length(n):
    """Return the number of binary digits of an integer, 0 for 0."""
    length = np.int64(0)
    while n >> length > 0:
        length += 1
    return length
