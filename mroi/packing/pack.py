"""Pack a source into a file: choose the box, the chunks and the background policy, then write."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal, cast

import numpy as np

from mroi._version import __version__
from mroi.codecs import Codec, Fidelity, Pipeline, Values
from mroi.errors import SourceError, UsageError
from mroi.format.geom import Background, Geom, Layout, VolumeGeometry
from mroi.format.records import FrameType
from mroi.geometry import Box
from mroi.packing.choose import Trials, auto_mode, fit_codec, is_auto
from mroi.packing.quality import CountingSink, Target, find_setting
from mroi.packing.survey import Survey, survey_source
from mroi.volume.chunks import Loss, codec_named
from mroi.volume.layout import (
    ChunkChoice,
    ChunkShape,
    Cut,
    Purpose,
    check_chunk,
    check_purpose,
)
from mroi.volume.overview import Factor, OverviewPlan, check_factor, make_overview
from mroi.volume.progress import Progress
from mroi.volume.source import VoxelSource
from mroi.volume.write import VolumeWriter

__all__ = [
    "BackgroundChoice",
    "PackPlan",
    "PackResult",
    "RoiMethod",
    "check_choices",
    "pack_source",
    "plan_pack",
]

RoiMethod = Literal["auto", "full", "tight", "medroi"]
BackgroundChoice = Literal["exact", "drop"]


@dataclass(frozen=True, eq=False)
class PackPlan:
    """What will be written, before it is.

    Attributes
    ----------
    geom : Geom
        Geometry, ROI, chunks and background policy.
    codec, background_codec : Pipeline
        For the ROI; for the background, if the policy stores it.
    provenance : dict
        How ROI and codec were chosen.
    overview : OverviewPlan, optional
        The volume at a reduced resolution, written before the chunks.
    """

    geom: Geom
    codec: Pipeline
    background_codec: Pipeline | None
    provenance: dict[str, object]
    overview: OverviewPlan | None = None


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
    purpose: Purpose = "slices",
    codec: str | Codec | Pipeline = "auto",
    background_codec: str | Codec | Pipeline = "zstd:level=9",
    roi: RoiMethod | Box = "auto",
    slice_axis: int = 2,
    chunk: ChunkChoice = None,
    background: BackgroundChoice = "exact",
    target: Target | None = None,
    overview: int | Factor | None = None,
    progress: Progress | None = None,
) -> PackPlan:
    """Decide how `source` will be packed; reads it once, unless all is given.

    Parameters
    ----------
    purpose : {"slices", "patches", "planes", "series", "archive"}
        What the file is for, `mroi.volume.layout.Purpose`: chooses chunks and codec, unless they
        are given.
    codec : str, Codec or Pipeline
        Name and settings, or ``"auto:fast"``, ``"auto:fastest"`` or ``"auto:small"``: by trial on
        the data, among `mroi.packing.choose.AUTO_MODES`; ``"auto"`` is the mode that serves the
        purpose. A name gets the exact filters that its codec needs for this kind of voxel.
    roi : Box or method
        ``"full"``: the whole volume. ``"tight"``: the smallest box with a constant outside.
        ``"auto"``: the tight box where a trial on a few slices shows that it saves bytes, else the
        whole volume. ``"medroi"``: the box of the MedROI paper. Or a box.
    slice_axis : int
        Axis 0, 1 or 2 across which slices are cut.
    chunk : int or sequence of int, optional
        Slices of a chunk, or its voxels along x, y, z, or along x, y, z and axis 3; 0 for a whole
        axis. A writer holds as many volumes of the ROI as a chunk spans. By default
        `mroi.volume.layout.default_shape` says.
    background : {"exact", "drop"}
        What becomes of voxels outside the box: kept bit for bit, or replaced by zero.
    target : Target, optional
        An error, a quality or a size to reach with a lossy `codec`, which is then the name alone.
    overview : int or tuple of 3 int, optional
        Write the first 3-D volume at a resolution reduced by this factor (2, 4, 8 or 16, along all
        axes or along x, y, z), too: viewers show it at once. The source is read once more for it.
        0 for none; by default 4 for the purpose ``"planes"``, which is that of viewers, else none.

    Raises
    ------
    SourceError
        If the box lies outside the volume, or the codec does not take this kind of voxel.
    UsageError
        If a choice is none, or the codec does not take chunks of this shape.
    """
    behind = codec_named(background_codec)
    check_choices(purpose, chunk, slice_axis, background, behind)
    factor = _overview_factor(overview, purpose, source)
    if target is not None and not isinstance(codec, str):
        raise UsageError("a target chooses the settings of a codec: give its name alone")
    g = source.geometry
    cut = Cut(purpose, chunk, slice_axis)
    box = _given_box(source, roi)
    pipeline = None if target or is_auto(codec) else fit_codec(codec, g, None)
    tries_spans = target is None and cut.is_free(g.shape)
    survey = Survey(Box.whole(g.shape), None)
    if box != survey.box or pipeline is None or tries_spans:
        survey = survey_source(
            source,
            slice_axis,
            box=box,
            want_values=pipeline is None,
            want_samples=pipeline is None or roi == "auto" or tries_spans,
            progress=progress,
        )
    provenance: dict[str, object] = {"roi": {"method": roi if isinstance(roi, str) else "box"}}
    if chunk is None:
        provenance["purpose"] = purpose
    planner = _Planner(source, cut, behind, background == "drop", survey, provenance, progress)
    if target is not None:
        plan = planner.reach(str(codec), target)
    else:
        plan = planner.settle(codec, pipeline, tries_box=roi == "auto")
    if factor is None:
        return plan
    return replace(plan, overview=make_overview(source, plan.geom, plan.codec, factor))


@dataclass(frozen=True, eq=False)
class _Planner:
    """Makes plans of what was asked for and what a survey found."""

    source: VoxelSource
    cut: Cut
    behind: Pipeline
    drop: bool
    survey: Survey
    provenance: dict[str, object]
    progress: Progress | None

    def plan(self, pipeline: Pipeline, shape: ChunkShape | None = None) -> PackPlan:
        """Return the plan of a pipeline, with these chunks or those that its codec asks for."""
        g = self.source.geometry
        if shape is None:
            extents = self.cut.extents(self.survey.box, g.shape, g.datatype.itemsize)
            shape = self.cut.shape(extents, pipeline.codec)
        geom = _geom(g, self.survey, shape, self.cut.slice_axis, drop=self.drop)
        behind = self.behind if geom.background.is_stored else None
        return PackPlan(geom, pipeline, behind, self.provenance)

    def reach(self, codec: str, target: Target) -> PackPlan:
        """Return the plan with the setting of a codec that reaches a target."""

        def try_whole(tried: Pipeline) -> tuple[Loss, float]:
            return _try(self.source, self.plan(tried), self.progress)

        g = self.source.geometry
        return self.plan(find_setting(codec, target, g, self.survey, try_whole))

    def settle(
        self, codec: str | Codec | Pipeline, pipeline: Pipeline | None, *, tries_box: bool
    ) -> PackPlan:
        """Return the plan that trials on the samples show to be the best.

        Parameters
        ----------
        pipeline : Pipeline, optional
            That of `codec`, if it does not depend on the voxels.
        tries_box : bool
            Whether the whole volume is taken where the box does not save bytes.
        """
        g = self.source.geometry
        trials = Trials(g, self.survey, self.cut)
        planner = self
        if is_auto(codec):
            trial = trials.choose_codec(auto_mode(str(codec), self.cut.purpose))
            pipeline, self.provenance["codec"] = trial.pipeline, trial.to_json()
        elif pipeline is None:
            values = self.survey.values or Values(0.0, 0.0, whole=False)
            pipeline = fit_codec(codec, g, values)
        assert pipeline is not None
        if tries_box and not trials.box_pays(pipeline):
            planner = replace(self, survey=Survey(Box.whole(g.shape), None))
        plan = planner.plan(pipeline)
        if not self.cut.is_free(g.shape):
            return plan
        shape, tried = trials.choose_span(pipeline, plan.geom.roi, plan.geom.chunk_shape)
        self.provenance["volumes"] = {"chunk": shape[3], "tried": tried}
        return planner.plan(pipeline, shape)


def _overview_factor(
    overview: int | Factor | None, purpose: Purpose, source: VoxelSource
) -> Factor | None:
    """Return the factors of the overview to be written, or None for none."""
    if overview is None and purpose == "planes" and source.rescale is None:
        overview = 4
    return None if overview is None or overview == 0 else check_factor(overview)


def check_choices(
    purpose: str,
    chunk: ChunkChoice,
    slice_axis: int,
    background: str,
    background_codec: Pipeline,
) -> None:
    """Raise `UsageError` for choices that no volume could make right."""
    check_purpose(purpose)
    check_chunk(chunk)
    if slice_axis not in (0, 1, 2):
        raise UsageError(f"slice axis {slice_axis}: expected 0, 1 or 2")
    if background not in ("exact", "drop"):
        raise UsageError(f"background {background!r}: expected 'exact' or 'drop'")
    if background == "exact" and background_codec.fidelity is not Fidelity.LOSSLESS:
        raise UsageError("an exact background needs a lossless codec")


def _geom(
    g: VolumeGeometry,
    survey: Survey,
    chunks: tuple[int, int, int, int],
    slice_axis: int,
    *,
    drop: bool,
) -> Geom:
    """Return the geometry of the file, with the background policy that what was found asks for."""
    policy, fill = Background.FILL_VERIFIED, bytes(g.datatype.itemsize)
    if survey.box != Box.whole(g.shape):
        if survey.fill is not None:
            fill = survey.fill
        else:
            policy = Background.FILL_LOSSY if drop else Background.RESIDUE_EXACT
    layout = Layout(
        roi=survey.box, chunk_shape=chunks, slice_axis=slice_axis, background=policy, fill=fill
    )
    return Geom.of(g, layout)


def _try(source: VoxelSource, plan: PackPlan, progress: Progress | None) -> tuple[Loss, float]:
    """Pack into nothing; return what would be lost, and the ratio, metadata included."""
    writer = _write(source, cast("BinaryIO", CountingSink()), plan, "trying", progress)
    return writer.loss, plan.geom.size / writer.size


def pack_source(
    source: VoxelSource,
    sink: str | os.PathLike[str] | BinaryIO,
    plan: PackPlan,
    *,
    jobs: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PackResult:
    """Write `source` to `sink` as planned; see `VolumeWriter` for what holds of the sink."""
    writer = _write(source, sink, plan, "packing", progress, jobs=jobs, overwrite=overwrite)
    return PackResult(
        source.stored_size, plan.geom.size, writer.size, writer.provenance, tuple(source.warnings)
    )


def _write(
    source: VoxelSource,
    sink: str | os.PathLike[str] | BinaryIO,
    plan: PackPlan,
    step: str,
    progress: Progress | None,
    *,
    jobs: int | None = None,
    overwrite: bool = False,
) -> VolumeWriter:
    """Write `source` and return the writer, which knows what became of it."""
    geom = plan.geom
    writer = VolumeWriter(
        sink,
        geom,
        codec=plan.codec,
        background_codec=plan.background_codec,
        rescale=source.rescale,
        overview=plan.overview,
        provenance={"tool": f"mroi {__version__}", **plan.provenance},
        jobs=jobs,
        overwrite=overwrite,
    )
    with writer:
        for done, plane in enumerate(source.planes(geom.slice_axis), start=1):
            writer.write_plane(plane)
            if progress:
                progress(step, done, geom.slice_count)
        for frame in source.metadata():
            # A digest of the source says that it can be given back.
            if frame.type != FrameType.DIGEST or writer.is_exact:
                writer.add_metadata(frame)
    return writer


# -- the box ---------------------------------------------------------------------------------


def _given_box(source: VoxelSource, roi: RoiMethod | Box) -> Box | None:
    """Return the box that `roi` means; None for the smallest box with a constant outside."""
    whole = Box.whole(source.geometry.shape)
    match roi:
        case "full":
            return whole
        case "auto" | "tight":
            return None
        case "medroi":
            return _medroi_box(source)
        case Box():
            if not whole.contains(roi):
                shape = source.geometry.shape[:3]
                raise SourceError(f"box {roi} lies outside the volume of shape {shape}")
            return roi
    raise UsageError(f"ROI {roi!r}: expected 'auto', 'full', 'tight', 'medroi' or a box")


def _medroi_box(source: VoxelSource) -> Box:
    """Return the box of the MedROI paper: of a 2-D image, or around those of all 3-D volumes."""
    from mroi.roi.medroi import find_image_roi, find_volume_roi

    g = source.geometry
    width, height, depth = g.shape[:3]
    planes = source.planes(2)
    rescale = None if source.rescale is None else np.frombuffer(source.rescale, "<f8")
    found: Box | None = None
    for volume in range(math.prod(g.shape[3:])):
        stack = np.stack([next(planes) for _ in range(depth)])
        if rescale is not None:  # of each slice; slope and inter of the geometry are 1 and 0
            pairs = rescale.reshape(-1, depth, 2, 1, 1)[volume]
            stack = stack * pairs[:, 0] + pairs[:, 1]
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
