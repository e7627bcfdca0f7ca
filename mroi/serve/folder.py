"""The files of a folder, each open once, and none beside them.

A name is that of a ``.mroi`` file below the folder, with ``/`` between its parts. Links are
followed as long as they lead to such a file; what begins with a dot is hidden.
"""

from __future__ import annotations

import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

from mroi.container import FileSource
from mroi.errors import UsageError
from mroi.limits import DEFAULT_LIMITS, Limits
from mroi.serve.faults import RefusedError
from mroi.serve.http import Validators
from mroi.volume.model import Volume, open_volume

__all__ = ["Folder", "Listed", "Served"]

_ENDING = ".mroi"
_BAD = "\\:\0" if os.name == "nt" else "\0"
_MOST_OPEN = 64
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)

State = tuple[int, int, int, int]
"""Device, inode, time of the last change in ns, size."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A file, not opened: its name, bytes, and seconds since 1970 of its last change."""

    name: str
    size: int
    modified: float


class Served:
    """A file, open: what is asked for at once is read from the same one.

    Attributes
    ----------
    name : str
        Its name.
    source : FileSource
        Its bytes.
    state : State
        What it was when it was opened.
    size : int
        Bytes.
    """

    def __init__(self, name: str, source: FileSource, limits: Limits) -> None:
        self.name = name
        self.source = source
        self._limits = limits
        found = os.fstat(source.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise _absent(name)
        self.state = _state(found)
        self.size = found.st_size

    @property
    def validators(self) -> Validators:
        """Those of its bytes."""
        _device, inode, changed, size = self.state
        return Validators(f'"{inode:x}-{changed:x}-{size:x}"', changed // 10**9)

    @cached_property
    def volume(self) -> Volume:
        """The volume in it.

        Raises
        ------
        FormatError
            If it is damaged.
        """
        return open_volume(self.source, limits=self._limits)


class Folder:
    """A folder.

    Parameters
    ----------
    path : path
        Where it is; a link is followed now.
    limits : Limits
        What a file may make the reader take. Native codecs decode in a process of their own, unless
        it, or the environment, says otherwise.

    Raises
    ------
    UsageError
        If it is not a folder.
    """

    def __init__(self, path: str | os.PathLike[str], *, limits: Limits = DEFAULT_LIMITS) -> None:
        try:
            self.path = Path(path).resolve(strict=True)
        except (OSError, ValueError, RuntimeError) as exc:
            raise UsageError(f"{os.fspath(path)}: no such folder") from exc
        if not self.path.is_dir():
            raise UsageError(f"{os.fspath(path)}: not a folder")
        self._limits = replace(limits, isolate=limits.isolates(default=True))
        self._open: OrderedDict[tuple[str, ...], Served] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, name: str) -> Served:
        """Return a file, opened anew if it has changed.

        Raises
        ------
        RefusedError
            With status 404, if there is none of this name.
        OSError
            If it cannot be read.
        """
        parts = self._resolve(name)
        path = self.path.joinpath(*parts)
        try:
            now = _state(path.stat())
            with self._lock:
                served = self._open.get(parts)
                if served is not None and served.state == now:
                    self._open.move_to_end(parts)
                    return served
            source = FileSource(path, partial(_open_below, self.path))
            served = Served(name, source, self._limits)
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise _absent(name) from exc
        # Those that are dropped are closed once nobody reads them: a source closes with its end.
        with self._lock:
            self._open[parts] = served
            self._open.move_to_end(parts)
            while len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
        return served

    def list(self, after: str, most: int) -> list[Listed]:
        """Return files in the order of their names, at most so many, those after a name."""
        start = tuple(after.split("/")) if after else ()
        return list(islice(self._walk(self.path, (), start), most))

    def _walk(
        self, folder: Path, above: tuple[str, ...], start: tuple[str, ...]
    ) -> Iterator[Listed]:
        """Yield the files below a folder; links to folders are not followed, so that it ends."""
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:  # one that may not be read hides nothing else
            return
        for entry in entries:
            parts = (*above, entry.name)
            if not _is_plain(entry.name) or parts < start[: len(parts)]:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(Path(entry.path), parts, start)
            elif parts > start and (listed := self._listed("/".join(parts))) is not None:
                yield listed

    def _listed(self, name: str) -> Listed | None:
        try:
            found = self.path.joinpath(*self._resolve(name)).stat()
            name.encode()
        except (OSError, RefusedError, UnicodeEncodeError):  # not for clients, or gone
            return None
        return Listed(name, found.st_size, found.st_mtime)

    def _resolve(self, name: str) -> tuple[str, ...]:
        """Return where a file is below the folder, links followed; refuse all others."""
        parts = name.split("/")
        if not all(map(_is_plain, parts)) or not parts[-1].lower().endswith(_ENDING):
            raise _absent(name)
        try:
            path = self.path.joinpath(*parts).resolve(strict=True)
            below = path.relative_to(self.path).parts
            is_file = stat.S_ISREG(path.stat().st_mode)
        except (OSError, ValueError, RuntimeError) as exc:  # RuntimeError: links that go in circles
            raise _absent(name) from exc
        if not is_file or not all(map(_is_plain, below)) or not path.name.lower().endswith(_ENDING):
            raise _absent(name)
        return below


def _absent(name: str) -> RefusedError:
    return RefusedError(404, f"no .mroi file {name[:200]!r} here")


def _is_plain(part: str) -> bool:
    return bool(part) and not part.startswith(".") and not any(c in part for c in _BAD)


def _state(found: os.stat_result) -> State:
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _open_below(root: Path, path: Path) -> int:
    """Open a file whose links were followed; one that was put in its way since is not."""
    if os.open not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):
        return os.open(path, _READ)
    parts = path.relative_to(root).parts
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(parts[-1], _READ | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)
