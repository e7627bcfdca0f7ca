"""Codecs: between a chunk of voxels and its payload.

To write one, subclass `Codec` (and see `mroi.testing.CodecSuite`); to use one, `parse` or `build`.

Modules, from the bottom:

`base`
    What a codec is, what it can do besides, and what a filter is.
`fields`, `guard`, `native`, `compiled`
    Checks of parameters; foreign code and what it raises; libraries and kernels that do the work.
`general`, `jpeg`, `mpeg`, `wavelet`, `calv`
    The codecs, in families.
`filters`, `registry`
    The steps before a codec; from the name of a codec to its class.
`isolation`
    Decoding in a process of its own.
`pipeline`
    Filters, then a codec, and back: what the rest of the library uses.
"""

from mroi.codecs.base import (
    ChunkSpec,
    Codec,
    Fidelity,
    Filter,
    SupportsLevels,
    SupportsPrefix,
    SupportsRange,
    SupportsTarget,
    SupportsWeights,
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
    "SupportsRange",
    "SupportsTarget",
    "SupportsWeights",
    "Values",
    "Window",
    "available",
    "build",
    "codec_class",
    "is_built_in",
    "parse",
]
