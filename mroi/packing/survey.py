"""One pass over a source before it is packed: its tight box, its values, and a few samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mroi.codecs import Values
from mroi.format.geom import VolumeGeometry
from mroi.geometry import Box, in_plane_axes
from mroi.roi.boxes import TightBox
from mroi.volume.progress import Progress
from mroi.volume.source import VoxelSource

__all__ = ["Sample", "Survey", "survey_source"]

_SAMPLES = 3
_SLICES = 8  # of a sample
_SERIES_SLICES = 4  # where there are volumes along axis 3, of which a sample has several
_VOLUMES = 16
_SIZE = 1 << 23  # bytes, at most
_ENOUGH = 1 << 17  # voxels: where planes are small, more volumes make up a sample


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Neighbouring slices of neighbouring volumes along axis 3.

    Attributes
    ----------
    start : int
        Number of the first slice.
    planes : (volumes, slices, slow, fast[, samples]) ndarray
    """

    start: int
    planes: NDArray[Any]

    def cropped(self, box: Box, slice_axis: int) -> NDArray[Any]:
        """Return the part inside a box, which may be empty."""
        fast, slow = in_plane_axes(slice_axis)
        lo = max(box.start[slice_axis] - self.start, 0)
        hi = max(box.stop[slice_axis] - self.start, 0)
        inside = self.planes[:, lo:hi, box.slices[slow], box.slices[fast]]
        return np.ascontiguousarray(inside)


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """What one pass found.

    Attributes
    ----------
    box : Box
        The tight box, or the one that was given.
    fill : bytes or None
        The element that all voxels outside the box have; None if they differ.
    values : Values or None
        Of all voxels; None for types without an order, and if nobody asked.
    samples : tuple of Sample
        Empty if nobody asked.
    """

    box: Box
    fill: bytes | None
    values: Values | None = None
    samples: tuple[Sample, ...] = ()


def survey_source(
    source: VoxelSource,
    slice_axis: int,
    *,
    box: Box | None,
    want_values: bool,
    want_samples: bool,
    progress: Progress | None = None,
) -> Survey:
    """Go through all planes once, with bounded memory.

    Parameters
    ----------
    box : Box or None
        Look at what is outside this box; without one, find the smallest with a constant outside.
    """
    g = source.geometry
    extent = g.shape[slice_axis]
    total = extent * math.prod(g.shape[3:])
    tight = TightBox(g.shape, slice_axis)
    outside = None if box is None else _Outside(box, g, slice_axis)
    values = _ValueRange() if want_values and g.datatype.is_ordered else None
    sampler = _Sampler(g, slice_axis) if want_samples else None
    for number, plane in enumerate(source.planes(slice_axis)):
        index = number % extent
        if outside is not None:
            outside.update(index, plane)
        else:
            tight.update(index, plane)
        if values is not None:
            values.update(plane)
        if sampler is not None:
            sampler.update(number, plane)
        if progress:
            progress("looking", number + 1, total)
    if box is None:
        box, fill = tight.result()
    else:
        assert outside is not None
        fill = outside.element
    return Survey(
        box,
        fill,
        None if values is None else values.result(),
        () if sampler is None else sampler.result(),
    )


class _ValueRange:
    """Range of the finite values, and whether all values are integers."""

    def __init__(self) -> None:
        self._low = math.inf
        self._high = -math.inf
        self._whole = True

    def update(self, plane: NDArray[Any]) -> None:
        if plane.dtype.kind == "f":
            finite = np.isfinite(plane)
            self._whole = self._whole and bool(
                finite.all() and (np.rint(plane) == plane).all() and not _has_negative_zero(plane)
            )
            plane = plane[finite]
        if plane.size:
            self._low = min(self._low, plane.min().item())
            self._high = max(self._high, plane.max().item())

    def result(self) -> Values | None:
        if self._low > self._high:  # nothing is finite
            return None
        return Values(self._low, self._high, self._whole)


def _has_negative_zero(plane: NDArray[Any]) -> bool:
    return bool((np.signbit(plane) & (plane == 0)).any())


class _Outside:
    """The one element that all voxels outside a box have, if they do."""

    def __init__(self, box: Box, g: VolumeGeometry, slice_axis: int) -> None:
        fast, slow = in_plane_axes(slice_axis)
        self._slices = range(box.start[slice_axis], box.stop[slice_axis])
        self._ring = np.ones((g.shape[slow], g.shape[fast]), dtype=np.bool_)
        self._ring[box.slices[slow], box.slices[fast]] = False
        self._itemsize = g.datatype.itemsize
        self._differ = False
        self.element: bytes | None = None

    def update(self, index: int, plane: NDArray[Any]) -> None:
        if self._differ:
            return
        outside = plane[self._ring] if index in self._slices else plane
        data = np.ascontiguousarray(outside).reshape(-1).view(np.uint8).reshape(-1, self._itemsize)
        if not len(data):
            return
        if self.element is None:
            self.element = data[0].tobytes()
        if not (data == np.frombuffer(self.element, np.uint8)).all():
            self._differ, self.element = True, None


class _Block(NamedTuple):
    """Which planes a sample has, and those that came."""

    volumes: range
    slices: range
    planes: list[NDArray[Any]]

    def meets(self, other: _Block) -> bool:
        """Whether both have some plane."""
        return _meet(self.volumes, other.volumes) and _meet(self.slices, other.slices)


def _meet(a: range, b: range) -> bool:
    return max(a.start, b.start) < min(a.stop, b.stop)


class _Sampler:
    """Keeps blocks of neighbouring slices and volumes, evenly spread over slices and volumes."""

    def __init__(self, g: VolumeGeometry, slice_axis: int) -> None:
        self._extent = extent = g.shape[slice_axis]
        series = g.shape[3] if len(g.shape) > 3 else 1
        plane = math.prod(g.shape[:3]) // extent
        thick, span = _block_shape(extent, series, plane, g.datatype.itemsize)
        volumes = math.prod(g.shape[3:])
        self._blocks: list[_Block] = []
        for i in range(_SAMPLES):
            k = extent * (2 * i + 1) // (2 * _SAMPLES) - thick // 2
            k = min(max(k, 0), extent - thick)
            outer, v = divmod(volumes * (2 * i + 1) // (2 * _SAMPLES), series)
            v = outer * series + min(max(v - span // 2, 0), series - span)
            block = _Block(range(v, v + span), range(k, k + thick), [])
            if not any(block.meets(other) for other in self._blocks):
                self._blocks.append(block)

    def update(self, number: int, plane: NDArray[Any]) -> None:
        volume, k = divmod(number, self._extent)
        for block in self._blocks:
            if volume in block.volumes and k in block.slices:
                block.planes.append(plane)

    def result(self) -> tuple[Sample, ...]:
        return tuple(
            Sample(slices.start, np.stack(planes).reshape(len(volumes), -1, *planes[0].shape))
            for volumes, slices, planes in self._blocks
        )


def _block_shape(extent: int, series: int, plane: int, itemsize: int) -> tuple[int, int]:
    """Return the slices and volumes of a sample, where planes have so many voxels."""
    most = max(1, _SIZE // (plane * itemsize))  # planes
    if series == 1:
        return min(_SLICES, extent, most), 1
    span = min(_VOLUMES, series, most)
    thick = max(1, min(_SERIES_SLICES, extent, most // span))
    return thick, min(series, max(span, _ENOUGH // (plane * thick)))
