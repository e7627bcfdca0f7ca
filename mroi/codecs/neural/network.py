"""What the networks of `tcm` and `tcm-auxt` compute, from tensors by name.

`shapes` says what the tensors are. Pictures are (n, channels, rows, columns). Everything is as the
authors' programs compute it, up to rounding; the parts are named as in their papers. All of it can
be differentiated, for training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (its usual name)
from typing_extensions import override

from mroi.codecs.neural.shapes import Config

__all__ = ["LEAST", "PEDESTAL", "Network", "Scope", "at_least"]

PEDESTAL = 2.0**-36
"""What the squares that divisive normalisation uses are moved by (CompressAI)."""

LEAST = 1e-6
"""Of what it adds to."""

_SLOPE = 0.01  # of LeakyReLU


class Scope:
    """Tensors whose names begin with `prefix`, by the rest of their names."""

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str = "") -> None:
        self._tensors, self._prefix = tensors, prefix

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[self._prefix + name]

    def __truediv__(self, part: object) -> Scope:
        return Scope(self._tensors, f"{self._prefix}{part}.")

    @property
    def dtype(self) -> torch.dtype:
        """Type of all of them."""
        return next(iter(self._tensors.values())).dtype

    @property
    def device(self) -> torch.device:
        """Where all of them are."""
        return next(iter(self._tensors.values())).device


class Network:
    """One network.

    Parameters
    ----------
    config : Config
        Its sizes.
    tensors : mapping of str to Tensor
        All those that `shapes.tensors` names, or those of the transforms that are used; of one
        type, in which everything is computed.
    auxiliary : bool
        Whether it has the shortcuts of AuxT.
    """

    def __init__(
        self, config: Config, tensors: Mapping[str, Tensor], *, auxiliary: bool = False
    ) -> None:
        self._config, self._scope, self._auxiliary = config, Scope(tensors), auxiliary

    @property
    def dtype(self) -> torch.dtype:
        """Type in which it computes."""
        return self._scope.dtype

    @property
    def device(self) -> torch.device:
        """Where it computes: what it is given must be there."""
        return self._scope.device

    def analyse(self, picture: Tensor) -> Tensor:
        """Return the latent of a picture of 3 channels, rows and columns a 16th."""
        c, scope, at = self._config, self._scope / "g_a", 0
        x = aux = picture
        for k in range(3):
            x = _down(x, scope / at)
            if self._auxiliary:
                aux = _analysis_shortcut(aux, self._scope / "AuxT_enc" / k)
                x = x + aux
            x = _blocks(x, scope, at + 1, c.depths[k], c.heads[k], c.window)
            at += 1 + c.depths[k]
        x = _conv(x, scope / at, 2)
        return x + _analysis_shortcut(aux, self._scope / "AuxT_enc" / 3) if self._auxiliary else x

    def analyse_hyper(self, latent: Tensor) -> Tensor:
        """Return the hyperprior's latent, rows and columns a quarter."""
        c, scope = self._config, self._scope / "h_a"
        x = _blocks(_down(latent, scope / 0), scope, 1, c.depths[0], c.hyper_head, c.hyper_window)
        return _conv(x, scope / (1 + c.depths[0]), 2)

    def synthesise_hyper(self, hyper: Tensor) -> tuple[Tensor, Tensor]:
        """Return what means and scales are computed from, for all parts of the latent."""
        c, found = self._config, []
        for name in ("h_mean_s", "h_scale_s"):
            scope, depth = self._scope / name, c.depths[3]
            x = _blocks(_up(hyper, scope / 0), scope, 1, depth, c.hyper_head, c.hyper_window)
            found.append(_subpixel(x, scope / (1 + depth)))
        return found[0], found[1]

    def parameters(
        self, k: int, hyper: tuple[Tensor, Tensor], parts: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return means and scales of part `k`, and what `correct` wants of it.

        Parameters
        ----------
        k : int
            Number of the part.
        hyper : pair of Tensor
            From `synthesise_hyper`.
        parts : sequence of Tensor
            All parts before it, as decoded.
        """
        c, support, found = self._config, [], []
        for kind, base in zip(("mean", "scale"), hyper, strict=True):
            joined = torch.cat([base, *parts[: c.support]], 1)
            attended = _attend(joined, self._scope / f"atten_{kind}" / k / 0, c)
            support.append(attended)
            found.append(_context(attended, self._scope / f"cc_{kind}_transforms" / k))
        return found[0], found[1], support[0]

    def correct(self, k: int, support: Tensor, part: Tensor) -> Tensor:
        """Return part `k` with the rounding error taken off that can be foreseen."""
        scope = self._scope / "lrp_transforms" / k
        return part + 0.5 * torch.tanh(_context(torch.cat([support, part], 1), scope))

    def synthesise(self, latent: Tensor) -> Tensor:
        """Return the picture of a latent."""
        c, scope, at = self._config, self._scope / "g_s", 0
        x = aux = latent
        for k in range(3):
            x = _up(x, scope / at)
            x = _blocks(x, scope, at + 1, c.depths[3 + k], c.heads[3 + k], c.window)
            if self._auxiliary:
                aux = _synthesis_shortcut(aux, self._scope / "AuxT_dec" / k)
                x = x + aux
            at += 1 + c.depths[3 + k]
        x = _subpixel(x, scope / at)
        return x + _synthesis_shortcut(aux, self._scope / "AuxT_dec" / 3) if self._auxiliary else x


class _AtLeast(torch.autograd.Function):
    """A lower bound that gradients cross upwards: what lies below it can come back."""

    @override
    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        """Return `x`, or `bound` where it is less."""
        ctx.save_for_backward(x >= bound)
        return x.clamp_min(bound)

    @override
    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Pass gradients on that raise `x`, and all of those above the bound."""
        (above,) = ctx.saved_tensors
        return gradients[0] * (above | (gradients[0] < 0)), None


def at_least(x: Tensor, bound: float) -> Tensor:
    """Return `x`, or `bound` where it is less, with the gradients of CompressAI's lower bound."""
    if not torch.is_grad_enabled():
        return x.clamp_min(bound)
    bounded: Tensor = _AtLeast.apply(x, bound)  # type: ignore[no-untyped-call]
    return bounded


# -- convolutions ----------------------------------------------------------------------------------


def _conv(x: Tensor, scope: Scope, stride: int = 1) -> Tensor:
    weight = scope["weight"]
    return F.conv2d(x, weight, scope["bias"], stride, weight.shape[-1] // 2)


def _subpixel(x: Tensor, scope: Scope) -> Tensor:
    return F.pixel_shuffle(_conv(x, scope / 0), 2)


def _divisive(x: Tensor, scope: Scope) -> Tensor:
    """Return the sum that generalised divisive normalisation divides by, squared."""
    beta = at_least(scope["beta"], (LEAST + PEDESTAL) ** 0.5) ** 2 - PEDESTAL
    gamma = at_least(scope["gamma"], PEDESTAL**0.5) ** 2 - PEDESTAL
    return F.conv2d(x * x, gamma[:, :, None, None], beta)


def _down(x: Tensor, scope: Scope) -> Tensor:
    y = F.leaky_relu(_conv(x, scope / "conv1", 2), _SLOPE)
    y = _conv(y, scope / "conv2")
    return y * torch.rsqrt(_divisive(y, scope / "gdn")) + _conv(x, scope / "skip", 2)


def _up(x: Tensor, scope: Scope) -> Tensor:
    y = F.leaky_relu(_subpixel(x, scope / "subpel_conv"), _SLOPE)
    y = _conv(y, scope / "conv")
    return y * torch.sqrt(_divisive(y, scope / "igdn")) + _subpixel(x, scope / "upsample")


def _context(x: Tensor, scope: Scope) -> Tensor:
    x = F.gelu(_conv(x, scope / 0))
    return _conv(F.gelu(_conv(x, scope / 2)), scope / 4)


# -- blocks of attention and convolution -----------------------------------------------------------


def _blocks(x: Tensor, scope: Scope, at: int, depth: int, head: int, window: int) -> Tensor:
    for n in range(depth):
        x = _block(x, scope / (at + n), head, window, shifted=n % 2 == 1)
    return x


def _block(x: Tensor, scope: Scope, head: int, window: int, *, shifted: bool) -> Tensor:
    convolved, transformed = _conv(x, scope / "conv1_1").chunk(2, 1)
    inner = scope / "conv_block"
    y = F.leaky_relu(_conv(convolved, inner / "conv1"), _SLOPE)
    y = F.leaky_relu(_conv(y, inner / "conv2"), _SLOPE) + convolved
    transformed = _transform(transformed, scope / "trans_block", head, window, shifted=shifted)
    return x + _conv(torch.cat([y + convolved, transformed], 1), scope / "conv1_2")


def _transform(x: Tensor, scope: Scope, head: int, window: int, *, shifted: bool) -> Tensor:
    x = x.permute(0, 2, 3, 1)
    x = x + _self_attention(_norm(x, scope / "ln1"), scope / "msa", head, window, shifted=shifted)
    mlp = scope / "mlp"
    x = x + _linear(F.gelu(_linear(_norm(x, scope / "ln2"), mlp / 0)), mlp / 2)
    return x.permute(0, 3, 1, 2)


def _norm(x: Tensor, scope: Scope) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], scope["weight"], scope["bias"], 1e-5)


def _linear(x: Tensor, scope: Scope) -> Tensor:
    return F.linear(x, scope["weight"], scope["bias"])


def _self_attention(x: Tensor, scope: Scope, head: int, window: int, *, shifted: bool) -> Tensor:
    """Return attention of each voxel to those in its window: (n, rows, columns, channels)."""
    count, rows, columns, channels = x.shape
    down, across, places = rows // window, columns // window, window * window
    half = window // 2
    if shifted:
        x = torch.roll(x, (-half, -half), (1, 2))
    x = x.reshape(count, down, window, across, window, channels).transpose(2, 3)
    x = _linear(x.reshape(-1, places, channels), scope / "embedding_layer")
    q, k, v = x.reshape(-1, places, 3, channels // head, head).permute(2, 0, 3, 1, 4)
    similar = q @ k.transpose(-1, -2) * head**-0.5 + _positions(scope, window)
    if shifted:
        apart = _apart(down, across, window, x.device).repeat(count, 1, 1)
        similar = similar.masked_fill(apart[:, None], float("-inf"))
    y = (similar.softmax(-1) @ v).transpose(1, 2).reshape(-1, places, channels)
    y = _linear(y, scope / "linear").reshape(count, down, across, window, window, channels)
    y = y.transpose(2, 3).reshape(count, rows, columns, channels)
    return torch.roll(y, (half, half), (1, 2)) if shifted else y


def _positions(scope: Scope, window: int) -> Tensor:
    """Return what each head adds for a place that looks at another: (heads, places, places)."""
    bias = scope["relative_position_params"]
    place = _places(window, bias.device)
    apart = place[:, None] - place[None] + window - 1
    return bias[:, apart[..., 0], apart[..., 1]]


def _places(window: int, device: torch.device) -> Tensor:
    """Return row and column of each place of a window."""
    along = torch.arange(window, device=device)
    return torch.cartesian_prod(along, along)


def _apart(down: int, across: int, window: int, device: torch.device) -> Tensor:
    """Return which places only rolling brought together: (windows, places, places)."""
    before = _places(window, device) < window - window // 2
    differs = before[:, None] != before[None]
    shape = (down, across, window * window, window * window)
    mask = torch.zeros(shape, dtype=torch.bool, device=device)
    mask[-1] |= differs[..., 0]
    mask[:, -1] |= differs[..., 1]
    return mask.flatten(0, 1)


def _attend(x: Tensor, scope: Scope, c: Config) -> Tensor:
    x = _conv(x, scope / "in_conv")
    z = x
    for k in (1, 2):
        block = scope / "non_local_block" / f"block_{k}"
        z = _transform(z, block, c.attention_head, c.window, shifted=k == 2)
    a, b = x, z
    for k in range(3):
        a = _residual(a, scope / "conv_a" / k / "conv")
        b = _residual(b, scope / "conv_b" / k / "conv")
    b = _conv(b, scope / "conv_b" / 3)
    return _conv(a * torch.sigmoid(b) + x, scope / "out_conv")


def _residual(x: Tensor, scope: Scope) -> Tensor:
    y = F.relu(_conv(x, scope / 0))
    y = F.relu(_conv(y, scope / 2))
    return F.relu(_conv(y, scope / 4) + x)


# -- shortcuts of AuxT -----------------------------------------------------------------------------


def _analysis_shortcut(x: Tensor, scope: Scope) -> Tensor:
    """Return a wavelet's bands, scaled and mixed: rows and columns halved."""
    channels = x.shape[1]
    bands = [
        F.conv2d(x, (scope / "dwt")[f"w_{band}"].expand(channels, 1, 2, 2), None, 2, 0, 1, channels)
        for band in ("ll", "lh", "hl", "hh")
    ]
    y = torch.cat(bands, 1).permute(0, 2, 3, 1) * torch.exp(scope["scaling_factors"])
    return _linear(y, scope / "OLP" / "linear").permute(0, 3, 1, 2)


def _synthesis_shortcut(x: Tensor, scope: Scope) -> Tensor:
    """Return what bands, mixed and scaled, are the wavelet transform of: the reverse."""
    y = _linear(x.permute(0, 2, 3, 1), scope / "OLP" / "linear")
    y = (y / torch.exp(scope["scaling_factors"])).permute(0, 3, 1, 2)
    count, bands, rows, columns = y.shape
    y = y.reshape(count, 4, bands // 4, rows, columns).transpose(1, 2)
    y = y.reshape(-1, 4, rows, columns)
    y = F.conv_transpose2d(y, (scope / "idwt")["filters"], None, 2)
    return y.reshape(count, bands // 4, 2 * rows, 2 * columns)
