"""From slices to codes and back with one model of `bcm-net`.

The network computes in binary64, in the encoder as in the decoder.
"""

from __future__ import annotations

import math
import threading
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mroi.codecs import fields
from mroi.codecs.neural import mixture, models, rans
from mroi.codecs.neural.bcm_network import CORNERS, Network
from mroi.codecs.neural.bcm_shapes import ENCODED, GROUP, STEPS, Config, tensors
from mroi.codecs.neural.guardband import NONE, Exceptions
from mroi.codecs.neural.mixture import Mixtures, Tables
from mroi.codecs.neural.models import Header
from mroi.codecs.neural.one_thread import one_thread, seconds_of_multiplication
from mroi.errors import CodecError

__all__ = ["Code", "Model", "Sequence", "model_of", "needed", "order"]

_NAME = "bcm-net"
_ARITHMETIC = "f64-guard"
_REFERENCES = ((8, 0), (4, 0, 8), (2, 0, 4), (6, 4, 8), (1, 0, 2), (3, 2, 4), (5, 4, 6), (7, 6, 8))


def model_of(
    found: Mapping[str, NDArray[Any]],
    config: Config,
    step: float,
    notes: Mapping[str, object],
) -> tuple[Header, dict[str, NDArray[Any]]]:
    """Return the model that trained tensors make: what `models.save` writes.

    Parameters
    ----------
    found : mapping of str to ndarray
        Those that `bcm_shapes.tensors` names, in float32 or float64.
    config : Config
        Sizes of the network.
    step : float
        The step of `ebb`, in units of the voxels, with which the base layer was made that it was
        trained for.
    notes : mapping
        As in `Header`.

    Raises
    ------
    CodecError
        If a tensor is missing, of another shape, or one too many, or `step` is out of range.
    """
    expected = tensors(config)
    models.check_shapes(found, expected)
    if more := [name for name in found if name not in expected]:
        raise CodecError(f"it also has {more[0]}")
    fields.number(f"{_NAME}: step", step, *STEPS)
    decoded = {name: found[name] for name in expected} | Tables.frozen().named()
    identity = models.identify(_NAME, _ARITHMETIC, config.to_json(), decoded)
    header = Header(Path(), _NAME, _ARITHMETIC, config.to_json(), identity, notes)
    return header, decoded | {ENCODED: np.array([step])}


class Model:
    """A model in memory.

    Parameters
    ----------
    header : Header
        Which one; its file must be what its id says.
    config : Config
        Its sizes.

    Attributes
    ----------
    header : Header
        Which one it is.
    step : float
        Of the base layer that it was trained for, in units of the voxels.
    tables : Tables
        What its distributions are made of.
    network : Network
        The network, in binary64, on the processor.

    Raises
    ------
    CodecError
        If the file is damaged.
    """

    def __init__(self, header: Header, config: Config) -> None:
        name, shapes = header.path.name, tensors(config)
        found = models.load(header, {**shapes, ENCODED: (1,)}, lambda _: True)
        decoded = {key: tensor for key, tensor in found.items() if key != ENCODED}
        identity = models.identify(
            header.architecture, header.arithmetic, config.to_json(), decoded
        )
        if header.arithmetic != _ARITHMETIC:
            raise CodecError(f"{header.architecture} has no arithmetic {header.arithmetic!r}")
        if identity != header.id:
            raise CodecError(f"{name} is damaged: it is not the model {header.id}")
        try:
            self.tables = Tables.of(found)
        except CodecError as exc:
            raise CodecError(f"{name} is damaged: {exc.message}") from exc
        self.header, self.step = header, float(found[ENCODED][0])
        fields.number(f"{name}: step", self.step, *STEPS)
        self._trained = {key: torch.from_numpy(found[key]).double() for key in shapes}
        self.network = Network(config, self._trained)
        self._networks, self._lock = {"cpu": self.network}, threading.Lock()
        self._voxel_work = _work(config)

    def on(self, device: str) -> Network:
        """Return the network where it shall compute: ``cpu`` or ``cuda``."""
        with self._lock:
            if device not in self._networks:
                moved = {key: tensor.to(device) for key, tensor in self._trained.items()}
                self._networks[device] = Network(self.network.config, moved)
            return self._networks[device]

    def encode_seconds(self, rows: int, columns: int) -> float:
        """Return how long a slice takes to encode, roughly, on one thread."""
        return rows * columns * self._voxel_work * seconds_of_multiplication()


@dataclass(frozen=True, slots=True)
class Code:
    """What is written of a slice.

    Attributes
    ----------
    words : bytes
        The code.
    crc : int
        CRC-32 of the voxels.
    near : Exceptions
        Numbers of the network that lie next to borders, counted in the order of coding.
    """

    words: bytes
    crc: int
    near: Exceptions


class Sequence:
    """Slices of a volume. Each is coded by those that were coded before it.

    Parameters
    ----------
    model : Model
        Which one.
    lossy : (slices, rows, columns) ndarray of int32
        The base layer.
    bits : int
        Voxels are at least 0 and below 2**bits.
    device : str
        Where it is computed; what was encoded there is decoded on the processor.
    """

    def __init__(
        self, model: Model, lossy: NDArray[np.int32], bits: int, device: str = "cpu"
    ) -> None:
        self._device = device
        self._model, self._lossy, self._bits = model, lossy, bits
        self._plan = dict(order(len(lossy)))
        self._known: dict[int, NDArray[np.int32]] = {}
        self._contexts: dict[tuple[int, bool, str], Tensor] = {}

    def encode(self, k: int, voxels: NDArray[np.int32]) -> Code:
        """Return the code of slice `k`, decoded once to see that it can be.

        Raises
        ------
        CodecError
            If the network gives what cannot be coded.
        """
        writing = _Writing(self._model.tables, voxels, self._bits)
        try:
            self._follow(k, writing, self._device)
            starts, widths = (np.concatenate(found) for found in (writing.starts, writing.widths))
            code = Code(rans.encode_intervals(starts, widths), _crc(voxels), writing.near)
            self._read(k, code, "cpu")
        except ValueError as exc:
            name = self._model.header.path.name
            raise CodecError(f"{name}: what was written does not decode here: {exc}") from exc
        return code

    def decode(self, k: int, code: Code) -> NDArray[np.int32]:
        """Return slice `k`; those that it refers to were decoded before.

        Raises
        ------
        ValueError
            If the code is none, or of other voxels.
        """
        return self._read(k, code, self._device)

    def _read(self, k: int, code: Code, device: str) -> NDArray[np.int32]:
        _, rows, columns = self._lossy.shape
        logistics = self._model.network.config.logistics
        code.near.check(3 * logistics * rows * columns)
        decoder = rans.Decoder(memoryview(code.words))
        reading = _Reading(self._model.tables, decoder, code.near, self._bits)
        voxels = self._follow(k, reading, device)
        decoder.finish()
        if _crc(voxels) != code.crc:
            raise ValueError(
                "the voxels are not those that were written: this machine computes other "
                f"distributions with torch {torch.__version__}, or the payload is damaged"
            )
        self._known[k] = voxels
        return voxels

    def _follow(self, k: int, follower: _Follower, device: str) -> NDArray[np.int32]:
        """Go through the quarters of a slice in the order of coding, and return it."""
        lossy, network = self._lossy[k], self._model.on(device)
        found: NDArray[np.int32] = np.empty_like(lossy)
        quarters: list[Tensor] = []
        with one_thread, torch.inference_mode():
            prior = network.prior(self._scaled(lossy, device), self._references(k, device))
            for i, j in CORNERS:
                base = lossy[i::2, j::2]
                residue = torch.zeros(1, 1, *prior.shape[2:], dtype=torch.float64, device="cpu")
                if base.size:
                    rows, columns = base.shape
                    numbers = network.mixtures(prior, quarters)[0, :, :rows, :columns]
                    voxels = follower.take(
                        numbers.reshape(3, -1, rows * columns).cpu().numpy(), np.ravel(base)
                    ).reshape(base.shape)
                    residue[0, 0, :rows, :columns] = torch.from_numpy(voxels - base)
                    found[i::2, j::2] = voxels
                quarters.append(residue.to(device))
        return found

    def _references(self, k: int, device: str) -> tuple[Tensor, Tensor] | None:
        if not self._plan[k]:
            return None
        ahead, behind = self._plan[k][0], self._plan[k][-1]
        return (
            self._context(ahead, device, backward=False),
            self._context(behind, device, backward=True),
        )

    def _context(self, k: int, device: str, *, backward: bool) -> Tensor:
        """Return what a slice gives to those that refer to it, which is computed once."""
        key = (k, backward, device)
        if key not in self._contexts:
            slices = self._scaled(self._known[k], device)
            self._contexts[key] = self._model.on(device).reference(slices, backward=backward)
        return self._contexts[key]

    def _scaled(self, plane: NDArray[np.int32], device: str) -> Tensor:
        """Return what the network is given: even rows and columns, from 0 to 1."""
        rows, columns = plane.shape
        even = np.pad(plane, ((0, rows % 2), (0, columns % 2)), "edge")
        scaled = torch.from_numpy(even.astype(np.float64) / ((1 << self._bits) - 1))
        return scaled[None, None].to(device)


class _Follower(Protocol):
    """What gives the voxels of one quarter of a slice after the other."""

    def take(self, numbers: NDArray[np.float64], lossy: NDArray[np.int32]) -> NDArray[np.int32]: ...


@dataclass(slots=True)
class _Writing:
    """Has the voxels of a slice, and keeps how they are coded."""

    tables: Tables
    voxels: NDArray[np.int32]
    bits: int
    starts: list[NDArray[np.int64]] = field(default_factory=list)
    widths: list[NDArray[np.int64]] = field(default_factory=list)
    near: Exceptions = NONE
    at: int = 0

    def take(self, numbers: NDArray[np.float64], lossy: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the voxels of the next quarter."""
        corners = [self.voxels[i::2, j::2] for i, j in CORNERS]
        voxels = [np.ravel(part) for part in corners if part.size][len(self.starts)]
        grid, near = mixture.on_grid(numbers)
        self.near = self.near.and_then(near, self.at)
        self.at += numbers.size
        starts, widths = mixture.intervals(Mixtures(grid, lossy, self.bits), voxels, self.tables)
        self.starts.append(starts)
        self.widths.append(widths)
        return voxels


@dataclass(slots=True)
class _Reading:
    """Reads the voxels of a slice."""

    tables: Tables
    decoder: rans.Decoder
    near: Exceptions
    bits: int
    at: int = 0

    def take(self, numbers: NDArray[np.float64], lossy: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the voxels of the next quarter."""
        near = self.near.within(self.at, self.at + numbers.size)
        self.at += numbers.size
        grid, _ = mixture.on_grid(numbers, near)
        return mixture.decode(self.decoder, Mixtures(grid, lossy, self.bits), self.tables)


def order(count: int) -> list[tuple[int, tuple[int, ...]]]:
    """Return slices in the order of coding, each with those that it refers to: 0, 1 or 2."""
    found: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    for start in range(0, count, GROUP):
        for k, *references in _REFERENCES:
            there = tuple(start + other for other in references if start + other < count)
            if start + k < count:
                found.append((start + k, there))
    return found


def needed(count: int, wanted: Iterable[int]) -> list[int]:
    """Return in the order of coding which of `count` slices must be decoded to have some."""
    plan, found = order(count), set(wanted)
    for k, references in reversed(plan):
        if k in found:
            found.update(references)
    return [k for k, _ in plan if k in found]


def _crc(voxels: NDArray[np.int32]) -> int:
    return zlib.crc32(voxels.astype("<i4").tobytes())


def _work(config: Config) -> float:
    """Return the multiplications of an encoder for a voxel."""
    total = 0.0
    for name, shape in tensors(config).items():
        if len(shape) == 4:
            # Coded and decoded; but a slice is looked at once by those that refer to it, and half
            # of them are never referred to.
            passes = 0.5 if "ward_re" in name else 2
            total += passes * math.prod(shape) / 4
    return total
