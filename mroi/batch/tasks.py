"""Many files: which inputs, and what becomes of which."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum, auto
from itertools import chain
from pathlib import Path

from mroi.batch.shard import Shard
from mroi.batch.told import Called, Outcome
from mroi.errors import MroiError, SourceError, UsageError

__all__ = [
    "IS_INPUT",
    "STANDARD",
    "Action",
    "Exists",
    "FindParts",
    "Input",
    "Task",
    "find_inputs",
    "is_stream",
    "plan_tasks",
]

STANDARD = "-"
"""Standard input or output, as users write it."""

_ENDING = re.compile(r"\.[a-z][a-z0-9]*$", re.IGNORECASE)
IS_INPUT = "{} is also an input, by this or another name: choose another output"


class Exists(StrEnum):
    """What to do with an output that exists."""

    ERROR = "error"
    SKIP = "skip"
    OVERWRITE = "overwrite"
    SUFFIX = "suffix"


@dataclass(frozen=True, slots=True)
class Input:
    """One input.

    Attributes
    ----------
    path : str
        A file, a folder with a series, a URL, a pipe, or ``-``.
    below : Path
        Where it lies in the folder that the user named; its name, if that was the input itself.
    part : object
        What of a folder is meant, if not all that it holds.
    part_name : str
        What it is called, if it is one of several.
    files : tuple of Path
        The files of `part`.
    problem : MroiError, optional
        Why there is nothing to be done.
    """

    path: str
    below: Path
    part: object = field(default=None, compare=False)
    part_name: str = ""
    files: tuple[Path, ...] = field(default=(), compare=False)
    problem: MroiError | None = field(default=None, compare=False)

    @property
    def stem(self) -> str:
        """Name without the last ending."""
        return self.below.stem


class Action(Enum):
    """What is done about the output of a task."""

    WRITE = auto()
    OVERWRITE = auto()
    SKIP = auto()
    ADD = auto()
    """To a folder that others add to, too; no file in it is replaced."""


@dataclass(frozen=True, slots=True)
class Task:
    """One input and its output (none for commands that only look)."""

    source: str
    target: str = ""
    action: Action = Action.WRITE
    problem: MroiError | None = None
    """Why it cannot be done, if that was seen before any work."""
    part: object = None
    """What of the source is meant, see `Input`."""
    part_name: str = ""
    files: tuple[Path, ...] = ()
    """The files of `part`."""

    @classmethod
    def of(cls, entry: Input, target: str = "", action: Action = Action.WRITE) -> Task:
        """Return the task for an input."""
        return cls(
            entry.path, target, action, entry.problem, entry.part, entry.part_name, entry.files
        )

    @property
    def called(self) -> Called:
        """What the input is called in messages and records."""
        return Called(self.source, self.part_name)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The file that is written, if it is one."""
        return () if self.target in ("", STANDARD) else (self.target,)

    def planned(self, details: dict[str, object] | None = None, text: str = "") -> Outcome:
        """Return what is said of it where nothing is done.

        Parameters
        ----------
        details : dict, optional
            What else is known of it, for programs.
        text : str
            The same for people.
        """
        record = {**self.called.to_json(), "target": self.target, **(details or {})}
        line = f"{self.called} -> {self.target} (dry run){'  ' if text else ''}{text}"
        return Outcome(record, line, "planned")

    @property
    def subject(self) -> str:
        """Path that a subject in tables is called by."""
        from mroi.container import name_of

        if not self.part_name:
            return self.source
        return f"{name_of(self.source)}_{self.part_name}"

    @property
    def name(self) -> str:
        """Name of the input without its folder."""
        from mroi.container import name_of

        return "standard input" if self.source == STANDARD else name_of(self.source)


# -- which files -------------------------------------------------------------------------------


FindParts = Callable[[Path, Path], list[Input] | None]
"""From a folder, and what it is called below the one that the user named, to the inputs that it
holds with all folders in it, besides files that are inputs by their name; None if it holds none
itself."""


def find_inputs(
    arguments: Sequence[str], suffixes: Sequence[str], find_parts: FindParts | None = None
) -> list[Input]:
    """Return what the arguments name; what folders hold in the order of the names.

    Files, pipes and URLs are taken whatever they are called. In folders, and in those below them,
    it is what is not hidden: files with one of `suffixes`, and parts. A folder without any is an
    input with a problem.

    Parameters
    ----------
    arguments : sequence of str
        Files, folders, pipes, URLs.
    suffixes : sequence of str
        Endings of the files that are taken from folders.
    find_parts : callable, optional
        Finds inputs of several files.

    Raises
    ------
    UsageError
        If standard input is not the only input.
    """
    from mroi.container import name_of

    if STANDARD in arguments and len(arguments) > 1:
        raise UsageError("standard input (-) cannot be combined with other inputs")
    found = []
    for argument in arguments:
        folder = Path(argument)
        if not _is_folder(argument):
            found.append(Input(argument, Path(name_of(argument))))
            continue
        inside = list(_inside(folder, tuple(suffixes), find_parts))
        if not inside:
            kinds = " and no DICOM image" * (find_parts is not None)
            problem = SourceError(f"no file that ends in {', '.join(suffixes)}{kinds} is in it")
            inside = [Input(argument, Path(name_of(argument)), problem=problem)]
        found += inside
    return found


def _is_folder(argument: str) -> bool:
    from mroi.container import is_url

    return argument != STANDARD and not is_url(argument) and Path(argument).is_dir()


def _inside(
    folder: Path, suffixes: tuple[str, ...], find_parts: FindParts | None
) -> Iterator[Input]:
    from mroi.container import name_of

    taken: set[Path] = set()
    searched: Path | None = None  # the last folder whose parts were found, with all below it
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(root)
        if find_parts and not (searched and here.is_relative_to(searched)):
            below = Path(name_of(folder)) if here == folder else here.relative_to(folder)
            parts = find_parts(here, below)
            if parts is not None:
                searched = here
                taken = {file for part in parts for file in part.files}
                yield from parts
        for name in sorted(files):
            path = here / name
            is_one = name.lower().endswith(suffixes) and not name.startswith(".")
            if is_one and path not in taken and path.is_file():
                yield Input(str(path), path.relative_to(folder))


def plan_tasks(
    arguments: Sequence[str],
    suffixes: Sequence[str],
    output: str | None,
    rename: Callable[[Input], str],
    exists: Exists,
    *,
    endings: Sequence[str],
    allows_none: bool = False,
    find_parts: FindParts | None = None,
    also_read: Sequence[str] = (),
    makes_folders: bool = False,
    shard: Shard | None = None,
    share: Callable[[Input], str] | None = None,
) -> list[Task]:
    """Return what to make of what; tasks in which files get in each other's way have a problem.

    Parameters
    ----------
    arguments : sequence of str
        Files, folders, URLs, pipes or ``-``.
    suffixes : sequence of str
        Of the files that are taken from folders, lower case.
    output : str or None
        A file, a folder, or ``-``; a name without one of `endings` is a folder. By default beside
        each input, that of a URL in the folder one is in, that of a pipe on standard output.
    rename : callable
        From an input to the name of its output.
    exists : Exists
        What to do with outputs that exist.
    endings : sequence of str
        What the name of a file that is written ends in, lower case.
    allows_none : bool
        A single input can be written under a name without any ending.
    find_parts : callable, optional
        See `find_inputs`.
    also_read : sequence of str
        Other files that must not be replaced: a mask, say.
    makes_folders : bool
        What is written is a folder with one of `endings`, so that it cannot go to a pipe.
    shard : Shard, optional
        Which part of the inputs is taken.
    share : callable, optional
        From an input to what it is dealt to shards by: the name of its output, as far as that is
        known without opening it. Its name without the last ending by default.

    Raises
    ------
    UsageError
        If the output is none for these inputs.
    """
    inputs = find_inputs(arguments, suffixes, find_parts)
    if makes_folders and (
        output == STANDARD or (output is None and any(map(is_stream, arguments)))
    ):
        raise UsageError(f"the output is a folder: use --output NAME{endings[0]}")
    if output == STANDARD and shard is not None:
        raise UsageError("a shard has several outputs: name a folder")
    if output is None and any(map(is_stream, arguments)):
        if len(inputs) > 1:
            raise UsageError("a pipe has no name to call its output by: use --output")
        output = STANDARD
    if output == STANDARD:
        if len(inputs) > 1:
            raise UsageError("several inputs cannot go to standard output")
        if sys.stdout.isatty():
            raise UsageError("standard output is a terminal: use --output FILE")
        task = Task.of(inputs[0], STANDARD)
        return [replace(task, problem=task.problem or _problem_of_stdout(inputs[0]))]
    is_folder = output is not None and _is_folder_name(
        output,
        len(inputs),
        tuple(endings),
        needs_ending=not allows_none,
        from_folder=any(map(_is_folder, arguments)),
        makes_folders=makes_folders,
    )
    if shard is not None:  # inputs that may have one output are in one shard, which sees that
        name = share or (lambda entry: entry.stem)
        inputs = shard.part_of(
            inputs, lambda entry: str(_target(entry, output, name, is_folder=is_folder))
        )
    targets = {entry: _target(entry, output, rename, is_folder=is_folder) for entry in inputs}
    if exists is Exists.SUFFIX:
        targets = _numbered(targets)
    problems = _problems(targets, also_read)
    return [_task(entry, target, exists, problems) for entry, target in targets.items()]


def _is_folder_name(
    output: str,
    inputs: int,
    endings: tuple[str, ...],
    *,
    needs_ending: bool,
    from_folder: bool,
    makes_folders: bool,
) -> bool:
    """Whether an output is a folder, not the file that a single input becomes."""
    from mroi.container import is_url

    if is_url(output):
        raise UsageError(f"--output {output} is a URL; outputs are files")
    path = Path(output)
    is_named = makes_folders and path.name.lower().endswith(endings)
    if not is_named and (output.endswith(("/", "\\")) or path.is_dir()):
        return True
    ending = re.search(_ENDING, path.name)
    if path.name.lower().endswith(endings):
        if inputs > 1:
            raise UsageError(
                f"--output {output}: {inputs} inputs do not fit into one file: name a folder"
            )
        return False
    if inputs > 1 or from_folder:
        return True
    if (ending or needs_ending) and not (path.exists() and not path.is_file()):  # a device, say
        raise UsageError(
            f"--output {output}: end the name of the file in {' or '.join(endings)}, "
            "that of a folder in /"
        )
    return False


def is_stream(argument: str) -> bool:
    """Whether an input gives its bytes once, and has no name to speak of."""
    from mroi.container import is_pipe, is_url

    return argument == STANDARD or (not is_url(argument) and is_pipe(argument))


def _target(
    entry: Input, output: str | None, rename: Callable[[Input], str], *, is_folder: bool
) -> Path:
    from mroi.container import is_url

    if output is None:
        path = entry.below if is_url(entry.path) else Path(entry.path)
        if path.name in ("", ".."):
            path = path.resolve()
        path /= entry.part_name
        return path.with_name(rename(entry))
    if is_folder:
        return Path(output) / entry.below.with_name(rename(entry))
    return Path(output)


def _numbered(targets: dict[Input, Path]) -> dict[Input, Path]:
    """Return targets of which none exists, and no two are one: with -1, -2, ... where needed."""
    taken: dict[str, Input] = {}
    for entry, target in targets.items():
        if not target.exists():
            taken.setdefault(os.path.realpath(target), entry)
    found = {}
    for entry, target in targets.items():
        name, ending = _split_ending(target.name)
        number, free = 0, target
        while free.exists() or taken.setdefault(os.path.realpath(free), entry) != entry:
            number += 1
            free = target.with_name(f"{name}-{number}{ending}")
        found[entry] = free
    return found


def _split_ending(name: str) -> tuple[str, str]:
    """Split a name before what says its kind.

    Examples
    --------
    >>> _split_ending("x.y.mroi"), _split_ending("x.nii.gz"), _split_ending("1.2.840.11")
    (('x.y', '.mroi'), ('x', '.nii.gz'), ('1.2.840.11', ''))
    >>> _split_ending("x.ome.zarr")
    ('x', '.ome.zarr')
    """
    ending = re.search(r"(\.(nii|hdr|img|ome))?\.[a-z]+$", name, re.IGNORECASE)
    at = ending.start() if ending else len(name)
    return name[:at], name[at:]


def _problems(targets: dict[Input, Path], also_read: Sequence[str]) -> dict[Input, MroiError]:
    """Return why inputs cannot have their targets: an input would be lost, or another output."""
    from mroi.container import identity_of, is_one_of

    sharing: dict[str, list[Input]] = {}
    for entry, target in targets.items():
        sharing.setdefault(os.path.realpath(target), []).append(entry)
    problems: dict[Input, MroiError] = {}
    for entries in sharing.values():
        for entry in entries if len(entries) > 1 else ():
            other = next(one for one in entries if one != entry)
            problems[entry] = UsageError(
                f"{other.path} would become {targets[entry]}, too: --exists suffix numbers them"
            )
    existing = [(entry, target) for entry, target in targets.items() if target.exists()]
    paths = chain(also_read, *(map(_files, targets))) if existing else ()
    read = {identity_of(path) for path in paths}
    for entry, target in existing:
        if is_one_of(target, read):
            problems[entry] = UsageError(IS_INPUT.format(target))
    return problems


def _problem_of_stdout(entry: Input) -> MroiError | None:
    """Return why standard output cannot be taken: it goes to a file that is read."""
    from mroi.container import is_one_of

    is_input = is_one_of(sys.stdout, _files(entry))
    return UsageError(IS_INPUT.format("standard output")) if is_input else None


def _files(entry: Input) -> Iterator[str]:
    """Yield the files of an input; of a folder without parts, all in it."""
    if entry.files:
        yield from map(str, entry.files)
        return
    yield entry.path
    for root, _folders, names in os.walk(entry.path):
        yield from (os.path.join(root, name) for name in names)  # noqa: PTH118 (many, quickly)


def _task(entry: Input, target: Path, exists: Exists, problems: dict[Input, MroiError]) -> Task:
    action = Action.WRITE
    if exists is Exists.OVERWRITE:
        action = Action.OVERWRITE
    elif exists is Exists.SKIP and target.exists():
        action = Action.SKIP
    task = Task.of(entry, str(target), action)
    return replace(task, problem=task.problem or problems.get(entry))
