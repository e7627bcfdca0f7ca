"""Weights of voxels: coefficients that matter little are quantised more coarsely.

A decoder knows nothing of it: their steps are multiples of its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.ebb import wavelet
from mroi.codecs.ebb.bands import Plan

__all__ = ["coarsen"]

_LEAST = 1e-8  # of a weight
_ROUND = 0.35  # what is added before a multiple is rounded down
_TWICE = 1.8  # from here on, coefficients are rounded: before, only the small ones are left out
_WHOLE = 4.0  # from here on, to whole multiples


def coarsen(
    source: NDArray[np.float32], weights: NDArray[np.float32], how: Plan, wave: int, unit: float
) -> None:
    """Round coefficients to multiples of a step, the larger the less they matter, in place.

    The lowest band stays as it is: each of its coefficients reaches far.

    Parameters
    ----------
    source : (slabs, slices, rows, columns) float32
        Coefficients.
    weights : array like `source`
        What the square of an error counts in each voxel, up to 1.
    how : Plan
        Where the bands are.
    wave : int
        The wavelet: see `mroi.codecs.ebb.wavelet`.
    unit : float
        The step of a weight of 1, in units of `source`.
    """
    z, y, x = how.bands[0].shape
    for slab, counts in zip(source, weights, strict=True):
        spread = counts.copy()
        wavelet.spread(spread, how, wave)
        times = 1 / np.sqrt(np.maximum(spread, np.float32(_LEAST)))
        np.rint(times, out=times, where=times >= _WHOLE)
        times[:z, :y, :x] = 1
        multiple = times * np.float32(unit)
        steps = np.floor(np.abs(slab) / multiple + np.float32(_ROUND))
        rounded = np.copysign(steps * multiple, slab)
        np.copyto(slab, rounded, where=(times >= _TWICE) | (steps == 0) & (times > 1))
