"""MedROI's boxes of whatever can be packed: an image, a volume, or the volumes of a series."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.errors import SourceError
from mroi.format.geom import Background, Geom, Layout, VolumeGeometry
from mroi.geometry import Box
from mroi.roi.medroi import ImageRoi, VolumeRoi, find_image_roi, find_volume_roi
from mroi.volume.progress import Progress
from mroi.volume.source import VoxelSource

__all__ = ["FoundRoi", "find_box", "find_roi"]


@dataclass(frozen=True, eq=False)
class FoundRoi:
    """A source, its voxels, and the box that was found.

    Attributes
    ----------
    geometry : VolumeGeometry
        Of the source.
    stored : (x, y, z) ndarray
        All voxels.
    slope, inter : float
        Intensity is ``stored * slope + inter``.
    roi : VolumeRoi or ImageRoi
        As MedROI finds it.
    box : Box
        The ROI in voxels; an image lies at z = 0, its rows along y.
    read_time, box_time : float
        Seconds that reading and finding took.
    modality : str
        DICOM Modality, ``Unknown`` if absent.
    bits_stored : int
        DICOM Bits Stored, 0 if absent.
    """

    geometry: VolumeGeometry
    stored: NDArray[Any]
    slope: float
    inter: float
    roi: VolumeRoi | ImageRoi
    box: Box
    read_time: float
    box_time: float
    modality: str
    bits_stored: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y, z."""
        x, y, z = self.stored.shape
        return x, y, z

    @property
    def is_image(self) -> bool:
        """Whether it is a 2-D image."""
        return isinstance(self.roi, ImageRoi)

    @property
    def share(self) -> float:
        """Voxels of the box over those of the whole."""
        return self.box.count / self.stored.size

    def to_geom(self) -> Geom:
        """Return the geometry of a file that has this box as its ROI."""
        layout = Layout(
            roi=self.box,
            chunk_shape=(*self.box.shape[:2], 1, 1),
            slice_axis=2,
            background=Background.RESIDUE_EXACT,
            fill=bytes(self.geometry.itemsize),
        )
        return Geom.of(self.geometry, layout)

    def pixels(self) -> NDArray[np.float32]:
        """Return the intensities of an image, as (rows, columns)."""
        stored = self.stored[:, :, 0].T
        with np.errstate(over="ignore", invalid="ignore"):
            return stored.astype(np.float32) * np.float32(self.slope) + np.float32(self.inter)


def find_roi(source: VoxelSource, progress: Progress | None = None) -> FoundRoi:
    """Find MedROI's box of one volume, or of an image, which is a volume of one slice.

    Parameters
    ----------
    source : VoxelSource
        Read once.
    progress : callable, optional
        Called as ``progress(step, done, total)``.

    Raises
    ------
    SourceError
        If there is none, or the source is neither: it has more axes, or no real numbers.
    """
    g = source.geometry
    if math.prod(g.shape[3:]) != 1:
        raise SourceError(
            f"MedROI's tables hold 3-D volumes, not one of shape {g.shape}; `mroi pack --roi "
            "medroi` takes a box around those of all its volumes"
        )
    start = time.perf_counter()
    (intensities,) = _volumes(source, progress)
    read = time.perf_counter()
    roi, box = intensities.find()
    if roi is None or box is None:
        raise SourceError("MedROI finds no anatomy: no intensity stands out above its threshold")
    modality = getattr(source, "modality", None)
    return FoundRoi(
        geometry=g,
        stored=intensities.stored.T,
        slope=intensities.slope,
        inter=intensities.inter,
        roi=roi,
        box=box,
        read_time=read - start,
        box_time=time.perf_counter() - read,
        modality=modality or "Unknown",
        bits_stored=g.bits_stored if modality else 0,
    )


def find_box(source: VoxelSource, progress: Progress | None = None) -> Box:
    """Return the box around those that MedROI finds in all 3-D volumes of a source.

    Parameters
    ----------
    source : VoxelSource
        Read once; one volume is held in memory.
    progress : callable, optional
        Called as ``progress(step, done, total)``.

    Raises
    ------
    SourceError
        If there is none in any of them, or the source has no real numbers.
    """
    found: Box | None = None
    for intensities in _volumes(source, progress):
        _roi, box = intensities.find()
        if box is not None:
            found = box if found is None else found.union(box)
    if found is None:
        width, height, depth = source.geometry.shape[:3]
        raise SourceError(
            f"{source.name}: MedROI finds no anatomy (no intensity above its threshold) in "
            f"{width} x {height} x {depth} voxels; choose another ROI"
        )
    return found


@dataclass(frozen=True, eq=False)
class _Intensities:
    """Planes of one volume, (z, y, x[, samples]), and what makes intensities of them."""

    stored: NDArray[Any]
    slope: float
    inter: float

    def find(self) -> tuple[VolumeRoi | ImageRoi | None, Box | None]:
        """Return what MedROI finds, and its box in voxels; an image lies at z = 0."""
        if len(self.stored) > 1:
            volume = find_volume_roi(self.stored.T, self.slope, self.inter)
            return volume, volume.box
        image = find_image_roi(self.stored[0], self.slope, self.inter)
        if image is None:
            return None, None
        (y0, x0), (y1, x1) = image.rect.start, image.rect.stop
        return image, Box((x0, y0, 0), (x1, y1, 1))


def _volumes(source: VoxelSource, progress: Progress | None) -> Iterator[_Intensities]:
    """Yield the 3-D volumes of a source, rescaled if slices have factors of their own."""
    g = source.geometry
    depth = g.shape[2]
    rescale = None
    if source.rescale is not None:  # slope and inter of the geometry are then 1 and 0
        rescale = np.frombuffer(source.rescale, "<f8").reshape(-1, depth, 2, 1, 1)
    planes = source.planes(2)
    for volume in range(math.prod(g.shape[3:])):
        stack = []
        for k in range(depth):
            stack.append(next(planes))
            if progress:
                progress("reading", volume * depth + k + 1, depth * math.prod(g.shape[3:]))
        stored = np.stack(stack)
        if rescale is not None and stored.ndim == 3:
            stored = stored * rescale[volume, :, 0] + rescale[volume, :, 1]
        yield _Intensities(stored, g.slope, g.inter)
