"""What a command says, and where.

Answers (``info``, ``verify``, JSON lines) and data go to standard output. What a command says
about its work goes to standard error, so that it never mixes with data in a pipe.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from typing_extensions import override

from mroi.cli.exits import ExitCode, code_of
from mroi.errors import MroiError
from mroi.text import json_value

if TYPE_CHECKING:
    from mroi.volume.source import VoxelSource

__all__ = ["Called", "Report", "Step", "columns", "message_of", "wants_traceback"]

Step = Callable[[str, int, int], None]
"""Called as ``step(name, done, total)`` while a file is worked on."""


@dataclass(frozen=True, slots=True)
class Called:
    """What an input is called.

    Attributes
    ----------
    source : str
        Its path.
    part : str
        Which part of a folder is meant; empty for the whole.
    """

    source: str
    part: str = ""

    @override
    def __str__(self) -> str:
        return f"{self.source} ({self.part})" if self.part else self.source

    def to_json(self) -> dict[str, object]:
        """Return the members of a record."""
        return {"source": self.source, **({"part": self.part} if self.part else {})}


class Report:
    """Tells the user, or the program that reads JSON lines, how each file went.

    Parameters
    ----------
    command : str
        Name of the command, for JSON.
    json : bool
        One JSON object for each file on standard output, and nothing else there.
    quiet, verbose : bool
        Only errors; or also what is done in between.
    """

    def __init__(
        self, command: str, *, json: bool = False, quiet: bool = False, verbose: bool = False
    ) -> None:
        self._command = command
        self.json = json
        self.quiet = quiet
        self.verbose = verbose
        self._lock = threading.Lock()
        self._lacks = False
        self._pass_on_notes()

    def _pass_on_notes(self) -> None:
        """Say what the library logs: above all that a codec is prepared, which takes seconds."""
        report = self

        class Notes(logging.Handler):
            @override
            def emit(self, record: logging.LogRecord) -> None:
                if not report.json and (report.verbose or sys.stderr.isatty()):
                    report.warn(record.name.removeprefix("mroi."), record.getMessage())

        logger = logging.getLogger("mroi")
        logger.handlers[:] = [Notes()]
        logger.setLevel(logging.INFO)

    def answer(self, record: dict[str, object], text: str) -> None:
        """Give what was asked for: a JSON line, or text."""
        if self.json:
            self._write_json({"status": "ok", **record})
        else:
            print(text, flush=True)

    def done(self, record: dict[str, object], text: str) -> None:
        """Say that a file is finished."""
        if self.json:
            self._write_json({"status": "ok", **record})
        elif not self.quiet:
            self.say(text)

    def skipped(self, called: Called, target: str) -> None:
        """Say that a file was left alone because its output exists."""
        record = {"status": "skipped", **called.to_json(), "target": target}
        self._about(record, f"{called}: {target} exists, skipped")

    def planned(self, called: Called, target: str, details: dict[str, object], text: str) -> None:
        """Say what would be written.

        Parameters
        ----------
        called : Called
            What would be read.
        target : str
            What would be written.
        details : dict
            What else is known of it, for programs.
        text : str
            The same for people.
        """
        record = {"status": "planned", **called.to_json(), "target": target, **details}
        self._about(record, f"{called} -> {target} (dry run){'  ' if text else ''}{text}")

    def _about(self, record: dict[str, object], text: str) -> None:
        if self.json:
            self._write_json(record)
        elif not self.quiet:
            self.say(text)

    def failed(self, called: Called, error: Exception) -> ExitCode:
        """Say that a file failed and return the exit code for it."""
        code = code_of(error, called.source)
        message = message_of(error, called.source)
        if self.json:
            record = {"status": "failed", **called.to_json(), "code": int(code), "message": message}
            if isinstance(error, MroiError):
                record |= {"rule": error.rule, "offset": error.offset}
            self._write_json(record)
        else:
            self.say(f"mroi: {called}: {message}")
        return code

    def warn(self, called: Called | str, text: str) -> None:
        """Say what is odd about an input that was taken."""
        if not self.quiet:
            self.say(f"mroi: {called}: {text}")

    def warn_of(self, called: Called | str, source: VoxelSource) -> None:
        """Say what is odd about a source, and, even if quiet, which of its files it lacks."""
        damaged = {f"left out: {file}" for file in getattr(source, "damaged", ())}
        for warning in source.warnings:
            if warning in damaged:
                self._lacks = True
                self.say(f"mroi: {called}: {warning}")
            else:
                self.warn(called, warning)

    def less_than(self, code: ExitCode) -> ExitCode:
        """Return the exit code, which is not that of success if files of a source were damaged."""
        return ExitCode.SOME_FAILED if self._lacks and code is ExitCode.OK else code

    def detail(self, text: str) -> None:
        """Say what only a verbose user wants to know."""
        if self.verbose and not self.quiet:
            self.say(text)

    def say(self, text: str) -> None:
        """Print to standard error, above a progress bar if there is one."""
        with self._lock:
            print(text, file=sys.stderr, flush=True)

    def _write_json(self, record: dict[str, object]) -> None:
        whole = json_value({"command": self._command, **record})
        line = json.dumps(whole, allow_nan=False, default=str)
        with self._lock:
            print(line, flush=True)

    @contextmanager
    def progress(self, files: int) -> Iterator[tuple[Callable[[], None], Step]]:
        """Show a bar on a terminal: of files, or of the slices of a single one.

        Yields what to call after each file, and what to call with ``(step, done, total)``.
        """
        if self.quiet or self.json or not sys.stderr.isatty():
            yield (lambda: None), (lambda _step, _done, _total: None)
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        # What is printed to standard error meanwhile goes above the bar.
        with Progress(*bars, console=Console(stderr=True), transient=True) as shown:
            bar = shown.add_task(self._command, total=files if files > 1 else None)

            def advance() -> None:
                if files > 1:
                    shown.advance(bar)

            def step(name: str, done: int, total: int) -> None:
                if files == 1:
                    shown.update(bar, description=name, completed=done, total=total)

            yield advance, step


def message_of(error: Exception, source: str) -> str:
    """Return what is said of an error that occurred while working on `source`."""
    match error:
        case FileExistsError():
            return f"{_os_message(error, source)}; see --exists"
        case OSError() if error.strerror:
            return _os_message(error, source)
        case MemoryError():
            return f"not enough memory: {error}".removesuffix(": ")
        case MroiError() | OSError():
            return str(error).removeprefix(f"{source}: ")
        case _:
            return (
                f"a fault of mroi, please report it: {type(error).__name__}: {error} "
                "(MROI_TRACEBACK=1 shows where)"
            )


def _os_message(error: OSError, source: str) -> str:
    name = f"{error.filename}: " if error.filename and error.filename != source else ""
    return name + (error.strerror or str(error))


def wants_traceback() -> bool:
    """Whether faults of mroi are shown as Python shows them."""
    return bool(os.environ.get("MROI_TRACEBACK"))


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as aligned text; the last column is not padded.

    Examples
    --------
    >>> print(columns([("a", "bb", "c"), ("aaa", "b", "cc")]))
    a    bb  c
    aaa  b   cc
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[-1] = 0
    lines = ["  ".join(map(str.ljust, row, widths)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
