"""A codec that filters make fit is made to fit, in whatever way a file is written."""

import io
from pathlib import Path

import numpy as np
import pytest

import mroi
from mroi import Target
from tests.extras import codec_param, needs_codec

SHAPE = (20, 24, 3)


def volume(dtype: str, low: int, high: int) -> np.ndarray:
    voxels = np.random.default_rng(3).integers(low, high, SHAPE, endpoint=True)
    voxels[0, 0, 0], voxels[1, 0, 0] = low, high
    return voxels.astype(dtype)


def created(voxels: np.ndarray, codec: str) -> bytes:
    target = io.BytesIO()
    with mroi.create(target, voxels.shape, voxels.dtype, codec=codec) as writer:
        for k in range(voxels.shape[2]):
            writer.write(voxels[:, :, k])
    return target.getvalue()


@pytest.mark.parametrize(
    ("codec", "dtype"),
    [
        codec_param("jpegls", "<i2"),
        codec_param("jpegls", "i1"),
        codec_param("jpegxl", "<i2"),
        codec_param("heif", "i1"),
        codec_param("zfp", "<i2"),
    ],
)
def test_create_adds_the_filters_that_pack_adds(codec: str, dtype: str, tmp_path: Path) -> None:
    info = np.iinfo(dtype)
    voxels = volume(dtype, info.min, info.max)
    with mroi.open(created(voxels, codec)) as written:
        assert np.array_equal(written[...], voxels)
        ours = written.reader.head.codecs[0].parameters["filters"]
    mroi.pack(voxels, tmp_path / "packed.mroi", codec=codec, roi="full")
    with mroi.open(tmp_path / "packed.mroi") as packed:
        assert np.array_equal(packed[...], voxels)
        assert packed.reader.head.codecs[0].parameters["filters"] == ours


@needs_codec("heif")
def test_heif_takes_int16_of_12_bits_and_loses_nothing(tmp_path: Path) -> None:
    voxels = volume("<i2", -1024, 3071)
    mroi.pack(voxels, tmp_path / "ct.mroi", codec="heif")
    report = mroi.verify(tmp_path / "ct.mroi", against=voxels)
    compared = report.comparison
    assert report.ok
    assert compared is not None
    assert compared.equal


@needs_codec("heif")
def test_an_error_says_which_options_would_do(tmp_path: Path) -> None:
    voxels = volume("<i2", -2000, 3071)
    with pytest.raises(mroi.SourceError, match="--psnr 40"):
        mroi.pack(voxels, tmp_path / "a.mroi", codec="heif")
    target = Target(psnr=40)
    mroi.pack(voxels, tmp_path / "a.mroi", codec="heif", quality=target)
    assert mroi.verify(tmp_path / "a.mroi").ok
    with pytest.raises(mroi.SourceError, match=r"mroi\.pack looks at them"):
        created(voxels, "heif")
