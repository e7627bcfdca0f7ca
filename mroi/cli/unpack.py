"""``mroi unpack``: the source image back out of a .mroi file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from mroi.cli import batch
from mroi.cli.options import (
    DryRun,
    Exists,
    ExistsOption,
    FailFast,
    Inputs,
    Jobs,
    Json,
    Output,
    Quiet,
)
from mroi.cli.report import Report, Step
from mroi.cli.streams import Missing, MissingOption, open_volume, sink

if TYPE_CHECKING:
    from mroi.volume.model import Volume

EXAMPLES = """\
  mroi unpack scan.mroi                     scan.nii.gz, .nii or .hdr/.img: as the source was
  mroi unpack scan.mroi -o restored.nii     not compressed: the bytes of the source
  mroi unpack packed/ -o images/            every .mroi file below a folder
  mroi unpack ct.mroi -o ct.nii.gz          a DICOM series as an image; -o folder/ as files
  mroi unpack cut.recovered.mroi --missing fill -o scan.nii      what is left of it
  mroi unpack - -o - < scan.mroi | sha256sum
"""


def run(
    inputs: Inputs,
    *,
    output: Output = None,
    missing: MissingOption = Missing.ERROR,
    jobs: Jobs = 0,
    exists: ExistsOption = Exists.ERROR,
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
    from mroi.adapters import convert

    report = Report("unpack", json=json, quiet=quiet)
    tasks = batch.plan(
        inputs,
        [".mroi"],
        output,
        _target_name,
        exists,
        endings=convert.UNPACKED_ENDINGS,
        allows_none=True,  # a folder for the files of a DICOM series
    )
    at_once, threads = batch.threads_for(jobs, len(tasks))

    def work(task: batch.Task, step: Step) -> None:
        with open_volume(task.source, jobs=threads, missing=missing) as volume:
            is_lossless = volume.is_lossless
            lost, chunks = len(volume.reader.find_missing()), volume.reader.head.chunk_count
            result = convert.unpack(
                volume,
                sink(task),
                overwrite=task.action is batch.Action.OVERWRITE,
                progress=step,
            )
            proof = _proof(volume, proven=result.proven)
        if lost:
            proof = "not equal to the source"
            if not quiet:
                report.say(
                    f"mroi: {task.source}: warning: {lost} of {chunks} chunks are missing, "
                    "the fill value stands for their voxels"
                )
        targets = [str(path) for path in result.paths] or [task.target]
        many = f"{task.target} ({len(targets)} files)"
        report.done(
            {
                "source": task.source,
                "targets": targets,
                "proven": result.proven,
                "lossless": is_lossless,
                "missing": lost,
            },
            f"{task.source} -> {many if len(targets) > 2 else ', '.join(targets)}  {proof}",
        )

    raise typer.Exit(
        batch.run(tasks, work, report, at_once=at_once, fail_fast=fail_fast, dry_run=dry_run)
    )


def _proof(volume: Volume, *, proven: bool) -> str:
    """Say what is known of a restored image; `proven`: its SHA-256 is the one in the file."""
    from mroi.format.metadata import DigestScope
    from mroi.format.records import FrameType

    if proven:
        cleaned = "metadata" in volume.provenance
        return f"equal to the {'cleaned ' if cleaned else ''}source (SHA-256)"
    keys = {frame.key for frame in volume.reader.frames}
    held = "voxels and attributes" if (FrameType.DICOM, 0) in keys else "voxels"
    if not volume.is_lossless:
        return f"{held} from the file, which is lossy: not equal to the source"
    if (FrameType.DIGEST, DigestScope.VOLUME) not in keys:
        return f"{held} from the file; not proven: no digest"
    return f"{held} from the file; `mroi verify` proves the voxels"


def _target_name(entry: batch.Input) -> str:
    """Return the usual name for what a file unpacks to; any name, if it cannot be opened."""
    from mroi.adapters.convert import unpacked_name
    from mroi.errors import MroiError
    from mroi.volume.model import open_volume

    if not batch.is_stream(entry.path):
        try:
            with open_volume(entry.path) as volume:
                return unpacked_name(entry.below, volume).name
        except (MroiError, OSError):
            pass  # what is wrong is said when the file's turn comes
    return f"{entry.stem}.nii"
