"""Structural similarity of slices, summed over windows, with bounded memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Similarity"]

_WINDOW = 7  # voxels along rows and columns
_AT_ONCE = 1 << 15  # voxels: what is computed with stays near the processor
_K1, _K2 = 0.01, 0.03


@dataclass(frozen=True, slots=True)
class Similarity:
    """SSIM of windows of 7 x 7 voxels of a slice, as ``spec/mroi-1.md`` defines it.

    Source: Z. Wang et al., Image quality assessment: from error visibility to structural
    similarity, IEEE Transactions on Image Processing 13 (2004); the windows and constants are those
    of scikit-image.

    Attributes
    ----------
    total : float
        Sum of the SSIM of all windows.
    windows : int
        Their number.
    """

    total: float = 0.0
    windows: int = 0

    @classmethod
    def between(cls, original: NDArray[Any], decoded: NDArray[Any], peak: float) -> Similarity:
        """Compare chunks, (slices, rows, columns) of real numbers.

        Parameters
        ----------
        original, decoded : ndarray
            Of one shape. Windows with a value that is not finite do not count.
        peak : float
            Range of the values of the volume.
        """
        rows, columns = original.shape[1:3]
        if min(rows, columns) < _WINDOW or not 0 < peak < math.inf:
            return cls()
        if original is decoded and original.dtype.kind != "f":
            windows = len(original) * (rows - _WINDOW + 1) * (columns - _WINDOW + 1)
            return cls(float(windows), windows)
        found, step = cls(), max(1, _AT_ONCE // (rows * columns))
        for start in range(0, len(original), step):
            part = slice(start, start + step)
            with np.errstate(invalid="ignore", over="ignore"):
                found += cls._of(original[part], decoded[part], peak)
        return found

    @classmethod
    def _of(cls, original: NDArray[Any], decoded: NDArray[Any], peak: float) -> Similarity:
        # From the range on, so that squares of large values lose no digits.
        a, b = (array.astype(np.float64) / peak for array in (original, decoded))
        mean_a, mean_b, squares, product = map(_means, (a, b, a * a + b * b, a * b))
        unbiased = _WINDOW**2 / (_WINDOW**2 - 1)
        both = mean_a * mean_b
        powers = mean_a * mean_a + mean_b * mean_b
        upper = (2 * both + _K1**2) * (2 * unbiased * (product - both) + _K2**2)
        found = upper / ((powers + _K1**2) * (unbiased * (squares - powers) + _K2**2))
        finite = np.isfinite(found)
        return cls(float(found.sum(where=finite)), int(finite.sum()))

    def __add__(self, other: Similarity) -> Similarity:
        return Similarity(self.total + other.total, self.windows + other.windows)

    @property
    def mean(self) -> float | None:
        """Mean SSIM; None without a window."""
        return self.total / self.windows if self.windows else None


def _means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean in each window: as many fewer rows and columns as it has, less one."""
    twice = values[:, :-1] + values[:, 1:]
    four = twice[:, :-2] + twice[:, 2:]
    rows = four[:, :-3] + twice[:, 4:-1] + values[:, 6:]
    twice = rows[..., :-1] + rows[..., 1:]
    four = twice[..., :-2] + twice[..., 2:]
    return (four[..., :-3] + twice[..., 4:-1] + rows[..., 6:]) / _WINDOW**2
