"""A series is packed and comes back: files, arrays, positions, rescale factors."""

from __future__ import annotations

import io
import time

import dicom_phantoms as phantoms
import numpy as np
import pydicom
import pytest

import mroi
from mroi.adapters.dicom import (
    DicomSource,
    find_identifiers,
    is_turned,
    read_heads,
    read_series,
    restore_series,
)
from mroi.adapters.policy import MetadataPolicy
from mroi.errors import SourceError


def packed(source):
    file = io.BytesIO()
    mroi.pack(source, file)
    return mroi.open(file.getvalue())


def classic():
    return phantoms.series(
        phantoms.noise((5, 12, 14), "i2"), phantoms.oblique(np.random.default_rng(1))
    )


def mosaics():
    return [
        phantoms.mosaic(phantoms.noise((7, 8, 6), "u2", t), number=t, against=True) for t in (0, 1)
    ]


def multi_frame():
    voxels = phantoms.noise((6, 12, 14), "u2")
    rescale = [[1 + k, -k] for k in range(6)]
    return [phantoms.enhanced(voxels, order=[3, 0, 5, 1, 2, 4], rescale=rescale, times=2)]


def colours():
    ds = phantoms.blank()
    phantoms.set_pixels(ds, phantoms.noise((9, 11, 3), "u1", high=255), colour=True)
    return [ds]


def floats():
    ds = phantoms.blank()
    phantoms.set_pixels(ds, phantoms.noise((9, 11), "f4"))
    return [ds]


KINDS = [classic, mosaics, multi_frame, colours, floats]


@pytest.mark.parametrize("make", KINDS)
def test_files_come_back_bit_for_bit(tmp_path, make):
    phantoms.write(tmp_path / "in", make())
    series = read_series(tmp_path / "in")
    with packed(DicomSource(series)) as volume:
        assert volume.shape == series.shape
        np.testing.assert_array_equal(volume.affine, series.affine)
        assert volume.geom.bits_stored == series.bits_stored
        stored = np.stack(list(volume.unscaled.planes()))
        planes = np.stack([plane for _, plane in series.planes()])
        assert stored.tobytes() == planes.tobytes()
        out = restore_series(volume, tmp_path / "out")
    assert [p.read_bytes() for p in out] == [i.path.read_bytes() for i in series.instances]


def test_values_are_in_the_units_of_the_scanner(tmp_path):
    series = read_series(phantoms.write(tmp_path, multi_frame()))
    with packed(DicomSource(series)) as volume:
        for index, (_, plane) in enumerate(series.planes()):
            t, k = divmod(index, series.shape[2])
            slope, inter = series.rescale[index]
            np.testing.assert_array_equal(volume[:, :, k, t], plane.T * slope + inter)


def test_irregular_positions_are_kept(tmp_path):
    datasets = classic()
    del datasets[2]
    paths = phantoms.write(tmp_path, datasets)
    series = read_series(paths, allow_irregular=True)
    with packed(DicomSource(series)) as volume:
        payload = volume.reader.find_metadata(b"sLPo")
        np.testing.assert_array_equal(np.frombuffer(payload).reshape(-1, 3), series.positions)
    with packed(DicomSource(read_series(phantoms.write(tmp_path / "all", classic())))) as volume:
        assert volume.reader.find_metadata(b"sLPo") is None


def test_policies_for_attributes(tmp_path):
    phantoms.write(tmp_path / "in", classic())
    series = read_series(tmp_path / "in")
    with packed(DicomSource(series, MetadataPolicy("strip"))) as volume:
        assert not [frame for frame in volume.reader.frames if frame.key[0] == b"dCMh"]
        with pytest.raises(SourceError, match="does not hold"):
            restore_series(volume, tmp_path / "stripped")
    with packed(DicomSource(series, MetadataPolicy("clean"))) as volume:
        out = restore_series(volume, tmp_path / "cleaned")
        values = {i.value for head in read_heads(volume) for i in find_identifiers(head.part10)}
    assert "Doe^Jane" not in values
    assert all(value.startswith("2.25.") for value in values)
    again = read_series(out)
    np.testing.assert_array_equal(again.affine, series.affine)
    pairs = zip(again.planes(), series.planes(), strict=True)
    assert all(np.array_equal(a, b) for (_, a), (_, b) in pairs)
    datasets = [pydicom.dcmread(p) for p in out]
    assert len({ds.SeriesInstanceUID for ds in datasets}) == 1
    assert {str(ds.PatientName) for ds in datasets} == {""}


def test_turning_is_known_from_a_head(tmp_path):
    datasets = classic()
    for ds in datasets:
        ds.MRAcquisitionType = "3D"
    series = read_series(phantoms.write(tmp_path, datasets))
    assert series.turned_by_dcm2niix
    head = next(series.heads())
    assert is_turned(head, series.shape)
    assert not is_turned(head, (*series.shape, 2))
    assert not is_turned(head, (*series.shape[:2], 1))


def test_slices_are_those_of_the_series(tmp_path):
    source = DicomSource(read_series(phantoms.write(tmp_path, classic())))
    for axis in (0, 1):
        with pytest.raises(SourceError, match="slice axis"):
            next(source.planes(axis))


# -- a source that changes while it is packed ------------------------------------------------------


@pytest.mark.parametrize("moment", ["before", "pixels", "between", "heads"])
@pytest.mark.parametrize("how", ["replaced", "written over", "removed"])
def test_a_file_that_changes_while_it_is_packed(tmp_path, monkeypatch, moment, how):
    """Else the attributes of one image would stand with the pixels of another."""
    folder = tmp_path / "series"
    folder.mkdir()
    path = phantoms.write(folder, classic())[2]
    target = tmp_path / "x.mroi"
    source = DicomSource(read_series(folder))
    other = pydicom.dcmread(path)
    other.PatientName = "Somebody^Else"

    def change():
        time.sleep(0.02)  # what a file system may take for one moment
        if how == "removed":
            path.unlink()
        else:
            new = path if how == "written over" else tmp_path / "new"
            other.save_as(new)
            new.replace(path)

    def planes(self, _axis):
        for index, plane, _ in self.series.split_planes():
            if moment == "pixels" and index == 3:
                change()
            yield plane
        if moment == "between":
            change()

    if moment == "before":
        change()
    elif moment == "heads":
        heads = type(source.series).heads
        monkeypatch.setattr(
            type(source.series), "heads", lambda self: [*heads(self), change()][:-1]
        )
    monkeypatch.setattr(DicomSource, "planes", planes)
    with pytest.raises((SourceError, OSError)) as caught:
        mroi.pack(source, target, codec="zstd", roi="full")
    assert how == "removed" or "changed while it was read" in str(caught.value)
    assert not target.exists()


def test_a_series_that_only_is_looked_at_does_not_change(tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    paths = phantoms.write(folder, classic())
    source = DicomSource(read_series(folder))
    for path in paths:
        path.read_bytes()
    mroi.pack(source, tmp_path / "x.mroi", codec="zstd")
    assert mroi.verify(tmp_path / "x.mroi", against=folder).comparison.equal
