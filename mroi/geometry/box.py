"""A box of voxels: half-open bounds on the three spatial axes (x, y, z)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from typing_extensions import override

__all__ = ["Box", "in_plane_axes"]

Triple = tuple[int, int, int]
Quad = tuple[int, int, int, int]


def in_plane_axes(axis: int) -> tuple[int, int]:
    """Return the two axes of the slices across `axis`, ascending: fast, slow in scan order.

    Examples
    --------
    >>> in_plane_axes(1)
    (0, 2)
    """
    fast, slow = (a for a in range(3) if a != axis)
    return fast, slow


@dataclass(frozen=True, slots=True)
class Box:
    """Voxels with ``start <= index < stop`` on each of the axes x, y, z; never empty.

    Raises
    ------
    ValueError
        If a bound is negative or an extent is not positive.

    Examples
    --------
    >>> Box((1, 0, 0), (3, 4, 1)).shape
    (2, 4, 1)
    """

    start: Triple
    stop: Triple

    def __post_init__(self) -> None:
        if not all(0 <= lo < hi for lo, hi in zip(self.start, self.stop, strict=True)):
            raise ValueError(f"box {self.start} to {self.stop} is empty or has negative indices")

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Self:
        """Return the box of all voxels of a volume; `shape` has at least three entries."""
        return cls((0, 0, 0), (shape[0], shape[1], shape[2]))

    @property
    def shape(self) -> Triple:
        """Extent in voxels along x, y, z."""
        return (
            self.stop[0] - self.start[0],
            self.stop[1] - self.start[1],
            self.stop[2] - self.start[2],
        )

    @property
    def count(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Index of the box in an array with axes x, y, z."""
        x, y, z = (slice(lo, hi) for lo, hi in zip(self.start, self.stop, strict=True))
        return x, y, z

    def contains(self, other: Box) -> bool:
        """Whether every voxel of `other` lies in this box."""
        return all(
            a <= b and c >= d
            for a, b, c, d in zip(self.start, other.start, self.stop, other.stop, strict=True)
        )

    def find_overlap(self, other: Box) -> Box | None:
        """Return the voxels that both boxes have, or None."""
        lo = tuple(map(max, self.start, other.start))
        hi = tuple(map(min, self.stop, other.stop))
        if any(a >= b for a, b in zip(lo, hi, strict=True)):
            return None
        return Box((lo[0], lo[1], lo[2]), (hi[0], hi[1], hi[2]))

    def union(self, other: Box) -> Box:
        """Return the smallest box around both."""
        lo = tuple(map(min, self.start, other.start))
        hi = tuple(map(max, self.stop, other.stop))
        return Box((lo[0], lo[1], lo[2]), (hi[0], hi[1], hi[2]))

    def padded(self, margin: Sequence[int], shape: Sequence[int]) -> Box:
        """Widen by `margin` voxels on both sides of each axis, clipped to a volume of `shape`."""
        lo = [max(0, a - m) for a, m in zip(self.start, margin, strict=True)]
        hi = [min(n, b + m) for b, m, n in zip(self.stop, margin, shape[:3], strict=True)]
        return Box((lo[0], lo[1], lo[2]), (hi[0], hi[1], hi[2]))

    def shifted(self, offset: Sequence[int]) -> Box:
        """Move by `offset` voxels."""
        lo = [a + d for a, d in zip(self.start, offset, strict=True)]
        hi = [b + d for b, d in zip(self.stop, offset, strict=True)]
        return Box((lo[0], lo[1], lo[2]), (hi[0], hi[1], hi[2]))

    @override
    def __str__(self) -> str:
        return ",".join(f"{a}:{b}" for a, b in zip(self.start, self.stop, strict=True))
