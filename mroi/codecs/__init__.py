"""Codecs: between a chunk of voxels and its payload.

To write one, subclass `Codec` (and see `mroi.testing.CodecSuite`); to use one, `parse` or `build`.
"""

from mroi.codecs.base import (
    ChunkSpec,
    Codec,
    Fidelity,
    Filter,
    SupportsLevels,
    SupportsPrefix,
    SupportsTarget,
    Values,
)
from mroi.codecs.filters import Bias, Cast, Planar, Window
from mroi.codecs.pipeline import Pipeline
from mroi.codecs.registry import Entry, available, build, codec_class, is_built_in, parse

__all__ = [
    "Bias",
    "Cast",
    "ChunkSpec",
    "Codec",
    "Entry",
    "Fidelity",
    "Filter",
    "Pipeline",
    "Planar",
    "SupportsLevels",
    "SupportsPrefix",
    "SupportsTarget",
    "Values",
    "Window",
    "available",
    "build",
    "codec_class",
    "is_built_in",
    "parse",
]
