"""Images of SimpleITK have the voxels of a volume where the patient has them, and come back."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.testing import assert_allclose, assert_array_equal

import mroi
from mroi.errors import SourceError, UsageError
from mroi.sitk import from_sitk, to_sitk

DATA = Path(nib.__file__).parent / "tests" / "data"
AFFINE = np.array([[0, -2, 0.5, 40], [1.5, 0, 0, -30], [0, 0.25, 3, 7], [0, 0, 0, 1]])


@pytest.fixture
def volume(tmp_path: Path) -> mroi.Volume:
    voxels = np.zeros((9, 8, 7), "i2")
    voxels[2:7, 3:8, 1:6] = np.random.default_rng(0).integers(1, 999, (5, 5, 5))
    mroi.pack(voxels, tmp_path / "a.mroi", affine=AFFINE, codec="zstd")
    return mroi.open(tmp_path / "a.mroi")


@pytest.mark.parametrize("name", ["anatomical.nii", "example4d.nii.gz"])
def test_it_is_what_simpleitk_reads_of_the_source(name: str, tmp_path: Path) -> None:
    expected = sitk.ReadImage(DATA / name)
    mroi.pack(DATA / name, tmp_path / "a.mroi", codec="zstd")
    image = to_sitk(tmp_path / "a.mroi")
    assert_allclose(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(expected), rtol=1e-6)
    assert image.GetSize() == expected.GetSize()
    assert_allclose(image.GetSpacing()[:3], expected.GetSpacing()[:3], rtol=1e-5)
    assert_allclose(image.GetOrigin()[:3], expected.GetOrigin()[:3], rtol=1e-5)
    assert_allclose(image.GetDirection(), expected.GetDirection(), atol=1e-5)


def test_each_voxel_is_where_the_affine_says(volume: mroi.Volume) -> None:
    image = to_sitk(volume)
    for index in ((0, 0, 0), (5, 4, 3), (8, 7, 6)):
        right, front, up = (volume.affine @ (*index, 1))[:3]
        assert_allclose(image.TransformIndexToPhysicalPoint(index), (-right, -front, up))
        assert image[index] == volume[index]


def test_a_region_is_read_alone_and_stays_where_it_is(volume: mroi.Volume) -> None:
    whole, part = to_sitk(volume), to_sitk(volume, volume.roi)
    assert part.GetSize() == volume.roi.shape
    start = volume.roi.start
    assert_allclose(part.GetOrigin(), whole.TransformIndexToPhysicalPoint(start))
    assert_array_equal(sitk.GetArrayFromImage(part).T, volume.cropped[...])
    with pytest.raises(IndexError, match="outside"):
        to_sitk(volume, mroi.Box((0, 0, 0), (9, 8, 8)))


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3), (5, 4, 3, 2)])
@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8"])
def test_images_come_back(shape: tuple[int, ...], dtype: str, tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 99, shape[::-1]).astype(dtype)
    image = sitk.GetImageFromArray(voxels, isVector=False)
    image.SetSpacing((1.5, 2, 3, 2.5)[: len(shape)])
    image.SetOrigin((-10, 20, 5, 0)[: len(shape)])
    mroi.pack(from_sitk(image), tmp_path / "a.mroi", codec="zstd")
    volume = mroi.open(tmp_path / "a.mroi")
    assert_array_equal(volume[...], voxels.T)
    assert volume.stored_dtype == dtype
    assert volume.affine[:2, 3].tolist() == [10, -20]
    assert volume.spacing == (1.5, 2, 3, 2.5)[: len(shape)]
    again = to_sitk(volume)
    assert_array_equal(sitk.GetArrayFromImage(again).reshape(voxels.shape), voxels)
    assert again.GetSpacing()[: len(shape)] == image.GetSpacing()
    assert again.GetOrigin()[: len(shape)] == image.GetOrigin()


@pytest.mark.parametrize("samples", [3, 4])
def test_colours_are_vectors(samples: int, tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 255, (3, 4, 5, samples), "u1")
    mroi.pack(from_sitk(sitk.GetImageFromArray(voxels, isVector=True)), tmp_path / "a.mroi")
    image = to_sitk(tmp_path / "a.mroi")
    assert image.GetNumberOfComponentsPerPixel() == samples
    assert_array_equal(sitk.GetArrayFromImage(image), voxels)


def test_what_the_other_side_has_no_place_for_is_refused(tmp_path: Path) -> None:
    fields = sitk.GetImageFromArray(np.zeros((3, 4, 5, 3), "f4"), isVector=True)
    with pytest.raises(SourceError, match="vectors of 3 x float32"):
        from_sitk(fields)
    mroi.pack(np.zeros((2, 2, 2, 2, 2), "u1"), tmp_path / "a.mroi")
    with pytest.raises(UsageError, match="at most 4 axes"):
        to_sitk(tmp_path / "a.mroi")
    mroi.pack(np.zeros((2, 2, 2), "u1"), tmp_path / "b.mroi", affine=np.diag([1, 1, 0, 1]))
    with pytest.raises(UsageError, match="no direction"):
        to_sitk(tmp_path / "b.mroi")


def test_a_label_map_is_refused() -> None:
    """SimpleITK ends the process that asks for its voxels."""
    image = sitk.Image((3, 4, 5), sitk.sitkLabelUInt8)
    with pytest.raises(SourceError, match="LabelMapToLabel"):
        from_sitk(image)
