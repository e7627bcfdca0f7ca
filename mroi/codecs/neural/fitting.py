"""Fits the network of `sirenmri` to the voxels of a chunk, with PyTorch.

Sitzmann et al., "Implicit Neural Representations with Periodic Activation Functions" (NeurIPS
2020), in the form of Mancini et al. (MICCAI-CDMRI 2022). Each step takes random voxels, as all do
not fit into memory; in the last part of the fit weights are rounded as they will be, so that the
others make up for it.
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from mroi.codecs.neural.one_thread import one_thread
from mroi.codecs.neural.sine import ONE, Shape, Sine, coordinates, finest
from mroi.text import duration

__all__ = ["Effort", "fit", "seconds_for"]

_LOG = logging.getLogger("mroi.codecs")
_POINTS = 8192  # of a step: more do not fit into the caches
_ROUNDED = 0.75  # of the fit, after which weights are rounded
_RICHER = 4  # bits that weights of the first and the last layer have more: they are few
_FINER = 4
_EVERY = 50  # steps, in which it is looked at
_SAID, _SAVED = 10.0, 60.0  # seconds between notes, and between states that are kept
_STATE = ("step", "spent", "mse", "ends_at", "exponents")


@dataclass(frozen=True, slots=True)
class Effort:
    """How a network is fitted.

    Attributes
    ----------
    bits : int
        Of a weight.
    steps : int
        At most.
    seconds : float or None
        Time for it, instead of steps.
    psnr : float or None
        It ends early where this is reached.
    frequency : float
        Of the first layer.
    seed : int
        Of all that is random.
    device : str
        Where it is computed: ``cpu`` or ``cuda``.
    """

    bits: int
    steps: int
    seconds: float | None
    psnr: float | None
    frequency: float
    seed: int
    device: str = "cpu"


class _Fit:
    """A network that is being fitted: weights in turns for each unit, of voxels from 0 to 1."""

    def __init__(self, shape: Shape, effort: Effort) -> None:
        self.effort, self.step, self.spent, self.mse = effort, 0, 0.0, math.nan
        self.ends_at: float | None = None  # the part of the fit at which the target was reached
        # Drawn on the processor, so that it is the same everywhere.
        random = torch.Generator().manual_seed(effort.seed)
        self.tensors: list[Tensor] = []
        groups = []
        rate = min(4e-3, 3e-3 * (64 / shape.width) ** 0.75)
        last = len(shape.matrices) - 1
        for k, (out, inside) in enumerate(shape.matrices):
            omega = effort.frequency if k == 0 else 30.0
            bound = 1 / inside if k == 0 else math.sqrt(6 / inside) / 30
            scale = 1.0 if k == last else omega / (2 * math.pi)
            pair = [
                (2 * torch.rand(size, generator=random, device="cpu") - 1) * bound * scale
                for size in ((out, inside), (out,))
            ]
            pair = [tensor.to(effort.device).requires_grad_() for tensor in pair]
            self.tensors += pair
            groups.append({"params": pair, "lr": rate * scale, "full": rate * scale})
        self.exponents: list[int] | None = None
        self.optimizer = torch.optim.Adam(groups)

    @property
    def progress(self) -> float:
        """How much of the fit is done, from 0 to 1."""
        effort = self.effort
        done = self.spent / effort.seconds if effort.seconds else self.step / effort.steps
        if self.ends_at is None:
            return min(done, 1.0)
        # What is left after the target was reached: a third of what was done, for rounding.
        return min(1.0, _ROUNDED + (1 - _ROUNDED) * 3 * (done / max(self.ends_at, 1e-9) - 1))

    def value(self, x: Tensor) -> Tensor:
        """Return the voxels at points (n, 3): (n, volumes)."""
        layers = len(self.tensors) // 2
        for k in range(layers):
            weight, bias = self.tensors[2 * k : 2 * k + 2]
            if self.exponents is not None:
                weight = _through(weight, 2.0 ** self.exponents[k])
                bias = _through(bias, 2.0 ** (self.exponents[k] + _FINER))
            x = torch.nn.functional.linear(x, weight, bias)
            if k < layers - 1:
                x = torch.sin(2 * math.pi * x)
        return x

    def advance(self, points: Tensor, targets: Tensor) -> None:
        """Take one step."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["full"] * (0.5 + 0.5 * math.cos(math.pi * 0.98 * self.progress))
        loss = ((self.value(points) - targets) ** 2).mean()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        now = loss.item()
        self.mse = now if math.isnan(self.mse) else 0.95 * self.mse + 0.05 * now
        self.step += 1


def fit(
    voxels: NDArray[Any], shape: Shape, effort: Effort, low: float, high: float
) -> tuple[Sine, float]:
    """Return a network, and the PSNR in dB that it had on the last voxels.

    Parameters
    ----------
    voxels : (volumes, slices, rows, columns) ndarray
        What it shall give.
    shape : Shape
        Its sizes.
    effort : Effort
        How it is fitted.
    low, high : float
        The range of the voxels.
    """
    kept = _Kept(voxels, shape, effort)
    with one_thread:
        work = _Fit(shape, effort)
        kept.restore(work)
        _run(work, voxels, low, max(high - low, 1.0), kept)
        kept.forget()
        return _integers(work, shape, low, max(high - low, 1.0)), _psnr(work.mse)


def _run(work: _Fit, voxels: NDArray[Any], low: float, span: float, kept: _Kept) -> None:
    extent = voxels.shape[1:]
    device = work.effort.device
    axes = [torch.from_numpy((coordinates(n) / ONE).astype(np.float32)).to(device) for n in extent]
    flat = torch.from_numpy(voxels.reshape(len(voxels), -1).astype(np.int32)).to(device)
    count = flat.shape[1]
    random = torch.Generator()
    start, said, saved = time.monotonic() - work.spent, time.monotonic(), time.monotonic()
    while work.progress < 1:
        if work.progress >= _ROUNDED and work.exponents is None:
            work.exponents = _exponents(work)
        random.manual_seed(work.effort.seed << 32 | work.step)  # so that it can go on later
        size = (min(_POINTS, max(count, 64)),)
        index = torch.randint(count, size, generator=random, device="cpu").to(device)
        plane = extent[1] * extent[2]
        points = torch.stack(
            [
                axes[0][index // plane],
                axes[1][index % plane // extent[2]],
                axes[2][index % extent[2]],
            ],
            1,
        )
        work.advance(points, (flat[:, index].T.float() - low) / span)
        now = time.monotonic()
        work.spent = now - start
        if work.step % _EVERY == 0:
            _look(work)
            if now - said >= _SAID:
                said = now
                _LOG.info("%s", _bar(work))
            if now - saved >= _SAVED:
                saved = now
                kept.save(work)


def _look(work: _Fit) -> None:
    """Go over to rounding if the target is reached."""
    effort = work.effort
    if effort.psnr is None or work.ends_at is not None or work.exponents is not None:
        return
    if _psnr(work.mse) >= effort.psnr + 0.1:
        done = work.spent / effort.seconds if effort.seconds else work.step / effort.steps
        if done < _ROUNDED:
            work.ends_at = done


def _bar(work: _Fit) -> str:
    """Return how far a fit is, and how long it will still take, as a line."""
    done = work.progress
    left = work.spent * (1 - done) / max(done, 1e-9)
    full = "#" * round(20 * done)
    return f"[{full:20}] {done:4.0%}  {_psnr(work.mse):.2f} dB  {duration(left)} left"


def _psnr(mse: float) -> float:
    return -10 * math.log10(max(mse, 1e-12))


def _exponents(work: _Fit) -> list[int]:
    """Return the exponents of the layers, as if the last one gave voxels from 0 to 1."""
    found = []
    layers = len(work.tensors) // 2
    for k in range(layers):
        weight, bias = work.tensors[2 * k : 2 * k + 2]
        largest = max(weight.detach().abs().max().item(), bias.detach().abs().max().item() / 64)
        rich = k in (0, layers - 1)
        found.append(finest(largest, work.effort.bits + (_RICHER if rich else 0)))
    return found


class _Through(torch.autograd.Function):
    """Rounding that gradients do not see."""

    @override
    @staticmethod
    def forward(_ctx: Any, x: Tensor, scale: float) -> Tensor:
        """Return `x` rounded to multiples of 1 / `scale`."""
        return torch.round(x * scale) / scale

    @override
    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Pass gradients on."""
        return gradients[0], None


def _through(x: Tensor, scale: float) -> Tensor:
    rounded: Tensor = _Through.apply(x, scale)  # type: ignore[no-untyped-call]
    return rounded


def _integers(work: _Fit, shape: Shape, low: float, span: float) -> Sine:
    """Return the network in integers, the last layer in units of the voxels."""
    assert work.exponents is not None
    exponents = list(work.exponents)
    room = 25 - math.frexp(abs(low) + 2 * span)[1]  # for the last bias, below 2**30
    exponents[-1] = min(exponents[-1] - math.frexp(span)[1] + 1, room)
    weights, biases = [], []
    for k, exponent in enumerate(exponents):
        weight, bias = (
            tensor.detach().double().cpu().numpy() for tensor in work.tensors[2 * k : 2 * k + 2]
        )
        if k == len(exponents) - 1:
            weight, bias = weight * span, bias * span + low
        weights.append(np.rint(weight * 2.0**exponent).astype(np.int32))
        biases.append(np.rint(bias * 2.0 ** (exponent + _FINER)).astype(np.int32))
    return Sine(shape, tuple(exponents), tuple(weights), tuple(biases))


def seconds_for(shape: Shape, effort: Effort, points: int) -> float:
    """Return how long a fit takes, roughly: a few steps are tried."""
    if effort.seconds is not None:
        return effort.seconds
    with one_thread:
        work = _Fit(shape, effort)
        x = torch.zeros(min(_POINTS, max(points, 64)), 3, device=effort.device)
        y = torch.zeros(len(x), shape.volumes, device=effort.device)
        work.advance(x, y)
        clock = time.thread_time if effort.device == "cpu" else time.perf_counter
        start = clock()
        for _ in range(3):
            work.advance(x, y)
        return (clock() - start) / 3 * effort.steps


class _Kept:
    """The state of a fit on disk, so that one that was interrupted goes on where it was.

    It is known by the voxels and by all that decides the fit; it is deleted at the end.
    """

    def __init__(self, voxels: NDArray[Any], shape: Shape, effort: Effort) -> None:
        digest = hashlib.sha256(f"1 {voxels.dtype} {voxels.shape} {shape} {effort}".encode())
        digest.update(np.ascontiguousarray(voxels).data)
        self._path = kept_in() / f"fit-{digest.hexdigest()[:32]}.pt"

    def restore(self, work: _Fit) -> None:
        """Put a fit where it was, if there is a state of it."""
        if not self._path.is_file():
            return
        try:
            state = torch.load(self._path, map_location=work.effort.device, weights_only=True)
            if [t.shape for t in state["tensors"]] != [t.shape for t in work.tensors]:
                return
            work.optimizer.load_state_dict(state["optimizer"])
        except Exception as exc:  # noqa: BLE001  (of a file that may be anything)
            _LOG.debug("cannot read %s: %s", self._path, exc)
            return
        with torch.no_grad():
            for tensor, kept in zip(work.tensors, state["tensors"], strict=True):
                tensor.copy_(kept)
        for name in _STATE:
            setattr(work, name, state[name])
        _LOG.info("sirenmri: goes on with a fit that was interrupted, at step %d", work.step)

    def save(self, work: _Fit) -> None:
        """Keep the state; where there is no room, go on without."""
        state = {
            "tensors": [tensor.detach() for tensor in work.tensors],
            "optimizer": work.optimizer.state_dict(),
            **{name: getattr(work, name) for name in _STATE},
        }
        data = io.BytesIO()
        torch.save(state, data)
        unfinished = self._path.with_suffix(f".{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(data.getvalue())
            unfinished.replace(self._path)
        except OSError as exc:
            _LOG.debug("cannot keep %s: %s", self._path, exc)

    def forget(self) -> None:
        """Delete the state."""
        self._path.unlink(missing_ok=True)


def kept_in() -> Path:
    """Return the folder for states of fits."""
    from platformdirs import user_cache_path

    return user_cache_path("mroi")
