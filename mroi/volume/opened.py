"""Files that are read again and again: found by name, opened when needed, a few at a time.

For those who train on many files from several processes. Each process opens its own files; decoded
chunks of all of them share one bound.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from errno import ENOENT
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from typing_extensions import override

from mroi.container.inputs import is_url
from mroi.errors import UsageError
from mroi.geometry import Box
from mroi.volume.model import Volume, open_volume
from mroi.volume.read import ChunkCache

__all__ = ["MEMORY", "OpenVolumes", "find_files"]

MEMORY = 1 << 26
"""Bytes of decoded chunks that a process keeps."""


class OpenVolumes:
    """Opens volumes and keeps those that were used last; safe to fork and to pickle, unopened.

    Not safe between threads: each process that reads has one.

    Parameters
    ----------
    most : int
        Files that are open at a time, in each process.
    jobs : int
        Threads that decode.
    memory : int
        Bytes of decoded chunks that are kept for all of them together, in each process.

    Raises
    ------
    UsageError
        If a number is below 1, or `memory` below 0.
    """

    def __init__(self, most: int = 8, *, jobs: int = 1, memory: int = MEMORY) -> None:
        if most < 1 or jobs < 1 or memory < 0:
            raise UsageError(
                f"{most} open files, {jobs} threads and {memory} bytes: expected 1 or more files "
                "and threads, and 0 or more bytes"
            )
        self._most = most
        self._jobs = jobs
        self._memory = memory
        self._forget()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._volumes: OrderedDict[str, Volume] = OrderedDict()
        self._cache = ChunkCache(self._memory)

    @override
    def __getstate__(self) -> tuple[int, int, int]:
        return self._most, self._jobs, self._memory

    def __setstate__(self, state: tuple[int, int, int]) -> None:
        self._most, self._jobs, self._memory = state
        self._forget()

    def open(self, path: str) -> Volume:
        """Return the volume of a path or URL; the one that was used longest ago is closed for it.

        Raises
        ------
        FormatError
            If it is no whole, undamaged file.
        OSError
            If it cannot be read.
        """
        if self._process != os.getpid():  # a fork: those of the parent stay the parent's
            self._forget()
        volume = self._volumes.get(path)
        if volume is None:
            opened = open_volume(path, jobs=self._jobs)
            regions = opened.regions.replaced(cache=self._cache)
            volume = self._volumes[path] = Volume(regions, Box.whole(regions.geom.shape))
        self._volumes.move_to_end(path)
        while len(self._volumes) > self._most:
            _path, oldest = self._volumes.popitem(last=False)
            oldest.close()
        return volume

    def close(self) -> None:
        """Close all files; those that are wanted again are opened anew."""
        if self._process == os.getpid():
            for volume in self._volumes.values():
                volume.close()
        self._forget()


def find_files(source: str | os.PathLike[str] | Sequence[Any], suffix: str = ".mroi") -> list[str]:
    """Return the files that a caller means, as texts.

    Parameters
    ----------
    source : path, URL, or sequence of them
        A file; a folder, whose files are searched for to the bottom, by name; a pattern such as
        ``"packed/*/T1w.mroi"``, in which ``**`` is any number of folders; a URL; or a list of
        files, whose order is kept.
    suffix : str
        What the names of files in a folder end in.

    Raises
    ------
    UsageError
        If there are none in a list or a folder, or of a pattern.
    FileNotFoundError
        If a file or a folder is not there.
    """
    if not isinstance(source, str | os.PathLike):
        found = [os.fspath(path) for path in source]
    elif is_url(source):
        found = [source]
    elif Path(source).is_dir():
        found = sorted(str(path) for path in Path(source).rglob(f"*{suffix}"))
    elif has_magic(os.fspath(source)) and not Path(source).exists():
        found = sorted(glob(os.fspath(source), recursive=True))  # noqa: PTH207 (it may be absolute)
    elif Path(source).exists():
        found = [os.fspath(source)]
    else:
        raise FileNotFoundError(ENOENT, os.strerror(ENOENT), os.fspath(source))
    if not found:
        where = os.fspath(source) if isinstance(source, str | os.PathLike) else "an empty list"
        raise UsageError(f"{where}: no {suffix} files there")
    return found
