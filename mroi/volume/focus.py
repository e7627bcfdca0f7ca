"""Voxels that a lossy codec keeps better than the rest of the ROI."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mroi.geometry import Box

__all__ = ["LEAST_WEIGHT", "ChunkFocus", "Focus"]

LEAST_WEIGHT = 1e-6
"""What the square of an error counts beside the mask, at least: 60 dB less than in it."""


@dataclass(frozen=True, slots=True, eq=False)
class ChunkFocus:
    """The part of a focus in a chunk.

    Attributes
    ----------
    mask : (slices, rows, columns) ndarray of bool
        Which voxels are to be kept better.
    weight : float
        What the square of an error counts in the others.
    """

    mask: NDArray[np.bool_]
    weight: float

    @property
    def weights(self) -> NDArray[np.float32]:
        """What the square of an error counts in each voxel."""
        return np.where(self.mask, np.float32(1), np.float32(self.weight))


@dataclass(frozen=True, slots=True, eq=False)
class Focus:
    """Voxels that a lossy codec keeps better than the rest, in all volumes along further axes.

    Attributes
    ----------
    mask : (x, y, z) ndarray of bool
        Which.
    weight : float
        What the square of an error counts in the others, `LEAST_WEIGHT` to 1.
    """

    mask: NDArray[np.bool_]
    weight: float

    def part(self, box: Box, axes: tuple[int, int, int], volumes: int) -> ChunkFocus:
        """Return the part in the box of a chunk of so many volumes, with its axes in that order."""
        inside = self.mask[box.slices].transpose(axes)
        return ChunkFocus(np.concatenate([inside] * volumes), self.weight)

    def to_json(self, box: Box) -> dict[str, object]:
        """Return what the mask is, of which the voxels in a box count."""
        sha256 = hashlib.sha256()
        for plane in self.mask.transpose():  # x fastest, a slice at once
            sha256.update(plane.astype(np.uint8).tobytes())
        return {"voxels": int(self.mask[box.slices].sum()), "sha256": sha256.hexdigest()}
