"""A wavelet in all three dimensions, quantised and entropy coded: high ratios for whole blocks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs import fields, native
from mroi.codecs.base import ChunkSpec, Codec, Fidelity, Values
from mroi.errors import CodecError, DecodeError

__all__ = ["Wavelet3d"]

_STEPS = (1e-30, 1e30)  # the finest and the coarsest

_WAVELET, _MODE, _LEVELS = "bior4.4", "periodization", 3
_SHORTEST = 8  # an axis with fewer coefficients is not split again
_BLOCK = 48  # coefficients of each axis that are synthesised at once
_REACH = 5  # coefficients on both sides that a voxel depends on: filters of 10
_LARGEST = 2**30  # magnitude of a quantised coefficient


@dataclass(frozen=True, slots=True)
class Wavelet3d(Codec):
    """The 9/7 wavelet over three levels: integers up to 32 bits and floats, one sample a voxel.

    Parameters
    ----------
    step : float
        Quantisation step of the coefficients, in units of the voxels: the root mean squared
        error is about 0.3 of it.
    """

    name: ClassVar[str] = "wavelet3d"
    id: ClassVar[int] = 12
    isolated: ClassVar[bool] = False

    step: float = 1.0

    def __post_init__(self) -> None:
        fields.number("wavelet3d: step", self.step, *_STEPS)

    @property
    @override
    def default_slices(self) -> int:
        return 32

    @property
    @override
    def fidelity(self) -> Fidelity:
        return Fidelity.LOSSY

    @override
    @classmethod
    def probe(cls) -> str | None:
        return native.find_missing("pywt", "codecs")

    @override
    @classmethod
    def implementation(cls) -> str:
        from importlib.metadata import version

        return f"pywavelets {version('pywavelets')}"

    @classmethod
    def ladder(cls, values: Values, /) -> list[Self]:
        """Return steps from a fraction of the range of the values to all of it."""
        return [cls(step) for step in values.steps(*_STEPS)]

    @override
    def refuses(self, spec: ChunkSpec) -> str | None:
        integer = spec.dtype.kind in "iu" and spec.dtype.itemsize <= 4
        if not integer and spec.dtype not in {np.dtype("<f4"), np.dtype("<f8")}:
            return f"wavelet3d takes integers of 8 to 32 bits, float32, float64, not {spec.dtype}"
        return (
            f"wavelet3d takes one sample per voxel, not {spec.voxel}" if spec.samples > 1 else None
        )

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        from mroi.codecs.wavelet.rangecoder import encode

        if not np.all(np.isfinite(chunk)):
            raise CodecError("wavelet3d: NaN and infinity have no transform; voxels must be finite")
        bands: list[NDArray[np.int32]] = []
        for band in _analyse(chunk.astype(np.float64)):
            with np.errstate(over="ignore"):
                scaled = np.rint(band / self.step)
            if not np.all(np.abs(scaled) < _LARGEST):
                raise CodecError(f"wavelet3d: step {self.step:g} is too small for these voxels")
            bands.append(np.ascontiguousarray(scaled, np.int32))
        return encode(bands)

    @override
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        from mroi.codecs.wavelet.rangecoder import decode

        native.load("pywt", "codecs")
        shapes = [shape for level in _plan(spec.shape) for shape in level.bands] or [spec.shape]
        try:
            quantised = decode(memoryview(payload).cast("B"), shapes)
        except ValueError as exc:
            raise DecodeError(f"wavelet3d: {exc}", "CHK-8") from exc
        return _synthesise(quantised, self.step, spec)


@dataclass(frozen=True, slots=True)
class _Level:
    """One step of the transform: what it splits, and the shapes of what it puts out.

    `keys` names a band by a letter for each axis: "a" low, "d" high. `bands` are the shapes of
    what is coded: all but the lowest band, which comes last, and only at the deepest level.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    keys: tuple[str, ...]
    bands: tuple[tuple[int, ...], ...]
    lowest: tuple[int, ...]


def _plan(shape: tuple[int, ...]) -> list[_Level]:
    """Return the levels for a chunk; an axis is split while it has enough coefficients."""
    levels: list[_Level] = []
    for _ in range(_LEVELS):
        axes = tuple(axis for axis, extent in enumerate(shape) if extent >= _SHORTEST)
        if not axes:
            break
        half = tuple(-(-n // 2) if axis in axes else n for axis, n in enumerate(shape))
        keys = tuple("".join(key) for key in itertools.product("ad", repeat=len(axes)))[1:]
        levels.append(_Level(shape, axes, keys, (half,) * len(keys), half))
        shape = half
    if levels:
        last = levels[-1]
        levels[-1] = _Level(last.shape, last.axes, last.keys, (*last.bands, shape), shape)
    return levels


def _analyse(voxels: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """Yield the bands of a chunk: of each level all but the lowest, at the end the lowest."""
    pywt = native.load("pywt", "codecs")
    for level in _plan(voxels.shape):
        bands = pywt.dwtn(voxels, _WAVELET, _MODE, axes=level.axes)
        for key in level.keys:
            yield bands[key]
        voxels = bands["a" * len(level.axes)]
    yield voxels


def _synthesise(quantised: list[NDArray[np.int32]], step: float, spec: ChunkSpec) -> NDArray[Any]:
    """Undo `_analyse`, and give the voxels the type of the chunk.

    Beside the quantised bands, 4 bytes for a voxel, there are the chunk and the level before it,
    of which the lowest band of a level is half the size of the next at most, and one block.
    """
    *rest, deepest = quantised
    levels = _plan(spec.shape)
    kept = np.dtype("f4" if spec.dtype.itemsize == 1 else "f8")
    low = _rounded(deepest.astype(np.float64) * step, kept if levels else spec.dtype)
    for number, level in reversed(list(enumerate(levels))):
        count = len(level.keys)
        bands = dict(zip(level.keys, rest[-count:], strict=True))
        del rest[-count:]
        out: NDArray[Any] = np.empty(level.shape, kept if number else spec.dtype)
        for block in itertools.product(*(_cuts(level, axis) for axis in range(len(level.shape)))):
            _join(level, bands, low, step, block, out)
        low = out
    return low


@dataclass(frozen=True, slots=True)
class _Cut:
    """A part of an axis: its coefficients and those around it, and where its voxels come out."""

    coefficients: NDArray[np.intp]
    inside: slice
    voxels: slice


def _cuts(level: _Level, axis: int) -> list[_Cut]:
    """Return the parts into which an axis is cut; the filter reaches over `_REACH` coefficients."""
    extent = level.shape[axis]
    if axis not in level.axes or level.lowest[axis] <= _BLOCK + 2 * _REACH:
        return [_Cut(np.arange(level.lowest[axis]), slice(extent), slice(extent))]
    cuts = []
    for start in range(0, level.lowest[axis], _BLOCK):
        stop = min(start + _BLOCK, level.lowest[axis])
        around = np.arange(start - _REACH, stop + _REACH) % level.lowest[axis]
        voxels = slice(2 * start, min(2 * stop, extent))
        inside = slice(2 * _REACH, 2 * _REACH + voxels.stop - voxels.start)
        cuts.append(_Cut(around, inside, voxels))
    return cuts


def _join(
    level: _Level,
    bands: dict[str, NDArray[np.int32]],
    low: NDArray[Any],
    step: float,
    block: tuple[_Cut, ...],
    out: NDArray[Any],
) -> None:
    """Undo one level for one block of voxels."""
    pywt = native.load("pywt", "codecs")
    index = np.ix_(*(cut.coefficients for cut in block))
    parts = {key: band[index] * step for key, band in bands.items()}
    parts["a" * len(level.axes)] = low[index].astype(np.float64)
    whole = pywt.idwtn(parts, _WAVELET, _MODE, axes=level.axes)
    voxels = tuple(cut.voxels for cut in block)
    out[voxels] = _rounded(whole[tuple(cut.inside for cut in block)], out.dtype)


def _rounded(values: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return values as a type: integers rounded, half to even, and clipped."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return values.astype(dtype)
    info = np.iinfo(dtype)
    return np.rint(values).clip(info.min, info.max).astype(dtype)
