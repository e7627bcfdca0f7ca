"""Start a file from what a program knows of its volume, to be written slice by slice."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, BinaryIO, Unpack

from numpy.typing import ArrayLike, DTypeLike

from mroi.errors import SourceError, UsageError
from mroi.geometry import Box
from mroi.packing.options import PackOptions, Wishes, options_with
from mroi.packing.plan import decide
from mroi.packing.survey import Survey
from mroi.packing.write import say_notice
from mroi.volume.source import array_geometry, as_datatype
from mroi.volume.write import VolumeWriter

__all__ = ["create_volume"]


def create_volume(
    target: str | os.PathLike[str] | BinaryIO,
    shape: Sequence[int],
    dtype: DTypeLike,
    options: PackOptions | None = None,
    *,
    affine: ArrayLike | None = None,
    spacing: Sequence[float] | None = None,
    slope: float = 1.0,
    inter: float = 0.0,
    fill: Any = None,
    jobs: int | None = None,
    overwrite: bool = False,
    **wishes: Unpack[Wishes],
) -> VolumeWriter:
    """Start a file and return what takes its slices.

    Parameters
    ----------
    target : path or binary file
        A path appears, whole, when the writer is left without an error. A file object that cannot
        seek (a pipe) is written from front to end.
    shape : sequence of int
        1 to 7 extents, x first.
    dtype : dtype
        Of the stored values; slices are not converted to it.
    options : PackOptions, optional
        What is wished for; nothing by default. What only a look at the voxels could tell is
        refused (`quality`, `quality_mask`, `overview`, a ROI that is to be found) or chosen
        without it: the ROI ``"auto"`` is the whole volume, and the codec ``"auto"`` the first of
        its mode that takes all values of the type; for slices, one that writes each when it comes.
    affine : (4, 4) array_like, optional
        Voxel index to position in mm, RAS+; the identity by default.
    spacing : sequence of float, optional
        Distance of neighbours along each axis; that of the affine by default, 0 beyond.
    slope, inter : float
        A stored value v means ``slope * v + inter``.
    fill : scalar, or sequence of samples for RGB, optional
        What all voxels outside the ROI are. A slice in which one differs is refused. Without it,
        they are stored, or dropped if `background` is so.
    jobs : int, optional
        Threads that encode; the processors by default.
    overwrite : bool
        Whether an existing file is replaced; otherwise `FileExistsError` is raised.
    **wishes
        Fields of `PackOptions`, in place of those of `options`.

    Returns
    -------
    VolumeWriter
        Use it in a ``with`` block and call `VolumeWriter.write` with each slice, in order along
        the slice axis, for each volume of 4-D data in turn. Where chunks have several slices, or
        span volumes, all slices of these are held.

    Raises
    ------
    SourceError
        If there can be no such volume, or the codec does not take all values of its type.
    UsageError
        If a wish makes no sense, or only a look at the voxels could tell.

    Examples
    --------
    >>> import io
    >>> import mroi
    >>> import numpy as np
    >>> file = io.BytesIO()
    >>> with mroi.create(file, (4, 3, 2), "int16") as writer:
    ...     for k in range(2):
    ...         writer.write(np.full((4, 3), k, dtype=np.int16))
    >>> mroi.open(file).slice(1).max()
    np.int16(1)
    """
    options = options_with(options, wishes)
    if options.quality is not None or options.quality_mask is not None:
        raise UsageError("a quality is found by trial on all voxels: use mroi.pack")
    if options.roi in ("tight", "medroi"):
        raise UsageError(f"the ROI {options.roi!r} is found in the voxels: give a box")
    sides = tuple(int(n) for n in shape)
    if not 1 <= len(sides) <= 7 or not all(n > 0 for n in sides):
        raise SourceError(f"shape {sides}: expected 1 to 7 positive extents")
    datatype = as_datatype(dtype)
    volume = array_geometry(sides, datatype, affine, spacing=spacing, slope=slope, inter=inter)
    survey = Survey(
        volume=volume,
        box=options.roi if isinstance(options.roi, Box) else Box.whole(volume.shape),
        fill=None if fill is None else datatype.element_bytes(fill),
        is_seen=False,
    )
    plan = decide(survey, options)
    say_notice(plan.pipeline)
    return VolumeWriter(
        target,
        plan.geom,
        pipeline=plan.pipeline,
        background_pipeline=plan.background_pipeline,
        jobs=jobs,
        overwrite=overwrite,
    )
