"""HEIF: the laws, and never a silent rounding."""

import numpy as np
import pytest

from mroi.codecs import ChunkSpec
from mroi.codecs.mpeg.heif import Heif
from mroi.errors import CodecError
from mroi.testing import CodecSuite
from tests.extras import needs_codec

pytestmark = needs_codec("heif")


class TestHeif(CodecSuite):
    codecs = (Heif(), Heif(quality=60))


@pytest.mark.parametrize("bits", range(1, 17))
def test_lossless_or_refused(bits: int) -> None:
    spec = ChunkSpec((1, 70, 65), np.dtype("<u2"), bits)
    chunk = np.random.default_rng(bits).integers(0, 2**bits, spec.shape).astype("<u2")
    if bits > 12:
        assert "12 significant bits" in (Heif().refuses(spec) or "")
    else:
        assert Heif().decode(Heif().encode(chunk, spec), spec).tolist() == chunk.tolist()


def test_a_voxel_with_more_bits_than_it_should_have_is_refused() -> None:
    spec = ChunkSpec((1, 8, 8), np.dtype("<u2"), 12)
    chunk = np.zeros(spec.shape, "<u2")
    chunk[0, 3, 3] = 4096
    with pytest.raises(CodecError, match="exceed the 12 significant bits"):
        Heif().encode(chunk, spec)


def test_colours_stay_colours() -> None:
    spec = ChunkSpec((1, 66, 70, 3), np.dtype("u1"), 8)
    chunk = np.random.default_rng(0).integers(0, 256, spec.shape).astype("u1")
    assert Heif().decode(Heif().encode(chunk, spec), spec).tolist() == chunk.tolist()
