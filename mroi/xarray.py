"""The engine ``mroi`` of xarray: ``xarray.open_dataset("scan.mroi")``, with coordinates in mm.

xarray finds it by the entry point ``xarray.backends``; nothing has to be imported. Source: "How to
add a new backend" of the manual of xarray.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override
from xarray import Dataset, Variable
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from mroi.dask import block_sizes
from mroi.geometry import axis_codes
from mroi.volume.model import Volume, open_volume
from mroi.volume.read import Missing

__all__ = ["MroiBackend", "dataset_of"]

_WORLD = ("x", "y", "z")  # mm to the right, to the front, up
_INDICES = ("i", "j", "k")  # of a volume that lies askew in them
_BEYOND = ("t", "u", "v", "w")  # as NIfTI calls them
_WAYS = ("left to right", "posterior to anterior", "inferior to superior")
_TIMES = {8: "s", 16: "ms", 24: "us", 32: "Hz", 40: "ppm", 48: "rad/s"}  # NIfTI, xyzt_units


class MroiBackend(BackendEntrypoint):
    """Opens files for `xarray.open_dataset`."""

    description: ClassVar[str] = "Open medical volumes (.mroi)"
    open_dataset_parameters: ClassVar[tuple[str, ...] | None] = (
        "filename_or_obj",
        "drop_variables",
        "cropped",
        "missing",
    )

    @override
    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        cropped: bool = False,
        missing: Missing = "error",
    ) -> Dataset:
        """Return a volume as the variable ``volume`` of a dataset; see `dataset_of`.

        Parameters
        ----------
        filename_or_obj : path, URL, bytes or binary file
            The file.
        drop_variables : str or iterable of str, optional
            What to leave out.
        cropped : bool
            Whether to take the ROI alone.
        missing : {"error", "fill"}
            Whether voxels that are not in the file are an error, or are given the fill value.

        Raises
        ------
        FormatError
            If it is no whole, undamaged file.
        """
        volume = open_volume(filename_or_obj, missing=missing)
        dataset = dataset_of(volume.cropped if cropped else volume)
        dataset.set_close(volume.reader.close)
        dropped = [drop_variables] if isinstance(drop_variables, str) else drop_variables or ()
        return dataset.drop_vars(dropped, errors="ignore")

    @override
    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether the name of a file, or its URL, ends in ``.mroi``."""
        is_name = isinstance(filename_or_obj, str | os.PathLike)
        return is_name and os.fspath(filename_or_obj).lower().endswith(".mroi")


class _LazyVolume(BackendArray):
    """What xarray indexes; it pickles as the volume does."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume
        self.shape = volume.shape
        self.dtype = volume.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self.volume.__getitem__
        )


def dataset_of(volume: Volume) -> Dataset:
    """Return a volume, or a part of one such as ``volume.cropped``, as a dataset.

    Parameters
    ----------
    volume : Volume
        It is read when the dataset is.

    Returns
    -------
    xarray.Dataset
        One variable, ``volume``, in real units, with the axes of the volume. Those that run along
        an axis of the patient are called ``x``, ``y`` and ``z`` and have coordinates: mm to the
        right, to the front and up. If one lies askew all three are called ``i``, ``j`` and ``k``,
        and have none. The axes beyond are ``t``, ``u``, ``v`` and ``w``; ``t`` has coordinates if
        its spacing is known. Attributes: ``affine`` (its 16 numbers row by row), ``orientation``,
        ``roi``, and ``spacing`` in the units of the source.
    """
    names = (*(_world_axes(volume) or _INDICES), *_BEYOND)[: volume.ndim]
    attributes = {
        "affine": volume.affine.ravel().tolist(),
        "orientation": axis_codes(volume.affine),
        "roi": str(volume.roi),
        "spacing": list(volume.spacing),
    }
    variable = Variable(names, indexing.LazilyIndexedArray(_LazyVolume(volume)), attributes)
    variable.encoding["preferred_chunks"] = dict(zip(names, block_sizes(volume), strict=True))
    coordinates = {found.dims[0]: found for found in _coordinates(volume, names)}
    return Dataset({"volume": variable}, coordinates)


def _world_axes(volume: Volume) -> list[str] | None:
    """Return the axis of the patient that x, y and z each run along, None if one lies askew."""
    steps = volume.affine[:3, :3]
    is_along: NDArray[np.bool_] = np.abs(steps) > 1e-6 * np.abs(steps).max()
    if not (is_along.sum(0) == 1).all() or not (is_along.sum(1) == 1).all():
        return None
    return [_WORLD[int(row)] for row in is_along.argmax(0)]


def _coordinates(volume: Volume, names: tuple[str, ...]) -> Iterator[Variable]:
    """Yield the coordinates of the axes that have some."""
    for axis, (name, extent) in enumerate(zip(names, volume.shape, strict=True)):
        steps = np.arange(extent)
        if name in _WORLD:
            row = _WORLD.index(name)
            values = volume.affine[row, axis] * steps + volume.affine[row, 3]
            yield Variable((name,), values, {"units": "mm", "long_name": _WAYS[row]})
        elif name == "t" and volume.spacing[3] > 0:
            unit = _TIMES.get(volume.geom.xyzt_units & 0x38)
            attributes = {} if unit is None else {"units": unit}
            yield Variable((name,), volume.spacing[3] * steps, attributes)
