"""What the networks of `tcm` and `tcm-auxt` are trained for: few bits, small errors.

The loss is that of the papers: bits a pixel, plus lambda times the mean squared error on a scale
of 255; the density of the hyperprior is the fully factorised one of Ballé et al. (2018), as in
CompressAI. Rounding is replaced by noise where bits are counted, and passed over by gradients
where voxels are computed. With AuxT, its linear layers are kept near orthogonal ones.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (its usual name)

from mroi.codecs.neural.checkpoint import model_of
from mroi.codecs.neural.models import Header, load
from mroi.codecs.neural.network import PEDESTAL, Network, at_least
from mroi.codecs.neural.shapes import Config, tensors
from mroi.codecs.neural.tables import scales
from mroi.errors import CodecError

__all__ = ["SIZES", "Loss", "Patch", "RateDistortion", "Size", "finite"]


@dataclass(frozen=True, slots=True)
class Size:
    """A network that can be trained.

    Attributes
    ----------
    config : Config
        Its sizes.
    scales : tuple of float, float, int
        Standard deviations of the latent that have tables: the least, the greatest, how many.
    rate : float
        A learning rate that suits it.
    patch : int
        Rows and columns of patches that suit it.
    """

    config: Config = field(default_factory=Config)
    scales: tuple[float, float, int] = (0.11, 256.0, 64)
    rate: float = 1e-4
    patch: int = 256


SIZES: Mapping[str, Size] = {
    "tiny": Size(
        Config(
            width=4, latent=8, hyper=4, slices=2, support=2, window=4, hyper_window=2,
            heads=(2, 2, 4, 4, 2, 2), hyper_head=4, attention_head=4, attention=8,
            depths=(1, 1, 1, 1, 1, 1), context=(8, 8),
        ),
        (0.11, 64.0, 32), 3e-3, 64,
    ),
    "small": Size(
        Config(
            width=16, latent=48, hyper=32, slices=3, support=3, heads=(8, 8, 16, 16, 8, 8),
            hyper_head=16, attention_head=16, attention=32, context=(64, 48),
        ),
        rate=1e-3, patch=128,
    ),
    "medium": Size(),
    "large": Size(Config(width=128)),
}  # fmt: skip
"""By name; the last two are those of the papers."""

_LIKELY = 1e-9  # at least: what is less likely is coded as an escape
_FILTERS = (1, 3, 3, 3, 3, 1)
_SPREAD = 10.0  # of the density of the hyperprior, at first
_ORTHOGONAL = 0.1
_HAAR = {"ll": (1, 1, 1, 1), "lh": (1, 1, -1, -1), "hl": (1, -1, 1, -1), "hh": (1, -1, -1, 1)}
_QUANTILES = "entropy_bottleneck.quantiles"
_SCALES = "gaussian_conditional.scale_table"


@dataclass(frozen=True, slots=True)
class Loss:
    """What a batch costs.

    Attributes
    ----------
    total : Tensor
        What gradients are of.
    rate : Tensor
        Bits a pixel of the network's picture.
    error : Tensor
        Mean squared error of voxels from 0 to 1.
    """

    total: Tensor
    rate: Tensor
    error: Tensor


class Patch(Protocol):
    """What a batch is made of."""

    @property
    def planes(self) -> NDArray[Any]:
        """Integers, (slices, rows, columns)."""
        ...

    @property
    def bits(self) -> int:
        """Significant bits of a voxel."""
        ...

    @property
    def lossy(self) -> NDArray[Any] | None:
        """What a base layer makes of them, for codecs that have one."""
        ...


class RateDistortion:
    """A network that is trained, and its loss.

    Parameters
    ----------
    architecture : str
        ``tcm`` or ``tcm-auxt``.
    config : Config
        Its sizes.
    weight : float
        Lambda: what a squared error is worth in bits.
    found : mapping of str to ndarray
        All tensors, by the names of checkpoints.
    device : str
        Where it is computed.
    channels : str
        What the three channels are given: ``equal`` or ``neighbours``.

    Attributes
    ----------
    trained : mapping of str to Tensor
        What gradients change.
    settled : mapping of str to Tensor
        What has a loss of its own (`settle`).
    thick : int
        Slices of a picture.
    """

    def __init__(
        self,
        architecture: str,
        config: Config,
        weight: float,
        found: Mapping[str, NDArray[Any]],
        device: str = "cpu",
        channels: str = "equal",
    ) -> None:
        self._architecture, self._config, self._weight = architecture, config, weight
        self.thick = 1 if channels == "equal" else 3
        self._is_auxiliary = architecture == "tcm-auxt"
        self._all = {name: torch.from_numpy(array).to(device) for name, array in found.items()}
        fixed = {name for name in self._all if "dwt." in name or name == _SCALES}
        self.settled: Mapping[str, Tensor] = {_QUANTILES: self._all[_QUANTILES].requires_grad_()}
        self.trained: Mapping[str, Tensor] = {
            name: tensor.requires_grad_()
            for name, tensor in self._all.items()
            if name not in fixed and name not in self.settled
        }
        shapes = tensors(config, auxiliary=self._is_auxiliary)
        self._network = Network(
            config, {name: self._all[name] for name in shapes}, auxiliary=self._is_auxiliary
        )

    @classmethod
    def begin(
        cls,
        architecture: str,
        size: Size,
        weight: float,
        seed: int,
        device: str = "cpu",
        channels: str = "equal",
    ) -> Self:
        """Return one with random weights, as PyTorch and the papers draw them."""
        shapes = tensors(size.config, auxiliary=architecture == "tcm-auxt")
        found = {name: _begun(name, shapes, seed) for name in shapes}
        found |= _density(size.config.hyper, seed)
        found[_SCALES] = scales(*size.scales).astype(np.float32)
        return cls(architecture, size.config, weight, found, device, channels)

    @classmethod
    def of(
        cls, header: Header, weight: float, device: str = "cpu", channels: str = "equal"
    ) -> Self:
        """Return one that goes on from a model.

        Raises
        ------
        CodecError
            If its file is damaged.
        """
        config = Config.from_json(header.config)
        shapes = tensors(config, auxiliary=header.architecture == "tcm-auxt")
        density = {name: array.shape for name, array in _density(config.hyper, 0).items()}
        found = load(header, {**shapes, **density}, lambda _name: True)
        borders = found.get("tables.y.scales", np.empty(0))
        if borders.ndim != 1 or not borders.size:
            raise CodecError(f"{header.path.name} is damaged: it has no scales of the latent")
        found = {name: np.array(found[name], np.float32) for name in (*shapes, *density)}
        found[_SCALES] = borders.astype(np.float32)
        return cls(header.architecture, config, weight, found, device, channels)

    @property
    def multiple(self) -> int:
        """Rows and columns of a picture are multiples of this."""
        return self._config.multiple

    # -- losses ------------------------------------------------------------------------------------

    def loss(self, pictures: Tensor, random: torch.Generator | None) -> Loss:
        """Return what pictures cost.

        Parameters
        ----------
        pictures : (n, 3, rows, columns) Tensor of float32
            From 0 to 1.
        random : Generator or None
            Of the noise that stands for rounding while it is trained; None rounds, as the codec.
        """
        network, config = self._network, self._config
        latent = network.analyse(pictures)
        hyper = network.analyse_hyper(latent)
        medians = self._all[_QUANTILES][:, 0, 1].detach()[:, None, None]
        rounded = _round(hyper - medians) + medians
        bits = self._hyper_bits(_noisy(hyper, random) if random else rounded)
        base = network.synthesise_hyper(rounded)
        parts: list[Tensor] = []
        least = float(self._all[_SCALES][0])
        for k, part in enumerate(latent.chunk(config.slices, 1)):
            mean, scale, support = network.parameters(k, base, parts)
            whole = _round(part - mean)
            off = _noisy(part - mean, random) if random else whole
            bits = bits + _normal_bits(off, at_least(scale, least))
            parts.append(network.correct(k, support, whole + mean))
        picture = network.synthesise(torch.cat(parts, 1))
        error = F.mse_loss(picture, pictures)
        rate = bits / pictures[:, 0].numel()
        total = self._weight * 255**2 * error + rate
        return Loss(total + self._apart() if random else total, rate, error)

    def settle(self) -> Tensor:
        """Return the loss of the quantiles: how far they are from the tails of the density."""
        target = math.log(2 / _LIKELY - 1)
        wanted = torch.tensor([-target, 0.0, target], device=self._all[_QUANTILES].device)
        logits = self._logits(self._all[_QUANTILES], fixed=True)
        return (logits - wanted).abs().sum()

    def _apart(self) -> Tensor | float:
        """Return how far linear layers of AuxT are from orthogonal ones."""
        found: Tensor | float = 0.0
        for name in self.trained if self._is_auxiliary else ():
            if name.endswith("OLP.linear.weight"):
                weight = self.trained[name]
                out, inside = weight.shape
                gram = weight @ weight.T if inside > out else weight.T @ weight
                unit = torch.eye(len(gram), device=gram.device)
                found = found + _ORTHOGONAL * F.mse_loss(gram, unit)
        return found

    def _hyper_bits(self, hyper: Tensor) -> Tensor:
        flat = hyper.transpose(0, 1).reshape(self._config.hyper, 1, -1)
        lower, upper = self._logits(flat - 0.5), self._logits(flat + 0.5)
        sign = -(lower + upper).sign().detach()  # where differences of logistics are exact
        likely = (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()
        return -torch.log2(at_least(likely, _LIKELY)).sum()

    def _logits(self, values: Tensor, *, fixed: bool = False) -> Tensor:
        """Return logits of the cumulative density: (channels, 1, n) of values of that shape."""

        def layer(kind: str, k: int) -> Tensor:
            tensor = self._all[f"entropy_bottleneck.{kind}.{k}"]
            return tensor.detach() if fixed else tensor

        last = len(_FILTERS) - 2
        for k in range(last + 1):
            values = F.softplus(layer("matrices", k)) @ values + layer("biases", k)
            if k < last:
                values = values + torch.tanh(layer("factors", k)) * torch.tanh(values)
        return values

    # -- what comes of it --------------------------------------------------------------------------

    def batch(self, patches: Sequence[Patch], _random: np.random.Generator) -> Tensor:
        """Return pictures for `loss`; of what lacks slices, the last one is repeated."""
        pictures = [
            patch.planes[[min(k, len(patch.planes) - 1) for k in range(3)]]
            / np.float32((1 << patch.bits) - 1)
            for patch in patches
        ]
        return torch.from_numpy(np.stack(pictures)).to(self._all[_SCALES].device)

    def model(self, notes: Mapping[str, object]) -> tuple[Header, dict[str, NDArray[Any]]]:
        """Return the model that the tensors make, its tables among them.

        Raises
        ------
        CodecError
            If training went wrong, so that there is none.
        """
        return model_of(finite(self._all), self._architecture, self._config, notes)


def finite(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Return tensors as arrays; raises `CodecError` if one holds NaN or infinity."""
    found = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    for name, array in found.items():
        if not np.isfinite(array).all():
            raise CodecError(f"training went astray: {name} holds NaN or infinity")
    return found


def _round(x: Tensor) -> Tensor:
    """Return integers, with the gradients of what was rounded."""
    return x + (x.round() - x).detach()


def _noisy(x: Tensor, random: torch.Generator) -> Tensor:
    noise = torch.rand(x.shape, generator=random, device="cpu")  # so that it is the same
    return x + (noise - 0.5).to(x.device)


def _normal_bits(off: Tensor, scale: Tensor) -> Tensor:
    """Return the bits of integers around a mean, of a normal distribution."""
    away = off.abs()
    upper = torch.special.ndtr((0.5 - away) / scale)
    lower = torch.special.ndtr((-0.5 - away) / scale)
    return -torch.log2(at_least(upper - lower, _LIKELY)).sum()


# -- first weights ---------------------------------------------------------------------------------


def _begun(name: str, shapes: Mapping[str, tuple[int, ...]], seed: int) -> NDArray[np.float32]:
    """Return a tensor as it is before training."""
    shape, (layer, _, last) = shapes[name], name.rpartition(".")
    if last in ("beta", "gamma"):
        square = np.ones(shape) if last == "beta" else 0.1 * np.eye(shape[0])
        return np.sqrt(square + PEDESTAL).astype(np.float32)
    if last == "scaling_factors":
        quarter = shape[-1] // 4
        return np.repeat(np.array([0.5, 0.5, 0.5, 0], np.float32), quarter).reshape(shape)
    if "dwt." in name:
        bands = _HAAR.values() if last == "filters" else [_HAAR[last[-2:]]]
        return np.float32(0.5) * np.array(list(bands), np.float32).reshape(shape)
    if layer.endswith((".ln1", ".ln2")):
        return np.full(shape, last == "weight", np.float32)
    random = np.random.default_rng((seed, zlib.crc32(name.encode())))
    if last == "relative_position_params":
        return (0.02 * random.standard_normal(shape).clip(-2, 2)).astype(np.float32)
    bound = math.prod(shapes[f"{layer}.weight"][1:]) ** -0.5
    return random.uniform(-bound, bound, shape).astype(np.float32)


def _density(channels: int, seed: int) -> dict[str, NDArray[np.float32]]:
    """Return the density of the hyperprior as CompressAI begins with it."""
    found = {}
    random = np.random.default_rng((seed, channels))
    for k, (inside, out) in enumerate(pairwise(_FILTERS)):
        name = "entropy_bottleneck.{}." + str(k)
        value = math.log(math.expm1(1 / _SPREAD ** (1 / 5) / out))
        found[name.format("matrices")] = np.full((channels, out, inside), value, np.float32)
        bias = random.uniform(-0.5, 0.5, (channels, out, 1))
        found[name.format("biases")] = bias.astype(np.float32)
        if k < len(_FILTERS) - 2:
            found[name.format("factors")] = np.zeros((channels, out, 1), np.float32)
    ends = np.array([-_SPREAD, 0, _SPREAD], np.float32)
    return found | {_QUANTILES: np.tile(ends, (channels, 1, 1))}
