"""Pcodec: integers and floats of 8 to 64 bits as numbers, not as bytes."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs import fields, native
from mroi.codecs.base import ChunkSpec, Codec
from mroi.errors import DecodeError

__all__ = ["Pcodec"]

_META = 1 << 20  # more than the metadata of any chunk
_LEAST = 1 << 16  # numbers of an inner chunk before the last; encoders write 2**17 at least
_VERSIONS = (3, 4)
_WINDOW = 15  # log2 of the widest that encoders look back


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
        samples: NDArray[Any] = np.empty(spec.size // spec.dtype.itemsize, spec.dtype)
        try:
            _decode(library.wrapped, bytes(payload), samples)
        except (RuntimeError, TypeError, IndexError) as exc:
            raise DecodeError(f"pcodec: {exc}", "CHK-8") from exc
        return samples.reshape(spec.shape)


# The numbers of types in a standalone file.
_TYPES = dict(u4=1, u8=2, i4=3, i8=4, f4=5, f8=6, u2=7, i2=8, f2=9, u1=10, i1=11)  # noqa: C408


def _decode(library: ModuleType, data: bytes, samples: NDArray[Any]) -> None:
    """Fill `samples` from a standalone file, and see that it ends where the payload does.

    The library reads such files by itself, but does not tell where they end.
    """
    if data[:6] != b"pco!\x03\0":
        raise DecodeError("pcodec: payload is not a standalone file of version 3", "CHK-8")
    kind, width = samples.dtype.kind, samples.dtype.itemsize
    number, name = _TYPES[f"{kind}{width}"], f"{kind}{8 * width}"
    at = 6 + (6 + 1 + (data[6] & 63) + 7) // 8  # a hint at the count: its size, and itself
    if data[at] not in _VERSIONS:
        raise DecodeError(f"pcodec: chunks are of version {data[at]}, not 3 or 4", "CHK-8")
    file, used = library.FileDecompressor.new(data[at : at + 16])
    at += used
    done = 0
    while data[at]:
        count = int.from_bytes(data[at + 1 : at + 4], "little") + 1
        if data[at] != number or count > samples.size - done:
            raise DecodeError("pcodec: numbers are not those of the chunk", "CHK-8")
        if count < min(_LEAST, samples.size - done):  # each costs time, however small
            raise DecodeError(f"pcodec: an inner chunk of {count} numbers is too small", "CHK-8")
        at += 4
        _check_chunk(data[at : at + _META], width, count)
        # Slices are copies: no larger than the metadata, and a page of incompressible numbers.
        chunk, used = file.chunk_decompressor(data[at : at + _META], name)
        at += used
        page = data[at : at + 2 * count * samples.itemsize + _META]
        progress, used = chunk.read_page_into(page, count, samples[done : done + count])
        if progress.n_processed != count or not progress.finished:
            raise DecodeError("pcodec: a page is not complete", "CHK-8")
        at += used
        done += count
    if done != samples.size or at + 1 != len(data):
        raise DecodeError(f"pcodec: payload is not exactly {samples.size} numbers", "CHK-8")


def _check_chunk(meta: bytes, width: int, count: int) -> None:
    """Refuse metadata that ask for more memory than `count` numbers of `width` bytes can need.

    A dictionary may have 2**25 entries, and a window for looking back 2**32 numbers, both of which
    the library allocates before it sees that there are none.
    """
    bits = int.from_bytes(meta[:16], "little")
    mode = bits & 15
    after = {0: 4, 1: 4 + 8 * width, 2: 4 + 8 * width, 3: 12}.get(mode)
    if after is None:
        entries = bits >> 4 & 0x1FFFFFF
        if mode != 4 or entries > count or 4 + entries * width > len(meta):
            raise DecodeError(f"pcodec: mode {mode} or its dictionary is not allowed", "CHK-8")
        start = 4 + entries * width
        delta = int.from_bytes(meta[start : start + 2], "little")
    else:
        delta = bits >> after
    if delta & 15 == 2 and (delta >> 4 & 31) + 1 > _WINDOW:
        raise DecodeError("pcodec: it looks back too far", "CHK-8")
