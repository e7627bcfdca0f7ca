"""``info --phi``: what in the metadata may identify a person is listed, and nothing is promised."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.nifti1 import Nifti1Extension

import mroi as library
from mroi.adapters.identifiers import find_held_identifiers
from mroi.cli.exits import ExitCode
from tests.cli.runner import AFFINE, Mroi, phantom
from tests.extras import needs

NAME = "CompressedSamples^CT1"

IMAGES = {1: nib.Nifti1Image, 2: nib.Nifti2Image}


def listed(mroi: Mroi, path: str) -> dict[str, object]:
    (record,) = mroi("info", "--phi", "--json", path).records
    return {found["name"]: found["value"] for found in record["identifiers"]}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
def test_texts_of_a_nifti_header(mroi: Mroi, version: int, order: str) -> None:
    made = IMAGES[version](phantom(), AFFINE)
    header = made.header.as_byteswapped(order)
    header["descrip"], header["aux_file"], header["intent_name"] = "Jane Doe", "a.txt", "why"
    header.extensions.append(Nifti1Extension(6, b"born 1966"))
    nib.save(IMAGES[version](phantom(), AFFINE, header), "scan.nii")
    mroi("pack", "scan.nii")
    found = listed(mroi, "scan.mroi")
    assert found.pop("descrip") == "Jane Doe"
    assert found == {"aux_file": "a.txt", "intent_name": "why", "comment (6)": "born 1966"}


def test_a_header_without_texts(mroi: Mroi, scan: Path) -> None:
    mroi("pack", scan, "-o", "s.mroi")
    assert listed(mroi, "s.mroi") == {}
    text = mroi("info", "--phi", "s.mroi").out.lower()
    assert "voxels were not looked at" in text
    assert "anonym" not in text


def test_bytes_around_the_voxels_are_listed(mroi: Mroi, scan: Path) -> None:
    import gzip

    Path("t.nii").write_bytes(gzip.decompress(scan.read_bytes()) + b"Jane Doe")
    mroi("pack", "t.nii")
    assert listed(mroi, "t.mroi") == {"bytes after the voxels": "Jane Doe"}


def test_dicom_by_policy(mroi: Mroi, ct: Path) -> None:
    names = {}
    for policy in ("keep", "clean", "strip"):
        assert mroi("pack", ct, "--metadata", policy, "-o", f"{policy}.mroi").code == 0
        names[policy] = listed(mroi, f"{policy}.mroi")
    assert names["keep"]["PatientName"] == NAME
    assert "PatientID" in names["keep"]
    assert not {"PatientName", "PatientID"} & set(names["clean"])
    assert set(names["clean"]) < set(names["keep"])  # new unique identifiers are still listed
    assert names["strip"] == {}
    assert NAME in mroi("info", "--phi", "keep.mroi").out


@needs("dicom")
def test_values_of_a_series_are_counted(mroi: Mroi, tmp_path: Path) -> None:
    from tests.dicom.dicom_phantoms import series, write

    slices = series(np.arange(4 * 6 * 5, dtype="i2").reshape(4, 6, 5))
    for image in slices:
        image.PatientName = "Doe^Jane"
    write(tmp_path / "s", slices)
    mroi("pack", "s")
    (record,) = mroi("info", "--phi", "--json", "s.mroi").records
    counts = {
        name: [found["count"] for found in record["identifiers"] if found["name"] == name]
        for name in ("PatientName", "SOPInstanceUID")
    }
    assert counts == {"PatientName": [4], "SOPInstanceUID": [1] * 4}
    text = mroi("info", "--phi", "s.mroi").out
    assert "and 3 others" in text


def test_a_terminal_is_not_written_to_by_a_header(mroi: Mroi) -> None:
    image = nib.Nifti1Image(phantom(), AFFINE)
    image.header["descrip"] = b"\x1b[2J\rJane"
    nib.save(image, "scan.nii")
    mroi("pack", "scan.nii")
    out = mroi("info", "--phi", "scan.mroi").out
    assert "\x1b" not in out
    assert "descrip" in out


@settings(max_examples=150)
@given(behind=st.binary(max_size=90).map(lambda data: data + bytes(-len(data) % 16)))
def test_any_bytes_behind_a_header_are_listed(
    tmp_path_factory: pytest.TempPathFactory, behind: bytes
) -> None:
    """Whatever stands between header and voxels, none of it goes unmentioned."""
    folder = tmp_path_factory.mktemp("header")
    header = nib.Nifti1Image(phantom(), AFFINE).header
    header["vox_offset"] = 352 + len(behind)
    header["magic"] = b"n+1"
    data = phantom().tobytes(order="F")
    (folder / "s.nii").write_bytes(header.binaryblock + b"\1\0\0\0" + behind + data)
    library.pack(folder / "s.nii", folder / "s.mroi", codec="raw")
    with library.open(folder / "s.mroi") as volume:
        found = find_held_identifiers(volume)
    looks_empty = not behind.strip(b"\0")
    assert bool(found) or looks_empty or not behind[8:].strip(b"\0")


def test_nifti_by_policy(mroi: Mroi, scan: Path) -> None:
    image = nib.load(scan)
    image.header["descrip"] = "Jane Doe"
    nib.save(image, "s.nii")
    for policy in ("clean", "strip"):
        done = mroi("pack", "s.nii", "--metadata", policy, "-o", f"{policy}.mroi")
        assert (done.code, "voxels are not touched" in done.err) == (0, True)
        assert listed(mroi, f"{policy}.mroi") == {}
        (info,) = mroi("info", f"{policy}.mroi", "--json").records
        assert info["provenance"]["metadata"] == {"policy": policy}
        done = mroi("verify", f"{policy}.mroi", "--against", "s.nii")
        assert (done.code, "metadata were cleaned or left out" in done.out) == (0, True)
    assert "not touched" not in mroi("pack", "s.nii").err


def test_options_of_the_profile(mroi: Mroi, ct: Path) -> None:
    options = ("--metadata", "clean", "--retain", "uids", "--retain", "patient")
    assert mroi("pack", ct, *options, "-o", "a.mroi").code == 0
    found = listed(mroi, "a.mroi")
    assert "PatientSex" in found
    assert found["StudyInstanceUID"].startswith("1.3.6.1")
    assert "PatientName" not in found
    assert mroi("pack", ct, "--retain", "uids", "-o", "b.mroi").code == ExitCode.USAGE
    assert mroi("pack", ct, *options, "--retain", "names", "-o", "b.mroi").code == ExitCode.USAGE
