"""``mroi roi``: find the ROI of many images as MedROI does, and write its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mroi.cli import batch
from mroi.cli.options import (
    AllBits,
    AllowMissing,
    DryRun,
    Exists,
    ExistsOption,
    FailFast,
    Irregular,
    Json,
    Pick,
    Quiet,
    Series,
    WindowOption,
    parse_picks,
    refuse_url,
)
from mroi.cli.report import Report, Step
from mroi.cli.series import SeriesFinder, source_of
from mroi.cli.streams import on_disk

if TYPE_CHECKING:
    from mroi.adapters.crop import RoiFolder

EXAMPLES = """\
  mroi roi scan.nii.gz -o roi/                    the tables of one volume
  mroi roi study/ -o roi/ --save-cropped --draw   of a study, with crops and pictures
  mroi roi mammograms/ -o roi/ --draw             2-D images: a JSON for each, one table
  mroi pack study/ -o packed/ --roi boxes:roi/bbox3d_by_subject.csv
"""

_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".hdr.gz")
_IMAGES = (".dcm",)


def run(
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
    exists: ExistsOption = Exists.ERROR,
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
    from mroi.adapters import convert
    from mroi.adapters.crop import subject_of
    from mroi.pictures.planes import parse_window
    from mroi.roi.find import find_roi
    from mroi.roi.picture import draw_roi

    report = Report("roi", json=json, quiet=quiet)
    shown, wanted = parse_window(window), parse_picks(pick)
    if any(map(batch.is_stream, inputs)):
        raise typer.BadParameter("a subject is called like its file: give a file, not a pipe")
    finder = SeriesFinder(_SUFFIXES, series, with_pictures=False)
    suffixes = () if series else (*_SUFFIXES, *_IMAGES)
    found_tasks = map(batch.Task.of, batch.find_inputs(inputs, suffixes, finder.find))
    subjects: dict[str, batch.Task] = {}
    for task in found_tasks:
        other = subjects.setdefault(subject_of(task.subject), task)
        if (other.source, other.part_name) != (task.source, task.part_name):
            raise typer.BadParameter(
                f"{other.called} and {task.called} would be one subject in the tables"
            )
    finder.check()
    folder, action = _folder(output, exists, [task.source for task in subjects.values()])

    def work(task: batch.Task, step: Step) -> None:
        if task.action is batch.Action.WRITE:
            raise FileExistsError(17, "there are tables already", task.target)
        with on_disk(task.source) as path:
            source = convert.open_input(
                source_of(task, path),
                series=series,
                wanted=wanted,
                allow_irregular=allow_irregular,
                allow_missing=allow_missing,
                all_bits=all_bits,
                metadata="strip",
            )
            found = find_roi(source, step)
        subject = subject_of(task.subject)
        files = folder.add(subject, task.source, found, save_cropped=save_cropped)
        if draw:
            name = f"pictures/{subject}.png"
            with folder.create(name) as file:
                draw_roi(found, subject, window=shown).save(file, "PNG")
            files.append(folder.folder / name)
        if not found.is_image or bool(getattr(source, "damaged", ())):  # the others are of space
            report.warn_of(task.called, source)
        report.done(
            {
                **task.called.to_json(),
                "target": task.target,
                "subject": subject,
                "kind": "image" if found.is_image else "volume",
                "shape": list(found.shape),
                "roi": {"start": list(found.box.start), "stop": list(found.box.stop)},
                "share": found.share,
                "box_time": found.box_time,
                "files": [str(path) for path in files],
            },
            f"{task.called} -> {task.target}  ROI {found.box} ({found.share:.1%} of the voxels)",
        )

    tasks = [replace(task, target=str(folder.folder), action=action) for task in subjects.values()]
    try:
        code = batch.run(tasks, work, report, dry_run=dry_run, fail_fast=fail_fast)
    finally:  # what was found before an interruption is worth having
        folder.write_tables()
    raise typer.Exit(report.less_than(code))


def _folder(output: str, exists: Exists, inputs: Sequence[str]) -> tuple[RoiFolder, batch.Action]:
    """Return the folder for the results, and what is done to its inputs."""
    from mroi.adapters.crop import RoiFolder

    folder = RoiFolder(output, overwrite=exists is Exists.OVERWRITE, inputs=inputs)
    number = 0
    while exists is Exists.SUFFIX and folder.has_tables():
        number += 1
        folder = RoiFolder(Path(output).with_name(f"{Path(output).name}-{number}"), inputs=inputs)
    if exists is Exists.SKIP and folder.has_tables():
        return folder, batch.Action.SKIP
    if exists is Exists.ERROR and folder.has_tables():
        return folder, batch.Action.WRITE  # which finds that something is in the way
    return folder, batch.Action.OVERWRITE  # of the folder; its files look after themselves
