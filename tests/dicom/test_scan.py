"""Which files of a folder are slices: none that is damaged goes missing without a word."""

from __future__ import annotations

import gzip

import dicom_phantoms as phantoms
import numpy as np
import pytest

import mroi
from mroi.adapters.convert import is_dicom, open_input
from mroi.adapters.dicom import list_series, read_series
from mroi.errors import SourceError

VOXELS = phantoms.noise((5, 6, 7), "i2")
DAMAGE = {
    "empty": lambda _: b"",
    "cut in its meta header": lambda data: data[:150],
    "cut in its header": lambda data: data[:420],
    "cut in an element": lambda data: data[:301],
    "cut in its pixels": lambda data: data[:-3],
    "cut to its preamble": lambda data: data[:132],
    "a text": lambda _: b"not an image, whatever its name says" * 9,
    "zeros": lambda data: bytes(len(data)),
    "half a gzip file": lambda data: gzip.compress(data)[:200],
}  # fmt: skip
PLACES = (0, 2, 4)


@pytest.fixture
def folder(tmp_path):
    phantoms.write(tmp_path / "ct", phantoms.series(VOXELS))
    return tmp_path / "ct"


def damage(folder, place, how):
    path = folder / f"im{place:04d}.dcm"
    path.write_bytes(DAMAGE[how](path.read_bytes()))
    return path


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_slice_is_an_error(folder, how, place):
    path = damage(folder, place, how)
    with pytest.raises(SourceError, match=rf"1 of 5 images.*{path.name}.*--allow-missing"):
        read_series(folder)
    with pytest.raises(SourceError):
        open_input(folder)


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_slice_can_be_done_without(folder, how):
    path = damage(folder, 4, how)
    series = read_series(folder, allow_missing=True)
    assert series.shape == (7, 6, 4)
    (found,) = series.left_out
    assert (found.name, found.is_damaged) == (path.name, True)
    assert str(found) in series.warnings[0]


def test_a_hole_is_still_an_error(folder):
    damage(folder, 2, "empty")
    with pytest.raises(SourceError, match="missing slices"):
        read_series(folder, allow_missing=True)
    assert read_series(folder, allow_missing=True, allow_irregular=True).shape == (7, 6, 4)


def test_every_cut_of_a_slice_is_noticed(folder):
    path = folder / "im0004.dcm"
    data = path.read_bytes()
    for size in range(0, len(data), 7):
        path.write_bytes(data[:size])
        with pytest.raises(SourceError, match="im0004"):
            read_series(folder)


@pytest.mark.parametrize("name", ["4.dcm", "IM0005", "1.2.840.1.5", "slice.005", "4.dcm.gz"])
def test_an_empty_file_is_a_slice_by_any_name_of_one(folder, name):
    (folder / name).touch()
    with pytest.raises(SourceError, match="is empty"):
        read_series(folder)


@pytest.mark.parametrize(
    ("name", "data"),
    [("notes.txt", b""), (".DS_Store", b""), ("notes.txt", b"six slices"), ("a.json", b"{}"),
     ("DICOMDIR", None), ("report.dcm", None), ("image", (348).to_bytes(4, "little") * 100)],
)  # fmt: skip
def test_what_is_no_image_is_left_out(folder, name, data):
    if data is None:
        report = phantoms.blank(9, "1.2.840.10008.5.1.4.1.1.88.11")
        report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID
        data = phantoms.to_bytes(report)
    (folder / name).write_bytes(data)
    series = read_series(folder)
    assert series.shape == (7, 6, 5)
    (found,) = series.left_out
    assert (found.name, found.is_damaged) == (name, False)


def test_damage_in_another_series_is_none_in_this_one(folder):
    other = phantoms.series(VOXELS[:1])[0]
    other.SeriesInstanceUID = "1.2.3"
    del other.PixelData
    phantoms.write(folder, [other], ["other.dcm"])
    with pytest.raises(SourceError, match=r"other\.dcm has no pixels"):
        read_series(folder)
    series = read_series(folder, series=phantoms.SERIES)
    assert [found.is_damaged for found in series.left_out] == [False]


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
@pytest.mark.parametrize("how", ["no preamble", "no meta", "gzip"])
def test_slices_without_a_preamble_are_slices(tmp_path, folder, syntax, how):
    datasets = phantoms.series(VOXELS)
    for ds in datasets:
        ds.file_meta.TransferSyntaxUID = syntax
    paths = phantoms.write(folder, datasets)
    for path in paths[2:]:
        data = path.read_bytes()
        meta = data.index(b"\x08\0\x08\0")  # the first element of the data set
        changed = {"no preamble": data[132:], "no meta": data[meta:], "gzip": gzip.compress(data)}
        path.write_bytes(changed[how])
        assert is_dicom(path)
    series = read_series(folder)
    assert series.shape == (7, 6, 5)
    assert np.array_equal(np.stack([plane for _, plane in series.planes()]), VOXELS)
    mroi.pack(folder, tmp_path / "a.mroi")
    restored = mroi.unpack(tmp_path / "a.mroi", tmp_path / "out").paths
    whole = [p.read_bytes() for p in paths]
    assert [p.read_bytes() for p in restored] == [
        gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data for data in whole
    ]


def test_a_packed_file_says_what_is_not_in_it(folder, tmp_path):
    damage(folder, 4, "empty")
    (folder / "notes.txt").write_text("six slices")
    result = mroi.pack(open_input(folder, allow_missing=True), tmp_path / "a.mroi")
    assert result.provenance["left_out"] == {
        "count": 2, "damaged": 1,
        "files": [{"name": "im0004.dcm", "reason": "is empty"},
                  {"name": "notes.txt", "reason": "is not DICOM"}],
    }  # fmt: skip
    with mroi.open(tmp_path / "a.mroi") as volume:
        assert volume.provenance["left_out"] == result.provenance["left_out"]
    for policy in ("clean", "strip"):  # names of files may be those of patients
        source = open_input(folder, allow_missing=True, metadata=policy)
        assert source.provenance["left_out"] == {"count": 2, "damaged": 1}


def test_a_folder_without_an_image_says_why(tmp_path):
    (tmp_path / "a.dcm").touch()
    (tmp_path / "b.dcm").write_text("x")
    with pytest.raises(SourceError, match=r"a\.dcm is empty\n +b\.dcm is not DICOM"):
        read_series(tmp_path)
    with pytest.raises(SourceError, match="no DICOM image"):
        list_series(tmp_path)
