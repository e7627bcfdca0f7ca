"""Processes that work on files: one may crash, or be killed, and takes only its own file along.

`concurrent.futures.ProcessPoolExecutor` cannot say which call broke it, and breaks as a whole. Here
each process has a pipe of its own, so that the call that it dies of is known, and another process
takes its place. Processes are fresh interpreters: nothing is forked, and the program that starts
them needs no ``if __name__ == "__main__"``.
"""

from __future__ import annotations

import _thread
import contextlib
import json
import logging
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, BinaryIO, TypeVar, cast

from typing_extensions import override

from mroi.errors import Terminated, UsageError, WorkerError

__all__ = ["Workers", "as_portable", "serve"]

T = TypeVar("T")
_SIZE = struct.Struct("<Q")
_PATIENCE = 20  # seconds that a process has to end by itself
_LIBRARIES = ("OMP", "OPENBLAS", "MKL", "NUMBA", "VECLIB", "NUMEXPR")
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from mroi.batch.workers import serve; serve()"
)
_Item = tuple["Future[Any]", bytes]


class Workers(Executor):
    """An executor of processes of which each may die without the others.

    The future of a call whose process died raises `WorkerError`. A process is started when there
    is a call for it, and ended, also amid a call, when nobody waits for it any more.

    Parameters
    ----------
    count : int
        Processes at the same time.
    threads : int
        What numerical libraries may use in each, unless the environment says otherwise.

    Raises
    ------
    UsageError
        If `count` or `threads` is less than 1.

    Examples
    --------
    >>> with Workers(2) as workers:
    ...     list(workers.map(abs, [-1, 2]))
    [1, 2]
    """

    def __init__(self, count: int, threads: int = 1) -> None:
        if count < 1 or threads < 1:
            raise UsageError(f"{count} processes of {threads} threads: expected at least 1 of each")
        self.count = count
        self._environment = {
            **{f"{name}_NUM_THREADS": str(threads) for name in _LIBRARIES},
            **os.environ,
        }
        self._items: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._feeders: list[_Feeder] = []
        self._idle = 0

    @override
    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call a function, which must be importable by name, in one of the processes."""
        if self._stopping.is_set():
            raise RuntimeError("these workers were shut down")
        future: Future[T] = Future()
        try:
            call = pickle.dumps((fn, args, kwargs))
        except Exception as exc:  # noqa: BLE001 (what a caller wrote may do anything)
            future.set_exception(WorkerError(f"it cannot be sent to another process: {exc}"))
            return future
        self._items.put((future, call))
        with self._lock:
            if self._items.qsize() > self._idle and len(self._feeders) < self.count:
                feeder = _Feeder(self._items, self._stopping, self._environment, self._count_idle)
                self._feeders.append(feeder)
        return future

    def _count_idle(self, change: int) -> None:
        with self._lock:
            self._idle += change

    @override
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes: at once, amid their calls, if futures are cancelled."""
        if cancel_futures:
            self._cancel()
            self._stopping.set()
            for feeder in self._feeders:
                feeder.stop()
        for _ in self._feeders:
            self._items.put(None)
        if wait:
            for feeder in self._feeders:
                feeder.join()
        self._stopping.set()

    def _cancel(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                item = self._items.get_nowait()
                if item is not None:
                    item[0].cancel()


class _Feeder:
    """Gives calls to one process after the other, and takes what they answer."""

    def __init__(
        self,
        items: queue.SimpleQueue[_Item | None],
        stopping: threading.Event,
        environment: dict[str, str],
        count_idle: Callable[[int], None],
    ) -> None:
        self._items = items
        self._stopping = stopping
        self._environment = environment
        self._count_idle = count_idle
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="mroi-feeder", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for its process to end."""
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._count_idle(1)
            item = self._items.get()
            self._count_idle(-1)
            if item is None:
                break
            future, call = item
            if future.set_running_or_notify_cancel():
                self._perform(future, call)
            del item, future, call
        self.stop()
        if self._process is not None:
            self._wait(self._process)

    def stop(self) -> None:
        """Let the process end: it does so, and cleans up, when its pipe is closed."""
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()

    def _perform(self, future: Future[Any], call: bytes) -> None:
        try:
            result, error = self._exchange(call)
        except (OSError, EOFError, ValueError) as exc:  # ValueError: our end was closed
            process, self._process = self._process, None
            future.set_exception(self._died(process, exc))
        except BaseException as exc:  # noqa: BLE001 (an answer that cannot be unpickled, say)
            future.set_exception(exc)
        else:
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    def _exchange(self, call: bytes) -> tuple[Any, BaseException | None]:
        if self._process is None or self._process.poll() is not None:
            self._process = self._started()
            if self._stopping.is_set():  # who stops us may have come before there was a process
                raise EOFError
        sink, source = self._process.stdin, self._process.stdout
        assert sink is not None
        assert source is not None
        _send(sink, call)
        while True:
            answer = pickle.loads(_receive(source))  # noqa: S301 (from a process of ours)
            if answer[0] != "log":
                return answer[1], answer[2]
            logging.getLogger(answer[1]).log(answer[2], "%s", answer[3])

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 (this interpreter, our own words)
            [sys.executable, "-c", _BOOT, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )

    def _died(self, process: subprocess.Popen[bytes] | None, reason: Exception) -> WorkerError:
        if process is None:
            return WorkerError(f"no process can be started to work on it: {reason}")
        self._wait(process)
        code = process.returncode
        try:
            name = signal.Signals(-code).name
        except ValueError:
            return WorkerError(f"the process that worked on it ended (exit code {code})")
        memory = ": memory may have run out" if name == "SIGKILL" else ""
        return WorkerError(f"the process that worked on it died ({name}{memory})")

    @staticmethod
    def _wait(process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _send(sink: Any, data: bytes) -> None:
    sink.write(_SIZE.pack(len(data)) + data)
    sink.flush()


def _receive(source: Any) -> bytes:
    (size,) = _SIZE.unpack(_read(source, _SIZE.size))
    return _read(source, size)


def _read(source: Any, size: int) -> bytes:
    data: bytes = source.read(size)
    if len(data) != size:
        raise EOFError
    return data


# -- the other side --------------------------------------------------------------------------


def serve() -> None:
    """Answer calls from standard input until it ends; amid a call, give that up and clean up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells all of us, and we are told
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)
    source, replies = sys.stdin.buffer, _Replies(os.fdopen(os.dup(1), "wb"))
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)  # some decoders print
    logger = logging.getLogger("mroi")
    logger.addHandler(replies)
    logger.setLevel(logging.INFO)
    calls: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    is_busy = threading.Event()
    threading.Thread(target=_listen, args=(source, calls, is_busy), daemon=True).start()
    while (call := calls.get()) is not None:
        is_busy.set()
        answer = _answer(call)
        is_busy.clear()
        replies.send(answer)
        del call, answer


class _Replies(logging.Handler):
    """The way back to who started this process: answers, and what the library logs."""

    def __init__(self, sink: BinaryIO) -> None:
        super().__init__()
        self._sink = sink
        self._sending = threading.Lock()

    def send(self, data: bytes) -> None:
        """Send what was pickled."""
        with self._sending:
            _send(self._sink, data)

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self.send(pickle.dumps(("log", record.name, record.levelno, record.getMessage())))


def _end(number: int, _frame: object) -> None:
    """End as after an error, so that nothing unfinished is left; a second signal ends at once."""
    signal.signal(number, signal.SIG_DFL)
    raise Terminated(128 + number)


def _listen(
    source: BinaryIO | Any, calls: queue.SimpleQueue[bytes | None], is_busy: threading.Event
) -> None:
    """Take calls as they come; nobody is left to answer once the pipe is closed."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            calls.put(_receive(source))
    calls.put(None)
    if not is_busy.is_set():
        return
    if hasattr(signal, "pthread_kill"):  # which also ends a wait
        signal.pthread_kill(cast("int", threading.main_thread().ident), signal.SIGTERM)
    else:
        _thread.interrupt_main(signal.SIGTERM)
    time.sleep(_PATIENCE)
    os._exit(1)  # native code does not hear of signals


def _answer(call: bytes) -> bytes:
    try:
        function, args, kwargs = pickle.loads(call)  # noqa: S301 (from who started this process)
        answer = ("answer", function(*args, **kwargs), None)
        return pickle.dumps(answer)
    except Exception as exc:  # noqa: BLE001 (whoever waits for the answer is told)
        return pickle.dumps(("answer", None, as_portable(exc)))


def as_portable(error: Exception) -> Exception:
    """Return an error that can be sent to another process: itself, or what it says."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (our own)
    except Exception:  # noqa: BLE001 (errors of foreign code may do anything)
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
