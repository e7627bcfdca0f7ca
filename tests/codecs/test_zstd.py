from mroi.codecs.zstd import Zstd
from mroi.testing import CodecSuite


class TestZstd(CodecSuite):
    codecs = (
        Zstd(),
        Zstd(shuffle=False),
        Zstd(level=19, delta=True),
        Zstd(shuffle=False, delta=True),
    )
