from mroi.codecs.general.raw import Raw
from mroi.testing import CodecSuite


class TestRaw(CodecSuite):
    codecs = (Raw(),)
