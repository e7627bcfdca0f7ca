"""The steps of a measurement, here in one process: what they say is what `mroi` itself says."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import mroi
from mroi.adapters.convert import open_input
from mroi.adapters.crop import write_volume_crop
from mroi.bench import steps
from mroi.bench.rows import Subject, Task
from mroi.bench.steps import check_roi, decode, encode, prepare
from mroi.errors import SourceError, UsageError
from mroi.geometry import Box
from mroi.roi.find import find_roi
from tests.extras import needs, needs_codec

pytestmark = needs("bench")

SHAPE = (22, 20, 18)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A bright ball in noise, with a slope, not gzipped."""
    at = np.indices(SHAPE).transpose(1, 2, 3, 0) - [11, 9, 8]
    rng = np.random.default_rng(2)
    voxels = np.where((at**2).sum(3) < 40, 700, 0) + rng.integers(0, 20, SHAPE)
    image = nib.Nifti1Image(voxels.astype("i2"), np.diag([1, 1, 2, 1]))
    image.header.set_slope_inter(0.5, 2.0)
    nib.save(image, tmp_path / "ball.nii")
    return tmp_path / "ball.nii"


def run(task: Task, folder: Path) -> dict[str, object]:
    files = [folder / name for name in ("x.mroi", "x.reference", "x.png")]
    found = prepare(task, files[1]) | encode(task, files[0])
    return found | decode(task, *files)


def test_a_lossless_row(path: Path, tmp_path: Path) -> None:
    task = Task(subject=Subject("ball", str(path)), codec="zstd", roi="medroi")
    found = run(task, tmp_path)
    assert found["bytes"] == (tmp_path / "x.mroi").stat().st_size
    mroi.pack(path, tmp_path / "y.mroi", codec="zstd", roi="medroi")
    with mroi.open(tmp_path / "y.mroi") as volume:
        assert found["box"] == str(volume.roi)
    assert (found["raw_bytes"], found["full_8bit_bytes"]) == (2 * 22 * 20 * 18, 22 * 20 * 18)
    assert 0 < found["nii_gz_bytes"] < found["raw_bytes"]
    assert found["nii_gz_is"] == "zlib 6"
    assert (found["lossless"], found["psnr"], found["max_error"]) == (True, math.inf, 0)
    assert (found["ssim_3d"], found["ssim_slices"]) == (1.0, 1.0)
    assert found["encode_memory"] > 1e7
    assert not (tmp_path / "x.png").exists()


@needs_codec("jpegls")
def test_a_lossy_row_is_measured_against_the_original(path: Path, tmp_path: Path) -> None:
    task = Task(
        subject=Subject("ball", str(path)),
        codec="jpegls",
        target="max_error=2",
        roi="4:18,3:17,2:16",
        background="drop",
    )
    found = run(task, tmp_path)
    with mroi.open(tmp_path / "x.mroi") as volume:
        decoded = np.asarray(volume)
    original = nib.load(path).get_fdata()
    inside = (slice(4, 18), slice(3, 17), slice(2, 16))
    errors = np.abs(original - decoded)
    assert 0 < errors[inside].max() <= 2
    assert found["max_error"] == errors[inside].max()
    assert found["mean_error"] == pytest.approx(errors[inside].mean())
    assert found["max_error_volume"] == errors.max() > 2
    span = np.ptp(original[inside])
    assert found["psnr"] == pytest.approx(10 * np.log10(span**2 / (errors[inside] ** 2).mean()))
    levels = [np.rint((v[inside] - original.min()) / np.ptp(original) * 255)
              for v in (original, decoded)]  # fmt: skip
    assert found["max_error_8bit"] == np.abs(levels[0] - levels[1]).max()
    assert found["lossless"] is False
    assert 0.5 < found["ssim_3d"] < 1
    worst = (errors[inside] ** 2).mean((0, 1)).argmax() + 2
    assert found["worst_slice"] == worst
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size == (3 * 22, 20)


def test_a_crop_must_be_what_lies_in_the_box(path: Path, tmp_path: Path) -> None:
    crop = tmp_path / "crop.nii.gz"
    with crop.open("wb") as file:
        write_volume_crop(find_roi(open_input(path)), file)
    subject = Subject("ball", str(path))
    good = Task(subject=subject, codec="zstd", roi="medroi", crop=str(crop))
    assert encode(good, tmp_path / "x.mroi")["bytes"] > 0
    image = nib.load(crop)
    voxels = image.get_fdata()
    voxels[2, 3, 4] += 1
    nib.save(nib.Nifti1Image(voxels.astype("f4"), image.affine), crop)
    with pytest.raises(SourceError, match="not what lies in the box"):
        encode(good, tmp_path / "x.mroi")
    with pytest.raises(SourceError, match="not what lies in the box"):
        encode(Task(subject=subject, codec="zstd", crop=str(crop)), tmp_path / "x.mroi")


def test_colours_are_equal_or_not(tmp_path: Path) -> None:
    rgb = np.zeros((6, 5, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["G"] = np.arange(120).reshape(6, 5, 4)
    nib.save(nib.Nifti1Image(rgb, np.eye(4)), tmp_path / "rgb.nii")
    task = Task(subject=Subject("rgb", str(tmp_path / "rgb.nii")), codec="zstd")
    found = run(task, tmp_path)
    assert (found["lossless"], found["psnr"]) == (True, math.inf)


@pytest.mark.parametrize("shape", [(7,), (9, 8), (8, 7, 1), (6, 5, 4, 3)])
def test_any_number_of_axes(shape: tuple[int, ...], tmp_path: Path) -> None:
    voxels = np.random.default_rng(3).integers(0, 99, shape).astype("i2")
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "x.nii")
    found = run(Task(subject=Subject("x", str(tmp_path / "x.nii")), codec="zstd"), tmp_path)
    assert found["lossless"] is True


def test_a_roi_that_is_none_is_refused() -> None:
    for text in ("full", "medroi", "boxes:x.csv", "0:1,0:1,0:1"):
        check_roi(text)
    for text in ("", "all", "0:1", "3:1,0:1,0:1"):
        with pytest.raises(UsageError, match="expected"):
            check_roi(text)


def test_volumes_that_came_back_count_in_the_means() -> None:
    losses = steps._Losses((0.0, 63.0), (0.0, 63.0), Box.whole((4, 4, 4)), 2)
    a = np.arange(64.0).reshape(4, 4, 4)
    losses.add(a, a)
    losses.add(a, a + 1)
    found = losses.to_fields()
    assert (found["lossless"], found["max_error"], found["mean_error"]) == (False, 1, 0.5)
    assert found["psnr"] == found["psnr_volume"] == pytest.approx(10 * np.log10(63**2 / 0.5))
