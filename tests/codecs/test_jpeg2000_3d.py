"""JPEG 2000 along slices: the laws, and what it is for."""

import numpy as np

from mroi.codecs import ChunkSpec
from mroi.codecs.jpeg.jpeg2000 import Jpeg2000
from mroi.codecs.jpeg.jpeg2000_3d import Jpeg2000Volume, _lift, _Transform, _unlift
from mroi.testing import CodecSuite
from tests.extras import needs_codec

pytestmark = needs_codec("jpeg2000-3d")

RNG = np.random.default_rng(5)


class TestJpeg2000Volume(CodecSuite):
    codecs = (Jpeg2000Volume(), Jpeg2000Volume(psnr=50))


def texture(slices: int, drift: int) -> np.ndarray:
    """Return slices that resemble their neighbours the less, the larger the drift."""
    first = RNG.integers(0, 4000, (1, 48, 40))
    steps = RNG.integers(-drift, drift + 1, (slices, 48, 40)).cumsum(axis=0)
    return (first + steps).astype("<i2")


def sizes(volume: np.ndarray) -> tuple[int, int, int]:
    spec = ChunkSpec(volume.shape, volume.dtype, 16)
    plane = ChunkSpec((1, *volume.shape[1:]), volume.dtype, 16)
    payload = Jpeg2000Volume().encode(volume, spec)
    planes = sum(len(Jpeg2000().encode(volume[k : k + 1], plane)) for k in range(len(volume)))
    return len(payload), planes, payload[0]


def test_what_slices_share_is_coded_once() -> None:
    size, planes, transform = sizes(texture(9, drift=40))
    assert transform == _Transform.PREDICT
    assert size < 0.85 * planes


def test_noise_is_averaged_away_from_what_slices_share() -> None:
    anatomy = 900 * np.sin(np.indices((1, 48, 40)).sum(axis=0) / 7)
    size, planes, transform = sizes((anatomy + RNG.normal(0, 30, (9, 48, 40))).astype("<i2"))
    assert transform == _Transform.LIFT
    assert size < planes


def test_slices_that_share_nothing_stay_as_they_are() -> None:
    size, planes, transform = sizes(RNG.integers(-3000, 3000, (6, 48, 40)).astype("<i2"))
    assert transform == _Transform.NONE
    assert size <= planes + 5 * 6


def test_the_lifting_of_the_page_by_hand() -> None:
    planes = np.array([10, 13, 12, 21, 20], np.int32).reshape(5, 1, 1)
    low, high = _lift(planes)
    assert high.ravel().tolist() == [13 - 11, 21 - 16]
    assert low.ravel().tolist() == [10 + 1, 12 + 2, 20 + 3]
    whole = np.stack([low[0], high[0], low[1], high[1], low[2]])
    _unlift(whole, _Transform.LIFT)
    assert whole.tolist() == planes.tolist()


def test_the_quality_asked_for_is_reached() -> None:
    volume = texture(8, drift=300)
    spec = ChunkSpec(volume.shape, volume.dtype, 16)
    for psnr in (55, 65, 75):
        codec = Jpeg2000Volume(psnr=psnr)
        decoded = codec.decode(codec.encode(volume, spec), spec)
        error = np.mean((decoded.astype(float) - volume) ** 2)
        assert abs(10 * np.log10(65535**2 / error) - psnr) < 1.5
