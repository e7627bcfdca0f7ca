"""``mroi verify``: whether a file is whole, and equal to its source."""

from __future__ import annotations

from typing import Annotated

import typer

from mroi.batch.tasks import Task
from mroi.batch.verify import Verify
from mroi.cli import batch
from mroi.cli.options import (
    AllBits,
    DaskOption,
    FailFast,
    Inputs,
    Jobs,
    JournalOption,
    Json,
    ManifestOption,
    Quiet,
    Series,
    ShardOption,
)
from mroi.cli.report import Report

EXAMPLES = """\
  mroi verify scan.mroi                           every checksum, every chunk decoded
  mroi verify scan.mroi --against scan.nii.gz     and every voxel compared with the source
  mroi verify --json archive/ > report.jsonl      every .mroi file below a folder
"""

_NAMED = 100  # files in a command


def run(
    context: typer.Context,
    inputs: Inputs,
    *,
    against: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Compare voxels, geometry and header with this image."),
    ] = None,
    series: Series = None,
    all_bits: AllBits = False,
    jobs: Jobs = 0,
    journal: JournalOption = None,
    manifest: ManifestOption = None,
    shard: ShardOption = None,
    dask: DaskOption = None,
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
    report = Report("verify", json=json, quiet=quiet)
    scale = batch.Scale.of(
        jobs=jobs, journal=journal, manifest=manifest, shard=shard, dask=dask, fail_fast=fail_fast
    )
    work = Verify(against, series, all_bits)
    paths, _output = scale.places(inputs, None)
    tasks = work.plan(paths, shard=scale.shard)

    def again(failed: list[Task]) -> str:
        if journal is not None or shard is not None or len(failed) > _NAMED:
            return batch.repeated(context)
        options = ["-j", str(jobs)] if jobs else []
        options += ["--dask", dask] if dask else []
        return batch.command_line(
            ["mroi", "verify", *options, "--", *(task.source for task in failed)]
        )

    code = batch.run(work, tasks, report, scale, again=again)
    raise typer.Exit(report.less_than(code))
