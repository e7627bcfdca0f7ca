"""What is taken from folders, what becomes of it, and how outputs are called."""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mroi.batch.series import names_of
from mroi.cli.exits import ExitCode
from tests.cli.runner import AFFINE, Mroi, phantom
from tests.dicom.dicom_phantoms import SERIES, blank, noise, series, set_pixels, write


def add_series(folder: Path, number: int | None, text: str, *, first: int = 0) -> list[Path]:
    """Write a series of three slices; `first` tells its files from others of the folder."""
    images = series(noise((3, 6, 7), "i2", seed=(number or 0) + first))
    for k, image in enumerate(images):
        image.SeriesInstanceUID = f"{SERIES}.7.{first}"
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = (
            f"{SERIES}.8.{first}.{k}"
        )
        image.SeriesNumber, image.SeriesDescription = number, text
    return write(folder, images, [f"im{first + k:04d}.dcm" for k in range(3)])


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two series and a picture in one folder, NIfTI images beside and below, some damaged."""
    folder = tmp_path / "study"
    add_series(folder, 3, "T1 mprage/sag")
    add_series(folder, 12, "Schädel: .T2", first=10)
    picture = blank(40)
    picture.SeriesInstanceUID = f"{SERIES}.7.40"
    picture.SeriesNumber, picture.SeriesDescription = None, None
    set_pixels(picture, noise((6, 7), "u2"))
    write(folder / "more", [picture], ["p"])
    (folder / "nii").mkdir()
    for name in ("a.nii.gz", "nii/b.nii"):
        nib.save(nib.Nifti1Image(phantom(), AFFINE), folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


NAMES = ["a.mroi", "b.mroi", "12-Schädel_.T2.mroi", "3-T1_mprage_sag.mroi", "series.mroi"]


def test_every_image_below_a_folder_becomes_a_file(mroi: Mroi, study: Path) -> None:
    done = mroi("pack", study, "-o", "out", "--json")
    assert done.code == 0, done.err
    places = ["a.mroi", "nii/b.mroi", *(f"study/{name}" for name in NAMES[2:])]
    assert {p.relative_to("out").as_posix() for p in Path("out").rglob("*.mroi")} == set(places)
    assert {str(record["target"]) for record in done.records} == {f"out/{p}" for p in places}
    parts = {record.get("part"): record["source"] for record in done.records}
    assert parts["3-T1_mprage_sag"] == str(study)
    for name in NAMES[2:]:  # the series of the file is found in the folder
        assert mroi("verify", f"out/study/{name}", "--against", study).code == 0
    assert mroi("verify", "out/a.mroi", "--against", study / "a.nii.gz").code == 0
    # Once more, beside the inputs: what was packed before is no input.
    assert mroi("pack", study).code == 0
    assert sorted(p.name for p in study.rglob("*.mroi")) == sorted(NAMES)
    assert mroi("pack", study, "--exists", "overwrite").code == 0
    done = mroi("pack", study, "--dry-run", "-o", "dry")
    assert done.err.count("(dry run)") == 5
    assert not Path("dry").exists()


@pytest.mark.parametrize("jobs", [1, 3])
def test_an_image_that_fails_stops_no_other(mroi: Mroi, study: Path, jobs: int) -> None:
    (study / "bad.nii.gz").write_bytes(b"\x1f\x8bnothing")
    (study / "zero.nii").write_bytes(b"")
    last = study / "im0012.dcm"  # of the second series
    last.write_bytes(last.read_bytes()[:-20])
    done = mroi("pack", study, "-o", "out", "-q", "-j", jobs)
    assert done.code == ExitCode.SOME_FAILED
    for name in ("bad.nii.gz", "zero.nii", "im0012.dcm"):
        assert name in done.err
    packed = sorted(p.name for p in Path("out").rglob("*.mroi"))
    assert packed == sorted(set(NAMES) - {"12-Schädel_.T2.mroi"})


def test_a_nifti_image_is_not_lost_beside_one_dicom_file(mroi: Mroi, tmp_path: Path) -> None:
    add_series(tmp_path / "in", 1, "ct")
    nib.save(nib.Nifti1Image(phantom(), AFFINE), tmp_path / "in" / "a.nii.gz")
    done = mroi("pack", "in", "-o", "out")
    assert (done.code, "left out" in done.err) == (0, False)
    assert sorted(p.name for p in Path("out").iterdir()) == ["a.mroi", "in.mroi"]


def test_one_series_is_taken_by_its_uid(mroi: Mroi, study: Path) -> None:
    uid = f"{SERIES}.7.10"
    done = mroi("pack", study, "-o", "one.mroi", "--series", uid)
    assert (done.code, Path("one.mroi").is_file()) == (0, True), done.err
    assert mroi("verify", "one.mroi", "--against", study, "--series", uid).code == 0
    other = mroi("verify", "one.mroi", "--against", study, "--series", f"{SERIES}.7.0")
    assert other.code == ExitCode.DAMAGED
    done = mroi("pack", study, "-o", "two.mroi", "--series", "1.2.3")
    assert done.code == ExitCode.USAGE
    assert uid in done.err


def test_a_damaged_slice_concerns_the_series_of_its_folder(mroi: Mroi, tmp_path: Path) -> None:
    add_series(tmp_path / "in" / "a", 1, "a")
    add_series(tmp_path / "in" / "b", 2, "b", first=10)
    add_series(tmp_path / "in", 3, "c", first=20)
    (tmp_path / "in" / "b" / "im0013.dcm").write_bytes(b"")
    done = mroi("pack", "in", "-o", "out")
    assert done.code == ExitCode.SOME_FAILED
    assert "in (2-b): 1 of 4 images cannot be read" in done.err
    assert sorted(p.name for p in Path("out/in").iterdir()) == ["1-a.mroi", "3-c.mroi"]
    done = mroi("pack", "in", "-o", "out", "--allow-missing", "--exists", "skip")
    assert (done.code, Path("out/in/2-b.mroi").exists()) == (ExitCode.SOME_FAILED, True)


def test_cleaned_files_have_no_descriptions_in_their_names(mroi: Mroi, study: Path) -> None:
    assert mroi("pack", study, "-o", "out", "--metadata", "clean").code == 0
    found = sorted(p.name for p in Path("out/study").iterdir())
    assert found == ["12.mroi", "3.mroi", "series.mroi"]


def test_names_of_series_are_safe_and_never_alike(tmp_path: Path) -> None:
    from mroi.adapters.dicom import find_series

    texts = [
        (1, "x"),
        (1, "X"),
        (None, "../etc/passwd"),
        (None, ""),
        (2, "a" * 64),
        (2, "a" * 64),
    ]
    for at, (number, text) in enumerate(texts):
        add_series(tmp_path / "in", number, text, first=10 * at)
    names = names_of(find_series(tmp_path / "in"))
    assert names[:4] == ["1-x", "1-X-2", "series-etc_passwd", "series"]
    assert len({name.casefold() for name in names}) == len(texts)
    assert all(len(name) <= 70 and "/" not in name for name in names)


def test_roi_takes_every_series_and_every_image(mroi: Mroi, tmp_path: Path) -> None:
    from mroi.roi.tables import parse_box_table

    for at in range(2):
        voxels = np.random.default_rng(at).integers(0, 20, (4, 60, 80)).astype("i2")
        voxels[:, 15:45, 20:60] += 900
        images = series(voxels)
        for k, image in enumerate(images):
            image.SeriesInstanceUID = f"{SERIES}.7.{at}"
            image.SOPInstanceUID = f"{SERIES}.8.{at}.{k}"
            image.SeriesNumber = at + 1
        write(tmp_path / "in", images, [f"{at}{k}.dcm" for k in range(4)])
    nib.save(nib.Nifti1Image(np.transpose(voxels), np.eye(4)), tmp_path / "in" / "n.nii")
    picture = blank(40)
    picture.SeriesInstanceUID = f"{SERIES}.7.40"
    flat = np.random.default_rng(9).integers(0, 20, (60, 80)).astype("u2")
    flat[20:40, 20:50] += np.linspace(400, 900, 30).astype("u2")
    set_pixels(picture, flat)
    write(tmp_path / "in", [picture], ["left.dcm"])
    done = mroi("roi", "in", "-o", "roi")
    assert done.code == 0, done.err
    boxes = parse_box_table(Path("roi/bbox3d_by_subject.csv").read_text())
    assert sorted(row.subject for row in boxes) == ["in_1", "in_2", "n"]
    assert Path("roi/left_metadata.json").exists()
    done = mroi("pack", "in", "-o", "out", "--roi", "boxes:roi/bbox3d_by_subject.csv")
    assert done.code == ExitCode.SOME_FAILED  # the picture has no box of three axes
    assert sorted(p.name for p in Path("out").rglob("*.mroi")) == ["1.mroi", "2.mroi", "n.mroi"]
    done = mroi("roi", "in", "-o", "one", "--series", f"{SERIES}.7.1")
    assert (done.code, done.err.count(" -> ")) == (0, 1)


# -- names of outputs --------------------------------------------------------------------------


@pytest.fixture
def inputs(mroi: Mroi, packed: Path) -> None:
    """A scan, a packed one, one DICOM file, a folder of each kind."""
    add_series(Path("ct"), 1, "ct")
    Path("one").mkdir()
    shutil.copy("ct/im0000.dcm", "one/im.dcm")
    Path("images").mkdir()
    shutil.copy("scan.nii.gz", "images/scan.nii.gz")
    Path("there").mkdir()


CASES = [
    ("pack ct -o new", "new/ct.mroi"),
    ("pack ct -o new/", "new/ct.mroi"),
    ("pack ct -o there", "there/ct.mroi"),
    ("pack ct -o x.mroi", "x.mroi"),
    ("pack images -o new", "new/scan.mroi"),
    ("pack images -o x.mroi", "x.mroi"),
    ("pack scan.nii.gz -o new/", "new/scan.mroi"),
    ("pack scan.nii.gz -o x.MROI", "x.MROI"),
    ("pack scan.nii.gz ct -o new", "new/scan.mroi new/ct.mroi"),
    ("pack one/im.dcm -o there", "there/im.mroi"),
    ("pack scan.nii.gz -o l4.txt", ""),
    ("pack scan.nii.gz -o name", ""),
    ("pack scan.nii.gz ct -o x.mroi", ""),
    ("slice scan.mroi -o s.png", "s.png"),
    ("slice scan.mroi -o s.NPY", "s.NPY"),
    ("slice scan.mroi -o s -f npy", "s"),
    ("slice scan.mroi -o there", "there/scan.slice.png"),
    ("slice scan.mroi -o s.jpg", ""),
    ("slice scan.mroi -o s.npy -f png", ""),
    ("slice scan.mroi -o s", ""),
    ("preview scan.mroi -o p.png", "p.png"),
    ("preview scan.mroi -o p.jpg", ""),
    ("recover scan.mroi -o r.mroi", "r.mroi"),
    ("recover scan.mroi -o r.nii", ""),
    ("unpack scan.mroi -o u.nii", "u.nii"),
    ("unpack scan.mroi -o u.txt", ""),
    ("unpack scan.mroi -o u.dcm", ""),
]


@pytest.mark.parametrize(("command", "targets"), CASES)
@pytest.mark.usefixtures("inputs")
def test_an_output_is_called_as_its_name_says(mroi: Mroi, command: str, targets: str) -> None:
    before = {p for p in Path().rglob("*") if p.is_file()}
    done = mroi(*command.split())
    after = {p.as_posix() for p in Path().rglob("*") if p.is_file() and p not in before}
    assert done.code == (0 if targets else ExitCode.USAGE), done.err
    assert after == set(targets.split())


@pytest.mark.usefixtures("inputs")
def test_a_series_of_one_file_comes_back_as_one_file(mroi: Mroi) -> None:
    source = Path("one/im.dcm").read_bytes()
    assert mroi("pack", "one/im.dcm", "-o", "im.mroi").code == 0
    assert mroi("unpack", "im.mroi").code == 0
    assert mroi("unpack", "im.mroi", "-o", "x.dcm").code == 0
    assert mroi("unpack", "im.mroi", "-o", "there").code == 0
    for path in ("im.dcm", "x.dcm", "there/im.dcm"):
        assert Path(path).read_bytes() == source
    assert mroi("unpack", "im.mroi", "-o", "x.dcm").code == ExitCode.NO_OUTPUT
    assert mroi("unpack", "im.mroi", "-o", "x.dcm", "--exists", "overwrite").code == 0
    assert mroi("unpack", "im.mroi", "-o", "folder").code == 0
    assert Path("folder/00001.dcm").read_bytes() == source
    assert mroi("pack", "ct").code == 0
    done = mroi("unpack", "ct.mroi", "-o", "y.dcm")
    assert (done.code, "3 files: name a folder" in done.err) == (ExitCode.USAGE, True)
    assert not Path("y.dcm").exists()
    assert mroi("unpack", "ct.mroi", "-o", "y.txt").code == ExitCode.USAGE
    assert mroi("unpack", "ct.mroi", "-o", "1.2.840.11").code == 0
    assert Path("1.2.840.11/00003.dcm").is_file()


@pytest.mark.parametrize("command", ["pack", "unpack", "info", "verify", "preview", "recover"])
def test_a_folder_without_inputs_has_none(mroi: Mroi, tmp_path: Path, command: str) -> None:
    (tmp_path / "empty").mkdir()
    done = mroi(command, "empty")
    assert (done.code, "no file that ends in" in done.err) == (ExitCode.NO_INPUT, True)


def test_an_empty_folder_stops_no_other_input(mroi: Mroi, scan: Path) -> None:
    Path("empty").mkdir()
    done = mroi("pack", "empty", scan, "-o", "out")
    assert (done.code, Path("out/scan.mroi").exists()) == (ExitCode.SOME_FAILED, True)
