from mroi.codecs.jpeg.jpegxl import JpegXl
from mroi.testing import CodecSuite


class TestJpegXl(CodecSuite):
    codecs = (JpegXl(), JpegXl(effort=1), JpegXl(distance=1))
    detects_excess = False  # the library does not tell where the stream ends
