"""How far decoded voxels are from the original: PSNR, SSIM, largest and mean error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Difference", "levels_of", "ssim_of"]

_WINDOW = 7  # voxels along each axis: the default of scikit-image


@dataclass(frozen=True, slots=True)
class Difference:
    """Errors of voxels, summed over parts that are added.

    Attributes
    ----------
    max_error : float
        Largest absolute error; infinite if a value that is not finite has changed.
    error_sum, square_sum : float
        Of absolute errors, and of their squares.
    count : int
        Voxels whose original is finite.
    """

    max_error: float = 0.0
    error_sum: float = 0.0
    square_sum: float = 0.0
    count: int = 0

    @classmethod
    def between(cls, original: NDArray[Any], decoded: NDArray[Any]) -> Difference:
        """Compare arrays of one shape, real numbers in the same units."""
        a, b = (array.astype(np.float64).ravel() for array in (original, decoded))
        finite = np.isfinite(a)
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            return cls(math.inf, math.inf, math.inf, a.size)
        if not finite.all():
            a, b = a[finite], b[finite]
        errors = np.abs(a - b)
        if not errors.size:
            return cls()
        return cls(
            float(errors.max()), float(errors.sum()), float(errors @ errors), int(errors.size)
        )

    def __add__(self, other: Difference) -> Difference:
        return Difference(
            max(self.max_error, other.max_error),
            self.error_sum + other.error_sum,
            self.square_sum + other.square_sum,
            self.count + other.count,
        )

    @property
    def mean_error(self) -> float:
        """Mean absolute error."""
        return self.error_sum / self.count if self.count else 0.0

    def psnr(self, peak: float) -> float:
        """Return the peak signal to noise ratio in dB: infinite if nothing differs."""
        if not self.square_sum:
            return math.inf
        if not (math.isfinite(self.square_sum) and peak > 0):
            return 0.0
        return 10 * math.log10(peak**2 * self.count / self.square_sum)


def levels_of(values: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    """Return values on MedROI's scale: `low` is 0, `high` is 255, rounded and clipped.

    Values that are not finite stay as they are.
    """
    span = high - low
    scaled = (values.astype(np.float64) - low) * (255 / span if span > 0 else 0.0)
    finite = np.isfinite(scaled)
    return np.where(finite, np.clip(np.rint(scaled), 0, 255), scaled)


def ssim_of(original: NDArray[Any], decoded: NDArray[Any], peak: float) -> float | None:
    """Return the structural similarity of two arrays of as many axes as they have, mean of all.

    As scikit-image computes it by default: a uniform window of 7 voxels along each axis (less
    where the array is smaller: the largest odd number), K1 = 0.01, K2 = 0.03.

    Source: Z. Wang et al., Image quality assessment: from error visibility to structural
    similarity, IEEE Transactions on Image Processing 13 (2004).

    Parameters
    ----------
    original, decoded : ndarray
        Real numbers.
    peak : float
        Range of the values.

    Returns
    -------
    float or None
        None where it is not defined: along an axis are fewer than 3 voxels, a value is not finite,
        or all of them are equal.
    """
    from skimage.metrics import structural_similarity

    side = min(_WINDOW, *original.shape)
    if side < 3 or not peak > 0 or not (np.isfinite(original) & np.isfinite(decoded)).all():
        return None
    a, b = (array.astype(np.float32) for array in (original, decoded))
    window = side - 1 + side % 2
    return float(structural_similarity(a, b, data_range=peak, win_size=window))
