"""Pcodec: integers and floats of 8 to 64 bits as numbers, not as bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs import fields, native
from mroi.codecs.base import ChunkSpec, Codec
from mroi.errors import DecodeError

__all__ = ["Pcodec"]


@dataclass(frozen=True, slots=True)
class Pcodec(Codec):
    """One standalone pco file of all samples in C order; lossless.

    Parameters
    ----------
    level : int
        1 (fast) to 12 (small).
    """

    name: ClassVar[str] = "pcodec"
    id: ClassVar[int] = 10
    encoder_only: ClassVar[tuple[str, ...]] = ("level",)

    level: int = 8

    def __post_init__(self) -> None:
        fields.integer("pcodec: level", self.level, 1, 12)

    @override
    @classmethod
    def probe(cls) -> str | None:
        return native.find_missing("pcodec", "codecs")

    @override
    @classmethod
    def implementation(cls) -> str:
        from importlib.metadata import version

        return f"pcodec {version('pcodec')}"

    @override
    def refuses(self, spec: ChunkSpec) -> str | None:
        if spec.dtype.kind in "iu" or (spec.dtype.kind == "f" and spec.dtype.itemsize <= 8):
            return None
        return f"pcodec takes integers and floats of 8 to 64 bits, not {spec.dtype}"

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        library = native.load("pcodec", "codecs")
        config = library.ChunkConfig(compression_level=self.level, enable_8_bit=True)
        payload: bytes = library.standalone.simple_compress(chunk.reshape(-1), config)
        return payload

    @override
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        library = native.load("pcodec", "codecs")
        data = bytes(payload)
        samples: NDArray[Any] = np.empty(spec.size // spec.dtype.itemsize, spec.dtype)
        try:
            progress = library.standalone.simple_decompress_into(data, samples)
        except (RuntimeError, TypeError) as exc:
            raise DecodeError(f"pcodec: {exc}", "CHK-8") from exc
        if progress.n_processed != samples.size or not progress.finished:
            raise DecodeError(f"pcodec: payload does not hold {samples.size} samples", "CHK-8")
        return samples.reshape(spec.shape)
