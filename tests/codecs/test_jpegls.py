from mroi.codecs import ChunkSpec, Codec
from mroi.codecs.jpeg.jpegls import JpegLs
from mroi.testing import CodecSuite


class TestJpegLs(CodecSuite):
    codecs = (JpegLs(), JpegLs(near=1), JpegLs(near=20))

    def max_error(self, codec: Codec, spec: ChunkSpec) -> float:
        assert isinstance(codec, JpegLs)
        return codec.near
