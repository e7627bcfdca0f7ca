"""JPEG 2000: the laws, other decoders, and machines without an OpenJPEG that can be loaded."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mroi.codecs import ChunkSpec
from mroi.codecs.jpeg import openjpeg
from mroi.codecs.jpeg.jpeg2000 import Jpeg2000
from mroi.errors import CodecError, CodecUnavailableError
from mroi.testing import CodecSuite, chunks, specs_for
from tests.extras import needs_codec

pytestmark = needs_codec("jpeg2000")

SPEC = ChunkSpec((1, 64, 60), np.dtype("<i2"), 12)
CHUNK = (900 * np.sin(np.indices(SPEC.shape).sum(axis=0) / 9)).astype("<i2")


class TestJpeg2000(CodecSuite):
    codecs = (Jpeg2000(), Jpeg2000(ratio=8), Jpeg2000(psnr=50))


@pytest.fixture
def no_shared_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a machine on which no OpenJPEG can be loaded."""
    monkeypatch.setattr(openjpeg, "_glymur", lambda: None)


@pytest.mark.skipif(sys.platform == "win32", reason="wheels for Windows hold no shared OpenJPEG")
def test_a_plain_install_brings_its_own_library() -> None:
    assert openjpeg._bundled() is not None
    assert openjpeg._glymur() is not None


@given(st.data())
def test_any_decoder_reads_the_payload(data: st.DataObject) -> None:
    import imagecodecs

    spec = data.draw(specs_for(Jpeg2000()))
    chunk = data.draw(chunks(spec))
    payload = Jpeg2000().encode(chunk, spec)
    assert imagecodecs.jpeg2k_decode(payload, numthreads=1).tolist() == chunk[0].tolist()


@pytest.mark.usefixtures("no_shared_library")
@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", "<i2"])
@pytest.mark.parametrize("shape", [(1, 30, 40), (1, 1, 1), (1, 20, 30, 3)], ids=str)
def test_the_other_library_does_the_same(dtype: str, shape: tuple[int, ...]) -> None:
    info = np.iinfo(dtype)
    chunk = np.resize(np.array([info.min, info.max, 0, 1], dtype), shape)
    spec = ChunkSpec(shape, np.dtype(dtype), 8 * chunk.itemsize)
    payload = Jpeg2000().encode(chunk, spec)
    assert Jpeg2000.probe() is None
    assert "openjpeg" in Jpeg2000.implementation()
    assert Jpeg2000().decode(payload, spec).tolist() == chunk.tolist()


def test_payloads_pass_from_one_library_to_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Jpeg2000().encode(CHUNK, SPEC)
    with monkeypatch.context() as patch:
        patch.setattr(openjpeg, "_glymur", lambda: None)
        there = Jpeg2000().encode(CHUNK, SPEC)
        assert Jpeg2000().decode(here, SPEC).tolist() == CHUNK.tolist()
    assert Jpeg2000().decode(there, SPEC).tolist() == CHUNK.tolist()


@pytest.mark.usefixtures("no_shared_library")
def test_what_the_other_library_lacks_is_named() -> None:
    with pytest.raises(CodecUnavailableError, match="ratio needs glymur"):
        Jpeg2000(ratio=5).encode(CHUNK, SPEC)
    payload = Jpeg2000().encode(CHUNK, SPEC)
    with pytest.raises(CodecUnavailableError, match="resolution needs glymur"):
        Jpeg2000().decode_level(payload, SPEC, 1)


def test_significant_bits_are_the_precision_if_all_voxels_fit() -> None:
    fits = Jpeg2000().encode(CHUNK, SPEC)
    exceeds = Jpeg2000().encode(CHUNK * 3, SPEC)
    assert [payload[42] & 127 for payload in (fits, exceeds)] == [11, 15]


def test_settings_are_reached() -> None:
    noisy = CHUNK + np.random.default_rng(1).integers(-40, 40, SPEC.shape).astype("<i2")
    payload = Jpeg2000(ratio=6).encode(noisy, SPEC)
    assert 5.5 < noisy.nbytes / len(payload) < 7
    for psnr in (40, 60):
        decoded = Jpeg2000(psnr=psnr).decode(Jpeg2000(psnr=psnr).encode(noisy, SPEC), SPEC)
        error = np.mean((decoded.astype(float) - noisy) ** 2)
        assert abs(10 * np.log10(4095**2 / error) - psnr) < 1.5


def test_a_small_picture_looks_like_the_large_one() -> None:
    payload = Jpeg2000().encode(CHUNK, SPEC)
    half = Jpeg2000().decode_level(payload, SPEC, 1)
    assert np.abs(half - CHUNK[:, ::2, ::2]).max() < 60


def test_ratio_and_psnr_exclude_each_other() -> None:
    with pytest.raises(CodecError, match="not both"):
        Jpeg2000(ratio=5, psnr=50)
