"""Pack a source into a file: choose the box, the chunks and the background policy, then write."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from mroi.codecs import Codec, Fidelity, Pipeline
from mroi.errors import SourceError, UsageError
from mroi.format.geom import Background, Geom
from mroi.geometry import Box
from mroi.volume.chunks import codec_named
from mroi.volume.roi import TightBox
from mroi.volume.source import VoxelSource
from mroi.volume.write import VolumeWriter

__all__ = ["PackPlan", "PackResult", "Progress", "chunk_shape", "pack_source", "plan_pack"]

RoiMethod = Literal["auto", "full", "tight", "medroi"]
BackgroundChoice = Literal["exact", "drop"]
ChunkChoice = int | tuple[int, int, int] | None

Progress = Callable[[str, int, int], object]
"""Called as ``progress(step, done, total)`` with slices done, in the thread of the caller."""

_SAMPLED_SLICES = 4


@dataclass(frozen=True, eq=False)
class PackPlan:
    """What will be written, before it is.

    Attributes
    ----------
    geom : Geom
        Geometry, ROI, chunks and background policy.
    codec, background_codec : Pipeline
        For the ROI; for the background, if the policy stores it.
    roi : dict
        How the ROI was found, for the provenance.
    """

    geom: Geom
    codec: Pipeline
    background_codec: Pipeline | None
    roi: dict[str, object]


@dataclass(frozen=True, slots=True)
class PackResult:
    """What was written.

    Attributes
    ----------
    source_size, voxel_size, size : int
        Bytes of the source on disk, of its voxels, and of the file.
    provenance : dict
        As written, with what was lost.
    warnings : tuple of str
        What was odd in the source.
    """

    source_size: int
    voxel_size: int
    size: int
    provenance: dict[str, object]
    warnings: tuple[str, ...]


def plan_pack(
    source: VoxelSource,
    *,
    codec: str | Codec | Pipeline = "zstd",
    background_codec: str | Codec | Pipeline = "zstd:level=9",
    roi: RoiMethod | Box = "auto",
    slice_axis: int = 2,
    chunk: ChunkChoice = None,
    background: BackgroundChoice = "exact",
    progress: Progress | None = None,
) -> PackPlan:
    """Decide how `source` will be packed; reads it once unless `roi` is ``"full"``.

    Parameters
    ----------
    roi : Box or method
        ``"full"``: the whole volume. ``"tight"``: the smallest box with a constant outside.
        ``"auto"``: the tight box where a trial on a few slices shows that it saves bytes, else the
        whole volume. ``"medroi"``: the box of the MedROI paper. Or a box.
    slice_axis : int
        Axis 0, 1 or 2 across which slices are cut.
    chunk : int or tuple, optional
        Slices of a chunk, or its voxels along x, y, z; one slice (all planes, for codecs of
        volumes that say so) by default.
    background : {"exact", "drop"}
        What becomes of voxels outside the box: kept bit for bit, or replaced by zero.

    Raises
    ------
    SourceError
        If the box lies outside the volume, or the codec does not take this kind of voxel.
    """
    pipeline = codec_named(codec)
    behind = codec_named(background_codec)
    if slice_axis not in (0, 1, 2):
        raise UsageError(f"slice axis {slice_axis}: expected 0, 1 or 2")
    if background not in ("exact", "drop"):
        raise UsageError(f"background {background!r}: expected 'exact' or 'drop'")
    if background == "exact" and behind.fidelity is not Fidelity.LOSSLESS:
        raise UsageError("an exact background needs a lossless codec")
    g = source.geometry
    whole = Box.whole(g.shape)
    choice = _choose_box(source, pipeline, roi, slice_axis, chunk, progress)
    policy, fill = Background.FILL_VERIFIED, bytes(g.datatype.itemsize)
    if choice.box != whole:
        if choice.fill is not None:
            fill = choice.fill
        elif background == "drop":
            policy = Background.FILL_LOSSY
        else:
            policy = Background.RESIDUE_EXACT
    geom = Geom(
        ndim=g.ndim,
        shape=g.shape,
        datatype=g.datatype,
        bits_stored=g.bits_stored,
        roi=choice.box,
        chunk_shape=chunk_shape(chunk, choice.box, slice_axis, pipeline),
        slice_axis=slice_axis,
        background=policy,
        fill=fill,
        slope=g.slope,
        inter=g.inter,
        affine=g.affine,
        spacing=g.spacing,
        xform_code=g.xform_code,
        xyzt_units=g.xyzt_units,
        source_kind=g.kind,
        source_flags=g.flags,
    )
    stored = policy.is_stored
    return PackPlan(geom, pipeline, behind if stored else None, {"method": choice.method})


def pack_source(
    source: VoxelSource,
    sink: str | os.PathLike[str] | BinaryIO,
    plan: PackPlan,
    *,
    jobs: int | None = None,
    overwrite: bool = False,
    tool: str = "mroi",
    progress: Progress | None = None,
) -> PackResult:
    """Write `source` to `sink` as planned; see `VolumeWriter` for what holds of the sink."""
    geom = plan.geom
    writer = VolumeWriter(
        sink,
        geom,
        codec=plan.codec,
        background_codec=plan.background_codec,
        rescale=source.rescale,
        provenance={"tool": tool, "roi": plan.roi},
        jobs=jobs,
        overwrite=overwrite,
    )
    with writer:
        for done, plane in enumerate(source.planes(geom.slice_axis), start=1):
            writer.write_plane(plane)
            if progress:
                progress("packing", done, geom.slice_count)
        for frame in source.metadata():
            # A digest of the source says that it can be given back.
            if frame.type != b"dIGE" or writer.is_exact:
                writer.add_metadata(frame)
    return PackResult(
        source.stored_size, geom.size, writer.size, writer.provenance, tuple(source.warnings)
    )


# -- the box ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Choice:
    """A box, the element that all voxels outside have (None if they differ), and a name for it."""

    box: Box
    fill: bytes | None
    method: str


def _choose_box(
    source: VoxelSource,
    pipeline: Pipeline,
    roi: RoiMethod | Box,
    slice_axis: int,
    chunk: ChunkChoice,
    progress: Progress | None,
) -> _Choice:
    g = source.geometry
    whole = Box.whole(g.shape)
    match roi:
        case "full":
            return _Choice(whole, None, "full")
        case "auto" | "tight":
            tight = TightBox(g.shape, slice_axis)
            sampled = _scan(source, slice_axis, tight.update, progress)
            box, fill = tight.result()
            if roi == "auto" and (box == whole or not _pays(pipeline, source, sampled, box, slice_axis)):
                return _Choice(whole, None, "auto")
            return _Choice(box, fill, roi)
        case "medroi":
            return _with_fill(source, _medroi_box(source), "medroi", slice_axis, progress)
        case Box():
            if not whole.contains(roi):
                raise SourceError(f"box {roi} lies outside the volume of shape {g.shape[:3]}")
            return _with_fill(source, roi, "box", slice_axis, progress)
    raise UsageError(f"ROI {roi!r}: expected 'auto', 'full', 'tight', 'medroi' or a box")


def _medroi_box(source: VoxelSource) -> Box:
    """Return the box of the MedROI paper: of a 2-D image, or around those of all 3-D volumes."""
    from mroi.volume.medroi import find_image_roi, find_volume_roi

    g = source.geometry
    width, height, depth = g.shape[:3]
    planes = source.planes(2)
    found: Box | None = None
    for _ in range(int(np.prod(g.shape[3:], dtype=np.int64))):
        stack = np.stack([next(planes) for _ in range(depth)])
        box: Box | None = None
        if depth == 1:
            image = find_image_roi(stack[0], g.slope, g.inter)
            if image is not None:
                (y0, x0), (y1, x1) = image.rect.start, image.rect.stop
                box = Box((x0, y0, 0), (x1, y1, 1))
        else:
            box = find_volume_roi(stack.T, g.slope, g.inter).box
        if box is not None:
            found = box if found is None else found.union(box)
    if found is None:
        raise SourceError(
            f"{source.name}: MedROI finds no anatomy (no intensity above its threshold) in "
            f"{width} x {height} x {depth} voxels; choose another ROI"
        )
    return found


def _scan(
    source: VoxelSource,
    slice_axis: int,
    update: Callable[[int, NDArray[Any]], object],
    progress: Progress | None,
) -> list[tuple[int, NDArray[Any]]]:
    """Go through all planes once; return a few of them, evenly spread."""
    g = source.geometry
    extent = g.shape[slice_axis]
    total = extent * int(np.prod(g.shape[3:], dtype=np.int64))
    picked = {total * (2 * i + 1) // (2 * _SAMPLED_SLICES) for i in range(_SAMPLED_SLICES)}
    sampled = []
    for number, plane in enumerate(source.planes(slice_axis)):
        update(number % extent, plane)
        if number in picked:
            sampled.append((number % extent, plane))
        if progress:
            progress("finding the box", number + 1, total)
    return sampled


def _pays(
    pipeline: Pipeline,
    source: VoxelSource,
    sampled: Sequence[tuple[int, NDArray[Any]]],
    box: Box,
    slice_axis: int,
) -> bool:
    """Whether the sampled slices take no more bytes cropped than whole."""
    from mroi.codecs import ChunkSpec
    from mroi.volume.chunks import encode_chunk

    g = source.geometry
    fast, slow = (axis for axis in range(3) if axis != slice_axis)
    inside = (slice(box.start[slow], box.stop[slow]), slice(box.start[fast], box.stop[fast]))
    whole_size = cropped_size = 0
    for index, plane in sampled:
        spans = [plane]
        if box.start[slice_axis] <= index < box.stop[slice_axis]:
            spans.append(plane[inside])
        sizes = []
        for span in spans:
            part = np.ascontiguousarray(span[None])
            spec = ChunkSpec(part.shape, g.datatype.sample, g.bits_stored)
            if reason := pipeline.refuses(spec):
                raise SourceError(f"{reason} ({g.datatype.name})")
            sizes.append(len(encode_chunk(pipeline, part, spec, g.datatype.itemsize).payload))
        whole_size += sizes[0]
        cropped_size += sizes[1] if len(sizes) > 1 else 0
    return cropped_size <= whole_size


def _with_fill(
    source: VoxelSource,
    box: Box,
    method: str,
    slice_axis: int,
    progress: Progress | None,
) -> _Choice:
    """Find out whether all voxels outside a given box are one element, bit for bit."""
    g = source.geometry
    if box == Box.whole(g.shape):
        return _Choice(box, None, method)
    outside = _Outside(box, g.shape, slice_axis, g.datatype.itemsize)
    _scan(source, slice_axis, outside.update, progress)
    return _Choice(box, outside.element, method)


class _Outside:
    """The one element that all voxels outside a box have, if they do."""

    def __init__(self, box: Box, shape: Sequence[int], slice_axis: int, itemsize: int) -> None:
        fast, slow = (axis for axis in range(3) if axis != slice_axis)
        self._slices = range(box.start[slice_axis], box.stop[slice_axis])
        self._ring = np.ones((shape[slow], shape[fast]), dtype=np.bool_)
        self._ring[box.start[slow] : box.stop[slow], box.start[fast] : box.stop[fast]] = False
        self._itemsize = itemsize
        self._differ = False
        self.element: bytes | None = None

    def update(self, index: int, plane: NDArray[Any]) -> None:
        """Look at one plane."""
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


def chunk_shape(
    chunk: ChunkChoice, box: Box, slice_axis: int, pipeline: Pipeline
) -> tuple[int, int, int]:
    """Return the voxels of a chunk along x, y, z, at most those of the box."""
    limit = pipeline.codec.max_slices
    if isinstance(chunk, tuple):
        wanted = chunk
    else:
        thick = chunk or pipeline.codec.default_slices
        full = list(box.shape)
        full[slice_axis] = thick
        wanted = (full[0], full[1], full[2])
    if any(n < 1 for n in wanted):
        raise UsageError(f"chunks of {wanted} voxels")
    if limit is not None and wanted[slice_axis] > limit:
        raise UsageError(f"{pipeline.codec.name} takes chunks of {limit} slice, not {wanted[slice_axis]}")
    x, y, z = (min(n, extent) for n, extent in zip(wanted, box.shape, strict=True))
    return x, y, z
