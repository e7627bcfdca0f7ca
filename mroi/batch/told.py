"""What work on an input says: values that come back from another process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Literal, Protocol, TypedDict

from typing_extensions import override

if TYPE_CHECKING:
    from mroi.batch.tasks import Task
    from mroi.volume.source import VoxelSource

__all__ = [
    "Called",
    "Context",
    "Entry",
    "Importance",
    "Note",
    "Outcome",
    "Result",
    "Step",
    "Work",
    "no_step",
]

Step = Callable[[str, int, int], None]
"""Called as ``step(name, done, total)`` while a file is worked on."""

logger = logging.getLogger("mroi.batch")


def no_step(_name: str, _done: int, _total: int) -> None:
    """Do nothing, where nobody looks."""


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


class Importance(Enum):
    """Who wants to know of something."""

    DETAIL = auto()
    """Who asked for all there is."""
    USUAL = auto()
    """Who did not ask for silence."""
    ALWAYS = auto()
    """Everybody."""
    LACKING = auto()
    """Everybody, and the exit code tells, too: files of the input were damaged and left out."""


@dataclass(frozen=True, slots=True)
class Note:
    """What was said of an input while it was worked on."""

    text: str
    importance: Importance = Importance.USUAL


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an input.

    Attributes
    ----------
    record : dict
        For programs.
    text : str
        The same for people.
    status : {"ok", "skipped", "planned"}
        Whether it was done.
    is_answer : bool
        Whether the text is what was asked for, and not about what was done.
    is_important : bool
        Whether somebody who asked for silence is told.
    files : tuple of str
        What was written.
    voxel_size : int
        Bytes of the voxels; 0 if nobody knows.
    codec : str
        What encodes the voxels, with its settings; empty if nothing does.
    tables : dict
        Rows for the tables of a folder of results: by table, CSV with the line of its columns.
    """

    record: dict[str, object]
    text: str
    status: Literal["ok", "skipped", "planned"] = "ok"
    is_answer: bool = False
    is_important: bool = False
    files: tuple[str, ...] = ()
    voxel_size: int = 0
    codec: str = ""
    tables: dict[str, str] = field(default_factory=dict)


class Entry(TypedDict):
    """A row of a manifest: a file that was written, or an input of which none was.

    Sizes are bytes; checksums are those that ``sha256sum`` prints; what is not known is None.
    """

    command: str
    source: str
    part: str
    status: str
    reason: str
    target: str
    source_size: int | None
    target_size: int | None
    voxel_size: int | None
    codec: str
    source_sha256: str | None
    target_sha256: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a task.

    Attributes
    ----------
    task : Task
        Which.
    outcome : Outcome, optional
        None if it failed.
    error : Exception, optional
        Why it failed.
    notes : tuple of Note
        What was said meanwhile.
    seconds : float
        How long it took.
    entries : tuple of Entry
        Its rows of a manifest, if one is written.
    """

    task: Task
    outcome: Outcome | None = None
    error: Exception | None = None
    notes: tuple[Note, ...] = ()
    seconds: float = 0.0
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Context:
    """What work is given beside its input: threads, and whom to tell.

    Attributes
    ----------
    threads : int
        How many it may use.
    step : callable
        Called as ``step(name, done, total)`` now and then.
    notes : list of Note
        What was said.
    """

    threads: int = 1
    step: Step = no_step
    notes: list[Note] = field(default_factory=list)

    def say(self, text: str, importance: Importance = Importance.ALWAYS) -> None:
        """Say something as it stands."""
        self.notes.append(Note(text, importance))

    def warn(self, called: Called | str, text: str) -> None:
        """Say what is odd about an input that was taken."""
        self.say(f"mroi: {called}: {text}", Importance.USUAL)

    def warn_of(self, called: Called | str, source: VoxelSource) -> None:
        """Say what is odd about a source, and, whoever wants to know, which files it lacks."""
        damaged = {f"left out: {file}" for file in getattr(source, "damaged", ())}
        for warning in source.warnings:
            kind = Importance.LACKING if warning in damaged else Importance.USUAL
            self.say(f"mroi: {called}: {warning}", kind)

    def detail(self, text: str) -> None:
        """Say what only those want to know who want to know all."""
        self.say(text, Importance.DETAIL)


class Work(Protocol):
    """What is done with every input: a frozen value that can be pickled."""

    @property
    def command(self) -> str:
        """Its name."""
        ...

    def do(self, task: Task, context: Context) -> Outcome:
        """Do it."""
        ...

    def rehearse(self, task: Task, context: Context) -> Outcome:
        """Say what would be done, and do nothing."""
        ...
