"""Start a file from what a program knows of its volume, to be written slice by slice."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, BinaryIO

from numpy.typing import ArrayLike, DTypeLike

from mroi.codecs import Codec, Pipeline
from mroi.errors import SourceError
from mroi.format.geom import Background, Geom, Layout
from mroi.geometry import Box
from mroi.packing.choose import fit_unseen, untried_codec
from mroi.packing.pack import BackgroundChoice, check_choices
from mroi.volume.chunks import codec_named
from mroi.volume.layout import ChunkChoice, Cut, Purpose
from mroi.volume.source import array_geometry, as_datatype
from mroi.volume.write import VolumeWriter

__all__ = ["create_volume"]


def create_volume(
    target: str | os.PathLike[str] | BinaryIO,
    shape: Sequence[int],
    dtype: DTypeLike,
    *,
    affine: ArrayLike | None = None,
    spacing: Sequence[float] | None = None,
    slope: float = 1.0,
    inter: float = 0.0,
    purpose: Purpose = "slices",
    codec: str | Codec | Pipeline | None = None,
    background_codec: str | Codec | Pipeline = "zstd:level=9",
    roi: Box | None = None,
    fill: Any = None,
    background: BackgroundChoice = "exact",
    slice_axis: int = 2,
    chunk: ChunkChoice = None,
    jobs: int | None = None,
    overwrite: bool = False,
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
    affine : (4, 4) array_like, optional
        Voxel index to position in mm, RAS+; the identity by default.
    spacing : sequence of float, optional
        Distance of neighbours along each axis; that of the affine by default, 0 beyond.
    slope, inter : float
        A stored value v means ``slope * v + inter``.
    roi : Box, optional
        Region of interest; the whole volume by default.
    fill : scalar, or sequence of samples for RGB, optional
        What all voxels outside the box are. A slice in which one differs is refused.
    background : {"exact", "drop"}
        Without `fill`: keep the voxels outside the box bit for bit, or replace them by zero.
    purpose : {"slices", "patches", "planes", "series", "archive"}
        What the file is for: chooses chunks and codec, unless they are given; see
        `mroi.volume.layout.Purpose`.
    codec : str, Codec or Pipeline, optional
        By default ``"zstd"`` for slices and planes. For other purposes ``"calv"`` where it takes
        the type, for an archive at its level ``small``. A name gets the exact filters that its
        codec needs for this type.
    slice_axis, chunk
        See `mroi.packing.pack.plan_pack`. Small slices are not put together here, so that each is
        written when it comes; where chunks span volumes, all slices of these are held.

    Returns
    -------
    VolumeWriter
        Use it in a ``with`` block and call `VolumeWriter.write` with each slice, in order along
        `slice_axis`, for each volume of 4-D data in turn.

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
    sides = tuple(int(n) for n in shape)
    if not 1 <= len(sides) <= 7 or not all(n > 0 for n in sides):
        raise SourceError(f"shape {sides}: expected 1 to 7 positive extents")
    datatype = as_datatype(dtype)
    volume = array_geometry(sides, datatype, affine, spacing=spacing, slope=slope, inter=inter)
    full = volume.shape
    behind = codec_named(background_codec)
    check_choices(purpose, chunk, slice_axis, background, behind)
    chosen = untried_codec(purpose, datatype) if codec is None else codec
    pipeline = fit_unseen(chosen, datatype, full)
    box = roi if roi is not None else Box.whole(full)
    if not Box.whole(full).contains(box):
        raise SourceError(f"box {box} lies outside the volume of shape {sides}")
    if chunk is None and purpose == "slices":
        # A slice that was pushed shall not wait for the next ones, as it would in a thicker chunk.
        chunk = pipeline.codec.default_slices
    cut = Cut(purpose, chunk, slice_axis)
    element = bytes(datatype.itemsize)
    policy = Background.RESIDUE_EXACT
    if box == Box.whole(full):
        policy = Background.FILL_VERIFIED
    elif fill is not None:
        policy = Background.FILL_VERIFIED
        element = datatype.element_bytes(fill)
    elif background == "drop":
        policy = Background.FILL_LOSSY
    layout = Layout(
        roi=box,
        chunk_shape=cut.shape(cut.extents(box, full, datatype.itemsize), pipeline.codec),
        slice_axis=slice_axis,
        background=policy,
        fill=element,
    )
    return VolumeWriter(
        target,
        Geom.of(volume, layout),
        codec=pipeline,
        background_codec=behind if policy.is_stored else None,
        jobs=jobs,
        overwrite=overwrite,
    )
