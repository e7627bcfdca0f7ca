"""Volumes of a series are picked by number, where one of them is not whole or not wanted."""

from __future__ import annotations

import dicom_phantoms as phantoms
import numpy as np
import pytest

import mroi
from mroi.adapters.convert import open_input
from mroi.adapters.dicom import read_series
from mroi.errors import SourceError, UsageError

VOXELS = phantoms.noise((2, 4, 5, 6), "i2")
KINDS = {
    "acquisition": lambda t: {"AcquisitionNumber": 3 + t},
    "echo": lambda t: {"EchoNumbers": 1 + t, "EchoTime": 5 + 9 * t},
    "phase": lambda t: {"TemporalPositionIdentifier": 1 + t},
    "trigger": lambda t: {"TriggerTime": 400 * t},
}
FIRST = {"acquisition": 3, "echo": 1, "phase": 1, "trigger": 1}


def two_phases(folder, kind, lost=()):
    """A series of two volumes without some (volume, slice)."""
    datasets = []
    for t, volume in enumerate(VOXELS):
        for k, ds in enumerate(phantoms.series(volume)):
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = phantoms.uid(t * 4 + k)
            for keyword, value in KINDS[kind](t).items():
                setattr(ds, keyword, value)
            if (t, k) not in lost:
                datasets.append(ds)
    return phantoms.write(folder, datasets)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("volume", [0, 1])
def test_one_of_two_phases(tmp_path, kind, volume):
    two_phases(tmp_path / "ct", kind, lost=[(1, 2)])
    name = "phase" if kind == "trigger" else kind
    number = FIRST[kind] + volume
    with pytest.raises(SourceError, match=f"missing slices.*--pick .*{name}={FIRST[kind]}"):
        read_series(tmp_path / "ct")
    options = {"wanted": {name: number}, "allow_irregular": volume == 1}
    series = read_series(tmp_path / "ct", **options)
    assert series.shape == (6, 5, 4 - volume)
    found = np.stack([plane for _, plane in series.planes()])
    assert np.array_equal(found, VOXELS[volume] if volume == 0 else VOXELS[1][[0, 1, 3]])
    result = mroi.pack(open_input(tmp_path / "ct", **options), tmp_path / "a.mroi")
    assert result.provenance["picked"] == {name: number}


@pytest.mark.parametrize("kind", KINDS)
def test_picked_volumes_come_back_and_compare(tmp_path, kind):
    paths = two_phases(tmp_path / "ct", kind)
    wanted = {"phase" if kind == "trigger" else kind: FIRST[kind] + 1}
    mroi.pack(open_input(tmp_path / "ct", wanted=wanted), tmp_path / "a.mroi")
    out = mroi.unpack(tmp_path / "a.mroi", tmp_path / "out").paths
    assert [p.read_bytes() for p in out] == [p.read_bytes() for p in paths[4:]]
    report = mroi.verify(tmp_path / "a.mroi", against=tmp_path / "ct")
    compared = report.comparison
    assert (report.ok, compared.equal) == (True, True)
    mroi.pack(tmp_path / "ct", tmp_path / "both.mroi")
    with mroi.open(tmp_path / "both.mroi") as volume:
        assert volume.shape == (6, 5, 4, 2)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"echo": 7}, r"no echo 7; there are \[1, 2\]"),
        ({"phase": 9}, "no phase 9"),
        ({"slice": 1}, "'slice': expected acquisition, echo, phase"),
        ({"acquisition": 2}, r"no acquisition 2; there are \[1\]"),
    ],
)
def test_what_is_not_there(tmp_path, wanted, message):
    two_phases(tmp_path, "echo")
    with pytest.raises(UsageError, match=message):
        read_series(tmp_path, wanted=wanted)


def test_a_file_with_several_volumes_is_not_picked_apart(tmp_path):
    voxels = phantoms.noise((6, 4, 5), "u2")
    paths = phantoms.write(tmp_path, [phantoms.enhanced(voxels, times=2)])
    with pytest.raises(UsageError, match="holds several volumes in one file"):
        read_series(paths, wanted={"phase": 1})


def test_without_positions_there_are_no_phases(tmp_path):
    paths = phantoms.write(tmp_path, [phantoms.image(phantoms.noise((4, 5), "u2"))])
    with pytest.raises(UsageError, match="no phase 1"):
        read_series(paths, wanted={"phase": 1})


def test_a_series_of_positions_without_orientations(tmp_path):
    datasets = phantoms.series(VOXELS[0], orientation=(0, 1, 0, 0, 0, -1))
    for ds in datasets:
        del ds.ImageOrientationPatient
    paths = phantoms.write(tmp_path / "ct", datasets[::-1])
    result = mroi.pack(tmp_path / "ct", tmp_path / "a.mroi")
    assert "without orientations" in result.warnings[-1]
    with mroi.open(tmp_path / "a.mroi") as volume:
        assert volume.geom.xform_code == 0
        in_order = np.array_equal(volume.unscaled[...], VOXELS[0].T)
        assert in_order or np.array_equal(volume.unscaled[...], VOXELS[0][::-1].T)
    out = mroi.unpack(tmp_path / "a.mroi", tmp_path / "out").paths
    assert sorted(p.read_bytes() for p in out) == sorted(p.read_bytes() for p in paths)
