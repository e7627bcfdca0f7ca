"""The bands of a slab: how the wavelet splits it, and where the coefficients of each band are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["COLUMNS", "SECTIONS", "Band", "Plan", "plan", "strip_rows", "strip_size"]

SECTIONS = 3
"""Sections of a payload: levels of 3 and more, level 2, level 1."""

_SHORTEST = 4  # an axis with fewer coefficients is not split
_ORDER = (0, 1, 2, 4, 3, 5, 6, 7)  # of the bands of a level: bit 0 high in x, 1 in y, 2 in z
_AROUND = 3  # places of the margin left of a row and right of it,
_ROWS = 2  # rows above and below,
_SLICES = 2, 1  # and slices before and after

COLUMNS = 24
"""Numbers that tell a kernel of a band."""


@dataclass(frozen=True, slots=True)
class Band:
    """One band.

    Attributes
    ----------
    level : int
        1 for the finest.
    orientation : int
        1 for what is high in x, plus 2 for y, plus 4 for z; 0 for the lowest band.
    origin, shape : tuple of 3 int
        Where it lies in the array of all coefficients: z, y, x.
    """

    level: int
    orientation: int
    origin: tuple[int, int, int]
    shape: tuple[int, int, int]

    @property
    def section(self) -> int:
        """The section that it is part of."""
        return SECTIONS - min(self.level, SECTIONS)


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How a slab is split.

    Attributes
    ----------
    shapes : tuple of shapes
        Of the slab, and of the low part of each level.
    bands : tuple of Band
        In the order of coding.
    table : (bands, COLUMNS) int64
        The same for kernels; see `plan`.
    size, sums : int
        Places of all bands with their margins, and of the largest level with its own.
    """

    shapes: tuple[tuple[int, int, int], ...]
    bands: tuple[Band, ...]
    table: NDArray[np.int64]
    size: int
    sums: int


@lru_cache(maxsize=256)
def plan(shape: tuple[int, int, int], deep: int, flat: int) -> Plan:
    """Return how a slab is split.

    A row of the table has level, orientation, origin (3), shape (3), first place, distance of
    rows, distance of slices, parent or -1, whether the parent is half as long in z, y, x (3),
    distance of rows and of slices of the sums of the level, and how many bands of the level come
    before, which are the rows just above.

    Parameters
    ----------
    shape : tuple of 3 int
        Slices, rows, columns.
    deep, flat : int
        Levels across slices, and in the plane, at most.
    """
    shapes = [shape]
    while True:
        last, level = shapes[-1], len(shapes)
        most = (deep, flat, flat)
        splits = tuple(n >= _SHORTEST and level <= m for n, m in zip(last, most, strict=True))
        if not any(splits):
            break
        halves = ((n + 1) // 2 if s else n for n, s in zip(last, splits, strict=True))
        shapes.append(tuple(halves))  # type: ignore[arg-type]
    bands = [
        band
        for level in range(len(shapes) - 1, 0, -1)
        for band in _bands_of(
            level, shapes[level - 1], shapes[level], deepest=level == len(shapes) - 1
        )
    ] or [Band(1, 0, (0, 0, 0), shape)]
    table, size = _table(bands, shapes)
    sums = max((_padded(shapes[level]) for level in range(1, len(shapes))), default=1)
    return Plan(tuple(shapes), tuple(bands), table, size, sums)


def _bands_of(
    level: int, whole: tuple[int, int, int], low: tuple[int, int, int], *, deepest: bool
) -> list[Band]:
    bands = []
    for orientation in _ORDER:
        highs = tuple(orientation >> bit & 1 for bit in (2, 1, 0))
        shape = tuple(w - n if h else n for h, w, n in zip(highs, whole, low, strict=True))
        if min(shape) and (orientation or deepest):
            origin = tuple(n if h else 0 for h, n in zip(highs, low, strict=True))
            bands.append(Band(level, orientation, origin, shape))  # type: ignore[arg-type]
    return bands


def _padded(shape: tuple[int, int, int]) -> int:
    slices, rows, columns = shape
    return (slices + sum(_SLICES)) * (rows + 2 * _ROWS) * (columns + 2 * _AROUND)


def _table(bands: list[Band], shapes: list[tuple[int, int, int]]) -> tuple[NDArray[np.int64], int]:
    table = np.zeros((len(bands), COLUMNS), np.int64)
    place = 0
    for row, band in enumerate(bands):
        _, rows, columns = band.shape
        width = columns + 2 * _AROUND
        area = (rows + 2 * _ROWS) * width
        first = place + _SLICES[0] * area + _ROWS * width + _AROUND
        parent = _parent(bands[:row], band)
        halves = (0, 0, 0)
        if parent >= 0:
            pairs = zip(bands[parent].shape, band.shape, strict=True)
            halves = tuple(int(p < n) if n > 1 else 0 for p, n in pairs)  # type: ignore[assignment]
        low = shapes[band.level] if len(shapes) > band.level else band.shape
        wide = low[2] + 2 * _AROUND
        siblings = sum(b.level == band.level and b.orientation > 0 for b in bands[:row])
        table[row, :18] = (
            band.level, band.orientation, *band.origin, *band.shape, first, width, area,
            parent, *halves, wide, (low[1] + 2 * _ROWS) * wide, siblings,
        )  # fmt: skip
        place += _padded(band.shape)
    return table, place


def _parent(before: list[Band], band: Band) -> int:
    """Return the band of the next level with the same orientation, or that in the plane; or -1."""
    for orientation in (band.orientation, band.orientation & 3):
        for row, other in enumerate(before):
            if orientation and (other.level, other.orientation) == (band.level + 1, orientation):
                return row
    return -1


def strip_rows(columns: int) -> int:
    """Return how many rows of so many columns are filtered at once."""
    return max(4, min(64, (1 << 15) // columns))


def strip_size(rows: int, columns: int) -> int:
    """Return the bytes of what the filter keeps of a strip: `mroi.codecs.ebb.smoothing`."""
    count = min(rows, strip_rows(columns))
    wide = columns + 6
    return 4 * ((7 + 4) * (count + 6) * wide + 12 * count * wide + 28 * wide)
