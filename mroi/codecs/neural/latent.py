"""From pictures to symbols and back with one model: what `tcm` codes, and how it is told apart.

The decoder computes in binary64, and the encoder does with it whatever the decoder will do again.
"""

from __future__ import annotations

import math
import threading
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mroi.codecs.neural import models, rans
from mroi.codecs.neural.guardband import NONE, Exceptions, indexes_of
from mroi.codecs.neural.models import Header
from mroi.codecs.neural.network import Network
from mroi.codecs.neural.one_thread import one_thread, seconds_of_multiplication
from mroi.codecs.neural.rans import LARGEST, Table
from mroi.codecs.neural.shapes import DECODED, Config, tensors
from mroi.errors import CodecError

__all__ = ["Model"]

_TABLES = {
    "tables.y.cdf": 2, "tables.y.offsets": 1, "tables.y.scales": 1, "tables.y.sizes": 1,
    "tables.z.cdf": 2, "tables.z.medians": 1, "tables.z.offsets": 1, "tables.z.sizes": 1,
}  # fmt: skip
_PASSES = 3  # coded, decoded to see that it can be, and by the writer to see what is lost


class _Follower(Protocol):
    """What gives the symbols of one part of a latent after the other."""

    hyper: NDArray[np.int32]

    def take(self, mean: Tensor, scales: NDArray[np.float64]) -> NDArray[np.int32]: ...


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
    latent : Table
        Distributions of the symbols, one for each scale.
    borders : ndarray of float64
        Between the scales.

    Raises
    ------
    CodecError
        If the file is damaged.
    """

    def __init__(self, header: Header, config: Config) -> None:
        self.header, self._config = header, config
        self._auxiliary = header.architecture == "tcm-auxt"
        self._lock = threading.Lock()
        found = self._load(decoded=True)
        identity = models.identify(header.architecture, header.arithmetic, config.to_json(), found)
        if header.arithmetic != "f64-guard":
            raise CodecError(f"{header.architecture} has no arithmetic {header.arithmetic!r}")
        if identity != header.id:
            raise CodecError(f"{header.path.name} is damaged: it is not the model {header.id}")
        for name, axes in _TABLES.items():
            if name not in found or found[name].ndim != axes:
                raise CodecError(f"{header.path.name} is damaged: {name} is missing, or no table")
        self._hyper, self.latent = (
            Table(*(found[f"tables.{part}.{kind}"] for kind in ("cdf", "sizes", "offsets")))
            for part in "zy"
        )
        self._medians = found["tables.z.medians"].astype(np.float64)
        self.borders = found["tables.y.scales"].astype(np.float64)[:-1]
        self._check_tables()
        self._networks = {("cpu", True): self._network(found, torch.float64)}

    def _check_tables(self) -> None:
        channels = len(self._hyper.sizes), self._medians.size
        rises = bool((np.diff(self.borders) > 0).all() and (self.borders > 0).all())
        levels = len(self.latent.sizes)
        if channels != (self._config.hyper,) * 2 or levels != self.borders.size + 1 or not rises:
            raise CodecError(f"{self.header.path.name} is damaged: its tables do not fit together")
        if not 1 < levels <= 256:
            raise CodecError(f"{self.header.path.name} has {levels} scales, not 2 to 256")

    def _load(self, *, decoded: bool) -> dict[str, NDArray[Any]]:
        shapes = tensors(self._config, auxiliary=self._auxiliary)
        found: dict[str, NDArray[Any]] = models.load(
            self.header, shapes, lambda name: name.startswith(DECODED) == decoded
        )
        return found

    def _network(
        self, found: dict[str, NDArray[Any]], dtype: torch.dtype, device: str = "cpu"
    ) -> Network:
        trained = {
            name: torch.from_numpy(tensor).to(device, dtype)
            for name, tensor in found.items()
            if not name.startswith(("tables.", "entropy_bottleneck."))
        }
        return Network(self._config, trained, auxiliary=self._auxiliary)

    def _on(self, device: str, *, decoder: bool) -> Network:
        """Return what decodes, in binary64, or the transforms that only an encoder needs.

        The latter may compute as they like.
        """
        with self._lock:
            network = self._networks.get((device, decoder))
            if network is None:
                dtype = torch.float64 if decoder else torch.float32
                network = self._network(self._load(decoded=decoder), dtype, device)
                self._networks[device, decoder] = network
        return network

    # -- pictures ----------------------------------------------------------------------------------

    def encode(
        self, planes: NDArray[np.float32], device: str = "cpu"
    ) -> tuple[bytes, int, Exceptions]:
        """Return the code of a picture, the CRC-32 of its symbols, and the exceptions.

        Parameters
        ----------
        planes : (1 to 3, rows, columns) ndarray of float32
            From 0 to 1.
        device : str
            Where it is computed: ``cpu`` or ``cuda``.

        Raises
        ------
        CodecError
            If the network gives what cannot be coded.
        """
        encoder = self._on(device, decoder=False)
        with one_thread, torch.inference_mode():
            latent = encoder.analyse(self._picture(planes).to(device))
            hyper = encoder.analyse_hyper(latent)[0].double().cpu().numpy()
            symbols = _integers(hyper - self._medians[:, None, None])
            follower = _Encoding(self, symbols, latent.double())
            try:
                self._follow(follower, self._on(device, decoder=True))
            except ValueError as exc:
                raise CodecError(f"{self.header.path.name}: {exc}") from exc
        code = rans.encode([(symbols.ravel(), _channels(symbols), self._hyper), *follower.parts])
        return code, follower.crc, follower.near

    def decode(
        self,
        code: bytes,
        crc: int,
        near: Exceptions,
        shape: tuple[int, ...],
        device: str = "cpu",
    ) -> NDArray[np.float64]:
        """Return a picture, flat, from 0 to 1.

        Parameters
        ----------
        code : bytes
            From `encode`.
        crc : int
            Of its symbols: they are checked before anything is made of them.
        near : Exceptions
            From `encode`.
        shape : tuple of 3 int
            Planes, rows, columns.
        device : str
            Where it is computed: ``cpu`` or ``cuda``.

        Raises
        ------
        ValueError
            If the code is none, or of other symbols.
        """
        c, (rows, columns) = self._config, self._padded(*shape[1:])
        near.check(c.latent * rows * columns // 256)
        decoder = rans.Decoder(memoryview(code))
        small = np.zeros((c.hyper, rows // 64, columns // 64), np.int32)
        symbols = decoder.decode(_channels(small), self._hyper).reshape(small.shape)
        with one_thread, torch.inference_mode():
            follower = _Decoding(self, symbols, decoder, near)
            network = self._on(device, decoder=True)
            latent = self._follow(follower, network)
            decoder.finish()
            if follower.crc != crc:
                raise ValueError(
                    "the symbols are not those that were written: this machine computes other "
                    f"scales with torch {torch.__version__}, or the payload is damaged"
                )
            picture = network.synthesise(latent)[0, :, : shape[1], : shape[2]].cpu().numpy()
        if not np.isfinite(picture).all():
            raise ValueError("the network gives no finite voxels")
        return _merged(picture, shape[0]).ravel()

    def _follow(self, follower: _Follower, decoder: Network) -> Tensor:
        """Go through the parts of a latent in the order of coding, and return it."""
        hyper = follower.hyper + self._medians[:, None, None]
        base = decoder.synthesise_hyper(torch.from_numpy(hyper)[None].to(decoder.device))
        parts: list[Tensor] = []
        for k in range(self._config.slices):
            mean, scale, support = decoder.parameters(k, base, parts)
            scales = scale.cpu().numpy().ravel()
            if not (np.isfinite(scales).all() and bool(mean.isfinite().all())):
                raise ValueError("the network gives no finite scales")
            symbols = follower.take(mean, scales)
            whole = torch.from_numpy(symbols.astype(np.float64)).to(mean.device)
            parts.append(decoder.correct(k, support, whole.reshape(mean.shape) + mean))
        return torch.cat(parts, 1)

    def _padded(self, rows: int, columns: int) -> tuple[int, int]:
        m = self._config.multiple
        return -(-rows // m) * m, -(-columns // m) * m

    def _picture(self, planes: NDArray[np.float32]) -> Tensor:
        """Return what the network is given: (1, 3, rows, columns), the last ones repeated."""
        _, rows, columns = planes.shape
        tall, wide = self._padded(rows, columns)
        channels = {1: (0, 0, 0), 2: (0, 1, 1), 3: (0, 1, 2)}[len(planes)]
        padding = ((0, 0), (0, tall - rows), (0, wide - columns))
        return torch.from_numpy(np.pad(planes[list(channels)], padding, "edge"))[None]

    # -- time --------------------------------------------------------------------------------------

    def encode_seconds(self, rows: int, columns: int) -> float:
        """Return how long a picture takes to encode, roughly, on one thread."""
        tall, wide = self._padded(rows, columns)
        return tall * wide * self._work * seconds_of_multiplication()

    @cached_property
    def _work(self) -> float:
        """Multiplications of an encoder for a pixel, in binary64; two in binary32 count as one."""
        shapes = tensors(self._config, auxiliary=self._auxiliary)
        return math.fsum(
            math.prod(shape) * _share(name, self._config) for name, shape in shapes.items()
        )


@dataclass(slots=True)
class _Encoding:
    """Makes the symbols of a latent, and keeps how they are coded."""

    model: Model
    hyper: NDArray[np.int32]
    latent: Tensor
    parts: list[tuple[NDArray[np.int32], NDArray[np.int32], Table]] = field(default_factory=list)
    near: Exceptions = NONE
    crc: int = 0

    def __post_init__(self) -> None:
        self.crc = _crc(self.hyper)

    def take(self, mean: Tensor, scales: NDArray[np.float64]) -> NDArray[np.int32]:
        """Return the symbols of the next part."""
        at = sum(symbols.size for symbols, _, _ in self.parts)
        channels = mean.shape[1]
        start = len(self.parts) * channels
        part = self.latent[:, start : start + channels]
        symbols = _integers((part - mean).cpu().numpy()).ravel()
        rows, near = indexes_of(scales, self.model.borders)
        self.near = self.near.and_then(near, at)
        self.parts.append((symbols, rows, self.model.latent))
        self.crc = _crc(symbols, self.crc)
        return symbols


@dataclass(slots=True)
class _Decoding:
    """Reads the symbols of a latent."""

    model: Model
    hyper: NDArray[np.int32]
    decoder: rans.Decoder
    near: Exceptions
    at: int = 0
    crc: int = 0

    def __post_init__(self) -> None:
        self.crc = _crc(self.hyper)

    def take(self, _mean: Tensor, scales: NDArray[np.float64]) -> NDArray[np.int32]:
        """Return the symbols of the next part."""
        near = self.near.within(self.at, self.at + scales.size)
        self.at += scales.size
        rows, _ = indexes_of(scales, self.model.borders, near)
        symbols = self.decoder.decode(rows, self.model.latent)
        self.crc = _crc(symbols, self.crc)
        return symbols


def _crc(symbols: NDArray[np.int32], before: int = 0) -> int:
    return zlib.crc32(symbols.astype("<i4").tobytes(), before)


def _integers(numbers: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return numbers rounded; raises `CodecError` for those that no symbol stands for."""
    if not (np.abs(numbers) < LARGEST - 1).all():
        raise CodecError("the network gives numbers that are too large to be coded, or none")
    return np.rint(numbers).astype(np.int32)


def _channels(symbols: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the channel of each symbol of (channels, rows, columns), flat."""
    channels, rows, columns = symbols.shape
    return np.repeat(np.arange(channels, dtype=np.int32), rows * columns)


def _merged(picture: NDArray[np.float64], planes: int) -> NDArray[np.float64]:
    """Return the planes that were put into three channels."""
    first, second, third = picture
    if planes == 3:
        merged = [first, second, third]
    elif planes == 2:
        merged = [first, (second + third) / 2]
    else:
        merged = [(first + second + third) / 3]
    return np.stack(merged)


def _share(name: str, config: Config) -> float:
    """Return how often a weight is multiplied for each pixel, by the resolution it works at."""
    top, _, rest = name.partition(".")
    if top.startswith("h_"):
        return _PASSES / 32**2
    if top not in ("g_a", "g_s"):
        return _PASSES / 16**2
    number, stage = int(rest.partition(".")[0]), 0
    depths = config.depths[:3] if top == "g_a" else config.depths[3:]
    for depth in depths:
        if number <= depth:
            break
        number -= depth + 1
        stage += 1
    return 0.5 / 4.0 ** (stage + 1) if top == "g_a" else 2 / 4.0 ** max(1, 3 - stage)
