"""What `mroi pack`, `recover` and `codecs` say, and which code tells a script what went wrong."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import mroi as library
from mroi.cli.exits import ExitCode
from mroi.errors import UsageError
from tests.cli.runner import AFFINE, Mroi, phantom

# -- codecs ------------------------------------------------------------------------------------


def test_codecs_says_what_packing_takes(mroi: Mroi) -> None:
    nib.save(nib.Nifti1Image(phantom(), AFFINE), "i2.nii")
    for record in mroi("codecs", "--json").records:
        if not record["works"] or record["name"].partition(".")[0] not in ("jpegls", "heif"):
            continue
        signed = [name for name in record["takes"] if name.startswith("int")]
        takes_16 = any("16" in name for name in signed)
        done = mroi("pack", "i2.nii", "-c", record["name"], "--exists", "overwrite")
        # A type that is not listed may still be taken where its values fit a narrower one.
        assert done.code == ExitCode.OK or not takes_16, done.err
        assert takes_16 == (record["name"] == "jpegls")


# -- a closed volume ---------------------------------------------------------------------------


def test_a_closed_volume_reads_nothing(packed: Path) -> None:
    with library.open(packed) as volume:
        first = volume[0, 0, 0]
        planes = volume.planes()
        next(planes)
        view = volume.cropped
    assert volume.shape == phantom().shape
    for read in (
        lambda: volume[0, 0, 0],
        lambda: volume.slice(0),
        lambda: np.asarray(volume),
        lambda: volume.unscaled,
        lambda: volume.cropped,
        volume.missing_mask,
        lambda: list(planes),
        lambda: list(volume.slices()),
    ):
        with pytest.raises(UsageError, match="the volume is closed"):
            read()
    volume.close()
    assert view.shape == view[...].shape
    assert library.open(packed)[0, 0, 0] == first
    view.close()


# -- wrong arguments ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.nii.gz", "a.NII", "a.img", "a.dcm", "a.png"])
def test_an_mroi_file_is_not_called_otherwise(mroi: Mroi, scan: Path, name: str) -> None:
    done = mroi("pack", scan, "-o", name)
    assert done.code == ExitCode.USAGE
    assert ".mroi" in done.err
    assert not Path(name).exists()


def test_a_packed_file_is_not_packed_again(mroi: Mroi, packed: Path) -> None:
    done = mroi("pack", packed, "-o", "again.mroi")
    assert done.code == ExitCode.NO_INPUT
    assert "an .mroi file already" in done.err
    assert len(done.err) < 500


@pytest.mark.parametrize("box", ["0:10,0:4", "5:2,0:1,0:1", "1:1,:,:", "1,2,3"])
def test_what_is_no_box_is_a_wrong_argument(mroi: Mroi, scan: Path, box: str) -> None:
    done = mroi("pack", scan, "--roi", box)
    assert done.code == ExitCode.USAGE
    assert box in done.err
    assert mroi("pack", scan, "--roi", "0:99,:,:").code == ExitCode.NO_INPUT  # only this scan says


def test_a_codec_that_nobody_has_is_a_wrong_argument(mroi: Mroi, scan: Path) -> None:
    done = mroi("pack", scan, "-c", "zstdd")
    assert done.code == ExitCode.USAGE
    assert "zstdd" in done.err


@pytest.fixture
def two_series(tmp_path: Path) -> tuple[Path, list[str]]:
    """A folder with two series of one slice."""
    import pydicom
    from pydicom.data import get_testdata_file

    folder = tmp_path / "both"
    folder.mkdir()
    uids = ["1.2.3.4", "1.2.3.5"]
    for uid in uids:
        dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
        dataset.SeriesInstanceUID = uid
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{uid}.1"
        dataset.save_as(folder / f"{uid}.dcm")
    return folder, uids


def test_several_series_are_listed_one_a_line(
    mroi: Mroi, two_series: tuple[Path, list[str]]
) -> None:
    folder, uids = two_series
    done = mroi("pack", folder, "-o", "x.mroi")
    assert done.code == ExitCode.NO_INPUT
    assert "--series UID" in done.err
    assert [line.split()[0] for line in done.err.splitlines()[1:]] == uids
    wrong = mroi("pack", folder, "-o", "x.mroi", "--series", "1.2.3")
    assert wrong.code == ExitCode.USAGE
    assert all(uid in wrong.err for uid in uids)
    assert mroi("pack", folder, "-o", "x.mroi", "--series", uids[0]).code == ExitCode.OK


# -- nibabel images ----------------------------------------------------------------------------


def test_an_image_that_was_loaded_is_packed_from_its_file(scan: Path) -> None:
    library.pack(nib.load(scan), scan.with_name("a.mroi"))
    result = library.unpack(scan.with_name("a.mroi"), scan.with_name("back.nii.gz"))
    assert result.proven
    assert np.array_equal(nib.load(scan).get_fdata(), nib.load(result.paths[0]).get_fdata())


def test_an_image_in_memory_is_packed_as_it_is(scan: Path) -> None:
    target = scan.with_name("a.mroi")
    loaded = nib.load(scan)
    moved = nib.load(scan)
    moved.set_sform(AFFINE @ np.diag([2.0, 1, 1, 1]))
    for image in (nib.Nifti1Image(phantom(), AFFINE), moved, nib.Nifti1Image(loaded.dataobj, None)):
        library.pack(image, target, overwrite=True)
        with library.open(target) as volume:
            assert np.array_equal(volume, np.asanyarray(image.dataobj))
            nib.save(image, scan.with_name("saved.nii"))
            assert np.allclose(volume.affine, nib.load(scan.with_name("saved.nii")).affine)


# -- what is said ------------------------------------------------------------------------------


def test_a_file_larger_than_its_source_is_pointed_out(mroi: Mroi, scan: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), AFFINE), "tiny.nii.gz")
    hint = "larger than the source"
    assert f"{hint}; --small makes it smaller" in mroi("pack", "tiny.nii.gz").err
    small = mroi("pack", "tiny.nii.gz", "--small", "-o", "small.mroi").err
    assert hint in small
    assert "--small makes" not in small
    nib.save(nib.Nifti1Image(phantom(), AFFINE), "plain.nii")
    assert hint not in mroi("pack", "plain.nii").err


def test_quiet_says_nothing_of_warnings(mroi: Mroi, two_series: tuple[Path, list[str]]) -> None:
    folder, uids = two_series
    (folder / "notes.txt").write_text("no image")
    arguments = ("pack", folder, "--series", uids[0], "-o", "x.mroi", "--exists", "overwrite")
    assert "notes.txt" in mroi(*arguments).err
    for more in ([], ["-v"]):
        done = mroi(*arguments, "-q", *more)
        assert (done.code, done.out, done.err) == (ExitCode.OK, "", "")


def test_choices_are_told_in_words(mroi: Mroi, scan: Path) -> None:
    done = mroi("pack", scan, "-v")
    assert "ROI auto" in done.err
    assert "zstd:delta=true" in done.err
    assert "{" not in done.err


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


# -- recover -----------------------------------------------------------------------------------


def test_recovering_what_is_whole_says_so(mroi: Mroi, packed: Path) -> None:
    said = "nothing was wrong; a full copy was written"
    assert said in mroi("recover", packed, "-o", "copy.mroi").err
    assert np.array_equal(library.open("copy.mroi"), library.open(packed))
    data = packed.read_bytes()
    Path("cut.mroi").write_bytes(data[: len(data) - 40])
    done = mroi("recover", "cut.mroi", "-o", "saved.mroi")
    assert done.code == ExitCode.OK
    assert said not in done.err
    assert "chunks" in done.err
