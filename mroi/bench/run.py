"""Run a benchmark: every step in a process of its own, a journal of what is done, the results."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mroi._version import __version__
from mroi.bench.rows import Row, Subject, Task, build_csv
from mroi.bench.steps import SEED
from mroi.container import AtomicFile
from mroi.errors import MroiError, UsageError

__all__ = ["Bench", "Plan", "identity_of_files", "machine"]

CSV, JSON, REPORT = "results.csv", "results.json", "report.html"
_JOURNAL, _PICTURES, _WORK = "journal.jsonl", "pictures", "work"
_STEPS = ("-m", "mroi.bench.steps")
_HEARTBEAT = 0.2  # seconds
_TAIL = 300  # characters of what a process said before it ended
_VERSION = 1  # of results.json


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured: as the user said it, so that it can be done again.

    Attributes
    ----------
    inputs : tuple of str
        Files and folders.
    codecs, rois, targets : tuple of str
        Each with each; targets are for codecs that have settings to choose.
    background : {"exact", "drop"}
        What becomes of voxels outside the ROI.
    axis : int
        Across which slices are cut.
    threads : int
        Of each measurement.
    crops : str
        Folder with volumes that somebody cropped; empty for none.
    timeout : float
        Seconds that a step may take.
    """

    inputs: tuple[str, ...]
    codecs: tuple[str, ...]
    rois: tuple[str, ...]
    targets: tuple[str, ...] = ()
    background: str = "exact"
    axis: int = 2
    threads: int = 1
    crops: str = ""
    timeout: float = 3600.0

    @classmethod
    def from_json(cls, record: object) -> Plan:
        """Return the plan that a file holds.

        Raises
        ------
        UsageError
            If it is none.
        """
        example = asdict(cls(inputs=(), codecs=(), rois=()))
        if not isinstance(record, dict) or record.keys() != example.keys():
            raise UsageError("the plan in the results does not have the fields of a plan")
        for name, value in record.items():
            kind = type(example[name])
            is_texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
            if not (is_texts if kind is tuple else type(value) is kind):
                raise UsageError(f"the plan in the results has {name} {str(value)[:40]!r}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in record.items()
        }
        return cls(**values)

    def tasks(self, subjects: Sequence[Subject]) -> list[Task]:
        """Return a task for each row.

        Raises
        ------
        UsageError, CodecError
            If there is no such codec, or a target makes no sense.
        """
        crops = _crops_of(self.crops)
        return [
            Task(
                subject=subject,
                codec=codec,
                roi=roi,
                target=target,
                background=self.background,
                axis=self.axis,
                threads=self.threads,
                crop="" if roi == "full" else crops.get(subject.subject_id, ""),
            )
            for subject in subjects
            for codec in self.codecs
            for target in (self.targets if self.targets and _takes_target(codec) else ("",))
            for roi in self.rois
        ]


def _crops_of(folder: str) -> dict[str, str]:
    """Return the cropped volume of each subject."""
    from mroi.adapters.crop import subject_of

    if not folder:
        return {}
    paths = sorted(Path(folder).iterdir())
    return {subject_of(path): str(path) for path in paths if ".nii" in path.name.lower()}


def _takes_target(codec: str) -> bool:
    """Whether a codec has settings to choose, and none is named."""
    from mroi.codecs import SupportsTarget, codec_class

    name = codec.partition(":")[0]
    return name == codec and name != "auto" and issubclass(codec_class(name), SupportsTarget)


class _StepError(MroiError):
    """A step did not come to its end."""


class Bench:
    """A folder of results, and the measurements that fill it.

    Parameters
    ----------
    folder : path
        Made if it is not there. What an earlier run has finished in it is not measured again.
    plan : Plan
        What is measured.
    tasks : sequence of Task
        Its rows, see `Plan.tasks`.
    restart : bool
        Forget what an earlier run has finished.
    """

    def __init__(
        self, folder: str | os.PathLike[str], plan: Plan, tasks: Sequence[Task], *, restart: bool
    ) -> None:
        self.folder = Path(folder)
        self._plan = plan
        self._tasks = list(tasks)
        self._began = datetime.now(UTC).isoformat(timespec="seconds")
        self._lock = threading.Lock()
        self._locks: dict[Subject, threading.Lock] = defaultdict(threading.Lock)
        self._facts: dict[Subject, dict[str, Any]] = {}
        self._left = Counter(task.subject for task in self._tasks)
        self._rows = {} if restart else _read_journal(self.folder / _JOURNAL)
        if restart:
            (self.folder / _JOURNAL).unlink(missing_ok=True)

    def finished(self, task: Task) -> Row | None:
        """Return the row of a task that was measured before; a failure is tried again."""
        row = self._rows.get(_key(task))
        return row if row is not None and row.is_ok else None

    def measure(self, task: Task, step: Callable[[], None]) -> Row:
        """Measure a task, whatever comes of it, and enter its row into the journal.

        Parameters
        ----------
        task : Task
            One of those that were given.
        step : callable
            Called now and then; what it raises ends the measurement.
        """
        try:
            row = self._measured(task, step)
        except MroiError as exc:
            row = Row.of(task, status="failed", error=exc.message, **self._known(task))
        with self._lock:
            self._rows[_key(task)] = row
            self._left[task.subject] -= 1
            if not self._left[task.subject]:
                self._reference(task).unlink(missing_ok=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / _JOURNAL).open("a", encoding="utf-8") as file:
                line = {"key": _key(task), "row": row.to_json()}
                file.write(json.dumps(line, allow_nan=False) + "\n")
        return row

    def _measured(self, task: Task, step: Callable[[], None]) -> Row:
        with self._locks[task.subject]:
            facts = self._facts.get(task.subject)
            if facts is None:
                facts = self._do("prepare", task, step, {"reference": self._reference(task)})
                self._facts[task.subject] = facts
        name = _key(task)
        packed, picture = self._work / f"{name}.mroi", self.folder / _PICTURES / f"{name}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.unlink(missing_ok=True)
        try:
            found = self._do("encode", task, step, {"packed": packed})
            paths = {"packed": packed, "reference": self._reference(task), "picture": picture}
            found |= self._do("decode", task, step, paths)
        finally:
            packed.unlink(missing_ok=True)
        return Row.of(task, **self._known(task), **found)

    def _known(self, task: Task) -> dict[str, Any]:
        """Return the fields that all rows of a volume share."""
        facts = self._facts.get(task.subject, {})
        return {name: value for name, value in facts.items() if name != "sha256"}

    @property
    def _work(self) -> Path:
        return self.folder / _WORK

    def _reference(self, task: Task) -> Path:
        return self._work / f"{_digest(asdict(task.subject))}.reference"

    def _do(
        self, name: str, task: Task, step: Callable[[], None], paths: Mapping[str, Path]
    ) -> dict[str, Any]:
        """Do a step in a process of its own and return what came of it."""
        self._work.mkdir(parents=True, exist_ok=True)
        stem = self._work / f"{_key(task)}-{name}"
        order, answer, said = (stem.with_suffix(end) for end in (".order", ".answer", ".said"))
        order.write_text(
            json.dumps(
                {
                    "step": name,
                    "task": task.to_json(),
                    "paths": {key: str(path) for key, path in paths.items()},
                }
            ),
            "utf-8",
        )
        try:
            with said.open("wb") as output:
                code = _wait(
                    [sys.executable, *_STEPS, str(order), str(answer)],
                    output,
                    step,
                    self._plan.timeout,
                )
            if code is None:
                raise _StepError(f"{name}: given up after {self._plan.timeout:g} s")
            if code or not answer.exists():
                raise _StepError(f"{name}: {_ending(code)}{_last_words(said)}")
            found: dict[str, Any] = json.loads(answer.read_text("utf-8"))
        finally:
            for path in (order, answer, said):
                path.unlink(missing_ok=True)
        if "error" in found:
            raise _StepError(str(found["error"]))
        return found

    @property
    def rows(self) -> list[Row]:
        """The rows there are, in the order of the tasks."""
        return [row for task in self._tasks if (row := self._rows.get(_key(task))) is not None]

    def write_results(self) -> list[Path]:
        """Write what there is as CSV, JSON and HTML; return the files."""
        from mroi.bench.report import build_report

        self.folder.mkdir(parents=True, exist_ok=True)
        rows = self.rows
        record = {
            "version": _VERSION,
            "seed": SEED,
            "began": self._began,
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "plan": asdict(self._plan),
            "missing": len(self._tasks) - len(rows),
            "rows": [row.to_json() for row in rows],
        }
        texts = {
            CSV: build_csv(rows),
            JSON: json.dumps(record, indent=1, allow_nan=False) + "\n",
            REPORT: build_report(record, rows, self.folder / _PICTURES),
        }
        for name, text in texts.items():
            with AtomicFile(self.folder / name, overwrite=True) as file:
                file.write(text.encode("utf-8", "surrogateescape"))
        return [self.folder / name for name in texts]

    def clean(self) -> None:
        """Remove what was only needed meanwhile."""
        shutil.rmtree(self._work, ignore_errors=True)
        with suppress(OSError):  # there may be none in it
            (self.folder / _PICTURES).rmdir()


def _wait(command: list[str], output: Any, step: Callable[[], None], timeout: float) -> int | None:
    """Run a command until it ends, and return its exit code; it ends with its caller.

    None if it took longer than it may.
    """
    start = time.monotonic()
    folders = os.pathsep.join(path for path in sys.path if path)
    env = {**os.environ, "PYTHONPATH": folders}  # where this process found mroi
    process = subprocess.Popen(  # noqa: S603 (ourselves)
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env
    )
    try:
        while True:
            try:
                return process.wait(_HEARTBEAT)
            except subprocess.TimeoutExpired:
                step()
            if time.monotonic() - start > timeout:
                return None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _ending(code: int) -> str:
    """Return how a process ended that gave no answer."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        hint = ", which a lack of memory causes" if name == "SIGKILL" else ""
        return f"the process was ended by {name}{hint}"
    return f"the process ended with code {code}"


def _last_words(said: Path) -> str:
    """Return the last line that a process printed."""
    lines = said.read_text("utf-8", "replace").strip().splitlines()
    return f": {lines[-1][-_TAIL:]}" if lines else ""


def _digest(record: object) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


def _key(task: Task) -> str:
    """Return what a task is called in the journal: another version measures again."""
    return _digest([__version__, task.to_json()])


def _read_journal(path: Path) -> dict[str, Row]:
    """Return the rows that were finished; lines that are torn or of no use are not."""
    rows: dict[str, Row] = {}
    if not path.exists():
        return rows
    for line in path.read_text("utf-8", "replace").splitlines():
        try:
            record = json.loads(line)
            rows[str(record["key"])] = Row.from_json(record["row"])
        except (ValueError, TypeError, KeyError, RecursionError, UsageError):
            continue
    return rows


def identity_of_files(paths: Sequence[str | os.PathLike[str]]) -> str:
    """Return a text that changes when a file gets another name, size or time.

    A file that is not there is left to what opens it.
    """
    found: list[list[object]] = []
    for path in sorted(map(str, paths)):
        with suppress(OSError):
            status = Path(path).stat()
            found.append([path, status.st_size, status.st_mtime_ns])
    return _digest(found)


def machine() -> dict[str, object]:
    """Return what the results depend on: processor, system, libraries."""
    from importlib.metadata import PackageNotFoundError, version

    from mroi.codecs import available
    from mroi.volume.jobs import default_jobs

    libraries = {}
    for name in ("numpy", "numba", "nibabel", "pydicom", "scikit-image"):
        with suppress(PackageNotFoundError):
            libraries[name] = version(name)
    codecs = {
        entry.name: entry.codec.implementation()
        for entry in available()
        if entry.codec is not None and entry.problem is None
    }
    return {
        "mroi": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": default_jobs(),
        "memory": _memory(),
        "libraries": libraries,
        "codecs": codecs,
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    text = path.read_text("utf-8", "replace") if path.exists() else ""
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def _memory() -> int | None:
    """Return the bytes of memory, None where nobody tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
