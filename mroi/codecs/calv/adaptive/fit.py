"""What the encoder of `small` and `max` chooses: the stored predictor, and the background."""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls
# and take everything by position

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.calv.adaptive.profile import MOST_TAPS
from mroi.codecs.calv.fitting import BATCH, add_products, solve_normal
from mroi.codecs.calv.planes import load, plane_size, row_start, stride, tap_offsets
from mroi.codecs.compiled import kernel, step

__all__ = ["find_background", "fit_predictor"]

_SAMPLING = 24000  # voxels that shape the stored predictor


def find_background(volume: NDArray[Any], top: int) -> int:
    """Return the symbol that fills whole areas, or -1 if none does."""
    symbol = int(np.bincount(volume.ravel(), minlength=top + 1).argmax())
    here = volume == symbol
    count = np.count_nonzero(here)
    pairs = np.count_nonzero(here[..., 1:] & here[..., :-1])
    return symbol if 50 * count > volume.size and 10 * pairs > 7 * count else -1


def fit_predictor(
    volume: NDArray[np.int32], run: int, taps: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Return the coefficients of the first four slices of a run, in 1/4096, (4, 128)."""
    normal = np.zeros((4, MOST_TAPS + 1, MOST_TAPS + 1))
    _accumulate(volume, run, normal, taps, counts)
    result = np.zeros((4, MOST_TAPS + 1), np.int32)
    for kind in range(min(4, run)):
        count = int(counts[kind])
        others = solve_normal(normal[kind, :count, :count], 1e-5, 7.9, 4096)
        result[kind, 0] = 4096 - others.sum()
        result[kind, 1:count] = others
    return result


@kernel
def _accumulate(volume, run, normal, taps, counts):
    """Add up the normal equations of the first, second, third and other slices of a run."""
    slices, rows, columns = volume.shape
    size = plane_size(rows, columns)
    planes = np.zeros(min(slices, 4) * size, np.int32)
    offsets = np.zeros(MOST_TAPS + 1, np.int64)
    samples = np.zeros((MOST_TAPS + 1, BATCH))
    for s in range(slices):
        start = (s & 3) * size
        load(volume, s, planes, start)
        kind = min(s % run, 3)
        count = counts[kind]
        tap_offsets(taps, count, s, size, stride(columns), offsets)
        alike = (run - 3 if kind > 2 else 1) * (slices // run)
        wanted = _SAMPLING if kind > 2 else _SAMPLING // 4
        step = max(4, alike * rows * columns // wanted)
        filled = np.int64(0)
        for y in range(rows):
            row = row_start(start, y, columns)
            for x in range((5 * y + 3 * s) % step, columns, step):
                _sample(planes, row + x, stride(columns), offsets, count, samples, filled)
                filled += 1
                if filled == BATCH:
                    add_products(samples, samples, filled, count, normal[kind])
                    filled = np.int64(0)
        add_products(samples, samples, filled, count, normal[kind])


@step
def _sample(planes, p, width, offsets, count, samples, k):
    """Store the taps of a voxel, and the voxel, less N; the less the more detail is around."""
    nw = planes[p - width - 1]
    n = planes[p - width]
    detail = abs(planes[p - 1] - nw) + abs(n - nw) + abs(n - planes[p - width + 1])
    share = 1.0 / math.sqrt(detail * math.sqrt(detail) + 30.0)
    for i in range(1, count):
        samples[i - 1, k] = share * (planes[p + offsets[i]] - n)
    samples[count - 1, k] = share * (planes[p] - n)
