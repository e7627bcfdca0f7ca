"""Arithmetic on voxels: no bytes, no IO.

`box` (half-open boxes) and `affine` (index to mm), then `grid` (the chunks of a volume and their
ordinals).
"""

from mroi.geometry.affine import axis_codes, corners_apart, crop_affine, is_singular, spacing_of
from mroi.geometry.axis import Axis, axis_number
from mroi.geometry.box import Box, in_plane_axes
from mroi.geometry.grid import ChunkGrid, GridChunk

__all__ = [
    "Axis",
    "Box",
    "ChunkGrid",
    "GridChunk",
    "axis_codes",
    "axis_number",
    "corners_apart",
    "crop_affine",
    "in_plane_axes",
    "is_singular",
    "spacing_of",
]
