import numpy as np
import pytest

from mroi.codecs import ChunkSpec
from mroi.codecs.general.pcodec import Pcodec
from mroi.testing import CodecSuite
from tests.extras import needs_codec

pytestmark = needs_codec("pcodec")


class TestPcodec(CodecSuite):
    codecs = (Pcodec(), Pcodec(level=1))


@pytest.mark.parametrize("dtype", ["u1", "<u2", "<f8"])
def test_chunks_of_many_inner_chunks(dtype: str) -> None:
    from pcodec import standalone

    spec = ChunkSpec((3, 500, 500), np.dtype(dtype), 8 * np.dtype(dtype).itemsize)
    chunk = np.frombuffer(np.random.default_rng(0).bytes(spec.size), dtype).reshape(spec.shape)
    payload = Pcodec(level=12).encode(chunk, spec)
    assert Pcodec().decode(payload, spec).tobytes() == chunk.tobytes()
    assert standalone.simple_decompress(payload).tobytes() == chunk.tobytes()
