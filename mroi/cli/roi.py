"""``mroi roi``: find the ROI of many images as MedROI does, and write its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mroi.batch.reading import Reading
from mroi.batch.roi import FindRoi
from mroi.batch.tasks import Action, Exists, Task
from mroi.batch.told import Result
from mroi.cli import batch
from mroi.cli.options import (
    AllBits,
    AllowMissing,
    DaskOption,
    DryRun,
    ExistsOption,
    FailFast,
    Irregular,
    Jobs,
    JournalOption,
    Json,
    ManifestOption,
    Pick,
    Quiet,
    Series,
    ShardOption,
    WindowOption,
    parse_picks,
    refuse_url,
)
from mroi.cli.report import Report

if TYPE_CHECKING:
    from mroi.batch.journal import Journal

EXAMPLES = """\
  mroi roi scan.nii.gz -o roi/                    the tables of one volume
  mroi roi study/ -o roi/ --save-cropped --draw   of a study, with crops and pictures
  mroi roi mammograms/ -o roi/ --draw             2-D images: a JSON for each, one table
  mroi pack study/ -o packed/ --roi boxes:roi/bbox3d_by_subject.csv
"""


def run(
    context: typer.Context,
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT", help="Files and folders.")],
    *,
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", callback=refuse_url, metavar="FOLDER", help="Where all results go."
        ),
    ],
    save_cropped: Annotated[
        bool,
        typer.Option(
            "--save-cropped",
            help="Write what lies in the boxes, as float32: cropped_volumes/SUBJECT.nii.gz with "
            "its own affine, or NAME_cropped.npy.",
        ),
    ] = False,
    draw: Annotated[
        bool, typer.Option("--draw", help="Draw the boxes: pictures/SUBJECT.png.")
    ] = False,
    window: WindowOption = None,
    series: Series = None,
    pick: Pick = None,
    allow_irregular: Irregular = False,
    allow_missing: AllowMissing = False,
    all_bits: AllBits = False,
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
    """Find regions of interest as MedROI does.

    Volumes (NIfTI, and each DICOM series of a folder) get rows in per_slice_boxes.csv,
    bbox3d_by_subject.csv and cropping_times.csv. 2-D images (DICOM files; those called *.dcm of a
    folder) get NAME_metadata.json and a row in cropped_2d_dicom_results.csv. Columns and values
    are MedROI's: bounds in tables are inclusive. A file without anatomy has failed and has no row.

    The folder is one output: --exists says what to do if it has tables already.
    """
    from mroi.adapters.crop import RoiFolder, RoiTables
    from mroi.pictures.planes import parse_window

    report = Report("roi", json=json, quiet=quiet)
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
    reading = Reading(
        series=series,
        wanted=parse_picks(pick),
        allow_irregular=allow_irregular,
        allow_missing=allow_missing,
        all_bits=all_bits,
        metadata="strip",
    )
    work = FindRoi(save_cropped, draw, parse_window(window), reading)
    paths, folder = scale.places(inputs, output)
    assert folder is not None
    tasks = work.plan(paths, folder, exists=exists, shard=scale.shard)
    places = {task.called: place for place, task in enumerate(tasks)}
    is_new = bool(tasks) and tasks[0].action is not Action.WRITE
    replaces = exists is Exists.OVERWRITE
    with RoiTables() as tables:

        def took(result: Result) -> None:
            if result.outcome is not None:
                tables.add(places[result.task.called], result.outcome.tables)

        def found(journal: Journal) -> None:
            nonlocal replaces
            for called, rows in journal.tables():
                if called in places:
                    replaces = True
                    tables.add(places[called], rows)

        def again(_failed: list[Task]) -> str:
            if journal is not None or exists is not Exists.ERROR:
                return batch.repeated(context)
            return batch.repeated(context, Exists.OVERWRITE) if is_new else ""

        try:
            code = batch.run(work, tasks, report, scale, again=again, took=took, found=found)
        finally:  # what was found before an interruption is worth having
            if tasks:
                sources = [task.source for task in tasks]
                tables.write(RoiFolder(tasks[0].target, overwrite=replaces, inputs=sources))
    raise typer.Exit(report.less_than(code))
