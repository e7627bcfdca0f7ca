"""What a codec is: one synchronous, one-shot step between one chunk of voxels and its payload.

A codec is a small frozen dataclass. Its fields are its parameters, its class variables say what
it can do, and it does no IO, keeps no state and starts no threads: the reader and the writer own
those. Encoding and decoding SHOULD release the GIL, because chunks are worked on in threads.

Two implementations may share a name only if each decodes what the other encodes (CDC-4).
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

from mroi.errors import CodecError

__all__ = ["ChunkSpec", "Codec", "Fidelity", "Filter", "SupportsLevels", "SupportsPrefix"]


class Fidelity(IntEnum):
    """What a codec promises of the voxels it gives back (CDC-5)."""

    LOSSLESS = 1
    BOUNDED = 2
    """Every voxel is within a stated error."""
    LOSSY = 3


@dataclass(frozen=True, slots=True)
class ChunkSpec:
    """What is known of a chunk before its payload is read; derived from geometry, never stored.

    Attributes
    ----------
    shape : tuple of int
        C-order shape of the decoded array: (slices, rows, columns), or
        (slices, rows, columns, samples) for RGB (3) and RGBA (4).
        Columns run along the lowest in-plane axis (x for axial slices), which is fastest.
        The slices of a chunk that spans several volumes are those of its first volume, then those
        of the second, and so on. A background chunk, a list of voxels, has the shape (1, 1, n).
    dtype : numpy dtype
        Little-endian type of one sample. Opaque 16- and 32-byte elements are ``V16`` and ``V32``.
    bits : int
        Significant bits of a sample (DICOM Bits Stored); ``8 * dtype.itemsize`` if unknown.
    volumes : int
        Volumes that the chunk spans along the fourth axis; divides the number of slices.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    bits: int
    volumes: int = 1

    @property
    def size(self) -> int:
        """Number of bytes of the decoded array."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def samples(self) -> int:
        """Samples of a voxel: 1, or 3 and 4 for RGB and RGBA."""
        return self.shape[3] if len(self.shape) == 4 else 1


@dataclass(frozen=True, slots=True)
class Codec(ABC):
    """Base class of codecs.

    Subclasses are ``@dataclass(frozen=True, slots=True)``; fields are parameters with defaults.
    Constructors raise `CodecError` for a value out of range.

    Attributes
    ----------
    name : str
        Name in the file. Third parties use reverse DNS: ``org.example.mycodec`` (CDC-3).
    id : int
        Number in ``spec/registry.md``; 0 for codecs that are not registered.
    version : int
        Version of the bitstream that this class writes and reads.
    max_slices : int or None
        Thickest chunk it takes: 1 for codecs of planes, None for codecs of volumes.
    encoder_only : tuple of str
        Fields that only the encoder uses (a level, an effort). The other fields are the
        parameters of the file: what decoding needs, and what says how much was lost.
    isolated : bool
        Whether its decoder runs in a process of its own where files are not trusted (`mroi verify`
        and ``recover``, or `mroi.Limits.isolate`): True, unless it is known to survive any bytes.
    """

    name: ClassVar[str]
    id: ClassVar[int] = 0
    version: ClassVar[int] = 1
    max_slices: ClassVar[int | None] = None
    encoder_only: ClassVar[tuple[str, ...]] = ()
    isolated: ClassVar[bool] = True

    @property
    def default_slices(self) -> int:
        """Slices of a chunk where the user does not say: a trade of size for access time."""
        return 1

    @property
    def span_voxels(self) -> int:
        """Voxels of a chunk of several volumes where the user does not say: at most so many."""
        return 1 << 20

    @property
    def fidelity(self) -> Fidelity:
        """What these parameters promise; overridden by codecs that can lose something."""
        return Fidelity.LOSSLESS

    @property
    def loss_is_relative(self) -> bool:
        """Whether the loss depends on how much of its type's range a chunk uses.

        `Pipeline.fitting` then puts a window before the codec, so that a setting means the same
        for all volumes.
        """
        return False

    @property
    def deterministic(self) -> bool:
        """Whether decoding gives the same bits on every machine."""
        return True

    @classmethod
    def probe(cls) -> str | None:
        """Return None if the codec works here, else what is missing and how to get it."""
        return None

    @classmethod
    def implementation(cls) -> str:
        """Name and version of what does the work, for the record (``zstandard 0.25.0``)."""
        return f"mroi {cls.name}"

    @classmethod
    def from_params(cls, params: Mapping[str, object]) -> Self:
        """Build the codec that decodes what was written with `params`.

        Raises
        ------
        CodecError
            If a parameter is unknown, missing or out of range (rule CDC-6).
        """
        expected = sorted(cls().params())
        if sorted(params) != expected:
            raise CodecError(
                f"{cls.name}: parameters are {sorted(params)}, not {expected}", "CDC-6"
            )
        return cls(**params)

    def params(self) -> dict[str, object]:
        """Return the parameters of the file, as JSON values; `from_params` takes them."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if name not in self.encoder_only}

    def settings(self) -> dict[str, object]:
        """Return the parameters that only the encoder used (a level, an effort): a record."""
        values = dataclasses.asdict(self)
        return {name: values[name] for name in self.encoder_only}

    def refuses(self, spec: ChunkSpec) -> str | None:
        """Return why such chunks cannot be taken and which can; None if they can.

        What overrides this ends with ``Codec.refuses(self, spec)``: `super` without arguments
        does not work in dataclasses with slots.
        """
        if self.max_slices is not None and spec.shape[0] > self.max_slices:
            return f"{self.name} takes chunks of {self.max_slices} slice, not {spec.shape[0]}"
        return None

    @abstractmethod
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        """Return the payload of a chunk.

        Parameters
        ----------
        chunk : ndarray
            C-contiguous, of ``spec.shape`` and ``spec.dtype``; not modified.
        """

    @abstractmethod
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        """Return the chunk: an array of ``spec.shape`` and ``spec.dtype``, perhaps read-only.

        Whatever the bytes say, at most ``6 * spec.size + 2 * len(payload)`` bytes of memory are
        used, and 64 MiB.

        Raises
        ------
        DecodeError
            If the payload is not exactly one chunk of this kind (rule CHK-8).
        """


@runtime_checkable
class SupportsPrefix(Protocol):
    """A codec that can stop early: earlier slices of a chunk cost less than the whole chunk."""

    def decode_prefix(self, payload: Buffer, spec: ChunkSpec, count: int, /) -> NDArray[Any]:
        """Return the first `count` slices, an array of ``(count, *spec.shape[1:])``."""
        ...


@runtime_checkable
class SupportsLevels(Protocol):
    """A codec that can decode at a reduced resolution.

    Level 0 is full resolution, level k has rows and columns divided by ``2**k``, rounded up.
    """

    def decode_level(self, payload: Buffer, spec: ChunkSpec, level: int, /) -> NDArray[Any]:
        """Return ``(slices, ceil(rows / 2**level), ceil(columns / 2**level)[, samples])``."""
        ...


@dataclass(frozen=True, slots=True)
class Filter(ABC):
    """A step from array to array before a codec, undone after it; recorded in the file.

    The dtype and shape of its output depend on those of its input alone.
    """

    name: ClassVar[str]

    @property
    def fidelity(self) -> Fidelity:
        """What the filter loses; anything but LOSSLESS makes the whole pipeline lossy (CDC-5)."""
        return Fidelity.LOSSLESS

    @classmethod
    def from_params(cls, params: Mapping[str, object]) -> Self:
        """Build the filter from the parameters of the file; raises `CodecError` (rule CDC-6)."""
        known = {field.name for field in dataclasses.fields(cls)}
        if set(params) != known:
            raise CodecError(f"filter {cls.name}: parameters are {sorted(params)}", "CDC-6")
        return cls(**params)

    def params(self) -> dict[str, object]:
        """Return the parameters as JSON values; `from_params` takes them."""
        return dataclasses.asdict(self)

    @abstractmethod
    def output(self, spec: ChunkSpec, /) -> ChunkSpec:
        """Return the kind of chunk that comes out; raises `CodecError` for one it cannot take."""

    @abstractmethod
    def apply(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> NDArray[Any]:
        """Return the filtered chunk, of the kind ``output(spec)``; `chunk` is not modified."""

    @abstractmethod
    def invert(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> NDArray[Any]:
        """Undo `apply`: from the kind ``output(spec)`` back to the kind `spec`."""
