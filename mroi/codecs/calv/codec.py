"""The codec `calv`: what its payload says, and which kernel does the work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs import fields
from mroi.codecs.base import ChunkSpec, Codec, Fidelity, Values
from mroi.codecs.calv.values import (
    Symbols,
    ValueMap,
    build_map,
    build_number,
    find_map,
    find_number,
    fits,
    parse_map,
    symbols_in,
    to_symbols,
    to_values,
)
from mroi.errors import CodecError, DecodeError

__all__ = ["Calv"]


class Kind(IntEnum):
    """First byte of a payload: how its sections are coded (CLV-1)."""

    RAW = 0
    FAST = 1
    SMALL = 2
    MAX = 3
    LABELS = 4


_LEVELS = MappingProxyType({"fast": Kind.FAST, "small": Kind.SMALL, "max": Kind.MAX})
_SLICES = MappingProxyType({"fast": 16, "small": 16, "max": 32})
_TYPES = frozenset(
    np.dtype(name).newbyteorder("<")
    for name in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
)
_SERIES = 8  # beside the kind: the same slice of one volume after the other
_NEAR = 16  # beside it, too: symbols are within so many of those that were encoded
_MOST_NEAR = 65535
_KIND = 7  # the bits of it
_HEAD = 7  # kind, count of samples
_FREE = 1 << 26  # bytes that a decoder may need beside three times the array
_LITTLE = 1 << 16  # voxels
_TRIED = 1 << 14  # voxels that tell whether a chunk is a series, if there are so many,
_SHARE = 8  # and one row in so many
_FEW = 4096  # labels, at most


@dataclass(frozen=True, slots=True)
class Calv(Codec):
    """Codec for volumes of integers, which predicts from the slice and the one before.

    Takes every type of integer, and losslessly floats that hold integers. A chunk whose values
    span more than 65536 steps, or that holds fractions, is stored as it is: `find_misfit` tells
    why. A payload says all that decoding needs: the only parameter of the file is the loss.

    Parameters
    ----------
    level : str
        ``fast`` reads and writes about as fast as gzip, or several times faster; ``small`` learns
        from every voxel, ``max`` learns more. These two decode as slowly as they encode.
    near : int
        Largest difference, in units of the voxels, of any voxel from what was encoded; 0 is
        lossless. A value that fills whole areas, like air in a mask, stays as it is in nearly all
        of its voxels.
    """

    name: ClassVar[str] = "calv"
    id: ClassVar[int] = 9
    isolated: ClassVar[bool] = False
    encoder_only: ClassVar[tuple[str, ...]] = ("level",)

    level: str = "fast"
    near: int = 0

    def __post_init__(self) -> None:
        fields.integer("calv: near", self.near, 0, _MOST_NEAR)
        if self.level not in tuple(_LEVELS):
            raise CodecError(f"calv: level is one of {list(_LEVELS)}, not {self.level!r}", "CDC-6")

    @property
    @override
    def fidelity(self) -> Fidelity:
        return Fidelity.BOUNDED if self.near else Fidelity.LOSSLESS

    @classmethod
    def ladder(cls, values: Values, /) -> list[Self]:
        """Return errors from none to the range of the values: all small ones, large ones by 1 %."""
        most = min(values.high - values.low, _MOST_NEAR)
        errors = {*range(257), *(round(2 ** (k / 64)) for k in range(8 * 64, 16 * 64))}
        return [cls(near=near) for near in sorted(errors) if near <= most]

    @override
    @classmethod
    def from_params(cls, params: Mapping[str, object]) -> Self:
        if params and sorted(params) != ["near"]:
            raise CodecError(
                f"calv: expected no parameters, or near, found {sorted(params)}", "CDC-6"
            )
        codec = cls(**params)  # type: ignore[arg-type]  # it is checked there
        if params and codec.near == 0:
            raise CodecError("calv: a near of 0 is left out", "CDC-6")
        return codec

    @override
    def params(self) -> dict[str, object]:
        return {"near": self.near} if self.near else {}

    @property
    @override
    def default_slices(self) -> int:
        return _SLICES[self.level]

    @property
    @override
    def span_voxels(self) -> int:
        return 1 << 20 if self.level == "fast" else 1 << 18  # tens and hundreds of milliseconds

    @override
    @classmethod
    def implementation(cls) -> str:
        from importlib.metadata import version  # importing numba takes a second

        return f"mroi calv, numba {version('numba')}"

    @override
    def refuses(self, spec: ChunkSpec) -> str | None:
        if spec.dtype not in _TYPES:
            return f"calv takes integers, and floats that hold integers, not {spec.dtype.str}"
        if self.near and spec.dtype.kind == "f":
            return f"calv takes integers with a loss, not {spec.dtype}"
        return None

    @staticmethod
    def find_misfit(chunk: NDArray[Any]) -> str | None:
        """Return why a chunk would be stored uncompressed, or None if it would not."""
        if chunk.size == 0 or find_map(chunk) is not None:
            return None
        if chunk.dtype.kind == "f":
            return "calv compresses no fractions, NaN, infinity, negative zero or wide ranges"
        return "calv compresses no values that span more than 65536 steps"

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        if chunk.size and self.near and self.level != "fast":
            payload = self._closed(chunk, spec)
            if payload is not None and chunk.size >= _LITTLE:
                return payload
        else:
            payload = None
        found = [payload, self._lossless(self._coarse(chunk), spec)]
        best = min((each for each in found if each), key=len, default=None)
        return best or bytes([Kind.RAW]) + chunk.tobytes()

    def _coarse(self, chunk: NDArray[Any]) -> NDArray[Any]:
        """Return a chunk with fewer values, each within `near` of what was."""
        if not (chunk.size and self.near):
            return chunk
        from mroi.codecs.calv.lattice import to_lattice  # it imports numba

        return to_lattice(chunk, self.near)

    def _lossless(self, chunk: NDArray[Any], spec: ChunkSpec) -> bytes | None:
        """Return the smallest payload that gives a chunk itself, or None if raw is smaller."""
        values = find_map(chunk) if chunk.size else None
        if values is None:
            return None
        head = _head(chunk, values)
        if values.top == 0:
            return bytes([Kind.FAST]) + head if len(head) < chunk.nbytes else None
        slabs = _slabs(chunk, values, spec)
        found = [
            self._encoded(slabs, values.top, head, spec, volumes)
            for volumes in _orders(slabs, values.top, spec.volumes)
        ]
        return min((payload for payload in found if payload), key=len, default=None)

    def _closed(self, chunk: NDArray[Any], spec: ChunkSpec) -> bytes | None:
        """Return the smallest payload whose symbols are predicted from those before, after loss.

        None if there is none smaller than raw, or with anything to lose.
        """
        values = find_map(chunk, self.near)
        near = 0 if values is None else self.near // values.step
        if values is None or not 0 < 2 * near <= values.top:
            return None
        slabs = _slabs(chunk, values, spec)
        found = []
        for volumes in _orders(slabs, values.top, spec.volumes):
            kinds = (kind for kind in (Kind.MAX, Kind.SMALL) if kind <= _LEVELS[self.level])
            for kind in kinds:
                if not _too_large(kind, spec, is_series=volumes > 1):
                    ordered = [_series(slab, volumes) for slab in slabs]
                    head = _head(chunk, values)
                    found.append(_encode_as(kind, ordered, values.top, head, volumes, near))
                    break
        best = min((payload for payload in found if payload), key=len, default=b"")
        return best if 0 < len(best) < spec.size + 1 else None

    def _encoded(
        self, slabs: list[NDArray[np.int32]], top: int, head: bytes, spec: ChunkSpec, volumes: int
    ) -> bytes | None:
        """Return the smallest payload, or None if raw is; a series if of several `volumes`."""
        slabs = [_series(slab, volumes) for slab in slabs]
        best, size = None, spec.size + 1
        kinds = (*_LEVELS.values(), Kind.LABELS)
        able = [kind for kind in kinds if not _too_large(kind, spec, is_series=volumes > 1)]
        for kind in self._kinds(slabs, able):
            payload = _encode_as(kind, slabs, top, head, volumes)
            if payload is not None and len(payload) < size:
                best, size = payload, len(payload)
        if Kind.LABELS in able and self._may_be_labels(slabs, top, size):
            payload = _encode_as(Kind.LABELS, slabs, top, head, volumes)
            most = 3 * size // 4 if self.level == "fast" else size  # it reads slowly
            if payload is not None and len(payload) < most:
                best = payload
        return best

    def _kinds(self, slabs: list[NDArray[np.int32]], able: list[Kind]) -> list[Kind]:
        """Return the kinds worth trying: `fast` too where there is little to learn from."""
        levels = [kind for kind in _LEVELS.values() if kind <= _LEVELS[self.level] and kind in able]
        little = sum(slab.size for slab in slabs) < _LITTLE
        return list({levels[-1]: None, levels[0]: None} if little and levels else levels[-1:])

    def _may_be_labels(self, volumes: list[NDArray[np.int32]], top: int, size: int) -> bool:
        """Return whether most voxels repeat their neighbour, and the others are hard to predict.

        At level `fast`, what a voxel that differs costs in a payload of `size` bytes must be much
        for one of so few numbers; otherwise the time to try is wasted.
        """
        if self.level == "fast" and top >= _FEW:
            return False
        voxels = sum(volume.size for volume in volumes)
        same = sum(np.count_nonzero(v[..., 1:] == v[..., :-1]) for v in volumes)
        costly = 12 * size > (voxels - same) * top.bit_length()
        return bool(4 * same >= 3 * voxels and (top < 16 or costly or self.level != "fast"))

    @override
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        return self.decode_prefix(payload, spec, spec.shape[0])

    def decode_prefix(self, payload: Buffer, spec: ChunkSpec, count: int, /) -> NDArray[Any]:
        """Return the first `count` slices; those after them are not decoded.

        Raises
        ------
        DecodeError
            If the payload is not a chunk of this kind, as far as it was read (rule CHK-8).
        """
        data = memoryview(payload).cast("B")
        if not (len(data) and _is_known(data[0])):
            raise DecodeError("calv: payload is of no known kind", "CHK-8")
        if data[0] == Kind.RAW:
            if len(data) != 1 + spec.size:
                raise DecodeError(f"calv: {len(data) - 1} raw bytes, not {spec.size}", "CHK-8")
            return np.frombuffer(data[1:], spec.dtype).reshape(spec.shape)[:count].copy()
        if int.from_bytes(data[1:_HEAD], "little") * spec.dtype.itemsize != spec.size:
            raise DecodeError("calv: payload is not a chunk of this shape", "CHK-8")
        parsed = parse_map(data, _HEAD)
        if parsed is None or not fits(parsed[0], spec.dtype):
            raise DecodeError(f"calv: values of the payload are not of {spec.dtype.str}", "CHK-8")
        values, at = parsed
        kind, is_series = Kind(data[0] & _KIND), bool(data[0] & _SERIES)
        near, at = self._read_near(data, at, values)
        if is_series and spec.volumes == 1:
            raise DecodeError("calv: a series in a chunk of one volume", "CHK-8")
        wanted = spec.shape[0] if is_series else count  # its slices are in another order
        chunk = np.empty((wanted, *spec.shape[1:]), spec.dtype)
        if values.top == 0:
            chunk[...] = values.offset
        elif _too_large(kind, spec, is_series=is_series):
            raise DecodeError("calv: planes are too large for a payload of this kind", "CHK-8")
        else:
            at = _decode_samples(data, at, spec, values, chunk, near, is_series=is_series)
        if at != len(data):
            raise DecodeError("calv: payload does not end with its last section", "CHK-8")
        return _series(chunk, spec.shape[0] // spec.volumes)[:count] if is_series else chunk

    def _read_near(self, data: memoryview, at: int, values: ValueMap) -> tuple[int, int]:
        """Return how far symbols may be from those that were encoded, and where it ends."""
        if not data[0] & _NEAR:
            return 0, at
        near, at = find_number(data, at)
        if near is None or not 0 < 2 * near <= values.top:
            raise DecodeError("calv: near is out of range", "CHK-8")
        if near * values.step > self.near:
            raise DecodeError(f"calv: the loss is more than {self.near}", "CHK-8")
        return near, at


def _is_known(first: int) -> bool:
    """Return whether a payload may begin with a byte (CLV-1, CLV-19)."""
    kind = first & _KIND
    if first & _NEAR and kind not in {Kind.SMALL, Kind.MAX}:
        return False
    return first < 2 * _NEAR and kind <= Kind.LABELS and first != _SERIES | Kind.RAW


def _head(chunk: NDArray[Any], values: ValueMap) -> bytes:
    return chunk.size.to_bytes(6, "little") + build_map(values)


def _slabs(chunk: NDArray[Any], values: ValueMap, spec: ChunkSpec) -> list[NDArray[np.int32]]:
    """Return the symbols of each component."""
    symbols = to_symbols(chunk, values).reshape(*spec.shape[:3], spec.samples)
    return [np.ascontiguousarray(symbols[..., sample]) for sample in range(spec.samples)]


def _series(slices: NDArray[Any], volumes: int) -> NDArray[Any]:
    """Return slices that come volume by volume as each slice through all volumes.

    Undone with the number of slices of a volume in the place of `volumes`.
    """
    if volumes == 1:
        return slices
    ordered = slices.reshape(volumes, -1, *slices.shape[1:]).swapaxes(0, 1)
    return np.ascontiguousarray(ordered).reshape(slices.shape)


def _orders(slabs: list[NDArray[np.int32]], top: int, volumes: int) -> list[int]:
    """Return whether to try a chunk as a series (its volumes), as slices (1), or both.

    Rows in the middle tell. Where they would be all, and coefficients of one predictor more may
    weigh more than what it saves: both.
    """
    if volumes == 1:
        return [1]
    slab = slabs[0]
    rows = max(-(-slab.shape[1] // _SHARE), _TRIED // (slab.shape[0] * slab.shape[2]))
    if rows >= slab.shape[1]:
        return [volumes, 1]
    first = (slab.shape[1] - rows) // 2
    part = np.ascontiguousarray(slab[:, first : first + rows])

    def size(order: int) -> int:
        payload = _encode_as(Kind.FAST, [_series(part, order)], top, b"", order)
        return len(payload) if payload is not None else 0

    return [min((volumes, 1), key=size)]


def _too_large(kind: Kind, spec: ChunkSpec, *, is_series: bool) -> bool:
    """Return whether decoding takes more than four times the array, and what is free (CLV-17)."""
    return _memory(kind, spec.shape, is_series=is_series) > 3 * spec.size + _FREE


def _memory(kind: Kind, shape: tuple[int, ...], *, is_series: bool) -> int:
    """Return the bytes of planes and matrices, at most."""
    slices, rows, columns = shape[:3]
    if kind is Kind.FAST and slices == rows == 1:  # a list
        rows, columns = -(-columns // 1024), 1024
    kept = rows if slices > 2 else 0
    held = rows if slices > 1 else min(rows, 112)
    if kind is Kind.FAST:
        ring = min(slices, 3 if is_series else 2)
        return 72 * ring * (-(-held // 16) + 2) * (max(columns, 48) + 4)
    if kind is Kind.LABELS:
        return 2 * min(slices, 2) * (rows + 10) * (columns + 16)
    noises, each, more = (3, 30, 128) if kind is Kind.SMALL else (4, 147, 150)
    planes = 4 * (min(slices, 4) + noises * min(slices, 2)) * (held + 10) * (columns + 16)
    return planes + each * (-(-columns // 64) * 64) * (kept + more)


def _encode_as(
    kind: Kind,
    slabs: list[NDArray[np.int32]],
    top: int,
    head: bytes,
    volumes: int,
    near: int = 0,
) -> bytes | None:
    """Return the payload with one section for each sample, or None if one became too large."""
    run = volumes if volumes > 1 else None
    first = kind | (_SERIES if run else 0) | (_NEAR if near else 0)
    parts = [bytes([first]), head, build_number(near) if near else b""]
    for slab in slabs:
        section = _encode_section(kind, slab, top, run, near)
        if section is None:
            return None
        parts += [len(section).to_bytes(4, "little"), section]
    return b"".join(parts)


def _decode_samples(
    data: memoryview,
    at: int,
    spec: ChunkSpec,
    values: ValueMap,
    chunk: NDArray[Any],
    near: int,
    *,
    is_series: bool,
) -> int:
    """Fill `chunk` from the sections that begin at `at`; return where they end."""
    kind, run = Kind(data[0] & _KIND), spec.volumes if is_series else None
    for sample in range(spec.samples):
        start = at + 4
        at = start + int.from_bytes(data[at:start], "little")
        if at > len(data):
            raise DecodeError("calv: payload ends within a section", "CHK-8")
        symbols, shape = symbols_in(chunk, sample), chunk.shape[:3]
        section, slices = data[start:at], spec.shape[0]
        if not _decode_section(kind, section, symbols, shape, slices, values.top, run, near):
            raise DecodeError("calv: a section is damaged", "CHK-8")
        to_values(chunk, sample, values)
    return at


def _encode_section(
    kind: Kind, slab: NDArray[np.int32], top: int, run: int | None, near: int
) -> bytes | None:
    """Return the section of one sample, or None if it became too large.

    A series has slices in runs of `run`: the same slice of one volume after the other.
    """
    if kind is Kind.FAST:
        from mroi.codecs.calv.fast import encoder  # it imports numba, as the others do

        return encoder.encode(slab, top, run)
    if kind is Kind.LABELS:
        from mroi.codecs.calv import labels

        return labels.encode(slab, top)
    from mroi.codecs.calv import adaptive

    profile = adaptive.MAX if kind is Kind.MAX else adaptive.SMALL
    return adaptive.encode(slab, top, profile, run, near)


def _decode_section(
    kind: Kind,
    section: memoryview,
    out: Symbols,
    shape: tuple[int, int, int],
    slices: int,
    top: int,
    run: int | None,
    near: int,
) -> bool:
    """Fill `out`, of `shape`, the first of so many slices; return whether the section is sound."""
    if kind is Kind.FAST:
        from mroi.codecs.calv.fast import decoder  # it imports numba, as the others do

        return decoder.decode(section, out, shape, slices, top, run)
    if kind is Kind.LABELS:
        from mroi.codecs.calv import labels

        return labels.decode(section, out, shape, slices, top)
    from mroi.codecs.calv import adaptive

    profile = adaptive.MAX if kind is Kind.MAX else adaptive.SMALL
    return adaptive.decode(section, out, shape, slices, top, profile, run, near)
