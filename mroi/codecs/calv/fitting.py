"""Least squares of the encoder, in floats: coefficients are rounded, and stored in the payload.

Sums are the lower triangle of a symmetric matrix; its last row belongs to what is to be explained.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.compiled import reordering_step

__all__ = ["BATCH", "add_products", "solve_normal"]

BATCH = 256
"""Samples whose products are added at once."""


@reordering_step
def add_products(a, b, count, rows, sums):
    """Add the products of all pairs of rows of two arrays, each (rows, samples)."""
    for i in range(rows):
        for j in range(i + 1):
            total = 0.0
            for k in range(np.uint64(count)):
                total += a[i, k] * b[j, k]
            sums[i, j] += total


def solve_normal(
    sums: NDArray[np.float64], damping: float, bound: float, scale: int
) -> NDArray[np.int64]:
    """Return the coefficients times `scale`, within a bound, that solve normal equations.

    `sums` is (unknowns + 1, unknowns + 1); `damping` is the share of the mean of the diagonal that
    is added to it.
    """
    count = len(sums) - 1
    matrix = np.tril(sums[:count, :count])
    matrix = matrix + np.tril(matrix, -1).T
    ridge = damping * np.trace(matrix) / count + 1e-3
    solution = np.linalg.solve(matrix + ridge * np.eye(count), sums[count, :count])
    rounded: NDArray[np.int64] = np.rint(np.clip(solution, -bound, bound) * scale).astype(np.int64)
    return rounded
