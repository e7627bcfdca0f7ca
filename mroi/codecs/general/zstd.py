"""Zstandard (RFC 8878): small enough, and the fastest to read."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs import fields
from mroi.codecs.base import ChunkSpec, Codec
from mroi.codecs.general.shuffle import join, refuses_delta, split
from mroi.errors import DecodeError

if TYPE_CHECKING:
    import zstandard

__all__ = ["Zstd"]

_MAGIC = b"\x28\xb5\x2f\xfd"
_idle: deque[zstandard.ZstdDecompressor] = deque()  # to make one takes as long as a small chunk
_WINDOW = 8 << 20  # what RFC 8878 asks every decoder to support


@dataclass(frozen=True, slots=True)
class Zstd(Codec):
    """One Zstandard frame; takes every kind of chunk.

    Parameters
    ----------
    level : int
        1 (fast) to 22 (small); decoding is equally fast for all.
    shuffle : bool
        Group the bytes of the samples by significance first.
    delta : bool
        Take differences of neighbours first; integers only.
    """

    name: ClassVar[str] = "zstd"
    id: ClassVar[int] = 2
    isolated: ClassVar[bool] = False
    encoder_only: ClassVar[tuple[str, ...]] = ("level",)

    level: int = 3
    shuffle: bool = True
    delta: bool = False

    def __post_init__(self) -> None:
        fields.integer("zstd: level", self.level, 1, 22)
        fields.boolean("zstd: shuffle", self.shuffle)
        fields.boolean("zstd: delta", self.delta)

    @override
    @classmethod
    def implementation(cls) -> str:
        import zstandard

        return f"zstandard {zstandard.__version__}"

    @override
    def refuses(self, spec: ChunkSpec) -> str | None:
        return refuses_delta(spec) if self.delta else None

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        import zstandard

        # One compressor a call: they cannot be shared between threads, and cost microseconds.
        compressor = zstandard.ZstdCompressor(level=self.level, write_checksum=False)
        data = split(chunk, spec, shuffle=self.shuffle, delta=self.delta)
        return compressor.compress(data)

    @override
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        import zstandard

        view = memoryview(payload)
        _check_header(view, spec)
        try:
            decompressor = _idle.pop()
        except IndexError:
            decompressor = zstandard.ZstdDecompressor()
        try:
            data = decompressor.decompress(view, allow_extra_data=False)
        except zstandard.ZstdError as exc:
            raise DecodeError(f"zstd: {exc}", "CHK-8") from exc
        _idle.append(decompressor)
        if len(data) != spec.size:
            raise DecodeError(
                f"zstd: decompressed to {len(data)} bytes, expected {spec.size}", "CHK-8"
            )
        return join(data, spec, shuffle=self.shuffle, delta=self.delta)


def _check_header(payload: memoryview, spec: ChunkSpec) -> None:
    """Refuse frames that would decode to another size or take more memory than the chunk does.

    The library ignores its own output limit when the frame states a size.
    """
    import zstandard

    try:
        header = zstandard.get_frame_parameters(payload)
    except zstandard.ZstdError as exc:
        raise DecodeError(f"zstd: {exc}", "CHK-8") from exc
    if payload[:4] != _MAGIC:  # a skippable frame passes as a header, too
        raise DecodeError("zstd: payload is not a Zstandard frame", "CHK-8")
    if header.content_size != spec.size:
        raise DecodeError(
            f"zstd: frame states {header.content_size} bytes, expected {spec.size}", "CHK-8"
        )
    if header.window_size > max(spec.size, _WINDOW):
        raise DecodeError(f"zstd: window of {header.window_size} bytes exceeds the limit", "CHK-8")
    if header.dict_id or header.has_checksum:
        raise DecodeError("zstd: frame has a dictionary or a checksum", "CHK-8")
