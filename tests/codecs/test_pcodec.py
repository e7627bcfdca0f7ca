from mroi.codecs.pcodec import Pcodec
from mroi.testing import CodecSuite


class TestPcodec(CodecSuite):
    codecs = (Pcodec(), Pcodec(level=1))
    detects_excess = False  # the library does not tell where the stream ends
