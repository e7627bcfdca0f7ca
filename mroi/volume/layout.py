"""How a volume is cut into chunks: as a caller says, or as what is read asks for.

A chunk is decoded as a whole, so its shape decides what each kind of read costs: a slice takes all
chunks that it crosses, a patch the bricks around it, the time series of a voxel the chunks above
one another in time. Small chunks are read with less waste, large ones compress better.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from mroi.codecs import Codec
from mroi.errors import UsageError
from mroi.geometry import Box, in_plane_axes

__all__ = [
    "PURPOSES",
    "ChunkChoice",
    "ChunkShape",
    "Cut",
    "Extents",
    "Purpose",
    "check_chunk",
    "check_purpose",
    "default_shape",
    "fit_shape",
    "longer_spans",
    "parse_chunk",
    "split_evenly",
    "split_within",
]

Purpose = Literal["slices", "patches", "planes", "series", "archive"]
"""What a file is for.

slices
    Slices along one axis are read, or all: slabs of whole slices.
patches
    Boxes of some 64 voxels a side are read, as in training: bricks.
planes
    Slices along all three axes are read, as in viewers: small bricks.
series
    The fourth axis is read, voxel by voxel or region by region: chunks that span it.
archive
    Little is read: the smallest file.
"""
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)

ChunkChoice = int | Sequence[int] | None
"""Slices of a chunk, or its voxels along x, y, z (and axis 3); 0 takes all of them."""
ChunkShape = tuple[int, int, int, int]

HELD_SIZE = (
    1 << 26
)  # bytes of the ROI that a writer or a stream holds at most where chunks span time
_FULL_SIZE = 1 << 16  # bytes; below that, handling a chunk takes longer than decoding it
_MOST_SLICES = 16
_SLAB = 1 << 22  # voxels of a slab at most, unless a slice has more: bounds the memory of packing
_BRICK = (64, 64, 16)  # columns, rows, slices
_SMALL_BRICK = (32, 32, 32)
_COLUMN = 4096  # voxels of a slice in a chunk that spans time


@dataclass(frozen=True, slots=True)
class Extents:
    """What is cut into chunks.

    Attributes
    ----------
    roi : tuple of 3 int
        Voxels of the ROI along x, y, z.
    series : int
        Volumes along axis 3.
    slice_axis : int
        0, 1 or 2.
    itemsize : int
        Bytes of an element.
    """

    roi: tuple[int, int, int]
    series: int
    slice_axis: int
    itemsize: int

    @property
    def slices(self) -> int:
        """Slices of the ROI."""
        return self.roi[self.slice_axis]

    @property
    def plane(self) -> int:
        """Voxels of a slice."""
        return math.prod(self.roi) // self.slices

    @property
    def most_volumes(self) -> int:
        """Volumes that a writer may hold: together at most 64 MiB of the ROI, or one."""
        size = math.prod(self.roi) * self.itemsize
        return max(1, min(self.series, HELD_SIZE // size))

    def shape(self, columns: int, rows: int, slices: int, volumes: int) -> ChunkShape:
        """Return a chunk of these extents, in the order of the axes.

        Parameters
        ----------
        columns, rows, slices, volumes : int
            In scan order, fast axis first.
        """
        extents = [columns, rows]
        extents.insert(self.slice_axis, slices)
        x, y, z = extents
        return x, y, z, volumes

    @property
    def _in_plane(self) -> tuple[int, int]:
        columns, rows = (self.roi[axis] for axis in in_plane_axes(self.slice_axis))
        return columns, rows

    def slab(self, slices: int, volumes: int) -> ChunkShape:
        """Return a chunk of whole slices."""
        return self.shape(*self._in_plane, slices, volumes)

    def brick(self, columns: int, rows: int, slices: int, volumes: int) -> ChunkShape:
        """Return a brick of about this size: the ROI is split evenly, so that none is a sliver.

        Parameters
        ----------
        columns, rows, slices, volumes : int
            In scan order, fast axis first; the size that is aimed at.
        """
        along, across = self._in_plane
        return self.shape(
            split_evenly(along, columns), split_evenly(across, rows),
            split_evenly(self.slices, slices), volumes,
        )  # fmt: skip


def split_evenly(extent: int, wanted: int) -> int:
    """Return the length of the parts of an axis when it is cut into parts of about `wanted`."""
    return -(-extent // max(1, round(extent / wanted)))


def split_within(extent: int, most: int) -> int:
    """Return the length of the parts of an axis when it is cut into as few as `most` allows."""
    return -(-extent // -(-extent // most))


# -- what a caller says ------------------------------------------------------------------------


def parse_chunk(text: str) -> int | tuple[int, ...]:
    """Return what a text like ``16``, ``64x64x16`` or ``64x64x1x0`` says.

    Raises
    ------
    UsageError
        If it is none of these.
    """
    if not re.fullmatch(r"[0-9]+(x[0-9]+)*", text):
        raise _wrong_chunk(text)
    numbers = tuple(int(part) for part in text.split("x"))
    chunk = numbers[0] if len(numbers) == 1 else numbers
    check_chunk(chunk)
    return chunk


def check_chunk(chunk: ChunkChoice) -> None:
    """Raise `UsageError` for a choice that no volume could make right."""
    try:
        numbers = [operator.index(n) for n in _numbers(chunk)]
    except TypeError:
        raise _wrong_chunk(repr(chunk)) from None
    if chunk is not None and (len(numbers) not in (1, 3, 4) or min(numbers) < 0):
        raise _wrong_chunk("x".join(map(str, numbers)))


def check_purpose(purpose: str) -> None:
    """Raise `UsageError` for a purpose that is not known."""
    if purpose not in PURPOSES:
        raise UsageError(f"purpose {purpose!r} is unknown: expected {', '.join(PURPOSES)}")


def _numbers(chunk: ChunkChoice) -> Sequence[int]:
    if chunk is None:
        return ()
    return chunk if isinstance(chunk, Sequence) else (chunk,)


def _wrong_chunk(text: str) -> UsageError:
    return UsageError(
        f"chunk {text}: expected a number of slices, or voxels along x, y, z like 64x64x16, or "
        "these and volumes like 64x64x16x8; 0 takes all slices, or a whole axis"
    )


def fit_shape(chunk: int | Sequence[int], extents: Extents, codec: Codec) -> ChunkShape:
    """Return the chunk that a caller asks for, no larger than the ROI.

    Parameters
    ----------
    chunk : int or sequence of int
        Slices, or extents along x, y, z and axis 3; 0 for a whole axis.
    extents : Extents
        What is cut.
    codec : Codec
        What encodes the chunks.

    Raises
    ------
    UsageError
        If the codec does not take so many slices.
    """
    numbers = [operator.index(n) for n in _numbers(chunk)]
    if len(numbers) == 1:
        wanted = [0, 0, 0, 1]
        wanted[extents.slice_axis] = numbers[0]
    else:
        wanted = numbers if len(numbers) == 4 else [*numbers, 1]
    bounds = (*extents.roi, extents.series)
    x, y, z, t = (min(n, most) if n else most for n, most in zip(wanted, bounds, strict=True))
    slices = (x, y, z)[extents.slice_axis] * t
    if codec.max_slices is not None and slices > codec.max_slices:
        raise UsageError(
            f"{codec.name} takes chunks of {codec.max_slices} slice, not {slices}"
            + (f" (those of {t} volumes)" if t > 1 else "")
        )
    return x, y, z, t


@dataclass(frozen=True, slots=True)
class Cut:
    """How a caller wants a volume cut.

    Attributes
    ----------
    purpose : Purpose
        What the file is for.
    chunk : ChunkChoice
        What each chunk shall have; None for what serves the purpose.
    slice_axis : int
        0, 1 or 2.
    """

    purpose: Purpose
    chunk: ChunkChoice
    slice_axis: int

    def extents(self, box: Box, shape: Sequence[int], itemsize: int) -> Extents:
        """Return what is cut, where the ROI of a volume of `shape` is `box`.

        Parameters
        ----------
        box : Box
            The ROI.
        shape : sequence of int
            Extents of the volume, x first.
        itemsize : int
            Bytes of an element.
        """
        series = shape[3] if len(shape) > 3 else 1
        return Extents(box.shape, series, self.slice_axis, itemsize)

    def is_free(self, shape: Sequence[int]) -> bool:
        """Whether a trial shall say how many volumes a chunk spans."""
        is_series = len(shape) > 3 and shape[3] > 1
        return is_series and self.chunk is None and self.purpose in ("slices", "archive")

    def shape(self, extents: Extents, codec: Codec) -> ChunkShape:
        """Return the chunk that a caller asks for, or else the one that serves the purpose."""
        if self.chunk is None:
            return default_shape(self.purpose, extents, codec)
        return fit_shape(self.chunk, extents, codec)


# -- what is best ------------------------------------------------------------------------------


def default_shape(purpose: Purpose, extents: Extents, codec: Codec) -> ChunkShape:
    """Return the chunk that serves a purpose.

    Where a volume is so small that handling a chunk would take longer than decoding it, chunks
    span as many volumes as make 64 KiB.

    Parameters
    ----------
    purpose : Purpose
        What the file is for.
    extents : Extents
        What is cut.
    codec : Codec
        What encodes the chunks.
    """
    is_flat = codec.max_slices is not None
    thick = codec.default_slices
    match purpose:
        case "patches":
            columns, rows, slices = _BRICK
            shape = extents.brick(columns, rows, thick if is_flat else slices, 1)
        case "planes":
            columns, rows, slices = _SMALL_BRICK
            shape = extents.brick(columns, rows, thick if is_flat else slices, 1)
        case "series" if extents.series > 1 and not is_flat:
            return _series_shape(extents, codec.span_voxels)
        case _:
            slices = thick
            if not is_flat:
                enough = -(-_FULL_SIZE // (extents.plane * extents.itemsize))
                slices = max(thick, min(enough, _MOST_SLICES))
                slices = min(slices, max(1, _SLAB // extents.plane))
            shape = extents.slab(min(slices, extents.slices), 1)
    if is_flat or shape[:3] != extents.roi:
        return shape
    enough = -(-_FULL_SIZE // (math.prod(extents.roi) * extents.itemsize))
    return (*shape[:3], split_within(extents.series, min(enough, extents.most_volumes)))


def longer_spans(shape: ChunkShape, extents: Extents, codec: Codec) -> list[ChunkShape]:
    """Return chunks that span more volumes than `shape`, which has whole slices; longest last.

    None has more voxels than the codec wants of such a chunk, which is what reading one slice,
    or the series of one voxel, takes; there are fewer slices in it instead. A reader of one
    volume decodes those of its chunk; a writer holds them, so they have at most 64 MiB.

    Parameters
    ----------
    shape : tuple of 4 int
        The chunk to begin with.
    extents : Extents
        What is cut.
    codec : Codec
        What encodes the chunks.
    """
    longer: list[ChunkShape] = []
    slices, span = shape[extents.slice_axis], shape[3]
    for times in (2, 4, 8, 16) if codec.max_slices is None else ():
        volumes = split_within(extents.series, min(times * span, extents.most_volumes))
        most = codec.span_voxels // (extents.plane * volumes)
        if volumes > (longer[-1] if longer else shape)[3] and most:
            longer.append(extents.slab(min(slices, most), volumes))
    return longer


def _series_shape(extents: Extents, voxels: int) -> ChunkShape:
    """Return a chunk of a few rows of one slice, and of as many volumes as may be held."""
    columns, _rows = extents._in_plane  # noqa: SLF001 (the same module)
    rows = max(1, _COLUMN // columns)
    brick = extents.brick(columns, rows, 1, 1)
    most = max(1, min(extents.most_volumes, voxels // math.prod(brick)))
    return (*brick[:3], split_within(extents.series, most))
