"""Folders with a DICOM series are inputs as a whole."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

import mroi as library
from mroi.cli.exits import ExitCode
from mroi.pictures.planes import Plane, View
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
    twice = ("--pick", "acquisition=1", "--pick", "acquisition=2", "-o", "b.mroi")
    assert mroi("pack", "ct", *twice).code == ExitCode.USAGE
    for wrong in ("acquisition", "acquisition=x", "acquisition=9", "slice=1"):
        assert mroi("pack", "ct", "--pick", wrong, "-o", "b.mroi").code == ExitCode.USAGE


# -- images without a position -----------------------------------------------------------------


@pytest.fixture
def flat(tmp_path: Path) -> pydicom.Dataset:
    """An image that does not say where it is, in the file flat.dcm."""
    dataset = pydicom.dcmread(CT)
    del dataset.ImagePositionPatient, dataset.ImageOrientationPatient
    dataset.save_as(tmp_path / "flat.dcm")
    return dataset


def test_an_image_without_position_is_drawn_as_stored(mroi: Mroi, flat: pydicom.Dataset) -> None:
    assert mroi("pack", "flat.dcm").code == 0
    assert mroi("slice", "flat.mroi", "-o", "s.png", "--window", "-1100,2000").code == 0
    rows = flat.pixel_array * float(flat.RescaleSlope) + float(flat.RescaleIntercept)
    expected = np.round(255 * (rows.clip(-1100, 2000) + 1100) / 3100)
    with Image.open("s.png") as picture:
        assert np.abs(np.asarray(picture).astype(int) - expected).max() <= 1
    (info,) = mroi("info", "flat.mroi", "--json").records
    assert (info["orientation"], info["oblique"]) == (None, None)
    assert "not known: the source has no position" in mroi("info", "flat.mroi").out


@pytest.mark.usefixtures("flat")
def test_a_panel_without_position_has_no_letters_and_no_place(mroi: Mroi) -> None:
    mroi("pack", "flat.dcm", "--roi", "10:20,30:50,0:1")
    with library.open("flat.mroi") as volume:
        panel = View(volume).panel(np.zeros((128, 128), np.uint8), Plane(2, 0))
    assert (panel.letters.strip(), panel.caption, panel.box) == ("", "k = 0", (10, 30, 20, 50))


# -- one series of several ---------------------------------------------------------------------


@pytest.fixture
def two_series(tmp_path: Path) -> tuple[Path, list[str]]:
    """A folder with two series of one slice."""
    folder = tmp_path / "both"
    folder.mkdir()
    uids = ["1.2.3.4", "1.2.3.5"]
    for uid in uids:
        dataset = pydicom.dcmread(CT)
        dataset.SeriesInstanceUID = uid
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{uid}.1"
        dataset.save_as(folder / f"{uid}.dcm")
    return folder, uids


def test_several_series_are_listed_one_a_line(
    mroi: Mroi, two_series: tuple[Path, list[str]]
) -> None:
    folder, uids = two_series
    done = mroi("pack", folder, "-o", "x.mroi")
    assert (done.code, "2 inputs do not fit into one file" in done.err) == (ExitCode.USAGE, True)
    wrong = mroi("pack", folder, "-o", "x.mroi", "--series", "1.2.3")
    assert wrong.code == ExitCode.USAGE
    assert [line.split()[0] for line in wrong.err.splitlines()[-2:]] == uids
    records = mroi("pack", folder, "-o", "both", "--json").records
    assert {str(record["series"]) for record in records} == set(uids)
    assert mroi("pack", folder, "-o", "x.mroi", "--series", uids[0]).code == ExitCode.OK


def test_quiet_says_nothing_of_warnings(mroi: Mroi, two_series: tuple[Path, list[str]]) -> None:
    folder, uids = two_series
    (folder / "notes.txt").write_text("no image")
    arguments = ("pack", folder, "--series", uids[0], "-o", "x.mroi", "--exists", "overwrite")
    assert "notes.txt" in mroi(*arguments).err
    for more in ([], ["-v"]):
        done = mroi(*arguments, "-q", *more)
        assert (done.code, done.out, done.err) == (ExitCode.OK, "", "")


def test_verify_against_one_series_of_a_folder(
    mroi: Mroi, two_series: tuple[Path, list[str]]
) -> None:
    folder, uids = two_series
    assert mroi("pack", folder, "--series", uids[1], "-o", "two.mroi").code == 0
    assert mroi("verify", "two.mroi", "--against", folder).code == 0
    assert (
        mroi("pack", folder, "--series", uids[1], "-o", "no.mroi", "--metadata", "strip").code == 0
    )
    done = mroi("verify", "no.mroi", "--against", folder)  # which series is not in the file
    assert (done.code, "choose one: --series UID" in done.err) == (ExitCode.NO_INPUT, True)
    done = mroi("verify", "two.mroi", "--against", folder, "--series", uids[1])
    assert done.code == 0, done.err
    assert mroi("verify", "two.mroi", "--against", folder, "--series", uids[0]).code != 0


# -- pixels that are compressed already --------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("SC_rgb_jpeg_dcmtk.dcm", "JPEG Baseline, lossy"),
        ("JPEG2000.dcm", "JPEG 2000, lossy"),
        ("MR_small_jp2klossless.dcm", "JPEG 2000"),
        ("MR_small_RLE.dcm", "RLE Lossless"),
        ("CT_small.dcm", ""),
    ],
)
def test_how_pixels_are_compressed_is_known(file: str, kind: str) -> None:
    from mroi.adapters.dicom import read_series

    assert read_series(str(get_testdata_file(file, download=False))).compression == kind


def test_that_pixels_are_compressed_already_is_said(mroi: Mroi) -> None:
    path = str(get_testdata_file("JPEG2000.dcm", download=False))
    said = mroi("pack", path, "-o", "x.mroi").err
    assert "larger than the source, which is compressed already (JPEG 2000, lossy)\n" in said


# -- what is proven ----------------------------------------------------------------------------


def test_unpack_says_what_is_proven_of_dicom(mroi: Mroi) -> None:
    Path("ct.dcm").write_bytes(CT.read_bytes())
    mroi("pack", "ct.dcm")
    said = mroi("unpack", "ct.mroi", "-o", "files").err
    assert "voxels and attributes from the file; `mroi verify` proves the voxels" in said
    assert "volume" in mroi("verify", "ct.mroi", "--json").records[0]["digests"]
