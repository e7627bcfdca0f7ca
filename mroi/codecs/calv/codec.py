"""The codec `calv`: what its payload says, and which kernel does the work."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs.base import ChunkSpec, Codec
from mroi.codecs.calv.values import (
    ValueMap,
    build_map,
    find_map,
    fits,
    parse_map,
    to_numbers,
    to_values,
)
from mroi.errors import CodecError, DecodeError

__all__ = ["Calv"]

_RAW, _FAST, _SMALL, _MAX, _LABELS = range(5)
_LEVELS = MappingProxyType({"fast": _FAST, "small": _SMALL, "max": _MAX})
_ADAPTIVE = (_SMALL, _MAX)
_TYPES = frozenset(
    np.dtype(name).newbyteorder("<")
    for name in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
)


@dataclass(frozen=True, slots=True)
class Calv(Codec):
    """Lossless codec for volumes of integers; predicts from the slice and from the one before.

    Takes every type of integer, and floats that hold integers. A chunk whose values span more
    than 65536 steps, or that holds fractions, is stored as it is: `find_misfit` tells why.

    Parameters
    ----------
    level : str
        ``fast`` reads and writes several times faster than gzip, ``small`` adapts to every voxel,
        ``max`` blends more models and takes about twice as long. Decoding takes as long as encoding.
    """

    name: ClassVar[str] = "calv"
    id: ClassVar[int] = 9
    encoder_only: ClassVar[tuple[str, ...]] = ("level",)
    default_slices: ClassVar[int] = 16
    """Slices of a chunk that are a good balance of size and time to one slice, for all levels."""

    level: str = "fast"

    def __post_init__(self) -> None:
        if self.level not in _LEVELS:
            raise CodecError(f"calv: level is one of {list(_LEVELS)}, not {self.level!r}", "CDC-6")

    @override
    @classmethod
    def implementation(cls) -> str:
        import numba

        return f"mroi calv, numba {numba.__version__}"

    @override
    def refuses(self, spec: ChunkSpec) -> str | None:
        if spec.dtype not in _TYPES:
            return f"calv takes integers, and floats that hold integers, not {spec.dtype.str}"
        return None

    @staticmethod
    def find_misfit(chunk: NDArray[Any]) -> str | None:
        """Return why a chunk would be stored uncompressed, or None if it would not."""
        if find_map(chunk) is not None:
            return None
        if chunk.dtype.kind == "f":
            return "calv does not compress fractions, NaN, infinity or negative zero"
        return "calv does not compress values that span more than 65536 steps"

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        raw = bytes([_RAW]) + chunk.tobytes()
        values = find_map(chunk)
        if values is None:
            return raw
        head = chunk.size.to_bytes(6, "little") + build_map(values)
        if values.top == 0:
            return min(raw, bytes([_FAST]) + head, key=len)
        numbers = to_numbers(chunk, values).reshape(*spec.shape[:3], spec.samples)
        planes = [np.ascontiguousarray(numbers[..., sample]) for sample in range(spec.samples)]
        best = raw
        for kind in self._kinds(planes[0]):
            payload = _encode_as(kind, planes, values.top, bytes([kind]) + head)
            if payload is not None and len(payload) < len(best):
                best = payload
        return best

    def _kinds(self, plane: NDArray[np.int32]) -> tuple[int, ...]:
        """Return the ways worth trying: labels too where most voxels repeat their neighbour."""
        same = np.count_nonzero(plane[..., 1:] == plane[..., :-1])
        chosen = _LEVELS[self.level]
        if 4 * same < 3 * plane.size:
            return (chosen,)
        if 20 * same > 19 * plane.size and chosen == _FAST:
            return (_LABELS,)
        return (chosen, _LABELS)

    @override
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        return self.decode_prefix(payload, spec, spec.shape[0])

    def decode_prefix(self, payload: Buffer, spec: ChunkSpec, count: int, /) -> NDArray[Any]:
        """Return the first `count` slices; the slices after them are not decoded.

        Raises
        ------
        DecodeError
            If the payload is not a chunk of this kind, as far as it was read (rule CHK-8).
        """
        data = memoryview(payload).cast("B")
        if not len(data) or data[0] > _LABELS:
            raise DecodeError("calv: payload is of no known kind", "CHK-8")
        if data[0] == _RAW:
            if len(data) != 1 + spec.size:
                raise DecodeError(f"calv: {len(data) - 1} raw bytes, not {spec.size}", "CHK-8")
            whole = np.frombuffer(data[1:], spec.dtype).reshape(spec.shape)
            return whole[:count].copy()
        if int.from_bytes(data[1:7], "little") * spec.dtype.itemsize != spec.size:
            raise DecodeError("calv: payload is not a chunk of this shape", "CHK-8")
        parsed = parse_map(data, 7)
        if parsed is None or not fits(parsed[0], spec.dtype):
            raise DecodeError(f"calv: values of the payload are not of {spec.dtype.str}", "CHK-8")
        values, at = parsed
        chunk = np.empty((count, *spec.shape[1:]), spec.dtype)
        if values.top == 0:
            chunk[...] = values.offset
        else:
            at = _decode_samples(data, at, spec, values, chunk)
        if at != len(data):
            raise DecodeError("calv: payload does not end with its last section", "CHK-8")
        return chunk


def _encode_as(kind: int, planes: list[NDArray[np.int32]], top: int, head: bytes) -> bytes | None:
    """Return the payload with one section for each sample, or None if one became too large."""
    parts = [head]
    encode = _kernel(kind).encode
    for plane in planes:
        section = encode(plane, top, kind == _MAX) if kind in _ADAPTIVE else encode(plane, top)
        if section is None:
            return None
        parts += [len(section).to_bytes(4, "little"), section]
    return b"".join(parts)


def _decode_samples(
    data: memoryview, at: int, spec: ChunkSpec, values: ValueMap, chunk: NDArray[Any]
) -> int:
    """Fill `chunk` from the sections that begin at `at`; return where they end."""
    kind = data[0]
    decode = _kernel(kind).decode
    slices = spec.shape[0]
    for sample in range(spec.samples):
        start = at + 4
        at = start + int.from_bytes(data[at:start], "little")
        if at > len(data):
            raise DecodeError("calv: payload ends within a section", "CHK-8")
        numbers = np.zeros(chunk.shape[:3], np.int32)
        section = data[start:at]
        if kind in _ADAPTIVE:
            sound = decode(section, numbers, slices, values.top, kind == _MAX)
        else:
            sound = decode(section, numbers, slices, values.top)
        if not sound:
            raise DecodeError("calv: a section is damaged", "CHK-8")
        to_values(numbers, values, chunk if chunk.ndim == 3 else chunk[..., sample])
    return at


def _kernel(kind: int) -> ModuleType:
    """Return the module that works on sections of a kind; numba is imported here, not before."""
    name = {_FAST: "fast", _LABELS: "labels"}.get(kind, "adaptive")
    return import_module(f"mroi.codecs.calv.{name}")
