"""Arithmetic on voxels: no bytes, no IO.

`box` (half-open boxes) and `affine` (index to mm), then `grid` (the chunks of a volume and their
ordinals).
"""

from mroi.geometry.affine import axis_codes, crop_affine, spacing_of
from mroi.geometry.box import Box, in_plane_axes
from mroi.geometry.grid import ChunkGrid, GridChunk

__all__ = [
    "Box",
    "ChunkGrid",
    "GridChunk",
    "axis_codes",
    "crop_affine",
    "in_plane_axes",
    "spacing_of",
]
