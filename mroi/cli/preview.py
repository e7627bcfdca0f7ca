"""``mroi preview``: a picture of what is in a file."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from mroi.cli import batch
from mroi.cli.options import (
    Axis,
    AxisOption,
    DryRun,
    Exists,
    ExistsOption,
    FailFast,
    Inputs,
    Json,
    Output,
    Quiet,
    VolumeOption,
    WindowOption,
)
from mroi.cli.report import Report, Step, size_text
from mroi.cli.streams import Missing, open_output, open_volume

if TYPE_CHECKING:
    from PIL.Image import Image

    from mroi.pictures.planes import Window
    from mroi.volume.model import Volume

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
    axis: AxisOption = None,
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

    report = Report("preview", json=json, quiet=quiet)
    chosen = parse_window(window)
    tasks = batch.plan(inputs, [".mroi"], output, lambda entry: f"{entry.stem}.png", exists)

    def work(task: batch.Task, _step: Step) -> None:
        with open_volume(task.source, missing=Missing.FILL) as opened:
            missing = len(opened.reader.find_missing())
            sheet = draw(
                opened,
                task.name,
                axis=axis,
                count=count,
                number=volume,
                window=chosen,
                coarse=coarse,
                width=width,
            )
        with open_output(task) as file:
            sheet.save(file, "PNG")
        report.done(
            {
                "source": task.source,
                "target": task.target,
                "size": sheet.size,
                "missing": missing,
            },
            f"{task.source} -> {task.target}  {sheet.width} x {sheet.height} pixels",
        )

    raise typer.Exit(batch.run(tasks, work, report, dry_run=dry_run, fail_fast=fail_fast))


def draw(
    volume: Volume,
    name: str,
    *,
    axis: Axis | None,
    count: int,
    number: int,
    window: Window | None,
    coarse: bool,
    width: int,
) -> Image:
    """Return the sheet of a volume; see the options of the command."""
    from mroi.pictures import planes
    from mroi.pictures.sheet import draw_sheet

    geom = volume.geom
    view = planes.View(volume)
    if axis is None:
        places = view.centre()
    else:
        start, stop = geom.roi.start[axis.number], geom.roi.stop[axis.number]
        shown = min(count, stop - start)
        apart = (stop - start) / shown
        places = [(axis.number, start + int((n + 0.5) * apart)) for n in range(shown)]
    read = planes.read_coarse if coarse else planes.read_values
    step = planes.step_for(volume, places)
    values = [read(volume, a, index, number, step) for a, index in places]
    missing = volume.reader.find_missing()
    lost = [planes.lacks(volume, missing, a, index, number, step) for a, index in places]
    window = window or planes.find_window(
        [plane[~gone] for plane, gone in zip(values, lost, strict=True)]
    )
    panels = [
        view.panel(planes.mark(planes.to_pixels(plane, window), gone), a, index, step)
        for plane, gone, (a, index) in zip(values, lost, places, strict=True)
    ]
    if axis is not None:  # many of a kind: one set of letters is enough
        panels[1:] = [replace(panel, letters="    ") for panel in panels[1:]]
    columns = len(panels) if axis is None else _columns(len(panels), panels[0].size)
    return draw_sheet(
        panels, columns=columns, title=name, lines=_lines(volume, number, len(missing)), width=width
    )


def _columns(count: int, size: tuple[float, float]) -> int:
    """Return how many panels in a row give a sheet about 1.6 times as wide as high, rows full."""
    wide, high = size

    def badness(columns: int) -> float:
        rows = -(-count // columns)
        shape = columns * wide / (rows * high)
        empty = rows * columns - count
        return abs(math.log(shape / 1.6)) + empty / count

    return min(range(1, count + 1), key=badness)


def _lines(volume: Volume, number: int, missing: int) -> list[str]:
    from mroi.geometry import spacing_of
    from mroi.pictures.planes import has_place

    geom, reader = volume.geom, volume.reader
    shape = " x ".join(map(str, volume.shape))
    spacing = " x ".join(f"{d:.3g}" for d in spacing_of(geom.affine)[: volume.ndim])
    orientation = volume.orientation if has_place(geom) else "orientation not known"
    first = [f"{shape} voxels of {spacing} mm", geom.datatype.name, orientation]
    if missing:
        first.insert(0, f"{missing} of {reader.head.chunk_count} chunks are missing (magenta)")
    if geom.grid.volumes > 1:
        first.append(f"volume {number} of {geom.grid.volumes}")
    share = geom.roi.count / math.prod(geom.shape[:3])
    second = [
        f"ROI {geom.roi} ({share:.0%} of the voxels)",
        reader.head.codecs[0].name,
        f"{size_text(reader.size)} for {size_text(geom.size)} of voxels",
    ]
    return ["   ".join(first), "   ".join(second)]
