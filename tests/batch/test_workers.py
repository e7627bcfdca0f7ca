"""Processes that may die: each takes its own call along, and nothing is left behind."""

import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from mroi.batch import Workers
from mroi.errors import UsageError, WorkerError
from tests.batch import works

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals")


def test_answers_come_from_other_processes() -> None:
    with Workers(2) as workers:
        pids = {workers.submit(os.getpid).result() for _ in range(4)}
        assert os.getpid() not in pids
        assert len(pids) <= 2
        assert list(workers.map(abs, [-1, -2, 3])) == [1, 2, 3]


def test_errors_come_back_as_they_are() -> None:
    with Workers(1) as workers:
        with pytest.raises(ValueError, match="no good"):
            workers.submit(works.fail, "no good").result()
        with pytest.raises(WorkerError, match="cannot be sent"):
            workers.submit(lambda: 1).result()
        assert workers.submit(abs, -3).result() == 3


@POSIX
def test_a_process_that_dies_takes_only_its_own_call_along() -> None:
    with Workers(2) as workers:
        calls = [workers.submit(abs, -n) for n in range(10)]
        dying = workers.submit(os._exit, 7)
        killed = workers.submit(signal.raise_signal, signal.SIGKILL)
        calls += [workers.submit(abs, -n) for n in range(10, 20)]
        with pytest.raises(WorkerError, match="exit code 7"):
            dying.result(60)
        with pytest.raises(WorkerError, match="SIGKILL: memory may have run out"):
            killed.result(60)
        assert [call.result(60) for call in calls] == list(range(20))


@POSIX
def test_shutting_down_amid_a_call_leaves_nothing(tmp_path: Path) -> None:
    workers = Workers(1)
    running = workers.submit(works.hold, str(tmp_path / "x"))
    waiting = workers.submit(abs, -1)
    deadline = time.monotonic() + 60
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(tmp_path.iterdir())
    workers.shutdown(cancel_futures=True)
    assert waiting.cancelled()
    assert isinstance(running.exception(), WorkerError)
    assert list(tmp_path.iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name == "mroi-feeder"]
    with pytest.raises(RuntimeError):
        workers.submit(abs, 1)


def test_what_the_library_logs_there_is_logged_here(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mroi"), Workers(1) as workers:
        workers.submit(works.say, "compiling").result()
        assert workers.submit(abs, -1).result() == 1  # what is printed there disturbs nothing
    assert ("mroi.test", logging.INFO, "compiling") in caplog.record_tuples


def test_libraries_get_as_many_threads_as_they_are_given(monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "5")
    with Workers(1, threads=3) as workers:
        assert workers.submit(works.environment, "OMP_NUM_THREADS").result() == "3"
        assert workers.submit(works.environment, "OPENBLAS_NUM_THREADS").result() == "5"


def test_there_is_at_least_one() -> None:
    with pytest.raises(UsageError):
        Workers(0)
