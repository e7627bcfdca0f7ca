"""Values of a chunk as integers from 0 to `top`, which is all that the kernels know.

A voxel is ``offset + step * number``, or the number-th entry of a palette. Floats are taken if all
of them are integers, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "TOP",
    "ValueMap",
    "build_map",
    "find_map",
    "fits",
    "parse_map",
    "to_numbers",
    "to_values",
]

TOP = 65535
"""Largest number that a voxel may become."""

_PALETTE = 65536  # entries at most
_EXACT = {2: 1 << 11, 4: 1 << 24, 8: 1 << 53}  # integers that a float of so many bytes can hold


@dataclass(frozen=True, slots=True)
class ValueMap:
    """How numbers become values.

    Attributes
    ----------
    offset, step, top : int
        Number n from 0 to `top` is ``offset + step * n``; with a palette the n-th of its entries.
    palette : ndarray of int64 or None
        Ascending values, ``top + 1`` of them.
    """

    offset: int
    step: int
    top: int
    palette: NDArray[np.int64] | None = None


def find_map(chunk: NDArray[Any]) -> ValueMap | None:
    """Return the map for a chunk, or None if its values cannot become numbers up to 65535."""
    if chunk.dtype.kind == "f" and not _holds_integers(chunk):
        return None
    low, high = int(chunk.min()), int(chunk.max())
    if high - low > 1 << 40:
        return None
    if high - low <= 1 << 20:
        present = np.flatnonzero(np.bincount(_above(chunk, low)))
    else:
        present = np.unique(_above(chunk, low))
    step = int(np.gcd.reduce(present)) or 1
    top = (high - low) // step
    count = present.size
    sparse = count <= 256 and top >= 2 * count
    if sparse or (top > TOP and count <= min(_PALETTE, chunk.size // 64)):
        return ValueMap(low, 1, count - 1, present + low)
    return ValueMap(low, step, top) if top <= TOP else None


def _holds_integers(chunk: NDArray[Any]) -> bool:
    limit = _EXACT[chunk.dtype.itemsize]
    if not (np.abs(chunk) <= limit).all():  # false for NaN, too
        return False
    return bool((chunk == np.rint(chunk)).all() and not (np.signbit(chunk) & (chunk == 0)).any())


def _above(chunk: NDArray[Any], low: int) -> NDArray[np.int64]:
    if chunk.dtype == np.uint64:
        return (chunk - np.uint64(low)).astype(np.int64).ravel()
    return (chunk.astype(np.int64) - low).ravel()


def to_numbers(chunk: NDArray[Any], values: ValueMap) -> NDArray[np.int32]:
    """Return the numbers of a chunk, of its shape."""
    if values.palette is not None:
        found = np.searchsorted(values.palette - values.offset, _above(chunk, values.offset))
        return found.reshape(chunk.shape).astype(np.int32)
    if chunk.dtype.kind in "iu" and chunk.dtype.itemsize <= 2:
        numbers = chunk.astype(np.int32)
        numbers -= np.int32(values.offset)
        if values.step > 1:
            numbers //= np.int32(values.step)
        return numbers
    return (_above(chunk, values.offset) // values.step).reshape(chunk.shape).astype(np.int32)


def to_values(numbers: NDArray[np.int32], values: ValueMap, out: NDArray[Any]) -> None:
    """Fill `out` with the values of `numbers`, both of one shape."""
    if values.palette is not None:
        out[...] = values.palette.astype(out.dtype)[numbers]
    elif values.step == 1 and -(1 << 30) < values.offset < 1 << 30:
        np.add(numbers, np.int32(values.offset), out=out, casting="unsafe")
    else:
        table = values.offset + values.step * np.arange(values.top + 1, dtype=object)
        out[...] = table.astype(out.dtype)[numbers]


def fits(values: ValueMap, dtype: np.dtype[Any]) -> bool:
    """Return whether all values of a map are exact in a type."""
    low = values.offset
    high = low + values.step * values.top
    if values.palette is not None:
        high = int(values.palette[-1])
    if dtype.kind == "f":
        return max(abs(low), abs(high)) <= _EXACT[dtype.itemsize]
    info = np.iinfo(dtype)
    return int(info.min) <= low and high <= int(info.max)


def build_map(values: ValueMap) -> bytes:
    """Return the bytes of a map: its kind, then numbers of 7 bits a byte."""
    numbers = [2 * values.offset if values.offset >= 0 else -2 * values.offset - 1]
    numbers += [values.step, values.top]
    if values.palette is not None:
        numbers += (np.diff(values.palette) - 1).tolist()
    return bytes([values.palette is not None]) + b"".join(map(_varint, numbers))


def parse_map(data: memoryview, at: int) -> tuple[ValueMap, int] | None:
    """Return the map at `at` and where it ends, or None if there is none."""
    if at >= len(data) or data[at] > 1:
        return None
    has_palette = data[at] == 1
    numbers = []
    at += 1
    for _ in range(3):
        number, at = _find_varint(data, at)
        if number is None:
            return None
        numbers.append(number)
    zigzag, step, top = numbers
    offset = zigzag // 2 if zigzag % 2 == 0 else -(zigzag + 1) // 2
    if top > TOP or not 0 < step < 1 << 41 or (has_palette and step != 1):
        return None
    if not has_palette:
        return ValueMap(offset, step, top), at
    entries = [offset]
    for _ in range(top):
        gap, at = _find_varint(data, at)
        if gap is None:
            return None
        entries.append(entries[-1] + 1 + gap)
    if abs(offset) >= 1 << 62 or entries[-1] >= 1 << 62:
        return None
    return ValueMap(offset, 1, top, np.array(entries, np.int64)), at


def _varint(number: int) -> bytes:
    result = bytearray()
    while number > 127:
        result.append(number & 127 | 128)
        number >>= 7
    result.append(number)
    return bytes(result)


def _find_varint(data: memoryview, at: int) -> tuple[int | None, int]:
    """Return the shortest form number at `at` and where it ends; None if there is none."""
    number = 0
    for place in range(10):
        if at + place >= len(data):
            return None, at
        byte = data[at + place]
        number |= (byte & 127) << 7 * place
        if byte < 128:
            return (None if place and not byte else number), at + place + 1
    return None, at
