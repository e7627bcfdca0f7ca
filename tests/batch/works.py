"""Work for tests: by name importable, as other processes need it."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from mroi.batch.tasks import Action, Task
from mroi.batch.told import Context, Outcome
from mroi.container import AtomicFile


@dataclass(frozen=True)
class Copy:
    """Copies files, and writes down each time that it does so."""

    log: str
    seconds: float = 0.0

    @property
    def command(self) -> str:
        return "copy"

    def do(self, task: Task, context: Context) -> Outcome:
        data = Path(task.source).read_bytes()
        if data.startswith(b"die"):
            os.kill(os.getpid(), signal.SIGKILL)
        with AtomicFile(task.target, overwrite=task.action is Action.OVERWRITE) as file:
            time.sleep(self.seconds)
            file.write(data)
        context.warn(task.called, "copied")
        with Path(self.log).open("a") as log:
            log.write(f"{task.source}\n")
        return Outcome({"source": task.source}, task.source, files=(task.target,), codec="none")

    def rehearse(self, task: Task, context: Context) -> Outcome:
        return task.planned()


def copies(folder: Path, contents: list[bytes]) -> list[Task]:
    """Return tasks that copy new files of a folder."""
    (folder / "in").mkdir(parents=True, exist_ok=True)
    (folder / "out").mkdir(exist_ok=True)
    tasks = []
    for number, data in enumerate(contents):
        source = folder / "in" / f"{number:03}"
        source.write_bytes(data)
        tasks.append(Task(str(source), str(folder / "out" / source.name)))
    return tasks


def fail(text: str) -> None:
    raise ValueError(text)


def hold(path: str) -> None:
    """Write a file that never gets whole."""
    with AtomicFile(path) as file:
        file.write(b"half")
        time.sleep(600)


def environment(name: str) -> str | None:
    return os.environ.get(name)


def say(text: str) -> None:
    import logging

    logging.getLogger("mroi.test").info("%s", text)
    sys.stdout.write("not for the pipe\n")
