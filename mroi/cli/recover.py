"""``mroi recover``: what is whole of a damaged or cut file, as a valid one."""

from __future__ import annotations

from pathlib import Path

import typer

from mroi.batch.streams import on_disk
from mroi.batch.tasks import STANDARD, Action, Exists, Task, plan_tasks
from mroi.batch.told import Context, Outcome
from mroi.cli import batch
from mroi.cli.options import DryRun, ExistsOption, FailFast, Inputs, Json, Output, Quiet
from mroi.cli.report import Report

EXAMPLES = """\
  mroi recover damaged.mroi                  damaged.recovered.mroi beside it
  mroi recover cut.mroi -o whole.mroi        a file that was not copied to its end
"""


def run(
    inputs: Inputs,
    *,
    output: Output = None,
    exists: ExistsOption = Exists.ERROR,
    dry_run: DryRun = False,
    fail_fast: FailFast = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Save what is whole of damaged or cut files.

    The new file is valid and says which chunks are missing. Of the head, what says how to read
    the chunks (geometry, codecs, rescale factors) has to be whole. What was written is verified.
    """
    from mroi.volume.recover import recover_volume

    report = Report("recover", json=json, quiet=quiet)
    tasks = plan_tasks(
        inputs,
        [".mroi"],
        output,
        lambda entry: f"{entry.stem}.recovered.mroi",
        exists,
        endings=[".mroi"],
    )
    if any(task.target == STANDARD for task in tasks):
        raise typer.BadParameter("recover writes to a file, so that it can verify it: use --output")

    def work(task: Task, context: Context) -> Outcome:
        with on_disk(task.source) as path:
            found = recover_volume(
                path,
                task.target,
                overwrite=task.action is Action.OVERWRITE,
                progress=context.step,
            )
            is_whole = not found.missing and not found.unchecked and _is_undamaged(path)
        saved = found.chunks - len(found.missing)
        text = f"{saved} of {found.chunks} chunks"
        if is_whole:
            text = "nothing was wrong; a full copy was written, but for digests"
        if found.unchecked:
            text += ", by their checksums alone: a codec is not installed"
        return Outcome(
            {
                "source": task.source,
                "target": task.target,
                "chunks": found.chunks,
                "missing": list(found.missing),
                "unchecked": found.unchecked,
                "damaged": not is_whole,
            },
            f"{task.source} -> {task.target}  {text}",
        )

    raise typer.Exit(
        batch.run_here("recover", work, tasks, report, fail_fast=fail_fast, dry_run=dry_run)
    )


def _is_undamaged(path: Path) -> bool:
    """Whether nothing is wrong with a file, of which all chunks could be saved."""
    from mroi.adapters.convert import verify
    from mroi.errors import MroiError

    try:
        return verify(path).ok
    except MroiError:
        return False
