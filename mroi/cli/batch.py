"""Many files: which inputs, which outputs, in which order, and what to make of failures."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from enum import Enum, auto
from errno import EDQUOT, EFBIG, EIO, EISDIR, ENOSPC, ENOTDIR
from itertools import chain
from pathlib import Path
from threading import Event

import typer

from mroi.cli.exits import ExitCode
from mroi.cli.options import Exists
from mroi.cli.report import Report, Step, wants_traceback
from mroi.errors import MroiError, UsageError

__all__ = [
    "STANDARD",
    "Action",
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
_IS_INPUT = "{} is an input too, by this or another name: write elsewhere"


@dataclass(frozen=True, slots=True)
class Input:
    """One input.

    Attributes
    ----------
    path : str
        A file, a folder with a series, a URL, a pipe, or ``-``.
    below : Path
        Where it lies in the folder that the user named; its name, if that was the input itself.
    """

    path: str
    below: Path

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
    problem: str = ""
    """Why it cannot be done, if that was seen before any work."""

    @property
    def name(self) -> str:
        """Name of the input without its folder."""
        from mroi.container import name_of

        return "standard input" if self.source == STANDARD else name_of(self.source)


# -- which files -------------------------------------------------------------------------------


def _never(_folder: Path) -> bool:
    """Say of any folder that it is not one input as a whole."""
    return False


def find_inputs(
    arguments: Sequence[str],
    suffixes: Sequence[str],
    is_one_input: Callable[[Path], bool] = _never,
) -> list[Input]:
    """Return what the arguments name; what folders hold in the order of the names.

    Files, pipes and URLs are taken whatever they are called. In folders, and in those below them,
    it is what is not hidden: files with one of `suffixes`, and folders that are one input with all
    they hold.

    Parameters
    ----------
    arguments : sequence of str
        Files, folders, pipes, URLs.
    suffixes : sequence of str
        Endings of the files that are taken from folders.
    is_one_input : callable
        Whether a folder is one input.

    Raises
    ------
    typer.BadParameter
        If standard input is not the only input, or a folder has none.
    """
    from mroi.container import is_url, name_of

    if STANDARD in arguments and len(arguments) > 1:
        raise typer.BadParameter("standard input (-) cannot be combined with other inputs")
    found = []
    for argument in arguments:
        folder = Path(argument)
        is_folder = argument != STANDARD and not is_url(argument) and folder.is_dir()
        if not is_folder or is_one_input(folder):
            found.append(Input(argument, Path(name_of(argument))))
        else:
            inside = [Input(str(path), path.relative_to(folder))
                      for path in _below(folder, tuple(suffixes), is_one_input)]  # fmt: skip
            if not inside:
                endings = ", ".join(suffixes)
                raise typer.BadParameter(
                    f"nothing for this command in {argument}: no file that ends in {endings}"
                    f"{' and no DICOM' if is_one_input is not _never else ''}"
                )
            found += inside
    return found


def _below(
    folder: Path, suffixes: tuple[str, ...], is_one_input: Callable[[Path], bool]
) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if is_one_input(Path(root)):
            folders.clear()
            yield Path(root)
            continue
        for name in sorted(files):
            path = Path(root, name)
            if name.lower().endswith(suffixes) and not name.startswith(".") and path.is_file():
                yield path


def plan(
    arguments: Sequence[str],
    suffixes: Sequence[str],
    output: str | None,
    rename: Callable[[Input], str],
    exists: Exists,
    *,
    is_one_input: Callable[[Path], bool] = _never,
    also_read: Sequence[str] = (),
) -> list[Task]:
    """Return what to make of what; tasks in which files get in each other's way have a problem.

    Parameters
    ----------
    arguments : sequence of str
        Files, folders, URLs, pipes or ``-``.
    suffixes : sequence of str
        Of the files that are taken from folders, lower case.
    output : str or None
        A file, a folder, or ``-``. By default beside each input, that of a URL in the folder one
        is in, that of a pipe on standard output.
    rename : callable
        From an input to the name of its output.
    exists : Exists
        What to do with outputs that exist.
    is_one_input : callable
        Whether a folder is one input as a whole.
    also_read : sequence of str
        Other files that must not be replaced: a mask, say.
    """
    inputs = find_inputs(arguments, suffixes, is_one_input)
    if output is None and any(map(is_stream, arguments)):
        if len(inputs) > 1:
            raise typer.BadParameter("a pipe has no name to call its output by: use --output")
        output = STANDARD
    if output == STANDARD:
        if len(inputs) > 1:
            raise typer.BadParameter("several inputs cannot go to standard output")
        if sys.stdout.isatty():
            raise typer.BadParameter("standard output is a terminal: use --output FILE")
        return [Task(inputs[0].path, STANDARD, problem=_problem_of_stdout(inputs[0]))]
    is_folder = output is not None and (
        [entry.path for entry in inputs] != list(arguments)  # they come from folders
        or len(inputs) > 1
        or output.endswith(("/", "\\"))
        or Path(output).is_dir()
    )
    targets = {entry: _target(entry, output, rename, is_folder=is_folder) for entry in inputs}
    if exists is Exists.SUFFIX:
        targets = _numbered(targets)
    problems = _problems(targets, also_read)
    return [_task(entry, target, exists, problems) for entry, target in targets.items()]


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
    """
    ending = re.search(r"(\.(nii|hdr|img))?\.[a-z]+$", name, re.IGNORECASE)
    at = ending.start() if ending else len(name)
    return name[:at], name[at:]


def _problems(targets: dict[Input, Path], also_read: Sequence[str]) -> dict[Input, str]:
    """Return why inputs cannot have their targets: an input would be lost, or another output."""
    from mroi.container import identity_of, is_one_of

    sharing: dict[str, list[Input]] = {}
    for entry, target in targets.items():
        sharing.setdefault(os.path.realpath(target), []).append(entry)
    problems = {}
    for entries in sharing.values():
        for entry in entries if len(entries) > 1 else ():
            other = next(one for one in entries if one != entry)
            problems[entry] = (
                f"{other.path} would become {targets[entry]}, too: --exists suffix numbers them"
            )
    existing = [(entry, target) for entry, target in targets.items() if target.exists()]
    paths = chain(also_read, *(map(_files, targets))) if existing else ()
    read = {identity_of(path) for path in paths}
    for entry, target in existing:
        if is_one_of(target, read):
            problems[entry] = _IS_INPUT.format(target)
    return problems


def _problem_of_stdout(entry: Input) -> str:
    """Return why standard output cannot be taken: it goes to a file that is read."""
    from mroi.container import is_one_of

    return _IS_INPUT.format("standard output") if is_one_of(sys.stdout, _files(entry)) else ""


def _files(entry: Input) -> Iterator[str]:
    """Yield the file of an input, or all files of a folder."""
    yield entry.path
    for root, _folders, names in os.walk(entry.path):
        yield from (os.path.join(root, name) for name in names)  # noqa: PTH118 (many, quickly)


def _task(entry: Input, target: Path, exists: Exists, problems: dict[Input, str]) -> Task:
    action = Action.WRITE
    if exists is Exists.OVERWRITE:
        action = Action.OVERWRITE
    elif exists is Exists.SKIP and target.exists():
        action = Action.SKIP
    return Task(entry.path, str(target), action, problems.get(entry, ""))


# -- doing it ----------------------------------------------------------------------------------


def threads_for(jobs: int, files: int) -> tuple[int, int]:
    """Return how many files to work on at once, and with how many threads each."""
    from mroi.volume.write import default_jobs

    jobs = jobs or default_jobs()
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
            error = _error_of(lambda: _do(task, work, step, report, dry_run=dry_run))
            if isinstance(error, OSError):
                _name(error, task)
            return error

        results = _results(tasks, attempt, at_once, stop)
        for task, error in results:
            codes.append(ExitCode.OK if error is None else report.failed(task.source, error))
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
) -> None:
    if task.problem:
        raise UsageError(task.problem)
    if task.action is Action.SKIP:
        report.skipped(task.source, task.target)
    elif dry_run:
        _rehearse(task)
        report.planned(task.source, task.target)
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


def _rehearse(task: Task) -> None:
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
