"""Values and symbols of many voxels at a time, without the GIL."""

# Kernels are typed by numba when they are called.
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np

from mroi.codecs.compiled import kernel

__all__ = ["look_up", "mark"]


@kernel
def mark(values, low, found):
    """Set what is found above the lowest value; integers of 8 or 16 bits, taken as unsigned."""
    lowest = np.uint64(low)
    mask = np.uint64((1 << (8 * values.itemsize)) - 1)
    for value in values:
        found[(np.uint64(value) - lowest) & mask] = True


@kernel
def look_up(symbols, table, out):
    """Fill `out` with the entries of a table that symbols stand for, none beyond its end."""
    slices, rows, columns = symbols.shape
    for s in range(slices):
        for y in range(rows):
            for x in range(columns):
                out[s, y, x] = table[np.uint64(symbols[s, y, x])]
