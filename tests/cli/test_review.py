"""What the tools say where a file lacks something: voxels, a position, a proof, or being ours."""

import gzip
import io
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

import mroi as library
from mroi.cli.exits import ExitCode
from mroi.format.datatypes import DATATYPES
from mroi.format.geom import Background, Geom
from mroi.pictures.planes import Plane, find_lost
from mroi.volume.chunks import codec_named
from mroi.volume.write import VolumeWriter
from tests.cli.runner import AFFINE, SHAPE, Mroi, phantom

CT = Path(str(get_testdata_file("CT_small.dcm", download=False)))
LOST = (255, 0, 160)


@pytest.fixture
def recovered(mroi: Mroi, packed: Path) -> tuple[str, int]:
    """A file that lacks one slice, and which."""
    (info,) = mroi("info", packed, "--json", "--chunks").records
    bad = info["chunk_table"][3]
    data = bytearray(packed.read_bytes())
    data[bad["offset"] + 40] ^= 1
    packed.write_bytes(data)
    (record,) = mroi("recover", packed, "--json").records
    return str(record["target"]), int(str(bad["box"]).rpartition(",")[2].partition(":")[0])


# -- missing voxels ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["npy", "png"])
def test_a_missing_slice_is_not_made_up(mroi: Mroi, recovered: tuple[str, int], form: str) -> None:
    path, k = recovered
    done = mroi("slice", path, "-k", k, "-f", form, "-o", "s")
    assert done.code == ExitCode.DAMAGED
    assert "--missing fill" in done.err
    assert not Path("s").exists()
    (record,) = mroi("slice", path, "-k", k + 1, "-f", form, "-o", "s", "--json").records
    assert record["filled"] == 0


def test_a_missing_slice_is_filled_on_request_and_that_is_said(
    mroi: Mroi, recovered: tuple[str, int]
) -> None:
    path, k = recovered
    done = mroi("slice", path, "-k", k, "--missing", "fill", "-o", "s.npy", "--json")
    assert done.code == 0
    with library.open(path) as volume:
        count = int(volume.missing_mask()[:, :, k].sum())
    assert done.records[0]["filled"] == count > 0
    assert f"warning: {count:,} voxels" in done.err
    assert np.unique(np.load("s.npy")).tolist() == [-3]  # a stored zero, scaled


def test_what_is_missing_of_each_plane(recovered: tuple[str, int]) -> None:
    with library.open(recovered[0]) as volume:
        expected, missing = volume.missing_mask(), volume.reader.find_missing()
        for axis, extent in enumerate(SHAPE):
            for index in range(extent):
                found = find_lost(volume, Plane(axis, index), missing)
                assert np.array_equal(found, expected.take(index, axis))


def test_voxels_that_were_left_out_count_as_missing(mroi: Mroi) -> None:
    geom = Geom(
        ndim=3,
        shape=SHAPE,
        datatype=DATATYPES[4],
        bits_stored=16,
        roi=library.Box((3, 4, 2), (9, 12, 8)),
        chunk_shape=(6, 8, 1, 1),
        slice_axis=2,
        background=Background.OMIT,
        fill=bytes(2),
        slope=1.0,
        inter=0.0,
        affine=AFFINE,
        spacing=(1.5, 1.25, 3.0),
    )
    with VolumeWriter("left.mroi", geom, codec=codec_named("zstd")) as writer:
        for k in range(SHAPE[2]):
            writer.write(phantom()[:, :, k])
    with library.open("left.mroi") as volume:
        expected = volume.missing_mask()
        for axis, extent in enumerate(SHAPE):
            for index in range(extent):
                assert np.array_equal(
                    find_lost(volume, Plane(axis, index), []), expected.take(index, axis)
                )
    assert mroi("slice", "left.mroi", "-k", "4", "-o", "s.png").code == ExitCode.DAMAGED
    (record,) = mroi("slice", "left.mroi", "-k", "4", "--missing", "fill", "--json").records
    assert record["filled"] == 12 * 15 - 6 * 8
    mroi("preview", "left.mroi", "-o", "p.png")
    with Image.open("p.png") as picture:
        assert not (np.asarray(picture.convert("RGB")) == LOST).all(axis=2).any()


def test_the_preview_shows_what_is_missing(mroi: Mroi, recovered: tuple[str, int]) -> None:
    done = mroi("preview", recovered[0], "-o", "p.png", "--json")
    assert (done.code, done.records[0]["missing"]) == (0, 1)
    with Image.open("p.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert (pixels == LOST).all(axis=2).sum() > 1000


def test_the_preview_of_a_whole_file_has_no_such_colour(mroi: Mroi, packed: Path) -> None:
    mroi("preview", packed, "-o", "p.png")
    with Image.open("p.png") as picture:
        assert not (np.asarray(picture.convert("RGB")) == LOST).all(axis=2).any()


def test_a_partial_file_unpacks_only_on_request(mroi: Mroi, recovered: tuple[str, int]) -> None:
    path, k = recovered
    assert mroi("unpack", path, "-o", "u.nii").code == ExitCode.DAMAGED
    assert not Path("u.nii").exists()
    done = mroi("unpack", path, "-o", "u.nii", "--missing", "fill")
    assert done.code == 0, done.err
    assert "1 of 7 chunks are missing" in done.err
    assert "not equal to the source" in done.err
    expected = phantom()
    with library.open(path) as volume:
        expected[volume.missing_mask()] = 0
    assert not expected[:, :, k].any()
    assert np.array_equal(np.asarray(nib.load("u.nii").dataobj.get_unscaled()), expected)


def test_verify_says_that_a_file_is_partial(mroi: Mroi, recovered: tuple[str, int]) -> None:
    done = mroi("verify", recovered[0], "--quiet")
    assert done.code == 0
    assert "PARTIAL" in done.out
    (record,) = mroi("verify", recovered[0], "--json").records
    assert (record["partial"], record["missing"], record["chunks"]) == (True, 1, 7)


# -- images without a position -----------------------------------------------------------------


def test_a_dicom_image_without_position_is_drawn_as_stored(mroi: Mroi) -> None:
    dataset = pydicom.dcmread(CT)
    del dataset.ImagePositionPatient, dataset.ImageOrientationPatient
    dataset.save_as("flat.dcm")
    assert mroi("pack", "flat.dcm").code == 0
    assert mroi("slice", "flat.mroi", "-o", "s.png", "--window", "-1100,2000").code == 0
    rows = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    expected = np.round(255 * (rows.clip(-1100, 2000) + 1100) / 3100)
    with Image.open("s.png") as picture:
        assert np.abs(np.asarray(picture).astype(int) - expected).max() <= 1
    (info,) = mroi("info", "flat.mroi", "--json").records
    assert (info["orientation"], info["oblique"]) == (None, None)
    assert "not known: the source has no position" in mroi("info", "flat.mroi").out


def test_a_panel_without_position_has_no_letters_and_no_place(mroi: Mroi) -> None:
    from mroi.pictures.planes import View

    dataset = pydicom.dcmread(CT)
    del dataset.ImagePositionPatient, dataset.ImageOrientationPatient
    dataset.save_as("flat.dcm")
    mroi("pack", "flat.dcm", "--roi", "10:20,30:50,0:1")
    with library.open("flat.mroi") as volume:
        panel = View(volume).panel(np.zeros((128, 128), np.uint8), Plane(2, 0))
    assert (panel.letters.strip(), panel.caption, panel.box) == ("", "k = 0", (10, 30, 20, 50))


# -- what is said of a file --------------------------------------------------------------------


def test_info_keeps_the_path(mroi: Mroi, packed: Path) -> None:
    (info,) = mroi("info", packed, "--json").records
    assert info["source"] == str(packed)
    assert info["format"]["kind"] == "NIfTI-1"


@pytest.mark.parametrize("degrees", [0.0, 0.2, 12.0])
def test_info_says_how_oblique_a_volume_is(mroi: Mroi, degrees: float) -> None:
    a = np.radians(degrees)
    affine = np.eye(4)
    affine[1:3, 1:3] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    library.pack(phantom(), "turned.mroi", affine=affine @ np.diag([1, 2, 3, 1]))
    (info,) = mroi("info", "turned.mroi", "--json").records
    assert info["oblique"] == pytest.approx(degrees, abs=1e-4)
    text = mroi("info", "turned.mroi").out
    assert "RAS, in the space of another scan" in text
    assert ("oblique 12.0 degrees" in text) == (degrees == 12)


def test_info_says_that_the_unit_is_not_known(mroi: Mroi) -> None:
    nib.save(nib.Nifti1Image(phantom(), AFFINE), "bare.nii")
    mroi("pack", "bare.nii")
    assert "(unit not known)" in mroi("info", "bare.mroi").out


@pytest.mark.parametrize("command", ["info", "verify", "slice", "preview", "unpack"])
def test_a_source_in_place_of_a_file_is_recognised(mroi: Mroi, scan: Path, command: str) -> None:
    Path("scan.nii").write_bytes(gzip.decompress(scan.read_bytes()))
    Path("ct.dcm").write_bytes(CT.read_bytes())
    output = [] if command in ("info", "verify") else ["-o", "out.nii"]
    for name, kind in ((scan, "gzip"), ("scan.nii", "a NIfTI image"), ("ct.dcm", "a DICOM file")):
        done = mroi(command, name, *output)
        assert done.code == ExitCode.DAMAGED
        assert kind in done.err
        assert "`mroi pack` it first" in done.err
    Path("junk").write_bytes(bytes(50))
    done = mroi(command, "junk", *output)
    assert done.code == ExitCode.DAMAGED
    assert "mroi pack" not in done.err


def test_one_chunk_is_not_chunks(mroi: Mroi) -> None:
    library.pack(np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "small.mroi", chunk=4)
    assert "ok, 1 chunk," in mroi("verify", "small.mroi").out


# -- slices of 4-D data ------------------------------------------------------------------------


def test_npy_of_one_volume_or_of_all(mroi: Mroi) -> None:
    image = np.arange(3 * 4 * 5 * 2, dtype=np.int16).reshape(3, 4, 5, 2)
    library.pack(image, "four.mroi")
    for axis in range(3):
        arguments = ["slice", "four.mroi", "-k", "1", "-a", "xyz"[axis], "-f", "npy", "-o", "-"]
        assert np.array_equal(np.load(io.BytesIO(mroi(*arguments).data)), image.take(1, axis))
        one = np.load(io.BytesIO(mroi(*arguments, "--volume", "1").data))
        assert np.array_equal(one, image[..., 1].take(1, axis))
    done = mroi("slice", "four.mroi", "--volume", "2", "-o", "s.npy")
    assert done.code == ExitCode.USAGE
    assert not Path("s.npy").exists()


# -- sources -----------------------------------------------------------------------------------


def test_a_source_that_is_not_there(mroi: Mroi, packed: Path) -> None:
    done = mroi("verify", packed, "--against", "nope.nii.gz")
    assert done.code == ExitCode.NO_INPUT
    assert "nope.nii.gz" in done.err


def test_verify_against_one_series_of_a_folder(mroi: Mroi) -> None:
    Path("both").mkdir()
    uids = []
    for number in (1, 2):
        dataset = pydicom.dcmread(CT)
        dataset.SeriesInstanceUID = generate_uid()
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(f"both/{number}.dcm")
        uids.append(dataset.SeriesInstanceUID)
    assert mroi("pack", "both", "--series", uids[1], "-o", "two.mroi").code == 0
    assert mroi("verify", "two.mroi", "--against", "both").code == ExitCode.NO_INPUT
    done = mroi("verify", "two.mroi", "--against", "both", "--series", uids[1])
    assert done.code == 0, done.err
    assert mroi("verify", "two.mroi", "--against", "both", "--series", uids[0]).code != 0


def test_unpack_says_what_is_proven_of_dicom(mroi: Mroi) -> None:
    Path("ct.dcm").write_bytes(CT.read_bytes())
    mroi("pack", "ct.dcm")
    said = mroi("unpack", "ct.mroi", "-o", "files").err
    assert "voxels and attributes from the file; `mroi verify` proves the voxels" in said
    assert "volume" in mroi("verify", "ct.mroi", "--json").records[0]["digests"]
