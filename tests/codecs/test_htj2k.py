from mroi.codecs.htj2k import Htj2k
from mroi.testing import CodecSuite


class TestHtj2k(CodecSuite):
    codecs = (Htj2k(), Htj2k(step=2))
