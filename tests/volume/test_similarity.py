"""The SSIM that a lossy file says is that of its slices."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mroi
from mroi import Target
from mroi.volume.similarity import Similarity
from tests.extras import needs


def waves(shape: tuple[int, ...], dtype: str = "<i2") -> np.ndarray:
    x, y, z = np.indices(shape)
    noise = np.random.default_rng(0).normal(0, 9, shape)
    return (300 + 90 * np.sin(x / 4) * np.cos(y / 3) + 3 * z + noise).astype(dtype)


def by_definition(a: np.ndarray, b: np.ndarray, peak: float) -> list[float]:
    """Return the SSIM of each window of a slice, as the specification writes it."""
    found = []
    for y in range(a.shape[0] - 6):
        for x in range(a.shape[1] - 6):
            p, q = (v[y : y + 7, x : x + 7].astype(float).ravel() for v in (a, b))
            c = np.cov(p, q)
            c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
            m, n = p.mean(), q.mean()
            upper = (2 * m * n + c1) * (2 * c[0, 1] + c2)
            found.append(upper / ((m * m + n * n + c1) * (c[0, 0] + c[1, 1] + c2)))
    return found


@given(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12), st.sampled_from(["<i2", "<f4"]))
def test_it_is_the_mean_of_windows(slices: int, rows: int, columns: int, dtype: str) -> None:
    a = waves((slices, rows, columns), dtype)
    b = a + np.random.default_rng(1).integers(-30, 30, a.shape).astype(dtype)
    expected = [one for p, q in zip(a, b, strict=True) for one in by_definition(p, q, 400)]
    found = Similarity.between(a, b, 400)
    assert found.windows == len(expected)
    assert found.total == pytest.approx(sum(expected), abs=1e-9)
    same = Similarity.between(a, a, 400)
    assert (same.total, same.windows) == (pytest.approx(len(expected)), len(expected))


@needs("bench")
def test_it_is_what_scikit_image_computes() -> None:
    from mroi.bench.metrics import ssim_of

    a = waves((3, 40, 50))
    b = a + np.random.default_rng(1).integers(-30, 30, a.shape, "<i2")
    expected = np.mean([ssim_of(p, q, 500.0) for p, q in zip(a, b, strict=True)])
    assert Similarity.between(a, b, 500).mean == pytest.approx(expected, abs=1e-4)


def test_windows_that_are_not_finite_do_not_count() -> None:
    a = waves((1, 20, 20), "<f4")
    a[0, 0, 0] = np.nan
    assert Similarity.between(a, a, 400).windows == 14 * 14 - 1
    assert Similarity.between(a, a, 0).mean is None
    assert Similarity.between(a, -a, np.inf).mean is None


@pytest.mark.parametrize(
    "wishes",
    [{"quality": Target(psnr=38)}, {"codec": "ebb:step=40"}, {"codec": "calv:level=small,near=9"}],
)
def test_the_file_says_it(wishes: dict[str, Any]) -> None:
    array, file = waves((36, 30, 12)), io.BytesIO()
    mroi.pack(array, file, **{"codec": "ebb", "roi": "full", **wishes})
    volume = mroi.open(file)
    pairs = zip(array.T, np.asarray(volume).T, strict=True)
    peak = float(np.ptp(array))
    expected = np.mean([one for p, q in pairs for one in by_definition(p, q, peak)])
    assert volume.provenance["loss"]["ssim"] == pytest.approx(expected, abs=1e-6)  # type: ignore[index]


def test_bricks_count_windows_within_them() -> None:
    array, file = waves((32, 32, 8)), io.BytesIO()
    mroi.pack(array, file, codec="ebb:step=40", roi="full", chunk=(16, 16, 8))
    decoded, peak = np.asarray(mroi.open(file)), float(np.ptp(array))
    corners = [(slice(x, x + 16), slice(y, y + 16)) for x in (0, 16) for y in (0, 16)]
    expected: list[float] = []
    for x, y in corners:
        for p, q in zip(array[x, y].T, decoded[x, y].T, strict=True):
            expected += by_definition(p, q, peak)
    record: Any = mroi.open(file).provenance["loss"]
    assert record["ssim"] == pytest.approx(np.mean(expected), abs=1e-6)


def test_nothing_is_said_where_nothing_is_lost_or_there_is_no_window() -> None:
    for array, codec in ((waves((30, 30, 4)), "zstd"), (waves((6, 30, 4)), "ebb:step=40")):
        file = io.BytesIO()
        mroi.pack(array, file, codec=codec)
        assert "ssim" not in dict(mroi.open(file).provenance.get("loss") or {})  # type: ignore[call-overload]
