"""The Modality LUT: a table from stored values to what a scanner means by them (PS3.3 C.11.1).

A file has a slope and an intercept, or a table. A table that is a straight line over all values
that can be stored is taken as the slope and intercept that it is; any other is not applied, which
the packed file and a warning say.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["apply_table", "has_table", "line_of_table"]

MAX_BITS = 16
"""Bits of stored values for which all of a table is looked at."""


def has_table(dataset: Any) -> bool:
    """Whether stored values mean what a table says."""
    return bool(dataset.get("ModalityLUTSequence"))


def line_of_table(dataset: Any, bits: int, *, signed: bool) -> tuple[float, float] | None:
    """Return the slope and intercept that are the same as the table, None if there are none.

    Parameters
    ----------
    dataset : pydicom.dataset.Dataset
        With a Modality LUT Sequence.
    bits : int
        Bits Stored.
    signed : bool
        Whether stored values may be negative.
    """
    if bits > MAX_BITS:
        return None
    low = -(1 << bits - 1) if signed else 0
    stored = np.arange(low, low + (1 << bits), dtype=np.int64)
    try:
        values = apply_table(stored, dataset).astype(np.float64)
    except (AttributeError, LookupError, TypeError, ValueError, struct.error):  # damaged
        return None
    slope = float(values[1] - values[0])
    inter = float(values[0] - slope * low)
    is_line = slope != 0 and np.array_equal(values, slope * stored + inter)
    return (slope, inter) if is_line else None


def apply_table(stored: NDArray[Any], dataset: Any) -> NDArray[Any]:
    """Return what stored values mean; values beyond the ends of the table mean what its ends do."""
    from pydicom.pixels.processing import apply_modality_lut

    return np.asarray(apply_modality_lut(stored.astype(np.int64), dataset))
