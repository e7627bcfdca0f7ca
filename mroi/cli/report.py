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

from typing_extensions import override

from mroi.batch.told import Called, Importance, Note, Outcome, Step
from mroi.cli.exits import ExitCode, code_of
from mroi.errors import MroiError
from mroi.text import json_value

__all__ = ["Report", "columns", "message_of", "wants_traceback"]


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
        """Say what the library logs: above all that a codec is prepared, which takes seconds.

        Warnings are for all but those who want to know nothing.
        """
        report = self

        class Notes(logging.Handler):
            @override
            def emit(self, record: logging.LogRecord) -> None:
                wanted = report.verbose or sys.stderr.isatty() or record.levelno > logging.INFO
                if wanted and not report.json:
                    report.warn(record.name.removeprefix("mroi."), record.getMessage())

        logger = logging.getLogger("mroi")
        logger.handlers[:] = [Notes()]
        logger.setLevel(logging.INFO)

    def tell(self, outcome: Outcome) -> None:
        """Say what came of an input: a JSON line, or text."""
        if self.json:
            self._write_json({"status": outcome.status, **outcome.record})
        elif outcome.is_important or not self.quiet:
            if outcome.is_answer:
                print(outcome.text, flush=True)
            else:
                self.say(outcome.text)

    def answer(self, record: dict[str, object], text: str) -> None:
        """Give what was asked for: a JSON line, or text."""
        self.tell(Outcome(record, text, is_answer=True, is_important=True))

    def note(self, note: Note) -> None:
        """Say what was said of an input while it was worked on, to those who want to know."""
        wanted = {
            Importance.USUAL: not self.quiet,
            Importance.DETAIL: self.verbose and not self.quiet,
        }
        if note.importance is Importance.LACKING:
            self._lacks = True
        if wanted.get(note.importance, True):
            self.say(note.text)

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

    def detail(self, text: str) -> None:
        """Say what only a verbose user wants to know."""
        self.note(Note(text, Importance.DETAIL))

    def less_than(self, code: ExitCode) -> ExitCode:
        """Return the exit code, which is not that of success if files of a source were damaged."""
        return ExitCode.SOME_FAILED if self._lacks and code is ExitCode.OK else code

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
