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

__all__ = ["array_bytes", "crc32"]


def array_bytes(array: NDArray[Any]) -> memoryview:
    """Return the bytes of an array in C order, without a copy where it is contiguous."""
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))  # type: ignore[arg-type, unused-ignore]
