"""ZFP: the laws, and shapes that fill its blocks badly."""

import numpy as np
import pytest

from mroi.codecs import ChunkSpec, Codec
from mroi.codecs.general.zfp import Zfp
from mroi.errors import CodecError
from mroi.testing import CodecSuite
from tests.extras import needs_codec

pytestmark = needs_codec("zfp")


class TestZfp(CodecSuite):
    codecs = (Zfp(), Zfp(tolerance=0.01), Zfp(tolerance=100))
    detects_truncation = False  # a ZFP stream has no end of its own
    detects_excess = False

    def max_error(self, codec: Codec, spec: ChunkSpec) -> float:
        assert isinstance(codec, Zfp)
        assert codec.tolerance is not None
        return codec.tolerance


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<i4", "<i8"])
@pytest.mark.parametrize(
    "shape",
    [(2, 1, 3000), (1, 2, 3000), (2, 2, 2000), (5, 1, 999), (1, 5, 5), (5, 5, 501)],
    ids=str,
)
def test_noise_in_padded_blocks_is_exact(shape: tuple[int, ...], dtype: str) -> None:
    spec = ChunkSpec(shape, np.dtype(dtype), 8 * np.dtype(dtype).itemsize)
    chunk = np.frombuffer(np.random.default_rng(3).bytes(spec.size), dtype).reshape(shape)
    assert Zfp().decode(Zfp().encode(chunk, spec), spec).tobytes() == chunk.tobytes()


def test_a_tolerance_that_cannot_be_kept_is_refused() -> None:
    spec = ChunkSpec((1, 4, 4), np.dtype("<f4"), 32)
    chunk = np.full(spec.shape, 1e30, "<f4")
    chunk[0, 0] = 1.0
    with pytest.raises(CodecError, match="the error would be"):
        Zfp(tolerance=0.01).encode(chunk, spec)
    chunk[0, 0, 0] = np.nan
    with pytest.raises(CodecError, match="NaN and infinity"):
        Zfp(tolerance=0.01).encode(chunk, spec)
