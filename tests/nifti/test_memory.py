"""A nibabel image in memory is packed with its header, and comes back as nibabel would save it."""

from __future__ import annotations

import hashlib

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.nifti1 import Nifti1Extension

import mroi
from mroi.errors import SourceError

AFFINE = np.array([[-1.5, 0, 0, 9], [0, 1.25, 0.1, -8], [0, -0.1, 3, -12], [0, 0, 0, 1]])
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
TYPES = ["u1", "i1", "<i2", ">i2", "u2", "i4", "u4", "f4", "f8", "c8", "c16", RGB]
FIELDS = ("descrip", "intent_name", "intent_code", "xyzt_units", "cal_max", "toffset",
          "slice_code", "sform_code", "qform_code", "pixdim", "srow_x")  # fmt: skip


def times(dtype="i2", kind=nib.Nifti1Image, shape=(4, 5, 6, 3)):
    """A functional series with everything that a header can say of it."""
    voxels = np.zeros(shape, dtype)
    voxels.view("u1")[...] = np.random.default_rng(0).integers(0, 60, voxels.view("u1").shape)
    image = kind(voxels, AFFINE)
    header = image.header
    header.set_zooms((*header.get_zooms()[:3], 1.5)[: len(shape)])
    header.set_xyzt_units("mm", "sec")
    header.set_intent("t test", (7,), name="task")
    header["descrip"], header["cal_max"], header["toffset"] = "by hand", 55, 0.25
    header["slice_code"] = 3
    image.set_sform(AFFINE, 4)
    image.set_qform(AFFINE, 1)
    header.extensions.append(Nifti1Extension(6, b"a comment"))
    return image


def there_and_back(image, folder, **options):
    result = mroi.pack(image, folder / "a.mroi", overwrite=True, codec="zstd", **options)
    restored = mroi.unpack(folder / "a.mroi", folder / "a.nii", overwrite=True)
    assert restored.proven
    report = mroi.verify(folder / "a.mroi", against=folder / "a.nii")
    compared = report.comparison
    assert report.ok
    assert "source" in report.digests
    assert compared.equal
    return result, nib.load(folder / "a.nii")


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image, nib.Nifti1Pair, nib.Nifti2Pair])
@pytest.mark.parametrize("dtype", TYPES)
def test_header_and_voxels_come_back(tmp_path, kind, dtype):
    image = times(dtype, kind)
    _, found = there_and_back(image, tmp_path)
    for field in FIELDS:
        assert found.header[field].tobytes() == image.header[field].tobytes(), field
    assert found.header.get_zooms()[3] == 1.5
    assert [e.get_content() for e in found.header.extensions] == [b"a comment"]
    assert (
        np.asarray(found.dataobj).tobytes()
        == np.asarray(image.dataobj).astype(found.get_data_dtype()).tobytes()
    )
    np.testing.assert_array_equal(found.affine, image.affine)
    with mroi.open(tmp_path / "a.mroi") as volume:
        assert volume.geom.spacing[3] == 1.5
        assert volume.geom.xyzt_units == 10
        np.testing.assert_allclose(volume.affine, image.affine, rtol=1e-6)


def test_the_file_is_that_which_nibabel_saves(tmp_path):
    image = times()
    there_and_back(image, tmp_path)
    saved = image.to_bytes()
    assert (tmp_path / "a.nii").read_bytes() == saved
    with mroi.open(tmp_path / "a.mroi") as volume:
        digest = volume.reader.find_metadata(b"dIGE", 3)
    assert digest[-32:] == hashlib.sha256(saved).digest()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("slope", [None, 0.5])
def test_a_header_that_was_edited_after_loading(tmp_path, order, slope):
    original = times()
    header = original.header.as_byteswapped(order)
    original = nib.Nifti1Image(np.asarray(original.dataobj), AFFINE, header)
    if slope is not None:
        original.header.set_slope_inter(slope, -3)
    nib.save(original, tmp_path / "in.nii.gz")
    image = nib.load(tmp_path / "in.nii.gz")
    image.header["descrip"] = "changed"
    image.header.set_zooms((*image.header.get_zooms()[:3], 2.25))
    _, found = there_and_back(image, tmp_path)
    assert found.header["descrip"] == b"changed"
    assert found.header.get_zooms()[3] == 2.25
    np.testing.assert_array_equal(found.dataobj, image.dataobj)
    assert found.get_data_dtype().itemsize == 2  # stored values stay what they were
    with mroi.open(tmp_path / "a.mroi") as volume:
        np.testing.assert_array_equal(volume[...], np.asarray(image.dataobj))


def test_another_affine_is_taken(tmp_path):
    other = np.diag([2.0, 3, 4, 1])
    _, found = there_and_back(times(), tmp_path, affine=other)
    np.testing.assert_array_equal(found.affine, other)
    assert found.header.get_zooms() == (2, 3, 4, 1.5)


def test_images_of_other_formats_keep_what_nifti_has_room_for(tmp_path):
    image = nib.MGHImage(np.ones((4, 5, 6, 3), "f4"), AFFINE)
    image.header.set_zooms((1, 1, 1, 2000))
    _, found = there_and_back(image, tmp_path)
    assert found.header.get_zooms()[3] == 2000
    nib.save(nib.AnalyzeImage(np.ones((4, 5, 6), "i2"), None), tmp_path / "b.img")
    there_and_back(nib.AnalyzeImage(np.ones((4, 5, 6), "i2"), None), tmp_path)


def test_the_image_is_left_as_it_was(tmp_path):
    image = times()
    before = image.to_bytes(), image.header.copy()
    there_and_back(image, tmp_path, affine=np.eye(4))
    assert (image.to_bytes(), image.header) == before


def test_an_empty_image_is_refused(tmp_path):
    with pytest.raises(SourceError, match="empty"):
        mroi.pack(nib.Nifti1Image(np.zeros((0, 3, 4), "u1"), AFFINE), tmp_path / "a.mroi")


@settings(deadline=None, max_examples=30)
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=7).map(tuple),
    dtype=st.sampled_from(TYPES),
    axis=st.integers(0, 2),
)
def test_any_shape(tmp_path_factory, shape, dtype, axis):
    folder = tmp_path_factory.mktemp("image")
    voxels = np.zeros(shape, dtype)
    voxels.reshape(-1).view("u1")[...] = 3
    _, found = there_and_back(nib.Nifti1Image(voxels, AFFINE), folder, slice_axis=axis)
    assert np.asarray(found.dataobj).shape[: len(shape)] == shape
