"""Volumes as Dask arrays: a block for each chunk of the file, read when a worker comes to it."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from mroi.container import Source
from mroi.volume.model import Volume, open_volume

if TYPE_CHECKING:
    from dask.array import Array

__all__ = ["block_sizes", "dask_array"]


def dask_array(source: str | os.PathLike[str] | bytes | BinaryIO | Source | Volume) -> Array:
    """Return a volume as a Dask array, of which nothing is read yet.

    The array has a block for each chunk of the file, those at the edges of the ROI with the voxels
    outside it. The names of its tasks follow from file and view alone, so that they are the same in
    every process. Blocks are read by the threads or processes of Dask; a file that is opened here
    decodes with one thread in each of them.

    Parameters
    ----------
    source : path, URL, bytes, binary file, Source or Volume
        The file; or a volume, to say more of it: ``volume.cropped``, ``volume.unscaled``. A volume
        or a file object that is sent to other processes must be one that can be pickled.

    Returns
    -------
    dask.array.Array
        Axes and type of the volume: x first, values in real units.

    Raises
    ------
    FormatError
        If the bytes are no whole, undamaged file.
    ModuleNotFoundError
        If Dask is not installed: it is in the extra ``xarray``.
    """
    import dask.array as da

    volume = source if isinstance(source, Volume) else open_volume(source, jobs=1)
    from_array: Any = da.from_array
    array: Array = from_array(
        volume,
        chunks=block_sizes(volume),
        asarray=True,
        fancy=False,  # volumes take integers and slices
        lock=False,
        meta=np.empty((0,) * volume.ndim, volume.dtype),
    )
    return array


def block_sizes(volume: Volume) -> tuple[tuple[int, ...], ...]:
    """Return the voxels of each block along each axis of a volume, as Dask writes chunks.

    Blocks end where chunks of the ROI do; the first and the last along an axis go on to its ends.
    """
    geom = volume.geom
    is_cropped = volume.box == geom.roi
    sizes = []
    for axis, extent in enumerate(volume.shape):
        chunk, first, stop = 1, 0, extent
        if axis < 4:
            chunk = geom.chunk_shape[axis]
        if axis < 3:
            first = 0 if is_cropped else geom.roi.start[axis]
            stop = first + geom.roi.shape[axis]
        edges = [0, *range(first + chunk, stop, chunk), extent]
        sizes.append(tuple(b - a for a, b in pairwise(edges)))
    return tuple(sizes)
