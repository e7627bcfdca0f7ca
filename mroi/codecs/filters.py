"""Steps from array to array that let a codec take a chunk: recorded in the file, undone after it.

Every filter works on each slice by itself and can invert any array of the kind it puts out,
whatever the bytes of a damaged or hostile payload made of it. Filters are not plug-ins: a reader
of version 1 knows these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from mroi.codecs import fields
from mroi.codecs.base import ChunkSpec, Fidelity, Filter
from mroi.errors import CodecError, CodecUnavailableError

_BLOCK = 1 << 16  # voxels

__all__ = ["Bias", "Cast", "Planar", "Window", "filter_class"]


@dataclass(frozen=True, slots=True)
class Bias(Filter):
    """Signed to unsigned integers of the same width: adds `offset`, modulo 2**width; exact.

    Parameters
    ----------
    offset : int
        ``2 ** (bits - 1)`` puts values of `bits` significant bits into 0 .. ``2 ** bits - 1``.
    """

    name: ClassVar[str] = "bias"

    offset: int

    def __post_init__(self) -> None:
        fields.integer("bias: offset", self.offset, 0, 2**53 - 1)

    @override
    def output(self, spec: ChunkSpec, /) -> ChunkSpec:
        if spec.dtype.kind != "i":
            raise _refusal("bias takes signed integers", spec)
        return replace(spec, dtype=np.dtype(f"<u{spec.dtype.itemsize}"))

    @override
    def apply(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> NDArray[Any]:
        view: NDArray[Any] = chunk.view(self.output(spec).dtype)
        biased: NDArray[Any] = view + self._modulo(view.dtype)
        return biased

    @override
    def invert(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> NDArray[Any]:
        signed: NDArray[Any] = (chunk - self._modulo(chunk.dtype)).view(spec.dtype)
        return signed

    def _modulo(self, unsigned: np.dtype[Any]) -> NDArray[Any]:
        return np.array([self.offset % 2 ** (8 * unsigned.itemsize)], unsigned)


@dataclass(frozen=True, slots=True)
class Cast(Filter):
    """Another type for the same integers; exact, or refused by `apply`.

    For integers in a wider type than they need, and for floats that hold nothing but integers
    (no fraction, no NaN, no infinity, no negative zero).

    Parameters
    ----------
    dtype : str
        "uint8", "int8", "uint16", "int16", "uint32" or "int32".
    """

    name: ClassVar[str] = "cast"

    dtype: str

    def __post_init__(self) -> None:
        known = ("uint8", "int8", "uint16", "int16", "uint32", "int32")
        if self.dtype not in known:
            raise CodecError(
                f"cast: dtype must be one of {', '.join(known)}, not {self.dtype!r}", "CDC-6"
            )

    @override
    def output(self, spec: ChunkSpec, /) -> ChunkSpec:
        if spec.dtype.kind not in "iuf":
            raise _refusal("cast takes integers and floats", spec)
        dtype = np.dtype(self.dtype).newbyteorder("<")
        return replace(spec, dtype=dtype, bits=8 * dtype.itemsize)

    @override
    def apply(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> NDArray[Any]:
        with np.errstate(invalid="ignore"):  # what does not fit is found by comparing
            cast = chunk.astype(self.output(spec).dtype)
        if cast.astype(spec.dtype).tobytes() != chunk.tobytes():
            raise CodecError(f"cast: not every voxel fits {self.dtype} exactly")
        return cast

    @override
    def invert(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> NDArray[Any]:
        return chunk.astype(spec.dtype)


@dataclass(frozen=True, slots=True)
class Planar(Filter):
    """RGB and RGBA to one plane of rows for each sample, below one another; exact.

    ``(slices, rows, columns, samples)`` becomes ``(slices, samples * rows, columns)``.
    """

    name: ClassVar[str] = "planar"
    moves_voxels: ClassVar[bool] = True

    @override
    def output(self, spec: ChunkSpec, /) -> ChunkSpec:
        if len(spec.shape) != 4:
            raise _refusal("planar takes RGB and RGBA", spec)
        slices, rows, columns, samples = spec.shape
        return replace(spec, shape=(slices, samples * rows, columns))

    @override
    def apply(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> NDArray[Any]:
        return chunk.transpose(0, 3, 1, 2).reshape(self.output(spec).shape)

    @override
    def invert(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> NDArray[Any]:
        slices, rows, columns, samples = spec.shape
        return chunk.reshape(slices, samples, rows, columns).transpose(0, 2, 3, 1)


@dataclass(frozen=True, slots=True)
class Window(Filter):
    """Intensities to integers of few bits: ``(value - offset) / scale``, rounded half to even.

    The inverse gives back the units and the type of the source: ``offset + scale * code``, for
    integers rounded half to even and clipped to their type. All arithmetic is binary64, rounded
    after each operation, so every machine gives the same bits.

    Parameters
    ----------
    scale : float
        Units of the source for one step of the code.
    offset : float
        Intensity of code 0.
    bits : int
        1 to 16; codes are uint8 up to 8 bits, uint16 above.
    clip : bool
        Values outside the window, and NaN, become the nearest code (NaN: 0). Otherwise `apply`
        refuses them, and no voxel is off by more than `max_error`.
    """

    name: ClassVar[str] = "window"

    scale: float
    offset: float
    bits: int
    clip: bool = False

    def __post_init__(self) -> None:
        fields.number("window: scale", self.scale, 1e-300, 1e300)
        fields.number("window: offset", self.offset, -1e300, 1e300)
        fields.integer("window: bits", self.bits, 1, 16)
        fields.boolean("window: clip", self.clip)

    @classmethod
    def covering(cls, low: float, high: float, bits: int) -> Self:
        """Return the finest window that holds a range of values.

        Parameters
        ----------
        low, high : float
            Least and greatest value, in units of the source.
        bits : int
            1 to 16.

        Raises
        ------
        CodecError
            If the bits or the range are none that a window has (rule CDC-6).
        """
        return cls((float(high) - float(low)) / (2**bits - 1) or 1.0, float(low), bits)

    @property
    @override
    def fidelity(self) -> Fidelity:
        return Fidelity.LOSSY if self.clip else Fidelity.BOUNDED

    def max_error(self, dtype: np.dtype[Any]) -> float:
        """Return the largest error, in units of the source, of a voxel within the window.

        For floats, the rounding of the arithmetic to `dtype` itself comes on top.
        """
        if dtype.kind == "f":
            return self.scale / 2
        if float(self.scale).is_integer() and float(self.offset).is_integer():
            return self.scale // 2
        return math.floor(self.scale / 2 + 0.5) if self.scale >= 1 else 0

    @override
    def output(self, spec: ChunkSpec, /) -> ChunkSpec:
        if spec.dtype.kind not in "iuf":
            raise _refusal("window takes integers and floats", spec)
        return replace(spec, dtype=np.dtype("u1" if self.bits <= 8 else "<u2"), bits=self.bits)

    @override
    def apply(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> NDArray[Any]:
        with np.errstate(over="ignore", invalid="ignore"):
            codes = np.rint((chunk.astype(np.float64) - self.offset) / self.scale)
        top = 2**self.bits - 1
        if self.clip:
            codes = np.clip(np.nan_to_num(codes, nan=0.0, posinf=top, neginf=0.0), 0, top)
        elif not np.all((codes >= 0) & (codes <= top)):
            if not np.isfinite(chunk).all():
                raise CodecError(
                    "voxels are NaN or infinite, which no integer code stands for: replace them, "
                    "or take a codec of floats, like zstd or calv"
                )
            raise CodecError(f"window: voxels lie outside {self._range()}; clip=true clips them")
        return codes.astype(self.output(spec).dtype)

    @override
    def invert(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> NDArray[Any]:
        # In blocks: as binary64, voxels of 8 bits take eight times the memory.
        codes = np.ascontiguousarray(chunk).reshape(-1)
        voxels: NDArray[Any] = np.empty(codes.shape, spec.dtype)
        for start in range(0, codes.size, _BLOCK):
            part = slice(start, start + _BLOCK)
            voxels[part] = self._values(codes[part], spec.dtype)
        return voxels.reshape(chunk.shape)

    def _values(self, codes: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        with np.errstate(over="ignore"):
            values = codes.astype(np.float64) * self.scale + self.offset
            if dtype.kind == "f":
                return values.astype(dtype)
        info = np.iinfo(dtype)
        # The largest binary64 that does not exceed the type: 2**63 - 1 itself is none.
        top = info.max if info.max < 2**53 else np.nextafter(float(info.max), 0)
        return np.clip(np.rint(values), float(info.min), top).astype(dtype)

    def _range(self) -> str:
        return f"{self.offset:g} to {self.offset + self.scale * (2**self.bits - 1):g}"


_FILTERS: dict[str, type[Filter]] = {cls.name: cls for cls in (Bias, Cast, Planar, Window)}


def filter_class(name: str) -> type[Filter]:
    """Return the class of the filter called `name`; raises `CodecUnavailableError`."""
    try:
        return _FILTERS[name]
    except KeyError:
        known = ", ".join(_FILTERS)
        raise CodecUnavailableError(
            f"unknown filter {name!r}: this version of mroi has {known}", "CDC-6"
        ) from None


def _refusal(takes: str, spec: ChunkSpec) -> CodecError:
    return CodecError(f"{takes}, not {spec.voxel}")
