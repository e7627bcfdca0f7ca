"""A wanted error, quality or size is reached, and what was reached stands in the file."""

from __future__ import annotations

import io

import numpy as np
import pytest

import mroi
from mroi import Target
from tests.extras import needs

pytestmark = needs("codecs")


@pytest.fixture(scope="module")
def phantom() -> np.ndarray:
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (48, 40, 12)), indexing="ij")
    head = np.where(x**2 + y**2 + z**2 < 0.9, 900 + 300 * np.sin(6 * x) * np.cos(5 * y), 0)
    noisy = head + np.where(head > 0, rng.normal(0, 12, head.shape), 0)
    return noisy.round().astype(np.int16)


def packed(array: np.ndarray, codec: str, target: Target) -> tuple[mroi.Volume, int]:
    file = io.BytesIO()
    result = mroi.pack(array, file, codec=codec, quality=target)
    return mroi.open(file), result.size


@pytest.mark.parametrize(
    "codec", ["auto", "calv", "calv:level=small", "jpegls", "htj2k", "wavelet3d", "jpeg2000"]
)
def test_no_voxel_is_off_by_more_than_the_error(phantom: np.ndarray, codec: str) -> None:
    volume, size = packed(phantom, codec, Target(max_error=20))
    error = np.abs(np.asarray(volume).astype(int) - phantom).max()
    assert error <= 20
    loss = volume.provenance["loss"]
    assert isinstance(loss, dict)
    assert loss["max_error"] == error
    _, exact_size = packed(phantom, codec, Target(max_error=1e-6)) if codec == "jpegls" else (0, 0)
    assert not exact_size or size < exact_size


@pytest.mark.parametrize("codec", ["jpeg2000-3d", "wavelet3d"])
def test_the_quality_is_reached(phantom: np.ndarray, codec: str) -> None:
    volume, _size = packed(phantom, codec, Target(psnr=45))
    inside = volume.roi.slices
    a, b = phantom[inside].astype(float), np.asarray(volume)[inside].astype(float)
    psnr = 20 * np.log10(np.ptp(a)) - 10 * np.log10(((a - b) ** 2).mean())
    assert 45 <= psnr < 60


def test_the_ratio_counts_every_byte_of_the_file(phantom: np.ndarray) -> None:
    volume, size = packed(phantom, "wavelet3d", Target(ratio=8))
    assert phantom.nbytes / size >= 8
    assert volume.reader.size == size


def test_the_error_is_in_units_of_the_volume(phantom: np.ndarray) -> None:
    from mroi.volume.source import ArraySource

    file = io.BytesIO()
    source = ArraySource(phantom, slope=0.5)
    mroi.pack(source, file, codec="jpegls", quality=Target(max_error=5))
    restored = np.asarray(mroi.open(file))
    assert 0 < np.abs(restored - phantom * 0.5).max() <= 5


def test_what_cannot_be_reached_is_said(phantom: np.ndarray) -> None:
    with pytest.raises(mroi.SourceError, match="ratio of 100000"):
        packed(phantom, "wavelet3d", Target(ratio=1e5))
    with pytest.raises(mroi.UsageError, match="no setting to choose"):
        packed(phantom, "zstd", Target(psnr=40))
    with pytest.raises(mroi.UsageError, match="positive"):
        Target(psnr=-1)
    with pytest.raises(mroi.UsageError, match="one of"):
        Target(psnr=40, ratio=2)


@pytest.mark.parametrize("target", [Target(psnr=45), Target(ratio=8), Target(max_error=20)])
def test_auto_lossy_reaches_its_target(phantom: np.ndarray, target: Target) -> None:
    volume, size = packed(phantom, "auto:lossy", target)
    assert volume.reader.head.codecs[0].name == "ebb"
    restored = np.asarray(volume).astype(int)
    assert target.psnr is None or volume.provenance["loss"]["psnr"] < 45.5  # type: ignore[index]
    assert target.ratio is None or 8 <= phantom.nbytes / size < 9
    assert target.max_error is None or 5 < np.abs(restored - phantom).max() <= 20
