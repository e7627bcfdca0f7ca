"""What an input is called by: the path of a file, or what has to be copied first to be one.

Pipes give their bytes once, servers slowly: whoever reads an input more than once, or needs a file,
takes it from `on_disk`.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeGuard
from urllib.parse import unquote, urlsplit

from mroi.errors import MroiError, SourceError

__all__ = ["copy_stream", "is_pipe", "is_url", "name_of", "on_disk", "stored"]

_URL = re.compile(r"[a-z][a-z0-9+.-]+(::[a-z0-9+.-]+)*://", re.IGNORECASE)


def is_url(target: object) -> TypeGuard[str]:
    """Whether a text is a URL, not a path."""
    return isinstance(target, str) and _URL.match(target) is not None


def is_pipe(path: str | os.PathLike[str]) -> bool:
    """Whether a path leads to a pipe: a named one, ``<(...)``, or ``/dev/stdin`` after a ``|``.

    Raises
    ------
    SourceError
        If it leads to a device, such as a terminal.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (each opening asks, and a `Path` takes longer)
    except (OSError, ValueError):
        return False  # whoever opens it says why
    if stat.S_ISCHR(mode):
        raise SourceError(f"{os.fspath(path)} is a device, not a file or a pipe")
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def name_of(target: str | os.PathLike[str]) -> str:
    """Return the name of an input without its folder.

    Examples
    --------
    >>> name_of("study/scan.nii.gz"), name_of("https://example.org/a/scan%201.nii.gz?key=1#x")
    ('scan.nii.gz', 'scan 1.nii.gz')
    """
    if not is_url(target):
        path = Path(target)
        return path.name if path.name not in ("", "..") else path.resolve().name
    parts = re.split(r"[/\\\0]", unquote(urlsplit(target).path or urlsplit(target).netloc))
    return next((part for part in reversed(parts) if part not in ("", ".", "..")), "download")


@contextmanager
def on_disk(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Give the path of an input; of a URL or a pipe, that of a copy that goes afterwards.

    Raises
    ------
    SourceError, OSError
        If it cannot be read.
    """
    if is_url(target):
        from mroi.container.remote import UrlSource

        with stored(UrlSource(target).copy_to, name_of(target), target) as path:
            yield path
    elif is_pipe(target):
        with (
            Path(target).open("rb") as pipe,
            stored(partial(copy_stream, pipe), name_of(target), os.fspath(target)) as path,
        ):
            yield path
    else:
        yield Path(target)


def copy_stream(source: BinaryIO, target: BinaryIO) -> None:
    """Copy what is left of a file to another."""
    shutil.copyfileobj(source, target, 1 << 20)


@contextmanager
def stored(write: Callable[[BinaryIO], object], name: str, shown: str) -> Iterator[Path]:
    """Give a temporary file with what `write` writes into it.

    Parameters
    ----------
    write : callable
        Called with the open file.
    name : str
        Its last characters are those of the file, whose ending may matter.
    shown : str
        What messages call the file.
    """
    with tempfile.TemporaryDirectory(prefix="mroi-") as folder:
        path = Path(folder) / name[-60:]
        try:
            with path.open("wb") as file:
                write(file)
        except OSError as exc:
            exc.filename = exc.filename or str(path)  # it is here that no space is left
            raise
        try:
            yield path
        except MroiError as exc:
            message = exc.message.replace(str(path), shown)
            raise type(exc)(message, exc.rule, exc.offset) from exc
