"""What the encoder fits: the taps of the filter, by least squares, and whether they pay."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.ebb.smoothing import CLASSES, TAPS

__all__ = ["GROUPS", "fit_taps"]

_LARGEST = 511  # tap, in 1/256
_TAP_PRICE = 0.75  # bytes of a tap that is not 0
_BIT_WORTH = 0.17 * 10 / np.log(10)  # relative change of bytes for that of the squared error


GROUPS = tuple(np.arange(CLASSES) // members for members in (CLASSES, 6, 2, 1))
"""The group of each class, by mode from 1 on."""


def fit_taps(products: NDArray[np.float64], size: int) -> tuple[int, NDArray[np.int64]]:
    """Return the mode of the classes, and the taps of its groups, (groups, TAPS) in 1/256.

    Parameters
    ----------
    products : (CLASSES, TAPS + 1, TAPS + 1) float64
        Lower triangles: see `mroi.codecs.ebb.smoothing.sum_products`.
    size : int
        Bytes of the payload without taps.
    """
    before = products[:, TAPS, TAPS].sum()
    best, mode, taps = 0.0, 0, np.zeros((0, TAPS), np.int64)
    if before == 0:
        return mode, taps
    least = _TAP_PRICE * before / (_BIT_WORTH * size)
    for number, grouping in enumerate(GROUPS, 1):
        count = int(grouping[-1]) + 1
        gain, cost, found = 0.0, 8.0, np.zeros((count, TAPS), np.int64)
        for group in range(count):
            members = np.flatnonzero(grouping == group)
            won, weights = _solve(products[members].sum(axis=0), least)
            price = _TAP_PRICE * np.count_nonzero(weights) + 0.15 * TAPS
            if _BIT_WORTH * won / before * size > price:
                found[group] = weights
                gain += won
                cost += price
            else:
                cost += 0.2
        profit = -_BIT_WORTH * np.log(max(1 - gain / before, 1e-9)) * size - cost
        if profit > best:
            best, mode, taps = profit, number, found
    return mode, taps


def _solve(sums: NDArray[np.float64], least: float) -> tuple[float, NDArray[np.int64]]:
    """Return by how much the best taps of a group lessen the squared error, and these taps.

    Those that lessen it by less than `least` are 0.
    """
    matrix = sums[:TAPS, :TAPS] + np.tril(sums[:TAPS, :TAPS], -1).T
    target = sums[TAPS, :TAPS]
    taps = np.zeros(TAPS)
    trace = np.trace(matrix)
    if trace == 0:
        return 0.0, taps.astype(np.int64)
    matrix += (1e-6 * trace / TAPS + 1) * np.eye(TAPS)
    used = np.arange(TAPS)
    while used.size:
        inverse = np.linalg.inv(matrix[np.ix_(used, used)])
        weights = inverse @ target[used]
        lost = weights**2 / np.diag(inverse)  # by leaving out one of them
        if lost.min() >= least:
            taps[used] = np.clip(np.rint(256 * weights), -_LARGEST, _LARGEST)
            break
        used = np.delete(used, lost.argmin())
    weights = taps / 256
    return float(2 * weights @ target - weights @ matrix @ weights), taps.astype(np.int64)
