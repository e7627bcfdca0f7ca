"""The reader of MONAI for ``.mroi`` files: `LoadImage` finds it once this module is imported.

MONAI chooses a reader by the ending of a file, among those that it knows; importing this tells it.
``LoadImage(reader=MroiReader(cropped=True))`` says more.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.data.image_reader import ImageReader
from monai.transforms.io.array import SUPPORTED_READERS
from monai.utils.enums import MetaKeys, SpaceKeys
from numpy.typing import NDArray
from typing_extensions import override

from mroi.errors import UsageError
from mroi.volume.model import Volume, open_volume

__all__ = ["MroiReader"]


class MroiReader(ImageReader):
    """Reads files for `monai.transforms.LoadImage`.

    An array has the axes x, y, z and those beyond as in the file, in real units; samples of RGB
    come last. Metadata: ``affine`` and ``original_affine`` (RAS+), ``spatial_shape``, ``space``,
    ``original_channel_dim``, and ``roi`` (first voxel and the one after the last, of the array).

    Parameters
    ----------
    cropped : bool
        Whether to read the ROI alone.
    jobs : int, optional
        Threads that decode; one by default, as loaders have workers.
    """

    def __init__(self, *, cropped: bool = False, jobs: int | None = 1) -> None:
        super().__init__()
        self._cropped = cropped
        self._jobs = jobs

    @override
    def verify_suffix(
        self, filename: Sequence[str | os.PathLike[str]] | str | os.PathLike[str]
    ) -> bool:
        """Whether the names of all files end in ``.mroi``."""
        return all(name.lower().endswith(".mroi") for name in _names(filename))

    @override
    def read(
        self, data: Sequence[str | os.PathLike[str]] | str | os.PathLike[str], **kwargs: Any
    ) -> Volume | list[Volume]:
        """Open a file, or several that become channels.

        Parameters
        ----------
        data : path, URL or sequence of them
            The files.
        **kwargs
            Those of `mroi.open`, such as ``missing="fill"``.

        Raises
        ------
        FormatError
            If one is no whole, undamaged file.
        """
        options = {"jobs": self._jobs, **kwargs}
        volumes = [open_volume(name, **options) for name in _names(data)]
        if self._cropped:
            volumes = [volume.cropped for volume in volumes]
        return volumes if len(volumes) > 1 else volumes[0]

    @override
    def get_data(self, img: Volume | Sequence[Volume]) -> tuple[NDArray[Any], dict[str, Any]]:
        """Return the voxels of a volume, and what is known of them.

        Those of several are stacked along a new first axis or, if they have a fourth, along that.

        Raises
        ------
        UsageError
            If several volumes differ in shape or affine.
        MroiError
            If a file is damaged.
        """
        volumes = [img] if isinstance(img, Volume) else list(img)
        first = volumes[0]
        for other in volumes[1:]:
            if other.shape[:3] != first.shape[:3] or not np.allclose(other.affine, first.affine):
                raise UsageError(
                    f"{other.reader.source.name} and {first.reader.source.name} differ in shape "
                    "or affine: they cannot be channels of one image"
                )
        arrays = [_voxels(volume) for volume in volumes]
        has_channels = arrays[0].ndim > min(first.ndim, 3)
        channel: float = -1 if has_channels else float("nan")
        if len(arrays) > 1:
            array = np.concatenate(arrays, -1) if has_channels else np.stack(arrays)
            channel = -1 if has_channels else 0
        else:
            array = arrays[0]
        for volume in volumes:
            volume.close()
        spatial = first.shape[:3]
        inside = np.zeros(3, int) if self._cropped else np.array(first.roi.start)
        return array, {
            MetaKeys.AFFINE: first.affine.copy(),
            MetaKeys.ORIGINAL_AFFINE: first.affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.array(spatial),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: channel,
            "roi": np.stack([inside, inside + first.roi.shape]),
        }


def _names(files: Sequence[str | os.PathLike[str]] | str | os.PathLike[str]) -> list[str]:
    if isinstance(files, str | os.PathLike):
        return [os.fspath(files)]
    return [os.fspath(name) for name in files]


def _voxels(volume: Volume) -> NDArray[Any]:
    """Return all voxels; samples of RGB and RGBA as a last axis."""
    array = volume[...]
    return volume.geom.datatype.to_samples(array) if array.dtype.names else array


SUPPORTED_READERS.setdefault("mroireader", MroiReader)
