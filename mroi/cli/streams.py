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
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mroi.cli.batch import STANDARD, Action, Task

if TYPE_CHECKING:
    from mroi.volume.model import Volume

__all__ = ["on_disk", "open_output", "open_volume", "sink"]


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
def open_volume(source: str) -> Iterator[Volume]:
    """Open a ``.mroi`` file to look at; voxels that it does not have get the fill value."""
    from mroi.volume import model

    with on_disk(source, ".mroi") as path, model.open_volume(path, missing="fill") as volume:
        yield volume


@contextmanager
def open_output(task: Task) -> Iterator[BinaryIO]:
    """Give a file that appears under its name once it is whole, or standard output."""
    from mroi.container import AtomicFile

    if task.target == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with AtomicFile(task.target, overwrite=task.action is Action.OVERWRITE) as file:
        yield file


def sink(task: Task) -> str | BinaryIO:
    """Return what the library writes to: a path, or standard output."""
    return sys.stdout.buffer if task.target == STANDARD else task.target
