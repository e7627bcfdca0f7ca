"""High-throughput JPEG 2000 (ITU-T T.814): nearly as small as JPEG 2000, tens of times faster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs import fields, native
from mroi.codecs.base import ChunkSpec, Fidelity, Values
from mroi.codecs.jpeg import codestream
from mroi.errors import DecodeError

__all__ = ["Htj2k"]

_STEPS = (1e-3, 2.0**16)  # the finest and the coarsest


@dataclass(frozen=True, slots=True)
class Htj2k(native.ImagecodecsCodec):
    """One codestream: integers of 8, 16 and 32 bits, signed and unsigned, gray, RGB and RGBA.

    Parameters
    ----------
    step : float or None
        Quantisation step of the 9/7 wavelet, in units of the voxels; lossy, and the larger the
        smaller. None is the 5/3 wavelet and nothing lost.
    """

    name: ClassVar[str] = "htj2k"
    id: ClassVar[int] = 5
    feature: ClassVar[str] = "HTJ2K"
    max_slices: ClassVar[int | None] = 1

    step: float | None = None

    def __post_init__(self) -> None:
        if self.step is not None:
            fields.number("htj2k: step", self.step, *_STEPS)

    @property
    @override
    def fidelity(self) -> Fidelity:
        return Fidelity.LOSSLESS if self.step is None else Fidelity.LOSSY

    @classmethod
    def ladder(cls, values: Values, /) -> list[Self]:
        """Return steps from a fraction of the range of the values to all of it."""
        return [cls(step) for step in values.steps(*_STEPS)]

    @override
    def refuses(self, spec: ChunkSpec) -> str | None:
        largest = 4 if self.step is None else 2
        if spec.dtype.kind not in "iu" or spec.dtype.itemsize > largest:
            types = "8, 16 and 32 bits" if self.step is None else "8 and 16 bits with a step"
            return f"htj2k takes integers of {types}, not {spec.dtype}"
        return None

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        library = native.imagecodecs(self.feature)
        # OpenJPH counts the step in units of the whole range, and takes it from 1e-5 to 1.
        step = None if self.step is None else self.step / 2 ** (8 * spec.dtype.itemsize)
        payload: bytes = library.htj2k_encode(
            chunk[0],
            step if step is None else min(max(step, 1e-5), 1.0),
            reversible=step is None,
            planar=False,
        )
        return payload

    @override
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        return self.decode_level(payload, spec, 0)

    def decode_level(self, payload: Buffer, spec: ChunkSpec, level: int, /) -> NDArray[Any]:
        """Return the slice at a reduced resolution, as `SupportsLevels` says."""
        view = memoryview(payload).cast("B")
        return codestream.decode(view, spec, level, _decode, high_throughput=True)


def _decode(view: memoryview, spec: ChunkSpec, skip: int) -> NDArray[Any]:
    """Return the plane, its rows and columns halved `skip` times.

    imagecodecs loses errors of OpenJPH in the entropy-coded data, and returns what was decoded
    before them. Rows arrive in order, so the last one shows whether all did: one of two marks
    would still be there.
    """
    library = native.imagecodecs(Htj2k.feature)
    _, rows, columns, *samples = spec.shape
    plane: NDArray[Any] = np.empty(
        (-(-rows // 2**skip), -(-columns // 2**skip), *samples), spec.dtype
    )
    for mark in (0x55, 0xAA):
        last = plane[-1].view(np.uint8)
        last[...] = mark
        try:
            library.htj2k_decode(view, planar=False, skipres=skip, out=plane)
        except (library.Htj2kError, ValueError) as exc:
            raise DecodeError(f"htj2k: {exc.__cause__ or exc}", "CHK-8") from exc
        if not np.all(last == mark):
            return np.atleast_3d(plane)
    raise DecodeError("htj2k: entropy-coded data are corrupt", "CHK-8")
