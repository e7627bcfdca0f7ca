"""What the network of `bcm-net` is trained for: few bits for what the base layer has lost.

The authors published no program that trains it. Slices are foreseen as the codec will do it: from
the base layer alone, or from slices before and after them, too, in the order of coding; all
quarters of a slice at once, each from the true voxels of those before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mroi.codecs.neural.bcm_model import model_of, order
from mroi.codecs.neural.bcm_network import Network, bits, initial
from mroi.codecs.neural.bcm_shapes import GROUP, Config, tensors
from mroi.codecs.neural.models import Header, load
from mroi.codecs.neural.objective import Loss, Patch, finite

__all__ = ["SIZES", "Residues", "Size"]

_ALONE = 0.25  # of the slices are foreseen from nothing but themselves


@dataclass(frozen=True, slots=True)
class Size:
    """A network that can be trained.

    Attributes
    ----------
    config : Config
        Its sizes.
    rate : float
        A learning rate that suits it.
    patch : int
        Rows and columns of patches that suit it.
    """

    config: Config
    rate: float = 1e-4
    patch: int = 64


SIZES: Mapping[str, Size] = {
    "tiny": Size(Config(features=8, prior=16, logistics=3, depth=1, heads=2), 3e-3, 32),
    "small": Size(Config(features=24, prior=40, logistics=5, depth=3, heads=4), 1e-3),
    "medium": Size(Config()),
}
"""By name; the last one is that of the paper."""


class Residues:
    """A network that is trained, and its loss.

    Parameters
    ----------
    config : Config
        Its sizes.
    step : float
        Of the base layer, in units of the voxels.
    found : mapping of str to Tensor
        All tensors.
    device : str
        Where it is computed.

    Attributes
    ----------
    config : Config
        Its sizes.
    trained : mapping of str to Tensor
        What gradients change.
    settled : mapping of str to Tensor
        Nothing.
    thick : int
        Slices of a patch.
    multiple : int
        What rows and columns of a patch are multiples of.
    """

    settled: Mapping[str, Tensor] = {}
    thick = GROUP
    multiple = 2

    def __init__(
        self, config: Config, step: float, found: Mapping[str, Tensor], device: str = "cpu"
    ) -> None:
        self.config, self._step, self._device = config, step, device
        self.trained: Mapping[str, Tensor] = {
            name: tensor.to(device).requires_grad_() for name, tensor in found.items()
        }
        self._network = Network(config, self.trained)

    @classmethod
    def begin(cls, size: Size, step: float, seed: int, device: str = "cpu") -> Self:
        """Return one with random weights."""
        return cls(size.config, step, initial(size.config, seed), device)

    @classmethod
    def of(cls, header: Header, step: float, device: str = "cpu") -> Self:
        """Return one that goes on from a model, with a base layer of its own.

        Raises
        ------
        CodecError
            If its file is damaged.
        """
        config = Config.from_json(header.config)
        shapes = tensors(config)
        found = load(header, shapes, lambda name: name in shapes)
        weights = {name: torch.tensor(found[name], dtype=torch.float32) for name in shapes}
        return cls(config, step, weights, device)

    def batch(
        self, patches: Sequence[Patch], random: np.random.Generator
    ) -> list[tuple[list[Tensor], int]]:
        """Return slices to foresee, those of one kind together: see `bits`.

        Each is a slice, its base layer, those before and after that it refers to, and the largest
        value.
        """
        groups: dict[tuple[int, int], list[list[NDArray[Any]]]] = {}
        for patch in patches:
            plan = order(len(patch.planes))
            alone = len(plan) == 1 or random.random() < _ALONE
            k, known = plan[0] if alone else plan[1 + random.integers(len(plan) - 1)]
            assert patch.lossy is not None
            parts = [patch.planes[k], patch.lossy[k]]
            parts += [patch.planes[known[0]], patch.planes[known[-1]]] if known else []
            groups.setdefault((len(parts), patch.bits), []).append(parts)
        return [
            ([self._stacked(parts) for parts in zip(*group, strict=True)], (1 << depth) - 1)
            for (_, depth), group in sorted(groups.items())
        ]

    def _stacked(self, planes: Sequence[NDArray[Any]]) -> Tensor:
        return torch.from_numpy(np.stack(planes).astype(np.int32)).to(self._device)

    def loss(
        self, batch: Sequence[tuple[list[Tensor], int]], _random: torch.Generator | None
    ) -> Loss:
        """Return the bits a voxel, beside those of the base layer."""
        voxels = sum(parts[0].numel() for parts, _ in batch)
        costs = [bits(self._network, parts[0], parts[1], parts[2:], top) for parts, top in batch]
        rate = torch.stack(costs).sum() / voxels
        return Loss(rate, rate, torch.zeros(()))

    def settle(self) -> Tensor:
        """Return nothing: there is no other loss."""
        return torch.zeros(())

    def model(self, notes: Mapping[str, object]) -> tuple[Header, dict[str, NDArray[Any]]]:
        """Return the model that the tensors make.

        Raises
        ------
        CodecError
            If training went wrong, so that there is none.
        """
        return model_of(finite(self.trained), self.config, self._step, notes)
