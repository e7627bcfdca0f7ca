"""The network of `bcm-net`, written once more: NumPy, one slice, one function a sentence.

From facts about the authors' program, not from `mroi.codecs.neural.bcm_network`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mroi.codecs.neural.bcm_shapes import Config
from tests.codecs.neural_reference import gelu, leaky, norm

Tensors = Mapping[str, np.ndarray]


def conv(x: np.ndarray, w: Tensors, name: str, stride: int = 1, dilation: int = 1) -> np.ndarray:
    """(channels, rows, columns), a tap of the kernel at a time."""
    weight = w[f"{name}.weight"]
    half, (_, rows, columns) = weight.shape[-1] // 2, x.shape
    edge = half * dilation
    padded = np.pad(x, ((0, 0), (edge, edge), (edge, edge)))
    out = np.zeros((len(weight), -(-rows // stride), -(-columns // stride)))
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            part = padded[:, i * dilation :, j * dilation :][:, :rows:stride, :columns:stride]
            out += np.einsum("oc,chw->ohw", weight[:, :, i, j], part)
    return out + w[f"{name}.bias"][:, None, None] if f"{name}.bias" in w else out


def residual(x: np.ndarray, w: Tensors, name: str, depth: int) -> np.ndarray:
    for n in range(depth):
        x = x + conv(leaky(conv(x, w, f"{name}.{n}.body.0")), w, f"{name}.{n}.body.2")
    return x


def three(x: np.ndarray, w: Tensors, name: str) -> np.ndarray:
    x = leaky(conv(x, w, f"{name}.body.0"))
    return conv(leaky(conv(x, w, f"{name}.body.2")), w, f"{name}.body.4")


def extract(x: np.ndarray, w: Tensors, source: str, c: Config) -> np.ndarray:
    name = f"feats_extract_{source}.net"
    x = leaky(conv(x[None], w, f"{name}.0"))
    for k, stride in ((2, 2), (3, 1)):
        x = conv(x, w, f"{name}.{k}.head", stride)
        x = conv(x + residual(x, w, f"{name}.{k}.res_blocks", c.depth), w, f"{name}.{k}.tail")
    return conv(x, w, f"{name}.4")


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def normed(x: np.ndarray, w: Tensors, name: str) -> np.ndarray:
    return norm(x.transpose(1, 2, 0), w, f"{name}.norm").transpose(2, 0, 1)


def forward(x: np.ndarray, seen: np.ndarray, w: Tensors, name: str) -> np.ndarray:
    hidden = gelu(conv(np.concatenate([x, seen]), w, f"{name}.feed_forward.body.0"))
    return conv(hidden, w, f"{name}.feed_forward.body.2")


def sample(x: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Bilinear, zeros beyond the edge; the corners of the slice are -1 and 1."""
    channels, rows, columns = x.shape
    out = np.zeros_like(x)

    def at(i: int, j: int) -> np.ndarray:
        inside = 0 <= i < rows and 0 <= j < columns
        return x[:, i, j] if inside else np.zeros(channels)

    for i in range(rows):
        for j in range(columns):
            u, v = place @ [(2 * j + 1) / columns - 1, (2 * i + 1) / rows - 1, 1]
            u, v = ((u + 1) * columns - 1) / 2, ((v + 1) * rows - 1) / 2
            left, above = int(np.floor(u)), int(np.floor(v))
            fu, fv = u - left, v - above
            top = (1 - fu) * at(above, left) + fu * at(above, left + 1)
            low = (1 - fu) * at(above + 1, left) + fu * at(above + 1, left + 1)
            out[:, i, j] = (1 - fv) * top + fv * low
    return out


def criss_cross(x: np.ndarray, w: Tensors, name: str, heads: int) -> np.ndarray:
    q, k, v = (
        conv(x, w, f"{name}.{part}_map").reshape(heads, -1, *x.shape[1:])
        for part in ("query", "key", "value")
    )
    vertical = softmax(np.einsum("hcij,hclj->hijl", q, k), 3)  # l: rows of the same column
    horizontal = softmax(np.einsum("hcij,hcim->hijm", q, k), 3)
    found = np.einsum("hijl,hclj->hcij", vertical, v), np.einsum("hijm,hcim->hcij", horizontal, v)
    both = np.concatenate([part.reshape(-1, *x.shape[1:]) for part in found])
    return conv(both, w, f"{name}.out_map")


def within(x: np.ndarray, w: Tensors, heads: int) -> np.ndarray:
    name = "i2cg.symmetry_based_intra_slice_ctx_generation"
    near = [conv(x, w, f"{name}.local_fusion.atrous_convs.{k}", 1, 2**k) for k in range(3)]
    y = x + conv(np.concatenate(near), w, f"{name}.local_fusion.output_conv")
    small = y
    for k in range(5):
        small = conv(small, w, f"{name}.affine_transform.downsample_layers.{2 * k}", 2)
        small = leaky(small) if k < 4 else small
    rows, columns = small.shape[1:]
    nearest = [[small[:, i * rows // 2, j * columns // 2] for j in range(2)] for i in range(2)]
    twelve = np.array(nearest).transpose(2, 0, 1).ravel()
    estimator = f"{name}.affine_transform.theta_estimator"
    theta = (w[f"{estimator}.weight"] @ twelve + w[f"{estimator}.bias"]).reshape(2, 3)
    back = np.concatenate([theta[:, :2].T, -theta[:, 2:]], 1)
    y = sample(y, theta)
    seen = criss_cross(
        normed(y, w, f"{name}.norm_before_attn"), w, f"{name}.criss_cross_self_attn", heads
    )
    y = forward(y, normed(seen, w, f"{name}.norm_after_attn"), w, name)
    return x + residual(sample(y, back), w, f"{name}.bottom", 2)


def between(x: np.ndarray, references: list[np.ndarray], w: Tensors, heads: int) -> np.ndarray:
    name = "i2cg.bidirectional_inter_slice_ctx_generation"
    attention = f"{name}.bidirectional_cross_attn"

    def split(y: np.ndarray) -> np.ndarray:
        return y.reshape(heads, len(y) // heads, -1)

    q = softmax(
        split(conv(normed(x, w, f"{name}.norm_before_attn_x"), w, f"{attention}.query_map")), 1
    )
    found = []
    for number, reference in enumerate(references, 1):
        y = normed(reference, w, f"{name}.norm_before_attn_ref_{number}")
        k = softmax(split(conv(y, w, f"{attention}.key_map_{number}")), 2)
        v = split(conv(y, w, f"{attention}.value_map_{number}"))
        context = np.einsum("hcn,hdn->hcd", k, v)
        found.append(np.einsum("hcd,hdn->hcn", context, q).reshape(x.shape))
    y = conv(np.concatenate(found), w, f"{attention}.out_map")
    return x + forward(x, normed(y, w, f"{name}.norm_after_attn"), w, name)


def prior(base: np.ndarray, slices: list[np.ndarray], w: Tensors, c: Config) -> np.ndarray:
    """What the distributions are computed from; `slices` are those before and after, or none."""
    x = residual(extract(base, w, "lossy_rec", c), w, "i2cg.lossy_res_blocks", c.depth)
    y = within(x, w, c.heads)
    if slices:
        references = [
            residual(extract(plane, w, f"{way}_ref", c), w, f"i2cg.{way}_res_blocks", c.depth)
            for way, plane in zip(("forward", "backward"), slices, strict=True)
        ]
        y = np.concatenate([y, between(x, references, w, c.heads)])
    head = "with" if slices else "wo"
    y = leaky(conv(y, w, f"i2cg.ctx_fusion_head_{head}_ref.0"))
    return residual(y, w, "i2cg.ctx_fusion_body", c.depth)


def mixtures(context: np.ndarray, quarters: list[np.ndarray], w: Tensors) -> np.ndarray:
    """Logits, means and logarithms of scales of the next quarter."""
    k = len(quarters)
    if k:
        seen = three(np.stack(quarters), w, f"entropy_models.auto_ctx_extraction.{k - 1}")
        context = np.concatenate([context, seen])
    return three(context, w, f"entropy_models.params_estimator.{k}")
