"""Look at a source before it is packed: its box, the range of its values, and a few samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mroi.codecs import Pipeline, Values
from mroi.errors import SourceError
from mroi.format.geom import VolumeGeometry
from mroi.geometry import Box, in_plane_axes
from mroi.packing.fit import needs_values
from mroi.packing.options import PackOptions, RoiMethod
from mroi.roi.boxes import TightBox
from mroi.volume.chunks import Loss
from mroi.volume.progress import Progress
from mroi.volume.source import VoxelSource

__all__ = ["Attempt", "Sample", "Survey", "look"]

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


@dataclass(frozen=True, slots=True)
class Attempt:
    """What packing the whole volume with one setting of a lossy codec gave.

    Attributes
    ----------
    codec : str
        Name of the codec, and its settings beside the one that was found.
    tried : dict
        Bytes of the samples by codec, if it was chosen among several.
    rung : int
        Number of the setting, from fine to coarse.
    loss : Loss
        What was lost in the ROI, in stored values.
    ratio : float
        Bytes of the voxels over bytes of the file, metadata included.
    drop : float
        By how many dB an error beside a quality mask counted less than one in it.
    psnr, rest_psnr : float
        PSNR in a quality mask, and beside it.
    """

    codec: str
    tried: Mapping[str, int]
    rung: int
    loss: Loss
    ratio: float
    drop: float = 0.0
    psnr: float = math.inf
    rest_psnr: float = math.inf


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Survey:
    """What is known of a volume when it is decided how to pack it.

    Attributes
    ----------
    volume : VolumeGeometry
        Shape, type, place and scaling.
    box : Box
        The box that was given, the tight one, or the whole volume.
    fill : bytes or None
        The element that all voxels outside the box have; None if they differ, or there are none.
    values : Values or None
        Range of all voxels; None if it is not known, or the type has no order.
    span : float or None
        Range of all finite voxels, where a codec that loses something needs it; None if there is
        none.
    samples : tuple of Sample
        Parts of the volume to try codecs on; empty if nothing is to be tried.
    differs_in_scale : bool
        Whether slices have rescale factors of their own.
    is_seen : bool
        Whether the voxels are there; False if they are still to come, slice by slice.
    attempts : tuple of Attempt
        Settings of a lossy codec that were tried on the whole volume, in order.
    tried : dict
        What is lost of the samples, and the bytes that they take, by pipeline: a memory, so that
        nothing is tried twice.

    Raises
    ------
    SourceError
        If the box lies outside the volume.
    """

    volume: VolumeGeometry
    box: Box
    fill: bytes | None = None
    values: Values | None = None
    span: float | None = None
    samples: tuple[Sample, ...] = ()
    differs_in_scale: bool = False
    is_seen: bool = True
    attempts: tuple[Attempt, ...] = ()
    tried: dict[Pipeline, tuple[Loss, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not Box.whole(self.volume.shape).contains(self.box):
            raise SourceError(
                f"box {self.box} lies outside the volume of shape {self.volume.shape[:3]}"
            )

    @property
    def is_whole(self) -> bool:
        """Whether the box is the whole volume."""
        return self.box == Box.whole(self.volume.shape)

    def in_full(self) -> Survey:
        """Return the same for the whole volume as the box."""
        return replace(self, box=Box.whole(self.volume.shape), fill=None)

    def after(self, attempt: Attempt) -> Survey:
        """Return the same with one attempt more."""
        return replace(self, attempts=(*self.attempts, attempt))


def look(source: VoxelSource, options: PackOptions, progress: Progress | None = None) -> Survey:
    """Find out of a source what `options` leave open, in one pass with bounded memory.

    No pass is made if they leave nothing open; MedROI's box takes one of its own.

    Parameters
    ----------
    source : VoxelSource
        What will be packed.
    options : PackOptions
        What is wished for.
    progress : callable, optional
        Called as ``progress("looking", done, total)``.

    Raises
    ------
    SourceError
        If the source is damaged, the box lies outside it, or the codec does not take its type.
    """
    volume = source.geometry
    box = _given_box(source, options.roi, progress)
    survey = Survey(
        volume=volume,
        box=Box.whole(volume.shape) if box is None else box,
        differs_in_scale=source.rescale is not None,
    )
    is_target = options.quality is not None or options.quality_mask is not None
    tries_codecs = is_target or options.mode is not None
    wants_values = tries_codecs or needs_values(options.codec, volume)
    tries_spans = not is_target and options.cut.is_free(volume.shape)
    wants_samples = tries_codecs or options.roi == "auto" or tries_spans
    wants_span = volume.datatype.is_ordered and options.may_lose
    if not (box is None or not survey.is_whole or wants_values or wants_samples or wants_span):
        return survey
    axis = options.cut.slice_axis
    outside = TightBox(volume.shape, axis) if box is None else _Outside(box, volume, axis)
    values = _ValueRange() if volume.datatype.is_ordered and (wants_span or wants_values) else None
    sampler = _Sampler(volume, axis) if wants_samples else None
    _pass(source, axis, outside, values, sampler, progress)
    box, fill = outside.result()
    found = None if values is None else values.result()
    return replace(
        survey,
        box=box,
        fill=fill,
        values=found if wants_values else None,
        span=found.high - found.low if found is not None and wants_span else None,
        samples=() if sampler is None else sampler.result(),
    )


def _pass(
    source: VoxelSource,
    axis: int,
    outside: TightBox | _Outside,
    values: _ValueRange | None,
    sampler: _Sampler | None,
    progress: Progress | None,
) -> None:
    """Show all planes across `axis` to those who want to see them."""
    shape = source.geometry.shape
    total = shape[axis] * math.prod(shape[3:])
    for number, plane in enumerate(source.planes(axis)):
        outside.update(number % shape[axis], plane)
        if values is not None:
            values.update(plane)
        if sampler is not None:
            sampler.update(number, plane)
        if progress:
            progress("looking", number + 1, total)


def _given_box(source: VoxelSource, roi: RoiMethod | Box, progress: Progress | None) -> Box | None:
    """Return the box that `roi` means; None for the smallest box with a constant outside."""
    match roi:
        case "full":
            return Box.whole(source.geometry.shape)
        case "auto" | "tight":
            return None
        case "medroi":
            from mroi.roi.find import find_box

            return find_box(source, progress)
        case Box():
            return roi


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

    def result(self) -> Values:
        if self._low > self._high:  # nothing is finite
            return Values(0.0, 0.0, whole=False)
        return Values(self._low, self._high, self._whole)


def _has_negative_zero(plane: NDArray[Any]) -> bool:
    return bool((np.signbit(plane) & (plane == 0)).any())


class _Outside:
    """The one element that all voxels outside a box have, if they do."""

    def __init__(self, box: Box, volume: VolumeGeometry, slice_axis: int) -> None:
        fast, slow = in_plane_axes(slice_axis)
        self._box = box
        self._inside = range(box.start[slice_axis], box.stop[slice_axis])
        self._ring = np.ones((volume.shape[slow], volume.shape[fast]), dtype=np.bool_)
        self._ring[box.slices[slow], box.slices[fast]] = False
        self._itemsize = volume.itemsize
        self._differ = False
        self._element: bytes | None = None

    def update(self, index: int, plane: NDArray[Any]) -> None:
        if self._differ:
            return
        outside = plane[self._ring] if index in self._inside else plane
        data = np.ascontiguousarray(outside).reshape(-1).view(np.uint8).reshape(-1, self._itemsize)
        if not len(data):
            return
        if self._element is None:
            self._element = data[0].tobytes()
        if not (data == np.frombuffer(self._element, np.uint8)).all():
            self._differ, self._element = True, None

    def result(self) -> tuple[Box, bytes | None]:
        return self._box, self._element


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

    def __init__(self, volume: VolumeGeometry, slice_axis: int) -> None:
        shape = volume.shape
        self._extent = extent = shape[slice_axis]
        series = shape[3] if len(shape) > 3 else 1
        plane = math.prod(shape[:3]) // extent
        thick, span = _block_shape(extent, series, plane, volume.itemsize)
        volumes = math.prod(shape[3:])
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
