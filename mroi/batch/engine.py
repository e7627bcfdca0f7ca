"""Do one thing with many inputs: here, in an executor, with a journal and a manifest."""

from __future__ import annotations

import os
import queue
import tempfile
import time
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import ExitStack
from dataclasses import replace
from errno import EDQUOT, EFBIG, EIO, EISDIR, ENOSPC, ENOTDIR
from itertools import islice
from pathlib import Path

from mroi.batch.journal import Journal
from mroi.batch.manifest import Manifest, entries_of
from mroi.batch.tasks import STANDARD, Action, Task
from mroi.batch.told import Context, Outcome, Result, Step, Work, no_step
from mroi.batch.workers import Workers, as_portable
from mroi.errors import WorkerError

__all__ = ["perform", "run"]

_HEARTBEAT = 0.5  # seconds
_WINDOW = 256
"""Calls that an executor has at the same time: enough for any cluster, and memory stays flat."""


def run(
    work: Work,
    tasks: Sequence[Task],
    *,
    executor: Executor | None = None,
    threads: int = 1,
    journal: Journal | None = None,
    manifest: str | os.PathLike[str] | None = None,
    rehearse: bool = False,
    step: Step = no_step,
) -> Generator[Result]:
    """Do all tasks, and yield what came of each, as it comes.

    An input that fails is a result with an error, and stops no other; so is one that the process
    which worked on it died of. Where a pool of the caller breaks, as those of
    `concurrent.futures.ProcessPoolExecutor` do, what it had not done goes on in `Workers`. When
    the generator is closed, what was not begun is given up.

    Parameters
    ----------
    work : Work
        What is done: `Pack`, `Unpack`, `Verify` or `FindRoi`.
    tasks : sequence of Task
        What it is done with: `Pack.plan` and the others return them.
    executor : Executor, optional
        What does it: `Workers`, or any other. Without one, one task after the other, here.
    threads : int
        For each task.
    journal : Journal, optional
        What it says is done is not done again, and what is done is written to it.
    manifest : path, optional
        Table of what was written, ``.csv`` or ``.parquet`` (extra ``parquet``), with what the
        journal knows from before. It is there when the generator ends, however it ends.
    rehearse : bool
        Only say what would be done.
    step : callable
        Called as ``step(name, done, total)`` while a file is worked on, without an executor.

    Raises
    ------
    UsageError
        If the manifest has another name or is a file that mroi did not write, or the journal is
        of other work.
    """
    with ExitStack() as stack:
        if journal is not None:
            journal.check(work)
            tasks = journal.remaining(tasks)
        table = None
        if manifest is not None:
            table = stack.enter_context(Manifest(manifest))
            if journal is not None:
                table.add(journal.entries())
        wants_entries = journal is not None or table is not None
        call = _Call(work, threads, wants_entries=wants_entries, rehearse=rehearse)
        if executor is None:
            results = _here(call, tasks, step, journal)
        else:
            results = _there(call, tasks, executor, journal)
        stack.callback(results.close)
        for result in results:
            if journal is not None and not rehearse:
                journal.end(result)
            if table is not None:
                table.add(result.entries)
            yield result


class _Call:
    """What is called for each task: it is sent to other processes, in pieces that they know."""

    def __init__(self, work: Work, threads: int, *, wants_entries: bool, rehearse: bool) -> None:
        self.work = work
        self.threads = threads
        self.wants_entries = wants_entries
        self.rehearse = rehearse

    def here(self, task: Task, step: Step) -> Result:
        return perform(
            self.work,
            task,
            self.threads,
            wants_entries=self.wants_entries,
            rehearse=self.rehearse,
            step=step,
        )

    def submit(self, executor: Executor, task: Task) -> Future[Result]:
        return executor.submit(
            perform,
            self.work,
            task,
            self.threads,
            wants_entries=self.wants_entries,
            rehearse=self.rehearse,
            is_remote=True,
        )


def _here(
    call: _Call, tasks: Iterable[Task], step: Step, journal: Journal | None
) -> Generator[Result]:
    for task in tasks:
        if journal is not None and not call.rehearse:
            journal.start(task)
        yield call.here(task, step)


def _there(
    call: _Call, tasks: Iterable[Task], executor: Executor, journal: Journal | None
) -> Generator[Result]:
    """Yield results of an executor, and go on with `Workers` where it breaks."""
    done: queue.SimpleQueue[Future[Result]] = queue.SimpleQueue()
    running: dict[Future[Result], tuple[Task, Task]] = {}  # as it is, and as it was sent
    waiting = iter(tasks)
    with ExitStack() as stack:
        stack.callback(_give_up, running)

        def begin(task: Task) -> None:
            if journal is not None and not call.rehearse:
                journal.start(task)
            send(task, task if isinstance(executor, Workers) else _repeatable(task))

        def send(task: Task, sent: Task) -> None:
            nonlocal executor
            try:
                future = call.submit(executor, sent)
            except BrokenExecutor:
                executor = _successor(executor, call.threads, stack)
                future = call.submit(executor, sent)
            running[future] = task, sent
            future.add_done_callback(done.put)

        for task in islice(waiting, _WINDOW):
            begin(task)
        while running:
            try:
                # A signal that comes just before the wait does not end it: look now and then.
                future = done.get(timeout=_HEARTBEAT)
            except queue.Empty:
                continue
            task, sent = running.pop(future)
            error = None if future.cancelled() else future.exception()
            if isinstance(error, BrokenExecutor):
                executor = _successor(executor, call.threads, stack)
                send(task, sent)
                continue
            yield _result_of(future, task)
            for task in islice(waiting, 1):
                begin(task)


def _repeatable(task: Task) -> Task:
    """Return a task that an executor may do twice, as some do when a worker is lost.

    What is under the name of the output then, and was not before, comes from the first time.
    """
    if task.action is Action.ADD or (task.action is Action.WRITE and _is_free(task)):
        return replace(task, action=Action.OVERWRITE)
    return task


def _is_free(task: Task) -> bool:
    return task.target not in ("", STANDARD) and not os.path.lexists(task.target)


def _successor(executor: Executor, threads: int, stack: ExitStack) -> Executor:
    """Return what goes on after a pool that broke."""
    if isinstance(executor, Workers):
        return executor
    count = getattr(executor, "_max_workers", None) or os.cpu_count() or 1
    workers = Workers(count, threads)
    stack.callback(workers.shutdown, cancel_futures=True)
    return workers


def _give_up(running: Iterable[Future[Result]]) -> None:
    for future in running:
        future.cancel()


def _result_of(future: Future[Result], task: Task) -> Result:
    """Return the result of a future, which may have got none."""
    try:
        return replace(future.result(), task=task)
    except CancelledError:
        error: Exception = WorkerError("the executor gave it up")
    except WorkerError as exc:
        error = exc
    except Exception as exc:  # noqa: BLE001 (of an executor that may be anything)
        error = WorkerError(f"the executor lost it: {type(exc).__name__}: {exc}")
    return Result(task, error=error)


# -- one task ------------------------------------------------------------------------------------


def perform(
    work: Work,
    task: Task,
    threads: int = 1,
    *,
    wants_entries: bool = False,
    rehearse: bool = False,
    is_remote: bool = False,
    step: Step = no_step,
) -> Result:
    """Do one task, and return what came of it: errors are a part of the result.

    Parameters
    ----------
    work : Work
        What is done.
    task : Task
        What it is done with.
    threads : int
        How many may be used.
    wants_entries : bool
        Whether checksums are computed, for a manifest.
    rehearse : bool
        Only say what would be done.
    is_remote : bool
        Whether the result goes to another process.
    step : callable
        Called as ``step(name, done, total)``.
    """
    context = Context(threads, step)
    start = time.perf_counter()
    outcome: Outcome | None = None
    error: Exception | None = None
    try:
        outcome = _outcome(work, task, context, rehearse=rehearse)
    except BrokenPipeError:  # whoever read our output has left: end quietly
        raise
    except OSError as exc:
        _name(exc, task)
        error = exc
    except Exception as exc:  # noqa: BLE001 (a fault of mroi is one, too)
        error = as_portable(exc) if is_remote else exc
    seconds = time.perf_counter() - start
    result = Result(task, outcome, error, tuple(context.notes), seconds)
    if wants_entries and not rehearse:
        result = replace(result, entries=tuple(entries_of(work.command, result)))
    return result


def _outcome(work: Work, task: Task, context: Context, *, rehearse: bool) -> Outcome:
    if task.problem is not None:
        raise task.problem
    if task.action is Action.SKIP:
        record = {**task.called.to_json(), "target": task.target}
        return Outcome(record, f"{task.called}: {task.target} exists, skipped", "skipped")
    if rehearse:
        _check_ends(task)
        return work.rehearse(task, context)
    _make_folder(task)
    return work.do(task, context)


def _name(error: OSError, task: Task) -> None:
    """Say what an error without a name is about; files that are written name themselves."""
    if error.filename is not None:
        return
    if error.errno in (ENOSPC, EDQUOT, EFBIG):
        is_piped = task.target == STANDARD
        error.filename = "standard output" if is_piped else tempfile.gettempdir()
    elif error.errno in (EIO, EISDIR):
        error.filename = task.source


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
