"""MONAI reads the files: what it reads of the NIfTI source, with its own readers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, LoadImage, LoadImaged, RandSpatialCropd
from numpy.testing import assert_allclose, assert_array_equal

import mroi
from mroi.errors import UsageError
from mroi.monai import MroiReader

# LoadImage makes all readers that MONAI has, and one of them misses a library that is not needed.
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")

DATA = Path(nib.__file__).parent / "tests" / "data"
AFFINE = np.array([[0, -2, 0.5, 40], [1.5, 0, 0, -30], [0, 0.25, 3, 7], [0, 0, 0, 1]])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    voxels = np.zeros((9, 8, 7), "i2")
    voxels[2:7, 3:8, 1:6] = np.random.default_rng(0).integers(1, 999, (5, 5, 5))
    mroi.pack(voxels, tmp_path / "a.mroi", affine=AFFINE, codec="zstd", roi="tight", slope=2.0)
    return tmp_path / "a.mroi"


@pytest.mark.parametrize("name", ["anatomical.nii", "example4d.nii.gz", "functional.nii"])
@pytest.mark.parametrize("channels", [False, True])
def test_it_is_what_monai_reads_of_the_source(name: str, channels: bool, tmp_path: Path) -> None:  # noqa: FBT001
    mroi.pack(DATA / name, tmp_path / "a.mroi", codec="zstd")
    expected = LoadImage(ensure_channel_first=channels)(DATA / name)
    image = LoadImage(ensure_channel_first=channels)(tmp_path / "a.mroi")
    assert image.dtype == expected.dtype == torch.float32
    assert image.shape == expected.shape
    assert_array_equal(image.numpy(), expected.numpy())
    assert_allclose(image.affine, expected.affine, rtol=1e-6)
    for key in ("spatial_shape", "original_affine"):
        assert_allclose(image.meta[key], expected.meta[key], rtol=1e-6)
    assert image.meta["space"] == expected.meta["space"]
    assert image.meta["filename_or_obj"] == str(tmp_path / "a.mroi")


@pytest.mark.parametrize("reader", [MroiReader, MroiReader(), "mroi.monai.MroiReader", None])
def test_the_reader_is_taken_in_each_way_that_monai_has(path: Path, reader: Any) -> None:
    assert_array_equal(LoadImage(reader=reader)(path).numpy(), mroi.open(path)[...])


def test_the_roi_alone(path: Path) -> None:
    volume = mroi.open(path)
    whole = LoadImage(reader=MroiReader)(path)
    image = LoadImage(reader=MroiReader, cropped=True)(path)
    assert_array_equal(image.numpy(), volume.cropped[...])
    assert_allclose(image.affine, volume.cropped.affine)
    assert whole.meta["roi"].tolist() == [list(volume.roi.start), list(volume.roi.stop)]
    assert image.meta["roi"].tolist() == [[0, 0, 0], list(volume.roi.shape)]


def test_several_files_are_channels(path: Path) -> None:
    volume = mroi.open(path)
    image = LoadImage(reader=MroiReader, ensure_channel_first=True)([path, path])
    assert_array_equal(image.numpy(), np.stack([volume[...]] * 2))
    other = path.with_name("b.mroi")
    mroi.pack(volume.unscaled[...], other, affine=np.eye(4), codec="zstd")
    with pytest.raises(UsageError, match="differ in shape or affine"):
        MroiReader().get_data(MroiReader().read([path, other]))


def test_colour_has_its_samples_last(tmp_path: Path) -> None:
    colour = np.zeros((6, 5, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    colour["G"] = np.random.default_rng(0).integers(0, 255, colour.shape)
    mroi.pack(colour, tmp_path / "a.mroi", affine=np.eye(4), codec="zstd")
    image = LoadImage(ensure_channel_first=True)(tmp_path / "a.mroi")
    assert image.shape == (3, 6, 5, 4)
    assert_array_equal(image[1].numpy(), colour["G"])


def test_other_files_are_left_to_other_readers(path: Path) -> None:
    assert MroiReader().verify_suffix([path, "B.MROI"])
    assert not MroiReader().verify_suffix([path, "b.nii.gz"])
    image = LoadImage(reader=MroiReader)(DATA / "anatomical.nii")
    assert image.shape == (33, 41, 25)


def test_it_works_in_a_pipeline_with_workers(path: Path) -> None:
    pipeline = Compose([
        LoadImaged("image", ensure_channel_first=True),
        RandSpatialCropd("image", (4, 4, 4), random_size=False),
    ])  # fmt: skip
    loader = DataLoader(Dataset([{"image": path}] * 4, pipeline), batch_size=2, num_workers=2)
    assert [batch["image"].shape for batch in loader] == [(2, 1, 4, 4, 4)] * 2


def test_nothing_of_monai_is_imported_by_mroi() -> None:
    code = "import mroi, sys; mroi.open; print('monai' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
