from mroi.codecs.heif import Heif
from mroi.testing import CodecSuite


class TestHeif(CodecSuite):
    codecs = (Heif(), Heif(quality=60))
