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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from inspect import unwrap
from types import FunctionType
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.errors import CodecError

__all__ = [
    "ChunkSpec",
    "Codec",
    "Fidelity",
    "Filter",
    "SupportsLevels",
    "SupportsPrefix",
    "SupportsRange",
    "SupportsTarget",
    "SupportsWeights",
    "Values",
]


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

    @property
    def voxel(self) -> str:
        """What a voxel is, for messages: ``uint16``, ``uint8 RGB``."""
        return f"{self.dtype} {'RGBA'[: self.samples]}" if self.samples > 1 else f"{self.dtype}"


@dataclass(frozen=True, slots=True)
class Values:
    """What is known of all voxels of a volume.

    Attributes
    ----------
    low, high : float
        Least and greatest value.
    whole : bool
        All are integers: no fraction, no NaN, no infinity, no negative zero.
    """

    low: float
    high: float
    whole: bool

    def steps(self, finest: float, coarsest: float) -> list[float]:
        """Return quantisation steps for a ladder (`SupportsTarget`), the finest first.

        They go from 2**-24 of the range of the values to the whole range, eight for each factor
        of two.

        Parameters
        ----------
        finest, coarsest : float
            Steps that the codec takes at least and at most; others are left out.
        """
        span = max(self.high - self.low, 1e-300)
        steps = (span * 2.0 ** (-k / 8) for k in range(24 * 8, -1, -1))
        return [step for step in steps if finest <= step <= coarsest]


@dataclass(frozen=True, slots=True)
class Codec(ABC):
    """Base class of codecs.

    Subclasses are ``@dataclass(frozen=True, slots=True)``; fields are parameters with defaults.
    Constructors raise `CodecError` for a value out of range. A codec that can do more says so by
    having the methods of `SupportsPrefix`, `SupportsLevels` or `SupportsTarget`.

    Attributes
    ----------
    name : str
        Name in the file. Third parties use reverse DNS: ``org.example.mycodec`` (CDC-3).
    id : int
        Number in ``spec/registry.md``; 0 for codecs that are not registered.
    version : int
        Version of the bitstream that this class writes and reads.
    max_slices : int or None
        Thickest chunk it takes: 1 for codecs of planes, None for codecs of volumes. `Pipeline`
        refuses thicker ones.
    encoder_only : tuple of str
        Fields that only the encoder uses (a level, an effort). The other fields are the
        parameters of the file: what decoding needs, and what says how much was lost.
    isolated : bool
        Whether its decoder runs in a process of its own where files are not trusted (`mroi verify`
        and ``recover``, or `mroi.Limits.isolate`): True, unless it is known to survive any bytes.
    notice : str
        What whoever packs with it must be told, in one line; empty for nearly all.
    """

    name: ClassVar[str]
    id: ClassVar[int] = 0
    version: ClassVar[int] = 1
    max_slices: ClassVar[int | None] = None
    encoder_only: ClassVar[tuple[str, ...]] = ()
    isolated: ClassVar[bool] = True
    notice: ClassVar[str] = ""

    @override
    def __init_subclass__(cls) -> None:
        """Let `super` without arguments work in subclasses that are dataclasses with slots."""
        super(Codec, cls).__init_subclass__()
        _rebind_super(cls)

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
        """Whether decoding gives the same bits on every machine.

        By default if the loss is bounded, or none: most lossy codecs compute in floating point.
        """
        return self.fidelity is not Fidelity.LOSSY

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
                f"{cls.name}: expected the parameters {expected}, found {sorted(params)}", "CDC-6"
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

    def refuses(self, spec: ChunkSpec) -> str | None:  # noqa: ARG002 (for subclasses)
        """Return why such chunks cannot be taken and which can; None if they can.

        It need not look at `max_slices`.
        """
        return None

    def encode_seconds(self, spec: ChunkSpec) -> float:  # noqa: ARG002 (for subclasses)
        """Return how long such a chunk takes to encode, roughly, on one thread.

        0, as here, where it is no longer than with most codecs: nobody is warned of it.
        """
        return 0.0

    @abstractmethod
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        """Return the payload of a chunk.

        Parameters
        ----------
        chunk : ndarray
            C-contiguous, of ``spec.shape`` and ``spec.dtype``; not modified.
        spec : ChunkSpec
            A kind of chunk that `refuses` lets pass.

        Raises
        ------
        CodecError
            If these voxels cannot be encoded as `fidelity` promises.
        """

    @abstractmethod
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        """Return the chunk: an array of ``spec.shape`` and ``spec.dtype``, perhaps read-only.

        Whatever the bytes say, at most ``6 * spec.size + 2 * len(payload)`` bytes of memory are
        used, and 64 MiB.

        Parameters
        ----------
        payload : bytes-like
            What `encode` made, or anything else: it comes from a file.
        spec : ChunkSpec
            Shape and type of the chunk, and all that is known of it.

        Raises
        ------
        DecodeError
            If the payload is not exactly one chunk of this kind (rule CHK-8).
        """


@runtime_checkable
class SupportsPrefix(Protocol):
    """A codec that can stop early: earlier slices of a chunk cost less than the whole chunk."""

    def decode_prefix(self, payload: Buffer, spec: ChunkSpec, count: int, /) -> NDArray[Any]:
        """Return the first `count` slices.

        Parameters
        ----------
        payload : bytes-like
            As for `Codec.decode`.
        spec : ChunkSpec
            The whole chunk.
        count : int
            1 to ``spec.shape[0]``.

        Returns
        -------
        ndarray of ``(count, *spec.shape[1:])``
            Equal to the first slices of what `Codec.decode` returns.

        Raises
        ------
        DecodeError
            If the payload is broken as far as it is read (rule CHK-8).
        """
        ...


@runtime_checkable
class SupportsRange(Protocol):
    """A codec that can decode any slices of a chunk for less than the whole chunk."""

    def decode_range(
        self, payload: Buffer, spec: ChunkSpec, start: int, stop: int, /
    ) -> NDArray[Any]:
        """Return the slices from `start` to `stop`.

        Parameters
        ----------
        payload : bytes-like
            As for `Codec.decode`.
        spec : ChunkSpec
            The whole chunk.
        start, stop : int
            ``0 <= start < stop <= spec.shape[0]``.

        Returns
        -------
        ndarray of ``(stop - start, *spec.shape[1:])``
            Equal to these slices of what `Codec.decode` returns.

        Raises
        ------
        DecodeError
            If the payload is broken as far as it is read (rule CHK-8).
        """
        ...


@runtime_checkable
class SupportsLevels(Protocol):
    """A codec that can decode at a reduced resolution.

    Level 0 is full resolution, level k has rows and columns divided by ``2**k``, rounded up.
    """

    def decode_level(self, payload: Buffer, spec: ChunkSpec, level: int, /) -> NDArray[Any]:
        """Return the chunk at a reduced resolution.

        Parameters
        ----------
        payload : bytes-like
            As for `Codec.decode`.
        spec : ChunkSpec
            The chunk at full resolution.
        level : int
            0 or more, also where the payload has fewer levels.

        Returns
        -------
        ndarray of ``(slices, ceil(rows / 2**level), ceil(columns / 2**level)[, samples])``

        Raises
        ------
        DecodeError
            If the payload is broken as far as it is read (rule CHK-8).
        """
        ...


@runtime_checkable
class SupportsTarget(Protocol):
    """A lossy codec whose setting can be chosen to reach an error, a PSNR or a ratio.

    One ladder serves all three, because a finer setting loses less and takes more bytes: the
    search (``mroi pack --max-error``, ``--psnr``, ``--ratio``) bisects it.
    """

    @classmethod
    def ladder(cls, values: Values, /) -> Sequence[Codec]:
        """Return codecs of this class with settings from the finest to the coarsest.

        Parameters
        ----------
        values : Values
            The range of the voxels to be encoded, in units of the voxels; `Values.steps` has
            steps for it.
        """
        ...


@runtime_checkable
class SupportsWeights(Protocol):
    """A lossy codec that can keep some voxels better than others (``mroi pack --quality-mask``).

    Its decoder need not know which.
    """

    def encode_weighted(
        self, chunk: NDArray[Any], spec: ChunkSpec, weights: NDArray[np.float32], /
    ) -> bytes:
        """Return the payload of a chunk, smallest where errors count least.

        Parameters
        ----------
        chunk : ndarray
            As for `Codec.encode`.
        spec : ChunkSpec
            As for `Codec.encode`.
        weights : (slices, rows, columns) ndarray of float32
            What the square of an error counts in each voxel, 1e-6 to 1: where it is 1, the payload
            is about as good as that of `Codec.encode`.

        Raises
        ------
        CodecError
            If these voxels cannot be encoded.
        """
        ...


@dataclass(frozen=True, slots=True)
class Filter(ABC):
    """A step from array to array before a codec, undone after it; recorded in the file.

    The dtype and shape of its output depend on those of its input alone.

    Attributes
    ----------
    name : str
        Name in the file.
    moves_voxels : bool
        Whether a voxel comes out at another place, so that a smaller picture of the output is none
        of the input.
    """

    name: ClassVar[str]
    moves_voxels: ClassVar[bool] = False

    @property
    def fidelity(self) -> Fidelity:
        """What the filter loses; anything but LOSSLESS makes the whole pipeline lossy (CDC-5)."""
        return Fidelity.LOSSLESS

    @classmethod
    def from_params(cls, params: Mapping[str, object]) -> Self:
        """Build the filter from the parameters of the file; raises `CodecError` (rule CDC-6)."""
        known = {field.name for field in dataclasses.fields(cls)}
        if set(params) != known:
            expected = f"expected the parameters {sorted(known)}"
            raise CodecError(f"filter {cls.name}: {expected}, found {sorted(params)}", "CDC-6")
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


def _rebind_super(cls: type) -> None:
    """Let the methods of a class mean it by ``__class__``, not the class that it is a copy of.

    ``@dataclass(slots=True)`` makes a second class with the functions of the first. `super` without
    arguments looks for its class in a cell of the function, and Python before 3.14 leaves the first
    one there (https://github.com/python/cpython/issues/90562).
    """
    for function in _functions(cls):
        closure = function.__closure__ or ()
        for name, cell in zip(function.__code__.co_freevars, closure, strict=True):
            if name == "__class__" and _full_name(cell.cell_contents) == _full_name(cls):
                cell.cell_contents = cls


def _functions(cls: type) -> Iterator[FunctionType]:
    """Yield the functions in the body of a class, also those of properties and class methods."""
    for member in vars(cls).values():
        is_property = isinstance(member, property)
        for part in (member.fget, member.fset, member.fdel) if is_property else (member,):
            function = unwrap(part)
            if isinstance(function, FunctionType):
                yield function


def _full_name(cls: type) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__
