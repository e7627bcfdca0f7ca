"""Payloads made by hand, so that the vectors do not depend on the version of any compressor.

The streams hold their bytes uncompressed, or as runs; the few really compressed ones were recorded
once and are proven by decoding them. How well codecs compress is for their own vectors.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import zstandard
from cases.sample import Slot

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
RAW_BLOCK, RUN_BLOCK = 0, 1


def zstd_block(kind: int, data: bytes, size: int, *, last: bool) -> bytes:
    """Return one block: `data` are its bytes, `size` what its header says."""
    return (last | kind << 1 | size << 3).to_bytes(3, "little") + data


def zstd_frame(data: bytes, *, declared: int | None = None) -> bytes:
    """Return a Zstandard frame of one block; `declared` is what it says of its content size."""
    size = len(data) if declared is None else declared
    if len(data) > 1 and data == data[:1] * len(data):
        block = zstd_block(RUN_BLOCK, data[:1], len(data), last=True)
    else:
        block = zstd_block(RAW_BLOCK, data, len(data), last=True)
    return zstd_header(size) + block


def zstd_header(size: int) -> bytes:
    """Return the header of a frame of one segment that declares its content size."""
    single = 0x20
    if size < 256:
        return ZSTD_MAGIC + bytes([single, size])
    if size < 256 + 65536:
        return ZSTD_MAGIC + bytes([single | 0x40]) + (size - 256).to_bytes(2, "little")
    if size < 1 << 32:
        return ZSTD_MAGIC + bytes([single | 0x80]) + size.to_bytes(4, "little")
    return ZSTD_MAGIC + bytes([single | 0xC0]) + size.to_bytes(8, "little")


def zlib_stream(data: bytes) -> bytes:
    """Return a zlib stream of one stored block."""
    size = len(data)
    block = b"\x01" + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little") + data
    return b"\x78\x01" + block + zlib.adler32(data).to_bytes(4, "big")


def split(data: bytes, size: int, *, shuffle: bool, delta: bool) -> bytes:
    """Return the bytes of samples of `size` bytes after delta and shuffle."""
    samples = [int.from_bytes(data[at : at + size], "little") for at in range(0, len(data), size)]
    if delta:
        before = [0, *samples[:-1]]
        samples = [(a - b) % 256**size for a, b in zip(samples, before, strict=True)]
    data = b"".join(sample.to_bytes(size, "little") for sample in samples)
    return b"".join(data[byte::size] for byte in range(size)) if shuffle else data


def _with_split(
    compress: Callable[[bytes], bytes], *, shuffle: bool, delta: bool
) -> Callable[[bytes, int], bytes]:
    return lambda data, size: compress(split(data, size, shuffle=shuffle, delta=delta))


def zstd(*, shuffle: bool = False, delta: bool = False, role: int = 0, fidelity: int = 1) -> Slot:
    """Return a slot of the codec `zstd`."""
    encode = _with_split(zstd_frame, shuffle=shuffle, delta=delta)
    params = {"delta": delta, "shuffle": shuffle}
    return Slot("zstd", 2, encode, params, role=role, fidelity=fidelity)


def deflate(*, shuffle: bool = False, delta: bool = False, role: int = 0) -> Slot:
    """Return a slot of the codec `deflate`."""
    encode = _with_split(zlib_stream, shuffle=shuffle, delta=delta)
    return Slot("deflate", 3, encode, {"delta": delta, "shuffle": shuffle}, role=role)


def recorded(stream: str, content: bytes) -> bytes:
    """Return a recorded stream, after proving that it holds `content`."""
    data = bytes.fromhex(stream)
    if data.startswith(ZSTD_MAGIC):
        decoded = zstandard.ZstdDecompressor().decompress(data)
    else:
        decoded = zlib.decompress(data)
    assert decoded == content
    return data
