"""Standard input and output, pipes and URLs in the place of files.

What has to be read more than once, or at random, is first copied to a temporary file, so that
memory stays small.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mroi.batch.tasks import STANDARD, Action, Task
from mroi.errors import FormatError, MissingVoxelsError, UsageError

if TYPE_CHECKING:
    from mroi.volume.model import Volume

__all__ = ["Missing", "codec_of", "on_disk", "open_output", "open_volume", "sink"]

_NIFTI_STARTS = tuple(
    size.to_bytes(4, order) for size in (348, 540) for order in ("little", "big")
)  # sizeof_hdr, the first field of NIfTI-1 and NIfTI-2


class Missing(StrEnum):
    """What is made of voxels that the file says it does not have."""

    ERROR = "error"
    FILL = "fill"


@contextmanager
def on_disk(source: str) -> Iterator[Path]:
    """Give the path of an input; of standard input, a pipe or a URL, that of a copy."""
    from mroi import container

    if source != STANDARD:
        with container.on_disk(source) as path:
            yield path
        return
    if sys.stdin.isatty():
        raise UsageError("standard input is a terminal: name a file, or pipe one in")
    with container.stored(
        lambda file: container.copy_stream(sys.stdin.buffer, file), "standard-input", source
    ) as path:
        yield path


@contextmanager
def open_volume(
    source: str, *, jobs: int | None = None, missing: Missing | None = None
) -> Iterator[Volume]:
    """Open a ``.mroi`` file; what else it may be is said in the error if it is none.

    Missing voxels are an error without `missing`, as for a command that has no such option.

    Parameters
    ----------
    source : str
        Path, URL, or ``-``.
    jobs : int, optional
        Threads that decode.
    missing : Missing, optional
        What becomes of voxels that are not in the file.
    """
    from mroi.container import is_url
    from mroi.volume import model

    # Of a URL only what is needed is read.
    with nullcontext(source) if is_url(source) else on_disk(source) as target:
        try:
            volume = model.open_volume(target, jobs=jobs, missing=(missing or Missing.ERROR).value)
        except FormatError as exc:
            if exc.rule != "PFX-1" or not (kind := _kind_of(target)):
                raise
            message = f"not an mroi file but {kind}: `mroi pack` it first"
            raise FormatError(message, exc.rule) from exc
        with volume:
            try:
                yield volume
            except MissingVoxelsError as exc:
                if missing is None:
                    raise
                message = f"{exc.message}; --missing fill takes the fill value"
                raise MissingVoxelsError(message, exc.rule, exc.offset) from exc


def _kind_of(target: str | Path) -> str:
    """Return what a file seems to be that is no ``.mroi`` file; nothing if that is not clear."""
    from mroi.container import open_source

    source = open_source(target)
    start = source.read(0, min(132, source.size()))
    source.close()
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


def codec_of(volume: Volume) -> str:
    """Return what encodes the ROI of a file, with its settings."""
    from mroi.text import codec_text

    entry = volume.reader.head.codecs[0]
    return codec_text(entry.name, entry.parameters)
