"""A manifest: a table of what was written, with sizes and checksums."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from mroi.batch.tasks import STANDARD
from mroi.batch.told import Entry, Result
from mroi.errors import UsageError

if TYPE_CHECKING:
    from mroi.container import AtomicFile

__all__ = ["COLUMNS", "Manifest", "entries_of"]

COLUMNS: dict[str, type] = {
    "command": str,
    "source": str,
    "part": str,
    "status": str,
    "reason": str,
    "target": str,
    "source_size": int,
    "target_size": int,
    "voxel_size": int,
    "codec": str,
    "source_sha256": str,
    "target_sha256": str,
    "seconds": float,
}
"""What is said of each file, in this order."""

_ENDINGS = (".csv", ".parquet")
_ROWS = 1000  # of a group of Parquet
_PIECE = 1 << 20  # bytes read at once
_KEY = b"mroi.manifest"
_NAMES = "surrogateescape"  # names of files are bytes on some systems


class Manifest:
    """A table that is there, whole, when its ``with`` block is left, also by an exception.

    Parameters
    ----------
    path : path
        ``.csv``, or ``.parquet``, which needs pyarrow (extra ``parquet``).

    Raises
    ------
    UsageError
        If it has another ending, pyarrow is missing, or another file has its name: one that mroi
        wrote is replaced.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        ending = self.path.suffix.lower()
        if ending not in _ENDINGS:
            raise UsageError(f"{path}: end the name of a manifest in .csv or .parquet")
        if ending == ".parquet":
            _import_pyarrow()
        _check_is_ours(self.path, ending)
        self._stack = ExitStack()
        self._writer: _Csv | _Parquet | None = None

    def __enter__(self) -> Self:
        from mroi.container import AtomicFile

        self.path.parent.mkdir(parents=True, exist_ok=True)
        atomic = AtomicFile(self.path, overwrite=True)
        self._stack.callback(_commit, atomic)
        is_parquet = self.path.suffix.lower() == ".parquet"
        writer: _Csv | _Parquet = _Parquet(atomic.file) if is_parquet else _Csv(atomic.file)
        self._stack.enter_context(writer)
        self._writer = writer
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def add(self, entries: Iterable[Entry]) -> None:
        """Add rows."""
        assert self._writer is not None
        for entry in entries:
            self._writer.write([entry.get(name) for name in COLUMNS])


def _commit(file: AtomicFile) -> None:
    file.commit()


class _Csv:
    """Rows as text."""

    def __init__(self, file: BinaryIO) -> None:
        self._text = io.TextIOWrapper(file, "utf-8", _NAMES, newline="", write_through=True)
        self._rows = csv.writer(self._text, lineterminator="\n")

    def __enter__(self) -> Self:
        self._rows.writerow(COLUMNS)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._text.detach()  # the file goes on, and is committed

    def write(self, row: list[Any]) -> None:
        self._rows.writerow(row)


class _Parquet:
    """Rows by columns, a thousand at a time."""

    def __init__(self, file: BinaryIO) -> None:
        pa, parquet = _import_pyarrow()
        types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
        columns = [(name, types[kind]) for name, kind in COLUMNS.items()]
        self._schema = pa.schema(columns, metadata={_KEY: b"1"})
        self._batch = pa.RecordBatch
        self._writer = parquet.ParquetWriter(file, self._schema)
        self._rows: list[list[Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._flush()
        self._writer.close()

    def write(self, row: list[Any]) -> None:
        self._rows.append([_printable(cell) if isinstance(cell, str) else cell for cell in row])
        if len(self._rows) >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            columns = [list(column) for column in zip(*self._rows, strict=True)]
            self._writer.write_batch(
                self._batch.from_arrays(
                    [
                        self._array(column, one.type)
                        for column, one in zip(columns, self._schema, strict=True)
                    ],
                    schema=self._schema,
                )
            )
        self._rows = []

    @staticmethod
    def _array(column: list[Any], kind: Any) -> Any:
        import pyarrow as pa

        return pa.array(column, kind)


def _printable(text: str) -> str:
    """Return a text that is Unicode, as Parquet has it, of a name that may be any bytes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _import_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as exc:
        raise UsageError(
            f"{exc.name} is not installed: pip install 'mroi[parquet]', or name a .csv"
        ) from exc
    return pa, parquet


def _check_is_ours(path: Path, ending: str) -> None:
    """Refuse to replace what mroi did not write."""
    if not path.exists():
        return
    if ending == ".csv":
        with path.open("rb") as file:
            wanted = ",".join(COLUMNS).encode() + b"\n"
            is_ours = file.read(len(wanted)) == wanted
    else:
        is_ours = _is_our_parquet(path)
    if not is_ours:
        raise UsageError(f"{path} is there and no manifest of mroi: name another file")


def _is_our_parquet(path: Path) -> bool:
    pa, parquet = _import_pyarrow()
    try:
        metadata = parquet.read_schema(path).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return False
    return _KEY in metadata


def entries_of(command: str, result: Result) -> Iterator[Entry]:
    """Yield the rows of a result: one for each file that was written, or one if none was.

    Parameters
    ----------
    command : str
        What was done.
    result : Result
        What came of it. Its files are read, for their checksums.
    """
    task, outcome = result.task, result.outcome
    sources = map(str, sorted(task.files)) if task.files else [task.source]
    source_size, source_sha256 = _size_and_sum(*sources)
    files = () if outcome is None else outcome.files
    is_done = outcome is not None
    for target in files or ("",):
        size, checksum = _size_and_sum(target)
        yield Entry(
            command=command,
            source=task.source,
            part=task.part_name,
            status=outcome.status if outcome is not None else "failed",
            reason="" if is_done else str(result.error),
            target=target or task.target,
            source_size=source_size,
            target_size=size,
            voxel_size=(outcome.voxel_size or None) if outcome is not None else None,
            codec=outcome.codec if outcome is not None else "",
            source_sha256=source_sha256,
            target_sha256=checksum,
            seconds=round(result.seconds, 6),
        )


def _size_and_sum(*paths: str) -> tuple[int | None, str | None]:
    """Return size and SHA-256 of files one after the other; nothing if one of them is none."""
    size, digest = 0, hashlib.sha256()
    try:
        for path in paths:
            if path in ("", STANDARD) or not Path(path).is_file():
                return None, None
            with Path(path).open("rb") as file:
                while data := file.read(_PIECE):
                    digest.update(data)
                    size += len(data)
    except (OSError, ValueError):
        return None, None
    return size, digest.hexdigest()
