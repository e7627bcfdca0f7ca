"""Vectors of calv: each operation is what numpy does with 16 integers of 32 bits."""

import numba
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mroi.codecs.calv import lanes

VECTORS = arrays(np.int32, lanes.LANES, elements=st.integers(-(2**31), 2**31 - 1))


@numba.njit
def compute(a, b, words, out):
    x = lanes.load(a, 0)
    y = lanes.load(b, 0)
    few = y & 15
    lanes.store(out, 0, x + y)
    lanes.store(out, 16, x - y)
    lanes.store(out, 32, x * y)
    lanes.store(out, 48, (x & y) | (x ^ 5))
    lanes.store(out, 64, x << few)
    lanes.store(out, 80, x >> few)
    lanes.store(out, 96, lanes.logical_shift(x, few))
    lanes.store(out, 112, lanes.minimum(x, y))
    lanes.store(out, 128, lanes.maximum(x, 7))
    lanes.store(out, 144, lanes.minimum_unsigned(x, y))
    lanes.store(out, 160, lanes.ones(lanes.less_unsigned(x, y) & (x < y)))
    lanes.store(out, 176, lanes.select(x > y, x, -1))
    lanes.store(out, 192, lanes.select(x == y, x, y))
    lanes.store(out, 208, lanes.slide(x, np.int64(9)))
    lanes.store(out, 224, lanes.gather(words, few))
    lanes.store(out, 240, lanes.gather_through(words, few, words, few))
    lanes.store(out, 256, lanes.load(words, 3))
    lanes.store(words, 8, x)
    lanes.store(out, 272, lanes.broadcast(np.int64(-3)))
    return lanes.any_true(x == y), lanes.any_negative(x)


def expected(a: np.ndarray, b: np.ndarray, words: np.ndarray) -> list[np.ndarray]:
    few = b & 15
    unsigned = a.view(np.uint32), b.view(np.uint32)
    return [
        a + b,
        a - b,
        a * b,
        (a & b) | (a ^ 5),
        a << few,
        a >> few,
        unsigned[0] >> few.astype(np.uint32),
        np.minimum(a, b),
        np.maximum(a, 7),
        np.minimum(*unsigned),
        (unsigned[0] < unsigned[1]) & (a < b),
        np.where(a > b, a, -1),
        np.where(a == b, a, b),
        np.append(9, a[:-1]),
        words[few],
        words[words[few] + few],
        words[3:19],
        np.full(16, -3),
    ]


@settings(deadline=None)
@given(a=VECTORS, b=VECTORS)
def test_lanes_compute_like_numpy(a: np.ndarray, b: np.ndarray) -> None:
    words = (np.arange(40, dtype=np.uint16) * 7) % 23
    wanted = expected(a, b, words.copy())
    out = np.zeros(18 * 16, np.int32)
    equal, negative = compute(a, b, words, out)
    for found, want in zip(out.reshape(-1, 16), wanted, strict=True):
        assert (found == want.astype(np.int64).astype(np.int32)).all()
    assert (words[8:24] == a.view(np.uint32).astype(np.uint16)).all()
    assert equal == (a == b).any()
    assert negative == (a < 0).any()
