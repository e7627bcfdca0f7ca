"""Plan and write: look at a source, decide, prove a target, and write what was planned."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import BinaryIO, Unpack, cast

from mroi._version import __version__
from mroi.codecs import Pipeline
from mroi.errors import CodecError, SourceError
from mroi.format.records import FrameType
from mroi.packing.options import PackOptions, Wishes, options_with
from mroi.packing.plan import PackPlan, decide
from mroi.packing.quality import Setting
from mroi.packing.survey import Attempt, look
from mroi.text import codec_text, counted, duration
from mroi.volume.chunks import chunk_spec
from mroi.volume.jobs import threads_of
from mroi.volume.overview import make_overview
from mroi.volume.progress import Progress
from mroi.volume.source import VoxelSource
from mroi.volume.write import VolumeWriter

__all__ = ["PackResult", "plan_pack", "write_plan"]

_LOG = logging.getLogger("mroi.packing")
_PACKING = "packing"
_LONG = 10.0  # seconds


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
    codec : str
        What encodes the ROI, with its settings.
    """

    source_size: int
    voxel_size: int
    size: int
    provenance: dict[str, object]
    warnings: tuple[str, ...]
    codec: str


def plan_pack(
    source: VoxelSource,
    options: PackOptions | None = None,
    *,
    progress: Progress | None = None,
    **wishes: Unpack[Wishes],
) -> PackPlan:
    """Look at a source and decide how it is packed; a target is proven on the whole volume.

    Parameters
    ----------
    source : VoxelSource
        What will be packed.
    options : PackOptions, optional
        What is wished for; nothing by default.
    progress : callable, optional
        Called as ``progress(step, done, total)``.
    **wishes
        Fields of `PackOptions`, in place of those of `options`.

    Raises
    ------
    SourceError
        If the source is damaged, the box lies outside it, the codec does not take its voxels, or
        no setting of the codec reaches the target.
    UsageError
        If a wish makes no sense, or the codec does not take chunks of this shape.
    """
    options = options_with(options, wishes)
    survey = look(source, options, progress)
    plan = decide(survey, options)
    while plan.untried is not None:
        survey = survey.after(_attempt(source, plan, plan.untried, progress))
        plan = decide(survey, options)
    return plan


def _attempt(
    source: VoxelSource, plan: PackPlan, setting: Setting, progress: Progress | None
) -> Attempt:
    """Pack into nothing to see what would be lost, and the ratio, metadata included."""
    try:
        writer = _write(source, cast("BinaryIO", _Nothing()), plan, "trying", progress)
    except CodecError as exc:
        name = plan.geom.datatype.name
        raise SourceError(f"{exc.message} (the volume has {name})") from exc
    ratio = plan.geom.size / writer.size
    loss = writer.loss
    return Attempt(
        setting.codec,
        setting.tried,
        setting.rung,
        loss.whole,
        ratio,
        setting.drop,
        loss.psnr,
        loss.rest_psnr,
    )


class _Nothing:
    """A file that cannot seek and forgets what is written to it."""

    def write(self, data: bytes) -> int:
        return len(data)

    def flush(self) -> None:
        pass


def write_plan(
    source: VoxelSource,
    target: str | os.PathLike[str] | BinaryIO,
    plan: PackPlan,
    *,
    jobs: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PackResult:
    """Write a source as planned.

    Parameters
    ----------
    source : VoxelSource
        The one that was planned for.
    target : path or binary file
        A path is written atomically; a file object that cannot seek gets its index at the end.
    plan : PackPlan
        See `plan_pack`.
    jobs : int, optional
        Threads; the processors by default.
    overwrite : bool
        Whether an existing file is replaced; otherwise `FileExistsError` is raised.
    progress : callable, optional
        Called as ``progress("packing", done, total)``.

    Raises
    ------
    SourceError
        If the source is damaged, or is no longer what it was when it was looked at.
    """
    say_notice(plan.pipeline)
    _warn_of_time(plan, jobs)
    writer = _write(source, target, plan, _PACKING, progress, jobs=jobs, overwrite=overwrite)
    return PackResult(
        source.stored_size,
        plan.geom.size,
        writer.size,
        writer.provenance,
        tuple(source.warnings),
        codec_text(plan.pipeline.codec.name, plan.pipeline.to_json()),
    )


def say_notice(pipeline: Pipeline) -> None:
    """Say what the codec wants said of it before it is used."""
    if notice := pipeline.codec.notice:
        _LOG.warning("%s: %s", pipeline.codec.name, notice)


def _warn_of_time(plan: PackPlan, jobs: int | None) -> None:
    """Say how long the work will take, where a codec says that it takes long."""
    geom = plan.geom
    seconds = plan.pipeline.encode_seconds(chunk_spec(geom, 0)) * geom.grid.roi_chunks
    threads = threads_of(jobs)
    if seconds >= _LONG * threads:
        _LOG.info(
            "%s will take about %s: %s, on %s",
            plan.pipeline.codec.name,
            duration(seconds / threads),
            counted(geom.grid.roi_chunks, "chunk"),
            counted(threads, "thread"),
        )


def _write(
    source: VoxelSource,
    target: str | os.PathLike[str] | BinaryIO,
    plan: PackPlan,
    step: str,
    progress: Progress | None,
    *,
    jobs: int | None = None,
    overwrite: bool = False,
) -> VolumeWriter:
    """Write a source and return the writer, which knows what became of it."""
    geom, overview = plan.geom, None
    if plan.overview is not None:
        overview = make_overview(source, geom, plan.pipeline, plan.overview)
    writer = VolumeWriter(
        target,
        geom,
        pipeline=plan.pipeline,
        background_pipeline=plan.background_pipeline,
        rescale=source.rescale,
        focus=plan.focus,
        peak=plan.peak if step == _PACKING else None,
        overview=overview,
        provenance={"tool": f"mroi {__version__}", **plan.provenance, **source.provenance},
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
