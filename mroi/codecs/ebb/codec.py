"""The codec `ebb`: what its payload says, and what does the work."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs import fields
from mroi.codecs.base import ChunkSpec, Codec, Fidelity, Values
from mroi.codecs.ebb.bands import plan, strip_rows, strip_size
from mroi.codecs.ebb.header import (
    LARGEST_STEP,
    Header,
    Scale,
    build_header,
    fraction_bits,
    parse_header,
)
from mroi.errors import CodecError, DecodeError

if TYPE_CHECKING:
    from mroi.codecs.ebb.slab import Coded

__all__ = ["Ebb"]

_RAW, _WAVELET = 0, 1  # first byte of a payload
_STEPS = (1e-30, 1e30)  # the finest and the coarsest
_DEEP, _FLAT = 4, 5  # levels across slices, and in the plane
_TYPES = frozenset(
    np.dtype(name).newbyteorder("<") for name in ("u1", "i1", "u2", "i2", "u4", "i4", "f4")
)
_FREE = 62 << 20  # bytes that a decoder may need beside six times the array, but for tables


@dataclass(frozen=True, slots=True)
class Ebb(Codec):
    """Lossy codec for volumes: a wavelet in three dimensions, adaptive models, a fitted filter.

    Integers of 8 to 32 bits and float32, one sample a voxel. A payload says all that decoding
    needs; decoding gives the same voxels on every machine.

    Parameters
    ----------
    step : float
        Quantisation step of the coefficients, in units of the voxels: the root mean squared
        error is about 0.2 to 0.3 of it.
    """

    name: ClassVar[str] = "ebb"
    id: ClassVar[int] = 16
    isolated: ClassVar[bool] = False

    step: float = 1.0

    def __post_init__(self) -> None:
        fields.number("ebb: step", self.step, *_STEPS)

    @property
    @override
    def default_slices(self) -> int:
        return 32

    @property
    @override
    def fidelity(self) -> Fidelity:
        return Fidelity.LOSSY

    @property
    @override
    def deterministic(self) -> bool:
        return True

    @override
    @classmethod
    def implementation(cls) -> str:
        from importlib.metadata import version  # importing numba takes a second

        return f"mroi ebb, numba {version('numba')}"

    @classmethod
    def ladder(cls, values: Values, /) -> list[Self]:
        """Return steps from a fraction of the range of the values to all of it.

        There are 32 for each factor of two: from one to the next are about 0.15 dB.
        """
        span = max(values.high - values.low, 1e-300)
        steps = (span * 2.0 ** (-k / 32) for k in range(24 * 32, -1, -1))
        return [cls(step) for step in steps if _STEPS[0] <= step <= _STEPS[1]]

    @override
    def refuses(self, spec: ChunkSpec) -> str | None:
        if spec.dtype not in _TYPES:
            return f"ebb takes integers of 8 to 32 bits and float32, not {spec.dtype}"
        return f"ebb takes one sample per voxel, not {spec.voxel}" if spec.samples > 1 else None

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        return self._payload(chunk, spec, None, self.step)

    def encode_weighted(
        self, chunk: NDArray[Any], spec: ChunkSpec, weights: NDArray[np.float32], /
    ) -> bytes:
        """Return the payload of a chunk, smallest where errors count least.

        See `mroi.codecs.SupportsWeights`.
        """
        most = float(weights.max(initial=0))
        if not 0 < most <= 1:
            raise CodecError(f"ebb: weights up to {most:g}; expected more than 0, and at most 1")
        # Steps go with the root of what a squared error costs.
        step, is_even = self.step / math.sqrt(most), float(weights.min()) == most
        return self._payload(chunk, spec, None if is_even else weights / most, step)

    @staticmethod
    def _payload(
        chunk: NDArray[Any],
        spec: ChunkSpec,
        weights: NDArray[np.float32] | None,
        step: float,
    ) -> bytes:
        if spec.dtype.kind == "f" and not np.isfinite(chunk).all():
            raise CodecError(
                "ebb: NaN and infinity have no transform: replace them, or take a codec that "
                "loses nothing, like zstd"
            )
        payload = None if chunk.size == 0 else _compressed(chunk, spec, weights, step)
        if payload is None or len(payload) > spec.size:
            return bytes([_RAW]) + chunk.tobytes()
        return payload

    @override
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        data = memoryview(payload).cast("B")
        if data[:1] == bytes([_RAW]):
            return _raw(data, spec).copy()
        header, sections, shape = _parse(data, spec)
        chunk = np.empty(spec.shape, spec.dtype)
        if header.scale.top == 0:
            chunk[...] = header.scale.offset
            return chunk
        from mroi.codecs.ebb import slab  # it imports numba

        found = slab.decode(sections, shape, header)
        if isinstance(found, str):
            raise DecodeError(f"ebb: {found}", "CHK-8")
        fill = _Filler(chunk.reshape(shape), header)
        for number, (values, taps) in enumerate(found):
            fill.put(number, values, taps)
        return _ordered(chunk, spec.shape[0] // spec.volumes) if header.series else chunk

    def decode_level(self, payload: Buffer, spec: ChunkSpec, level: int, /) -> NDArray[Any]:
        """Return the chunk at a reduced resolution; of the payload, only what it needs is read.

        Raises
        ------
        DecodeError
            If the payload is not a chunk of this kind, as far as it was read (rule CHK-8).
        """
        if level == 0:
            return self.decode(payload, spec)
        data = memoryview(payload).cast("B")
        size = (spec.shape[0], *(-(-n // 2**level) for n in spec.shape[1:]))
        if data[:1] == bytes([_RAW]):
            return _raw(data, spec)[:, :: 2**level, :: 2**level].copy()
        header, sections, shape = _parse(data, spec)
        chunk = np.empty(size, spec.dtype)
        if header.scale.top == 0:
            chunk[...] = header.scale.offset
            return chunk
        from mroi.codecs.ebb import slab  # it imports numba

        found = slab.decode_level(sections, shape, header, level)
        if isinstance(found, str):
            raise DecodeError(f"ebb: {found}", "CHK-8")
        fill = _Filler(chunk.reshape(found.shape), header)
        for number, values in enumerate(found):
            fill.put(number, np.ascontiguousarray(values), None)
        return _ordered(chunk, spec.shape[0] // spec.volumes) if header.series else chunk


def _compressed(
    chunk: NDArray[Any], spec: ChunkSpec, weights: NDArray[np.float32] | None, size: float
) -> bytes | None:
    """Return the payload, or None if the step is too fine, or planes too large, for one."""
    from mroi.codecs.ebb import slab  # it imports numba

    scale = Scale.of(chunk)
    if scale.top == 0:
        return bytes([_WAVELET]) + build_header(Header(scale), chunk.size, spec.dtype)
    fraction = fraction_bits(scale.top)
    step = round(min(size / scale.scale * (1 << fraction), LARGEST_STEP))
    symbols = scale.symbols(chunk)
    series = spec.volumes > 1 and _is_series(symbols, spec.volumes)
    shape = _slabs(spec, series=series)
    if step == 0 or _too_large(shape, spec, _DEEP, _FLAT, filtered=False):
        return None
    filtered = not _too_large(shape, spec, _DEEP, _FLAT, filtered=True)
    volumes = spec.volumes if series else 1
    symbols = _ordered(symbols, volumes).reshape(shape)
    if weights is not None:
        weights = _ordered(weights, volumes).reshape(shape)
    coded = slab.encode(
        symbols, scale.top, step, (_DEEP, _FLAT), 0, filtered=filtered, weights=weights
    )
    return None if coded is None else _joined(coded, scale, step, chunk, series=series)


def _is_series(symbols: NDArray[np.float32], volumes: int) -> bool:
    """Return whether slices resemble those of the next volume more than those beside them."""
    parts = symbols.reshape(volumes, -1, *symbols.shape[1:])
    if parts.shape[1] == 1:
        return True
    along = np.abs(np.diff(parts, axis=0)).mean(dtype=np.float64)
    across = np.abs(np.diff(parts, axis=1)).mean(dtype=np.float64)
    return bool(along < across)


def _slabs(spec: ChunkSpec, *, series: bool) -> tuple[int, int, int, int]:
    """Return how many slabs there are, and their slices, rows and columns."""
    slices = spec.shape[0] // spec.volumes
    first = (slices, spec.volumes) if series else (spec.volumes, slices)
    return (*first, spec.shape[1], spec.shape[2])


def _ordered(slices: NDArray[Any], volumes: int) -> NDArray[Any]:
    """Return slices that come volume by volume as each slice through all volumes; undone alike."""
    if volumes == 1:
        return slices
    ordered = slices.reshape(volumes, -1, *slices.shape[1:]).swapaxes(0, 1)
    return np.ascontiguousarray(ordered).reshape(slices.shape)


def _too_large(
    shape: tuple[int, int, int, int], spec: ChunkSpec, deep: int, flat: int, *, filtered: bool
) -> bool:
    """Return whether decoding takes more than six times the array, and what is free (EBB-6)."""
    slabs, slices, rows, columns = shape
    how = plan((slices, rows, columns), deep, flat)
    before = slabs * (how.size + 2 * how.sums)
    after = strip_size(rows, columns) if filtered else 0
    coefficients = 4 * slabs * slices * rows * columns
    return coefficients + spec.size + max(before, after) > 6 * spec.size + _FREE


def _joined(coded: Coded, scale: Scale, step: int, chunk: NDArray[Any], *, series: bool) -> bytes:
    sizes = tuple(len(section) // 2 for section in coded.sections)
    header = Header(scale, series, 0, _DEEP, _FLAT, step, coded.shifts, coded.mode, sizes)
    head = build_header(header, chunk.size, chunk.dtype)
    return b"".join([bytes([_WAVELET]), head, *coded.sections])


def _raw(data: memoryview, spec: ChunkSpec) -> NDArray[Any]:
    if len(data) != 1 + spec.size:
        raise DecodeError(f"ebb: {len(data) - 1} raw bytes, not {spec.size}", "CHK-8")
    return np.frombuffer(data[1:], spec.dtype).reshape(spec.shape)


def _parse(
    data: memoryview, spec: ChunkSpec
) -> tuple[Header, list[memoryview], tuple[int, int, int, int]]:
    """Return the header of a payload, its sections, and the shape of its slabs."""
    if data[:1] != bytes([_WAVELET]):
        raise DecodeError("ebb: payload is of no known kind", "CHK-8")
    parsed = parse_header(data[1:], spec.size // spec.dtype.itemsize, spec.dtype)
    if isinstance(parsed, str):
        raise DecodeError(f"ebb: {parsed}", "CHK-8")
    header, at = parsed
    at += 1
    sections = []
    for size in header.sizes:
        sections.append(data[at : at + 2 * size])
        at += 2 * size
    if at != len(data):
        raise DecodeError("ebb: payload does not end with its last section", "CHK-8")
    shape = _slabs(spec, series=header.series)
    if header.series and spec.volumes == 1:
        raise DecodeError("ebb: a series in a chunk of one volume", "CHK-8")
    filtered = header.mode > 0
    if header.scale.top and _too_large(shape, spec, header.deep, header.flat, filtered=filtered):
        raise DecodeError("ebb: planes are too large for a payload of this kind", "CHK-8")
    return header, sections, shape


class _Filler:
    """Writes slabs into a chunk, (slabs, slices, rows, columns)."""

    def __init__(self, chunk: NDArray[Any], header: Header) -> None:
        self._chunk = chunk
        self._header = header
        self._fraction = fraction_bits(header.scale.top)

    def put(self, number: int, values: NDArray[np.int32], taps: NDArray[np.int64] | None) -> None:
        """Write a slab; `taps` are those of its filter, if there is one."""
        scale, out = self._header.scale, self._chunk[number]
        plain = out.dtype.kind != "f" and out.dtype.itemsize <= 2 and scale.scale == 1
        unsigned = f"u{out.dtype.itemsize}"
        symbols = out.view(unsigned) if plain else np.empty(out.shape, np.uint16)
        self._round(values, taps, symbols)
        if plain:
            symbols += symbols.dtype.type(int(scale.offset) & (256**out.dtype.itemsize - 1))
            return
        for row, into in zip(symbols, out, strict=True):
            into[...] = scale.values(row, out.dtype)

    def _round(
        self, values: NDArray[np.int32], taps: NDArray[np.int64] | None, out: NDArray[Any]
    ) -> None:
        from mroi.codecs.ebb import smoothing

        if taps is None:
            smoothing.round_off(values, self._fraction, out)
        else:
            strip, step = strip_rows(out.shape[2]), self._header.step
            top = self._header.scale.top
            smoothing.apply_filter(values, strip, step, taps, self._fraction, top, out)
