"""``mroi slice``: one slice, as a picture or as numbers."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from mroi.batch.streams import Missing, open_output, open_volume
from mroi.batch.tasks import Exists, Task, plan_tasks
from mroi.batch.told import Context, Importance, Outcome
from mroi.cli import batch
from mroi.cli.options import (
    Axis,
    ExistsOption,
    Json,
    MissingOption,
    Quiet,
    WindowOption,
)
from mroi.cli.report import Report
from mroi.errors import UsageError
from mroi.text import counted

if TYPE_CHECKING:
    from mroi.pictures.planes import Plane, Window
    from mroi.volume.model import Volume

EXAMPLES = """\
  mroi slice scan.mroi -o middle.png           the middle slice of the ROI
  mroi slice scan.mroi -k 90 -a x -o s.npy     the plane i = 90, for numpy.load
  mroi slice scan.mroi -k 90 -f npy -o - | ... to another program
  mroi slice - -k 90 -o s.png < scan.mroi      from a pipe
"""


class Format(StrEnum):
    """How a slice is written."""

    PNG = "png"
    NPY = "npy"


def run(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A .mroi file, a URL, or -.")],
    *,
    index: Annotated[
        int | None,
        typer.Option("--index", "-k", help="Which; -1 is the last. Default: middle of the ROI."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A name in .png or .npy, a folder, or - for standard output. Default: "
            "NAME.slice.png beside the input.",
        ),
    ] = None,
    axis: Annotated[
        Axis | None,
        typer.Option(
            "--axis", "-a", help="The slice lies across it. Default: the slice axis of the file."
        ),
    ] = None,
    volume: Annotated[
        int | None,
        typer.Option(
            "--volume",
            min=0,
            metavar="N",
            help="Which 3-D volume of 4-D data. Default: PNG the first, NPY all of them.",
        ),
    ] = None,
    kind: Annotated[
        Format | None, typer.Option("--format", "-f", help="Default: by the name of the output.")
    ] = None,
    stored: Annotated[
        bool, typer.Option("--stored", help="NPY: stored values, without slope and intercept.")
    ] = False,
    window: WindowOption = None,
    missing: MissingOption = Missing.ERROR,
    exists: ExistsOption = Exists.ERROR,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Read one slice: numbers (NPY) or a picture (PNG).

    Only the chunks that the slice lies in are read.
    NPY holds the values, the two in-plane voxel axes in ascending order (all further axes too,
    without --volume).
    PNG is a picture of it, one pixel for each voxel, turned as in `mroi preview`.
    """
    from mroi.pictures import planes

    report = Report("slice", json=json, quiet=quiet)
    chosen = planes.parse_window(window)
    is_given = kind is not None
    kinds = [kind] if kind else list(Format)
    kind = kind or (Format.NPY if (output or "").lower().endswith(".npy") else Format.PNG)
    suffix = f".slice.{kind}"
    tasks = plan_tasks(
        [source],
        [".mroi"],
        output,
        lambda entry: entry.stem + suffix,
        exists,
        endings=[f".{known}" for known in kinds],
        allows_none=is_given,
    )

    def work(task: Task, context: Context) -> Outcome:
        with open_volume(task.source, missing=missing) as opened:
            across = opened.slice_axis if axis is None else axis.number
            plane = planes.Plane(across, _index(opened, across, index), volume or 0)
            if kind is Format.PNG:
                planes.check_size(opened, across)
            all_volumes = kind is Format.NPY and volume is None
            with open_output(task) as file:
                if kind is Format.PNG:
                    _write_png(file, opened, plane, window=chosen)
                else:
                    _write_npy(file, opened, plane, all_volumes=all_volumes, stored=stored)
            filled = _count_filled(opened, plane, all_volumes=all_volumes)
        if filled:
            context.say(
                f"mroi: {task.source}: warning: the file lacks {counted(filled, 'voxel')} of this "
                "slice, the fill value stands in",
                Importance.USUAL,
            )
        return Outcome(
            {
                "source": task.source,
                "target": task.target,
                "axis": "xyz"[across],
                "index": plane.index,
                "filled": filled,
            },
            f"{task.source} -> {task.target}  {'ijk'[across]} = {plane.index}",
        )

    raise typer.Exit(batch.run_here("slice", work, tasks, report))


def _index(volume: Volume, axis: int, index: int | None) -> int:
    """Return the index that is meant, counted from the first slice."""
    if index is None:
        return (volume.roi.start[axis] + volume.roi.stop[axis] - 1) // 2
    extent = volume.geom.shape[axis]
    if not -extent <= index < extent:
        raise UsageError(
            f"index {index} is out of range: axis {'xyz'[axis]} has {extent} slices, "
            f"{-extent} to {extent - 1}"
        )
    return index % extent


def _count_filled(volume: Volume, plane: Plane, *, all_volumes: bool) -> int:
    """Return how many voxels of a slice the file does not have."""
    from mroi.format.geom import Background
    from mroi.pictures.planes import find_lost

    missing = volume.reader.find_missing()
    if not missing and volume.geom.background is not Background.OMIT:
        return 0
    numbers = range(volume.geom.grid.volumes) if all_volumes else [plane.volume]
    planes = (replace(plane, volume=number) for number in numbers)
    return sum(int(find_lost(volume, one, missing).sum()) for one in planes)


def _write_npy(
    file: BinaryIO, volume: Volume, plane: Plane, *, all_volumes: bool, stored: bool
) -> None:
    import numpy as np

    from mroi.pictures.planes import plane_key

    values = volume.unscaled if stored else volume
    with np.errstate(all="ignore"):
        if all_volumes:
            image = values.slice(plane.index, plane.axis)
        else:
            image = values[plane_key(volume, plane)]
    if image.dtype.kind == "V" and not image.dtype.names:
        raise UsageError(f"NPY cannot hold {volume.geom.datatype.name}")
    np.lib.format.write_array(file, image, allow_pickle=False)


def _write_png(file: BinaryIO, volume: Volume, plane: Plane, *, window: Window | None) -> None:
    from PIL import Image

    from mroi.pictures import planes

    values = planes.read_values(volume, plane)
    pixels = planes.to_pixels(values, window or planes.find_window([values]))
    Image.fromarray(planes.View(volume).turned(pixels, plane.axis)).save(file, "PNG")
