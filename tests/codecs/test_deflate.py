from mroi.codecs.general.deflate import Deflate
from mroi.testing import CodecSuite


class TestDeflate(CodecSuite):
    codecs = (Deflate(), Deflate(level=0, shuffle=False), Deflate(level=9, delta=True))
