"""The network of `bcm-net`: its sizes, and the names and shapes of its tensors.

Liu, Wang, Wang, Kwong, "Bilateral Context Modeling for Residual Coding in Lossless 3D Medical Image
Compression" (IEEE Transactions on Image Processing 33, 2024). Names are those of the authors'
checkpoints. Nothing here needs PyTorch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from mroi.codecs import fields
from mroi.errors import CodecError

__all__ = ["ENCODED", "FEWEST_BITS", "GROUP", "STEPS", "Config", "tensors"]

Shapes = Iterator[tuple[str, tuple[int, ...]]]

ENCODED = "base.step"
"""The only tensor that a decoder does not need."""

STEPS = (2.0**-6, 2.0**16)
"""The finest and the coarsest step of the base layer."""

GROUP = 8
"""Slices of a chunk that refer to each other."""

FEWEST_BITS = 8
"""Voxels have at least so many, whatever they need."""

_MOST = {"features": 512, "prior": 512, "logistics": 16, "depth": 64, "heads": 512}


@dataclass(frozen=True, slots=True)
class Config:
    """Sizes of a network.

    Attributes
    ----------
    features : int
        Channels of what is extracted from a slice.
    prior : int
        Channels of what the distributions are computed from.
    logistics : int
        Logistic distributions in a mixture.
    depth : int
        Residual blocks in a sequence of them.
    heads : int
        Heads of attention.
    """

    features: int = 64
    prior: int = 120
    logistics: int = 10
    depth: int = 8
    heads: int = 8

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            fields.integer(f"model: {field.name}", value, 1, _MOST[field.name])
        if self.features % self.heads:
            raise CodecError("model: features are no multiple of heads", "CDC-6")

    @classmethod
    def from_json(cls, record: Mapping[str, object]) -> Self:
        """Return what `to_json` gave; raises `CodecError` (rule CDC-6)."""
        names = {field.name for field in dataclasses.fields(cls)}
        if set(record) != names:
            raise CodecError(f"model: its sizes are {sorted(record)}, not {sorted(names)}", "CDC-6")
        values: dict[str, Any] = dict(record)
        return cls(**values)

    def to_json(self) -> dict[str, object]:
        """Return the sizes by name."""
        return dataclasses.asdict(self)


def tensors(config: Config) -> dict[str, tuple[int, ...]]:
    """Return the shape of every trained tensor by name."""
    return dict(_tensors(config))


def _tensors(c: Config) -> Shapes:
    for source in ("lossy_rec", "forward_ref", "backward_ref"):
        yield from _extraction(f"feats_extract_{source}.net", c)
    for source in ("lossy", "forward", "backward"):
        yield from _residuals(f"i2cg.{source}_res_blocks", c.features, c.depth)
    yield from _within("i2cg.symmetry_based_intra_slice_ctx_generation", c)
    yield from _between("i2cg.bidirectional_inter_slice_ctx_generation", c)
    yield from _conv("i2cg.ctx_fusion_head_wo_ref.0", c.features, c.prior)
    yield from _conv("i2cg.ctx_fusion_head_with_ref.0", 2 * c.features, c.prior)
    yield from _residuals("i2cg.ctx_fusion_body", c.prior, c.depth)
    for k in range(1, 4):
        sizes = (k, k, c.prior, c.prior)
        yield from _three(f"entropy_models.auto_ctx_extraction.{k - 1}.body", sizes)
    for k in range(4):
        wide = c.prior if k == 0 else 2 * c.prior
        sizes = (wide, wide, wide, 3 * c.logistics)
        yield from _three(f"entropy_models.params_estimator.{k}.body", sizes)


def _extraction(name: str, c: Config) -> Shapes:
    yield from _conv(f"{name}.0", 1, c.features)
    for k in (2, 3):
        yield from _conv(f"{name}.{k}.head", c.features, c.features)
        yield from _residuals(f"{name}.{k}.res_blocks", c.features, c.depth)
        yield from _conv(f"{name}.{k}.tail", c.features, c.features)
    yield from _conv(f"{name}.4", c.features, c.features)


def _within(name: str, c: Config) -> Shapes:
    f = c.features
    for k in range(3):
        yield from _conv(f"{name}.local_fusion.atrous_convs.{k}", f, f)
    yield from _conv(f"{name}.local_fusion.output_conv", 3 * f, f, 1)
    sizes = (*(max(f >> k, 1) for k in range(5)), 3)
    for k in range(5):
        layer = f"{name}.affine_transform.downsample_layers.{2 * k}"
        yield from _conv(layer, sizes[k], sizes[k + 1])
    yield f"{name}.affine_transform.theta_estimator.weight", (6, 12)
    yield f"{name}.affine_transform.theta_estimator.bias", (6,)
    for part in ("query", "key", "value"):
        yield f"{name}.criss_cross_self_attn.{part}_map.weight", (f, f, 1, 1)
    yield f"{name}.criss_cross_self_attn.out_map.weight", (f, 2 * f, 1, 1)
    yield from _feed_forward(f"{name}.feed_forward", f)
    for norm in ("norm_before_attn", "norm_after_attn"):
        yield from _norm(f"{name}.{norm}", f)
    yield from _residuals(f"{name}.bottom", f, 2)


def _between(name: str, c: Config) -> Shapes:
    f = c.features
    for part in ("query", "key", "value"):
        for number in ("",) if part == "query" else ("_1", "_2"):
            yield f"{name}.bidirectional_cross_attn.{part}_map{number}.weight", (f, f, 1, 1)
    yield f"{name}.bidirectional_cross_attn.out_map.weight", (f, 2 * f, 1, 1)
    yield from _feed_forward(f"{name}.feed_forward", f)
    for norm in ("before_attn_x", "before_attn_ref_1", "before_attn_ref_2", "after_attn"):
        yield from _norm(f"{name}.norm_{norm}", f)


def _conv(name: str, inside: int, out: int, size: int = 3) -> Shapes:
    yield f"{name}.weight", (out, inside, size, size)
    yield f"{name}.bias", (out,)


def _three(name: str, sizes: tuple[int, ...]) -> Shapes:
    for k in range(3):
        yield from _conv(f"{name}.{2 * k}", sizes[k], sizes[k + 1])


def _residuals(name: str, channels: int, depth: int) -> Shapes:
    for n in range(depth):
        yield from _conv(f"{name}.{n}.body.0", channels, channels)
        yield from _conv(f"{name}.{n}.body.2", channels, channels)


def _norm(name: str, channels: int) -> Shapes:
    yield f"{name}.norm.weight", (channels,)
    yield f"{name}.norm.bias", (channels,)


def _feed_forward(name: str, channels: int) -> Shapes:
    yield f"{name}.body.0.weight", (4 * channels, 2 * channels, 1, 1)
    yield f"{name}.body.2.weight", (channels, 4 * channels, 1, 1)
