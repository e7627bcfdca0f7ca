"""Folders with a DICOM series are inputs as a whole."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.data import get_testdata_file

from mroi.cli.exits import ExitCode
from tests.cli.runner import AFFINE, Mroi, phantom

CT = Path(str(get_testdata_file("CT_small.dcm", download=False)))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study: one series in a folder of its own, beside a NIfTI image and a text."""
    folder = tmp_path / "study"
    for place in ("ct/1.dcm", ".hidden/1.dcm"):
        (folder / place).parent.mkdir(parents=True)
        (folder / place).write_bytes(CT.read_bytes())
    (folder / "ct" / "notes.txt").write_text("no image")
    nib.save(nib.Nifti1Image(phantom(), AFFINE), folder / "mr.nii")
    return folder


def test_a_study_gives_a_file_for_each_series_and_each_image(mroi: Mroi, study: Path) -> None:
    assert mroi("pack", study, "-o", "out").code == 0
    assert sorted(path.name for path in Path("out").rglob("*.mroi")) == ["ct.mroi", "mr.mroi"]
    (info,) = mroi("info", "out/ct.mroi", "--json").records
    assert info["format"]["kind"] == "DICOM"


def test_a_folder_that_is_a_series_is_packed_to_one_file(mroi: Mroi, study: Path) -> None:
    assert mroi("pack", study / "ct").code == 0
    assert mroi("verify", study / "ct.mroi", "--against", study / "ct").code == 0
    assert mroi("pack", study / "ct", "-o", "named.mroi").code == 0
    assert Path("named.mroi").is_file()


def test_a_series_comes_back_as_files_or_as_an_image(mroi: Mroi, study: Path) -> None:
    mroi("pack", study / "ct", "-o", "ct.mroi")
    assert mroi("unpack", "ct.mroi", "-o", "files").code == 0
    assert [path.suffix for path in Path("files").iterdir()] == [".dcm"]
    assert mroi("unpack", "ct.mroi", "-o", "ct.nii").code == 0
    assert np.asanyarray(nib.load("ct.nii").dataobj).size == 128 * 128


def test_a_series_that_is_not_there(mroi: Mroi, study: Path) -> None:
    done = mroi("pack", study / "ct", "--series", "1.2.3")
    assert done.code == ExitCode.USAGE


def test_stripping_removes_the_name_of_the_patient(mroi: Mroi, study: Path) -> None:
    name = b"CompressedSamples"
    assert name in CT.read_bytes()
    sizes = {}
    for policy in ("keep", "clean", "strip"):
        target = Path(f"{policy}.mroi")
        assert mroi("pack", study / "ct", "--metadata", policy, "-o", target).code == 0
        (info,) = mroi("info", target, "--json").records
        sizes[policy] = sum(n for key, n in info["metadata"].items() if key.startswith("dCMh"))
    assert sizes["keep"] >= sizes["clean"] > sizes["strip"] == 0


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A series whose last slice is empty, beside a text."""
    from tests.dicom.dicom_phantoms import series, write

    voxels = np.random.default_rng(1).integers(0, 20, (5, 60, 80)).astype("i2")
    voxels[:, 15:45, 20:60] += 900
    write(tmp_path / "ct", series(voxels))
    (tmp_path / "ct" / "im0004.dcm").write_bytes(b"")
    (tmp_path / "ct" / "notes.txt").write_text("five slices")
    return tmp_path / "ct"


def test_a_damaged_slice_is_an_error_unless_allowed(mroi: Mroi, broken: Path) -> None:
    for quiet in ([], ["-q"]):
        done = mroi("pack", broken, *quiet)
        assert done.code == ExitCode.NO_INPUT
        assert "im0004.dcm is empty" in done.err
        assert not broken.with_suffix(".mroi").exists()
    done = mroi("pack", broken, "--allow-missing", "-q")
    assert (done.code, "im0004.dcm is empty" in done.err) == (ExitCode.SOME_FAILED, True)
    assert "notes.txt" not in done.err  # which is no slice: quiet says nothing of it
    (info,) = mroi("info", "ct.mroi", "--json").records
    assert info["shape"] == [80, 60, 4]
    assert info["provenance"]["left_out"]["files"][0]["name"] == "im0004.dcm"
    done = mroi("pack", broken, "--allow-missing", "--json", "--exists", "overwrite")
    assert done.code == ExitCode.SOME_FAILED
    assert done.records[0]["left_out"]["damaged"] == 1


def test_verify_says_what_it_could_not_compare(mroi: Mroi, broken: Path) -> None:
    mroi("pack", broken, "--allow-missing")
    done = mroi("verify", "ct.mroi", "--against", broken, "-q")
    assert (done.code, "im0004.dcm is empty" in done.err) == (ExitCode.SOME_FAILED, True)
    done = mroi("verify", "ct.mroi", "--against", broken, "--json")
    assert done.records[0]["equal"]
    assert done.records[0]["left_out"]["damaged"] == 1
    (broken / "im0004.dcm").unlink()
    assert mroi("verify", "ct.mroi", "--against", broken).code == 0


def test_roi_refuses_a_damaged_slice_too(mroi: Mroi, broken: Path) -> None:
    assert mroi("roi", broken, "-o", "roi").code == ExitCode.NO_INPUT
    assert mroi("roi", broken, "-o", "roi2", "--allow-missing").code == ExitCode.SOME_FAILED


def test_a_folder_of_slices_that_are_all_damaged_says_why(mroi: Mroi, broken: Path) -> None:
    for path in broken.glob("*.dcm"):
        path.write_bytes(b"")
    done = mroi("pack", broken)
    assert (done.code, "im0000.dcm is empty" in done.err) == (ExitCode.NO_INPUT, True)


def test_a_table_that_is_not_applied_is_said_loudly(mroi: Mroi, tmp_path: Path) -> None:
    from tests.dicom.dicom_phantoms import add_table, noise, series, write

    images = [add_table(image, [9, 4, 1, 0]) for image in series(noise((2, 6, 7), "u2"))]
    write(tmp_path / "ct", images)
    assert "values are stored ones" in mroi("pack", "ct").err
    (info,) = mroi("info", "ct.mroi", "--json").records
    assert info["provenance"]["values"] == "stored"
    assert "values are stored ones" in mroi("info", "ct.mroi").out


def test_bits_above_bits_stored(mroi: Mroi, tmp_path: Path) -> None:
    from tests.dicom.dicom_phantoms import noise, series, write

    images = series(noise((3, 6, 7), "u2") | 0x1000)
    for image in images:
        image.BitsStored, image.HighBit = 12, 11
    sources = write(tmp_path / "ct", images)
    assert "they are kept" in mroi("pack", "ct").err
    assert mroi("verify", "ct.mroi", "--against", "ct").code == 0
    mroi("unpack", "ct.mroi", "-o", "out")
    assert [p.read_bytes() for p in sorted(Path("out").iterdir())] == [
        p.read_bytes() for p in sources
    ]
    assert mroi("pack", "ct", "--all-bits", "-o", "all.mroi").code == 0
    assert mroi("verify", "all.mroi", "--against", "ct", "--all-bits").code == 0
    assert mroi("verify", "all.mroi", "--against", "ct").code == ExitCode.DAMAGED
    mroi("unpack", "all.mroi", "-o", "all")
    assert Path("all/00001.dcm").read_bytes() == sources[0].read_bytes()


def test_slices_without_a_preamble_are_found(mroi: Mroi, tmp_path: Path) -> None:
    from tests.dicom.dicom_phantoms import noise, series, write

    for path in write(tmp_path / "ct", series(noise((3, 6, 7), "i2")), ["a", "b", "c"]):
        path.write_bytes(path.read_bytes()[132:])
    assert mroi("pack", "ct").code == 0
    assert mroi("verify", "ct.mroi", "--against", "ct").code == 0
    assert mroi("pack", "ct/a", "-o", "a.mroi").code == 0


def test_siemens_files_that_are_gzipped(mroi: Mroi, tmp_path: Path) -> None:
    import gzip

    Path("a.dcm.gz").write_bytes(gzip.compress(CT.read_bytes()))
    done = mroi("pack", "a.dcm.gz")
    assert (done.code, Path("a.mroi").exists()) == (0, True)
    mroi("unpack", "a.mroi", "-o", "out")
    assert next(Path("out").iterdir()).read_bytes() == CT.read_bytes()


def test_a_volume_is_picked_by_number(mroi: Mroi, tmp_path: Path) -> None:
    from tests.dicom.dicom_phantoms import noise, series, uid, write

    images = []
    for t in range(2):
        for k, image in enumerate(series(noise((4, 6, 7), "i2", seed=t))):
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = uid(t * 4 + k)
            image.AcquisitionNumber = t + 1
            images.append(image)
    sources = write(tmp_path / "ct", images[:-1])  # the second lacks its last slice
    done = mroi("pack", "ct")
    assert done.code == ExitCode.NO_INPUT
    assert "--pick acquisition=1 (4 slices) or acquisition=2 (3 slices)" in done.err
    assert mroi("pack", "ct", "--pick", "acquisition=1").code == 0
    assert mroi("verify", "ct.mroi", "--against", "ct").code == 0
    mroi("unpack", "ct.mroi", "-o", "out")
    assert [p.read_bytes() for p in sorted(Path("out").iterdir())] == [
        p.read_bytes() for p in sources[:4]
    ]
    for wrong in ("acquisition", "acquisition=x", "acquisition=9", "slice=1"):
        assert mroi("pack", "ct", "--pick", wrong, "-o", "b.mroi").code == ExitCode.USAGE
