"""What training has come to: weights, what its optimizer keeps of them, and both on disk.

All weights lie behind each other in one tensor, and so do their gradients and the means that Adam
keeps: three tensors and a number are all there is to keep. A checkpoint is a safetensors file;
nothing in it is executed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mroi.codecs import native
from mroi.container import AtomicFile
from mroi.errors import UsageError
from mroi.training.curves import Entry

__all__ = ["Checkpoint", "Weights"]

_KEY, _FORMAT = "mroi-training", 1
_MOMENTS = ("exp_avg", "exp_avg_sq")  # as Adam calls them


class Weights:
    """Tensors that Adam changes (Kingma, Ba 2015).

    Parameters
    ----------
    tensors : mapping of str to Tensor
        They become parts of one tensor, and so do their gradients.
    clip : float
        What the norm of all gradients is brought down to; infinite for no limit.
    """

    def __init__(self, tensors: Mapping[str, Tensor], clip: float = math.inf) -> None:
        self.flat = torch.cat([tensor.detach().ravel() for tensor in tensors.values()])
        self.flat.grad = torch.zeros_like(self.flat)
        self._clip, at = clip, 0
        for tensor in tensors.values():
            part = slice(at, at + tensor.numel())
            tensor.data = self.flat[part].view(tensor.shape)
            tensor.grad = self.flat.grad[part].view(tensor.shape)
            at = part.stop
        self._adam = torch.optim.Adam([self.flat])

    def step(self, loss: Tensor, rate: float) -> None:
        """Take a step down a loss, with a learning rate."""
        assert self.flat.grad is not None
        self.flat.grad.zero_()
        loss.backward()  # type: ignore[no-untyped-call]
        if math.isfinite(self._clip):
            torch.nn.utils.clip_grad_norm_([self.flat], self._clip)
        self._adam.param_groups[0]["lr"] = rate
        self._adam.step()

    def state(self) -> dict[str, Tensor]:
        """Return all of it."""
        kept = self._adam.state[self.flat]
        moments = {name: kept.get(name, torch.zeros_like(self.flat)) for name in _MOMENTS}
        return {"weights": self.flat, **moments}

    def restore(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Put it where it was after so many steps."""
        with torch.no_grad():
            self.flat.copy_(state["weights"])
        self._adam.state[self.flat] = {
            "step": torch.tensor(float(steps)),
            **{name: state[name].to(self.flat.device, copy=True) for name in _MOMENTS},
        }


class Checkpoint:
    """The file from which an interrupted training goes on.

    Parameters
    ----------
    path : Path
        The file.
    identity : mapping of str to value
        What must be the same to go on, by names that a user knows.
    """

    def __init__(self, path: Path, identity: Mapping[str, object]) -> None:
        self._path = path
        self._identity = json.loads(json.dumps(identity))

    def save(
        self,
        weights: Mapping[str, Weights],
        step: int,
        entries: Sequence[Entry],
        sums: Sequence[float],
    ) -> None:
        """Write it, all or nothing.

        Parameters
        ----------
        weights : mapping of str to Weights
            By name.
        step : int
            Steps done.
        entries : sequence of Entry
            What there is of curves.
        sums : sequence of float
            Over the steps since the last entry.
        """
        library = native.load("safetensors.numpy", "neural")
        arrays = {
            f"{name}.{part}": tensor.detach().cpu().numpy()
            for name, one in weights.items()
            for part, tensor in one.state().items()
        }
        record = {
            "format": _FORMAT, "identity": self._identity, "step": step, "sums": list(sums),
            "entries": [astuple(entry) for entry in entries],
        }  # fmt: skip
        data = library.save(arrays, {_KEY: json.dumps(record)})
        with AtomicFile(self._path, overwrite=True) as file:
            file.write(data)

    def restore(self, weights: Mapping[str, Weights]) -> tuple[int, list[Entry], list[float]]:
        """Put weights where they were, and return steps done, entries and sums.

        Raises
        ------
        UsageError
            If there is no such file, or it is of another training.
        """
        library = native.load("safetensors", "neural")
        if not self._path.is_file():
            raise UsageError(f"there is no {self._path} to go on with: train without --resume")
        try:
            with library.safe_open(self._path, framework="numpy") as file:
                record = json.loads(file.metadata()[_KEY])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            identity, step = record["identity"], int(record["step"])
            entries = [_entry(*values) for values in record["entries"]]
            sums = [_finite(value) for value in record["sums"]]
            is_ours = record["format"] == _FORMAT and isinstance(identity, dict)
        except Exception as exc:
            raise UsageError(f"{self._path} is no checkpoint of a training: {exc}") from exc
        if not is_ours:
            raise UsageError(f"{self._path} is no checkpoint of this version")
        self._compare(identity)
        for name, one in weights.items():
            one.restore(self._of(name, arrays, one), step)
        return step, entries, sums

    def _compare(self, identity: Mapping[str, object]) -> None:
        differs = [
            f"{name} was {identity.get(name)}, and is {self._identity.get(name)}"
            for name in sorted({*identity, *self._identity})
            if identity.get(name) != self._identity.get(name)
        ]
        if differs:
            raise UsageError(f"{self._path} is of another training: {'; '.join(differs)}")

    def _of(
        self, name: str, arrays: Mapping[str, NDArray[Any]], weights: Weights
    ) -> dict[str, Tensor]:
        found = {}
        for part, tensor in weights.state().items():
            array = arrays.get(f"{name}.{part}")
            if array is None or array.shape != tuple(tensor.shape) or array.dtype != np.float32:
                raise UsageError(f"{self._path} is damaged: {name}.{part} is missing")
            found[part] = torch.from_numpy(array)
        return found

    def forget(self) -> None:
        """Delete it."""
        self._path.unlink(missing_ok=True)


def _entry(step: object, loss: object, bpp: object, *others: object) -> Entry:
    """Return an entry of a file; raises for what none holds."""
    if type(step) is not int:
        raise TypeError("an entry of no step")
    rest = [None if value is None else _finite(value) for value in others]
    return Entry(step, _finite(loss), _finite(bpp), *rest)


def _finite(value: Any) -> float:
    """Return a number of a file; raises for what is none."""
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError(f"{value!r} is no number")
    return float(value)
