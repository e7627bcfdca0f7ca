"""The networks of `tcm` and `tcm-auxt`: their sizes, and the names and shapes of their tensors.

Liu, Sun, Katto, "Learned Image Compression with Mixed Transformer-CNN Architectures" (CVPR 2023);
Li et al., "On Disentangled Training for Nonlinear Transform in Learned Image Compression"
(ICLR 2025). Names are those of the authors' checkpoints. Nothing here needs PyTorch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from mroi.codecs import fields
from mroi.errors import CodecError

__all__ = ["DECODED", "Config", "tensors"]

Shapes = Iterator[tuple[str, tuple[int, ...]]]

DECODED = ("h_mean_s.", "h_scale_s.", "atten_", "cc_", "lrp_", "g_s.", "AuxT_dec.", "tables.")
"""What the names of tensors begin with that a decoder needs; others are the encoder's."""


@dataclass(frozen=True, slots=True)
class Config:
    """Sizes of a network.

    Attributes
    ----------
    width : int
        Channels of each half of a block: N.
    latent : int
        Channels of what is coded: M.
    hyper : int
        Channels of the hyperprior.
    slices : int
        Parts of the latent that are coded one after the other.
    support : int
        How many of the parts before it each part sees.
    window, hyper_window : int
        Rows and columns of the windows of attention.
    heads : tuple of 6 int
        Channels of a head at each resolution, from the picture to the latent and back.
    hyper_head, attention_head : int
        Channels of a head of the hyperprior, and of the attention in front of the parameters.
    attention : int
        Channels of that attention.
    depths : tuple of 6 int
        Blocks at each resolution.
    context : tuple of 2 int
        Channels between the convolutions that give means, scales and corrections.
    """

    width: int = 64
    latent: int = 320
    hyper: int = 192
    slices: int = 5
    support: int = 5
    window: int = 8
    hyper_window: int = 4
    heads: tuple[int, ...] = (8, 16, 32, 32, 16, 8)
    hyper_head: int = 32
    attention_head: int = 16
    attention: int = 128
    depths: tuple[int, ...] = (2, 2, 2, 2, 2, 2)
    context: tuple[int, ...] = (224, 128)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            values = value if isinstance(value, tuple) else (value,)
            for number in values:
                fields.integer(f"model: {field.name}", number, 1, _MOST.get(field.name, 4096))
        self._check_sums()

    def _check_sums(self) -> None:
        lengths = len(self.heads), len(self.depths), len(self.context)
        heads = {*self.heads, self.hyper_head}
        if lengths != (6, 6, 2):
            raise CodecError("model: heads and depths are of 6 resolutions, context has 2", "CDC-6")
        if any(self.width % head for head in heads) or self.attention % self.attention_head:
            raise CodecError("model: channels are no multiple of those of a head", "CDC-6")
        if self.latent % self.slices or self.attention % 2 or self.support > self.slices:
            raise CodecError("model: the latent does not fall into its slices", "CDC-6")
        if self.window % 2 or self.hyper_window % 2 or self.multiple > 512:
            raise CodecError("model: a window is odd, or larger than 32", "CDC-6")

    @property
    def multiple(self) -> int:
        """Rows and columns of a picture are a multiple of this."""
        return max(16 * self.window, 32 * self.hyper_window, 64)

    @property
    def part(self) -> int:
        """Channels of a part of the latent."""
        return self.latent // self.slices

    def supported(self, number: int) -> int:
        """Return how many channels the parameters of part `number` are computed from."""
        return self.latent + self.part * min(number, self.support)

    def corrected(self, number: int) -> int:
        """Return how many channels the correction of part `number` is computed from."""
        return self.latent + self.part * min(number + 1, self.support + 1)

    @classmethod
    def from_json(cls, record: Mapping[str, object]) -> Self:
        """Return what `to_json` gave; raises `CodecError` (rule CDC-6)."""
        names = {field.name for field in dataclasses.fields(cls)}
        if set(record) != names:
            raise CodecError(f"model: its sizes are {sorted(record)}, not {sorted(names)}", "CDC-6")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in record.items()
        }
        kinds = {field.name: isinstance(field.default, tuple) for field in dataclasses.fields(cls)}
        if any(isinstance(value, tuple) != kinds[name] for name, value in values.items()):
            raise CodecError("model: a size is a list, or a list is none", "CDC-6")
        return cls(**values)

    def to_json(self) -> dict[str, object]:
        """Return the sizes by name."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }


_MOST = {"slices": 64, "support": 64, "window": 32, "hyper_window": 16, "depths": 16, "width": 1024}


def tensors(config: Config, *, auxiliary: bool) -> dict[str, tuple[int, ...]]:
    """Return the shape of every trained tensor by name, without those of the hyperprior's density.

    Parameters
    ----------
    config : Config
        Sizes of the network.
    auxiliary : bool
        Whether it has the shortcuts of AuxT.
    """
    found = dict(_transforms(config))
    found.update(_entropy(config))
    if auxiliary:
        found.update(_shortcuts(config))
    return found


def _transforms(c: Config) -> Shapes:
    wide = 2 * c.width
    ins, outs = (3, wide, wide), (c.latent, wide, wide)
    for k in range(3):
        at = sum(c.depths[:k]) + k
        yield from _down(f"g_a.{at}", ins[k], wide)
        for n in range(c.depths[k]):
            yield from _block(f"g_a.{at + 1 + n}", c.width, c.heads[k], c.window)
        at = sum(c.depths[3 : 3 + k]) + k
        yield from _up(f"g_s.{at}", outs[k], wide)
        for n in range(c.depths[3 + k]):
            yield from _block(f"g_s.{at + 1 + n}", c.width, c.heads[3 + k], c.window)
    yield from _conv(f"g_a.{sum(c.depths[:3]) + 3}", wide, c.latent, 3)
    yield from _conv(f"g_s.{sum(c.depths[3:]) + 3}.0", wide, 3 * 4, 3)
    yield from _down("h_a.0", c.latent, wide)
    for n in range(c.depths[0]):
        yield from _block(f"h_a.{1 + n}", c.width, c.hyper_head, c.hyper_window)
    yield from _conv(f"h_a.{1 + c.depths[0]}", wide, c.hyper, 3)
    for name in ("h_mean_s", "h_scale_s"):
        yield from _up(f"{name}.0", c.hyper, wide)
        for n in range(c.depths[3]):
            yield from _block(f"{name}.{1 + n}", c.width, c.hyper_head, c.hyper_window)
        yield from _conv(f"{name}.{1 + c.depths[3]}.0", wide, 4 * c.latent, 3)


def _entropy(c: Config) -> Shapes:
    for k in range(c.slices):
        for kind in ("mean", "scale"):
            yield from _attention(f"atten_{kind}.{k}.0", c, c.supported(k))
            yield from _context(f"cc_{kind}_transforms.{k}", c, c.supported(k))
        yield from _context(f"lrp_transforms.{k}", c, c.corrected(k))


def _shortcuts(c: Config) -> Shapes:
    wide = 2 * c.width
    for k, (inside, out) in enumerate(((3, wide), (wide, wide), (wide, wide), (wide, c.latent))):
        yield f"AuxT_enc.{k}.scaling_factors", (1, 1, 4 * inside)
        for band in ("ll", "lh", "hl", "hh"):
            yield f"AuxT_enc.{k}.dwt.w_{band}", (1, 1, 2, 2)
        yield from _linear(f"AuxT_enc.{k}.OLP.linear", 4 * inside, out)
    for k, (inside, out) in enumerate(((c.latent, wide), (wide, wide), (wide, wide), (wide, 3))):
        yield f"AuxT_dec.{k}.scaling_factors", (1, 1, 4 * out)
        yield f"AuxT_dec.{k}.idwt.filters", (4, 1, 2, 2)
        yield from _linear(f"AuxT_dec.{k}.OLP.linear", inside, 4 * out)


def _conv(name: str, inside: int, out: int, size: int) -> Shapes:
    yield f"{name}.weight", (out, inside, size, size)
    yield f"{name}.bias", (out,)


def _linear(name: str, inside: int, out: int) -> Shapes:
    yield f"{name}.weight", (out, inside)
    yield f"{name}.bias", (out,)


def _norm(name: str, channels: int) -> Shapes:
    yield f"{name}.weight", (channels,)
    yield f"{name}.bias", (channels,)


def _gdn(name: str, channels: int) -> Shapes:
    yield f"{name}.beta", (channels,)
    yield f"{name}.gamma", (channels, channels)


def _down(name: str, inside: int, out: int) -> Shapes:
    yield from _conv(f"{name}.conv1", inside, out, 3)
    yield from _conv(f"{name}.conv2", out, out, 3)
    yield from _gdn(f"{name}.gdn", out)
    yield from _conv(f"{name}.skip", inside, out, 1)


def _up(name: str, inside: int, out: int) -> Shapes:
    yield from _conv(f"{name}.subpel_conv.0", inside, 4 * out, 3)
    yield from _conv(f"{name}.conv", out, out, 3)
    yield from _gdn(f"{name}.igdn", out)
    yield from _conv(f"{name}.upsample.0", inside, 4 * out, 3)


def _transformer(name: str, channels: int, head: int, window: int) -> Shapes:
    span = 2 * window - 1
    yield from _norm(f"{name}.ln1", channels)
    yield f"{name}.msa.relative_position_params", (channels // head, span, span)
    yield from _linear(f"{name}.msa.embedding_layer", channels, 3 * channels)
    yield from _linear(f"{name}.msa.linear", channels, channels)
    yield from _norm(f"{name}.ln2", channels)
    yield from _linear(f"{name}.mlp.0", channels, 4 * channels)
    yield from _linear(f"{name}.mlp.2", 4 * channels, channels)


def _block(name: str, width: int, head: int, window: int) -> Shapes:
    yield from _transformer(f"{name}.trans_block", width, head, window)
    yield from _conv(f"{name}.conv1_1", 2 * width, 2 * width, 1)
    yield from _conv(f"{name}.conv1_2", 2 * width, 2 * width, 1)
    yield from _conv(f"{name}.conv_block.conv1", width, width, 3)
    yield from _conv(f"{name}.conv_block.conv2", width, width, 3)


def _attention(name: str, c: Config, channels: int) -> Shapes:
    for branch in ("a", "b"):
        for k in range(3):
            unit = f"{name}.conv_{branch}.{k}.conv"
            yield from _conv(f"{unit}.0", c.attention, c.attention // 2, 1)
            yield from _conv(f"{unit}.2", c.attention // 2, c.attention // 2, 3)
            yield from _conv(f"{unit}.4", c.attention // 2, c.attention, 1)
    yield from _conv(f"{name}.conv_b.3", c.attention, c.attention, 1)
    for k in (1, 2):
        block = f"{name}.non_local_block.block_{k}"
        yield from _transformer(block, c.attention, c.attention_head, c.window)
    yield from _conv(f"{name}.in_conv", channels, c.attention, 1)
    yield from _conv(f"{name}.out_conv", c.attention, channels, 1)


def _context(name: str, c: Config, channels: int) -> Shapes:
    sizes = (channels, *c.context, c.part)
    for k in range(3):
        yield from _conv(f"{name}.{2 * k}", sizes[k], sizes[k + 1], 3)
