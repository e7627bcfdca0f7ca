"""JPEG 2000 with a wavelet along the slices: what neighbouring slices share is coded once."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs.base import ChunkSpec
from mroi.codecs.jpeg import codestream, openjpeg
from mroi.codecs.jpeg.jpeg2000 import OpenJpegCodec
from mroi.errors import DecodeError

__all__ = ["Jpeg2000Volume"]


class _Transform(IntEnum):
    """What was done along the slices; the encoder takes whichever came out smallest."""

    NONE = 0
    PREDICT = 1
    """Odd slices are differences from the mean of their neighbours."""
    LIFT = 2
    """The 5/3 wavelet: after PREDICT, even slices take up a quarter of the differences."""


# Largest mean squared error of even and odd planes for one of 1 in the slices: what the inverse
# makes of independent errors in the planes.
_GAINS = {_Transform.NONE: (1.0, 1.0), _Transform.LIFT: (1.5, 0.719)}


@dataclass(frozen=True, slots=True)
class Jpeg2000Volume(OpenJpegCodec):
    """One codestream for each plane of a chunk: integers of 8 and 16 bits; gray, RGB and RGBA.

    Parameters
    ----------
    psnr : float or None
        Quality to aim at in dB, the peak being the range of the significant bits; lossy.
        None is lossless.
    """

    name: ClassVar[str] = "jpeg2000-3d"
    id: ClassVar[int] = 11

    @property
    @override
    def default_slices(self) -> int:
        return 16

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        slices, rows, columns, *_ = spec.shape
        planes = chunk.reshape(slices, rows, columns, spec.samples).astype(np.int32)
        transform, streams = (
            self._lossless(planes) if self.psnr is None else self._lossy(planes, spec)
        )
        sizes = struct.pack(f"<{slices}I", *map(len, streams))
        return b"".join([bytes([transform]), sizes, *streams])

    @override
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        return self._decode(payload, spec, spec.shape[0], 0)

    def decode_prefix(self, payload: Buffer, spec: ChunkSpec, count: int, /) -> NDArray[Any]:
        """Return the first slices, as `SupportsPrefix` says; at most two more are decoded."""
        return self._decode(payload, spec, count, 0)

    def decode_level(self, payload: Buffer, spec: ChunkSpec, level: int, /) -> NDArray[Any]:
        """Return the chunk at a reduced resolution, as `SupportsLevels` says."""
        return self._decode(payload, spec, spec.shape[0], level)

    def _lossless(self, planes: NDArray[np.int32]) -> tuple[_Transform, list[bytes]]:
        """Return the smallest of the three transforms and its codestreams."""
        none = [_encode(plane) for plane in planes]
        if len(planes) == 1:
            return _Transform.NONE, none
        low, high = _lift(planes)
        highs = [_encode(plane) for plane in high]
        lows = [_encode(plane) for plane in low]
        choices = {
            _Transform.NONE: none,
            _Transform.PREDICT: _interleave(none[::2], highs),
            _Transform.LIFT: _interleave(lows, highs),
        }
        return min(choices.items(), key=lambda choice: sum(map(len, choice[1])))

    def _lossy(self, planes: NDArray[np.int32], spec: ChunkSpec) -> tuple[_Transform, list[bytes]]:
        """Return codestreams whose errors add up to the quality asked for."""
        assert self.psnr is not None
        error = (2.0**spec.bits - 1) ** 2 / 10 ** (self.psnr / 10)  # mean square
        if len(planes) == 1:
            transform, parts = _Transform.NONE, (planes, planes[:0])
        else:
            transform, parts = _Transform.LIFT, _lift(planes)
        low, high = (
            [_encode(plane, error / gain) for plane in part]
            for part, gain in zip(parts, _GAINS[transform], strict=True)
        )
        return transform, _interleave(low, high)

    def _decode(self, payload: Buffer, spec: ChunkSpec, count: int, level: int) -> NDArray[Any]:
        view = memoryview(payload).cast("B")
        slices, rows, columns, *samples = spec.shape
        transform, streams = _split(view, slices)
        needed = slices if transform is _Transform.NONE else min(slices, (count | 1) + 1)
        bits = 8 * spec.dtype.itemsize + 2
        wide = np.dtype(f"<i{2 * spec.dtype.itemsize}")
        plane_spec = ChunkSpec((1, *spec.shape[1:]), wide, bits)
        shape = (needed, -(-rows // 2**level), -(-columns // 2**level), *samples)
        planes: NDArray[Any] = np.empty(shape, wide)
        for k in range(needed):
            plane = codestream.decode(streams[k], plane_spec, level, openjpeg.decode, bits=bits)
            planes[k] = plane[0]
            del plane
        _unlift(planes, transform)
        info = np.iinfo(spec.dtype)
        chunk: NDArray[Any] = np.empty((count, *shape[1:]), spec.dtype)
        for k in range(count):
            chunk[k] = planes[k].clip(info.min, info.max)
        return chunk


def _encode(plane: NDArray[np.int32], error: float | None = None) -> bytes:
    """Return a plane as a codestream of signed samples of just enough bits.

    Parameters
    ----------
    plane : (rows, columns, samples) ndarray of int32
    error : float or None
        Mean squared error to aim at; None is lossless.
    """
    bits = max(int(plane.max()).bit_length(), int(~plane.min()).bit_length()) + 1
    peak = 2**bits - 1
    psnr = None if error is None else max(1.0, 10 * math.log10(peak**2 / error))
    return openjpeg.encode(plane, openjpeg.Coding(bits, signed=True, psnr=psnr))


def _split(view: memoryview, slices: int) -> tuple[_Transform, list[memoryview]]:
    """Return what was done along the slices, and the codestream of each."""
    start = 1 + 4 * slices
    if len(view) < start or view[0] > 2 or (view[0] and slices == 1):
        raise DecodeError("jpeg2000-3d: plane table is corrupt", "CHK-8")
    streams = []
    for size in struct.unpack_from(f"<{slices}I", view, 1):
        streams.append(view[start : start + size])
        start += size
    if start != len(view):
        raise DecodeError("jpeg2000-3d: sizes of the planes do not add up to the payload", "CHK-8")
    return _Transform(view[0]), streams


def _lift(planes: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the low and the high planes of the reversible 5/3 wavelet along the first axis."""
    even, odd = planes[::2], planes[1::2]
    high = odd - _prediction(even, len(odd))
    return even + _update(high, len(even)), high


def _unlift(planes: NDArray[Any], transform: _Transform) -> None:
    """Undo the transform in place, for the first planes of a chunk that need no others.

    Plane by plane: 16 bits hold all sums of planes of 10 bits, 32 those of planes of 18.
    """
    count = len(planes)
    if transform is _Transform.LIFT:
        for k in range(0, count, 2):
            before = planes[abs(k - 1)]
            after = planes[k + 1] if k + 1 < count else before
            planes[k] -= (before + after + 2) >> 2
    if transform is not _Transform.NONE:
        for k in range(1, count, 2):
            before = planes[k - 1]
            after = planes[k + 1] if k + 1 < count else before
            planes[k] += (before + after) >> 1


def _prediction(even: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Return the mean, rounded down, of the even planes around each of `count` odd ones."""
    after = np.concatenate([even[1:], even[-1:]])[:count]
    mean: NDArray[np.int32] = (even[:count] + after) >> 1
    return mean


def _update(high: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Return a quarter of the sum of the high planes around each of `count` even ones."""
    before = np.concatenate([high[:1], high])[:count]
    after = np.concatenate([high, high[-1:]])[:count]
    quarter: NDArray[np.int32] = (before + after + 2) >> 2
    return quarter


def _interleave(low: Iterable[bytes], high: Iterable[bytes]) -> list[bytes]:
    """Return codestreams in the order of their slices."""
    lows, highs = list(low), list(high)
    streams = [b""] * (len(lows) + len(highs))
    streams[::2], streams[1::2] = lows, highs
    return streams
