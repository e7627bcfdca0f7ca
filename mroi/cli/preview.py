"""``mroi preview``: a picture of what is in a file."""

from __future__ import annotations

from typing import Annotated

import typer

from mroi.batch.streams import Missing, open_output, open_volume
from mroi.batch.tasks import Exists, Task, plan_tasks
from mroi.batch.told import Context, Outcome
from mroi.cli import batch
from mroi.cli.options import (
    Axis,
    DryRun,
    ExistsOption,
    FailFast,
    Inputs,
    Json,
    Output,
    Quiet,
    VolumeOption,
    WindowOption,
)
from mroi.cli.report import Report

EXAMPLES = """\
  mroi preview scan.mroi                        three planes through the centre of the ROI
  mroi preview scan.mroi --axis z --count 24    slices of the ROI along one axis
  mroi preview study/ -o pictures/              every .mroi file below a folder
  mroi preview large.mroi --coarse              from the overview, where the file has one
  mroi preview ct.mroi --window -160,240        contrast of one's own, in values of the volume
"""


def run(
    inputs: Inputs,
    *,
    output: Output = None,
    axis: Annotated[
        Axis | None,
        typer.Option(
            "--axis",
            "-a",
            help="Slices across it. Default: three planes through the centre of the ROI.",
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=400, help="How many slices, with --axis.")] = 20,
    volume: VolumeOption = 0,
    window: WindowOption = None,
    coarse: Annotated[
        bool, typer.Option("--coarse", help="Draw from the overview of the file, at once.")
    ] = False,
    width: Annotated[int, typer.Option(min=560, max=10_000, help="Pixels of the picture.")] = 1280,
    exists: ExistsOption = Exists.ERROR,
    dry_run: DryRun = False,
    fail_fast: FailFast = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Draw a contact sheet (PNG).

    Planes to scale, the ROI as a box, letters for the directions, and what the file is. The
    patient's right is on the right, front and head are up; a DICOM image without a position is
    drawn as stored. What a recovered file lacks is magenta.
    """
    from mroi.pictures.planes import parse_window
    from mroi.pictures.preview import draw_preview

    report = Report("preview", json=json, quiet=quiet)
    chosen = parse_window(window)
    tasks = plan_tasks(
        inputs, [".mroi"], output, lambda entry: f"{entry.stem}.png", exists, endings=[".png"]
    )

    def work(task: Task, _context: Context) -> Outcome:
        with open_volume(task.source, missing=Missing.FILL) as opened:
            missing = len(opened.reader.find_missing())
            sheet = draw_preview(
                opened,
                task.name,
                axis=None if axis is None else axis.number,
                count=count,
                volume_index=volume,
                window=chosen,
                coarse=coarse,
                width=width,
            )
        with open_output(task) as file:
            sheet.save(file, "PNG")
        return Outcome(
            {
                "source": task.source,
                "target": task.target,
                "size": sheet.size,
                "missing": missing,
            },
            f"{task.source} -> {task.target}  {sheet.width} x {sheet.height} pixels",
        )

    raise typer.Exit(
        batch.run_here("preview", work, tasks, report, dry_run=dry_run, fail_fast=fail_fast)
    )
