"""LZMA for mroi.

Bitstream, version 1: the canonical bytes of the chunk (C order, little-endian), regrouped so that
byte k of all samples comes before byte k + 1, as one raw LZMA2 stream with a dictionary of 1 MiB.
A raw stream has no header that could ask for memory, and ends with a marker of its own. With the
parameter `near`, no sample differs by more from that of the source; decoding is the same.
"""

import lzma
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs import ChunkSpec, Codec, Fidelity, Values, fields
from mroi.errors import DecodeError

__all__ = ["Lzma"]


@dataclass(frozen=True, slots=True)
class Lzma(Codec):
    """One raw LZMA2 stream; takes every kind of chunk, and with `near` integers of 8 to 32 bits.

    Parameters
    ----------
    preset : int
        0 (fast) to 9 (small).
    near : int
        Largest error of a sample; 0 loses nothing.
    """

    name: ClassVar[str] = "org.example.lzma"
    encoder_only: ClassVar[tuple[str, ...]] = ("preset",)

    preset: int = 6
    near: int = 0

    def __post_init__(self) -> None:
        fields.integer(f"{self.name}: preset", self.preset, 0, 9)
        fields.integer(f"{self.name}: near", self.near, 0, 2**31)

    @property
    @override
    def fidelity(self) -> Fidelity:
        return Fidelity.BOUNDED if self.near else Fidelity.LOSSLESS

    @classmethod
    def ladder(cls, values: Values, /) -> list[Self]:
        """Return the settings that ``mroi pack --max-error``, ``--psnr`` and ``--ratio`` try."""
        return [cls(near=near) for near in sorted({0, *map(int, values.steps(1, 2**31))})]

    @override
    def refuses(self, spec: ChunkSpec) -> str | None:
        if self.near and (spec.dtype.kind not in "iu" or spec.dtype.itemsize > 4):
            return f"{self.name} takes integers of 8 to 32 bits with near, not {spec.dtype}"
        return super().refuses(spec)

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        if self.near:  # to the multiples of 2 * near + 1, the nearest of which is not farther
            info, step = np.iinfo(spec.dtype), 2 * self.near + 1
            rounded = (chunk.astype(np.int64) + self.near) // step * step
            chunk = rounded.clip(info.min, info.max).astype(spec.dtype)
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
