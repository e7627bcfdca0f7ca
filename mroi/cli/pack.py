"""``mroi pack``: images into .mroi files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from mroi.batch.pack import ROI_BOX, ROI_METHODS, Pack, roi_file
from mroi.batch.reading import Reading
from mroi.batch.tasks import Exists
from mroi.cli import batch
from mroi.cli.options import (
    AllBits,
    AllowMissing,
    Axis,
    Background,
    DaskOption,
    ExistsOption,
    FailFast,
    Inputs,
    Irregular,
    Jobs,
    JournalOption,
    Json,
    ManifestOption,
    Metadata,
    Output,
    Pick,
    Purpose,
    Quiet,
    RetainOption,
    Series,
    ShardOption,
    Verbose,
    parse_picks,
)
from mroi.cli.report import Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mroi.adapters.policy import MetadataPolicy
    from mroi.cli.options import Retain
    from mroi.packing.options import PackOptions, QualityMask, RoiMethod, Target
    from mroi.volume.layout import Purpose as PackPurpose

EXAMPLES = """\
  mroi pack scan.nii.gz                           scan.mroi beside it, bit for bit
  mroi pack study/ -o packed/ -j 8                every image below a folder, same folders
  mroi pack study/ -o packed/ --journal p.jsonl   the same, to be run again until all is done
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
  mroi pack scan.nii.gz --codec ebb --quality-mask lesion.nii.gz:45
  mroi pack study/ -o packed/ --roi boxes:roi/bbox3d_by_subject.csv
  mroi pack scan.nii.gz --roi brain.nii.gz --margin 5mm --background drop
  mroi pack - -o - < scan.nii | ssh host 'cat > scan.mroi'
"""

_FAR = 10**18


def run(
    context: typer.Context,
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
            "by trial, auto the one for the purpose; auto:lossy takes ebb, for a target. "
            "bcm-net is never chosen for you: its method is patented.",
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
    quality_mask: Annotated[
        str | None,
        typer.Option(
            "--quality-mask",
            metavar="FILE[:LABEL]:DB",
            help="A PSNR of at least DB where a mask on the same grid is not 0 (or is LABEL). Then "
            "--psnr is for the rest, by default 15 dB less, or --ratio for the file. Name a codec "
            "that can, `--codec ebb`.",
        ),
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
    journal: JournalOption = None,
    manifest: ManifestOption = None,
    shard: ShardOption = None,
    dask: DaskOption = None,
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
    report = Report("pack", json=json, quiet=quiet, verbose=verbose)
    options = _options(
        purpose=_purpose(purpose, codec, small=small),
        codec=codec,
        roi=roi,
        slice_axis=axis.number,
        chunk=_chunk(chunk),
        background=background.value,
        quality=_target(max_error, psnr, ratio),
        quality_mask=_quality_mask(quality_mask),
        overview=_overview(overview),
    )
    _check_roi(roi, margin)
    scale = batch.Scale.of(
        jobs=jobs,
        journal=journal,
        manifest=manifest,
        shard=shard,
        dask=dask,
        exists=exists,
        fail_fast=fail_fast,
        dry_run=dry_run,
    )
    policy = _policy(metadata, retain or (), report)
    if policy.differs_by_run and (journal or shard):
        raise typer.BadParameter(
            "--metadata clean replaces UIDs, in every run by others: with --journal or --shard add "
            "--retain uids, and leave out --retain modified-dates"
        )
    reading = Reading(
        series=series,
        wanted=parse_picks(pick),
        allow_irregular=allow_irregular,
        allow_missing=allow_missing,
        all_bits=all_bits,
        metadata=policy,
    )
    paths, target = scale.places(inputs, output)
    if dask is not None and (file := roi_file(roi)):
        roi = roi.replace(file, scale.places([file], None)[0][0], 1)
    mask = None if quality_mask is None else quality_mask.rpartition(":")[0]
    if dask is not None and mask is not None:
        file = roi_file(mask)
        mask = mask.replace(file, scale.places([file], None)[0][0], 1)
    work = Pack(options, roi, margin, mask, reading)
    tasks = work.plan(paths, target, exists=exists, shard=scale.shard)
    code = batch.run(
        work, tasks, report, scale, again=batch.again(context, exists, journal=journal)
    )
    raise typer.Exit(report.less_than(code))


def _options(*, codec: str, roi: str, **wishes: Any) -> PackOptions:
    """Return the options that hold for all inputs; refuse those that no input could make right."""
    from mroi.codecs import parse
    from mroi.codecs.guard import guarded
    from mroi.errors import CodecError, CodecUnavailableError, UsageError
    from mroi.packing.options import PackOptions

    method = cast("RoiMethod", roi) if roi in ROI_METHODS else "full"
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

    if re.fullmatch(ROI_BOX, roi):
        try:  # whether it is inside, only a volume says
            parse_box(roi, (_FAR, _FAR, _FAR))
        except SourceError as exc:
            raise typer.BadParameter(
                f"--roi {roi}: not a box of voxels x0:x1,y0:y1,z0:z1, each x0 less than x1"
            ) from exc
    if margin is not None:
        if roi in ROI_METHODS:
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


def _quality_mask(text: str | None) -> QualityMask | None:
    """Return what is asked where a mask is; any stands for it until an input comes."""
    import numpy as np

    from mroi.errors import UsageError
    from mroi.packing.options import QualityMask

    if text is None:
        return None
    found = re.fullmatch(r".+:([-+.0-9e]+)", text)
    try:
        return QualityMask(np.ones((1, 1, 1), np.bool_), float(found[1] if found else ""))
    except ValueError as exc:
        raise typer.BadParameter(
            f"--quality-mask {text}: expected FILE:DB, like lesion.nii.gz:45"
        ) from exc
    except UsageError as exc:
        raise typer.BadParameter(exc.message) from exc


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
