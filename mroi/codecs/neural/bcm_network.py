"""What the network of `bcm-net` computes, from tensors by name, and how well it foresees voxels.

`bcm_shapes` says what the tensors are. Slices are (n, 1, rows, columns), of even rows and columns;
what is computed from them has half of both. Everything is as the authors' program computes it, up
to rounding.

To train one: make tensors of `initial` require gradients, and minimise `bits` of a `Network` of
them. `checkpoint.bcm_model` makes a model of what was trained, `models.save` writes its file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (its usual name)

from mroi.codecs.neural.bcm_shapes import Config, tensors
from mroi.codecs.neural.network import Scope

__all__ = ["CORNERS", "LEAST_LOG_SCALE", "Network", "bits", "initial"]

CORNERS = ((0, 0), (1, 1), (0, 1), (1, 0))
"""Row and column of the first voxel of each quarter of a slice, in the order of coding."""

LEAST_LOG_SCALE = -7.0

_SLOPE = 0.01  # of LeakyReLU
_PLACES = 1 << 21  # pairs of them that are compared at once: 16 MiB
_WITHIN = "symmetry_based_intra_slice_ctx_generation"
_BETWEEN = "bidirectional_inter_slice_ctx_generation"
_THETA = f"i2cg.{_WITHIN}.affine_transform.theta_estimator"


class Network:
    """One network.

    Parameters
    ----------
    config : Config
        Its sizes.
    tensors : mapping of str to Tensor
        All those that `bcm_shapes.tensors` names, of one type, in which everything is computed.
    """

    def __init__(self, config: Config, tensors: Mapping[str, Tensor]) -> None:
        self.config, self._scope = config, Scope(tensors)

    @property
    def dtype(self) -> torch.dtype:
        """Type in which it computes."""
        return self._scope.dtype

    def reference(self, slices: Tensor, *, backward: bool) -> Tensor:
        """Return what others take from slices that they refer to: (n, heads, size, size).

        Parameters
        ----------
        slices : Tensor
            Voxels from 0 to 1.
        backward : bool
            Whether they come after those that refer to them; one that has no slice after it refers
            to the one before it in both ways.
        """
        name, number = ("backward", 2) if backward else ("forward", 1)
        x = _extract(slices, self._scope / f"feats_extract_{name}_ref" / "net", self.config.depth)
        x = _residuals(x, self._scope / "i2cg" / f"{name}_res_blocks", self.config.depth)
        scope = self._scope / "i2cg" / _BETWEEN
        attention = scope / "bidirectional_cross_attn"
        x = _norm(x, scope / f"norm_before_attn_ref_{number}")
        keys = self._heads(_mix(x, attention / f"key_map_{number}")).softmax(-1)
        values = self._heads(_mix(x, attention / f"value_map_{number}"))
        return keys @ values.transpose(-1, -2)

    def prior(self, base: Tensor, references: tuple[Tensor, Tensor] | None) -> Tensor:
        """Return what the distributions of all quarters are computed from.

        Parameters
        ----------
        base : Tensor
            Slices of the base layer, from 0 to 1.
        references : pair of Tensor, or None
            What `reference` gave, before and after; None for slices that refer to none.
        """
        c, scope = self.config, self._scope / "i2cg"
        x = _extract(base, self._scope / "feats_extract_lossy_rec" / "net", c.depth)
        x = _residuals(x, scope / "lossy_res_blocks", c.depth)
        y = self._within(x, scope / _WITHIN)
        if references is None:
            y = _conv(y, scope / "ctx_fusion_head_wo_ref" / 0)
        else:
            y = torch.cat([y, self._between(x, references, scope / _BETWEEN)], 1)
            y = _conv(y, scope / "ctx_fusion_head_with_ref" / 0)
        return _residuals(F.leaky_relu(y, _SLOPE), scope / "ctx_fusion_body", c.depth)

    def mixtures(self, prior: Tensor, residues: Sequence[Tensor]) -> Tensor:
        """Return the distributions of the next quarter of the residues: (n, 3 logistics, r, c).

        Logits, means and logarithms of scales, the latter not yet cut off at `LEAST_LOG_SCALE`.

        Parameters
        ----------
        prior : Tensor
            What `prior` gave.
        residues : sequence of 0 to 3 Tensor
            The quarters before it, (n, 1, r, c), in units of the voxels.
        """
        k, scope = len(residues), self._scope / "entropy_models"
        if k:
            seen = torch.cat([*residues], 1)
            seen = _three(seen, scope / "auto_ctx_extraction" / (k - 1) / "body")
            prior = torch.cat([prior, seen], 1)
        return _three(prior, scope / "params_estimator" / k / "body")

    def _heads(self, x: Tensor) -> Tensor:
        """Return channels head by head: (n, heads, size, places)."""
        return x.reshape(len(x), self.config.heads, -1, math.prod(x.shape[2:]))

    def _within(self, x: Tensor, scope: Scope) -> Tensor:
        """Return the context of a slice in itself, along its axis of symmetry."""
        fusion, crossed = scope / "local_fusion", scope / "criss_cross_self_attn"
        near = [_dilated(x, fusion / "atrous_convs" / k, 2**k) for k in range(3)]
        y = x + _mix(torch.cat(near, 1), fusion / "output_conv", bias=True)
        there, back = _alignment(y, scope / "affine_transform")
        y = _sampled(y, there)
        seen = self._criss_cross(_norm(y, scope / "norm_before_attn"), crossed)
        y = _feed_forward(y, _norm(seen, scope / "norm_after_attn"), scope / "feed_forward")
        return x + _residuals(_sampled(y, back), scope / "bottom", 2)

    def _criss_cross(self, x: Tensor, scope: Scope) -> Tensor:
        """Return attention of each place to its column, and to its row."""
        n, _, rows, columns = x.shape
        q, k, v = (
            self._heads(_mix(x, scope / f"{part}_map")).view(
                n, self.config.heads, -1, rows, columns
            )
            for part in ("query", "key", "value")
        )
        found = []
        for order in ((0, 1, 4, 3, 2), (0, 1, 3, 4, 2)):  # columns of places, rows of places
            a, b, c = (part.permute(order) for part in (q, k, v))
            y = _attended(a, b, c)
            back = [order.index(axis) for axis in range(5)]
            found.append(y.permute(back).flatten(1, 2))
        return _mix(torch.cat(found, 1), scope / "out_map")

    def _between(self, x: Tensor, references: tuple[Tensor, Tensor], scope: Scope) -> Tensor:
        """Return the context of a slice in the slices before and after it."""
        attention = scope / "bidirectional_cross_attn"
        y = _mix(_norm(x, scope / "norm_before_attn_x"), attention / "query_map")
        y = self._heads(y).softmax(2)
        y = torch.cat([(context @ y).flatten(1, 2) for context in references], 1)
        y = _mix(y.reshape(x.shape[0], -1, *x.shape[2:]), attention / "out_map")
        return x + _feed_forward(x, _norm(y, scope / "norm_after_attn"), scope / "feed_forward")


# -- how well voxels are foreseen ------------------------------------------------------------------


def bits(
    network: Network, target: Tensor, base: Tensor, references: Sequence[Tensor], top: int
) -> Tensor:
    """Return how many bits the residues of slices take: a scalar that can be differentiated.

    The code itself takes a little more: up to 2^b / 2^24 of probability are for what no network
    foresees.

    Parameters
    ----------
    network : Network
        Which one; of any floating type.
    target : (n, rows, columns) Tensor
        Voxels, integers from 0 to `top`; rows and columns even.
    base : (n, rows, columns) Tensor
        What the lossy base layer made of them.
    references : sequence of 0 to 2 Tensor like `target`
        Slices that are known before: none, the one before, or the one before and the one after.
    top : int
        The largest value, 2**bits - 1.
    """
    dtype = network.dtype
    target, base = target.to(dtype)[:, None], base.to(dtype)[:, None]
    known = [slices.to(dtype)[:, None] / top for slices in references]
    pair = None
    if known:
        pair = (
            network.reference(known[0], backward=False),
            network.reference(known[-1], backward=True),
        )
    prior = network.prior(base / top, pair)
    quarters: list[Tensor] = []
    total = target.new_zeros(())
    for i, j in CORNERS:
        mixtures = network.mixtures(prior, quarters)
        voxels, lossy = target[..., i::2, j::2], base[..., i::2, j::2]
        total = total + _cost(mixtures, voxels, lossy, top)
        quarters.append(voxels - lossy)
    return total / math.log(2)


def _cost(mixtures: Tensor, voxels: Tensor, lossy: Tensor, top: int) -> Tensor:
    """Return the negative log likelihood of voxels; the lowest and the highest have the tails."""
    logits, means, scales = mixtures.chunk(3, 1)
    rate = torch.exp(-scales.clamp_min(LEAST_LOG_SCALE))
    middle = (voxels - lossy - means) * rate
    below, above = middle - rate / 2, middle + rate / 2
    # logistic(b) - logistic(a) = logistic(b) logistic(-a) (1 - exp(a - b))
    log = F.logsigmoid(above) + F.logsigmoid(-below) + torch.log(-torch.expm1(-rate))
    log = torch.where(voxels <= 0, F.logsigmoid(above), log)
    log = torch.where(voxels >= top, F.logsigmoid(-below), log)
    return -torch.logsumexp(logits.log_softmax(1) + log, 1).sum()


def initial(config: Config, seed: int = 0) -> dict[str, Tensor]:
    """Return tensors to begin training with, in float32: uniform, as PyTorch's layers begin.

    Parameters
    ----------
    config : Config
        Sizes of the network.
    seed : int
        Of the random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {}
    bound = 1.0
    for name, shape in tensors(config).items():
        if ".norm_" in name:
            found[name] = torch.full(shape, float(name.endswith("weight")))
            continue
        if len(shape) > 1:
            bound = 1 / math.sqrt(math.prod(shape[1:]))  # of its bias, too, which follows it
        found[name] = (2 * torch.rand(shape, generator=generator) - 1) * bound
    found[f"{_THETA}.weight"] = torch.zeros(6, 12)
    found[f"{_THETA}.bias"] = torch.tensor([1.0, 0, 0, 0, 1, 0])
    return found


# -- layers ----------------------------------------------------------------------------------------


def _conv(x: Tensor, scope: Scope, stride: int = 1) -> Tensor:
    weight, bias = scope["weight"], scope["bias"]
    if torch.is_inference_mode_enabled() and x.dtype is torch.float64 and stride == 1:
        return torch.stack([_convolved(plane, weight, bias) for plane in x])
    return F.conv2d(x, weight, bias, stride, 1)


def _convolved(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return a convolution as nine products of matrices, of (channels, rows, columns).

    In binary64 PyTorch would write out all windows first: nine times the memory, and on one thread
    two to three times the time (64 channels of 128 x 128).
    """
    _, rows, columns = x.shape
    wide = columns + 2  # rows lie one behind the other, so a window is a shift
    flat = F.pad(F.pad(x, (1, 1, 1, 1)).flatten(1), (0, 2))
    found = bias[:, None].expand(-1, rows * wide).clone()
    for i in range(3):
        for j in range(3):
            start = i * wide + j
            found.addmm_(weight[:, :, i, j], flat[:, start : start + rows * wide])
    return found.view(-1, rows, wide)[:, :, :columns]


def _dilated(x: Tensor, scope: Scope, dilation: int) -> Tensor:
    return F.conv2d(x, scope["weight"], scope["bias"], 1, dilation, dilation)


def _mix(x: Tensor, scope: Scope, *, bias: bool = False) -> Tensor:
    return F.conv2d(x, scope["weight"], scope["bias"] if bias else None)


def _three(x: Tensor, scope: Scope) -> Tensor:
    x = F.leaky_relu(_conv(x, scope / 0), _SLOPE)
    return _conv(F.leaky_relu(_conv(x, scope / 2), _SLOPE), scope / 4)


def _residuals(x: Tensor, scope: Scope, depth: int) -> Tensor:
    for n in range(depth):
        body = scope / n / "body"
        x = x + _conv(F.leaky_relu(_conv(x, body / 0), _SLOPE), body / 2)
    return x


def _extract(x: Tensor, scope: Scope, depth: int) -> Tensor:
    x = F.leaky_relu(_conv(x, scope / 0), _SLOPE)
    for k, stride in ((2, 2), (3, 1)):
        x = _conv(x, scope / k / "head", stride)
        x = x + _residuals(x, scope / k / "res_blocks", depth)
        x = _conv(x, scope / k / "tail")
    return _conv(x, scope / 4)


def _norm(x: Tensor, scope: Scope) -> Tensor:
    norm = scope / "norm"
    weight, bias = norm["weight"], norm["bias"]
    return F.layer_norm(x.movedim(1, -1), weight.shape, weight, bias, 1e-5).movedim(-1, 1)


def _attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return attention, all but the last two axes by themselves, a part of them at a time."""
    lines, places = math.prod(q.shape[:-2]), q.shape[-2]
    most = max(1, _PLACES // places**2)
    parts = (torch.split(x.reshape(lines, *x.shape[-2:]), most) for x in (q, k, v))
    found = [(a @ b.transpose(-1, -2)).softmax(-1) @ c for a, b, c in zip(*parts, strict=True)]
    return torch.cat(found).view(v.shape)


def _feed_forward(x: Tensor, seen: Tensor, scope: Scope) -> Tensor:
    x = F.gelu(_mix(torch.cat([x, seen], 1), scope / "body" / 0))
    return _mix(x, scope / "body" / 2)


def _alignment(x: Tensor, scope: Scope) -> tuple[Tensor, Tensor]:
    """Return two maps of places: onto the axis of symmetry, and nearly back: (n, 2, 3)."""
    layers = scope / "downsample_layers"
    for k in range(5):
        x = _conv(x if k == 0 else F.leaky_relu(x, _SLOPE), layers / (2 * k), 2)
    x = F.interpolate(x, (2, 2), mode="nearest").flatten(1)
    estimator = scope / "theta_estimator"
    there = F.linear(x, estimator["weight"], estimator["bias"]).view(-1, 2, 3)
    back = torch.cat([there[:, :, :2].transpose(1, 2), -there[:, :, 2:]], 2)
    return there, back


def _sampled(x: Tensor, place: Tensor) -> Tensor:
    grid = F.affine_grid(place, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, "bilinear", "zeros", align_corners=False)
