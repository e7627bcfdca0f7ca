"""Decode in a process of its own, which may crash, hang or fill its memory and take nothing along.

Native decoders have bugs that no check of headers finds. A worker is a fresh interpreter that
waits for payloads on a pipe; it is started when the first is met, kept for the next ones, and
killed where it takes too long. What it sends back is never trusted with more than the bytes of an
array whose type and shape were known before.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

from mroi import errors
from mroi.codecs.base import ChunkSpec, Codec
from mroi.errors import CodecError, DecodeError, MroiError

__all__ = ["Call", "decode", "serve"]

_REQUEST = struct.Struct("<QQ")  # bytes of the call, bytes of the payload
_REPLY = struct.Struct("<BI")  # whether a chunk follows, bytes of what is said of it or instead
_LONGEST_TEXT = 1 << 16

_SECONDS = 60.0  # for a call, and one more for each
_SECOND_SIZE = 1 << 20  # bytes of the chunk: no decoder is as slow as that
_MEMORY = 512 << 20  # of a worker beside multiples of chunk and payload
_IDLE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a codec: its method, the chunk that the payload holds, and how much of it."""

    codec: Codec
    method: str
    spec: ChunkSpec
    argument: tuple[int, ...] = ()

    def run(self, payload: Buffer) -> NDArray[Any]:
        """Call the codec, in this process."""
        chunk: NDArray[Any] = getattr(self.codec, self.method)(payload, self.spec, *self.argument)
        return chunk


def decode(call: Call, payload: Buffer, wanted: ChunkSpec) -> NDArray[Any]:
    """Return what `call` gives, from a worker.

    Parameters
    ----------
    call : Call
        What to do; its codec must be importable by name.
    payload : bytes-like
        What to decode.
    wanted : ChunkSpec
        Shape and type of what must come out.

    Raises
    ------
    DecodeError
        If the decoder refuses the payload, dies of it, or takes more time or memory than any
        payload of this chunk may (rule CHK-8).
    CodecError
        If no worker can be started, or it cannot load the codec.
    """
    with _pool.worker() as worker:
        return worker.decode(call, memoryview(payload).cast("B"), wanted)


class _Pool:
    """The workers of this process that wait for payloads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Worker] = []

    @contextlib.contextmanager
    def worker(self) -> Iterator[_Worker]:
        """Lend a worker to a thread; it comes back if its last call was answered."""
        worker = self._take() or _Worker()
        try:
            yield worker
        finally:
            if worker.is_usable:
                with self._lock:
                    self._waiting.append(worker)
            else:
                worker.stop()

    def _take(self) -> _Worker | None:
        while True:
            with self._lock:
                if not self._waiting:
                    return None
                worker = self._waiting.pop()
            if worker.is_alive():
                return worker
            worker.stop()  # it was idle for too long

    def stop(self) -> None:
        """End all workers that wait."""
        with self._lock:
            workers, self._waiting = self._waiting, []
        for worker in workers:
            worker.stop()

    def abandon(self) -> None:
        """Let go of the workers of the process that this one was forked from."""
        self._lock = threading.Lock()
        workers, self._waiting = self._waiting, []
        for worker in workers:
            worker.abandon()


class _Worker:
    """A process that decodes one payload after the other.

    Attributes
    ----------
    is_usable : bool
        Whether the last call was answered to its end.
    """

    def __init__(self) -> None:
        boot = (
            "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
            "from mroi.codecs.isolation import serve; serve()"
        )
        try:
            self._process = subprocess.Popen(  # noqa: S603 (this interpreter, our own words)
                [sys.executable, "-c", boot, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as exc:
            raise CodecError(
                f"no process to decode in can be started ({exc}); "
                "MROI_ISOLATE=0 decodes in this one"
            ) from exc
        self.is_usable = False

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        self._process.kill()
        with contextlib.suppress(OSError):  # what was not sent yet
            self._process.communicate()

    def abandon(self) -> None:
        """Let go of a worker that belongs to the process that this one was forked from."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.returncode = 0  # not ours to wait for

    def decode(self, call: Call, payload: memoryview, wanted: ChunkSpec) -> NDArray[Any]:
        self.is_usable = False
        seconds = _SECONDS + (wanted.size + call.spec.size) / _SECOND_SIZE
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            answer = self._exchange(call, payload, wanted)
        except (OSError, EOFError) as exc:
            timed_out = not timer.is_alive()
            raise self._died(call, seconds if timed_out else None) from exc
        finally:
            timer.cancel()
        self.is_usable = True
        if isinstance(answer, MroiError):
            raise answer
        return answer

    def _exchange(
        self, call: Call, payload: memoryview, wanted: ChunkSpec
    ) -> NDArray[Any] | MroiError:
        """Send a call and read the answer; OSError or EOFError if the worker dies of it."""
        sink, source = self._process.stdin, self._process.stdout
        assert sink is not None
        assert source is not None
        words = pickle.dumps(call)
        sink.write(_REQUEST.pack(len(words), len(payload)) + words)
        sink.write(payload)
        sink.flush()
        is_chunk, size = _REPLY.unpack(_read(source, _REPLY.size))
        if size > _LONGEST_TEXT:
            raise EOFError
        text = _read(source, size).decode("utf-8", "replace")
        if not is_chunk:
            return _error(text)
        expected = _describe(wanted.shape, wanted.dtype)
        if text != expected:
            # Its bytes are still in the pipe: the worker is not used again.
            raise DecodeError(f"{call.codec.name} gave {text}, not {expected}", "CHK-8")
        chunk = np.empty(wanted.shape, wanted.dtype)
        _fill(source, chunk.reshape(-1).view(np.uint8).data)
        return chunk

    def _died(self, call: Call, seconds: float | None) -> DecodeError:
        name = call.codec.name
        if seconds is not None:
            return DecodeError(f"{name}: the decoder took longer than {seconds:.0f} s", "CHK-8")
        self._process.kill()
        code = self._process.wait()
        try:
            reason = signal.Signals(-code).name
        except ValueError:
            reason = f"exit code {code}"
        return DecodeError(f"{name}: the decoder died of this payload ({reason})", "CHK-8")


def _describe(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    return f"{dtype.str} {shape}"


def _error(text: str) -> MroiError:
    """Return the error that a worker tells of."""
    kind, _, rest = text.partition("\n")
    rule, _, message = rest.partition("\n")
    kinds = {"CodecError", "CodecUnavailableError", "DecodeError"}
    error: MroiError = getattr(errors, kind if kind in kinds else "DecodeError")(message, rule)
    return error


def _read(source: Any, size: int) -> bytes:
    data: bytes = source.read(size)
    if len(data) != size:
        raise EOFError
    return data


def _fill(source: Any, view: memoryview) -> None:
    at = 0
    while at < len(view):
        count = source.readinto(view[at:])
        if not count:
            raise EOFError
        at += count


_pool = _Pool()
atexit.register(_pool.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.abandon)


# -- the other side --------------------------------------------------------------------------


def serve() -> None:
    """Answer calls from standard input until it ends, or for a minute there is none."""
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)  # some decoders print
    while len(header := _wait(source)) == _REQUEST.size:
        words, size = _REQUEST.unpack(header)
        data, payload = source.read(words), source.read(size)
        answer = _answer(data, payload)
        if isinstance(answer, str):
            text = answer.encode()[:_LONGEST_TEXT]
            sink.write(_REPLY.pack(0, len(text)) + text)
        else:
            text = _describe(answer.shape, answer.dtype).encode()
            sink.write(_REPLY.pack(1, len(text)) + text)
            sink.write(answer.reshape(-1).view(np.uint8).data)
        sink.flush()
        del data, payload, answer


def _wait(source: BinaryIO | io.BufferedIOBase) -> bytes:
    """Return the next header; a process that nobody needs any more ends itself."""
    alarm = getattr(signal, "alarm", lambda _: None)
    alarm(_IDLE_SECONDS)
    header: bytes = source.read(_REQUEST.size)
    alarm(0)
    return header


def _answer(words: bytes, payload: bytes) -> NDArray[Any] | str:
    """Return what a call gives, or the kind, the rule and the message of its error."""
    try:
        call = pickle.loads(words)  # noqa: S301 (from the process that started this one)
    except Exception as exc:  # noqa: BLE001 (a module that only the other process has)
        text = f"its codec cannot be loaded in another process ({exc!r}); MROI_ISOLATE=0 helps"
        return f"CodecUnavailableError\n\n{text}"
    try:
        type(call.codec).probe()  # imports libraries, which are no concern of the limit
        _limit_memory(8 * call.spec.size + 4 * len(payload) + _MEMORY)
        return np.ascontiguousarray(call.run(payload))
    except MroiError as exc:
        return f"{type(exc).__name__}\n{exc.rule}\n{exc.message}"
    except BaseException as exc:  # noqa: BLE001 (of foreign code: panics are no Exceptions)
        return f"DecodeError\nCHK-8\n{call.codec.name}: {exc!r}"


def _limit_memory(size: int) -> None:
    """Let this process take `size` bytes more than it has, where the system can see to that."""
    try:
        import resource

        taken = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = taken * resource.getpagesize() + size
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    except (ImportError, OSError, ValueError):
        return  # macOS, Windows
