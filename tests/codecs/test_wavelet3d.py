from mroi.codecs.wavelet3d import Wavelet3d
from mroi.testing import CodecSuite


class TestWavelet3d(CodecSuite):
    codecs = (Wavelet3d(), Wavelet3d(step=8))
