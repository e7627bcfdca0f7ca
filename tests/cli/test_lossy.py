"""``pack`` to a wanted error, quality or size: it is reached, and what was lost is said."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import mroi as library
from mroi.cli.exits import ExitCode
from tests.cli.runner import AFFINE, Mroi
from tests.extras import needs_codec

SLOPE, INTER = 0.5, -3.0
CODEC = "wavelet3d"


def smooth() -> np.ndarray:
    """A wave with some noise: a lossy codec gains much, and not everything."""
    x, y, z = np.indices((32, 28, 12))
    noise = np.random.default_rng(1).normal(0, 3, x.shape)
    return (500 + 300 * np.sin(x / 5) * np.cos(y / 7) + 4 * z + noise).round().astype("i2")


@pytest.fixture
def wave(tmp_path: Path) -> Path:
    image = nib.Nifti1Image(smooth(), AFFINE)
    image.header.set_slope_inter(SLOPE, INTER)
    nib.save(image, tmp_path / "wave.nii")
    return tmp_path / "wave.nii"


def read(path: str) -> np.ndarray:
    with library.open(path) as volume:
        return np.asarray(volume[:])


def psnr_of(restored: np.ndarray) -> float:
    values = smooth() * SLOPE + INTER
    mean = ((restored - values) ** 2).mean()
    return float(20 * np.log10(np.ptp(values) / np.sqrt(mean)))


@needs_codec(CODEC)
@pytest.mark.parametrize("wanted", [0.5, 2.0, 8.0])
def test_the_error_stays_below_what_is_asked(mroi: Mroi, wave: Path, wanted: float) -> None:
    assert mroi("pack", wave, "-o", "w.mroi", "-c", CODEC, "--max-error", wanted).code == 0
    worst = np.abs(read("w.mroi") - (smooth() * SLOPE + INTER)).max()
    assert 0 < worst <= wanted


@needs_codec(CODEC)
def test_the_psnr_is_at_least_what_is_asked(mroi: Mroi, wave: Path) -> None:
    done = mroi("pack", wave, "-o", "w.mroi", "-c", CODEC, "--psnr", "50")
    found = psnr_of(read("w.mroi"))
    assert 50 <= found < 56
    said = re.search(r"PSNR ([0-9.]+) dB", done.err)
    assert said
    assert float(said[1]) == pytest.approx(found, abs=0.06)


@needs_codec(CODEC)
def test_the_file_is_as_small_as_asked(mroi: Mroi, wave: Path) -> None:
    assert mroi("pack", wave, "-o", "w.mroi", "-c", CODEC, "--ratio", "4").code == 0
    assert smooth().nbytes / Path("w.mroi").stat().st_size >= 4


@needs_codec(CODEC)
def test_the_line_says_the_largest_error_in_units_of_the_volume(mroi: Mroi, wave: Path) -> None:
    done = mroi("pack", wave, "-o", "w.mroi", "-c", CODEC, "--max-error", "4")
    said = re.search(r"error <= ([0-9.]+)", done.err)
    assert said
    worst = np.abs(read("w.mroi") - (smooth() * SLOPE + INTER)).max()
    assert float(said[1]) == pytest.approx(worst, rel=1e-3)


@pytest.mark.parametrize("options", [[], ["--small"], ["-c", "calv:level=small"]])
def test_a_largest_error_needs_no_codec(mroi: Mroi, wave: Path, options: list[str]) -> None:
    """The bound is one on values in units of the volume, and the file is smaller than without."""
    assert mroi("pack", wave, "-o", "exact.mroi", *options).code == 0
    done = mroi("pack", wave, "-o", "w.mroi", "--max-error", "4", *options)
    assert "lossy: error <=" in done.err
    assert 0 < np.abs(read("w.mroi") - (smooth() * SLOPE + INTER)).max() <= 4 * (1 + 1e-9)
    assert Path("w.mroi").stat().st_size < Path("exact.mroi").stat().st_size
    assert "bounded error" in mroi("info", "w.mroi").out


def test_the_line_says_what_was_dropped_of_the_background(mroi: Mroi, wave: Path) -> None:
    box = "4:20,0:28,2:10"
    done = mroi("pack", wave, "-o", "w.mroi", "-c", "zstd", "--roi", box, "--background", "drop")
    outside = np.ones(smooth().shape, bool)
    outside[4:20, :, 2:10] = False
    dropped = smooth()[outside]
    expected = f"background dropped: {dropped.size:,} voxels, stored values {dropped.min()} to"
    assert expected in done.err


def test_nothing_is_said_to_be_lost_where_nothing_was(mroi: Mroi, wave: Path) -> None:
    assert "lossy" not in mroi("pack", wave, "-o", "w.mroi", "-c", "zstd").err


def test_small_is_short_for_an_archive(mroi: Mroi, wave: Path) -> None:
    assert mroi("pack", wave, "-o", "a.mroi", "--small").code == 0
    assert mroi("pack", wave, "-o", "b.mroi", "--for", "archive").code == 0
    assert Path("a.mroi").read_bytes() == Path("b.mroi").read_bytes()
    assert np.array_equal(read("a.mroi"), smooth() * SLOPE + INTER)


@needs_codec(CODEC)
@pytest.mark.parametrize(
    "options",
    [
        ["--psnr", "40"],
        ["--psnr", "40", "--codec", "auto:small"],
        ["--max-error", "2", "--codec", "calv:near=1"],
        ["--ratio", "4", "--small"],
        ["--small", "--for", "patches"],
        ["--max-error", "2", "--codec", "wavelet3d:step=2"],
        ["--max-error", "2", "--codec", "zstd"],
        ["--max-error", "2", "--psnr", "40", "--codec", CODEC],
        ["--max-error", "0", "--codec", CODEC],
        ["--max-error", "-1", "--codec", CODEC],
        ["--psnr", "nan", "--codec", CODEC],
        ["--small", "--codec", "zstd"],
    ],
)
def test_options_that_make_no_sense(mroi: Mroi, wave: Path, options: list[str]) -> None:
    assert mroi("pack", wave, "-o", "w.mroi", *options).code == ExitCode.USAGE
    assert not Path("w.mroi").exists()


@needs_codec(CODEC)
def test_a_target_out_of_reach(mroi: Mroi, wave: Path) -> None:
    done = mroi("pack", wave, "-o", "w.mroi", "-c", CODEC, "--ratio", "1e9")
    assert done.code == ExitCode.NO_INPUT
    assert "reaches" in done.err
    assert not Path("w.mroi").exists()


@needs_codec(CODEC)
def test_unpacking_says_that_voxels_were_lost(mroi: Mroi, wave: Path) -> None:
    assert mroi("pack", wave, "--codec", CODEC, "--max-error", "1", "-o", "w.mroi").code == 0
    done = mroi("unpack", "w.mroi", "-o", "w.nii")
    assert (done.code, "which is lossy: not equal to the source" in done.err) == (0, True)
    (record,) = mroi("unpack", "w.mroi", "-o", "v.nii", "--json").records
    assert (record["proven"], record["lossless"]) == (False, False)


@pytest.mark.parametrize("psnr", ["30", "400"])
def test_a_mask_of_all_voxels_and_one_without_errors_are_said(
    mroi: Mroi, wave: Path, psnr: str
) -> None:
    """There is no PSNR beside the one, and none in the other."""
    whole = psnr == "30"
    inside = np.full(smooth().shape, whole, "u1")
    inside[8:20, 8:20, 3:9] = 1
    nib.save(nib.Nifti1Image(inside, AFFINE), "mask.nii.gz")
    done = mroi("pack", wave, "-o", "w.mroi", "-c", "ebb", "--quality-mask", f"mask.nii.gz:{psnr}")
    assert done.code == 0
    assert ("dB in the mask" in done.err, "no error in the mask" in done.err) == (whole, not whole)
    (record,) = mroi("info", "--json", "w.mroi").records
    loss = record["provenance"]["loss"]["mask"]
    assert ("psnr" in loss, "rest_psnr" in loss) == (whole, False)


@pytest.mark.parametrize(
    ("mask", "option", "words"),
    [
        (np.ones((1, 1, 1, 3), "u1"), "mask.nii.gz:45", "3 volumes of uint8; expected one"),
        (np.ones((1, 1, 1), "c8"), "mask.nii.gz:45", "1 volume of complex64; expected one"),
        (np.ones((1, 1, 1), "u1"), "mask.nii.gz:7:45", "no voxel of label 7; it has 1"),
        (np.zeros((1, 1, 1), "u1"), "mask.nii.gz:45", "the mask is empty"),
    ],
)
def test_what_is_no_quality_mask_is_said(
    mroi: Mroi, wave: Path, mask: np.ndarray, option: str, words: str
) -> None:
    nib.save(
        nib.Nifti1Image(np.tile(mask, smooth().shape + (1,) * (mask.ndim - 3)), AFFINE),
        "mask.nii.gz",
    )
    done = mroi("pack", wave, "-o", "w.mroi", "-c", "ebb", "--quality-mask", option)
    assert done.code == ExitCode.NO_INPUT
    assert words in done.err
    assert not Path("w.mroi").exists()


def test_a_quality_mask_is_a_file_on_the_same_grid(mroi: Mroi, wave: Path) -> None:
    inside = np.zeros(smooth().shape, "u1")
    inside[8:20, 8:20, 3:9] = 5
    nib.save(nib.Nifti1Image(inside, AFFINE), "mask.nii.gz")
    done = mroi("pack", wave, "-o", "w.mroi", "-c", "ebb", "--quality-mask", "mask.nii.gz:5:48")
    assert done.code == 0
    said = re.search(r"PSNR ([0-9.]+) dB in the mask, ([0-9.]+) dB beside it", done.err)
    assert said
    values, restored = smooth() * SLOPE + INTER, read("w.mroi")
    peak = 20 * np.log10(np.ptp(values))
    for text, where in zip(said.groups(), (inside > 0, inside == 0), strict=True):
        found = peak - 10 * np.log10(((restored - values)[where] ** 2).mean())
        assert float(text) == pytest.approx(found, abs=0.06)
    assert float(said[1]) >= 48
    assert float(said[2]) < 40
    (record,) = mroi("info", "--json", "w.mroi").records
    assert record["provenance"]["loss"]["mask"]["voxels"] == (inside > 0).sum()


@pytest.mark.parametrize(
    ("mask", "code", "words"),
    [
        ("mask.nii.gz", ExitCode.USAGE, "expected FILE:DB"),
        ("mask.nii.gz:x", ExitCode.USAGE, "expected FILE:DB"),
        ("mask.nii.gz:-4", ExitCode.USAGE, "positive number"),
        ("none.nii.gz:40", ExitCode.NO_INPUT, "mask none.nii.gz"),
        ("mask.nii.gz:40", ExitCode.NO_INPUT, "the mask has shape"),
    ],
)
def test_a_quality_mask_that_is_none(
    mroi: Mroi, wave: Path, mask: str, code: int, words: str
) -> None:
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), "u1"), AFFINE), "mask.nii.gz")
    done = mroi("pack", wave, "-o", "w.mroi", "-c", "ebb", "--quality-mask", mask)
    assert (done.code, words in done.err) == (code, True)
    assert not Path("w.mroi").exists()
