"""Fewer values, each within a bound of what it was: what `fast` loses, before anything is coded.

Values lie on a lattice, whose step the map of the values says, so a decoder knows nothing of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.calv.adaptive.fit import find_background
from mroi.codecs.calv.values import distances, find_present

__all__ = ["to_lattice"]

_WIDE = 1 << 40  # a span from which on chunks are stored as they are
_COUNTED = 1 << 20  # a span up to which a background is looked for


def to_lattice(chunk: NDArray[Any], near: int) -> NDArray[Any]:
    """Return a chunk within `near` of another, with values of as few steps as that allows.

    A value that fills whole areas is one of them.

    Parameters
    ----------
    chunk : ndarray
        Integers, at least one.
    near : int
        Largest difference of any voxel, above 0.
    """
    low, high = int(chunk.min()), int(chunk.max())
    if high - low >= _WIDE:
        return chunk
    unit = int(np.gcd.reduce(find_present(chunk, low, high))) or 1
    near //= unit
    if near == 0:
        return chunk
    above = distances(chunk, low) // unit
    top = (high - low) // unit
    background = find_background(above.reshape(chunk.shape), top) if top < _COUNTED else -1
    if background < 0:
        step = 2 * near + 1
        beyond = near + top // step * step - top
        first = near - max(0, beyond)
    else:
        info = np.iinfo(chunk.dtype)
        room = (low - int(info.min)) // unit, (int(info.max) - low) // unit
        step, first = _around(background, near, top, room)
    above -= first - step // 2
    above //= step
    above *= step
    above += first
    above *= unit
    shifted: NDArray[Any] = above.astype(chunk.dtype).reshape(chunk.shape)
    shifted += np.array([low], chunk.dtype)  # modulo the width: the sum fits
    return shifted


def _around(background: int, near: int, top: int, room: tuple[int, int]) -> tuple[int, int]:
    """Return the largest step of a lattice with a point at the background, and that point.

    It has a point within `near` of everything from 0 to `top`, none below -`room[0]` or above
    `room[1]`.
    """
    for step in range(2 * near + 1, 1, -1):
        lowest = background + (step // 2 - background) // step * step
        highest = background + (top - background + step // 2) // step * step
        if -room[0] <= lowest and highest <= room[1]:
            return step, background
    return 1, background
