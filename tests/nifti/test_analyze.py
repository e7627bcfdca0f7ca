"""ANALYZE 7.5 reads as nibabel reads it, and comes back byte for byte."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest
from scipy.io import savemat

import mroi
from mroi.adapters.convert import open_input
from mroi.adapters.identifiers import find_held_identifiers
from mroi.errors import SourceError

KINDS = [nib.AnalyzeImage, nib.Spm99AnalyzeImage, nib.Spm2AnalyzeImage]


def image(kind=nib.AnalyzeImage, dtype="i2", shape=(4, 5, 6), order="<"):
    voxels = np.random.default_rng(2).integers(0, 200, shape).astype(dtype)
    made = kind(voxels, None, kind.header_class(endianness=order))
    made.header.set_zooms((2.0, 3, 4, 1.5)[: len(shape)])
    made.header["descrip"] = "a subject"
    made.header.set_data_dtype(dtype)
    return kind(voxels, None, made.header)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8", "c8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_images_come_back(tmp_path, kind, dtype, order):
    nib.save(image(kind, dtype, order=order), tmp_path / "a.img")
    loaded = nib.load(tmp_path / "a.img")
    for path in ("a.img", "a.hdr"):
        result = mroi.pack(tmp_path / path, tmp_path / "a.mroi", overwrite=True)
    assert "ANALYZE" in result.warnings[0]
    with mroi.open(tmp_path / "a.mroi") as volume:
        np.testing.assert_array_equal(volume[...], np.asarray(loaded.dataobj))
        np.testing.assert_array_equal(volume.affine, loaded.affine)
        assert volume.geom.spacing[:3] == (2, 3, 4)
    restored = mroi.unpack(tmp_path / "a.mroi", tmp_path / "b.img")
    assert restored.proven
    for ending in ("hdr", "img"):
        data = (tmp_path / f"a.{ending}").read_bytes()
        assert (tmp_path / f"b.{ending}").read_bytes() == data
    report = mroi.verify(tmp_path / "a.mroi", against=tmp_path / "a.hdr")
    compared = report.comparison
    assert report.ok
    assert compared.equal


def test_slope_and_origin_of_spm(tmp_path):
    made = image(nib.Spm2AnalyzeImage, "i2", (4, 5, 6, 3))
    made.header["scl_slope"], made.header["origin"][:3] = 0.5, (2, 3, 4)
    nib.save(made, tmp_path / "a.img")
    data = bytearray((tmp_path / "a.hdr").read_bytes())
    header = nib.Spm2AnalyzeHeader(bytes(data))
    header["scl_slope"], header["origin"][:3] = 0.5, (2, 3, 4)
    (tmp_path / "a.hdr").write_bytes(header.binaryblock)
    (tmp_path / "a.mat").unlink(missing_ok=True)
    loaded = nib.load(tmp_path / "a.img")
    mroi.pack(tmp_path / "a.img", tmp_path / "a.mroi")
    with mroi.open(tmp_path / "a.mroi") as volume:
        np.testing.assert_array_equal(volume.affine, loaded.affine)
        np.testing.assert_array_equal(volume[...], np.asarray(loaded.dataobj))
        assert volume.geom.slope == 0.5
        assert volume.geom.spacing[3] == 1.5


def test_the_affine_of_a_mat_file(tmp_path):
    nib.save(image(), tmp_path / "a.img")
    matrix = np.array([[0, 2.0, 0, 5], [3, 0, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])
    savemat(tmp_path / "a.mat", {"M": matrix, "mat": matrix})
    result = mroi.pack(tmp_path / "a.img", tmp_path / "a.mroi")
    assert ".mat" in result.warnings[-1]
    with mroi.open(tmp_path / "a.mroi") as volume:
        np.testing.assert_array_equal(volume.affine, nib.load(tmp_path / "a.img").affine)
    assert mroi.verify(tmp_path / "a.mroi", against=tmp_path / "a.img").comparison.equal
    (tmp_path / "a.mat").write_bytes(b"no matrix")
    with pytest.raises(SourceError, match=r"a\.mat: the affine of SPM cannot be read"):
        open_input(tmp_path / "a.hdr")


def test_gzipped_pairs(tmp_path):
    nib.save(image(), tmp_path / "a.img")
    for ending in ("hdr", "img"):
        path = tmp_path / f"a.{ending}"
        (tmp_path / f"a.{ending}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    mroi.pack(tmp_path / "a.hdr.gz", tmp_path / "a.mroi")
    assert mroi.unpack(tmp_path / "a.mroi", tmp_path / "b.img.gz").proven


def test_texts_of_the_header_are_found_and_cleaned(tmp_path):
    nib.save(image(), tmp_path / "a.img")
    data = bytearray((tmp_path / "a.hdr").read_bytes())
    data[253:263] = b"SECRET-org"  # originator, where SPM has its origin
    data[283:293], data[293:303] = b"SECRET-id ", b"1970-01-01"
    (tmp_path / "a.hdr").write_bytes(data)
    mroi.pack(tmp_path / "a.hdr", tmp_path / "keep.mroi")
    with mroi.open(tmp_path / "keep.mroi") as volume:
        found = {item.name: item.value for item in find_held_identifiers(volume)}
    assert found["patient_id"] == "SECRET-id"
    assert (found["exp_date"], found["descrip"]) == ("1970-01-01", "a subject")
    for policy in ("clean", "strip"):
        target = tmp_path / f"{policy}.mroi"
        mroi.pack(open_input(tmp_path / "a.hdr", metadata=policy), target, codec="raw")
        with mroi.open(target) as volume:
            assert find_held_identifiers(volume) == []
        restored = mroi.unpack(target).paths
        assert not any(b"SECRET" in p.read_bytes() or b"1970" in p.read_bytes() for p in restored)
        np.testing.assert_array_equal(
            nib.load(restored[-1]).dataobj, nib.load(tmp_path / "a.img").dataobj
        )


@pytest.mark.parametrize(
    ("field", "value"), [("dim", [9, 4, 5, 6, 1, 1, 1, 1]), ("datatype", 1), ("datatype", 99)]
)
def test_headers_that_cannot_be_used(tmp_path, field, value):
    nib.save(image(), tmp_path / "a.img")
    header = nib.AnalyzeHeader((tmp_path / "a.hdr").read_bytes())
    header[field] = value
    (tmp_path / "a.hdr").write_bytes(header.binaryblock)
    with pytest.raises(SourceError):
        open_input(tmp_path / "a.hdr")


def test_a_single_file_without_magic_is_no_image(tmp_path):
    nib.save(image(), tmp_path / "a.img")
    data = (tmp_path / "a.hdr").read_bytes() + bytes(4) + (tmp_path / "a.img").read_bytes()
    (tmp_path / "a.nii").write_bytes(data)
    with pytest.raises(SourceError, match="not a NIfTI header"):
        open_input(tmp_path / "a.nii")


@pytest.mark.parametrize(
    ("header", "voxels"),
    [("p.hdr", "p.IMG"), ("p.HDR", "p.img"), ("p.Hdr", "p.iMg"), ("P.HDR", "P.IMG"),
     ("p.hdr", "p.IMG.gz"), ("p.HDR.gz", "p.img")],
)  # fmt: skip
@pytest.mark.parametrize("kind", [nib.AnalyzeImage, nib.Nifti1Pair])
def test_halves_of_a_pair_in_another_case(tmp_path, header, voxels, kind):
    nib.save(image(kind), tmp_path / "in.img")
    for name, ending in ((header, "hdr"), (voxels, "img")):
        data = (tmp_path / f"in.{ending}").read_bytes()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    for name in (header, voxels):
        mroi.pack(tmp_path / name, tmp_path / "a.mroi", overwrite=True)
        with mroi.open(tmp_path / "a.mroi") as volume:
            np.testing.assert_array_equal(
                volume.unscaled[...], np.asarray(nib.load(tmp_path / "in.img").dataobj)
            )
    (tmp_path / voxels).unlink()
    with pytest.raises(SourceError, match="other file of the pair"):
        open_input(tmp_path / header)
