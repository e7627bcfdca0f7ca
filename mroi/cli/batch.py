"""Many files: which inputs, which outputs, in which order, and what to make of failures."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from errno import EDQUOT, EFBIG, EIO, EISDIR, ENOSPC, ENOTDIR
from itertools import chain
from pathlib import Path
from threading import Event

import typer

from mroi.cli.exits import ExitCode
from mroi.cli.options import Exists
from mroi.cli.report import Called, Report, Step, wants_traceback
from mroi.errors import MroiError, SourceError, UsageError

__all__ = [
    "STANDARD",
    "Action",
    "FindParts",
    "Input",
    "Task",
    "find_inputs",
    "is_stream",
    "plan",
    "run",
    "threads_for",
]

STANDARD = "-"
"""Standard input or output, as users write it."""

_HEARTBEAT = 0.5  # seconds
_ENDING = re.compile(r"\.[a-z][a-z0-9]*$", re.IGNORECASE)
_IS_INPUT = "{} is also an input, by this or another name: choose another output"


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

    @classmethod
    def of(cls, entry: Input, target: str = "", action: Action = Action.WRITE) -> Task:
        """Return the task for an input."""
        return cls(entry.path, target, action, entry.problem, entry.part, entry.part_name)

    @property
    def called(self) -> Called:
        """What the input is called in messages and records."""
        return Called(self.source, self.part_name)

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
    typer.BadParameter
        If standard input is not the only input.
    """
    from mroi.container import name_of

    if STANDARD in arguments and len(arguments) > 1:
        raise typer.BadParameter("standard input (-) cannot be combined with other inputs")
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


def plan(
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

    Raises
    ------
    typer.BadParameter
        If the output is none for these inputs.
    """
    inputs = find_inputs(arguments, suffixes, find_parts)
    if makes_folders and (
        output == STANDARD or (output is None and any(map(is_stream, arguments)))
    ):
        raise typer.BadParameter(f"the output is a folder: use --output NAME{endings[0]}")
    if output is None and any(map(is_stream, arguments)):
        if len(inputs) > 1:
            raise typer.BadParameter("a pipe has no name to call its output by: use --output")
        output = STANDARD
    if output == STANDARD:
        if len(inputs) > 1:
            raise typer.BadParameter("several inputs cannot go to standard output")
        if sys.stdout.isatty():
            raise typer.BadParameter("standard output is a terminal: use --output FILE")
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
        raise typer.BadParameter(f"--output {output} is a URL; outputs are files")
    path = Path(output)
    is_named = makes_folders and path.name.lower().endswith(endings)
    if not is_named and (output.endswith(("/", "\\")) or path.is_dir()):
        return True
    ending = re.search(_ENDING, path.name)
    if path.name.lower().endswith(endings):
        if inputs > 1:
            raise typer.BadParameter(
                f"--output {output}: {inputs} inputs do not fit into one file: name a folder"
            )
        return False
    if inputs > 1 or from_folder:
        return True
    if (ending or needs_ending) and not (path.exists() and not path.is_file()):  # a device, say
        raise typer.BadParameter(
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
            problems[entry] = UsageError(_IS_INPUT.format(target))
    return problems


def _problem_of_stdout(entry: Input) -> MroiError | None:
    """Return why standard output cannot be taken: it goes to a file that is read."""
    from mroi.container import is_one_of

    is_input = is_one_of(sys.stdout, _files(entry))
    return UsageError(_IS_INPUT.format("standard output")) if is_input else None


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


Rehearse = Callable[[Task, Step], tuple[dict[str, object], str]]


# -- doing it ----------------------------------------------------------------------------------


def threads_for(jobs: int, files: int) -> tuple[int, int]:
    """Return how many files to work on at once, and with how many threads each."""
    from mroi.volume.jobs import threads_of

    jobs = threads_of(jobs)
    at_once = max(min(jobs, files), 1)
    return at_once, max(jobs // at_once, 1)


def run(
    tasks: Sequence[Task],
    work: Callable[[Task, Step], None],
    report: Report,
    *,
    at_once: int = 1,
    fail_fast: bool = False,
    dry_run: bool = False,
    rehearse: Rehearse | None = None,
) -> ExitCode:
    """Do all tasks, and return one exit code for them.

    `work` does one task and reports its success itself; its errors are reported here. It calls
    its second argument now and then, so that it can be stopped.

    Parameters
    ----------
    tasks : sequence of Task
        What to do.
    work : callable
        Does a task.
    report : Report
        Where to say what came of it.
    at_once : int
        Tasks in threads at the same time.
    fail_fast : bool
        Stop at the first failure.
    dry_run : bool
        Say what would be done, and do nothing.
    rehearse : callable, optional
        What a dry run can say of a task besides its names, as JSON and as text.
    """
    if report.json and any(task.target == STANDARD for task in tasks):
        raise typer.BadParameter("JSON and data cannot both go to standard output")
    stop = Event()
    codes: list[ExitCode] = []
    with report.progress(len(tasks)) as (advance, show):

        def step(name: str, done: int, total: int) -> None:
            if stop.is_set():
                raise _StoppedError
            show(name, done, total)

        def attempt(task: Task) -> Exception | None:
            error = _error_of(
                lambda: _do(task, work, step, report, dry_run=dry_run, rehearse=rehearse)
            )
            if isinstance(error, OSError):
                _name(error, task)
            return error

        results = _results(tasks, attempt, at_once, stop)
        for task, error in results:
            codes.append(ExitCode.OK if error is None else report.failed(task.called, error))
            advance()
            if error is not None and fail_fast:
                results.close()
                break
    return _one_code(codes)


def _do(
    task: Task,
    work: Callable[[Task, Step], None],
    step: Step,
    report: Report,
    *,
    dry_run: bool,
    rehearse: Rehearse | None,
) -> None:
    if task.problem is not None:
        raise task.problem
    if task.action is Action.SKIP:
        report.skipped(task.called, task.target)
    elif dry_run:
        _check_ends(task)
        details, text = rehearse(task, step) if rehearse else ({}, "")
        report.planned(task.called, task.target, details, text)
    else:
        _make_folder(task)
        work(task, step)


def _error_of(call: Callable[[], None]) -> Exception | None:
    """Return the error that a call ends with; a fault of mroi is one, too."""
    try:
        call()
    except BrokenPipeError:  # whoever read our output has left: end quietly
        raise
    except (MroiError, OSError, MemoryError, _StoppedError) as exc:
        return exc
    except Exception as exc:
        if wants_traceback():
            raise
        return exc
    return None


def _name(error: OSError, task: Task) -> None:
    """Say what an error without a name is about; files that are written name themselves."""
    if error.filename is not None:
        return
    if error.errno in (ENOSPC, EDQUOT, EFBIG):
        is_piped = task.target == STANDARD
        error.filename = "standard output" if is_piped else tempfile.gettempdir()
    elif error.errno in (EIO, EISDIR):
        error.filename = task.source


class _StoppedError(Exception):
    """Work on a file was given up because of the user, or of another file."""


def _results(
    tasks: Sequence[Task],
    attempt: Callable[[Task], Exception | None],
    at_once: int,
    stop: Event,
) -> Generator[tuple[Task, Exception | None]]:
    """Yield each task with its error, as they finish; when the caller ends, work is given up."""
    if at_once == 1:
        for task in tasks:
            yield task, attempt(task)
        return
    pool = ThreadPoolExecutor(at_once, "mroi-file")
    try:
        running = {pool.submit(attempt, task): task for task in tasks}
        while running:
            # A signal that comes just before the wait does not end it: look now and then.
            done = wait(running, timeout=_HEARTBEAT, return_when=FIRST_COMPLETED).done
            for future in [future for future in running if future in done]:
                yield running.pop(future), future.result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _make_folder(task: Task) -> None:
    """Make the folder of the output, if it has one."""
    if task.target in ("", STANDARD):
        return
    folder = Path(task.target).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as exc:
        raise NotADirectoryError(ENOTDIR, "not a folder", str(folder)) from exc


def _check_ends(task: Task) -> None:
    """Raise what the work would raise at once: no input, or an output that is in the way."""
    from mroi.container import is_url, open_source

    if is_url(task.source):
        open_source(task.source).size()
    elif task.source != STANDARD:
        Path(task.source).stat()
    if task.action is Action.WRITE and task.target != STANDARD and Path(task.target).exists():
        raise FileExistsError(17, "the file exists already", task.target)


def _one_code(codes: Sequence[ExitCode]) -> ExitCode:
    failed = {code for code in codes if code}
    if not failed:
        return ExitCode.OK
    if ExitCode.OK in codes:
        return ExitCode.SOME_FAILED
    return failed.pop() if len(failed) == 1 else ExitCode.FAILED
