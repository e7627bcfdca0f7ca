"""The adaptive binary range coder of calv: one decision at a time, with its probability.

Range of 48 bits, words of 16 bits, probabilities of 16 bits; normative in ``spec/codecs/calv.md``.
Each function works in both directions, so that a decoder cannot drift from its encoder: with
`decoding` it returns what was coded, without it codes the value it is given and returns that.

A coder is an int64 array: value (low end of the interval, or the code read less that), range,
number of words so far, and 1 if an encoder has run out of room. Words read beyond the end are 0.
While decoding the value stays below the range, whatever the words: no result is out of its range.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.calv.compiled import inlined, kernel

__all__ = [
    "RATES",
    "REFRESH",
    "adaptive",
    "adaptive_number",
    "close",
    "decide",
    "open_reader",
    "open_writer",
    "put",
    "refresh",
    "uniform",
]

_FULL = (1 << 48) - 1
REFRESH = 1 << 32
"""A range below this takes another word."""

RATES = np.array([65536 * 10 // (10 * n + 16) for n in range(256)], np.int64)
"""Share of the difference, in 1/65536, by which the n-th decision in a context moves it."""


def open_writer(size: int) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    """Return a coder that writes, and the array of `size` words that it writes to."""
    return np.array([0, _FULL, 0, 0], np.int64), np.zeros(size, np.uint16)


def close(coder: NDArray[np.int64], words: NDArray[np.uint16]) -> NDArray[np.uint16] | None:
    """Write the three last words; return all of them, or None if there was no room."""
    for _ in range(3):
        put(coder, words)
    return None if coder[3] else words[: coder[2]]


@kernel
def open_reader(words):
    """Return a coder that reads `words`, at least 3 of them."""
    value = np.int64(words[0]) << 32 | np.int64(words[1]) << 16 | np.int64(words[2])
    coder = np.empty(4, np.int64)
    coder[0] = min(value, np.int64(_FULL - 1))
    coder[1] = _FULL
    coder[2] = 3
    coder[3] = 0
    return coder


@kernel
def put(coder, words):
    """Write the top word of the low end of the interval."""
    at = coder[2]
    if at >= words.size:
        coder[3] = 1
        return
    if coder[0] >> 48:  # a carry: into the words before
        back = at - 1
        while words[back] == 65535:
            words[back] = 0
            back -= 1
        words[back] += 1
    words[at] = (coder[0] >> 32) & 65535
    coder[0] = (coder[0] & 0xFFFFFFFF) << 16
    coder[2] = at + 1


@kernel
def refresh(decoding, coder, words):
    """Take or give another word, so that the range is at least `REFRESH` again."""
    if decoding:
        at = coder[2]
        word = np.int64(words[at]) if at < words.size else np.int64(0)
        coder[0] = (coder[0] << 16) | word
        coder[2] = at + 1
    else:
        put(coder, words)
    coder[1] <<= 16


@inlined
def decide(decoding, coder, contexts, index, bit, rates):
    """Code a decision in a context: probability of 1 times 65536 and, below it, a count.

    `refresh` must follow if the range has become less than `REFRESH`. There are no branches here:
    numba counts the references to the arrays of an inlined function that has some.
    """
    context = np.int64(contexts[index])
    p = context >> 16
    count = context & 65535
    bound = (coder[1] >> 16) * max(np.int64(32), min(p, np.int64(65504)))
    code = np.int64(decoding)
    bit = (bit & (code - 1)) | (np.int64(coder[0] < bound) & -code)
    other = bound & (bit - 1)  # 0 for a 1
    coder[0] += (other ^ -code) + code
    coder[1] = (bound & -bit) | ((coder[1] - bound) & (bit - 1))
    p += ((65535 * bit - p) * rates[count]) >> 16
    contexts[index] = (p << 16) | min(count + 1, np.int64(255))
    return bit


@kernel
def adaptive(decoding, coder, words, contexts, index, bit, rates):
    """Code a decision in a context, as `decide` does, and refresh the range."""
    bit = decide(decoding, coder, contexts, index, bit, rates)
    if coder[1] < REFRESH:
        refresh(decoding, coder, words)
    return bit


@kernel
def uniform(decoding, coder, words, bits, value):
    """Code an integer of up to 16 bits, all values equally likely."""
    part = coder[1] >> bits
    if decoding:
        value = min(coder[0] // part, (np.int64(1) << bits) - 1)
        coder[0] = min(coder[0] - value * part, part - 1)
    else:
        coder[0] += value * part
    coder[1] = part
    if part < REFRESH:
        refresh(decoding, coder, words)
    return value


@kernel
def adaptive_number(decoding, coder, words, contexts, first, value, rates):
    """Code a number of up to 20 bits: its bit length in 20 contexts from `first`, then its bits."""
    length = np.int64(0)
    more = np.int64(1)
    while more and length < 20:
        more = np.int64(value >> length > 0)
        more = decide(decoding, coder, contexts, first + length, more, rates)
        if coder[1] < REFRESH:
            refresh(decoding, coder, words)
        length += more
    if length < 2:
        return length
    low = length - 1
    if low > 16:
        high = uniform(decoding, coder, words, low - 16, (value >> 16) & ((1 << (low - 16)) - 1))
        return (((1 << (low - 16)) | high) << 16) | uniform(
            decoding, coder, words, np.int64(16), value & 65535
        )
    return (1 << low) | uniform(decoding, coder, words, low, value & ((1 << low) - 1))
