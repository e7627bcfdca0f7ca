"""Tables of *small and max: tables*, and what looks levels and logarithms up.

No index leaves its table: it is clipped, or has no more bits than the table has entries for.
"""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.compiled import inlined

__all__ = ["GAIN", "INVERSE", "find_level", "logarithm", "squash", "stretch"]


def _levels() -> NDArray[np.uint8]:
    """Return the level of activities below 4096, then of 1024 times 0 to 1023."""
    table = np.zeros(5120, np.uint8)
    for i in range(5120):
        activity = i if i < 4096 else (i - 4096) << 10
        length = activity.bit_length()
        if activity >= 8:
            table[i] = min(63, 4 * (length - 4) + (activity >> (length - 3) & 3))
    return table


def _gain(level: int) -> int:
    """Return how much a voxel of a level weighs in least squares."""
    activity = 0.0 if level == 0 else (4.5 + level % 4) * 2 ** (level // 4 + 1)
    return round(65536 / math.sqrt((activity * 3 / 224) ** 1.5 + 30))


_LEVEL = _levels()
_LOGARITHM = np.array(
    [round(1024 * math.log(i + 16)) for i in (*range(4096), *range(128, 1 << 20, 256))], np.int16
)
_STRETCH = np.array(
    [round(256 * math.log((2 * i + 1) / (8191 - 2 * i))) for i in range(4096)], np.int16
)
_SQUASH = np.array([round(65536 / (1 + math.exp(-i / 256))) for i in range(-2816, 2817)], np.uint16)

GAIN = np.array([_gain(level) for level in range(64)], np.int32)
"""G[level]."""

INVERSE = np.array([65536 // (n + 1) for n in range(256)], np.int64)
"""65536 / (n + 1)."""


@inlined
def find_level(activity):
    """Return the level, 0 to 63, of an activity."""
    place = activity if activity < 4096 else 4096 + min(activity >> 10, np.int64(1023))
    return np.int64(_LEVEL[np.uint64(place)])


@inlined
def logarithm(activity):
    """Return L(activity)."""
    place = activity if activity < 4096 else 4096 + min(activity >> 8, np.int64(4095))
    return np.int64(_LOGARITHM[np.uint64(place)])


@inlined
def stretch(probability):
    """Return the logit, in 1/256, of a probability in 1/4096, below 4096."""
    return np.int64(_STRETCH[np.uint64(probability)])


@inlined
def squash(logit):
    """Return the probability, in 1/65536, of a logit, in 1/256."""
    return np.int64(_SQUASH[np.uint64(max(np.int64(0), min(logit + 2816, np.int64(5632))))])
