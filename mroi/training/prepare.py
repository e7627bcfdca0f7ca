"""From what a user wants to a training that can begin."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch

from mroi._version import __version__
from mroi.codecs.neural import models
from mroi.codecs.neural.objective import SIZES, RateDistortion, Size
from mroi.codecs.neural.shapes import Config
from mroi.codecs.neural.tcm import Tcm, TcmAuxt
from mroi.errors import CodecError, CodecUnavailableError, UsageError
from mroi.training.run import Files, Objective, Plan, Training
from mroi.training.slices import read_stacks

__all__ = ["Wish", "device_of", "prepare"]

_CODECS: dict[str, type[Tcm]] = {"tcm": Tcm, "tcm-auxt": TcmAuxt}
_LARGEST = 1 << 16  # bytes of a file with sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a user asks for.

    Attributes
    ----------
    architecture : str
        Name of the codec.
    size : str
        Name of a size, or the path of a JSON file with the members of a model's config; those that
        it lacks are as in the size ``medium``.
    start : str
        Model to go on from, instead of random weights of a size; empty for none.
    weight : float
        Lambda: what a squared error is worth in bits.
    channels : str
        ``equal`` or ``neighbours``, as of the codec.
    steps, batch, seed : int
        As in `Plan`.
    patch : int or None
        Rows and columns of patches; None for those that suit the size.
    rate : float or None
        Learning rate; None for one that suits the size.
    validation : float
        As in `Plan`.
    device : str
        ``cpu``, ``cuda``, or ``auto``: a GPU if there is one.
    threads : int
        Of the processor.
    about, licence : str
        Of the model: what it says of the data, and what others may do with it.
    """

    architecture: str
    size: str
    start: str
    weight: float
    channels: str
    steps: int
    batch: int
    patch: int | None
    rate: float | None
    seed: int
    validation: float
    device: str
    threads: int
    about: str
    licence: str


def prepare(
    wish: Wish,
    paths: Sequence[str],
    files: Files,
    told: Callable[[int, int], object] = lambda _done, _all: None,
) -> Training:
    """Read the volumes, and return a training that can begin.

    Parameters
    ----------
    wish : Wish
        What is asked for.
    paths : sequence of str
        ``.mroi`` files and NIfTI images.
    files : Files
        What will be written.
    told : callable
        Called with volumes read, and all.

    Raises
    ------
    MroiError
        If a volume, a size, a model or the device is none.
    """
    device = device_of(wish.device)
    objective, size, identity = _objective(wish, device)
    codec = _CODECS[wish.architecture](channels=wish.channels)
    plan = Plan(
        steps=wish.steps,
        batch=wish.batch,
        patch=wish.patch or size.patch,
        rate=wish.rate or size.rate,
        seed=wish.seed,
        validation=wish.validation,
    )
    about = {
        "about": wish.about,
        "channels": wish.channels,
        "command": _command(wish, plan),
        "device": device,
        "lambda": wish.weight,
        "licence": wish.licence,
        "made by": f"mroi {__version__}, torch {version('torch')}",
        "start": identity,
        "threads": wish.threads,
    }
    stacks = read_stacks(paths, codec, told)
    return Training(objective, plan, stacks, files, about, threads=wish.threads)


def device_of(name: str) -> str:
    """Return ``cpu`` or ``cuda``.

    Raises
    ------
    CodecUnavailableError
        If a GPU is asked for, and PyTorch sees none.
    """
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise CodecUnavailableError(
            f"PyTorch {version('torch')} sees no GPU with CUDA here: take --device cpu"
        )
    return "cuda" if name == "cuda" or (name == "auto" and there) else "cpu"


def _objective(wish: Wish, device: str) -> tuple[Objective, Size, str]:
    """Return what is trained, its size, and what it begins as."""
    if wish.start:
        header = models.find(wish.start, wish.architecture)
        begun = RateDistortion.of(header, wish.weight, device, wish.channels)
        return begun, Size(Config.from_json(header.config)), header.id
    size = _size(wish.size)
    begun = RateDistortion.begin(
        wish.architecture, size, wish.weight, wish.seed, device, wish.channels
    )
    return begun, size, f"random weights, size {wish.size if wish.size in SIZES else 'of a file'}"


def _size(text: str) -> Size:
    if text in SIZES:
        return SIZES[text]
    path = Path(text)
    if not path.is_file():
        raise UsageError(f"--size {text}: expected {', '.join(SIZES)} or a JSON file")
    try:
        record = json.loads(path.read_bytes()[:_LARGEST])
    except ValueError as exc:
        raise UsageError(f"{path} is no JSON: {exc}") from exc
    if not isinstance(record, dict):
        raise UsageError(f"{path} holds no JSON object")
    try:
        config = Config.from_json({**Config().to_json(), **record})
    except CodecError as exc:
        raise UsageError(f"{path}: {exc.message}") from exc
    return replace(Size(), config=config, patch=max(256, config.multiple))


def _command(wish: Wish, plan: Plan) -> str:
    """Return the command that does the same again, without names of files: they may be private."""
    size = wish.size if wish.size in SIZES else "SIZES.json"
    options = {
        **({"start": "MODEL"} if wish.start else {"size": size}),
        "lambda": wish.weight, "channels": wish.channels,
        **dataclasses.asdict(plan), "device": wish.device, "threads": wish.threads,
    }  # fmt: skip
    words = [f"--{name} {value}" for name, value in options.items()]
    return f"mroi train {wish.architecture} DATA -o MODEL {' '.join(words)}"
