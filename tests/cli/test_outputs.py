"""No output takes the place of what is read, whatever it is called, nor that of another output."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mroi as library
from mroi.cli.exits import ExitCode
from tests.cli.runner import Mroi
from tests.dicom.dicom_phantoms import noise, series, write

LINKS = pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic", "hard"])
pytestmark = pytest.mark.skipif(os.name == "nt", reason="links need rights there")
FORCE = ("--exists", "overwrite")


# -- an input ----------------------------------------------------------------------------------


@LINKS
@pytest.mark.parametrize("command", ["pack", "unpack", "recover", "slice", "preview"])
def test_an_output_that_is_a_link_to_the_input(
    mroi: Mroi, scan: Path, packed: Path, command: str, link
) -> None:
    source = scan if command == "pack" else packed
    before = source.read_bytes()
    endings = {"unpack": "nii.gz", "slice": "png", "preview": "png"}
    output = Path(f"out.{endings.get(command, 'mroi')}")
    link(source, output)
    done = mroi(command, source, "-o", output, *FORCE)
    assert done.code == ExitCode.USAGE
    assert f"{output} is also an input" in done.err
    assert source.read_bytes() == output.read_bytes() == before
    assert not list(Path().glob(".*"))


@LINKS
def test_the_same_in_python(scan: Path, packed: Path, tmp_path: Path, link) -> None:
    image, file = tmp_path / "link.mroi", tmp_path / "link.nii"
    link(scan, image)
    link(packed, file)
    before = scan.read_bytes(), packed.read_bytes()
    for call in (
        lambda: library.pack(scan, image, overwrite=True),
        lambda: library.unpack(packed, file, overwrite=True),
        lambda: library.recover(packed, file, overwrite=True),
    ):
        with pytest.raises(library.UsageError, match="is also an input"):
            call()
    for source, target in ((scan, image), (packed, file)):
        with (
            target.open("r+b") as opened,
            pytest.raises(library.UsageError, match="is also an input"),
        ):
            (library.pack if source is scan else library.unpack)(source, opened)
    with packed.open("rb") as opened, pytest.raises(library.UsageError, match="is also an input"):
        library.recover(opened, file, overwrite=True)
    assert before == (scan.read_bytes(), packed.read_bytes())


@LINKS
def test_an_output_that_is_the_other_half_of_a_pair(mroi: Mroi, scan: Path, link) -> None:
    import nibabel as nib

    nib.save(nib.Nifti1Pair.from_image(nib.load(scan)), "p.img")
    link("p.hdr", "out.mroi")
    before = Path("p.hdr").read_bytes()
    assert mroi("pack", "p.img", "-o", "out.mroi", *FORCE).code == ExitCode.USAGE
    assert Path("p.hdr").read_bytes() == before


def test_an_output_that_is_a_file_of_the_series(mroi: Mroi, ct: Path) -> None:
    Path("series").mkdir()
    shutil.copy(ct, "series/IM1")
    Path("out.mroi").hardlink_to("series/IM1")
    done = mroi("pack", "series", "-o", "out.mroi", *FORCE)
    assert (done.code, "is also an input" in done.err) == (ExitCode.USAGE, True)
    assert Path("series/IM1").read_bytes() == ct.read_bytes()


def test_an_output_that_is_another_input(mroi: Mroi, scan: Path) -> None:
    """Only the task that would destroy it fails."""
    shutil.copy(scan, "other.nii.gz")
    Path("out").mkdir()
    Path("out/other.mroi").symlink_to(scan)
    before = scan.read_bytes()
    done = mroi("pack", scan, "other.nii.gz", "-o", "out", *FORCE, "-c", "zstd")
    assert done.code == ExitCode.SOME_FAILED
    assert scan.read_bytes() == before
    assert library.verify("out/scan.mroi", against=scan).comparison.equal


def test_an_output_that_is_the_mask(mroi: Mroi, scan: Path) -> None:
    shutil.copy(scan, "mask.nii.gz")
    Path("out.mroi").symlink_to("mask.nii.gz")
    before = Path("mask.nii.gz").read_bytes()
    for roi in ("mask.nii.gz", "mask.nii.gz:1", "boxes:mask.nii.gz"):
        assert mroi("pack", scan, "--roi", roi, "-o", "out.mroi", *FORCE).code == ExitCode.USAGE
    assert Path("mask.nii.gz").read_bytes() == before


def test_a_crop_that_would_replace_its_source(mroi: Mroi, scan: Path) -> None:
    source = Path("roi/cropped_volumes/scan.nii.gz")
    source.parent.mkdir(parents=True)
    shutil.copy(scan, source)
    before = source.read_bytes()
    done = mroi("roi", source, "-o", "roi", "--save-cropped", *FORCE)
    assert (done.code, "is also an input" in done.err) == (ExitCode.USAGE, True)
    assert source.read_bytes() == before


def test_standard_output_that_is_the_input(packed: Path) -> None:
    before = packed.read_bytes()
    program = [sys.executable, "-c", "from mroi.cli import main; main()"]
    with packed.open("ab") as appended:
        done = subprocess.run(
            [*program, "unpack", packed, "-o", "-"],
            stdout=appended,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == ExitCode.USAGE
    assert b"standard output is also an input" in done.stderr
    assert packed.read_bytes() == before


def test_another_file_with_the_same_bytes_is_no_input(mroi: Mroi, scan: Path) -> None:
    shutil.copy(scan, "copy.mroi")
    assert mroi("pack", scan, "-o", "copy.mroi", "-c", "zstd", *FORCE).code == 0
    assert library.verify("copy.mroi", against=scan).comparison.equal


# -- another output ----------------------------------------------------------------------------


def test_two_inputs_of_one_name_fail_and_the_others_do_not(mroi: Mroi, scan: Path) -> None:
    folder = Path("study")
    folder.mkdir()
    image = np.asarray(library.open(_packed(scan)).unscaled)
    for number, name in enumerate(("A.nii", "A.nii.gz", "B.nii.gz")):
        _save(image + number, folder / name)
    done = mroi("pack", folder, "-o", "out", "-c", "zstd")
    assert done.code == ExitCode.SOME_FAILED
    assert done.err.count("mroi: study/A.nii") == 2
    assert "--exists suffix" in done.err
    assert [path.name for path in sorted(Path("out").iterdir())] == ["B.mroi"]
    done = mroi("pack", folder, "-o", "out", "-c", "zstd", "--exists", "suffix")
    assert done.code == 0, done.err
    names = ["A-1.mroi", "A.mroi", "B-1.mroi", "B.mroi"]
    assert [path.name for path in sorted(Path("out").iterdir())] == names
    firsts = [int(library.open(Path("out", name)).unscaled[0, 0, 0]) for name in names]
    assert firsts == [1, 0, 2, 2]


def test_two_names_of_one_output(mroi: Mroi, scan: Path) -> None:
    """A link in the output folder makes one file of two."""
    shutil.copy(scan, "other.nii.gz")
    Path("out").mkdir()
    Path("out/other.mroi").symlink_to("scan.mroi")
    done = mroi("pack", scan, "other.nii.gz", "-o", "out", *FORCE)
    assert done.code == ExitCode.USAGE
    assert not Path("out/scan.mroi").exists()


@pytest.mark.parametrize(
    ("source", "numbered"),
    [("x.y.nii.gz", "x.y-1.mroi"), ("x.nii.gz", "x-1.mroi"), ("1.2.840", "1.2.840-1.mroi")],
)
def test_the_number_stands_before_the_ending(
    mroi: Mroi, scan: Path, source: str, numbered: str
) -> None:
    shutil.copy(scan, source)
    for _ in range(2):
        assert mroi("pack", source, "-c", "zstd", "--exists", "suffix").code == 0
    assert library.verify(numbered, against=scan).comparison.equal
    assert mroi("unpack", numbered, "-o", "back.nii.gz").code == 0
    assert mroi("unpack", numbered, "-o", "back.nii.gz", "--exists", "suffix").code == 0
    assert Path("back-1.nii.gz").exists()


def test_the_folder_of_a_series_is_numbered_at_its_end(mroi: Mroi) -> None:
    write(Path("1.2.840.11"), series(noise((2, 6, 7))))
    assert mroi("pack", "1.2.840.11", "-c", "zstd", "-o", "1.2.840.mroi").code == 0
    for _ in range(2):
        assert mroi("unpack", "1.2.840.mroi", "--exists", "suffix").code == 0
    assert sorted(path.name for path in Path().iterdir() if path.is_dir()) == [
        "1.2.840",
        "1.2.840-1",
        "1.2.840.11",
    ]


def test_the_folder_one_is_in(
    mroi: Mroi, ct: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Path("study").mkdir()
    shutil.copy(ct, "study/IM1")
    monkeypatch.chdir("study")
    assert mroi("pack", ".", "-c", "zstd").code == 0
    assert (tmp_path / "study.mroi").exists()


def _packed(scan: Path) -> Path:
    target = scan.with_name("whole.mroi")
    library.pack(scan, target, codec="zstd")
    return target


def _save(image: np.ndarray, path: Path) -> None:
    import nibabel as nib

    nib.save(nib.Nifti1Image(image, np.eye(4)), path)


# -- its name ----------------------------------------------------------------------------------


def test_an_output_that_exists_is_named_as_it_was_given(mroi: Mroi, scan: Path) -> None:
    assert mroi("pack", scan, "-o", "a.mroi").code == ExitCode.OK
    done = mroi("pack", scan, "-o", "a.mroi")
    assert done.code == ExitCode.NO_OUTPUT
    assert done.err.endswith(": a.mroi: the file exists already; see --exists\n")


def test_an_output_that_cannot_be_written_is_named(mroi: Mroi, scan: Path) -> None:
    from mroi.container import AtomicFile

    Path("file").write_text("not a folder")
    done = mroi("pack", scan, "-o", "file/a.mroi")
    assert done.code == ExitCode.NO_OUTPUT
    assert "--exists" not in done.err
    for target in ("nowhere/a.mroi", "file/a.mroi"):
        with pytest.raises(OSError, match=r"a\.mroi") as found:
            AtomicFile(target)
        assert found.value.filename == target
