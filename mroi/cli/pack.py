"""``mroi pack``: images into .mroi files."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from mroi.cli import batch
from mroi.cli.options import (
    AllBits,
    AllowMissing,
    Axis,
    Background,
    Exists,
    ExistsOption,
    FailFast,
    Inputs,
    Irregular,
    Jobs,
    Json,
    Metadata,
    Output,
    Pick,
    Purpose,
    Quiet,
    RetainOption,
    Series,
    Verbose,
    parse_picks,
)
from mroi.cli.report import Report, Step
from mroi.cli.series import SeriesFinder, series_of, source_of
from mroi.cli.streams import on_disk, sink
from mroi.text import counted, size_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mroi.adapters.policy import MetadataPolicy
    from mroi.cli.options import Retain
    from mroi.format.geom import VolumeGeometry
    from mroi.geometry import Box
    from mroi.packing.options import PackOptions, RoiMethod, Target
    from mroi.volume.layout import Purpose as PackPurpose
    from mroi.volume.source import VoxelSource

EXAMPLES = """\
  mroi pack scan.nii.gz                           scan.mroi beside it, bit for bit
  mroi pack study/ -o packed/ -j 8                every image below a folder, same folders
  mroi pack dicom/ -o ct.mroi                     a folder with one DICOM series
  mroi pack dicom/ -o packed/                     with several: packed/dicom/3-T1.mroi, ...
  mroi pack scan.nii.gz --codec zstd:level=19     smaller; see `mroi codecs`
  mroi pack scan.nii.gz --small                   the smallest that loses nothing
  mroi pack scan.nii.gz --for patches             bricks, for training
  mroi pack bold.nii.gz --for series              chunks over time
  mroi pack scan.nii.gz --chunk 64x64x16          chunks of so many voxels along x, y, z
  mroi pack scan.nii.gz --overview 4              with an overview of a quarter of the resolution
  mroi pack scan.nii.gz --max-error 2             no voxel is off by more than 2
  mroi pack scan.nii.gz --codec jpeg2000 --psnr 40
  mroi pack study/ -o packed/ --roi boxes:roi/bbox3d_by_subject.csv
  mroi pack scan.nii.gz --roi brain.nii.gz --margin 5mm --background drop
  mroi pack - -o - < scan.nii | ssh host 'cat > scan.mroi'
"""

_SUFFIXES = (".nii", ".nii.gz", ".img", ".img.gz")
_BOXES = "boxes:"
_BOX = r"[0-9:,\s]+"
_FAR = 10**18
_SMALL_FILE = 1 << 16
_METHODS = ("auto", "full", "tight", "medroi")


def run(
    inputs: Inputs,
    *,
    output: Output = None,
    purpose: Annotated[
        Purpose,
        typer.Option(
            "--for",
            "--purpose",
            help="What is read: slices along an axis (or all), patches (boxes), planes along all "
            "axes, series (the fourth axis), archive (little: smallest). Chooses chunks and codec.",
        ),
    ] = Purpose.SLICES,
    small: Annotated[
        bool, typer.Option("--small", help="Short for --for archive: smallest, slower.")
    ] = False,
    codec: Annotated[
        str,
        typer.Option(
            "--codec",
            "-c",
            metavar="NAME[:K=V,...]",
            help="See `mroi codecs`; auto:fast, auto:fastest and auto:small choose a lossless one "
            "by trial, auto the one for the purpose.",
        ),
    ] = "auto",
    roi: Annotated[
        str,
        typer.Option(
            metavar="ROI",
            help="auto (tight where it saves bytes), full, tight (around what is not constant), "
            "medroi, x0:x1,y0:y1,z0:z1 in voxels, a mask: FILE.nii.gz[:label], or a table of "
            "`mroi roi`: boxes:FILE.csv, with a row for the name of each input.",
        ),
    ] = "auto",
    margin: Annotated[
        str | None,
        typer.Option(metavar="N|Xmm", help="Widen a given box or a mask by voxels, or by mm."),
    ] = None,
    max_error: Annotated[
        float | None,
        typer.Option(
            "--max-error",
            metavar="X",
            help="Lose at most X, in the units of the volume; the codec and its setting are found "
            "by trial, or name one that can lose something, like `--codec jpegls`.",
        ),
    ] = None,
    psnr: Annotated[
        float | None,
        typer.Option(
            metavar="DB",
            help="Or: a PSNR of at least DB in the ROI. Name a codec, like `--codec wavelet3d`.",
        ),
    ] = None,
    ratio: Annotated[
        float | None,
        typer.Option(metavar="R", help="Or: a file R times smaller than the voxels. Name one."),
    ] = None,
    background: Annotated[
        Background,
        typer.Option(help="Voxels outside the ROI: exact keeps them, drop makes them zero."),
    ] = Background.EXACT,
    axis: Annotated[Axis, typer.Option("--axis", "-a", help="Slices are cheap along it.")] = Axis.Z,
    chunk: Annotated[
        str | None,
        typer.Option(
            metavar="N|XxYxZ[xT]",
            help="Slices of a chunk, or its voxels along x, y, z, and volumes; 0 takes all slices, "
            "or a whole axis. By default for the purpose.",
        ),
    ] = None,
    overview: Annotated[
        str | None,
        typer.Option(
            metavar="N|XxYxZ",
            help="Add an overview, reduced by 1, 2, 4, 8 or 16 on all axes, or by one of these "
            "along each, like 4x4x1: viewers show it at once. 0 for none. Default: 4 with --for "
            "planes, else none.",
        ),
    ] = None,
    series: Series = None,
    pick: Pick = None,
    metadata: Annotated[
        Metadata,
        typer.Option(
            help="Headers: keep all, clean what may identify a person, or strip all but geometry. "
            "Voxels are never touched."
        ),
    ] = Metadata.KEEP,
    retain: RetainOption = None,
    allow_irregular: Irregular = False,
    allow_missing: AllowMissing = False,
    all_bits: AllBits = False,
    jobs: Jobs = 0,
    exists: ExistsOption = Exists.ERROR,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be written, and how.")
    ] = False,
    fail_fast: FailFast = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json: Json = False,
) -> None:
    """Pack images into .mroi files.

    NIfTI (.nii, .nii.gz, .hdr/.img, any version and type), ANALYZE 7.5, DICOM files (also
    gzipped), and folders: each NIfTI image and each DICOM series below becomes a file. A series
    is called like its folder, or FOLDER/NUMBER-DESCRIPTION if there are several; --series takes
    that series alone. Nothing is lost unless a lossy codec, or --background drop, is asked for.
    A file appears under its name only when it is complete.
    """
    from mroi.adapters import convert

    report = Report("pack", json=json, quiet=quiet, verbose=verbose)
    options = _options(
        purpose=_purpose(purpose, codec, small=small),
        codec=codec,
        roi=roi,
        slice_axis=axis.number,
        chunk=_chunk(chunk),
        background=background.value,
        quality=_target(max_error, psnr, ratio),
        overview=_overview(overview),
    )
    _check_roi(roi, margin)
    policy = _policy(metadata, retain or (), report)
    reading = {
        "series": series,
        "wanted": parse_picks(pick),
        "allow_irregular": allow_irregular,
        "allow_missing": allow_missing,
        "all_bits": all_bits,
        "metadata": policy,
    }
    finder = SeriesFinder(_SUFFIXES, series, with_texts=policy.keeps)
    tasks = batch.plan(
        inputs,
        () if series else _SUFFIXES,
        output,
        lambda entry: convert.packed_name(entry.below).name,
        exists,
        endings=[".mroi"],
        find_parts=finder.find,
        also_read=[_roi_file(roi)],
    )
    finder.check()
    at_once, threads = batch.threads_for(jobs, len(tasks))
    job = _Job(report, options, roi, margin, reading, threads)
    code = batch.run(
        tasks,
        job.pack,
        report,
        at_once=at_once,
        fail_fast=fail_fast,
        dry_run=dry_run,
        rehearse=job.plan,
    )
    raise typer.Exit(report.less_than(code))


@dataclass(frozen=True)
class _Job:
    """What is done with every input.

    Attributes
    ----------
    report : Report
        Where to say what came of it.
    options : PackOptions
        But for the ROI, which may depend on the input.
    roi, margin : str
        As they were given.
    reading : dict
        Keywords of `convert.open_input`.
    threads : int
        For each input.
    """

    report: Report
    options: PackOptions
    roi: str
    margin: str | None
    reading: dict[str, Any]
    threads: int

    @contextmanager
    def _open(self, task: batch.Task) -> Iterator[tuple[VoxelSource, PackOptions]]:
        """Open the source of a task, and complete the options for it."""
        from mroi.adapters.convert import open_input

        with on_disk(task.source) as path:
            source = open_input(source_of(task, path), **self.reading)
            roi = _chosen(self.roi, self.margin, source, task.subject)
            yield source, replace(self.options, roi=roi)

    def plan(self, task: batch.Task, step: Step) -> tuple[dict[str, object], str]:
        """Return how an input would be packed, for programs and for people."""
        from mroi.packing.write import plan_pack

        with self._open(task) as (source, options):
            plan = plan_pack(source, options, progress=step)
            self.report.warn_of(task.called, source)
        return {**series_of(task), "plan": plan.to_json()}, str(plan)

    def pack(self, task: batch.Task, step: Step) -> None:
        """Pack an input, and say what came of it."""
        from mroi.adapters import convert

        start = time.perf_counter()
        with self._open(task) as (source, options):
            result = convert.pack(
                source,
                sink(task),
                options,
                jobs=self.threads,
                overwrite=task.action is batch.Action.OVERWRITE,
                progress=step,
            )
        seconds = time.perf_counter() - start
        self.report.warn_of(task.called, source)
        text = f"{size_text(result.source_size)} -> {size_text(result.size)}"
        text += _lost(result.provenance.get("loss"), source)
        if result.size > result.source_size:
            text += _larger(result.size, options, getattr(source, "compression", ""))
        self.report.detail(
            f"{task.called}: {size_text(result.voxel_size)} of voxels in {seconds:.2f} s, "
            f"{size_text(result.voxel_size / seconds)}/s{_chosen_by(result.provenance)}"
        )
        record = {
            **task.called.to_json(),
            "target": task.target,
            **series_of(task),
            "source_size": result.source_size,
            "voxel_size": result.voxel_size,
            "size": result.size,
        }
        self.report.done({**record, **result.provenance}, f"{task.called} -> {task.target}  {text}")


def _options(*, codec: str, roi: str, **wishes: Any) -> PackOptions:
    """Return the options that hold for all inputs; refuse those that no input could make right."""
    from mroi.codecs import parse
    from mroi.codecs.guard import guarded
    from mroi.errors import CodecError, CodecUnavailableError, UsageError
    from mroi.packing.options import PackOptions

    method = cast("RoiMethod", roi) if roi in _METHODS else "full"
    try:
        options = PackOptions(codec=codec, roi=method, **wishes)
        with guarded(codec.partition(":")[0], CodecUnavailableError):
            problem = None if options.mode else type(parse(codec)).probe()
    except (CodecError, UsageError) as exc:
        if isinstance(exc, CodecUnavailableError) and _is_known(codec):
            raise
        raise typer.BadParameter(exc.message) from exc
    if problem:
        raise CodecUnavailableError(f"codec {codec!r}: {problem}")
    return options


def _purpose(purpose: Purpose, codec: str, *, small: bool) -> PackPurpose:
    """Return what the files are for, which --small says, too."""
    if small and codec != "auto":
        raise typer.BadParameter("--small and --codec are mutually exclusive")
    if small and purpose not in (Purpose.SLICES, Purpose.ARCHIVE):
        raise typer.BadParameter(f"--small and --for {purpose} are mutually exclusive")
    return Purpose.ARCHIVE.value if small else purpose.value


def _policy(metadata: Metadata, retain: Sequence[Retain], report: Report) -> MetadataPolicy:
    """Return what becomes of metadata, the same for all inputs, so that studies stay together."""
    from mroi.adapters.policy import MetadataPolicy
    from mroi.errors import UsageError

    try:
        policy = MetadataPolicy(metadata.value, tuple(option.value for option in retain))
    except UsageError as exc:
        raise typer.BadParameter(exc.message) from exc
    if not policy.keeps and not report.quiet:
        report.say(
            f"mroi: --metadata {policy.name}: voxels are not touched, so a head scan still shows "
            "the face, and text that is burned in stays"
        )
    return policy


def _check_roi(roi: str, margin: str | None) -> None:
    """Refuse a ROI or a margin that no input could make right."""
    from mroi.errors import SourceError
    from mroi.roi.boxes import parse_box, parse_margin

    if re.fullmatch(_BOX, roi):
        try:  # whether it is inside, only a volume says
            parse_box(roi, (_FAR, _FAR, _FAR))
        except SourceError as exc:
            raise typer.BadParameter(
                f"--roi {roi}: not a box of voxels x0:x1,y0:y1,z0:z1, each x0 less than x1"
            ) from exc
    if margin is not None:
        if roi in _METHODS:
            raise typer.BadParameter(f"--margin widens a given box or a mask, not {roi!r}")
        try:
            parse_margin(margin)
        except SourceError as exc:
            raise typer.BadParameter(exc.message) from exc


def _chunk(text: str | None) -> int | tuple[int, ...] | None:
    """Return the chunk that an option names."""
    from mroi.errors import UsageError
    from mroi.volume.layout import parse_chunk

    try:
        return None if text is None else parse_chunk(text)
    except UsageError as exc:
        raise typer.BadParameter(f"--{exc.message}") from exc


def _overview(text: str | None) -> int | tuple[int, int, int] | None:
    """Return the factors that an option names."""
    from mroi.errors import UsageError
    from mroi.volume.overview import parse_factor

    try:
        return None if text is None else parse_factor(text)
    except UsageError as exc:
        raise typer.BadParameter(f"--{exc.message}") from exc


def _is_known(codec: str) -> bool:
    """Whether a codec of this name is there, even if it does not work."""
    from mroi.codecs import available

    return codec.partition(":")[0].strip() in {entry.name for entry in available()}


def _target(max_error: float | None, psnr: float | None, ratio: float | None) -> Target | None:
    """Return what a lossy codec shall reach, None if nothing is asked of it."""
    from mroi.errors import UsageError
    from mroi.packing.options import Target

    if (max_error, psnr, ratio) == (None, None, None):
        return None
    try:
        return Target(max_error=max_error, psnr=psnr, ratio=ratio)
    except UsageError as exc:
        raise typer.BadParameter(exc.message) from exc


def _larger(size: int, options: PackOptions, compression: str) -> str:
    """Return that a file is larger than its source, why if that is known, and what may help.

    Parameters
    ----------
    size : int
        Of the file.
    options : PackOptions
        What it was made with.
    compression : str
        Of the pixels of the source, if they are compressed one by one.
    """
    text = "  larger than the source"
    if compression:
        text += f", which is compressed already ({compression})"
    is_default = options.codec in ("auto", "auto:fast") and options.chunk is None
    # What a small file has besides voxels is the same whatever the codec.
    may_shrink = size >= _SMALL_FILE and "lossy" not in compression
    if is_default and options.purpose == "slices" and may_shrink:
        text += "; --small makes it smaller"
    return text


def _chosen_by(provenance: dict[str, object]) -> str:
    """Return how box and codec were chosen, for people."""
    text = ""
    roi, codec = provenance.get("roi"), provenance.get("codec")
    if isinstance(roi, dict):
        text += f"; ROI {roi['method']}"
    if isinstance(codec, dict):
        tried = (f"{name} {size_text(size)}" for name, size in codec["tried"].items())
        text += f"; samples in {', '.join(tried)}"
    return text


def _lost(loss: object, source: VoxelSource) -> str:
    """Return what was lost, for people; nothing if nothing was."""
    if not isinstance(loss, dict):
        return ""
    parts = []
    if "max_error" in loss:
        worst = loss["max_error"]
        scale, unit = (abs(source.geometry.slope), "") if source.rescale is None else (1, " stored")
        text = "not known" if worst is None else f"<= {worst * scale:.4g}{unit}"
        parts.append(f"error {text if worst != 0 else 'none'}")
    if "psnr" in loss:
        parts.append(f"PSNR {loss['psnr']:.1f} dB")
    if dropped := loss.get("background"):
        values = f", stored values {dropped['min']:g} to {dropped['max']:g}" * ("min" in dropped)
        parts.append(f"background dropped: {counted(dropped['voxels'], 'voxel')}{values}")
    return "  lossy: " + ", ".join(parts)


def _chosen(roi: str, margin: str | None, source: VoxelSource, path: str) -> Box | RoiMethod:
    """Return the method, or the box, that the options mean for the source of a path."""
    from mroi.adapters.crop import subject_of
    from mroi.roi.boxes import parse_box, parse_margin, split_label

    if roi in _METHODS:
        return cast("RoiMethod", roi)
    g = source.geometry
    if re.fullmatch(_BOX, roi):
        box = parse_box(roi, g.shape)
    elif roi.startswith(_BOXES):
        box = _box_of_table(roi.removeprefix(_BOXES), subject_of(path), g)
    else:
        box = _box_of_mask(*split_label(roi), source)
    return box if margin is None else box.padded(parse_margin(margin).voxels(g.spacing), g.shape)


def _roi_file(roi: str) -> str:
    """Return the file that the option names, a mask or a table; nothing if it names none."""
    from mroi.roi.boxes import split_label

    if roi in _METHODS or re.fullmatch(_BOX, roi):
        return ""
    return roi.removeprefix(_BOXES) if roi.startswith(_BOXES) else split_label(roi)[0]


def _box_of_table(path: str, subject: str, g: VolumeGeometry) -> Box:
    """Return the box that a table has for a subject."""
    from mroi.adapters.crop import read_box
    from mroi.errors import SourceError

    try:
        with on_disk(path) as table:
            return read_box(table, subject, g)
    except OSError as exc:  # of the table, not of an output
        raise SourceError(f"box table {path}: {exc.strerror or exc}") from exc


def _box_of_mask(path: str, label: int | None, source: VoxelSource) -> Box:
    """Return the box around a mask that is on the grid of `source`."""
    import numpy as np

    from mroi.adapters.nifti import NiftiSource
    from mroi.errors import SourceError
    from mroi.roi.boxes import check_same_grid, mask_box

    try:
        with on_disk(path) as file:
            mask = NiftiSource(file)
            g, of = mask.geometry, source.geometry
            check_same_grid(g.shape, g.affine, of.shape, of.affine)
            stored = np.stack(list(mask.planes(2)))  # (z, y, x)
    except OSError as exc:  # of the mask, not of an output
        raise SourceError(f"mask {path}: {exc.strerror or exc}") from exc
    return mask_box(stored.transpose() * g.slope + g.inter, label)
