"""Write a file: to disk through a temporary name and a rename, or to anything with ``write``."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, Self, cast

from typing_extensions import Buffer

from mroi.container.builder import ContainerBuilder, Metadata
from mroi.container.inputs import is_url
from mroi.container.parts import OutputFile, Part
from mroi.container.source import refuse_inputs
from mroi.errors import UsageError
from mroi.format.records import ChunkState

__all__ = ["AtomicFile", "AtomicFolder", "ContainerWriter"]

_MANY = 1 << 15  # missing chunks that are built at once


class AtomicFile:
    """A file that appears under its name only when `commit` is called, whole.

    Until then it is a hidden `Part` beside it. What is no regular file (a device, a named pipe) is
    written directly.

    Parameters
    ----------
    path : path
        The target of a symbolic link is replaced, not the link.
    overwrite : bool
        Whether an existing file is replaced.
    inputs : iterable of path, open file or Source
        What is read meanwhile: none of it is replaced or removed.

    Raises
    ------
    UsageError
        If the file is one of the inputs, or a URL.
    FileExistsError
        If the name is taken and `overwrite` is false, at the start or at `commit`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        inputs: Iterable[object] = (),
    ) -> None:
        if is_url(path):
            raise UsageError(f"{path} is a URL; outputs are files")
        self.path = Path(os.path.realpath(path))
        self._given = os.fspath(path)  # what messages call it
        self._overwrite = overwrite
        self._part: Part | None = None
        inputs = list(inputs)
        refuse_inputs(path, inputs)
        self._check()
        if self.path.exists() and not stat.S_ISREG(self.path.stat().st_mode):
            self.file: BinaryIO = io.BufferedWriter(OutputFile(self.path, self._given, new=False))
            return
        try:
            self._part = Part(self.path, shown=self._given, inputs=inputs)
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror, self._given) from exc
        self.file = cast("BinaryIO", self._part.file)

    def _check(self) -> None:
        if not self._overwrite and self.path.is_file():
            raise FileExistsError(17, "the file exists already", self._given)

    def commit(self) -> None:
        """Flush to disk and give the file its name."""
        try:
            self.file.flush()
            if self._part is not None:
                os.fsync(self.file.fileno())
            self.file.close()
            if self._part is not None:
                self._check()
                self._part.path.replace(self.path)
                self._part.release()
                self._part = None
        except BaseException as exc:
            if isinstance(exc, OSError) and exc.filename is None:
                exc.filename = self._given
            self.abort()
            raise

    def abort(self) -> None:
        """Remove what was written; does nothing after `commit`."""
        try:
            self.file.close()
        except OSError:
            pass  # a full disk fails again when buffers are flushed
        finally:
            if self._part is not None:
                self._part.remove()
                self._part = None

    def __enter__(self) -> BinaryIO:
        return self.file

    def __exit__(self, kind: object, *_exc: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.abort()


class AtomicFolder:
    """A folder that appears under its name only when all that is to be in it was written.

    ``with AtomicFolder(path) as part:`` gives the folder to write into, a hidden `Part` beside it.

    Parameters
    ----------
    path : path
        Its name. Folders above it are made.
    overwrite : bool
        Whether an existing folder is replaced; the old one goes when the new one is whole.
    inputs : iterable of path, open file or Source
        What is read meanwhile: none of it is replaced or removed.

    Raises
    ------
    UsageError
        If the folder is one of the inputs, or a URL.
    FileExistsError
        If the name is taken and `overwrite` is false, or by a file, at the start or at the end.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        inputs: Iterable[object] = (),
    ) -> None:
        if is_url(path):
            raise UsageError(f"{path} is a URL; outputs are files")
        self.path = Path(path)
        self._inputs = list(inputs)
        self._overwrite = overwrite
        refuse_inputs(path, self._inputs)
        self._check()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._part = self._new_part()

    def _new_part(self) -> Part:
        return Part(self.path, shown=str(self.path), inputs=self._inputs, is_folder=True)

    def _check(self) -> None:
        is_free = not os.path.lexists(self.path)
        if not is_free and not (self._overwrite and self.path.is_dir()):
            raise FileExistsError(17, "the file exists already", str(self.path))

    def __enter__(self) -> Path:
        return self._part.path

    def __exit__(self, kind: object, *_exc: object) -> None:
        if kind is not None:
            self._part.remove()
            return
        try:
            self._commit()
        except BaseException:
            self._part.remove()
            raise
        self._part.release()

    def _commit(self) -> None:
        self._check()
        self._part.path.chmod(0o777 & ~_umask())
        if not self.path.exists():
            self._part.path.rename(self.path)
            return
        old = self._new_part()
        try:
            kept = old.path / "old"
            self.path.rename(kept)
            try:
                self._part.path.rename(self.path)
            except BaseException:
                kept.rename(self.path)
                raise
        finally:
            old.remove()


def _umask() -> int:
    """Return the umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


class ContainerWriter:
    """Write the bytes of a `ContainerBuilder` to a sink.

    Parameters
    ----------
    sink : path or binary file
        A path is written atomically. A file object that cannot seek gets the index at the tail.
    overwrite : bool
        Whether an existing file is replaced.
    """

    def __init__(self, sink: str | os.PathLike[str] | BinaryIO, *, overwrite: bool = False) -> None:
        self._atomic: AtomicFile | None = None
        if isinstance(sink, str | os.PathLike):
            self._atomic = AtomicFile(sink, overwrite=overwrite)
            self._file = self._atomic.file
        elif hasattr(sink, "write"):
            self._file = sink
        else:
            raise UsageError(f"cannot write to {type(sink).__name__}: give a path or a binary file")
        self.can_seek = _can_seek(self._file)
        self._builder: ContainerBuilder | None = None
        self._start = self._file.tell() if self.can_seek else 0
        self.size = 0

    def start(self, builder: ContainerBuilder, preface: Sequence[Metadata] = ()) -> None:
        """Write head and preface; `builder` was made with the `can_seek` of this writer."""
        self._builder = builder
        self._write(builder.start())
        self._write(builder.preface(preface))

    def write_chunk(
        self, state: ChunkState, payload: Buffer, *, slot: int, decoded_crc: int
    ) -> None:
        """Write the next chunk.

        Parameters
        ----------
        state : ChunkState
            How the payload stands for the voxels.
        payload : bytes-like
            What the codec made.
        slot : int
            Slot of the codec.
        decoded_crc : int
            CRC-32 of the decoded voxels.
        """
        assert self._builder is not None
        self._write(self._builder.chunk(state, payload, slot=slot, decoded_crc=decoded_crc))

    def write_missing(self, count: int, *, slot: int) -> None:
        """Write the next chunks as missing ones."""
        assert self._builder is not None
        for done in range(0, count, _MANY):
            self._write(self._builder.missing(min(_MANY, count - done), slot=slot))

    def finish(self, metadata: Sequence[Metadata] = ()) -> None:
        """Write the tail and the final head; a path appears under its name."""
        assert self._builder is not None
        tail, head = self._builder.finish(metadata)
        self._write(tail)
        if head:
            self._file.seek(self._start)
            _write_whole(self._file, head)
            self._file.seek(self._start + self.size)
        if self._atomic is not None:
            self._atomic.commit()
        elif hasattr(self._file, "flush"):
            self._file.flush()

    def abort(self) -> None:
        """Leave no file under the name; a file object keeps what readers will refuse."""
        if self._atomic is not None:
            self._atomic.abort()

    def _write(self, data: bytes) -> None:
        _write_whole(self._file, data)
        self.size += len(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_exc: object) -> None:
        if kind is not None:
            self.abort()


def _write_whole(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:  # raw files may take a part
        written = cast("int | None", file.write(view))
        if written is None:
            if isinstance(file, io.RawIOBase):
                raise BlockingIOError(errno.EAGAIN, "the sink does not wait until it can take more")
            return  # a sink of one's own that does not count
        view = view[written:]


def _can_seek(file: BinaryIO) -> bool:
    try:
        return file.seekable() and file.tell() >= 0 and not _appends(file)
    except (AttributeError, OSError, io.UnsupportedOperation):
        return False


def _appends(file: BinaryIO) -> bool:
    """Whether all that is written goes to the end, like after ``>>`` in a shell."""
    try:
        import fcntl

        return bool(fcntl.fcntl(file.fileno(), fcntl.F_GETFL) & os.O_APPEND)
    except (ImportError, AttributeError, OSError):  # no such system, or no file of its own
        return "a" in str(getattr(file, "mode", ""))
