"""Voxels that a file lacks: they are not made up unless that is asked for, and then it is said."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import mroi as library
from mroi.cli.exits import ExitCode
from mroi.format.datatypes import DATATYPES
from mroi.format.geom import Background, Geom
from mroi.pictures.planes import Plane, find_lost
from mroi.volume.chunks import codec_named
from mroi.volume.write import VolumeWriter
from tests.cli.runner import AFFINE, SHAPE, Mroi, phantom

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
    assert f"lacks {count:,} voxels" in done.err
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
    with VolumeWriter("left.mroi", geom, pipeline=codec_named("zstd")) as writer:
        for k in range(SHAPE[2]):
            writer.write(phantom()[:, :, k])
    with library.open("left.mroi") as volume:
        expected = volume.missing_mask()
        for axis, extent in enumerate(SHAPE):
            for index in range(extent):
                found = find_lost(volume, Plane(axis, index), [])
                assert np.array_equal(found, expected.take(index, axis))
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


@pytest.mark.parametrize("overview", [0, 2])
def test_a_file_without_a_whole_chunk_may_have_an_overview(mroi: Mroi, overview: int) -> None:
    voxels = np.random.default_rng(1).integers(0, 900, (16, 16, 16)).astype(np.int16)
    library.pack(voxels, "x.mroi", chunk=0, overview=overview, codec="zstd")
    data = Path("x.mroi").read_bytes()
    Path("x.mroi").write_bytes(data[: library.open(data).reader.index.first + 100])
    done = mroi("recover", "x.mroi")
    assert (done.code, "only its overview" in done.err) == (ExitCode.DAMAGED, overview > 0)
    assert "no chunk of the file is whole" in done.err
