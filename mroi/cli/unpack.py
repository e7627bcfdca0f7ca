"""``mroi unpack``: the source image back out of a .mroi file."""

from __future__ import annotations

import typer

from mroi.batch.streams import Missing
from mroi.batch.tasks import Exists
from mroi.batch.unpack import Unpack
from mroi.cli import batch
from mroi.cli.options import (
    DaskOption,
    DryRun,
    ExistsOption,
    FailFast,
    Inputs,
    Jobs,
    JournalOption,
    Json,
    ManifestOption,
    MissingOption,
    Output,
    Quiet,
    ShardOption,
)
from mroi.cli.report import Report

EXAMPLES = """\
  mroi unpack scan.mroi                     scan.nii.gz, .nii or .hdr/.img: as the source was
  mroi unpack scan.mroi -o restored.nii     not compressed: the bytes of the source
  mroi unpack packed/ -o images/            every .mroi file below a folder
  mroi unpack ct.mroi -o ct.nii.gz          a DICOM series as an image; -o folder/ as files
  mroi unpack cut.recovered.mroi --missing fill -o scan.nii      what is left of it
  mroi unpack - -o - < scan.mroi | sha256sum
"""


def run(
    context: typer.Context,
    inputs: Inputs,
    *,
    output: Output = None,
    missing: MissingOption = Missing.ERROR,
    jobs: Jobs = 0,
    exists: ExistsOption = Exists.ERROR,
    journal: JournalOption = None,
    manifest: ManifestOption = None,
    shard: ShardOption = None,
    dask: DaskOption = None,
    dry_run: DryRun = False,
    fail_fast: FailFast = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Restore the images that .mroi files were made from.

    The uncompressed bytes are those of the NIfTI source: header, extensions, voxels. They are
    checked against the SHA-256 of the source, if it is in the file, before anything appears.
    DICOM series become a folder of files, or a NIfTI image if the output is called so.
    """
    report = Report("unpack", json=json, quiet=quiet)
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
    work = Unpack(missing)
    tasks = work.plan(*scale.places(inputs, output), exists=exists, shard=scale.shard)
    raise typer.Exit(
        batch.run(work, tasks, report, scale, again=batch.again(context, exists, journal=journal))
    )
