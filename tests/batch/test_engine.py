"""Any executor gives the same results; what a worker dies of stops nothing else."""

import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from mroi import PackOptions
from mroi.batch import Pack, Workers, run
from mroi.errors import UsageError, WorkerError
from tests.batch.works import Copy, copies

CONTENTS = [b"%d" % number for number in range(12)]


class Lossy(Executor):
    """Loses every third call, and does every other one twice."""

    def __init__(self) -> None:
        self.count = 0

    def submit(self, fn: Callable, /, *args: object, **kwargs: object) -> Future:
        future: Future = Future()
        self.count += 1
        if self.count % 3 == 0:
            future.set_exception(ConnectionError("gone"))
            return future
        try:
            fn(*args, **kwargs)
            future.set_result(fn(*args, **kwargs))
        except (OSError, ValueError) as exc:
            future.set_exception(exc)
        return future


def spawning() -> Executor:
    return ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))


@pytest.mark.parametrize(
    "make", [None, lambda: ThreadPoolExecutor(3), lambda: Workers(2), spawning],
    ids=["here", "threads", "workers", "pool"],
)  # fmt: skip
def test_every_executor_does_every_task_once(tmp_path: Path, make) -> None:
    tasks = copies(tmp_path, CONTENTS)
    executor = make() if make else None
    work = Copy(str(tmp_path / "log"))
    results = list(run(work, tasks, executor=executor))
    if executor:
        executor.shutdown()
    assert sorted(result.task.source for result in results) == [task.source for task in tasks]
    assert [result.error for result in results] == [None] * len(tasks)
    assert all(result.notes[0].text.endswith(": copied") for result in results)
    assert [Path(task.target).read_bytes() for task in tasks] == CONTENTS
    assert len((tmp_path / "log").read_text().split()) == len(tasks)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("make", [lambda: Workers(2), spawning], ids=["workers", "pool"])
def test_what_kills_its_process_is_found_and_nothing_else_fails(tmp_path: Path, make) -> None:
    contents = [b"die" if number in (3, 7) else data for number, data in enumerate(CONTENTS)]
    tasks = copies(tmp_path, contents)
    executor = make()
    results = list(run(Copy(str(tmp_path / "log")), tasks, executor=executor))
    executor.shutdown()
    failed = {Path(result.task.source).name: result.error for result in results if result.error}
    assert sorted(failed) == ["003", "007"]
    assert all(isinstance(error, WorkerError) for error in failed.values())
    assert "SIGKILL" in str(failed["003"])
    assert len(list((tmp_path / "out").iterdir())) == len(tasks) - 2


def test_an_executor_may_lose_calls_and_do_them_twice(tmp_path: Path) -> None:
    tasks = copies(tmp_path, CONTENTS)
    results = list(run(Copy(str(tmp_path / "log")), tasks, executor=Lossy()))
    errors = [result.error for result in results if result.error]
    assert len(errors) == 4
    assert all("the executor lost it: ConnectionError: gone" in str(error) for error in errors)


def test_closing_gives_up_what_was_not_begun(tmp_path: Path) -> None:
    tasks = copies(tmp_path, CONTENTS)
    with ThreadPoolExecutor(1) as pool:
        results = run(Copy(str(tmp_path / "log"), 0.02), tasks, executor=pool)
        next(results)
        results.close()
    assert len(list((tmp_path / "out").iterdir())) < len(tasks)


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    tasks = copies(tmp_path, CONTENTS[:2])
    Path(tasks[1].target).write_bytes(b"mine")
    with ThreadPoolExecutor(1) as pool:
        results = {r.task.target: r for r in run(Copy(str(tmp_path / "l")), tasks, executor=pool)}
    assert isinstance(results[tasks[1].target].error, FileExistsError)
    assert Path(tasks[1].target).read_bytes() == b"mine"


def test_a_mask_without_its_quality_is_refused() -> None:
    with pytest.raises(UsageError, match=r"mask mask\.nii: the options have no quality mask"):
        Pack(PackOptions(), mask="mask.nii")
