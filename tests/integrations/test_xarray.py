"""xarray opens files by itself, lazily, with coordinates where the axes of the patient allow it."""

from __future__ import annotations

import pickle
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

import mroi
from mroi.errors import FormatError
from mroi.xarray import MroiBackend, dataset_of

ROOT = Path(__file__).resolve().parents[2]
# Voxels run to the front, to the left and up.
AFFINE = np.array([[0, -2, 0, 40], [1.5, 0, 0, -30], [0, 0, 3, 7], [0, 0, 0, 1]])


@pytest.fixture
def voxels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 999, (9, 8, 7, 3)).astype("i2")


@pytest.fixture
def path(voxels: np.ndarray, tmp_path: Path) -> Path:
    mroi.pack(voxels, tmp_path / "a.mroi", affine=AFFINE, codec="zstd", chunk=(5, 0, 2, 1))
    return tmp_path / "a.mroi"


def open_dataset(path: Path, **options: object) -> xr.Dataset:
    return xr.open_dataset(path, engine=MroiBackend, **options)


def test_the_entry_point_leads_to_the_engine() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    ((name, value),) = project["entry-points"]["xarray.backends"].items()
    assert name == "mroi"
    assert EntryPoint(name, value, "xarray.backends").load() is MroiBackend


def test_it_takes_the_files_that_are_its_own() -> None:
    guess = MroiBackend().guess_can_open
    assert [guess(name) for name in ("a.mroi", Path("b.MROI"), "https://host/c.mroi")] == [True] * 3
    assert [guess(name) for name in ("a.nc", b"a.mroi", 3)] == [False] * 3


def test_axes_of_the_patient_have_coordinates_in_mm(path: Path, voxels: np.ndarray) -> None:
    with open_dataset(path) as dataset:
        volume = dataset["volume"]
        assert volume.dims == ("y", "x", "z", "t")
        assert_allclose(volume["x"], 40 - 2 * np.arange(8))
        assert_allclose(volume["y"], -30 + 1.5 * np.arange(9))
        assert_allclose(volume["z"], 7 + 3 * np.arange(7))
        assert {volume[name].units for name in "xyz"} == {"mm"}
        assert "t" not in volume.coords
        assert_array_equal(np.reshape(volume.affine, (4, 4)), AFFINE)
        assert volume.orientation == "ALS"
        chosen = volume.sel(x=36, z=13.4, method="nearest")
        assert_array_equal(chosen, voxels[:, 2, 2])


def test_times_have_coordinates_where_their_spacing_is_known(tmp_path: Path) -> None:
    with mroi.create(tmp_path / "a.mroi", (3, 3, 2, 4), "u1", spacing=(1, 1, 1, 2.5)) as writer:
        for k in range(8):
            writer.write(np.full((3, 3), k, "u1"))
    with open_dataset(tmp_path / "a.mroi") as dataset:
        assert_array_equal(dataset["t"], [0, 2.5, 5, 7.5])


def test_axes_askew_have_indices(voxels: np.ndarray, tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.1
    mroi.pack(voxels, tmp_path / "a.mroi", affine=affine)
    with open_dataset(tmp_path / "a.mroi") as dataset:
        assert dataset["volume"].dims == ("i", "j", "k", "t")
        assert list(dataset.coords) == []
        assert_array_equal(dataset["volume"].affine, affine.ravel())


def test_what_is_indexed_is_read_and_nothing_else(
    path: Path, voxels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    whole = mroi.Volume.__getitem__
    monkeypatch.setattr(
        mroi.Volume, "__getitem__", lambda self, key: read.append(key) or whole(self, key)
    )
    with open_dataset(path) as dataset:
        volume = dataset["volume"]
        assert read == []
        assert_array_equal(volume[::-2, 1:3, 4], voxels[::-2, 1:3, 4])
        assert_array_equal(volume[[3, 1], :, 2, 0], voxels[[3, 1], :, 2, 0])
        assert_array_equal(volume.isel(z=3).mean("t"), voxels[:, :, 3].mean(-1))
        assert all(key != (slice(None),) * 4 for key in read)
        assert_array_equal(volume, voxels)


def test_chunks_of_dask_are_those_of_the_file(path: Path, voxels: np.ndarray) -> None:
    with open_dataset(path, chunks={}) as dataset:
        assert dataset["volume"].chunks == ((5, 4), (8,), (2, 2, 2, 1), (1, 1, 1))
        assert_array_equal(dataset["volume"].compute(), voxels)


def test_it_can_be_pickled_and_read_after_it_was_closed(path: Path, voxels: np.ndarray) -> None:
    dataset = open_dataset(path)
    again = pickle.loads(pickle.dumps(dataset))
    assert_array_equal(again["volume"], voxels)
    dataset.close()
    assert_array_equal(dataset["volume"][0], voxels[0])


def test_the_roi_alone(tmp_path: Path) -> None:
    ball = np.pad(np.full((5, 6, 7), 9, "u1"), 4)
    mroi.pack(ball, tmp_path / "a.mroi", affine=np.diag([2, 2, 2, 1]))
    with open_dataset(tmp_path / "a.mroi", cropped=True) as dataset:
        assert dict(dataset.sizes) == {"x": 5, "y": 6, "z": 7}
        assert_array_equal(dataset["x"], [8, 10, 12, 14, 16])
        assert dataset["volume"].min() == 9
    volume = mroi.open(tmp_path / "a.mroi")
    assert dataset_of(volume.cropped).identical(dataset)


def test_variables_can_be_dropped(path: Path) -> None:
    with open_dataset(path, drop_variables="x") as dataset:
        assert set(dataset.coords) == {"y", "z"}


def test_damaged_files_are_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(FormatError):
        open_dataset(path)
