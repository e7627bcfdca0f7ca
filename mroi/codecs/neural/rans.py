"""One coder for symbols of any distribution: range asymmetric numeral systems, with fixed tables.

The state has 63 bits, words have 32, frequencies 16, or 24 in `mixture`. All arithmetic is of
integers: every machine reads and writes the same words. The normative description is in
``spec/codecs/models.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.compiled import kernel, step
from mroi.errors import CodecError

__all__ = ["FINE", "LARGEST", "Decoder", "Table", "encode", "encode_intervals", "pop"]

LARGEST = 1 << 24
"""Symbols are smaller than this in magnitude."""

FINE = 24
"""Bits of frequencies that are in no table."""

_LOW = 1 << 31  # the state, between symbols, is at least this, and less than 2**63
_COARSE = 16  # bits of frequencies in tables
_TOTAL = 1 << _COARSE
_DIGITS = 7  # of 4 bits, that an escape has at most
_WIDEST = 1 << 20  # of a row of a table

_ROW = np.dtype("<i4")


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Distributions of symbols, one a row.

    Attributes
    ----------
    cdf : (n, m) ndarray of int32
        Cumulative frequencies from 0 to 65536, each more than the one before; zeros after the end.
    sizes : (n,) ndarray of int32
        How many there are in each row: two more than symbols, of which the last bin is the escape.
    offsets : (n,) ndarray of int32
        Symbol of the first bin.

    Raises
    ------
    CodecError
        If they are not such distributions.
    """

    cdf: NDArray[np.int32]
    sizes: NDArray[np.int32]
    offsets: NDArray[np.int32]

    def __post_init__(self) -> None:
        cdf, sizes, offsets = self.cdf, self.sizes, self.offsets
        if not (cdf.dtype == sizes.dtype == offsets.dtype == _ROW) or cdf.ndim != 2:
            raise CodecError("a table of frequencies is not of 32-bit integers")
        rows, columns = cdf.shape
        if sizes.shape != (rows,) or offsets.shape != (rows,) or not rows or columns > _WIDEST:
            raise CodecError("a table of frequencies has another shape than its rows")
        if (
            sizes.min() < 3
            or sizes.max() > columns
            or np.abs(offsets.astype(np.int64)).max() > (LARGEST // 2)
        ):
            raise CodecError("a row of frequencies has a size or an offset that none can have")
        inside = np.arange(columns) < sizes[:, None]
        rises = np.diff(cdf.astype(np.int64), axis=1) > 0
        ends = cdf[np.arange(rows), sizes - 1]
        if not (rises | ~inside[:, 1:]).all() or cdf[:, 0].any() or (ends != _TOTAL).any():
            raise CodecError("frequencies do not go from 0 to 65536, each more than the one before")

    def check_rows(self, rows: NDArray[np.int32]) -> None:
        """Raise ValueError for a row that there is not; kernels look at none."""
        if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < len(self.sizes):
            raise ValueError("a symbol has a distribution that the table has not")


def encode(parts: list[tuple[NDArray[np.int32], NDArray[np.int32], Table]]) -> bytes:
    """Return the code of symbols.

    Parameters
    ----------
    parts : list of (symbols, rows, table)
        In the order of decoding: symbols and the row of `table` for each, flat int32 arrays.

    Raises
    ------
    CodecError
        If a symbol is too large.
    """
    count = sum(symbols.size for symbols, _, _ in parts)
    words = np.empty(10 * count + 2, np.uint32)  # an escape has 9 steps, of at most a word each
    state = np.array([_LOW, 0], np.int64)
    for symbols, rows, table in reversed(parts):
        table.check_rows(rows)
        if symbols.size and int(np.abs(symbols.astype(np.int64)).max()) >= LARGEST:
            raise CodecError("the network gives numbers that are too large to be coded")
        _encode(symbols, rows, table.cdf, table.sizes, table.offsets, state, words)
    return _code(state, words)


def encode_intervals(starts: NDArray[np.int64], widths: NDArray[np.int64]) -> bytes:
    """Return the code of symbols that are parts of 2**24, in the order of decoding.

    Parameters
    ----------
    starts, widths : (n,) ndarray of int64
        Where each begins, and how much it has: at least 1.
    """
    words = np.empty(starts.size + 2, np.uint32)
    state = np.array([_LOW, 0], np.int64)
    _encode_intervals(starts, widths, state, words)
    return _code(state, words)


def _code(state: NDArray[np.int64], words: NDArray[np.uint32]) -> bytes:
    """Return words in the order of decoding, the last state first."""
    at = int(state[1])
    last = np.array([state[0] & 0xFFFFFFFF, state[0] >> 32], np.uint32)
    return np.concatenate([words[:at], last])[::-1].astype("<u4").tobytes()


class Decoder:
    """Decodes symbols one part after the other; raises ValueError if the code is none.

    Parameters
    ----------
    code : memoryview
        What `encode` gave, or `encode_intervals`.

    Attributes
    ----------
    state : (2,) ndarray of int64
        The state, and how many words were read.
    words : ndarray of uint32
        The code.
    """

    def __init__(self, code: memoryview) -> None:
        if len(code) % 4 or len(code) < 8:
            raise ValueError("the code is cut short")
        self.words = np.frombuffer(code, "<u4").astype(np.uint32)
        high, low = map(int, self.words[:2])
        if high >> 31 or (high << 32 | low) < _LOW:
            raise ValueError("the code begins with no state")
        self.state = np.array([high << 32 | low, 2], np.int64)

    def decode(self, rows: NDArray[np.int32], table: Table) -> NDArray[np.int32]:
        """Return a symbol for each row of `table`."""
        table.check_rows(rows)
        symbols = np.empty(rows.size, np.int32)
        state, words = self.state, self.words
        if not _decode(symbols, rows, table.cdf, table.sizes, table.offsets, state, words):
            raise ValueError("the code ends early, or has an escape that is too long")
        return symbols

    def finish(self) -> None:
        """Check that the code ends here."""
        if self.state[0] != _LOW or self.state[1] != self.words.size:
            raise ValueError("the code does not end with the last symbol")


@step
def _push(
    start: int, frequency: int, bits: int, state: NDArray[np.int64], words: NDArray[np.uint32]
) -> None:
    x = state[0]
    if x >= (frequency << (63 - bits)):
        words[state[1]] = x & 0xFFFFFFFF
        state[1] += 1
        x >>= 32
    state[0] = ((x // frequency) << bits) + x % frequency + start


@kernel
def _encode(
    symbols: NDArray[np.int32],
    rows: NDArray[np.int32],
    cdf: NDArray[np.int32],
    sizes: NDArray[np.int32],
    offsets: NDArray[np.int32],
    state: NDArray[np.int64],
    words: NDArray[np.uint32],
) -> None:
    for k in range(symbols.size - 1, -1, -1):
        row = rows[k]
        escape = np.int64(sizes[row]) - 2
        value = np.int64(symbols[k]) - offsets[row]
        if value < 0 or value >= escape:
            rest = -2 * value - 1 if value < 0 else 2 * (value - escape)
            count = 0
            while rest >> (4 * count):
                count += 1
            for digit in range(count - 1, -1, -1):
                _push(((rest >> (4 * digit)) & 15) << 12, 1 << 12, _COARSE, state, words)
            _push(count << 12, 1 << 12, _COARSE, state, words)
            value = escape
        start = np.int64(cdf[row, value])
        _push(start, np.int64(cdf[row, value + 1]) - start, _COARSE, state, words)


@kernel
def _encode_intervals(
    starts: NDArray[np.int64],
    widths: NDArray[np.int64],
    state: NDArray[np.int64],
    words: NDArray[np.uint32],
) -> None:
    for k in range(starts.size - 1, -1, -1):
        _push(starts[k], widths[k], FINE, state, words)


@step
def pop(
    start: int, frequency: int, bits: int, state: NDArray[np.int64], words: NDArray[np.uint32]
) -> None:
    """Take a symbol from the state: one of frequencies of so many bits."""
    x = frequency * (state[0] >> bits) + (state[0] & ((1 << bits) - 1)) - start
    if x < _LOW:
        word = np.int64(words[state[1]]) if state[1] < words.size else 0
        x = (x << 32) | word
        state[1] += 1
    state[0] = x


@kernel
def _decode(
    symbols: NDArray[np.int32],
    rows: NDArray[np.int32],
    cdf: NDArray[np.int32],
    sizes: NDArray[np.int32],
    offsets: NDArray[np.int32],
    state: NDArray[np.int64],
    words: NDArray[np.uint32],
) -> bool:
    """Fill `symbols`; return False as soon as the code cannot be one."""
    for k in range(symbols.size):
        row = rows[k]
        place = state[0] & 0xFFFF
        low, high = np.int64(0), np.int64(sizes[row]) - 1
        while high - low > 1:
            middle = (low + high) >> 1
            if cdf[row, middle] <= place:
                low = middle
            else:
                high = middle
        start = np.int64(cdf[row, low])
        pop(start, np.int64(cdf[row, high]) - start, _COARSE, state, words)
        if low == sizes[row] - 2:
            count = (state[0] & 0xFFFF) >> 12
            pop(count << 12, 1 << 12, _COARSE, state, words)
            if count > _DIGITS:
                return False
            rest = np.int64(0)
            for digit in range(count):
                nibble = (state[0] & 0xFFFF) >> 12
                pop(nibble << 12, 1 << 12, _COARSE, state, words)
                rest |= nibble << (4 * digit)
            low = -((rest + 1) >> 1) if rest & 1 else low + (rest >> 1)
        if state[1] > words.size:
            return False
        symbols[k] = low + offsets[row]
    return True
