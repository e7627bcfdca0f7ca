from mroi.codecs.jpeg2000 import Jpeg2000
from mroi.testing import CodecSuite


class TestJpeg2000(CodecSuite):
    codecs = (Jpeg2000(), Jpeg2000(ratio=8), Jpeg2000(psnr=50))
