"""A journal: what of a batch is done, so that it can be run again after anything.

A text of one JSON object a line, which only grows:

* the first says of which work it is: ``{"mroi journal": 1, "command": ..., "options": {...}}``;
* ``{"start": [source, part, target], "free": true}``: a task was begun, and nothing had the name
  of its output;
* ``{"end": [source, part, target], "status": "ok", ...}``: it is done, or has failed.

A line is written before what follows from it is done, so a process may be killed at any time; what
is on the disk is at most a second older, should the machine fail. A last line without an end is
one that was being written.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

from mroi._version import __version__
from mroi.batch.manifest import COLUMNS
from mroi.batch.tasks import STANDARD, Action, Task
from mroi.batch.told import Called, Entry, Result, Work
from mroi.errors import SourceError, UsageError
from mroi.text import json_value

__all__ = ["Journal"]

_VERSION = 1
_START = b'{"mroi journal": '
_LONGEST = 1 << 26  # bytes of a line: the rows of the largest subject
_SYNC = 1.0  # seconds
_LOCKED = 1 << 30  # a byte far behind the end

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Done:
    """What is known of a task that is done.

    Attributes
    ----------
    stamp : list
        Of the source: size and time of its last change, summed over its files; None for what has
        none.
    sizes : list
        Of what was written: path and size of each file.
    offset : int
        Of its line.
    """

    stamp: list[int] | None
    sizes: list[tuple[str, int]]
    offset: int


class Journal:
    """What of a batch is done. Use it in a ``with`` block.

    Parameters
    ----------
    path : path
        Made if it does not exist; continued if it does.
    work : Work
        What the batch does.

    Raises
    ------
    UsageError
        If it is a folder, of other work, or another process uses it.
    SourceError
        If it is no journal, or damaged.
    OSError
        If it cannot be read or written.
    """

    def __init__(self, path: str | os.PathLike[str], work: Work) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            example = self.path / "journal.jsonl"
            raise UsageError(f"{path} is a folder: name a file for the journal, such as {example}")
        self._head = {
            "mroi journal": _VERSION,
            "tool": f"mroi {__version__}",
            "command": work.command,
            "options": _options(work),
        }
        self._done: dict[Key, _Done] = {}
        self._begun: set[Key] = set()
        self._files: dict[Key, tuple[Path, ...]] = {}  # of sources that are several
        self._stamps: dict[Key, list[int] | None] = {}  # of what was begun here
        self._synced = time.monotonic()
        self._targets: dict[str, Key | None] = {}  # whose output it is; None: of several tasks
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+b")
        try:
            _lock(self._file.fileno(), self.path)
            self._load()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        with suppress(OSError):  # what was written is there
            os.fsync(self._file.fileno())
        self._file.close()

    # -- what it says ----------------------------------------------------------------------------

    def check(self, work: Work) -> None:
        """Raise `UsageError` if it is not the journal of this work."""
        self._check_head({**self._head, "command": work.command, "options": _options(work)})

    def _check_head(self, found: dict[str, Any]) -> None:
        mine, its = self._head, found
        if its.get("mroi journal") != _VERSION:
            raise UsageError(f"{self.path}: a journal of version {its['mroi journal']!r}")
        if its.get("command") != mine["command"]:
            raise UsageError(
                f"{self.path} is the journal of `mroi {its.get('command')}`: name another file"
            )
        theirs, ours = its["options"], cast("dict[str, str]", mine["options"])
        for name in sorted(theirs.keys() | ours.keys()):
            if theirs.get(name) != ours.get(name):
                raise UsageError(
                    f"{self.path} is the journal of other work, with {name} "
                    f"{theirs.get(name, 'absent')}, not {ours.get(name, 'absent')}: name another "
                    "file"
                )

    def remaining(self, tasks: Sequence[Task]) -> list[Task]:
        """Return what is to be done of these tasks.

        What is done, from a source that did not change and with outputs that are still there, is
        not done again. What was begun when nothing had the name of its output, and was not ended,
        may replace what has it now: that is its own.
        """
        left = []
        for task in tasks:
            key = _key(task)
            self._files[key] = task.files
            if self._is_done(key):
                continue
            left.append(self._continued(task, key) if task.problem is None else task)
        return left

    def _continued(self, task: Task, key: Key) -> Task:
        """Return a task that may find what an earlier run left of it."""
        if key in self._begun:
            return replace(task, action=Action.OVERWRITE)
        is_begun = self._targets.get(task.target, key) != key  # a folder to which all add
        if is_begun and task.action in (Action.WRITE, Action.SKIP):
            return replace(task, action=Action.ADD)
        return task

    def _is_done(self, key: Key) -> bool:
        found = self._done.get(key)
        if found is None or found.stamp != _stamp(key[0], self._files.get(key)):
            return False
        try:
            return all(Path(path).stat().st_size == size for path, size in found.sizes)
        except (OSError, ValueError):
            return False

    def entries(self) -> Iterator[Entry]:
        """Yield the rows of a manifest for what is done."""
        for line in self._lines():
            yield from line["entries"]

    def tables(self) -> Iterator[tuple[Called, dict[str, str]]]:
        """Yield the rows for tables of what is done, by table."""
        for line in self._lines():
            if line["tables"]:
                yield Called(*line["end"][:2]), line["tables"]

    def _lines(self) -> Iterator[dict[str, Any]]:
        for key, done in self._done.items():
            if not self._is_done(key):
                continue
            with self.path.open("rb") as file:
                file.seek(done.offset)
                line = self._parse(file.readline(_LONGEST + 1), 0)
            self._check_end(line, 0)
            yield line

    # -- what is written -------------------------------------------------------------------------

    def start(self, task: Task) -> None:
        """Write that a task is begun."""
        is_free = task.target not in ("", STANDARD) and (
            task.action is Action.ADD or not os.path.lexists(task.target)
        )
        if task.problem is None and task.action is not Action.SKIP:
            # Taken before it is read: what changes meanwhile has changed.
            self._stamps[_key(task)] = _stamp(task.source, task.files)
            self._write({"start": list(_key(task)), "free": is_free})

    def end(self, result: Result) -> None:
        """Write that a task is done, or has failed."""
        outcome, key = result.outcome, _key(result.task)
        begun = self._stamps.pop(key, None)
        if outcome is not None and outcome.status == "skipped":  # asked anew in each run
            return
        line: dict[str, object] = {"end": list(key), "status": "failed"}
        if outcome is None:
            line["reason"] = f"{type(result.error).__name__}: {result.error}"
        else:
            files = [path for path in outcome.files if Path(path).is_file()]
            line |= {
                "status": outcome.status,
                "stamp": begun or _stamp(key[0], result.task.files),
                "sizes": [[path, Path(path).stat().st_size] for path in files],
                "entries": list(result.entries),
                "tables": outcome.tables,
            }
        self._write(line)

    def _write(self, line: dict[str, object]) -> None:
        text = json.dumps(json_value(line), allow_nan=False) + "\n"
        self._file.write(text.encode("ascii"))
        self._file.flush()
        if time.monotonic() - self._synced > _SYNC:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    # -- reading it ------------------------------------------------------------------------------

    def _load(self) -> None:
        """Read what is there, and cut off a line that was not written to its end."""
        self._file.seek(0)
        offset = number = 0
        while line := self._file.readline(_LONGEST + 1):
            number += 1
            if not line.endswith(b"\n"):
                self._check_cut(line, number)
                break
            self._take(self._parse(line, number), number, offset)
            offset += len(line)
        self._file.truncate(offset)
        self._file.seek(0, os.SEEK_END)
        if offset == 0:
            self._write(dict(self._head))
            os.fsync(self._file.fileno())

    def _check_cut(self, line: bytes, number: int) -> None:
        if len(line) > _LONGEST:
            raise self._damaged(number, "it is too long")
        size = min(len(line), len(_START))
        if number == 1 and line[:size] != _START[:size]:
            raise self._no_journal()

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        if number == 1 and not line.startswith(_START):
            raise self._no_journal()
        if len(line) > _LONGEST:
            raise self._damaged(number, "it is too long")
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise self._damaged(number, "it is not JSON") from exc
        if not isinstance(found, dict):
            raise self._damaged(number, "it is no object")
        return found

    def _take(self, line: dict[str, Any], number: int, offset: int) -> None:
        if number == 1:
            if not isinstance(line.get("options"), dict):
                raise self._damaged(number, "it does not say of which work")
            self._check_head(line)
        elif "start" in line:
            key = self._checked_key(line["start"], number)
            if line.get("free") is True:
                self._begun.add(key)
                is_other = self._targets.get(key[2], key) != key
                self._targets[key[2]] = None if is_other else key
        elif "end" in line:
            key = self._checked_key(line["end"], number)
            self._begun.discard(key)
            if line.get("status") != "failed":
                self._check_end(line, number)
                sizes = [(path, size) for path, size in line["sizes"]]
                self._done[key] = _Done(line["stamp"], sizes, offset)
            else:
                self._done.pop(key, None)
        else:
            raise self._damaged(number, "it is neither start nor end")

    def _checked_key(self, value: object, number: int) -> Key:
        if not isinstance(value, list) or len(value) != 3 or not _are(value, str):
            raise self._damaged(number, "it does not say which task")
        return cast("Key", tuple(value))

    def _check_end(self, line: dict[str, Any], number: int) -> None:
        stamp, sizes = line.get("stamp"), line.get("sizes")
        entries, tables = line.get("entries"), line.get("tables")
        good = (
            "stamp" in line
            and line.get("status") == "ok"
            and (
                stamp is None or (isinstance(stamp, list) and len(stamp) == 2 and _are(stamp, int))
            )
            and isinstance(sizes, list)
            and all(map(_is_size, sizes))
            and isinstance(entries, list)
            and all(map(_is_entry, entries))
            and isinstance(tables, dict)
            and _are(list(tables.values()), str)
        )
        if not good:
            raise self._damaged(number, "it does not say what was done")

    def _damaged(self, number: int, reason: str) -> SourceError:
        where = f"line {number}" if number else "a line"
        return SourceError(f"{self.path}: damaged journal, {where}: {reason}; name another file")

    def _no_journal(self) -> SourceError:
        return SourceError(f"{self.path} is no journal of mroi: name another file")


def _are(values: list[object], kind: type) -> bool:
    return all(isinstance(value, kind) and not isinstance(value, bool) for value in values)


def _is_size(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and _are(value[:1], str)
        and _are(value[1:], int)
    )


def _is_entry(value: object) -> bool:
    if not isinstance(value, dict) or value.keys() != COLUMNS.keys():
        return False
    return all(  # what is not known is None
        cell is None or isinstance(cell, kind if kind is str else (kind, int))
        for cell, kind in zip(map(value.get, COLUMNS), COLUMNS.values(), strict=True)
    )


def _key(task: Task) -> Key:
    return task.source, task.part_name, task.target


def _options(work: object, prefix: str = "") -> dict[str, str]:
    """Return what work was told, as texts, member by member; without what stays secret."""
    found: dict[str, str] = {}
    for one in fields(cast("Any", work)):
        value, name = getattr(work, one.name), f"{prefix}{one.name}"
        if one.repr:
            found |= _options(value, f"{name}.") if is_dataclass(value) else {name: repr(value)}
    return found


def _stamp(source: str, files: Sequence[Path] | None) -> list[int] | None:
    """Return size and time of the last change of a file, or the sums of several; None of others."""
    try:
        found = [path.stat() for path in files or (Path(source),)]
    except (OSError, ValueError):
        return None
    if not all(stat.S_ISREG(one.st_mode) for one in found):
        return None
    return [sum(one.st_size for one in found), sum(one.st_mtime_ns for one in found)]


def _lock(file: int, path: Path) -> None:
    """Refuse a file that another process has locked; where there are no locks, go on."""
    from mroi.container.parts import lock_file

    if sys.platform == "win32":
        import msvcrt

        os.lseek(file, _LOCKED, os.SEEK_SET)  # what is locked there cannot be read by others
        is_free: bool | None = True
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            is_free = False
    else:
        is_free = lock_file(file)
    if is_free is False:
        raise UsageError(f"{path} is in use by another run: wait for it, or name another file")
