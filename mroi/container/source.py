"""Where the bytes of a file come from: anything that gives a range of bytes.

A `Source` has no position, so threads may share it. `FileSource` may also be used on both sides
of a fork and sent to other processes: it is a path and reads with ``pread``.
"""

from __future__ import annotations

import os
import pickle
import stat
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self, cast

from typing_extensions import override

from mroi.container.inputs import is_pipe, is_url
from mroi.errors import SourceError, TruncatedError, UsageError

__all__ = [
    "FileObjectSource",
    "FileSource",
    "MemorySource",
    "Source",
    "identity_of",
    "is_one_of",
    "open_source",
    "refuse_inputs",
]


_MAX_READ = 1 << 30  # some systems refuse 2^31 bytes and more at once


class Source(Protocol):
    """Bytes at random access."""

    @property
    def name(self) -> str:
        """What to call it in messages."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether each read costs a round trip, so that few large ones are better."""
        ...

    def size(self) -> int:
        """Return the number of bytes."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes; raises `TruncatedError` if there are fewer."""
        ...

    def close(self) -> None:
        """Let go of what is held; reading again may open it anew."""
        ...


def _whole(data: bytes, name: str, offset: int, size: int) -> bytes:
    if len(data) != size:
        raise TruncatedError(
            f"{name}: got {len(data):,} of {size:,} bytes", "LAY-4", offset + len(data)
        )
    return data


def _read_parts(read: Callable[[int, int], bytes | None], size: int) -> bytes:
    """Return up to `size` bytes of ``read(done, left)``, which may give fewer than asked for."""
    parts: list[bytes] = []
    done = 0
    while done < size and (data := read(done, min(size - done, _MAX_READ))):
        parts.append(data)
        done += len(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _open_file(path: Path) -> int:
    if is_pipe(path):
        raise SourceError(
            f"{path} is a pipe and can be read only once: use mroi.stream(open(...)), or copy it "
            "to a file"
        )
    return os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))


class FileSource:
    """A file on disk.

    Parameters
    ----------
    path : path
        Where it is.
    opener : callable, optional
        Opens it, given the path, and returns a descriptor. Other processes open the path.

    Raises
    ------
    SourceError
        If it is a pipe or a device, which have no places to read from.
    OSError
        If it cannot be opened.
    """

    is_remote = False

    def __init__(
        self, path: str | os.PathLike[str], opener: Callable[[Path], int] | None = None
    ) -> None:
        self.path = Path(path)
        self._opener = opener or _open_file
        self._lock = threading.Lock()
        self._file: int | None = None
        self._file = self._open()

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def _open(self) -> int:
        with self._lock:
            if self._file is None:
                self._file = self._opener(self.path)
            return self._file

    def fileno(self) -> int:
        """Return the descriptor of the open file."""
        return self._open()

    def size(self) -> int:
        """Return the number of bytes."""
        return os.fstat(self._open()).st_size

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes."""
        file = self._file if self._file is not None else self._open()
        try:
            if hasattr(os, "pread"):
                data = _read_parts(lambda done, left: os.pread(file, left, offset + done), size)
            else:  # Windows
                with self._lock:
                    os.lseek(file, offset, os.SEEK_SET)
                    data = _read_parts(lambda _done, left: os.read(file, left), size)
        except OSError as exc:
            exc.filename = self.name
            raise
        return _whole(data, self.name, offset, size)

    def close(self) -> None:
        """Close the file; reading again opens it anew."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None:
            self.close()

    @override
    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        return type(self), (self.path.absolute(),)  # the other process may work in another folder


class MemorySource:
    """Bytes in memory."""

    is_remote = False
    name = "memory"

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = memoryview(data).cast("B")

    def size(self) -> int:
        """Return the number of bytes."""
        return self._data.nbytes

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes."""
        return _whole(bytes(self._data[offset : offset + size]), self.name, offset, size)

    def close(self) -> None:
        """Do nothing: the bytes belong to the caller."""

    @override
    def __reduce__(self) -> tuple[type[Self], tuple[bytes]]:
        return type(self), (bytes(self._data),)


class FileObjectSource:
    """An open binary file with ``seek`` and ``read``; threads take turns.

    It can be sent to other processes if the file object can (those of fsspec can).
    """

    is_remote = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The name of the file object, if it has one."""
        return str(getattr(self._file, "name", "file object"))

    def fileno(self) -> int:
        """Return the descriptor of the file, if it has one."""
        return self._file.fileno()

    def size(self) -> int:
        """Return the number of bytes."""
        with self._lock:
            return self._file.seek(0, os.SEEK_END)

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes."""
        with self._lock:
            self._file.seek(offset)
            data = _read_parts(lambda _done, left: self._file.read(left), size)
        return _whole(data, self.name, offset, size)

    def close(self) -> None:
        """Do nothing: the file belongs to the caller."""

    @override
    def __reduce__(self) -> tuple[type[Self], tuple[BinaryIO]]:
        try:
            self._file.__reduce_ex__(pickle.DEFAULT_PROTOCOL)
        except TypeError as exc:
            raise UsageError(
                f"{self.name}: an open file cannot be sent to another process: give mroi.open its "
                "path, its URL or its bytes"
            ) from exc
        return type(self), (self._file,)


def open_source(
    target: str | os.PathLike[str] | bytes | BinaryIO | Source, *, cache: int | None = None
) -> Source:
    """Return the source that `target` stands for.

    Parameters
    ----------
    target : path, URL, bytes, binary file or Source
        Where the bytes are.
    cache : int, optional
        Bytes of remote files that are kept on disk; as ``MROI_CACHE`` says by default.

    Raises
    ------
    UsageError
        If it is nothing of this, or a URL whose extra is not installed.
    """
    if isinstance(target, bytes | bytearray | memoryview):
        return MemorySource(target)
    if is_url(target):
        from mroi.container.cache import DiskCache, default_cache_size
        from mroi.container.remote import UrlSource  # which takes long to import

        limit = default_cache_size() if cache is None else cache
        return UrlSource(target, cache=DiskCache(limit) if limit > 0 else None)
    if isinstance(target, str | os.PathLike):
        return FileSource(target)
    if hasattr(target, "is_remote"):
        return cast("Source", target)
    if hasattr(target, "read") and hasattr(target, "seek"):
        return FileObjectSource(target)
    raise UsageError(
        f"cannot read from {type(target).__name__}: give a path, bytes or a binary file"
    )


Identity = tuple[int, int]
"""Device and inode: what all names of a file, its links included, have in common."""


def identity_of(file: Any) -> Identity | None:
    """Return what tells a regular file from all others; None for what is none, or not there.

    Parameters
    ----------
    file : path, open file, Source or Identity
        Links are followed.
    """
    if isinstance(file, tuple):
        return cast("Identity", file)
    try:
        is_path = isinstance(file, str | os.PathLike)
        found = Path(file).stat() if is_path else os.fstat(file.fileno())
    except (AttributeError, OSError, ValueError):  # no such file, or none with a descriptor
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def is_one_of(file: object, others: Iterable[object]) -> bool:
    """Whether a file is there and is one of others, by this or another name."""
    wanted = identity_of(file)
    return wanted is not None and any(identity_of(other) == wanted for other in others)


def refuse_inputs(output: object, inputs: Iterable[object]) -> None:
    """Refuse an output that is one of the files that are read, also through links of any kind.

    Parameters
    ----------
    output : path or open file
        What is about to be written or replaced.
    inputs : iterable of path, open file, Source or Identity
        What is read.

    Raises
    ------
    UsageError
        If it is.
    """
    if is_one_of(output, inputs):
        name = os.fspath(output) if isinstance(output, str | os.PathLike) else "the output"
        raise UsageError(f"{name} is also an input, by this or another name: choose another output")
