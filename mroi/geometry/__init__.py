"""Arithmetic on voxels: `box` (half-open boxes), `affine` (index to mm), then `grid` (chunks of a
volume and their ordinals). No bytes, no IO.
"""

from mroi.geometry.affine import axis_codes, crop_affine, spacing_of
from mroi.geometry.box import Box
from mroi.geometry.grid import ChunkGrid, GridChunk

__all__ = ["Box", "ChunkGrid", "GridChunk", "axis_codes", "crop_affine", "spacing_of"]
