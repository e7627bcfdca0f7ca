"""Volumes as images of SimpleITK and back: axes x, y, z in mm to the left, to the back and up.

Source: the manual of SimpleITK 2, "Fundamental concepts": origin, spacing and direction are in LPS;
arrays have the axes in reverse.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mroi.errors import SourceError, UsageError
from mroi.geometry import Box, crop_affine
from mroi.volume.model import Volume, open_volume
from mroi.volume.source import ArraySource, VoxelSource

if TYPE_CHECKING:
    from SimpleITK import Image

__all__ = ["from_sitk", "to_sitk"]

_LPS = np.diag([-1.0, -1.0, 1.0])
_COLOURS = {3: "RGB", 4: "RGBA"}


def to_sitk(source: str | os.PathLike[str] | Volume, region: Box | None = None) -> Image:
    """Return a volume, or a part of it, as an image of SimpleITK.

    Parameters
    ----------
    source : path, URL or Volume
        The file.
    region : Box, optional
        What to read of its x, y and z; ``volume.roi``, say. By default all.

    Returns
    -------
    SimpleITK.Image
        Of 3 axes, or 4, in real units; RGB and RGBA are vectors.

    Raises
    ------
    UsageError
        If the volume has more than four axes, or SimpleITK has no type for its voxels, or no
        direction for its affine.
    IndexError
        If the region lies outside the volume.
    MroiError
        If the file is damaged.
    """
    import SimpleITK

    volume = source if isinstance(source, Volume) else open_volume(source)
    if volume.ndim > 4:
        raise UsageError(f"SimpleITK takes at most 4 axes; the volume has {volume.ndim}")
    full = Box.whole((*volume.shape, 1, 1)[:3])
    box = full if region is None else region
    if not full.contains(box):
        raise IndexError(f"region {box} lies outside the volume of shape {volume.shape}")
    array = volume[box.slices[: volume.ndim]].reshape(*box.shape, *volume.shape[3:])
    samples = array.dtype.names
    if samples:
        array = volume.geom.datatype.to_samples(array)
    axes = array.ndim - bool(samples)
    array = array.transpose(*range(axes)[::-1], *range(axes, array.ndim))
    try:
        image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array), isVector=bool(samples))
    except (KeyError, TypeError, RuntimeError) as exc:
        raise UsageError(f"SimpleITK has no type for voxels of {volume.dtype}") from exc
    _set_place(image, crop_affine(volume.affine, box.start), volume.spacing[3:])
    return image


def _set_place(image: Image, affine: NDArray[np.float64], beyond: tuple[float, ...]) -> None:
    """Give an image the place of an affine, and the spacing of a fourth axis."""
    steps = _LPS @ affine[:3, :3]
    spacing = np.linalg.norm(steps, axis=0)
    count = image.GetDimension()
    direction = np.eye(count)
    try:
        with np.errstate(divide="raise", invalid="raise"):
            direction[:3, :3] = steps / spacing
        image.SetDirection(direction.ravel().tolist())
    except (FloatingPointError, RuntimeError) as exc:
        raise UsageError("the affine has no direction: its axes lie in one plane") from exc
    image.SetSpacing([*spacing.tolist(), *(step or 1.0 for step in beyond)][:count])
    image.SetOrigin([*(_LPS @ affine[:3, 3]).tolist(), 0.0][:count])


def from_sitk(image: Image) -> VoxelSource:
    """Return an image of SimpleITK as `mroi.pack` takes it: ``mroi.pack(from_sitk(image), path)``.

    Parameters
    ----------
    image : SimpleITK.Image
        Of 2 to 4 axes. Vectors of 3 or 4 bytes are RGB and RGBA.

    Raises
    ------
    SourceError
        If its voxels cannot be packed.
    """
    import SimpleITK

    if image.GetPixelIDTypeAsString().startswith("label"):  # the next line would end the process
        raise SourceError("label maps have no voxels: SimpleITK.LabelMapToLabel(image) makes some")
    array = SimpleITK.GetArrayFromImage(image)
    samples = image.GetNumberOfComponentsPerPixel()
    if samples > 1:
        if samples not in _COLOURS or array.dtype != np.uint8:
            raise SourceError(
                f"vectors of {samples} x {array.dtype} cannot be packed; RGB and RGBA of bytes can"
            )
        colour = np.dtype([(name, "u1") for name in _COLOURS[samples]])
        array = np.ascontiguousarray(array).view(colour)[..., 0]
    axes = array.ndim
    spatial = min(axes, 3)
    steps = np.eye(3)
    direction = np.reshape(image.GetDirection(), (axes, axes))
    steps[:spatial, :spatial] = (direction * image.GetSpacing())[:spatial, :spatial]
    affine = np.eye(4)
    affine[:3, :3] = _LPS @ steps
    affine[:spatial, 3] = _LPS[:spatial, :spatial] @ image.GetOrigin()[:spatial]
    source = ArraySource(array.transpose(), affine)
    spacing = (*source.geometry.spacing[:3], *image.GetSpacing()[3:])
    source.geometry = replace(source.geometry, spacing=spacing)
    return source
