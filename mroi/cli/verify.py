"""``mroi verify``: whether a file is whole, and equal to its source."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from mroi.cli import batch
from mroi.cli.options import AllBits, FailFast, Inputs, Jobs, Json, Quiet, Series
from mroi.cli.report import Report, Step
from mroi.cli.streams import on_disk, open_volume
from mroi.text import counted

if TYPE_CHECKING:
    from mroi.volume.model import Volume
    from mroi.volume.source import VoxelSource
    from mroi.volume.verify import Comparison, VerifyReport

EXAMPLES = """\
  mroi verify scan.mroi                           every checksum, every chunk decoded
  mroi verify scan.mroi --against scan.nii.gz     and every voxel compared with the source
  mroi verify --json archive/ > report.jsonl      every .mroi file below a folder
"""


def run(
    inputs: Inputs,
    *,
    against: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Compare voxels, geometry and header with this image."),
    ] = None,
    series: Series = None,
    all_bits: AllBits = False,
    jobs: Jobs = 0,
    fail_fast: FailFast = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Check that files are whole, or equal to a source.

    Every checksum is checked, every chunk decoded, every digest computed anew.
    A file that lacks chunks and says so, as `mroi recover` writes it, is valid: the exit code is
    0, and the line says, even with --quiet, how many are missing. Files of a DICOM series that
    cannot be read are not compared: they are named, and the exit code is 8.
    """
    from mroi.adapters import convert

    report = Report("verify", json=json, quiet=quiet)
    tasks = [batch.Task.of(entry) for entry in batch.find_inputs(inputs, [".mroi"])]
    if against is not None and len(tasks) > 1:
        raise typer.BadParameter("--against compares one file with one source")
    at_once, threads = batch.threads_for(jobs, len(tasks))

    def work(task: batch.Task, step: Step) -> None:
        with ExitStack() as stack:
            volume = stack.enter_context(open_volume(task.source, jobs=threads))
            image = (
                None
                if against is None
                else _open_source(against, stack, volume, series=series, all_bits=all_bits)
            )
            if image is not None:
                report.warn_of(str(against), image)
            checked = convert.verify(volume, against=image, jobs=threads, progress=step)
            compared = checked.comparison
            is_cleaned = "metadata" in volume.provenance
        for problem in checked.problems[:-1]:
            report.say(f"mroi: {task.source}: {problem}")
        if checked.problems:
            raise checked.problems[-1]
        if compared is not None and not compared.equal:
            raise _difference(compared)
        record = {
            "source": task.source,
            "chunks": checked.chunks,
            "missing": checked.missing,
            "partial": checked.missing > 0,
            "digests": list(checked.digests),
            "equal": None if compared is None else compared.equal,
            "left_out": getattr(image, "provenance", {}).get("left_out"),
        }
        if json or checked.missing or not quiet:
            text = _text(checked, compared, is_cleaned=is_cleaned)
            report.answer(record, f"{task.source}: {text}")

    code = batch.run(tasks, work, report, at_once=at_once, fail_fast=fail_fast)
    raise typer.Exit(report.less_than(code))


def _open_source(
    against: str, stack: ExitStack, volume: Volume, *, series: str | None, all_bits: bool
) -> VoxelSource:
    """Open what to compare with; slices at uneven distances are compared like all others."""
    from mroi.adapters import convert
    from mroi.errors import SourceError

    try:
        path = stack.enter_context(on_disk(against))
        return convert.open_input(
            path,
            series=series,
            like=convert.series_of(volume),
            wanted=convert.picked(volume),
            allow_irregular=True,
            allow_missing=True,
            all_bits=all_bits,
        )
    except OSError as exc:
        raise SourceError(f"{exc.filename or against}: {exc.strerror or exc}") from exc


def _difference(compared: Comparison) -> Exception:
    from mroi.errors import ChecksumError

    parts = [
        f"{compared.different:,} of {counted(compared.voxels, 'voxel')} differ, by up to "
        f"{compared.max_error:g}"
        if compared.different
        else "",
        "" if compared.same_geometry else "shape, type, affine or scaling differ",
        "" if compared.same_metadata else "the bytes around the voxels differ",
    ]
    return ChecksumError("not equal to the source: " + "; ".join(filter(None, parts)))


def _text(checked: VerifyReport, compared: Comparison | None, *, is_cleaned: bool) -> str:
    parts = [f"ok, {counted(checked.chunks, 'chunk')}"]
    if checked.missing:
        parts = [f"PARTIAL: valid, but {checked.missing} of {checked.chunks} chunks are missing"]
    if checked.digests:
        parts.append(f"SHA-256 of {' and '.join(checked.digests)}")
    if compared is not None:
        equal = (
            "geometry equal the source" if is_cleaned else "geometry and header equal the source"
        )
        parts.append(
            f"{'all ' * (compared.voxels > 1)}{counted(compared.voxels, 'voxel')}, {equal}"
        )
        if is_cleaned:
            parts.append("metadata were cleaned or left out")
    return ", ".join(parts)
