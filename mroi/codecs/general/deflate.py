"""Deflate in a zlib stream (RFC 1950): readable with nothing but a standard library."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs import fields
from mroi.codecs.base import ChunkSpec, Codec
from mroi.codecs.general.shuffle import join, refuses_delta, split
from mroi.errors import DecodeError

__all__ = ["Deflate"]


@dataclass(frozen=True, slots=True)
class Deflate(Codec):
    """One zlib stream; takes every kind of chunk.

    Parameters
    ----------
    level : int
        0 (stored) to 9 (small).
    shuffle : bool
        Group the bytes of the samples by significance first.
    delta : bool
        Take differences of neighbours first; integers only.
    """

    name: ClassVar[str] = "deflate"
    id: ClassVar[int] = 3
    isolated: ClassVar[bool] = False
    encoder_only: ClassVar[tuple[str, ...]] = ("level",)

    level: int = 6
    shuffle: bool = True
    delta: bool = False

    def __post_init__(self) -> None:
        fields.integer("deflate: level", self.level, 0, 9)
        fields.boolean("deflate: shuffle", self.shuffle)
        fields.boolean("deflate: delta", self.delta)

    @override
    @classmethod
    def implementation(cls) -> str:
        return f"zlib {zlib.ZLIB_RUNTIME_VERSION}"

    @override
    def refuses(self, spec: ChunkSpec) -> str | None:
        return refuses_delta(spec) if self.delta else None

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        data = split(chunk, spec, shuffle=self.shuffle, delta=self.delta)
        return zlib.compress(data, self.level)

    @override
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        from isal import isal_zlib  # inflates the same streams, two to three times faster

        stream = isal_zlib.decompressobj()
        try:
            # One byte more than expected: a longer stream shows itself, a bomb never inflates.
            data = stream.decompress(payload, spec.size + 1)
        except isal_zlib.IsalError as exc:  # type: ignore[misc]  # the stubs call it an instance
            raise DecodeError(f"deflate: {exc}", "CHK-8") from exc
        if len(data) != spec.size or not stream.eof or stream.unused_data:
            raise DecodeError(
                f"deflate: payload does not inflate to exactly {spec.size} bytes", "CHK-8"
            )
        return join(data, spec, shuffle=self.shuffle, delta=self.delta)
