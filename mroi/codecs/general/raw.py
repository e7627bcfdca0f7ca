"""The voxels themselves: C order, little-endian, nothing added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs.base import ChunkSpec, Codec
from mroi.errors import DecodeError

__all__ = ["Raw"]


@dataclass(frozen=True, slots=True)
class Raw(Codec):
    """No compression: the payload is the chunk, so reading costs nothing but the bytes."""

    name: ClassVar[str] = "raw"
    id: ClassVar[int] = 1
    isolated: ClassVar[bool] = False

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        return chunk.tobytes()

    @override
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        """Return a view of `payload`; nothing is copied."""
        view = memoryview(payload)
        if view.nbytes != spec.size:
            raise DecodeError(
                f"raw: payload has {view.nbytes} bytes, expected {spec.size}", "CHK-8"
            )
        return np.ndarray(spec.shape, spec.dtype, view)

    def decode_prefix(self, payload: Buffer, spec: ChunkSpec, count: int, /) -> NDArray[Any]:
        """Return the first slices, as `SupportsPrefix` says; nothing is copied."""
        return self.decode(payload, spec)[:count]
