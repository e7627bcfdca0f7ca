"""What distinguishes the levels `small` and `max`, and the taps of a reach."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX", "MOST_TAPS", "SMALL", "Local", "Profile", "Reach", "find_taps"]

Reach = tuple[int, int, int, int]
"""Squared distance of taps in the plane and in the three slices before, -1 if there are none."""

MOST_TAPS = 127
"""Taps of a stored predictor."""


@dataclass(frozen=True, slots=True)
class Local:
    """A local correction: which neighbours it has, and how large its tiles are.

    Attributes
    ----------
    reach : tuple of int
        Of its taps.
    rows, band : int
        Rows of a tile, and of the band whose sums the next slice sees as one.
    limit : int
        Greatest product of a difference and its weight. With it sums of tiles fit 32 bits, and
        those of a band still do after all slices: 8/3 of those of one.
    """

    reach: Reach
    rows: int
    band: int
    limit: int


@dataclass(frozen=True, slots=True)
class Profile:
    """What distinguishes the levels.

    Attributes
    ----------
    corrections : tuple of Local
        One or two.
    models : int
        Contexts of which each decision mixes the probabilities, 3 or 6.
    reaches : tuple of (int, tuple of int)
        Reaches of the stored predictor that the encoder takes, each from so many voxels on.
    """

    corrections: tuple[Local, ...]
    models: int
    reaches: tuple[tuple[int, Reach], ...]

    @property
    def experts(self) -> int:
        """The models, and in `max` the logistic one."""
        return self.models + (self.models > 3)


_NEAR = Local((8, 4, 1, -1), 4, 8, 3 << 18)
_FAR = Local((17, 10, 5, -1), 16, 16, 1 << 19)
SMALL = Profile((_NEAR,), 3, ((1 << 18, (25, 10, 4, 1)), (0, (8, 4, 1, -1))))
MAX = Profile((_NEAR, _FAR), 6, ((1 << 18, (25, 16, 5, 2)), (0, (8, 4, 1, -1))))


@lru_cache(maxsize=16)
def find_taps(reach: Reach) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the taps (slices back, rows up, columns left) of a reach, and how many by slice.

    N comes first, then those of the same row, then the others by distance. A slice with so many
    before it has the first `counts[before]` taps.
    """
    plane = [(r, c) for r in range(1, 6) for c in range(-5, 6)]
    disc = [(r, c) for r in range(-5, 6) for c in range(-5, 6)]
    taps = [(0, 1, 0), *((0, 0, c) for c in range(1, math.isqrt(reach[0]) + 1))]
    counts = []
    for back, square in enumerate(reach):
        places = plane if back == 0 else disc
        near = sorted((r * r + c * c, r, c) for r, c in places if r * r + c * c <= square)
        taps += [(back, r, c) for _, r, c in near if (back, r, c) != (0, 1, 0)]
        counts.append(len(taps))
    return np.array(taps, np.int64), np.array(counts, np.int64)
