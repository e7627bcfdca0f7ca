"""Unfinished outputs: hidden beside the final name, locked as long as who writes them lives.

The lock tells a part in use from one that a crash left behind: the next writer of the same name
removes the latter. Where a file system knows no locks, nothing is removed. On Windows an open file
cannot be deleted, which does as well; folders that a crash left stay there.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import sys
import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from typing_extensions import override

from mroi.container.source import is_one_of

__all__ = ["OutputFile", "Part", "lock_file"]

_HAS_LOCKS = sys.platform != "win32"
_SWEPT = 16  # places that are looked at; more than one is taken only by writers at the same time
_NOT_FOLLOWED = getattr(os, "O_NOFOLLOW", 0)


class Part:
    """A new, empty file or folder ``.NAME.0.part`` (or 1, 2, ...) beside the name it will get.

    Parameters
    ----------
    target : Path
        The final name.
    shown : str
        What messages call it.
    inputs : iterable
        What is read meanwhile, and therefore never removed; see `refuse_inputs`.
    is_folder : bool
        What is made.

    Attributes
    ----------
    path : Path
        Where it is.
    file : binary file
        Open for reading and writing, of a part that is a file; errors of writing name the output.

    Raises
    ------
    OSError
        If it cannot be made.
    """

    file: io.BufferedRandom

    def __init__(
        self,
        target: Path,
        *,
        shown: str,
        inputs: Iterable[object] = (),
        is_folder: bool = False,
    ) -> None:
        inputs = list(inputs)
        for number in count():
            # 40 characters have at most 160 bytes, of the 255 that a name may have.
            self.path = target.with_name(f".{target.name[:40]}.{number}.part")
            _remove_abandoned(self.path, inputs)
            # Before it is made: an interruption may come before anybody has it.
            self._claim = _Claim(self.path, inputs, os.getpid())
            self._finalizer = weakref.finalize(self, _Claim.give_up, self._claim)
            if self._make(shown, is_folder=is_folder):
                break
            self.release()
        for other in range(number + 1, _SWEPT):
            _remove_abandoned(target.with_name(f".{target.name[:40]}.{other}.part"), inputs)

    def _make(self, shown: str, *, is_folder: bool) -> bool:
        """Make and lock it; False if the name is taken, or was taken away at once."""
        claim = self._claim
        try:
            if is_folder:
                self.path.mkdir(mode=0o700)
                claim.lock = os.open(self.path, os.O_RDONLY) if _HAS_LOCKS else None
            else:
                self.file = io.BufferedRandom(OutputFile(self.path, shown, new=True))
                claim.lock = os.dup(self.file.fileno()) if _HAS_LOCKS else None
        except FileExistsError:
            return False
        except FileNotFoundError:
            if is_folder and self.path.parent.is_dir():
                return False
            raise
        if claim.lock is None or (
            lock_file(claim.lock) is not False and _is(self.path, claim.lock)
        ):
            return True
        # Another writer took it for abandoned, between making and locking it.
        if not is_folder:
            self.file.close()
        return False

    def release(self) -> None:
        """Unlock it, once it has its final name."""
        self._finalizer.detach()
        self._claim.unlock()

    def remove(self) -> None:
        """Remove it; does nothing if it is gone."""
        _remove(self.path)
        self.release()


@dataclass(slots=True)
class _Claim:
    """What a process has of a part; given up when it ends, or nobody has the part any more."""

    path: Path
    inputs: Sequence[object]
    pid: int
    lock: int | None = None

    def unlock(self) -> None:
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None

    def give_up(self) -> None:
        if self.pid != os.getpid():
            return  # a forked process has no share in it
        if self.lock is None:  # it may not have been made, or be that of another process
            _remove_abandoned(self.path, self.inputs)
        else:
            _remove(self.path)
            self.unlock()


class OutputFile(io.FileIO):
    """A file whose errors of writing (no space left, say) name the output.

    Parameters
    ----------
    path : Path
        Where it is.
    shown : str
        What messages call it.
    new : bool
        Make it, to be read as well; else write into what is there.
    """

    def __init__(self, path: Path, shown: str, *, new: bool) -> None:
        super().__init__(path, "x+" if new else "w")
        self._shown = shown

    @override
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as exc:
            exc.filename = self._shown
            raise


def lock_file(file: int) -> bool | None:
    """Lock an open file: False if another has locked it, None if there are no locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is(path: Path, file: int) -> bool:
    """Whether an open file or folder is still what a path leads to."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(file))
    except OSError:
        return False


def _remove_abandoned(path: Path, inputs: Sequence[object]) -> None:
    """Remove a part that nobody writes any more, and that is not read now."""
    if not os.path.lexists(path) or is_one_of(path, inputs):
        return
    if not _HAS_LOCKS:
        with suppress(OSError):  # it is open, or a folder
            path.unlink()
        return
    with suppress(OSError):  # of another user, say
        mode = os.O_RDONLY if stat.S_ISDIR(path.lstat().st_mode) else os.O_RDWR
        file = os.open(path, mode | _NOT_FOLLOWED)
        try:
            if lock_file(file) and _is(path, file):
                _remove(path)
        finally:
            os.close(file)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
