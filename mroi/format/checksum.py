"""CRC-32 as in zlib (section "Conventions"), and the bytes of arrays to take it of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from zlib import crc32
else:
    try:  # the same function, four times faster; its wheels do not cover every platform
        from isal.isal_zlib import crc32
    except ImportError:
        from zlib import crc32

__all__ = ["array_bytes", "crc32", "crc32_repeated"]

_POLYNOMIAL = 0xEDB88320  # bit 31 is x^0, as in zlib
_ONE, _X8 = 1 << 31, 1 << 23
_SHORT = 1 << 20  # bytes whose CRC is computed sooner than found


def array_bytes(array: NDArray[Any]) -> memoryview:
    """Return the bytes of an array in C order, without a copy where it is contiguous."""
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))  # type: ignore[arg-type, unused-ignore]


def crc32_repeated(data: bytes, count: int) -> int:
    """Return the CRC of `data` written `count` times, in a time that hardly depends on `count`.

    The CRC of two parts is that of the first times x^8 for each byte of the second, plus that of
    the second (as in ``crc32_combine`` of zlib), so twice as much takes one step more.

    Examples
    --------
    >>> crc32_repeated(b"ab", 3) == crc32(b"ababab")
    True
    """
    if len(data) * count <= _SHORT:
        return crc32(data * count)
    once, step = crc32(data), _power(_X8, len(data))
    crc, shift = 0, _ONE
    for bit in f"{count:b}":
        crc, shift = _multiply(shift, crc) ^ crc, _multiply(shift, shift)
        if bit == "1":
            crc, shift = _multiply(step, crc) ^ once, _multiply(shift, step)
    return crc


def _power(base: int, exponent: int) -> int:
    power = _ONE
    for bit in f"{exponent:b}":
        power = _multiply(power, power)
        if bit == "1":
            power = _multiply(power, base)
    return power


def _multiply(a: int, b: int) -> int:
    """Return the product of two polynomials modulo that of the CRC."""
    product = 0
    for power in range(31, -1, -1):
        if a >> power & 1:
            product ^= b
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product
