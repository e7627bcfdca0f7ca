"""Run ``mroi`` many times and start it once: a process that has loaded it, and forks for each run.

    python tools/warm.py SOCKET                     # wait for runs until standard input ends
    python tools/warm.py SOCKET mroi info x.mroi    # one run: with folder, environment, streams

``examples`` instead of ``mroi`` runs ``tools/examples.py``. Needs a system that forks; a run that
asks starts in 20 ms, because it loads nothing of `site` (``python -I -S``).
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator

SOCKET = "MROI_WARM"
"""Variable of the environment that says where runs are asked for."""

_REQUEST = 1 << 20  # bytes
_STREAMS = (0, 1, 2)


@contextlib.contextmanager
def waiting() -> Iterator[str]:
    """Have a process wait for runs; its socket is in the environment meanwhile.

    Empty where nothing forks.
    """
    if not hasattr(os, "fork"):
        yield ""
        return
    import subprocess
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "socket")  # noqa: PTH118  (a client shall not load pathlib)
        process = subprocess.Popen(
            [sys.executable, __file__, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONUTF8": "1"},
        )
        with process:
            assert process.stdout is not None
            process.stdout.readline()
            os.environ[SOCKET] = path
            try:
                yield path
            finally:
                del os.environ[SOCKET]


def command(path: str, *arguments: str) -> list[str]:
    """Return what asks for a run."""
    return [sys.executable, "-I", "-S", __file__, path, *arguments]


def ask(path: str, arguments: list[str], streams: tuple[int, ...] = _STREAMS) -> int:
    """Have a command run with these streams and this environment; return its exit code."""
    record = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}  # noqa: PTH109
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(path)
        socket.send_fds(line, [json.dumps(record).encode() + b"\n"], streams)
        answer = line.recv(16)
    return int(answer) if answer else 255  # nothing: it was killed


def serve(path: str) -> None:
    """Load what runs need, then run what is asked for."""
    load()
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path)
        door.listen()
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([door, 0], [], [])
            if 0 in ready:
                return  # nobody is left to ask
            line, _ = door.accept()
            if os.fork() == 0:
                door.close()
                answer(line)
            line.close()
            reap()


def load() -> None:
    """Run the commands that are run most, for what they import and compile."""
    import gc
    import io
    import tempfile

    import nibabel
    import numpy as np

    from mroi.cli import app

    voxels = np.random.default_rng(0).integers(0, 99, (48, 48, 16, 2)).astype("i2")
    runs = (
        *("pack x.nii", "pack x.nii -o x/ -j 1", "info x.mroi", "verify x.mroi"),
        *("unpack x.mroi -o y.nii", "preview x.mroi -o x.png", "slice x.mroi -o y.png"),
    )
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), "x.nii")
        for run in runs:
            quiet = (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            )
            with quiet[0], quiet[1]:
                app(run.split(), standalone_mode=False)
    gc.collect()
    gc.freeze()  # pages that children share are not written to by the collector


def reap() -> None:
    """Forget the processes that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def answer(line: socket.socket) -> None:
    """Run a command in a process of its own, and send its exit code once it has ended."""
    data, streams, _, _ = socket.recv_fds(line, _REQUEST, len(_STREAMS))
    while not data.endswith(b"\n"):
        data += line.recv(_REQUEST)
    pid = os.fork()
    if pid == 0:
        line.close()
        for number, stream in zip(_STREAMS, streams, strict=True):
            os.dup2(stream, number)
            os.close(stream)
        run(json.loads(data))
    for stream in streams:
        os.close(stream)
    for number in _STREAMS:  # a pipe that it reads from ends with the command, not with this
        os.close(number)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    line.sendall(str(code if code >= 0 else 128 - code).encode())
    os._exit(0)


def run(record: dict[str, object]) -> None:
    """Run a command in this process, and end it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(str(record["folder"]))
    os.environ.clear()
    os.environ.update(record["environment"])  # type: ignore[call-overload]
    sys.argv = list(record["arguments"])  # type: ignore[call-overload]
    if sys.argv[0] == "mroi":
        from mroi.cli import main

        sys.exit(main())
    import examples

    sys.exit(examples.main())


if __name__ == "__main__":
    if sys.argv[2:]:
        sys.exit(ask(sys.argv[1], sys.argv[2:]))
    serve(sys.argv[1])
