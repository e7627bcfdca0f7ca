"""ZFP: floats in three dimensions, lossless or within a tolerance that is never exceeded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs import fields, native
from mroi.codecs.base import ChunkSpec, Fidelity, Values
from mroi.errors import CodecError, DecodeError

__all__ = ["Zfp"]

_TOLERANCES = (1e-300, 1e300)  # the finest and the coarsest


@dataclass(frozen=True, slots=True)
class Zfp(native.ImagecodecsCodec):
    """One ZFP stream in blocks of 4 x 4 x 4: float32, float64; lossless also int32, int64.

    Parameters
    ----------
    tolerance : float or None
        Largest absolute error of any voxel, in units of the voxels. None is lossless.
    """

    name: ClassVar[str] = "zfp"
    id: ClassVar[int] = 13
    feature: ClassVar[str] = "ZFP"

    tolerance: float | None = None

    def __post_init__(self) -> None:
        if self.tolerance is not None:
            fields.number("zfp: tolerance", self.tolerance, *_TOLERANCES)

    @property
    @override
    def default_slices(self) -> int:
        return 4

    @property
    @override
    def fidelity(self) -> Fidelity:
        return Fidelity.LOSSLESS if self.tolerance is None else Fidelity.BOUNDED

    @classmethod
    def ladder(cls, values: Values, /) -> list[Self]:
        """Return tolerances from a fraction of the range of the values to all of it."""
        return [cls(tolerance) for tolerance in values.steps(*_TOLERANCES)]

    @override
    def refuses(self, spec: ChunkSpec) -> str | None:
        floats = spec.dtype in {np.dtype("<f4"), np.dtype("<f8")}
        integers = spec.dtype in {np.dtype("<i4"), np.dtype("<i8")}
        if self.tolerance is not None and not floats:
            return f"zfp takes float32 and float64 with a tolerance, not {spec.dtype}"
        if not floats and not integers:
            return f"zfp takes float32, float64, int32 and int64, not {spec.dtype}"
        return f"zfp takes one sample per voxel, not {spec.voxel}" if spec.samples > 1 else None

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        library = native.imagecodecs(self.feature)
        volume = chunk.reshape(_layout(spec))
        if self.tolerance is None:
            payload: bytes = library.zfp_encode(volume, header=False, numthreads=1)
            return payload
        if not np.all(np.isfinite(chunk)):
            raise CodecError("zfp: NaN and infinity need the lossless mode, without a tolerance")
        payload = library.zfp_encode(volume, self.tolerance, mode="a", header=False, numthreads=1)
        decoded = self.decode(payload, spec)
        with np.errstate(over="ignore"):
            error = np.max(np.abs(decoded.astype(np.float64) - chunk.astype(np.float64)))
        if not error <= self.tolerance:  # where values of very different size meet in a block
            raise CodecError(
                f"zfp: the error would be {error:g}, above the tolerance of {self.tolerance:g}"
            )
        return payload

    @override
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        library = native.imagecodecs(self.feature)
        view = memoryview(payload).cast("B")
        most = _most_bytes(spec)
        if len(view) > most:
            raise DecodeError(
                f"zfp: payload of {len(view)} bytes; this chunk has {most} at most", "CHK-8"
            )
        _check(view, self.tolerance)
        # ZFP does not know where its input ends. What it may read at most follows from the shape.
        padded = bytearray(len(view) + most)
        padded[: len(view)] = view
        try:
            chunk: NDArray[Any] = library.zfp_decode(
                padded, shape=_layout(spec), dtype=spec.dtype.newbyteorder("=")
            )
        except (library.ZfpError, ValueError) as exc:
            raise DecodeError(f"zfp: {exc}", "CHK-8") from exc
        return chunk.reshape(spec.shape)


def _layout(spec: ChunkSpec) -> tuple[int, ...]:
    """Return the shape without axes of one voxel: blocks have 4 voxels along each axis."""
    return tuple(extent for extent in spec.shape if extent > 1) or (1,)


def _most_bytes(spec: ChunkSpec) -> int:
    """Return the size of the longest stream: each block at full precision, and its tests."""
    blocks = math.prod(-(-extent // 4) for extent in _layout(spec))
    voxels: int = 4 ** len(_layout(spec))
    return blocks * (2 * voxels * spec.dtype.itemsize + 32) + 64


def _check(view: memoryview, tolerance: float | None) -> None:
    """Refuse a stream without the header for this mode, or with more loss than was promised."""
    if bytes(view[:4]) != b"zfp\x05" or len(view) < 8:
        raise DecodeError("zfp: payload is not a ZFP stream of version 5", "CHK-8")
    mode = int.from_bytes(view[4:6], "little") & 0xFFF
    if tolerance is None:
        allowed = mode == 2176  # reversible
    else:
        allowed = 2176 < mode < 0xFFF and math.ldexp(1.0, mode - 2177 - 1074) <= tolerance
    if not allowed:
        raise DecodeError(f"zfp: mode {mode} of the stream does not match the tolerance", "CHK-8")
