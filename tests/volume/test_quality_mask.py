"""A mask says which voxels a lossy codec keeps better; the file says how well it kept both."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import numpy as np
import pytest

import mroi
from mroi import Box, QualityMask, Target
from tests.extras import needs_codec

MASK = np.zeros((44, 40, 24), bool)
MASK[14:24, 12:22, 8:14] = True


@pytest.fixture(scope="module")
def head() -> np.ndarray:
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in MASK.shape), indexing="ij")
    tissue = np.where(x**2 + y**2 + z**2 < 0.8, 900 + 300 * np.sin(9 * x) * np.cos(7 * y), 0)
    return (tissue + np.where(tissue > 0, rng.normal(0, 12, tissue.shape), 0)).round().astype("<i2")


def psnr(original: np.ndarray, decoded: np.ndarray, span: float) -> float:
    squares = (original.astype(float) - decoded) ** 2
    return float(20 * np.log10(span) - 10 * np.log10(squares.mean()))


def pack(array: np.ndarray, **wishes: Any) -> tuple[mroi.Volume, int]:
    file = io.BytesIO()
    result = mroi.pack(array, file, codec="ebb", **wishes)
    return mroi.open(file), result.size


def test_both_qualities_are_reached_and_stand_in_the_file(head: np.ndarray) -> None:
    volume, size = pack(head, quality_mask=QualityMask(MASK, 42), quality=Target(psnr=32))
    decoded, span = np.asarray(volume), float(np.ptp(head))
    record: Any = volume.provenance["loss"]
    found = record["mask"]
    assert found["psnr"] == pytest.approx(psnr(head[MASK], decoded[MASK], span))
    assert found["max_error"] == np.abs(head[MASK].astype(int) - decoded[MASK]).max()
    roi = np.zeros(MASK.shape, bool)
    roi[volume.roi.slices] = True
    beside = roi & ~MASK
    assert found["rest_psnr"] == pytest.approx(psnr(head[beside], decoded[beside], span))
    assert record["psnr"] == pytest.approx(psnr(head[roi], decoded[roi], span))
    assert 42 <= found["psnr"] < 43
    assert 32 <= found["rest_psnr"] < 34
    assert found["voxels"] == MASK.sum()
    assert found["sha256"] == hashlib.sha256(MASK.astype("u1").tobytes("F")).hexdigest()
    _, plain = pack(head, quality=Target(psnr=42))
    assert size < 0.85 * plain


@pytest.mark.parametrize("wishes", [{"slice_axis": "x"}, {"chunk": (32, 32, 16), "roi": "full"}])
def test_the_mask_is_cut_as_the_chunks_are(head: np.ndarray, wishes: dict[str, Any]) -> None:
    volume, _ = pack(head, quality_mask=QualityMask(MASK, 40), **wishes)
    decoded, span = np.asarray(volume), float(np.ptp(head))
    assert psnr(head[MASK], decoded[MASK], span) >= 40
    assert 25 <= psnr(head[~MASK], decoded[~MASK], span) < 36


def test_a_ratio_is_reached_at_the_cost_of_the_rest(head: np.ndarray) -> None:
    volume, size = pack(head, quality_mask=QualityMask(MASK, 42), quality=Target(ratio=20))
    assert head.nbytes / size >= 20
    assert volume.provenance["loss"]["mask"]["psnr"] >= 42  # type: ignore[index]


def test_a_series_has_one_mask(head: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 9, (*head.shape, 3))
    series = (head[..., None] + noise).round().astype("<i2")
    volume, _ = pack(series, quality_mask=QualityMask(MASK, 38))
    span = float(np.ptp(series))
    assert psnr(series[MASK], np.asarray(volume)[MASK], span) >= 38


def test_what_is_dropped_beside_the_box_costs_nothing(head: np.ndarray) -> None:
    """And does not count: the PSNR is that of what was kept."""
    noisy = head + np.random.default_rng(2).integers(0, 400, head.shape, "<i2")
    box = Box((10, 9, 4), (34, 30, 18))
    dropped, size = pack(noisy, roi=box, background="drop", quality=Target(psnr=35))
    kept = noisy[box.slices]
    _, alone = pack(np.ascontiguousarray(kept), roi="full", quality=Target(psnr=35))
    assert size < 1.1 * alone + 200
    decoded = np.asarray(dropped)
    assert 35 <= psnr(kept, decoded[box.slices], float(np.ptp(kept))) < 36
    outside = np.ones(noisy.shape, bool)
    outside[box.slices] = False
    assert not decoded[outside].any()
    assert dropped.provenance["loss"]["background"]["voxels"] == outside.sum()  # type: ignore[index]


def test_chunks_without_loss_count_as_voxels_without_error(head: np.ndarray) -> None:
    """Those that are constant, or no smaller than their voxels."""
    half = head.copy()
    half[:, :, 12:] = 7
    volume, _ = pack(half, roi="full", chunk=12, quality=Target(psnr=40))
    found: Any = volume.provenance["loss"]
    assert found["psnr"] == pytest.approx(psnr(half, np.asarray(volume), float(np.ptp(half))))


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"quality": Target(max_error=2)}, "not with a largest error"),
        ({"quality": Target(psnr=50)}, "has to be less than"),
        ({"codec": "zstd"}, "keeps all voxels alike"),
        ({"codec": "auto"}, "name one without settings"),
        ({"codec": "ebb:step=3"}, "name one without settings"),
    ],
)
def test_options_that_make_no_sense(head: np.ndarray, wishes: dict[str, Any], words: str) -> None:
    with pytest.raises(mroi.UsageError, match=words):
        mroi.pack(
            head, io.BytesIO(), **{"codec": "ebb", "quality_mask": QualityMask(MASK, 42), **wishes}
        )


def test_all_voxels_equal_is_said() -> None:
    for value in (7, np.nan):
        array = np.full((9, 8, 7), value, "<f4")
        with pytest.raises(mroi.SourceError, match="all voxels are equal, or none is finite"):
            mroi.pack(array, io.BytesIO(), codec="auto:lossy", quality=Target(psnr=40))


def test_a_range_that_a_codec_has_no_setting_for_is_said() -> None:
    array = np.random.default_rng(0).normal(0, 1e200, (9, 8, 7))
    with pytest.raises(mroi.SourceError, match="ebb has no setting for values from"):
        mroi.pack(array, io.BytesIO(), codec="ebb", quality=Target(psnr=40))


@needs_codec("zfp")
def test_what_no_float_holds_the_square_of_has_no_psnr() -> None:
    array, file = np.random.default_rng(0).normal(0, 1e200, (9, 8, 7)), io.BytesIO()
    mroi.pack(array, file, codec="zfp:tolerance=1e199")
    found: Any = mroi.open(file).provenance["loss"]
    assert 1e190 < found["max_error"] <= 1e199
    assert "psnr" not in found


def test_what_is_not_finite_is_said_with_what_to_do() -> None:
    array = np.random.default_rng(0).normal(0, 1, (20, 20, 20)).astype("<f4")
    array[3, 4, 1] = np.inf
    with pytest.raises(mroi.SourceError, match="replace them, or take a codec that loses nothing"):
        mroi.pack(array, io.BytesIO(), codec="auto:lossy", quality=Target(psnr=40))
