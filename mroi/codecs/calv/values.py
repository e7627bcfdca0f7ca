"""Values of a chunk as symbols from 0 to 65535 at most, which is all that the kernels know.

Symbol n stands for the n-th value of an ascending sequence: steps of one size, some of them left
out. So the padding of a CT far below its air becomes a neighbour of it, and the labels of an atlas
become 0, 1, 2... Floats are taken if all of them are integers, bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Symbols",
    "ValueMap",
    "build_map",
    "build_number",
    "distances",
    "find_map",
    "find_number",
    "find_present",
    "fits",
    "parse_map",
    "symbols_in",
    "to_symbols",
    "to_values",
]

_TOP = 65535  # largest symbol
_SPAN = 1 << 40  # from the lowest to the highest value, at most
_COUNTED = 1 << 20  # a span up to which values are counted, not sorted
_FEW = 256  # values so few that no gap between them is left
_EXACT = {4: 1 << 24, 8: 1 << 53}  # integers that a float of so many bytes can hold


@dataclass(frozen=True, slots=True)
class ValueMap:
    """How symbols become values.

    Attributes
    ----------
    offset, step, top : int
        Symbol n from 0 to `top` is ``offset + step * n`` where no gap comes before it.
    runs : tuple of (int, int)
        Gaps: symbols since the one before, at least 1, and steps left out, at least 1.
    """

    offset: int
    step: int
    top: int
    runs: tuple[tuple[int, int], ...] = ()

    def table(self) -> NDArray[np.int64]:
        """Return the value of each symbol."""
        steps = np.ones(self.top + 1, np.int64)
        steps[0] = 0
        at = 0
        for length, gap in self.runs:
            at += length
            steps[at] += gap
        return self.offset + self.step * np.cumsum(steps)


class Symbols(NamedTuple):
    """The symbols of a component, each in the low bytes of its sample: kernels see only them.

    Attributes
    ----------
    bytes_, pairs : (n,) uint8, (n // 2,) uint16
        The same memory. Symbols are `pairs`, or `bytes_` where a sample has no more.
    are_pairs : bool
        Which of the two.
    first, step : int
        Where the symbol of the first voxel is, and how far the next one is from it.
    """

    bytes_: NDArray[np.uint8]
    pairs: NDArray[np.uint16]
    are_pairs: bool
    first: int
    step: int


def symbols_in(chunk: NDArray[Any], sample: int = 0) -> Symbols:
    """Return where the symbols of one sample of all voxels are kept in a chunk."""
    size = chunk.itemsize
    data = chunk.reshape(-1).view(np.uint8)
    pairs = data[: data.size // 2 * 2].view(np.uint16)
    samples = math.prod(chunk.shape[3:])
    unit = min(size, 2)
    return Symbols(data, pairs, size > 1, sample * size // unit, samples * size // unit)


def find_map(chunk: NDArray[Any], near: int = 0) -> ValueMap | None:
    """Return the map for a chunk, or None if its values cannot become symbols up to 65535.

    Symbols within `near` / `ValueMap.step` of that of a value stand for values within `near` of it.
    """
    if chunk.dtype.kind == "f" and not _holds_integers(chunk):
        return None
    low, high = int(chunk.min()), int(chunk.max())
    if high - low > _SPAN or abs(low) >= 1 << 62:
        return None
    present = find_present(chunk, low, high)
    step = int(np.gcd.reduce(present)) or 1
    present //= step
    top = int(present[-1])
    beside = near // step  # symbols kept on either side of a gap
    gaps = np.diff(present) - 1 - 2 * beside
    few = present.size <= _FEW and top >= 2 * present.size and not beside
    # All gaps between few values, else wide ones, else all of them so that symbols fit.
    for least in (1, max(64, top // 16)) if few else (max(64, top // 16), 1):
        ends = np.flatnonzero(gaps >= least)
        if ends.size * 64 <= chunk.size + 4096 and top - gaps[ends].sum() <= _TOP:
            break
    else:
        return None
    symbols = present[ends] - np.concatenate([[0], np.cumsum(gaps[ends])])[:-1]
    lengths = np.diff(symbols + beside + 1, prepend=0)
    runs = tuple(zip(lengths.tolist(), gaps[ends].tolist(), strict=True))
    return ValueMap(low, step, top - int(gaps[ends].sum()), runs)


def find_present(chunk: NDArray[Any], low: int, high: int) -> NDArray[np.int64]:
    """Return what values there are above the lowest, ascending."""
    if low < high and chunk.dtype.kind in "iu" and chunk.dtype.itemsize <= 2:
        from mroi.codecs.calv.lookup import mark  # it imports numba

        found = np.zeros(high - low + 1, np.bool_)
        mark(chunk.reshape(-1).view(f"u{chunk.dtype.itemsize}"), low, found)
        return np.flatnonzero(found)
    above = distances(chunk, low)
    return np.flatnonzero(np.bincount(above)) if high - low <= _COUNTED else np.unique(above)


def _holds_integers(chunk: NDArray[Any]) -> bool:
    if not (np.abs(chunk) <= _EXACT[chunk.dtype.itemsize]).all():  # false for NaN, too
        return False
    return bool((chunk == np.rint(chunk)).all() and not (np.signbit(chunk) & (chunk == 0)).any())


def distances(chunk: NDArray[Any], low: int) -> NDArray[np.int64]:
    """Return what values are above the lowest, flat; the span fits, whatever the type."""
    if chunk.dtype == np.uint64:
        return (chunk - np.uint64(low)).astype(np.int64).ravel()
    return (chunk.astype(np.int64) - low).ravel()


def to_symbols(chunk: NDArray[Any], values: ValueMap) -> NDArray[np.int32]:
    """Return the symbols of a chunk, of its shape."""
    if values.runs:
        table = values.table() - values.offset
        above = distances(chunk, values.offset)
        if table[-1] <= _COUNTED:
            place = np.zeros(int(table[-1]) + 1, np.int32)
            place[table] = np.arange(table.size)
            return place[above].reshape(chunk.shape)
        return np.searchsorted(table, above).astype(np.int32).reshape(chunk.shape)
    if chunk.dtype.kind in "iu" and chunk.dtype.itemsize <= 2:
        symbols = chunk.astype(np.int32)
        symbols -= np.int32(values.offset)
        if values.step > 1:
            symbols //= np.int32(values.step)
        return symbols
    return (distances(chunk, values.offset) // values.step).astype(np.int32).reshape(chunk.shape)


def to_values(chunk: NDArray[Any], sample: int, values: ValueMap) -> None:
    """Turn the symbols of one sample of all voxels, as `symbols_in` has them, into values."""
    place = symbols_in(chunk, sample)
    rows = chunk.reshape(*chunk.shape[:2], -1)
    out = rows[..., sample :: math.prod(chunk.shape[3:])]
    symbols = rows.view(f"u{min(chunk.itemsize, 2)}")[..., place.first :: place.step]
    plain = values.step == 1 and not values.runs
    if plain and chunk.itemsize <= 2:
        symbols += symbols.dtype.type(values.offset & (256**chunk.itemsize - 1))
    elif plain and abs(values.offset) < 1 << 30:
        for into, row in zip(out, symbols, strict=True):  # of a slice, numpy makes a copy
            np.add(row, np.int32(values.offset), out=into, casting="unsafe")
    else:
        from mroi.codecs.calv.lookup import look_up  # it imports numba

        unsigned = f"u{out.itemsize}"
        table = _values_of(values, out.dtype).view(unsigned)
        look_up(symbols, table, out.view(unsigned))


def _values_of(values: ValueMap, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the value of each symbol in its type; 64-bit integers may be beyond int64."""
    above = ValueMap(0, values.step, values.top, values.runs).table()
    if dtype == np.uint64:
        return above.astype(np.uint64) + np.uint64(values.offset)
    return (above + values.offset).astype(dtype)


def fits(values: ValueMap, dtype: np.dtype[Any]) -> bool:
    """Return whether all values of a map are exact in a type."""
    low = values.offset
    high = low + values.step * (values.top + sum(gap for _, gap in values.runs))
    if dtype.kind == "f":
        return max(abs(low), abs(high)) <= _EXACT[dtype.itemsize]
    info = np.iinfo(dtype)
    return int(info.min) <= low and high <= int(info.max)


def build_map(values: ValueMap) -> bytes:
    """Return the bytes of a map: numbers of 7 bits a byte, low bits first."""
    zigzag = 2 * values.offset if values.offset >= 0 else -2 * values.offset - 1
    numbers = [zigzag, values.step, values.top, len(values.runs)]
    for length, gap in values.runs:
        numbers += (length, gap)
    return b"".join(map(build_number, numbers))


def parse_map(data: memoryview, at: int) -> tuple[ValueMap, int] | None:
    """Return the map at `at` and where it ends, or None if there is none."""
    numbers, at = _find_varints(data, at, 4)
    if numbers is None:
        return None
    zigzag, step, top, count = numbers
    if top > _TOP or count > top or not 0 < step <= _SPAN:
        return None
    rest, at = _find_varints(data, at, 2 * count)
    if rest is None or 0 in rest:
        return None
    runs = tuple(zip(rest[::2], rest[1::2], strict=True))
    if sum(rest[::2]) > top or step * (top + sum(rest[1::2])) > _SPAN:
        return None
    offset = zigzag // 2 if zigzag % 2 == 0 else -(zigzag + 1) // 2
    return ValueMap(offset, step, top, runs), at


def find_number(data: memoryview, at: int) -> tuple[int | None, int]:
    """Return the number at `at` and where it ends, or None if there is none."""
    numbers, at = _find_varints(data, at, 1)
    return (None if numbers is None else numbers[0]), at


def build_number(number: int) -> bytes:
    """Return the bytes of a number: 7 bits a byte, low bits first."""
    result = bytearray()
    while number > 127:
        result.append(number & 127 | 128)
        number >>= 7
    result.append(number)
    return bytes(result)


def _find_varints(data: memoryview, at: int, count: int) -> tuple[list[int] | None, int]:
    """Return the numbers at `at`, each in its shortest form, and where they end."""
    numbers = []
    for _ in range(count):
        number = place = 0
        while True:
            if at >= len(data) or place > 9:
                return None, at
            byte = data[at]
            at += 1
            number |= (byte & 127) << 7 * place
            if byte < 128:
                break
            place += 1
        if place and not byte:
            return None, at
        numbers.append(number)
    return numbers, at
