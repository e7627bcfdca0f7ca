"""PSNR, errors and SSIM against their definitions, written the long way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mroi.bench.metrics import Difference, levels_of, ssim_of
from tests.extras import needs

ARRAYS = hnp.arrays("i2", hnp.array_shapes(min_dims=2, max_dims=3, max_side=6))


@given(ARRAYS, st.integers(0, 2**31))
def test_errors_are_those_of_the_definition(a: np.ndarray, seed: int) -> None:
    b = a + np.random.default_rng(seed).integers(-9, 9, a.shape).astype("i2")
    exact = [abs(int(x) - int(y)) for x, y in zip(a.flat, b.flat, strict=True)]
    found = Difference.between(a, b)
    assert found.max_error == max(exact)
    assert found.mean_error == pytest.approx(sum(exact) / a.size)
    squares = sum(error**2 for error in exact) / a.size
    expected = 10 * math.log10(255**2 / squares) if squares else math.inf
    assert found.psnr(255) == pytest.approx(expected)


@given(ARRAYS, st.integers(0, 2**31), st.integers(0, 6))
def test_errors_of_parts_add_up(a: np.ndarray, seed: int, cut: int) -> None:
    b = a + np.random.default_rng(seed).integers(-9, 9, a.shape).astype("i2")
    parts = Difference.between(a[:cut], b[:cut]) + Difference.between(a[cut:], b[cut:])
    assert parts == Difference.between(a, b)


def test_a_value_that_is_not_finite_must_stay() -> None:
    a = np.array([[math.nan, math.inf, 1.0]])
    assert Difference.between(a, a).psnr(1) == math.inf
    for at in (0, 1):
        b = a.copy()
        b[0, at] = 0
        assert Difference.between(a, b).max_error == math.inf
        assert Difference.between(a, b).psnr(1) == 0.0


def test_levels_are_medrois_scale_rounded() -> None:
    values = np.array([-3.0, 0.0, 1.0, 2.9, 4.0, math.nan])
    levels = levels_of(values, 0.0, 4.0)
    assert levels.tolist()[:5] == [0, 0, 64, 185, 255]
    assert math.isnan(levels[5])
    assert levels_of(np.full(3, 7), 7, 7).tolist() == [0, 0, 0]


def ssim_the_long_way(a: np.ndarray, b: np.ndarray, peak: float, side: int) -> float:
    """The mean over all windows that fit."""
    first, second = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    axes = tuple(range(a.ndim, 2 * a.ndim))
    x, y = (np.lib.stride_tricks.sliding_window_view(v, (side,) * a.ndim) for v in (a, b))
    mx, my = x.mean(axes), y.mean(axes)
    n = side**a.ndim
    scale = n / (n - 1)
    vx, vy = x.var(axes) * scale, y.var(axes) * scale
    both = (x * y).mean(axes) - mx * my
    index = ((2 * mx * my + first) * (2 * both * scale + second)) / (
        (mx**2 + my**2 + first) * (vx + vy + second)
    )
    return float(index.mean())


@needs("bench")
@pytest.mark.parametrize(("shape", "side"), [((11, 9, 8), 7), ((12, 10), 7), ((5, 9, 8), 5)])
def test_ssim_is_that_of_the_definition(shape: tuple[int, ...], side: int) -> None:
    rng = np.random.default_rng(1)
    a = rng.normal(100, 20, shape)
    b = a + rng.normal(0, 10, shape)
    assert ssim_of(a, b, 80.0) == pytest.approx(ssim_the_long_way(a, b, 80.0, side), abs=1e-5)
    assert ssim_of(a, a, 80.0) == pytest.approx(1.0)


@needs("bench")
def test_ssim_that_is_not_defined_is_none() -> None:
    a = np.arange(24.0).reshape(2, 3, 4)
    assert ssim_of(a, a + 1, 23) is None  # two slices
    big = np.zeros((5, 5, 5))
    assert ssim_of(big, big + 1, 0) is None
    broken = big.copy()
    broken[0, 0, 0] = math.nan
    assert ssim_of(big, broken, 1) is None
