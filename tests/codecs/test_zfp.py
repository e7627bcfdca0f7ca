from mroi.codecs import ChunkSpec, Codec
from mroi.codecs.zfp import Zfp
from mroi.testing import CodecSuite


class TestZfp(CodecSuite):
    codecs = (Zfp(), Zfp(tolerance=0.01), Zfp(tolerance=100))
    detects_truncation = False  # a ZFP stream has no end of its own
    detects_excess = False

    def max_error(self, codec: Codec, spec: ChunkSpec) -> float:
        assert isinstance(codec, Zfp)
        assert codec.tolerance is not None
        return codec.tolerance
