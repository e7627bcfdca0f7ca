"""Standard input and output in the place of files.

What has to be read more than once, or at random, is first copied from standard input to a
temporary file, so that memory stays small.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from mroi.cli.batch import STANDARD, Action, Task
from mroi.errors import FormatError, MissingVoxelsError

if TYPE_CHECKING:
    from mroi.volume.model import Volume

__all__ = ["Missing", "MissingOption", "on_disk", "open_output", "open_volume", "sink"]

_NIFTI_STARTS = tuple(
    size.to_bytes(4, order) for size in (348, 540) for order in ("little", "big")
)  # sizeof_hdr, the first field of NIfTI-1 and NIfTI-2


class Missing(StrEnum):
    """What is made of voxels that the file says it does not have."""

    ERROR = "error"
    FILL = "fill"


MissingOption = Annotated[
    Missing,
    typer.Option(
        "--missing",
        help="Voxels that a recovered file lacks: refuse, or put the fill value in their place.",
    ),
]


@contextmanager
def on_disk(source: str, suffix: str) -> Iterator[Path]:
    """Give the path of an input; standard input gets one with this suffix."""
    if source != STANDARD:
        yield Path(source)
        return
    with tempfile.TemporaryDirectory(prefix="mroi-") as folder:
        path = Path(folder) / f"standard-input{suffix}"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
        yield path


@contextmanager
def open_volume(
    source: str, *, jobs: int | None = None, missing: Missing | None = None
) -> Iterator[Volume]:
    """Open a ``.mroi`` file; what else it may be is said in the error if it is none.

    Missing voxels are an error without `missing`, as for a command that has no such option.
    """
    from mroi.volume import model

    with on_disk(source, ".mroi") as path:
        try:
            volume = model.open_volume(path, jobs=jobs, missing=(missing or Missing.ERROR).value)
        except FormatError as exc:
            if exc.rule != "PFX-1" or not (kind := _kind_of(path)):
                raise
            message = f"not an mroi file but {kind}: `mroi pack` it first"
            raise FormatError(message, exc.rule, exc.offset) from exc
        with volume:
            try:
                yield volume
            except MissingVoxelsError as exc:
                if missing is None:
                    raise
                message = f"{exc.message}; --missing fill takes the fill value"
                raise MissingVoxelsError(message, exc.rule, exc.offset) from exc


def _kind_of(path: Path) -> str:
    """Return what a file seems to be that is no ``.mroi`` file; nothing if that is not clear."""
    with path.open("rb") as file:
        start = file.read(132)
    if start.startswith(b"\x1f\x8b"):
        return "a gzip file (perhaps a NIfTI image)"
    if start.startswith(_NIFTI_STARTS):
        return "a NIfTI image"
    return "a DICOM file" if start.endswith(b"DICM") else ""


@contextmanager
def open_output(task: Task) -> Iterator[BinaryIO]:
    """Give a file that appears under its name once it is whole, or standard output."""
    from mroi.container import AtomicFile

    if task.target == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    overwrite = task.action is Action.OVERWRITE
    with AtomicFile(task.target, overwrite=overwrite, inputs=[task.source]) as file:
        yield file


def sink(task: Task) -> str | BinaryIO:
    """Return what the library writes to: a path, or standard output."""
    return sys.stdout.buffer if task.target == STANDARD else task.target
