"""The header of a payload: what the sections behind it are, and what their voxels mean."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.calv.values import build_number

__all__ = ["Header", "Scale", "build_header", "even_bits", "fraction_bits", "parse_header"]

TOP = 65535
"""Largest symbol."""

LARGEST_STEP = 1 << 26
MODES = 4
"""Ways to group the classes of the filter, beside none."""

_SERIES, _FLOATS = 1, 2
_LONGEST = 10  # bytes of a number
_REALS = struct.Struct("<dd")


@dataclass(frozen=True, slots=True)
class Scale:
    """What symbols mean: symbol n from 0 to `top` is ``offset + scale * n``.

    Attributes
    ----------
    offset, scale : int or float
        Integers for arrays of integers, floats for arrays of floats.
    top : int
        Largest symbol.
    """

    offset: int | float
    scale: int | float
    top: int

    @classmethod
    def of(cls, chunk: NDArray[Any]) -> Scale:
        """Return the finest scale for the values of a chunk, which must be finite."""
        low, high = chunk.min().item(), chunk.max().item()
        if chunk.dtype.kind == "f":
            scale = (high - low) / TOP
            return cls(low, scale, TOP) if scale > 0 else cls(low, 0.0, 0)
        scale = max(1, -(-(high - low) // TOP))
        return cls(low, scale, -(-(high - low) // scale))

    def symbols(self, chunk: NDArray[Any]) -> NDArray[np.float32]:
        """Return the symbols of a chunk, not rounded."""
        above = chunk.astype(np.float64) - self.offset
        return (above / (self.scale or 1)).astype(np.float32)

    def values(self, symbols: NDArray[np.uint16], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return what symbols stand for; what is beyond the type becomes its first or last."""
        if dtype.kind == "f":
            most = float(np.finfo(dtype).max)
            with np.errstate(over="ignore"):
                values = self.offset + self.scale * symbols.astype(np.float64)
            return np.clip(values, -most, most).astype(dtype)
        info = np.iinfo(dtype)
        whole = int(self.offset) + int(self.scale) * symbols.astype(np.int64)
        return whole.clip(info.min, info.max).astype(dtype)

    def fits(self, dtype: np.dtype[Any]) -> bool:
        """Return whether the values are of a type; the last one may be beyond it."""
        if dtype.kind == "f":
            return self.scale >= 0
        info = np.iinfo(dtype)
        before = self.offset + self.scale * max(self.top - 1, 0)
        return bool(int(info.min) <= self.offset <= before <= int(info.max) and self.scale >= 1)


@dataclass(frozen=True, slots=True)
class Header:
    """What a payload says before its sections.

    Attributes
    ----------
    scale : Scale
        What symbols mean.
    series : bool
        Slabs are the same slice of all volumes, not the slices of one volume.
    wavelet : int
        0 or 1: see `mroi.codecs.ebb.wavelet`.
    deep, flat : int
        Levels across slices, and in the plane, at most.
    step : int
        Of the quantiser, in fractions of a symbol.
    shifts : tuple of 9 int
        Where magnitudes 1, 2, 3 and more are restored, in 1/64 step, by section.
    mode : int
        How classes of the filter are grouped; 0 for no filter.
    sizes : tuple of 4 int
        Words of the sections, and of the taps of the filter.
    """

    scale: Scale
    series: bool = False
    wavelet: int = 0
    deep: int = 0
    flat: int = 0
    step: int = 1
    shifts: tuple[int, ...] = (0,) * 9
    mode: int = 0
    sizes: tuple[int, ...] = (0,) * 4


def fraction_bits(top: int) -> int:
    """Return how many bits of fraction coefficients have: as many as 32 bits leave room for."""
    return min(8, 20 - top.bit_length())


def even_bits(top: int, step: int) -> int:
    """Return how many low bits of the lowest band are coded as they are: so that others are 20."""
    largest = (top << fraction_bits(top) + 8) // step
    return max(0, largest.bit_length() - 18)


def build_header(header: Header, count: int, kind: np.dtype[Any]) -> bytes:
    """Return the bytes of a header, for so many samples of a type."""
    is_float = kind.kind == "f"
    flags = _SERIES * header.series | _FLOATS * is_float
    parts = [bytes([flags]), build_number(count), build_number(header.scale.top)]
    if is_float:
        parts.append(_REALS.pack(header.scale.offset, header.scale.scale))
    else:
        offset = int(header.scale.offset)
        parts += [build_number(2 * offset if offset >= 0 else -2 * offset - 1)]
        parts += [build_number(int(header.scale.scale))]
    if header.scale.top:
        parts.append(bytes([header.wavelet, header.deep << 4 | header.flat]))
        parts.append(build_number(header.step))
        parts.append(struct.pack("<9bB", *header.shifts, header.mode))
        parts += map(build_number, header.sizes)
    return b"".join(parts)


def parse_header(data: memoryview, count: int, dtype: np.dtype[Any]) -> tuple[Header, int] | str:
    """Return the header of so many samples of a type and where it ends, or what is wrong."""
    reader = _Reader(data)
    try:
        flags = reader.byte()
        if flags > 3 or bool(flags & _FLOATS) != (dtype.kind == "f"):
            return "flags are not those of such an array"
        if reader.number() != count:
            return "payload is not a chunk of this shape"
        scale = _parse_scale(reader, dtype)
        if scale.top > TOP or not scale.fits(dtype):
            return f"values of the payload are not of {dtype.str}"
        header = _parse_rest(reader, scale, series=bool(flags & _SERIES))
    except _BrokenError as exc:
        return str(exc)
    return header, reader.at


class _BrokenError(Exception):
    pass


class _Reader:
    """Takes numbers from bytes."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        part = bytes(self._data[self.at : self.at + count])
        if len(part) < count:
            raise _BrokenError("payload ends within its header")
        self.at += count
        return part

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        """Take a number of 7 bits a byte, low bits first, in its shortest form."""
        number = place = 0
        while True:
            byte = self.byte()
            number |= (byte & 127) << 7 * place
            place += 1
            if byte < 128:
                break
            if place == _LONGEST:
                raise _BrokenError("a number is too long")
        if place > 1 and not byte:
            raise _BrokenError("a number is not in its shortest form")
        return number


def _parse_scale(reader: _Reader, dtype: np.dtype[Any]) -> Scale:
    top = reader.number()
    if dtype.kind == "f":
        offset, scale = _REALS.unpack(reader.take(_REALS.size))
        if not (math.isfinite(offset) and math.isfinite(scale)):
            raise _BrokenError("the range of the values is not finite")
        return Scale(offset, scale, top)
    zigzag, step = reader.number(), reader.number()
    return Scale(zigzag // 2 if zigzag % 2 == 0 else -(zigzag + 1) // 2, step, top)


def _parse_rest(reader: _Reader, scale: Scale, *, series: bool) -> Header:
    if scale.top == 0:
        return Header(scale, series)
    wavelet, levels, step = reader.byte(), reader.byte(), reader.number()
    *shifts, mode = struct.unpack("<9bB", reader.take(10))
    sizes = tuple(reader.number() for _ in range(4))
    if wavelet > 1 or not 0 < step <= LARGEST_STEP or mode > MODES or min(shifts) < -64:
        raise _BrokenError("wavelet, step, shifts or mode out of range")
    if bool(mode) != bool(sizes[3]):
        raise _BrokenError("taps without a filter, or a filter without taps")
    deep, flat = divmod(levels, 16)
    return Header(scale, series, wavelet, deep, flat, step, tuple(shifts), mode, sizes)
