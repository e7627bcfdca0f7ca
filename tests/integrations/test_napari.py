"""napari gets layers whose voxels, coordinates and kind are those of the file, read when shown."""

from __future__ import annotations

import importlib
import pickle
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import yaml
from numpy.testing import assert_allclose, assert_array_equal

import mroi
from mroi.napari import get_reader, layers_of

ROOT = Path(__file__).resolve().parents[2]
TURNED = np.array([[0, -2, 0.5, 40], [1.5, 0, 0, -30], [0, 0.25, 3, 7], [0, 0, 0, 1]])
RGB = np.dtype([(name, "u1") for name in "RGB"])


def noise(*shape: int) -> np.ndarray:
    voxels = np.zeros(shape, "<i2")
    inside = voxels[1:-1, 1:-1]
    inside[...] = np.random.default_rng(0).integers(1, 999, inside.shape)
    return voxels


def packed(tmp_path: Path, voxels: np.ndarray, **options: Any) -> mroi.Volume:
    mroi.pack(voxels, tmp_path / "scan.mroi", codec="zstd", overwrite=True, **options)
    return mroi.open(tmp_path / "scan.mroi")


def layer_of(tmp_path: Path, voxels: np.ndarray, **options: Any) -> tuple[Any, dict[str, Any], str]:
    (layer,) = layers_of(packed(tmp_path, voxels, **options))
    return layer


def matrix_of(arguments: dict[str, Any]) -> np.ndarray:
    """Return what napari makes of the arguments of a layer."""
    if "affine" in arguments:
        assert "scale" not in arguments
        return np.asarray(arguments["affine"])
    matrix = np.diag([*arguments["scale"], 1.0])
    matrix[:-1, -1] = arguments["translate"]
    return matrix


@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 7), (9, 8, 7, 3), (9, 8, 7, 3, 2)])
def test_a_layer_has_the_values_with_axes_reversed(tmp_path: Path, shape: tuple[int, ...]) -> None:
    voxels = noise(*shape)
    data, arguments, kind = layer_of(tmp_path, voxels, slope=0.5, inter=2.0)
    assert kind == "image"
    assert isinstance(data, dask.array.Array)
    assert_allclose(data, (voxels * 0.5 + 2).T)
    assert arguments["axis_labels"] == tuple("utzyx"[-len(shape) :])
    assert len(arguments["units"]) == len(shape)
    assert arguments["name"] == "scan"
    assert arguments["rgb"] is False


@pytest.mark.parametrize(
    "affine",
    [np.diag([1.0, 1.5, 2, 1]), np.diag([-1.0, 1.5, 2, 1]), TURNED],
    ids=["straight", "flipped", "turned"],
)
@pytest.mark.parametrize("shape", [(9, 8, 7), (9, 8, 7, 3)])
def test_voxels_are_where_the_affine_says(
    tmp_path: Path, affine: np.ndarray, shape: tuple[int, ...]
) -> None:
    volume = packed(tmp_path, noise(*shape), affine=affine)
    for part in (volume, volume.cropped):
        ((_, arguments, _),) = layers_of(part)
        matrix = matrix_of(arguments)
        index = [5, 4, 3, 2][: len(shape)]
        place = (matrix @ [*index[::-1], 1])[:-1][::-1]
        assert_allclose(place[:3], (part.affine @ [5, 4, 3, 1])[:3])
        assert_allclose(place[3:], index[3:])
        assert ("scale" in arguments) is bool(affine[0, 0] > 0)


def test_an_overview_is_a_second_resolution(tmp_path: Path) -> None:
    volume = packed(tmp_path, noise(32, 28, 24), overview=4)
    ((data, arguments, _),) = layers_of(volume)
    assert arguments["multiscale"] is True
    assert [level.shape for level in data] == [(24, 28, 32), (6, 7, 8)]
    overview = volume.overview
    assert overview is not None
    assert_array_equal(data[1], overview.array.T)
    for without in (volume.cropped, packed(tmp_path, noise(32, 28, 24))):
        ((data, arguments, _),) = layers_of(without)
        assert isinstance(data, dask.array.Array)
        assert "multiscale" not in arguments


def test_maps_of_labels_are_layers_of_labels(tmp_path: Path) -> None:
    voxels = np.zeros((24, 24, 24), "u1")
    voxels[4:14, 4:20, 4:20] = 3
    data, arguments, kind = layer_of(tmp_path, voxels)
    assert kind == "labels"
    assert data.dtype == np.uint8
    assert_array_equal(data, voxels.T)
    assert "rgb" not in arguments  # which a layer of labels does not take


def test_colours_and_complex_values_are_what_napari_shows(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(0, 255, (9, 8, 7, 3), np.uint8)
    data, arguments, _ = layer_of(tmp_path, samples.view(RGB)[..., 0])
    assert arguments["rgb"] is True
    assert data.dtype == np.uint8
    assert_array_equal(data, samples.transpose(2, 1, 0, 3))
    waves = (noise(5, 4, 3) * (3 + 4j)).astype("c8")
    data, _, _ = layer_of(tmp_path, waves)
    assert_allclose(data, np.abs(waves).T, rtol=1e-6)


def test_a_slice_is_read_when_it_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = packed(tmp_path, noise(16, 16, 16), chunk=4)
    ((data, _, _),) = layers_of(volume)
    read: list[Any] = []
    getitem = mroi.Volume.__getitem__
    monkeypatch.setattr(
        mroi.Volume, "__getitem__", lambda self, key: read.append(key) or getitem(self, key)
    )
    data[9].compute()
    assert len(read) == 1
    assert_array_equal(pickle.loads(pickle.dumps(data))[3], data[3])


def test_paths_that_are_no_files_of_ours_are_left_to_others(tmp_path: Path) -> None:
    assert get_reader("scan.nii.gz") is None
    assert get_reader(["a.mroi", "b.tif"]) is None
    assert get_reader([]) is None
    volume = packed(tmp_path, noise(5, 4, 3))
    path = str(tmp_path / "scan.mroi")
    for given, count in ((path, 1), (Path(path), 1), ([path, path], 2), (path.upper(), None)):
        reader = get_reader(given)
        assert reader is not None
        if count is not None:
            layers = reader(given)
            assert len(layers) == count
            assert_array_equal(layers[0][0], volume[...].T)


def test_the_manifest_leads_to_the_reader() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    module, _, name = project["entry-points"]["napari.manifest"]["mroi"].partition(":")
    package = Path(importlib.import_module(module).__file__ or "").parent
    manifest = yaml.safe_load((package / name).read_text("utf-8"))
    assert manifest["name"] == project["name"]
    (command,) = manifest["contributions"]["commands"]
    (reader,) = manifest["contributions"]["readers"]
    assert reader["command"] == command["id"]
    assert reader["filename_patterns"] == ["*.mroi"]
    target, _, function = command["python_name"].partition(":")
    assert getattr(importlib.import_module(target), function) is get_reader


@pytest.mark.skipif(find_spec("npe2") is None, reason="needs npe2, which is in no extra")
def test_npe2_reads_a_file(tmp_path: Path) -> None:
    import npe2

    volume = packed(tmp_path, noise(9, 8, 7))
    manager = npe2.PluginManager.instance()
    if "mroi" not in manager:  # not installed, but run from a checkout
        manager.register(npe2.PluginManifest.from_file(ROOT / "mroi" / "napari.yaml"))
    path = str(tmp_path / "scan.mroi")
    assert [found.command for found in manager.iter_compatible_readers(path)] == ["mroi.read"]
    ((data, _, _),) = npe2.read([path], stack=False, plugin_name="mroi")
    assert_array_equal(data, volume[...].T)


@pytest.mark.skipif(find_spec("napari") is None, reason="needs napari, which is in no extra")
def test_napari_takes_the_layers(tmp_path: Path) -> None:
    from napari.layers import Layer

    for affine in (np.diag([1.0, 1.5, 2, 1]), TURNED):
        volume = packed(tmp_path, noise(16, 12, 8), affine=affine, overview=2)
        (given,) = layers_of(volume)
        layer: Any = Layer.create(*given)
        assert layer.multiscale
        place = np.array(layer.data_to_world((3, 4, 5)))[::-1]
        assert_allclose(place, (affine @ [5, 4, 3, 1])[:3])
