"""LZMA for mroi.

Bitstream, version 1: the canonical bytes of the chunk (C order, little-endian), regrouped so that
byte k of all samples comes before byte k + 1, as one raw LZMA2 stream with a dictionary of 1 MiB.
A raw stream has no header that could ask for memory, and ends with a marker of its own.
"""

import lzma
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs import ChunkSpec, Codec
from mroi.errors import CodecError, DecodeError

__all__ = ["Lzma"]


@dataclass(frozen=True, slots=True)
class Lzma(Codec):
    """One raw LZMA2 stream; takes every kind of chunk.

    Parameters
    ----------
    preset : int
        0 (fast) to 9 (small).
    """

    name: ClassVar[str] = "org.example.lzma"
    encoder_only: ClassVar[tuple[str, ...]] = ("preset",)

    preset: int = 6

    def __post_init__(self) -> None:
        if type(self.preset) is not int or self.preset not in range(10):
            raise CodecError(f"{self.name}: preset is 0 to 9, not {self.preset!r}", "CDC-6")

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        samples = np.frombuffer(chunk.tobytes(), np.uint8).reshape(-1, spec.dtype.itemsize)
        filters = [{"id": lzma.FILTER_LZMA2, "preset": self.preset, "dict_size": 1 << 20}]
        return lzma.compress(samples.T.tobytes(), lzma.FORMAT_RAW, filters=filters)

    @override
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        stream = lzma.LZMADecompressor(
            lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]
        )
        try:
            # One byte more than expected: a longer stream shows itself, a bomb never inflates.
            data = stream.decompress(bytes(payload), spec.size + 1)
        except (lzma.LZMAError, EOFError) as exc:
            raise DecodeError(f"{self.name}: {exc}", "CHK-8") from exc
        if len(data) != spec.size or not stream.eof or stream.unused_data:
            raise DecodeError(f"{self.name}: not exactly {spec.size} bytes", "CHK-8")
        planes = np.frombuffer(data, np.uint8).reshape(spec.dtype.itemsize, -1)
        return np.ascontiguousarray(planes.T).view(spec.dtype).reshape(spec.shape)
