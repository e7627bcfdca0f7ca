"""Volumes as layers of napari, read slice by slice: ``napari scan.mroi``.

napari finds the reader by the entry point ``napari.manifest`` and `napari.yaml`; nothing of it is
imported here. Source: the contribution guide for readers of npe2.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.adapters.labels import is_label_map
from mroi.container import name_of
from mroi.dask import dask_array
from mroi.text import units_of
from mroi.volume.model import Volume, open_volume

__all__ = ["LayerData", "get_reader", "layers_of"]

LayerData = tuple[Any, dict[str, Any], str]
"""Data, arguments and type of a layer, as napari takes them."""

_AXES = ("x", "y", "z", "t", "u", "v", "w")


def get_reader(
    path: str | os.PathLike[str] | Sequence[str],
) -> Callable[[Any], list[LayerData]] | None:
    """Return what reads a file, or files, for napari; None if one is no ``.mroi`` file.

    Parameters
    ----------
    path : path or sequence of path
        Where they are; URLs work, too.
    """
    paths = _paths(path)
    if not paths or not all(PurePath(name_of(one)).suffix.lower() == ".mroi" for one in paths):
        return None
    return _read


def _read(path: str | os.PathLike[str] | Sequence[str]) -> list[LayerData]:
    return [layer for one in _paths(path) for layer in layers_of(one)]


def _paths(path: str | os.PathLike[str] | Sequence[str]) -> list[str]:
    return [os.fspath(path)] if isinstance(path, str | os.PathLike) else list(map(str, path))


def layers_of(source: str | os.PathLike[str] | Volume) -> list[LayerData]:
    """Return a volume as the layer that napari shows, of which nothing but the overview is read.

    Its axes are those of the volume reversed (t, z, y, x), its values Dask arrays in real units;
    colours and magnitudes of complex values are what napari shows of these. The overview of a file
    is a second resolution. World coordinates are mm to the right, to the front and up, by ``scale``
    and ``translate`` where the axes run so, else by ``affine``. Maps of labels, by
    `mroi.adapters.labels.is_label_map`, are a layer of labels.

    Parameters
    ----------
    source : path, URL or Volume
        The file; or a volume, to say more of it: ``volume.cropped``.

    Returns
    -------
    list of (data, arguments, type)
        One layer.

    Raises
    ------
    MroiError
        If the file is damaged.
    ModuleNotFoundError
        If Dask is not installed: it is in the extra ``xarray``.
    """
    volume = source if isinstance(source, Volume) else open_volume(source, jobs=1)
    labels = is_label_map(volume)
    levels = [_shown(dask_array(volume.unscaled if labels else volume))]
    overview = volume.overview
    is_whole = volume.box == volume.full.box and volume.geom.grid.volumes == 1
    if overview is not None and is_whole:
        import dask.array as da

        from_array: Any = da.from_array
        levels.append(_shown(from_array(overview.array)))
    is_colour = bool(volume.geom.datatype.sample_shape)
    arguments: dict[str, Any] = {
        "name": PurePath(name_of(volume.reader.source.name)).stem,
        "axis_labels": _AXES[: volume.ndim][::-1],
        "units": _units(volume),
        "metadata": {"mroi": {"affine": volume.affine, "roi": str(volume.roi)}},
        **_placement(volume),
    }
    if len(levels) > 1:
        arguments["multiscale"] = True
    if labels:
        return [(levels if len(levels) > 1 else levels[0], arguments, "labels")]
    arguments["rgb"] = is_colour
    return [(levels if len(levels) > 1 else levels[0], arguments, "image")]


def _shown(array: Any) -> Any:
    """Return a Dask array with the axes, and of a type, that napari takes."""
    dtype = array.dtype
    if dtype.names:
        samples = len(dtype.names)
        array = array.map_blocks(
            lambda block: np.ascontiguousarray(block)[..., np.newaxis].view("u1"),
            dtype="u1",
            chunks=(*array.chunks, (samples,)),
            new_axis=array.ndim,
            meta=np.empty((0,) * (array.ndim + 1), "u1"),
        )
        return array.transpose(*range(array.ndim - 1)[::-1], array.ndim - 1)
    return (abs(array) if dtype.kind == "c" else array).transpose()


def _units(volume: Volume) -> tuple[str, ...]:
    """Return the unit of each axis, mm where none is known."""
    space, time = units_of(volume.geom.xyzt_units)
    times = {"s": "second", "ms": "millisecond", "us": "microsecond"}
    beyond = [times.get(time or "", "pixel"), "pixel", "pixel", "pixel"]
    return (*[space or "mm"] * 3, *beyond)[: volume.ndim][::-1]


def _placement(volume: Volume) -> dict[str, Any]:
    """Return the arguments that put voxels where the affine says, axes reversed."""
    count = volume.ndim
    full = np.eye(max(count, 3) + 1)
    full[:3, :3] = volume.affine[:3, :3]
    full[:3, -1] = volume.affine[:3, 3]
    for axis, step in enumerate(volume.spacing[3:], 3):
        full[axis, axis] = step or 1.0
    keep = [*range(count), len(full) - 1]
    matrix: NDArray[np.float64] = full[np.ix_(keep, keep)]
    order = [*range(count)[::-1], count]
    matrix = matrix[np.ix_(order, order)]
    steps = np.diag(matrix)[:-1]
    if np.array_equal(matrix[:-1, :-1], np.diag(steps)) and (steps > 0).all():
        return {"scale": steps.tolist(), "translate": matrix[:-1, -1].tolist()}
    return {"affine": matrix}
