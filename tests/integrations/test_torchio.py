"""TorchIO reads the files: what it reads of the NIfTI source, and its queue takes patches."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import torchio as tio
from numpy.testing import assert_allclose, assert_array_equal

import mroi
from mroi.errors import UsageError
from mroi.torchio import read

DATA = Path(nib.__file__).parent / "tests" / "data"


@pytest.mark.parametrize("name", ["anatomical.nii", "example4d.nii.gz", "functional.nii"])
def test_it_is_what_torchio_reads_of_the_source(name: str, tmp_path: Path) -> None:
    mroi.pack(DATA / name, tmp_path / "a.mroi", codec="zstd")
    expected = tio.ScalarImage(DATA / name)
    image = tio.ScalarImage(tmp_path / "a.mroi", reader=read)
    assert image.shape == expected.shape
    assert_allclose(image.data.float().numpy(), expected.data.float().numpy(), rtol=1e-6)
    assert_allclose(image.affine, expected.affine, atol=1e-4)
    assert image.orientation == expected.orientation


def test_the_roi_alone_lies_where_it_did(tmp_path: Path) -> None:
    voxels = np.zeros((9, 8, 7), "i2")
    voxels[2:7, 3:8, 1:6] = np.random.default_rng(0).integers(1, 999, (5, 5, 5))
    mroi.pack(
        voxels, tmp_path / "a.mroi", affine=np.diag([2, 2, 3, 1.0]), codec="zstd", roi="tight"
    )
    image = tio.ScalarImage(tmp_path / "a.mroi", reader=partial(read, cropped=True))
    assert_array_equal(image.data[0].numpy(), voxels[2:7, 3:8, 1:6])
    assert_allclose(image.affine[:3, 3], (4, 6, 3))


@pytest.mark.parametrize(
    ("dtype", "given"),
    [
        ("u1", torch.uint8), ("i1", torch.int8), ("u2", torch.int32), ("i2", torch.int16),
        ("u4", torch.int64), ("i4", torch.int32), ("f4", torch.float32), ("f8", torch.float32),
    ],
)  # fmt: skip
def test_types_are_those_that_torchio_takes(tmp_path: Path, dtype: str, given: torch.dtype) -> None:
    voxels = np.random.default_rng(0).integers(0, 99, (6, 5, 4)).astype(dtype)
    mroi.pack(voxels, tmp_path / "a.mroi", affine=np.eye(4), codec="zstd")
    tensor, affine = read(tmp_path / "a.mroi")
    assert tensor.dtype == given
    assert tensor.is_contiguous()
    assert_array_equal(tensor[0].numpy(), voxels)
    assert_array_equal(affine, np.eye(4))


def test_two_axes_and_too_many(tmp_path: Path) -> None:
    plane = np.arange(20, dtype="i2").reshape(5, 4)
    mroi.pack(plane, tmp_path / "a.mroi", affine=np.eye(4), codec="zstd")
    assert_array_equal(read(tmp_path / "a.mroi")[0].numpy(), plane[None, :, :, None])
    mroi.pack(np.ones((4, 4, 4, 2, 2), "i2"), tmp_path / "b.mroi", affine=np.eye(4), codec="zstd")
    with pytest.raises(UsageError, match="5 axes"):
        read(tmp_path / "b.mroi")


def test_a_queue_draws_patches_of_images_and_labels(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 999, (20, 18, 16)).astype("i2")
    mroi.pack(voxels, tmp_path / "a.mroi", affine=np.eye(4), codec="zstd")
    mroi.pack((voxels > 500).astype("u1"), tmp_path / "b.mroi", affine=np.eye(4), codec="zstd")
    subject = tio.Subject(
        image=tio.ScalarImage(tmp_path / "a.mroi", reader=read),
        label=tio.LabelMap(tmp_path / "b.mroi", reader=read),
    )
    queue = tio.Queue(
        tio.SubjectsDataset([subject, subject]), 4, 2, tio.UniformSampler(8), num_workers=0
    )
    for patch in tio.SubjectsLoader(queue, batch_size=2):
        assert patch["image"]["data"].shape == (2, 1, 8, 8, 8)
        assert torch.equal(patch["image"]["data"] > 500, patch["label"]["data"].bool())
