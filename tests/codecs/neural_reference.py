"""The transforms of `tcm`, written once more: NumPy, loops over windows, one function a sentence.

From the papers and from facts about the authors' programs, not from `mroi.codecs.neural.network`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from mroi.codecs.neural.shapes import Config

Tensors = Mapping[str, np.ndarray]


def conv(x: np.ndarray, w: Tensors, name: str, stride: int = 1) -> np.ndarray:
    weight, bias = w[f"{name}.weight"], w[f"{name}.bias"]
    size = weight.shape[-1]
    padded = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))
    result = np.einsum("chwij,ocij->ohw", patches[:, ::stride, ::stride], weight)
    return result + bias[:, None, None]


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.01 * x)


def shuffle(x: np.ndarray) -> np.ndarray:
    channels, rows, columns = x.shape
    y = np.empty((channels // 4, 2 * rows, 2 * columns))
    for i in range(2):
        for j in range(2):
            y[:, i::2, j::2] = x[2 * i + j :: 4]
    return y


def divisor(x: np.ndarray, w: Tensors, name: str) -> np.ndarray:
    pedestal = 2.0**-36
    beta = np.maximum(w[f"{name}.beta"], math.sqrt(1e-6 + pedestal)) ** 2 - pedestal
    gamma = np.maximum(w[f"{name}.gamma"], math.sqrt(pedestal)) ** 2 - pedestal
    return np.sqrt(np.einsum("oc,chw->ohw", gamma, x**2) + beta[:, None, None])


def down(x: np.ndarray, w: Tensors, name: str) -> np.ndarray:
    y = conv(leaky(conv(x, w, f"{name}.conv1", 2)), w, f"{name}.conv2")
    return y / divisor(y, w, f"{name}.gdn") + conv(x, w, f"{name}.skip", 2)


def up(x: np.ndarray, w: Tensors, name: str) -> np.ndarray:
    y = conv(leaky(shuffle(conv(x, w, f"{name}.subpel_conv.0"))), w, f"{name}.conv")
    return y * divisor(y, w, f"{name}.igdn") + shuffle(conv(x, w, f"{name}.upsample.0"))


def norm(x: np.ndarray, w: Tensors, name: str) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return centred / deviation * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x: np.ndarray, w: Tensors, name: str) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def attention(x: np.ndarray, w: Tensors, name: str, win: int, *, shifted: bool) -> np.ndarray:
    """(rows, columns, channels): each pixel looks at those that share its window."""
    rows, columns, channels = x.shape
    bias = w[f"{name}.relative_position_params"]
    heads = bias.shape[0]
    size = channels // heads
    half = win // 2 if shifted else 0
    qkv = linear(x, w, f"{name}.embedding_layer").reshape(rows, columns, 3, heads, size)
    out = np.empty((rows, columns, heads, size))

    def window(i: int, extent: int) -> tuple[int, bool]:
        """Number of the window, and whether the pixel came from beyond the other edge."""
        rolled = (i - half) % extent
        return rolled // win, rolled > i

    together: dict[object, list[tuple[int, int]]] = {}
    for a in range(rows):
        for b in range(columns):
            together.setdefault((window(a, rows), window(b, columns)), []).append((a, b))
    for i in range(rows):
        for j in range(columns):
            seen = together[window(i, rows), window(j, columns)]
            for h in range(heads):
                score = []
                for a, b in seen:
                    dy = (i - half) % rows - (a - half) % rows
                    dx = (j - half) % columns - (b - half) % columns
                    near = qkv[i, j, 0, h] @ qkv[a, b, 1, h] / math.sqrt(size)
                    score.append(near + bias[h, dy + win - 1, dx + win - 1])
                weight = np.exp(np.array(score) - max(score))
                values = np.array([qkv[a, b, 2, h] for a, b in seen])
                out[i, j, h] = weight / weight.sum() @ values
    return linear(out.reshape(rows, columns, channels), w, f"{name}.linear")


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def block(x: np.ndarray, w: Tensors, name: str, win: int, *, shifted: bool) -> np.ndarray:
    both = conv(x, w, f"{name}.conv1_1")
    c, t = both[: len(both) // 2], both[len(both) // 2 :]
    inner = leaky(conv(c, w, f"{name}.conv_block.conv1"))
    c = leaky(conv(inner, w, f"{name}.conv_block.conv2")) + c + c
    t = t.transpose(1, 2, 0)
    name_t = f"{name}.trans_block"
    t = t + attention(norm(t, w, f"{name_t}.ln1"), w, f"{name_t}.msa", win, shifted=shifted)
    hidden = gelu(linear(norm(t, w, f"{name_t}.ln2"), w, f"{name_t}.mlp.0"))
    t = (t + linear(hidden, w, f"{name_t}.mlp.2")).transpose(2, 0, 1)
    return x + conv(np.concatenate([c, t]), w, f"{name}.conv1_2")


HAAR = np.array([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])


def shortcut_down(x: np.ndarray, w: Tensors, name: str) -> np.ndarray:
    corners = np.stack([x[:, i::2, j::2] for i in range(2) for j in range(2)])
    half = float(w[f"{name}.dwt.w_ll"][0, 0, 0, 0])
    bands = half * np.einsum("bk,kchw->bchw", HAAR, corners).reshape(-1, *corners.shape[2:])
    scaled = bands.transpose(1, 2, 0) * np.exp(w[f"{name}.scaling_factors"][0])
    return linear(scaled, w, f"{name}.OLP.linear").transpose(2, 0, 1)


def shortcut_up(x: np.ndarray, w: Tensors, name: str) -> np.ndarray:
    bands = linear(x.transpose(1, 2, 0), w, f"{name}.OLP.linear")
    bands = (bands / np.exp(w[f"{name}.scaling_factors"][0])).transpose(2, 0, 1)
    half = float(w[f"{name}.idwt.filters"][0, 0, 0, 0])
    bands = bands.reshape(4, -1, *bands.shape[1:])
    corners = half * np.einsum("bk,bchw->kchw", HAAR, bands)
    y = np.empty((corners.shape[1], 2 * corners.shape[2], 2 * corners.shape[3]))
    for k in range(4):
        y[:, k // 2 :: 2, k % 2 :: 2] = corners[k]
    return y


def analyse(x: np.ndarray, w: Tensors, c: Config, *, auxiliary: bool) -> np.ndarray:
    aux, at = x, 0
    for k in range(3):
        x = down(x, w, f"g_a.{at}")
        if auxiliary:
            aux = shortcut_down(aux, w, f"AuxT_enc.{k}")
            x = x + aux
        for n in range(c.depths[k]):
            x = block(x, w, f"g_a.{at + 1 + n}", c.window, shifted=n % 2 == 1)
        at += c.depths[k] + 1
    x = conv(x, w, f"g_a.{at}", 2)
    return x + shortcut_down(aux, w, "AuxT_enc.3") if auxiliary else x


def synthesise(x: np.ndarray, w: Tensors, c: Config, *, auxiliary: bool) -> np.ndarray:
    aux, at = x, 0
    for k in range(3):
        x = up(x, w, f"g_s.{at}")
        for n in range(c.depths[3 + k]):
            x = block(x, w, f"g_s.{at + 1 + n}", c.window, shifted=n % 2 == 1)
        if auxiliary:
            aux = shortcut_up(aux, w, f"AuxT_dec.{k}")
            x = x + aux
        at += c.depths[3 + k] + 1
    x = shuffle(conv(x, w, f"g_s.{at}.0"))
    return x + shortcut_up(aux, w, "AuxT_dec.3") if auxiliary else x
