"""How many bits the voxels of a chunk need."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.base import ChunkSpec

__all__ = ["significant_bits"]


def significant_bits(chunk: NDArray[Any], spec: ChunkSpec) -> int:
    """Return the significant bits of `spec` if all voxels fit into them, else those of the type.

    Fewer bits than the type has make some codecs smaller; that voxels keep to what the source
    says of them (DICOM Bits Stored) is checked, never assumed.
    """
    width = 8 * spec.dtype.itemsize
    if width - 8 < spec.bits < width:
        info = np.iinfo(spec.dtype)
        low, high = int(info.min) >> (width - spec.bits), int(info.max) >> (width - spec.bits)
        if low <= chunk.min() and chunk.max() <= high:
            return spec.bits
    return width
