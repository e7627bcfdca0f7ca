"""``mroi bench``: measure codecs and regions of interest on volumes of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mroi.batch.series import SeriesFinder
from mroi.batch.tasks import Task, find_inputs, is_stream
from mroi.batch.told import Context, Outcome
from mroi.cli import batch
from mroi.cli.exits import ExitCode
from mroi.cli.options import (
    Axis,
    Background,
    DryRun,
    FailFast,
    Json,
    Quiet,
    refuse_url,
)
from mroi.cli.report import Report
from mroi.errors import CodecError, MroiError, UsageError
from mroi.text import size_text

if TYPE_CHECKING:
    from mroi.bench.again import Earlier
    from mroi.bench.rows import Row, Subject
    from mroi.bench.run import Plan

EXAMPLES = """\
  mroi bench study/ -o bench/                      the default codec and zstd, ROI and full volume
  mroi bench study/ -o bench/ -c lossless -j 4     all lossless codecs, four measurements at once
  mroi bench study/ -o bench/ -c lossy --psnr 30,35,40,45
  mroi bench a.nii.gz -o bench/ -c calv -c jpegls:near=2 --roi full --roi tight
  mroi bench --original_dir study/ --bbox_csv roi/bbox3d_by_subject.csv --output bench/ -c heif
  mroi bench --reproduce bench/results.json        the same again, and what differs
"""

_SUFFIXES = (".nii", ".nii.gz", ".img", ".img.gz")
_CODECS = ("auto", "zstd")
_ROIS = ("full", "medroi")
_GROUPS = ("lossless", "lossy")
_TABLE = "bbox3d_by_subject.csv"
_MEDROI = "As MedROI's scripts call it: "


def run(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT", help="Files and folders: NIfTI images, DICOM series."),
    ] = None,
    *,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            callback=refuse_url,
            metavar="FOLDER",
            help="Where all results go. What an earlier run has finished there is kept.",
        ),
    ] = None,
    codec: Annotated[
        list[str] | None,
        typer.Option(
            "--codec",
            "-c",
            metavar="NAME[:K=V,...]",
            help="May be given several times; lossless and lossy mean all that work here. "
            "Default: auto and zstd.",
        ),
    ] = None,
    roi: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROI",
            help="full, tight, medroi, auto, x0:x1,y0:y1,z0:z1 or boxes:FILE.csv; may be given "
            "several times. Default: full and medroi.",
        ),
    ] = None,
    psnr: Annotated[
        str | None,
        typer.Option(
            metavar="DB,...",
            help="For codecs that can lose something, named without settings: the setting that "
            "just reaches each PSNR in the ROI.",
        ),
    ] = None,
    max_error: Annotated[
        str | None,
        typer.Option("--max-error", metavar="X,...", help="The same for the largest error."),
    ] = None,
    ratio: Annotated[
        str | None, typer.Option(metavar="R,...", help="The same for the ratio to the raw voxels.")
    ] = None,
    background: Annotated[
        Background | None,
        typer.Option(
            help="Voxels outside the ROI: exact keeps them, drop makes them zero. Default: exact; "
            "drop with --bbox_csv, as MedROI does."
        ),
    ] = None,
    axis: Annotated[Axis, typer.Option("--axis", "-a", help="Slices are cut across it.")] = Axis.Z,
    threads: Annotated[
        int, typer.Option(min=1, metavar="N", help="Threads of each measurement.")
    ] = 1,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs",
            "-j",
            min=0,
            metavar="N",
            help="Measurements at once; 0 takes all processors. Times are true with 1.",
        ),
    ] = 1,
    timeout: Annotated[
        float, typer.Option(min=1, metavar="S", help="Seconds that a step may take.")
    ] = 3600,
    restart: Annotated[
        bool, typer.Option("--restart", help="Measure what is finished in the folder, too.")
    ] = False,
    reproduce: Annotated[
        str | None,
        typer.Option(
            metavar="results.json",
            help="Run an earlier benchmark again, on its inputs or those that are named, and say "
            "what differs.",
        ),
    ] = None,
    original_dir: Annotated[
        str | None,
        typer.Option("--original_dir", metavar="FOLDER", help=f"{_MEDROI}an input."),
    ] = None,
    cropped_dir: Annotated[
        str | None,
        typer.Option(
            "--cropped_dir",
            metavar="FOLDER",
            help=f"{_MEDROI}cropped volumes, which must hold what lies in the boxes; without "
            f"--bbox_csv, of {_TABLE} beside the folder.",
        ),
    ] = None,
    bbox_csv: Annotated[
        str | None,
        typer.Option("--bbox_csv", metavar="FILE", help=f"{_MEDROI}short for --roi boxes:FILE."),
    ] = None,
    use_original_only: Annotated[
        bool, typer.Option("--use_original_only", help=f"{_MEDROI}short for --roi full.")
    ] = False,
    real_mode: Annotated[
        bool,
        typer.Option("--real_mode", help=f"{_MEDROI}does nothing, files are always written."),
    ] = False,
    dry_run: DryRun = False,
    fail_fast: FailFast = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Measure codecs and regions of interest on volumes of your own.

    For each volume, codec, setting and ROI: bytes on disk, ratios with their bases, PSNR, SSIM,
    errors, seconds and peak memory, each in a process of its own. What fails is a row that says
    why. The folder gets results.csv, results.json and report.html, which needs no network. Run
    the same command again to go on after an interruption.
    """
    del real_mode
    if find_spec("skimage") is None:
        raise UsageError("scikit-image is not installed: pip install 'mroi[bench]'")
    from mroi.bench.again import read_results
    from mroi.bench.run import Bench

    report = Report("bench", json=json, quiet=quiet)
    given = [*(inputs or ()), *([original_dir] if original_dir else ())]
    earlier = None
    if reproduce is not None:
        if codec or roi or psnr or max_error or ratio:
            raise typer.BadParameter("--reproduce takes codecs, ROIs and targets from its file")
        earlier = read_results(reproduce)
        plan = replace(earlier.plan, inputs=tuple(given) or earlier.plan.inputs)
        output = output or str(Path(reproduce).parent / "again")
    else:
        plan = _plan(
            inputs=tuple(given),
            codecs=_codecs(codec or _CODECS),
            rois=_rois(roi or (), cropped_dir, bbox_csv, only_full=use_original_only),
            targets=_targets(psnr=psnr, max_error=max_error, ratio=ratio),
            background=background,
            is_medroi=bool(cropped_dir or bbox_csv),
            axis=axis.number,
            threads=threads,
            crops=cropped_dir or "",
            timeout=timeout,
        )
    output = _results_folder(output)
    if not plan.inputs:
        raise typer.BadParameter("name files or folders to measure on")
    tasks = plan.tasks(_subjects(plan.inputs))
    bench = Bench(output, plan, tasks, restart=restart and not dry_run)

    def work(task: Task, context: Context) -> Outcome:
        measured = task.part
        assert isinstance(measured, type(tasks[0]))
        row = bench.finished(measured)
        again = "" if row is None else "  (measured before)"
        if row is None:
            row = bench.measure(measured, lambda: context.step(measured.codec, 0, 1))
        if not row.is_ok:
            raise MroiError(row.error)
        return Outcome(row.to_json(), f"{task.called}: {_said(row)}{again}")

    todo = [Task(one.subject.path, output, part=one, part_name=one.label) for one in tasks]
    scale = batch.Scale(jobs=jobs, fail_fast=fail_fast, dry_run=dry_run)
    try:
        code = batch.run(batch.Local("bench", work), todo, report, scale)
    finally:
        if not dry_run:
            files = bench.write_results()
            bench.clean()
            if not (json or quiet):
                shown = ", ".join(map(str, files))
                report.say(f"{len(bench.rows)} of {len(tasks)} rows -> {shown}")
    if earlier is not None and not dry_run:
        code = _say_what_differs(report, earlier, bench.rows) or code
    raise typer.Exit(code)


def _results_folder(output: str | None) -> str:
    """Return the folder for the results; raises `typer.BadParameter` if there is none."""
    if output is None:
        raise typer.BadParameter("name the folder for the results with --output")
    if Path(output).exists() and not Path(output).is_dir():
        raise typer.BadParameter(f"{output} is no folder: the results are several files")
    return output


def _plan(*, background: Background | None, is_medroi: bool, **fields: object) -> Plan:
    """Return the plan that the options mean."""
    from mroi.bench.run import Plan

    kept = Background.DROP if is_medroi else Background.EXACT
    return Plan(background=(background or kept).value, **fields)  # type: ignore[arg-type]


def _codecs(names: Sequence[str]) -> tuple[str, ...]:
    """Return codecs, those of a group one by one; refuse what is none."""
    from mroi.codecs import Fidelity, SupportsTarget, available
    from mroi.packing.options import PackOptions

    found: list[str] = []
    for name in names:
        if name not in _GROUPS:
            try:
                PackOptions(codec=name)
            except (CodecError, UsageError) as exc:
                raise typer.BadParameter(exc.message) from exc
            found.append(name)
            continue
        for entry in available():
            if entry.codec is None or entry.problem is not None:
                continue
            is_lossless = entry.codec().fidelity is Fidelity.LOSSLESS
            if is_lossless if name == "lossless" else issubclass(entry.codec, SupportsTarget):
                found.append(entry.name)
    return tuple(dict.fromkeys(found))


def _rois(
    rois: Sequence[str], cropped_dir: str | None, bbox_csv: str | None, *, only_full: bool
) -> tuple[str, ...]:
    """Return the ROIs that the options mean; refuse what no volume could make right."""
    from mroi.bench.steps import check_roi

    if rois and (cropped_dir or bbox_csv or only_full):
        raise typer.BadParameter("--roi and MedROI's options are mutually exclusive")
    if only_full:
        return ("full",)
    if cropped_dir or bbox_csv:
        table = bbox_csv or str(Path(cropped_dir or "").resolve().parent / _TABLE)
        return (f"boxes:{table}",)
    for text in rois:
        check_roi(text)
    return tuple(dict.fromkeys(rois or _ROIS))


def _targets(**lists: str | None) -> tuple[str, ...]:
    """Return the targets that lists of numbers mean."""
    from mroi.bench.rows import parse_target

    found = [f"{name}={part.strip()}" for name, text in lists.items() if text
             for part in text.split(",")]  # fmt: skip
    for text in found:
        parse_target(text)
    return tuple(dict.fromkeys(found))


def _subjects(inputs: Iterable[str]) -> list[Subject]:
    """Return the volumes that files and folders hold."""
    from mroi.adapters.crop import subject_of
    from mroi.adapters.dicom import FoundSeries
    from mroi.bench.rows import Subject
    from mroi.bench.run import identity_of_files

    inputs = list(inputs)
    if any(map(is_stream, inputs)):
        raise typer.BadParameter("a volume is read several times: give a file, not a pipe")
    finder = SeriesFinder(_SUFFIXES, None)
    found: dict[str, Subject] = {}
    for entry in find_inputs(inputs, _SUFFIXES, finder.find):
        task = Task.of(entry)
        place = entry.below if entry.part_name else entry.below.with_name(subject_of(entry.path))
        name, number = place.as_posix(), 1
        while name in found:
            number += 1
            name = f"{place.as_posix()}-{number}"
        found[name] = Subject(
            name=name,
            path=entry.path,
            series=entry.part.uid if isinstance(entry.part, FoundSeries) else "",
            subject_id=subject_of(task.subject),
            identity=identity_of_files(entry.files or (entry.path,)),
        )
    return list(found.values())


def _said(row: Row) -> str:
    """Return what was measured, for people."""
    loss = "lossless" if row.lossless else "lossy"
    if not row.lossless and row.psnr is not None:
        loss += f", PSNR {row.psnr:.2f} dB"
        loss += f", SSIM {row.ssim_3d:.4f}" if row.ssim_3d is not None else ""
    return (
        f"{size_text(row.bytes or 0)}, 1:{row.ratio_raw or 0:.2f} of the raw voxels, {loss}; "
        f"encode {row.encode_seconds or 0:.3g} s, decode {row.decode_seconds or 0:.3g} s, "
        f"slice {1000 * (row.slice_seconds or 0):.3g} ms"
    )


def _say_what_differs(report: Report, earlier: Earlier, rows: Sequence[Row]) -> ExitCode:
    """Say what is not as it was; return the code of a failure if a result is not."""
    from mroi.bench.again import compare, slowdown
    from mroi.bench.run import machine

    changed = compare(earlier.rows, rows)
    here = machine()
    others = [f"{name}: {earlier.machine.get(name)} -> {value}" for name, value in here.items()
              if earlier.machine.get(name) != value]  # fmt: skip
    times = slowdown(earlier.rows, rows)
    lines = [
        *map(str, changed),
        *(f"machine, {line}" for line in others),
        *(f"{name}: {ratio:.2f} times what it was (median)" for name, ratio in times.items()),
        f"{len(earlier.rows)} rows before: "
        + (f"{len(changed)} results differ" if changed else "all results are the same"),
    ]
    record = {
        "compared": len(earlier.rows),
        "changed": list(map(str, changed)),
        "machine": others,
        "times": times,
    }
    report.answer(record, "\n".join(lines))
    return ExitCode.FAILED if changed else ExitCode.OK
