"""Bits of a pixel above Bits Stored: an overlay of old, or what a sign was not extended to.

PS3.5 8.1.1 says that they are no part of the value. Values are taken without them; what is there
is kept beside, so that the file comes back as it was.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["join_bits", "split_bits"]


def split_bits(raw: NDArray[Any], bits: int) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Split stored integers into values and the bits above them.

    Parameters
    ----------
    raw : ndarray of int or uint
        As stored.
    bits : int
        Bits Stored.

    Returns
    -------
    values : ndarray like `raw`
        Of `bits` bits, the sign extended.
    above : ndarray of uint, or None
        The other bits, moved down to bit 0; None if they are as those of `values`.

    Examples
    --------
    >>> values, above = split_bits(np.array([0x1005, 0x0FFF], "<i2"), 12)
    >>> values.tolist(), above.tolist()
    ([5, -1], [1, 0])
    """
    unused = 8 * raw.dtype.itemsize - bits
    if raw.dtype.kind not in "iu" or unused <= 0:
        return raw, None
    values = (raw << unused) >> unused
    if np.array_equal(values, raw):
        return raw, None
    width = next(n for n in (1, 2, 4, 8) if unused <= 8 * n)
    return values, (raw.view(f"<u{raw.dtype.itemsize}") >> bits).astype(f"<u{width}")


def join_bits(values: NDArray[Any], above: NDArray[Any], bits: int) -> NDArray[Any]:
    """Undo `split_bits`; `above` may be flat.

    Parameters
    ----------
    values : ndarray of integer
        The low bits.
    above : ndarray of integer
        The others, of as many samples.
    bits : int
        How many low bits there are.
    """
    unsigned = np.dtype(f"<u{values.dtype.itemsize}")
    low = values.view(unsigned) & unsigned.type((1 << bits) - 1)
    high: NDArray[Any] = above.reshape(values.shape).astype(unsigned) << bits
    return np.asarray((low | high).view(values.dtype))
