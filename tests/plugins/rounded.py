"""A plug-in as an author would write it, from the docstrings of `mroi.codecs` alone."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

from mroi.codecs import ChunkSpec, Codec, Fidelity, Values, fields
from mroi.errors import DecodeError


@dataclass(frozen=True, slots=True)
class Rounded(Codec):
    """Integers of 8 and 16 bits, rounded to multiples of `step`, by zlib."""

    name: ClassVar[str] = "org.example.rounded"
    max_slices: ClassVar[int | None] = 4

    step: int = 1

    def __post_init__(self) -> None:
        fields.integer("step", self.step, 1, 2**16)

    @property
    def default_slices(self) -> int:
        return 3 + super().default_slices

    @property
    def fidelity(self) -> Fidelity:
        return super().fidelity if self.step == 1 else Fidelity.BOUNDED

    @classmethod
    def implementation(cls) -> str:
        return f"{super().implementation()} of the tests"

    @classmethod
    def ladder(cls, values: Values, /) -> list[Codec]:
        return [cls(step) for step in sorted({int(step) for step in values.steps(1, 2**16)})]

    def refuses(self, spec: ChunkSpec) -> str | None:
        if spec.dtype.kind not in "iu" or spec.dtype.itemsize > 2:
            return f"{self.name} takes integers of 8 and 16 bits, not {spec.dtype}"
        return super().refuses(spec)

    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        info = np.iinfo(spec.dtype)
        rounded = np.rint(chunk.astype(np.int64) / self.step) * self.step
        return zlib.compress(rounded.clip(info.min, info.max).astype(spec.dtype).tobytes())

    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        stream = zlib.decompressobj()
        try:
            data = stream.decompress(payload, spec.size + 1)
        except zlib.error as exc:
            raise DecodeError(f"{self.name}: {exc}", "CHK-8") from exc
        if len(data) != spec.size or not stream.eof or stream.unused_data:
            raise DecodeError(f"{self.name}: payload is not {spec.size} bytes", "CHK-8")
        return np.frombuffer(data, spec.dtype).reshape(spec.shape)
