"""Slices of volumes, as a codec gets them, and patches of them to train on."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.adapters.convert import open_input
from mroi.codecs import ChunkSpec, Codec, Values
from mroi.errors import MroiError, SourceError, UsageError
from mroi.format.geom import VolumeGeometry
from mroi.geometry import Box
from mroi.packing.fit import fit_codec
from mroi.roi.find import find_box
from mroi.text import counted
from mroi.volume.model import open_volume
from mroi.volume.source import ArraySource, VoxelSource

__all__ = ["Patches", "Stack", "digest_of", "divide", "read_stacks"]

_TRIES = 8  # to find a patch that is not all of one value

Told = Callable[[int, int], object]
"""Called with the files that are read, and how many there are."""


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """The ROI of one volume in slices.

    Attributes
    ----------
    planes : (slices, rows, columns) ndarray of uint8 or uint16
        After the filters that the codec needs.
    bits : int
        Significant bits of a voxel.
    lossy : ndarray or None
        Planes as the base layer gives them, for codecs that have one.
    """

    planes: NDArray[Any]
    bits: int
    lossy: NDArray[Any] | None = None

    def part(self, *key: slice) -> Stack:
        """Return some of it: slices, rows, columns."""
        lossy = None if self.lossy is None else self.lossy[key]
        return Stack(self.planes[key], self.bits, lossy)


def read_stacks(
    paths: Sequence[str | Path], codec: Codec, told: Told = lambda _done, _all: None
) -> list[Stack]:
    """Return the ROI of volumes, each 3-D volume of a series on its own.

    The ROI is that of an ``.mroi`` file, unless it is the whole volume; or MedROI's, or all where
    that finds none. Intensities are put onto integers as `codec` would have them. All of it is in
    memory, with one or two bytes for a voxel.

    Parameters
    ----------
    paths : sequence of path
        ``.mroi`` files, NIfTI images, DICOM series.
    codec : Codec
        What is trained.
    told : callable
        Called with files done, and all.

    Raises
    ------
    MroiError
        If one cannot be read, or the codec does not take its voxels.
    """
    found: list[Stack] = []
    for number, path in enumerate(paths):
        told(number, len(paths))
        try:
            found += _read(Path(path), codec)
        except MroiError as exc:
            text = f"{path}: {exc.message.removeprefix(f'{path}: ')}"
            raise type(exc)(text, exc.rule, exc.offset) from exc
        except OSError as exc:
            raise SourceError(f"{path}: {exc.strerror or exc}") from exc
    told(len(paths), len(paths))
    return found


def _read(path: Path, codec: Codec) -> list[Stack]:
    source, box = _opened(path)
    geometry = source.geometry
    if geometry.datatype.sample_shape or not geometry.datatype.is_ordered:
        raise SourceError(f"{geometry.datatype.name} is not trained on: gray real voxels are")
    voxels = np.stack(list(source.planes(2)))
    values = _values(voxels)
    x, y, z = (slice(*ends) for ends in zip(box.start, box.stop, strict=True))
    volumes = np.split(voxels, math.prod(geometry.shape[3:]))
    return [_filtered(volume[z, y, x], codec, geometry, values) for volume in volumes]


def _opened(path: Path) -> tuple[VoxelSource, Box]:
    """Return the voxels of a file as they are stored, and their ROI."""
    source: VoxelSource
    if path.is_file() and path.suffix == ".mroi":
        with open_volume(path) as volume:
            stored = volume.unscaled.cropped
            source = ArraySource(np.asarray(stored))
            if volume.roi != Box.whole(volume.geom.shape):
                return source, Box.whole(source.geometry.shape)
    else:
        source = open_input(path)
    try:
        return source, find_box(source)
    except SourceError:
        return source, Box.whole(source.geometry.shape)


def _values(voxels: NDArray[Any]) -> Values:
    if voxels.dtype.kind != "f":
        return Values(float(voxels.min()), float(voxels.max()), whole=True)
    finite = voxels[np.isfinite(voxels)]
    if finite.size < voxels.size:
        raise SourceError("voxels are NaN or infinite, which no codec of slices takes")
    return Values(float(finite.min()), float(finite.max()), whole=False)


def _filtered(
    volume: NDArray[Any], codec: Codec, geometry: VolumeGeometry, values: Values
) -> Stack:
    """Return slices as a codec gets them from its filters."""
    pipeline = fit_codec(codec, geometry, values)
    spec = ChunkSpec(volume.shape, volume.dtype, geometry.bits_stored)
    for step in pipeline.filters:
        volume, spec = step.apply(volume, spec), step.output(spec)
    return Stack(np.ascontiguousarray(volume), spec.bits)


def digest_of(stacks: Sequence[Stack]) -> str:
    """Return a SHA-256 of all slices: of what a network was trained on, without its names."""
    digest = hashlib.sha256()
    for stack in stacks:
        digest.update(f"{stack.planes.shape} {stack.planes.dtype.str} {stack.bits}\n".encode())
        digest.update(np.ascontiguousarray(stack.planes).data)
    return digest.hexdigest()


def divide(stacks: Sequence[Stack], share: float) -> tuple[list[Stack], list[Stack]]:
    """Return what is trained on, and what is kept apart to validate with.

    Those kept are whole volumes, the last ones; of a single volume the last slices.

    Parameters
    ----------
    stacks : sequence of Stack
        All of them.
    share : float
        Of the volumes, from 0 to below 1; of one at least, unless it is 0.

    Raises
    ------
    UsageError
        If nothing would be left to train on.
    """
    if not share:
        return list(stacks), []
    if len(stacks) > 1:
        kept = _kept(share, len(stacks), "volume")
        return list(stacks[:-kept]), list(stacks[-kept:])
    (only,) = stacks
    kept = _kept(share, len(only.planes), "slice")
    return [only.part(slice(-kept))], [only.part(slice(-kept, None))]


def _kept(share: float, count: int, name: str) -> int:
    """Return how many are kept apart: one at least, and not all."""
    kept = max(1, round(share * count))
    if kept >= count:
        raise UsageError(
            f"--validation {share:g} leaves none of {counted(count, name)} to train on: give "
            "less, or 0"
        )
    return kept


class Patches:
    """Squares of consecutive slices.

    Parameters
    ----------
    stacks : sequence of Stack
        Where they are from; each slice as often as any other.
    size : int
        Rows and columns. A slice that is smaller goes on as its edge is, as it does when it is
        encoded.
    thick : int
        Slices of each, at most; those of a volume that has fewer are fewer.
    """

    def __init__(self, stacks: Sequence[Stack], size: int, thick: int = 1) -> None:
        self._stacks, self._size, self._thick = stacks, size, thick
        self._ends = list(accumulate(len(stack.planes) for stack in stacks))

    def draw(self, random: np.random.Generator) -> Stack:
        """Return a patch from anywhere; one that is all of one value only if there is no other."""
        patch = self._any(random)
        for _ in range(_TRIES):
            if patch.planes.min() < patch.planes.max():
                break
            patch = self._any(random)
        return patch

    def _any(self, random: np.random.Generator) -> Stack:
        place = int(random.integers(self._ends[-1]))
        return self._cut(place, lambda room: int(random.integers(room + 1)))

    def even(self, count: int) -> list[Stack]:
        """Return patches of the middle of slices that lie evenly apart, always the same."""
        places = [(2 * k + 1) * self._ends[-1] // (2 * count) for k in range(count)]
        return [self._cut(place, lambda room: room // 2) for place in places]

    def _cut(self, place: int, choose: Callable[[int], int]) -> Stack:
        """Return the patch of a slice, counted over all, at the rows and columns chosen of some."""
        number, size = bisect_right(self._ends, place), self._size
        stack = self._stacks[number]
        slices, rows, columns = stack.planes.shape
        at = max(0, min(place - self._ends[number] + slices, slices - self._thick))
        row, column = (choose(max(n - size, 0)) for n in (rows, columns))
        part = stack.part(
            slice(at, at + self._thick), slice(row, row + size), slice(column, column + size)
        )
        lacks = [(0, 0), *((0, size - n) for n in part.planes.shape[1:])]
        lossy = None if part.lossy is None else np.pad(part.lossy, lacks, "edge")
        return Stack(np.pad(part.planes, lacks, "edge"), stack.bits, lossy)
