"""From what a user wants to a training that can begin."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mroi._version import __version__
from mroi.codecs import ChunkSpec
from mroi.codecs.ebb import Ebb
from mroi.codecs.neural import bcm_objective, bcm_shapes, models, objective, shapes
from mroi.codecs.neural.device import device_of
from mroi.codecs.registry import codec_class
from mroi.errors import CodecError, UsageError
from mroi.training.run import Files, Objective, Plan, Training
from mroi.training.slices import Stack, read_stacks

__all__ = ["Wish", "prepare"]

_Config = TypeVar("_Config", shapes.Config, bcm_shapes.Config)

_LARGEST = 1 << 16  # bytes of a file with sizes
_MOST_WEIGHTS = 1 << 28  # over three times those of the largest published network


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
    settings : mapping of str to float or str
        Of the codec: ``lambda`` and ``channels`` of tcm, ``step`` of bcm-net.
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
    settings: Mapping[str, Any]
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


@dataclass(frozen=True, slots=True)
class _Begun:
    """What is trained, where it begins, and what suits it."""

    objective: Objective
    start: str
    rate: float
    patch: int


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
    has_base = wish.architecture == "bcm-net"
    begun = (_residues if has_base else _pictures)(wish, device)
    plan = Plan(
        steps=wish.steps,
        batch=wish.batch,
        patch=wish.patch or begun.patch,
        rate=wish.rate or begun.rate,
        seed=wish.seed,
        validation=wish.validation,
    )
    about = {
        "about": wish.about,
        "command": _command(wish, plan),
        "device": device,
        "licence": wish.licence,
        "made by": f"mroi {__version__}, torch {version('torch')}",
        "start": begun.start,
        "threads": wish.threads,
        **wish.settings,
    }
    stacks = read_stacks(paths, codec_class(wish.architecture)(), told)
    if has_base:
        stacks = [_with_base(stack, wish.settings["step"]) for stack in stacks]
    return Training(begun.objective, plan, stacks, files, about, threads=wish.threads)


def _pictures(wish: Wish, device: str) -> _Begun:
    """Return a network of `tcm` or `tcm-auxt`."""
    weight, channels = wish.settings["lambda"], wish.settings["channels"]
    if wish.start:
        header = models.find(wish.start, wish.architecture)
        size = objective.Size(shapes.Config.from_json(header.config))
        begun = objective.RateDistortion.of(header, weight, device, channels)
        return _Begun(begun, header.id, size.rate, max(size.patch, size.config.multiple))
    size = objective.SIZES.get(wish.size) or objective.Size(
        _sizes(wish.size, shapes.Config(), tuple(objective.SIZES))
    )
    _check_weights(shapes.tensors(size.config, auxiliary=wish.architecture == "tcm-auxt"))
    begun = objective.RateDistortion.begin(
        wish.architecture, size, weight, wish.seed, device, channels
    )
    return _Begun(begun, _random(wish), size.rate, max(size.patch, size.config.multiple))


def _residues(wish: Wish, device: str) -> _Begun:
    """Return a network of `bcm-net`."""
    step = wish.settings["step"]
    if wish.start:
        header = models.find(wish.start, wish.architecture)
        begun = bcm_objective.Residues.of(header, step, device)
        size = bcm_objective.Size(begun.config)
        return _Begun(begun, header.id, size.rate, size.patch)
    size = bcm_objective.SIZES.get(wish.size) or bcm_objective.Size(
        _sizes(wish.size, bcm_shapes.Config(), tuple(bcm_objective.SIZES))
    )
    _check_weights(bcm_shapes.tensors(size.config))
    begun = bcm_objective.Residues.begin(size, step, wish.seed, device)
    return _Begun(begun, _random(wish), size.rate, size.patch)


def _random(wish: Wish) -> str:
    return f"random weights, size {wish.size if not Path(wish.size).is_file() else 'of a file'}"


def _sizes(text: str, published: _Config, names: Sequence[str]) -> _Config:
    """Return the sizes in a JSON file; what it lacks is as it was published."""
    path = Path(text)
    if not path.is_file():
        raise UsageError(f"--size {text}: expected {', '.join(names)} or a JSON file")
    try:
        with path.open("rb") as file:
            record = json.loads(file.read(_LARGEST))
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"{path} is no JSON: {exc}") from exc
    if not isinstance(record, dict):
        raise UsageError(f"{path} holds no JSON object")
    try:
        return published.from_json({**published.to_json(), **record})
    except CodecError as exc:
        raise UsageError(f"{path}: {exc.message}") from exc


def _check_weights(tensors: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a network that is too large, before there is memory for it."""
    count = sum(map(math.prod, tensors.values()))
    if count > _MOST_WEIGHTS:
        raise UsageError(f"a network of {count:,} weights: at most {_MOST_WEIGHTS:,} are trained")


def _with_base(stack: Stack, step: float) -> Stack:
    """Return slices with their base layer, which is made in the chunks of the codec."""
    planes, layer = stack.planes, Ebb(step)
    bits = max(bcm_shapes.FEWEST_BITS, int(planes.max()).bit_length())
    lossy = np.empty_like(planes)
    for at in range(0, len(planes), bcm_shapes.GROUP):
        chunk = np.ascontiguousarray(planes[at : at + bcm_shapes.GROUP])
        spec = ChunkSpec(chunk.shape, chunk.dtype, 8 * chunk.itemsize)
        lossy[at : at + bcm_shapes.GROUP] = layer.decode(layer.encode(chunk, spec), spec)
    return replace(stack, bits=bits, lossy=lossy)


def _command(wish: Wish, plan: Plan) -> str:
    """Return the command that does the same again, without names of files: they may be private."""
    size = "SIZES.json" if Path(wish.size).is_file() else wish.size
    options = {
        **({"start": "MODEL"} if wish.start else {"size": size}),
        **wish.settings, **asdict(plan), "device": wish.device, "threads": wish.threads,
    }  # fmt: skip
    words = [f"--{name} {value}" for name, value in options.items()]
    return f"mroi train {wish.architecture} DATA -o MODEL {' '.join(words)}"
