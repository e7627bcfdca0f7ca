"""``mroi export``: a volume in a format of other programs."""

from __future__ import annotations

from enum import StrEnum
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from mroi.batch.streams import Missing, open_volume
from mroi.batch.tasks import Action, Exists, Task, plan_tasks
from mroi.batch.told import Context, Outcome
from mroi.cli import batch
from mroi.cli.options import (
    DryRun,
    ExistsOption,
    FailFast,
    Inputs,
    Jobs,
    Json,
    MissingOption,
    Output,
    Quiet,
)
from mroi.cli.report import Report
from mroi.errors import UsageError
from mroi.text import counted, size_text

if TYPE_CHECKING:
    from mroi.ome_zarr import OmeZarrPlan
    from mroi.volume.model import Volume

EXAMPLES = """\
  mroi export scan.mroi                        scan.ome.zarr, a folder
  mroi export scan.mroi --cropped              the ROI alone
  mroi export pet.mroi --real                  real units, for viewers that know no slope
  mroi export packed/ -o bids/ --dry-run       what would become of every .mroi file below a folder
"""
_ENDING = ".ome.zarr"


class Format(StrEnum):
    """What is written."""

    OME_ZARR = "ome-zarr"


class Kind(StrEnum):
    """What the values of a volume are."""

    AUTO = "auto"
    IMAGE = "image"
    LABELS = "labels"


def run(
    inputs: Inputs,
    *,
    to: Annotated[Format, typer.Option("--to", help="The format.")] = Format.OME_ZARR,  # noqa: ARG001
    output: Output = None,
    cropped: Annotated[bool, typer.Option("--cropped", help="The ROI alone.")] = False,
    real: Annotated[
        bool,
        typer.Option(
            "--real",
            help="Values in real units, slope and intercept applied. Default: as they are stored.",
        ),
    ] = False,
    kind: Annotated[
        Kind,
        typer.Option(
            "--kind",
            help="Of labels, lower resolutions have the nearest one, not a mean. auto looks at "
            "header and voxels.",
        ),
    ] = Kind.AUTO,
    chunk: Annotated[
        int, typer.Option("--chunk", min=1, help="Voxels of a chunk along each axis.", metavar="N")
    ] = 64,
    levels: Annotated[
        int | None,
        typer.Option(
            "--levels",
            min=1,
            metavar="N",
            help="How many resolutions at most. Default: until one fits into a chunk.",
        ),
    ] = None,
    missing: MissingOption = Missing.ERROR,
    jobs: Jobs = 0,
    exists: ExistsOption = Exists.ERROR,
    dry_run: DryRun = False,
    fail_fast: FailFast = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write volumes as OME-Zarr 0.5, for viewers, web servers and BIDS.

    A folder with several resolutions in chunks, for any program that knows OME-Zarr: napari,
    Neuroglancer, Vizarr. The voxels are those of the file. What OME-Zarr has no place for, such as
    the direction of the axes, is kept in attributes and a NIfTI header, and said. `mroi unpack`
    gives the source back.
    """
    if find_spec("zarr") is None:
        raise UsageError("zarr is not installed: pip install 'mroi[zarr]'")
    from mroi.ome_zarr import export_ome_zarr, plan_ome_zarr

    report = Report("export", json=json, quiet=quiet)
    tasks = plan_tasks(
        inputs,
        [".mroi"],
        output,
        lambda entry: f"{entry.stem}{_ENDING}",
        exists,
        endings=[_ENDING],
        makes_folders=True,
    )
    labels = None if kind is Kind.AUTO else kind is Kind.LABELS

    def part_of(volume: Volume) -> Volume:
        return volume.cropped if cropped else volume

    def rehearse(task: Task, context: Context) -> Outcome:
        with open_volume(task.source, jobs=context.threads, missing=missing) as volume:
            plan = plan_ome_zarr(
                part_of(volume), real=real, labels=labels, chunk=chunk, levels=levels
            )
        if not json:
            _warn(context, task, plan)
        return task.planned(_record(plan), _text(plan))

    def work(task: Task, context: Context) -> Outcome:
        with open_volume(task.source, jobs=context.threads, missing=missing) as volume:
            result = export_ome_zarr(
                part_of(volume),
                task.target,
                real=real,
                labels=labels,
                chunk=chunk,
                levels=levels,
                overwrite=task.action is Action.OVERWRITE,
                progress=context.step,
            )
        if not json:
            _warn(context, task, result.plan)
        return Outcome(
            {
                "source": task.source,
                "target": task.target,
                "size": result.size,
                "files": result.files,
                **_record(result.plan),
            },
            f"{task.source} -> {task.target}  {_text(result.plan)}, {size_text(result.size)} in "
            f"{counted(result.files, 'file')}",
        )

    raise typer.Exit(
        batch.run(
            batch.Local("export", work, rehearse),
            tasks,
            report,
            batch.Scale(jobs=jobs, fail_fast=fail_fast, dry_run=dry_run),
        )
    )


def _warn(context: Context, task: Task, plan: OmeZarrPlan) -> None:
    for note in plan.notes:
        context.warn(task.called, note)


def _record(plan: OmeZarrPlan) -> dict[str, object]:
    """Return what programs are told of a plan."""
    return {
        "axes": plan.axes,
        "dtype": plan.dtype.name,
        "kind": (Kind.LABELS if plan.labels else Kind.IMAGE).value,
        "levels": [
            {"shape": level.shape, "chunks": level.chunks, "shards": level.shards}
            for level in plan.levels
        ],
        "notes": plan.notes,
    }


def _text(plan: OmeZarrPlan) -> str:
    """Return what people are told of a plan."""
    what = "labels" if plan.labels else f"{plan.dtype.name}{', real units' if plan.real else ''}"
    shapes = [" x ".join(map(str, level.shape[::-1])) for level in plan.levels]
    return f"{what}, {counted(len(shapes), 'level')}: {shapes[0]}" + (
        f" to {shapes[-1]}" if len(shapes) > 1 else ""
    )
