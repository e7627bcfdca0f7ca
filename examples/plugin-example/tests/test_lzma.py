"""The laws of mroi, and what is particular to this codec."""

import numpy as np
from mroi_lzma import Lzma
from typing_extensions import override

from mroi.codecs import ChunkSpec, Codec
from mroi.testing import CodecSuite


class TestLzma(CodecSuite):
    """Every law, for the default, for another preset, and with a loss."""

    codecs = (Lzma(), Lzma(preset=0), Lzma(near=3))

    @override
    def max_error(self, codec: Codec, spec: ChunkSpec) -> float:
        """Return what `near` promises."""
        assert isinstance(codec, Lzma)
        return codec.near


def test_constant_chunks_all_but_vanish() -> None:
    """A constant chunk is a few bytes."""
    spec = ChunkSpec((1, 512, 512), np.dtype("<i2"), 16)
    assert len(Lzma().encode(np.zeros(spec.shape, spec.dtype), spec)) < 200
