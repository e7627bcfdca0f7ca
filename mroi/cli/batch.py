"""Commands over many inputs: where they run, what the user is told, and how to go on."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import typer

from mroi.batch.shard import Shard
from mroi.batch.tasks import STANDARD, Action, Exists, Task
from mroi.batch.told import Context, Outcome, Result, Step, Work
from mroi.cli.exits import ExitCode
from mroi.cli.report import Report, message_of, wants_traceback
from mroi.errors import MroiError, Terminated, UsageError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from mroi.batch.journal import Journal

__all__ = [
    "ARGUMENTS",
    "Local",
    "Scale",
    "again",
    "command_line",
    "repeated",
    "run",
    "run_here",
    "threads_for",
]

ARGUMENTS = "mroi.arguments"
"""Where the context of a command has what the user gave it."""

_LISTED = 100


@dataclass(frozen=True)
class Local:
    """Work of a command that is done in this process, in threads.

    Attributes
    ----------
    command : str
        Its name.
    function : callable
        Does a task, and returns what came of it.
    rehearsal : callable, optional
        Says of a task what would be done.
    stop : Event
        Set when work is given up.
    """

    command: str
    function: Callable[[Task, Context], Outcome]
    rehearsal: Callable[[Task, Context], Outcome] | None = None
    stop: Event = field(default_factory=Event)

    def do(self, task: Task, context: Context) -> Outcome:
        """Do it."""
        return self.function(task, self._stoppable(context))

    def rehearse(self, task: Task, context: Context) -> Outcome:
        """Say what would be done."""
        if self.rehearsal is None:
            return task.planned()
        return self.rehearsal(task, self._stoppable(context))

    def _stoppable(self, context: Context) -> Context:
        def step(name: str, done: int, total: int) -> None:
            if self.stop.is_set():
                raise Terminated
            context.step(name, done, total)

        return replace(context, step=step)


@dataclass(frozen=True)
class Scale:
    """How a command goes over its inputs, as the user asked for.

    Attributes
    ----------
    jobs : int
        Processors; 0 for all.
    journal, manifest : str, optional
        Names of files.
    shard : Shard, optional
        Which part of the inputs.
    dask : str, optional
        Address of a cluster.
    fail_fast, dry_run : bool
        Stop at the first failure; do nothing.
    """

    jobs: int = 1
    journal: str | None = None
    manifest: str | None = None
    shard: Shard | None = None
    dask: str | None = None
    fail_fast: bool = False
    dry_run: bool = False

    @classmethod
    def of(cls, *, shard: str | None, exists: Exists = Exists.ERROR, **options: Any) -> Scale:
        """Return what options mean.

        Raises
        ------
        UsageError
            If they make no sense.
        """
        part = None if shard is None else Shard.parse(shard)
        for name in ("journal", "manifest"):
            if part is not None and options.get(name) is not None:
                options[name] = part.own(options[name])
        if options.get("journal") is not None and exists is Exists.SUFFIX:
            raise UsageError("--journal and --exists suffix: names would change from run to run")
        return cls(shard=part, **options)

    def places(self, inputs: Sequence[str], output: str | None) -> tuple[Sequence[str], str | None]:
        """Return inputs and output; under names that hold in every folder, for a cluster."""
        if self.dask is None:
            return inputs, output
        from mroi.container import is_url

        def absolute(path: str) -> str:
            if path == STANDARD:
                raise UsageError("standard input and output are here, not on a cluster")
            is_folder = path.endswith(("/", os.sep))
            return path if is_url(path) else str(Path(path).absolute()) + os.sep * is_folder

        return [absolute(path) for path in inputs], None if output is None else absolute(output)

    @contextmanager
    def executor(self, work: Work, tasks: Sequence[Task]) -> Iterator[tuple[Executor | None, int]]:
        """Give what works on tasks, None for this process, and how many threads each has."""
        if self.dask is not None:
            from mroi.batch.cluster import connect

            with connect(self.dask) as cluster:
                yield cluster, 1
            return
        real = [task for task in tasks if task.problem is None and task.action is not Action.SKIP]
        at_once, threads = threads_for(self.jobs, len(real))
        if at_once == 1:
            yield None, threads
            return
        pool: Executor
        if isinstance(work, Local):
            from concurrent.futures import ThreadPoolExecutor

            pool = ThreadPoolExecutor(at_once, "mroi-file")
        else:
            from mroi.batch.workers import Workers

            pool = Workers(at_once, threads)
        try:
            yield pool, threads
        finally:
            if isinstance(work, Local):
                work.stop.set()
            pool.shutdown(cancel_futures=True)

    @contextmanager
    def opened(self, work: Work) -> Iterator[Journal | None]:
        """Give the journal, if there is to be one."""
        if self.journal is None or self.dry_run:
            yield None
            return
        from mroi.batch.journal import Journal

        with Journal(self.journal, work) as journal:
            yield journal


def threads_for(jobs: int, files: int) -> tuple[int, int]:
    """Return how many files to work on at once, and with how many threads each."""
    from mroi.volume.jobs import threads_of

    jobs = threads_of(jobs)
    at_once = max(min(jobs, files), 1)
    return at_once, max(jobs // at_once, 1)


def run_here(
    command: str,
    function: Callable[[Task, Context], Outcome],
    tasks: Sequence[Task],
    report: Report,
    *,
    fail_fast: bool = False,
    dry_run: bool = False,
) -> ExitCode:
    """Do all tasks in this process, one after the other, and return one exit code for them.

    Parameters
    ----------
    command : str
        Name of the command.
    function : callable
        Does a task, and returns what came of it.
    tasks : sequence of Task
        What to do.
    report : Report
        Where to say what came of it.
    fail_fast : bool
        Stop at the first failure.
    dry_run : bool
        Say what would be done, and do nothing.
    """
    return run(Local(command, function), tasks, report, Scale(fail_fast=fail_fast, dry_run=dry_run))


def run(
    work: Work,
    tasks: Sequence[Task],
    report: Report,
    scale: Scale,
    *,
    again: Callable[[list[Task]], str] | None = None,
    took: Callable[[Result], None] | None = None,
    found: Callable[[Journal], None] | None = None,
) -> ExitCode:
    """Do all tasks, and return one exit code for them.

    Parameters
    ----------
    work : Work
        What is done.
    tasks : sequence of Task
        What it is done with.
    report : Report
        Where to say what came of it.
    scale : Scale
        Where, and how many at a time.
    again : callable, optional
        From what failed to the command that tries it again.
    took : callable, optional
        Called with each result.
    found : callable, optional
        Called with the journal, before anything is done.
    """
    if report.json and any(task.target == STANDARD for task in tasks):
        raise UsageError("JSON and data cannot both go to standard output")
    told = _Told(report, len(tasks), again)
    with ExitStack() as stack:
        journal = stack.enter_context(scale.opened(work))
        left: Sequence[Task] = tasks
        if journal is not None:
            left = journal.remaining(tasks)
            told.before(journal, len(tasks) - len(left))
            if found is not None:
                found(journal)
        advance, step = stack.enter_context(report.progress(len(left)))
        executor, threads = stack.enter_context(scale.executor(work, left))
        results = stack.enter_context(
            closing(_results(work, left, scale, executor, threads, journal, step))
        )
        with told.stopped(scale):
            for result in results:
                told.take(result)
                if took is not None:
                    took(result)
                advance()
                if result.error is not None and scale.fail_fast:
                    break
    told.end()
    return told.code


def _results(
    work: Work,
    tasks: Sequence[Task],
    scale: Scale,
    executor: Executor | None,
    threads: int,
    journal: Journal | None,
    step: Step,
) -> Any:
    from mroi.batch.engine import run as run_tasks

    return run_tasks(
        work,
        tasks,
        executor=executor,
        threads=threads,
        journal=journal,
        manifest=None if scale.dry_run else scale.manifest,
        rehearse=scale.dry_run,
        step=step,
    )


class _Told:
    """What the user was told of a batch, and what is left to say at its end."""

    def __init__(
        self, report: Report, count: int, again: Callable[[list[Task]], str] | None
    ) -> None:
        self._report = report
        self._count = count
        self._again = again
        self._good = 0
        self._codes: set[ExitCode] = set()
        self._failed: list[tuple[Task, str]] = []

    def before(self, journal: Journal, count: int) -> None:
        """Say what a journal has."""
        self._good += count
        if count and not self._report.quiet:
            self._report.say(f"mroi: {count:,} of {self._count:,} are done, by {journal.path}")

    def take(self, result: Result) -> None:
        """Say what came of a task."""
        report, error = self._report, result.error
        for note in result.notes:
            report.note(note)
        if error is None:
            assert result.outcome is not None
            report.tell(result.outcome)
            self._good += 1
            return
        is_fault = not isinstance(error, MroiError | OSError | MemoryError)
        if is_fault and wants_traceback():
            raise error
        self._codes.add(report.failed(result.task.called, error))
        message = message_of(error, result.task.source)
        self._failed.append((result.task, f"{result.task.called}: {message}"))

    @contextmanager
    def stopped(self, scale: Scale) -> Iterator[None]:
        """Say, where the user stops a batch that has a journal, how to go on."""
        try:
            yield
        except (KeyboardInterrupt, Terminated):
            if scale.journal is not None and not scale.dry_run and self._again is not None:
                self._report.say(
                    f"mroi: stopped, {self._good:,} of {self._count:,} are done; "
                    f"to go on: {self._again([])}"
                )
            raise

    def end(self) -> None:
        """List what failed, and say how to try it again."""
        failed = self._failed
        if self._count < 2 or not failed or self._report.json:
            return
        lines = [f"mroi: {len(failed):,} of {self._count:,} failed:"]
        lines += [f"  {text}" for _task, text in failed[:_LISTED]]
        if len(failed) > _LISTED:
            lines.append(f"  and {len(failed) - _LISTED:,} more")
        if self._again is not None:
            command = self._again([task for task, _text in failed])
            lines += [f"to try again: {command}"] if command else []
        self._report.say("\n".join(lines))

    @property
    def code(self) -> ExitCode:
        """One exit code for all."""
        if not self._codes:
            return ExitCode.OK
        if self._good:
            return ExitCode.SOME_FAILED
        return next(iter(self._codes)) if len(self._codes) == 1 else ExitCode.FAILED


# -- how to go on --------------------------------------------------------------------------------


def command_line(words: Sequence[str]) -> str:
    """Return a command as a shell takes it."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def repeated(context: typer.Context, exists: Exists | None = None) -> str:
    """Return the command that the user gave, or the same with another ``--exists``."""
    given = list(context.meta[ARGUMENTS])
    words = ["mroi", str(context.info_name)]
    if exists is None:
        return command_line([*words, *given])
    kept: list[str] = []
    while given:
        word = given.pop(0)
        if word == "--":
            kept += [word, *given]
            break
        if word == "--exists":
            given.pop(0)
        elif not word.startswith("--exists="):
            kept.append(word)
    return command_line([*words, "--exists", exists.value, *kept])


def again(
    context: typer.Context, exists: Exists, *, journal: str | None
) -> Callable[[list[Task]], str]:
    """Return what says how to try again what failed, of commands that write a file for each input.

    Parameters
    ----------
    context : typer.Context
        Of the command.
    exists : Exists
        What was asked for.
    journal : str or None
        Its name.
    """
    if exists is Exists.SUFFIX:  # the same again would number what did not fail
        return lambda _failed: ""
    if journal is not None or exists is Exists.OVERWRITE:
        return lambda _failed: repeated(context)
    return lambda _failed: repeated(context, Exists.SKIP)
