"""Cleaned and stripped NIfTI images: no text of the source is left, and the file says so."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Extension

import mroi
from mroi.adapters.convert import open_input
from mroi.adapters.identifiers import find_held_identifiers

AFFINE = np.array([[-1.5, 0, 0, 9], [0, 1.25, 0.1, -8], [0, -0.1, 3, -12], [0, 0, 0, 1]])
KINDS = {1: (nib.Nifti1Image, nib.Nifti1Pair), 2: (nib.Nifti2Image, nib.Nifti2Pair)}


def image(version=1, order="<", *, pair=False):
    """An image with something secret in every place that has room for it."""
    kind = KINDS[version][pair]
    voxels = np.random.default_rng(3).integers(0, 900, (4, 5, 6, 3)).astype("i2")
    header = kind(voxels, AFFINE).header
    header.set_zooms((*header.get_zooms()[:3], 1.5))
    header.set_xyzt_units("mm", "sec")
    header.set_intent("t test", (7,), name="SECRET-1")
    header["descrip"], header["aux_file"] = "SECRET-2", "SECRET-3"
    if version == 1:
        header["data_type"], header["db_name"] = "SECRET-4", "SECRET-5"
        header["extents"], header["glmax"] = 0x4345, 0x5245
    else:
        header["unused_str"] = "SECRET-6"
    header.extensions.append(Nifti1Extension(6, b"SECRET-7 and more"))
    return kind(voxels, AFFINE, header.as_byteswapped(order))


def written(folder, made, name):
    folder.mkdir()
    nib.save(made, folder / name)
    if name.endswith(".img"):
        return folder / name
    data = (folder / name).read_bytes()
    data = gzip.decompress(data) + b"SECRET-8" if name.endswith(".gz") else data + b"SECRET-8"
    zipped = gzip.compress(data) + b"SECRET-9" if name.endswith(".gz") else data
    (folder / name).write_bytes(zipped)
    return folder / name


@pytest.mark.parametrize("policy", ["clean", "strip"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.img", ""])
def test_no_text_of_the_source_is_left(tmp_path, policy, version, order, name):
    made = image(version, order, pair=name.endswith(".img"))
    source = written(tmp_path / "in", made, name) if name else made
    opened = open_input(source, metadata=policy)
    result = mroi.pack(opened, tmp_path / "a.mroi", codec="raw")
    assert result.provenance["metadata"] == {"policy": policy}
    assert b"SECRET" not in (tmp_path / "a.mroi").read_bytes()
    with mroi.open(tmp_path / "a.mroi") as volume:
        assert find_held_identifiers(volume) == []
        np.testing.assert_array_equal(volume.unscaled[...], np.asarray(made.dataobj))
        np.testing.assert_allclose(volume.affine, made.affine, rtol=1e-6)
        has_digest = volume.reader.find_metadata(b"dIGE", 3) is not None
    restored = mroi.unpack(tmp_path / "a.mroi")
    assert restored.proven == (policy == "clean")  # of what it restores to, not of the source
    assert has_digest == (policy == "clean")
    found = nib.load(restored.paths[-1])
    assert all(b"SECRET" not in p.read_bytes() for p in restored.paths)
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(made.dataobj))
    assert found.header.get_zooms()[3] == 1.5
    assert found.header.get_xyzt_units() == ("mm", "sec")
    assert not found.header.extensions
    if policy == "clean":
        assert found.header["intent_code"] == made.header["intent_code"]
        assert found.header.endianness == order
    report = mroi.verify(tmp_path / "a.mroi", against=source)
    compared = report.comparison
    assert report.ok
    assert compared.equal


def test_everything_is_kept_by_default(tmp_path):
    path = written(tmp_path / "in", image(), "a.nii")
    result = mroi.pack(path, tmp_path / "a.mroi", codec="raw")
    assert "metadata" not in result.provenance
    with mroi.open(tmp_path / "a.mroi") as volume:
        found = {item.value for item in find_held_identifiers(volume)}
    assert {f"SECRET-{n}" for n in (1, 2, 3, 4, 5, 8)} | {"SECRET-7 and more"} == found
