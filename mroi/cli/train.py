"""``mroi train``: train the network of a codec on volumes of one's own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mroi.batch.tasks import STANDARD, find_inputs
from mroi.batch.told import Note
from mroi.cli.options import Json, Quiet, Verbose, refuse_url
from mroi.cli.report import Report
from mroi.errors import CodecUnavailableError, SourceError, Terminated, UsageError
from mroi.text import counted, duration

if TYPE_CHECKING:
    from mroi.codecs.neural.models import Header
    from mroi.training.curves import Entry
    from mroi.training.run import Training

EXAMPLES = """\
  mroi train tcm study/ -o mine.mroi-model --dry-run      how long will it take?
  mroi train tcm study/ -o mine.mroi-model --lambda 0.0067 --device cuda
  mroi train tcm study/ -o mine.mroi-model --resume       after an interruption
  mroi train tcm study/ -o mine.mroi-model --start tcm-0.05.mroi-model --steps 20000
  mroi pack scan.nii.gz --codec tcm:model=mine.mroi-model
"""

_SUFFIXES = (".mroi", ".nii", ".nii.gz")


class Trainable(StrEnum):
    """Codecs whose networks can be trained."""

    TCM = "tcm"
    TCM_AUXT = "tcm-auxt"
    BCM_NET = "bcm-net"


class Device(StrEnum):
    """What computes."""

    CPU = "cpu"
    CUDA = "cuda"
    AUTO = "auto"


class Channels(StrEnum):
    """What the three channels of a picture are given."""

    EQUAL = "equal"
    NEIGHBOURS = "neighbours"


def run(
    codec: Annotated[Trainable, typer.Argument(metavar="CODEC", help="tcm, tcm-auxt or bcm-net.")],
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA", help=".mroi files and NIfTI images, or folders of them."),
    ],
    *,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            callback=refuse_url,
            metavar="MODEL",
            help="The model (.mroi-model). Its curves (.csv, .svg) are written beside it.",
        ),
    ],
    size: Annotated[
        str,
        typer.Option(
            metavar="SIZE",
            help="tiny, small, medium (as published, N = 64), large (N = 128), or a JSON file with "
            "sizes as `mroi model info --json` shows them.",
        ),
    ] = "medium",
    start: Annotated[
        str, typer.Option(metavar="MODEL", help="Go on from this model, not from random weights.")
    ] = "",
    weight: Annotated[
        float | None,
        typer.Option(
            "--lambda",
            min=1e-6,
            max=1e3,
            metavar="X",
            help="Of tcm: what errors are worth in bits, more for larger files. Published: 0.0025 "
            "to 0.05. Default: 0.013.",
        ),
    ] = None,
    channels: Annotated[
        Channels | None,
        typer.Option(help="Of tcm, as of the codec: a slice three times (default), or three."),
    ] = None,
    step: Annotated[
        float | None,
        typer.Option(
            min=2**-6,
            max=2**16,
            metavar="X",
            help="Of bcm-net: step of the base layer, in units of the voxels. Default: 4.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, max=10**9, metavar="N", help="Steps.")] = 100_000,
    batch: Annotated[
        int, typer.Option(min=1, max=4096, metavar="N", help="Patches of a step.")
    ] = 8,
    patch: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=2**16,
            metavar="N",
            help="Rows and columns of a patch. Default: as suits the size.",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            min=1e-9,
            max=1,
            metavar="X",
            help="Learning rate. Default: as suits the size.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, metavar="N", help="Of all that is random.")
    ] = 0,
    validation: Annotated[
        float,
        typer.Option(
            min=0, max=0.9, metavar="X", help="Share of the volumes that is not trained on."
        ),
    ] = 0.1,
    device: Annotated[Device, typer.Option(help="auto takes a GPU if there is one.")] = Device.AUTO,
    threads: Annotated[
        int,
        typer.Option(
            min=1,
            max=1024,
            metavar="N",
            help="Of the processor. Results are the same with the same number.",
        ),
    ] = 1,
    about: Annotated[
        str, typer.Option(metavar="TEXT", help="What the model shall say of the data.")
    ] = "",
    licence: Annotated[
        str, typer.Option(metavar="TEXT", help="What others may do with the model.")
    ] = "",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a training that was interrupted.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how long it will take: a step is tried.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a model, and a training that was interrupted.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json: Json = False,
) -> None:
    """Train the network of a codec on volumes of your own.

    Patches are cut from the region of interest. The model says how it was trained, but names no
    file. Ctrl-C leaves a checkpoint beside it, from which --resume goes on to the same result.
    """
    from mroi.codecs import native

    if reason := native.find_absent("neural", "torch", "safetensors"):
        raise CodecUnavailableError(reason)
    from mroi.codecs.registry import codec_class
    from mroi.training.prepare import Wish, prepare
    from mroi.training.run import Files

    report = Report("train", json=json, quiet=quiet, verbose=verbose)
    files = Files(output)
    if not dry_run:
        _check(output, files.beside, may_be_there=resume or force)
    wish = Wish(
        architecture=codec.value,
        size=size,
        start=start,
        settings=_settings(codec, {"lambda": weight, "channels": channels, "step": step}),
        steps=steps,
        batch=batch,
        patch=patch,
        rate=rate,
        seed=seed,
        validation=validation,
        device=device.value,
        threads=threads,
        about=about,
        licence=licence,
    )
    paths = _paths(data)
    if notice := codec_class(codec.value).notice:
        report.warn(codec.value, notice)
    with report.progress(1) as (_, shown):
        training = prepare(wish, paths, files, lambda done, count: shown("reading", done, count))
    if resume:
        training.resume()
    seconds, left = training.seconds(), steps - training.step
    record = {"done": training.step, "seconds": seconds, **training.summary}
    text = (
        f"{_described(training.summary)}\n"
        f"{counted(left, 'step')}, each {seconds / max(left, 1):.3g} s: {duration(seconds)} in all"
    )
    if dry_run:
        report.answer(record, text)
        return
    report.note(Note(text))
    header = _trained(training, report, steps, overwrite=force or resume)
    record |= {"path": str(output), "id": header.id, **asdict(training.entries[-1])}
    report.answer(
        record,
        f"{output}  {codec.value}, id {header.id[:12]}: {_values(training.entries[-1])}\n"
        f"{files.table}, {files.picture}: the curves",
    )


def _trained(training: Training, report: Report, steps: int, *, overwrite: bool) -> Header:
    """Train it, and say how far it is."""
    with report.progress(1) as (_, step):
        said = len(training.entries)

        def told(done: int, entry: Entry) -> None:
            nonlocal said
            step(_values(entry), done, steps)
            if len(training.entries) > said:
                said = len(training.entries)
                report.detail(f"step {done:,}: {_values(entry)}")

        try:
            return training.run(told, overwrite=overwrite)
        except (KeyboardInterrupt, Terminated):
            report.note(
                Note(
                    f"mroi: stopped after step {training.step:,}; the same command with --resume "
                    "goes on"
                )
            )
            raise


def _settings(codec: Trainable, given: Mapping[str, object]) -> dict[str, object]:
    """Return what is trained for; refuse what the codec does not have."""
    defaults: dict[str, object] = {"lambda": 0.013, "channels": "equal"}
    if codec is Trainable.BCM_NET:
        defaults = {"step": 4.0}
    for name, value in given.items():
        if value is not None and name not in defaults:
            raise typer.BadParameter(f"{codec.value} has no --{name}")
    return {name: value if given[name] is None else given[name] for name, value in defaults.items()}


def _check(output: Path, others: Sequence[Path], *, may_be_there: bool) -> None:
    """Refuse to begin what could not be written."""
    if not output.name.endswith(".mroi-model"):
        raise typer.BadParameter(f"{output} must end in .mroi-model, by which models are found")
    if not output.parent.is_dir():
        raise UsageError(f"{output.parent} is no folder: make it first")
    if not os.access(output.parent, os.W_OK):
        raise UsageError(f"nothing can be written into {output.parent}")
    for path in (output, *others):
        if path.is_dir():
            raise UsageError(f"{path} is a folder")
        if path.exists() and not may_be_there:
            raise UsageError(f"{path} exists; --resume goes on with it, --force begins anew")


def _paths(data: Sequence[str]) -> list[str]:
    """Return the files that arguments name."""
    entries = find_inputs(data, _SUFFIXES)
    for entry in entries:
        if entry.problem is not None:
            raise SourceError(f"{entry.path}: {entry.problem.message}")
        if entry.path == STANDARD:
            raise UsageError("volumes are read from files, not from standard input")
    return [entry.path for entry in entries]


def _described(summary: Mapping[str, object]) -> str:
    """Return what is trained on, for people."""
    data = str(summary["data"]).partition(", SHA")[0]
    return f"{data}; {summary['weights']:,} weights, on {summary['device']}"


def _values(entry: Entry) -> str:
    """Return how good it is, for people."""
    parts = [f"loss {entry.loss:.4g}", f"{entry.bpp:.3f} bpp"]
    if entry.psnr is not None:
        parts.append(f"{entry.psnr:.2f} dB")
    if entry.validation_loss is not None:
        parts.append(f"validation loss {entry.validation_loss:.4g}")
    return ", ".join(parts)
