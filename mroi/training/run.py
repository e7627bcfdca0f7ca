"""The steps of a training, from the first to a model; one that is interrupted can go on.

All that is random is drawn anew in each step, from the seed and the number of the step: whoever
goes on at a step does what would have been done without the interruption.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mroi.codecs.neural import models
from mroi.codecs.neural.models import Header
from mroi.codecs.neural.objective import Loss, Patch
from mroi.container import AtomicFile
from mroi.errors import CodecError, UsageError
from mroi.text import counted
from mroi.training.curves import Entry, build_csv, draw_curves
from mroi.training.slices import Patches, Stack, digest_of, divide
from mroi.training.state import Checkpoint, Weights

__all__ = ["Files", "Objective", "Plan", "Training"]

_CLIP = 1.0
_SETTLING = 1e-3  # learning rate of what has a loss of its own
_FALLS = ((0.96, 0.01), (0.9, 0.1))  # of the learning rate, after these parts of the steps
_APART = 8  # patches of a validation
_ENTRIES = 50  # of curves
_SAVED = 60.0  # seconds between checkpoints
_ALLOCATOR = "DefaultCPUAllocator"  # in what PyTorch says where memory of the processor lacks

Told = Callable[[int, Entry], object]
"""Called after each step, with the steps done and the last entry."""


class Objective(Protocol):
    """A network, and what it is trained for."""

    trained: Mapping[str, Tensor]
    settled: Mapping[str, Tensor]

    @property
    def thick(self) -> int:
        """Slices of a patch."""
        ...

    @property
    def multiple(self) -> int:
        """What rows and columns of a patch are multiples of."""
        ...

    def batch(self, patches: Sequence[Patch], random: np.random.Generator) -> Any:
        """Return what `loss` takes of patches."""
        ...

    def loss(self, batch: Any, random: torch.Generator | None) -> Loss:
        """Return what a batch costs; without `random` as it is coded."""
        ...

    def settle(self) -> Tensor:
        """Return the loss of what has one of its own."""
        ...

    def model(self, notes: Mapping[str, object]) -> tuple[Header, dict[str, NDArray[Any]]]:
        """Return the model that it has become."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a network is trained.

    Attributes
    ----------
    steps : int
        How many.
    batch : int
        Patches of a step.
    patch : int
        Rows and columns of a patch.
    rate : float
        Learning rate; as published it falls to a tenth after 90 % of the steps, to a hundredth
        after 96 %.
    seed : int
        Of all that is random.
    validation : float
        Share of the volumes that is kept apart.
    """

    steps: int
    batch: int
    patch: int
    rate: float
    seed: int
    validation: float


@dataclass(frozen=True, slots=True)
class Files:
    """What a training writes.

    Attributes
    ----------
    model : Path
        The model; the others stand beside it, and have its name.
    """

    model: Path

    @property
    def table(self) -> Path:
        """The curves as CSV."""
        return self._beside(".csv")

    @property
    def picture(self) -> Path:
        """The curves as SVG."""
        return self._beside(".svg")

    @property
    def checkpoint(self) -> Path:
        """What an interrupted training goes on from."""
        return self._beside(".checkpoint")

    @property
    def beside(self) -> tuple[Path, Path, Path]:
        """All but the model."""
        return self.table, self.picture, self.checkpoint

    def _beside(self, ending: str) -> Path:
        return self.model.with_name(self.model.name.removesuffix(models.SUFFIX) + ending)


class Training:
    """A training that can begin.

    Parameters
    ----------
    objective : Objective
        What is trained.
    plan : Plan
        How.
    stacks : sequence of Stack
        On what.
    files : Files
        Where everything goes.
    about : mapping
        What the model shall say of itself; the training adds to it. A checkpoint is only gone on
        with where it is the same.
    threads : int
        Of the processor.

    Attributes
    ----------
    summary : dict
        What it is, for people and programs.
    step : int
        Steps done.
    entries : list of Entry
        The curves so far.

    Raises
    ------
    UsageError
        If the plan does not fit the network or the data.
    """

    def __init__(
        self,
        objective: Objective,
        plan: Plan,
        stacks: Sequence[Stack],
        files: Files,
        about: Mapping[str, object],
        *,
        threads: int = 1,
    ) -> None:
        if plan.patch % objective.multiple:
            raise UsageError(
                f"patches of {plan.patch} do not fit the network: it takes multiples of "
                f"{objective.multiple}"
            )
        self._objective, self._plan, self._files = objective, plan, files
        self._threads = threads
        seen, apart = divide(stacks, plan.validation)
        self._patches = Patches(seen, plan.patch, objective.thick)
        self._apart = Patches(apart, plan.patch, objective.thick).even(_APART) if apart else []
        self._weights = {"trained": Weights(objective.trained, _CLIP)}
        if objective.settled:
            self._weights["settled"] = Weights(objective.settled)
        slices = counted(sum(len(stack.planes) for stack in stacks), "slice")
        self._about = {
            **about,
            **asdict(plan),
            "data": f"{counted(len(stacks), 'volume')}, {slices}, SHA-256 {digest_of(stacks)}",
        }
        self.summary = {**self._about, "weights": self._weights["trained"].flat.numel()}
        self._checkpoint = Checkpoint(files.checkpoint, self._about)
        self.step, self.entries, self._sums = 0, list[Entry](), [0.0] * 4

    def seconds(self) -> float:
        """Return how long the steps that are left take, roughly: one is tried, and forgotten."""
        least = math.inf
        with _threads(self._threads), _memory():
            for _ in range(2):  # the first one prepares
                start = time.perf_counter()
                loss = self._objective.loss(self._drawn(self.step), self._random(self.step))
                loss.total.backward()  # type: ignore[no-untyped-call]
                loss.total.item()  # so that a device has done it
                least = min(least, time.perf_counter() - start)
        return least * (self._plan.steps - self.step)

    def resume(self) -> None:
        """Go to where an interrupted training was.

        Raises
        ------
        UsageError
            If there is none, or it was another, or its file is damaged.
        """
        step, entries, sums = self._checkpoint.restore(self._weights)
        most, since = self._plan.steps, step - (entries[-1].step if entries else 0)
        is_over = step == most
        if not 0 <= since <= step <= most or (is_over and since) or sums[3:] != [since]:
            raise UsageError(f"{self._files.checkpoint} is damaged: its steps do not fit together")
        self.step, self.entries, self._sums = step, entries, sums

    def run(self, told: Told = lambda _step, _entry: None, *, overwrite: bool = False) -> Header:
        """Take all steps that are left, write the model and the curves, and return what it is.

        A signal that ends the program does so when the step is done and a checkpoint written.

        Parameters
        ----------
        told : callable
            Called with the number of steps and what came of them.
        overwrite : bool
            Whether a model that exists is replaced.

        Raises
        ------
        CodecError
            If the loss is no number any more.
        MemoryError
            If a step does not fit.
        """
        saved = time.monotonic()
        with _threads(self._threads), _memory(), _signals() as stopped:
            while self.step < self._plan.steps:
                entry = self._advance()
                told(self.step, entry)
                if stopped or time.monotonic() - saved > _SAVED:
                    saved = time.monotonic()
                    self._save()
                if stopped:
                    break
        if self.step < self._plan.steps:  # a handler that ended nothing
            raise KeyboardInterrupt
        return self._finish(overwrite=overwrite)

    def _advance(self) -> Entry:
        """Take one step; return what came of the last ones."""
        plan, step = self._plan, self.step
        rate = plan.rate
        for part, factor in _FALLS:
            if step >= part * plan.steps:
                rate *= factor
                break
        loss = self._objective.loss(self._drawn(step), self._random(step))
        values = [float(value.detach()) for value in (loss.total, loss.rate, loss.error)]
        if not all(map(math.isfinite, values)):
            raise CodecError(
                f"training went astray: the loss of step {step + 1} is no number; try a lower "
                "--rate"
            )
        self._weights["trained"].step(loss.total, rate)
        if "settled" in self._weights:
            self._weights["settled"].step(self._objective.settle(), _SETTLING)
        self.step += 1
        self._sums = [a + b for a, b in zip(self._sums, [*values, 1.0], strict=True)]
        entry = self._entry()
        if self.step % max(1, plan.steps // _ENTRIES) == 0 or self.step == plan.steps:
            entry = self._validated(entry)
            self.entries.append(entry)
            self._sums = [0.0] * 4
        return entry

    def _entry(self) -> Entry:
        loss, bpp, error = (value / self._sums[3] for value in self._sums[:3])
        return Entry(self.step, loss, bpp, _psnr(error))

    def _validated(self, entry: Entry) -> Entry:
        """Return an entry with what the patches give that are kept apart."""
        if not self._apart:
            return entry
        found = []
        with torch.no_grad():
            for k in range(0, len(self._apart), self._plan.batch):
                patches = self._apart[k : k + self._plan.batch]
                batch = self._objective.batch(patches, np.random.default_rng(k))
                loss = self._objective.loss(batch, None)
                values = [float(value) for value in (loss.total, loss.rate, loss.error)]
                found.append([len(patches) * value for value in values])
        total, bpp, error = (math.fsum(one) / len(self._apart) for one in zip(*found, strict=True))
        return replace(
            entry, validation_loss=total, validation_bpp=bpp, validation_psnr=_psnr(error)
        )

    def _drawn(self, step: int) -> Any:
        random = np.random.default_rng((self._plan.seed, step))
        patches = [self._patches.draw(random) for _ in range(self._plan.batch)]
        return self._objective.batch(patches, random)

    def _random(self, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(self._plan.seed << 32 | step)

    # -- files -------------------------------------------------------------------------------------

    def _save(self) -> None:
        self._checkpoint.save(self._weights, self.step, self.entries, self._sums)
        self._write_curves()

    def _write_curves(self) -> None:
        for path, text in (
            (self._files.table, build_csv(self.entries)),
            (self._files.picture, draw_curves(self.entries)),
        ):
            with AtomicFile(path, overwrite=True) as file:
                file.write(text.encode())

    def _finish(self, *, overwrite: bool) -> Header:
        last = asdict(self.entries[-1])
        del last["step"]  # all of them
        known = {name: value for name, value in last.items() if value is not None}
        header, arrays = self._objective.model({**self._about, **known})
        self._write_curves()
        models.save(self._files.model, header, arrays, overwrite=overwrite)
        self._checkpoint.forget()
        return replace(header, path=self._files.model)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _memory() -> Iterator[None]:
    """Turn what PyTorch says where memory lacks into what Python says."""
    try:
        yield
    except RuntimeError as exc:
        if not isinstance(exc, torch.cuda.OutOfMemoryError) and _ALLOCATOR not in str(exc):
            raise
        raise MemoryError("a step does not fit: take a smaller --batch or --patch") from exc


def _psnr(error: float) -> float | None:
    """Return what a mean squared error is in dB; None of codecs that lose nothing."""
    return -10 * math.log10(error) if error > 0 else None


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Note signals that would end the program, and send them again at the end.

    Yields a list, empty until there is one; a second signal ends the program at once. In threads
    there are none to note.
    """
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = {
        number: signal.getsignal(number)
        for name in ("SIGINT", "SIGTERM", "SIGHUP")
        if (number := getattr(signal, name, None)) is not None
        and signal.getsignal(number) not in (signal.SIG_IGN, None)
    }

    def note(number: int, _frame: object) -> None:
        noted.append(number)
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, note)
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in noted[:1]:
        signal.raise_signal(number)
