from mroi.codecs.jpeg2000_3d import Jpeg2000Volume
from mroi.testing import CodecSuite


class TestJpeg2000Volume(CodecSuite):
    codecs = (Jpeg2000Volume(), Jpeg2000Volume(psnr=50))
