"""OME-Zarr has the voxels of a file, several resolutions of them, and where they are."""

from __future__ import annotations

import gzip
import io
import tomllib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import xarray
import yaozarrs
import zarr
from hypothesis import given, settings
from numpy.testing import assert_allclose, assert_array_equal

import mroi
from mroi import ome_zarr
from mroi.codecs import Pipeline, parse
from mroi.errors import DecodeError, SourceError, UsageError
from mroi.format.geom import Background, Geom, Layout
from mroi.ome_zarr import export_ome_zarr, plan_ome_zarr
from mroi.volume.source import ArraySource
from mroi.volume.write import VolumeWriter
from tests.volume.conftest import cases

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(nib.__file__).parent / "tests" / "data"
AFFINE = np.array([[0, -2, 0.5, 40], [1.5, 0, 0, -30], [0, 0.25, 3, 7], [0, 0, 0, 1]])


def packed(tmp_path: Path, voxels: Any, **options: Any) -> mroi.Volume:
    mroi.pack(voxels, tmp_path / "a.mroi", codec="zstd", overwrite=True, **options)
    return mroi.open(tmp_path / "a.mroi")


def noise(shape: tuple[int, ...], dtype: str = "<i2") -> np.ndarray:
    """Voxels with a border of zeros, which an ROI leaves out."""
    voxels = np.zeros(shape, dtype)
    inside = tuple(slice(1, -1) if n > 2 else slice(None) for n in shape[:3])
    rng = np.random.default_rng(0)
    voxels[inside] = rng.integers(1, 200, voxels[inside].shape)
    return voxels


def group_of(path: Path) -> zarr.Group:
    """Open what was written, once a validator has nothing against it."""
    yaozarrs.validate_zarr_store(path)
    return zarr.open_group(path, mode="r")


def scales_of(group: zarr.Group) -> dict[str, Any]:
    (scales,) = group.attrs["ome"]["multiscales"]
    return scales


# -- voxels ------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(cases())
def test_level_0_has_the_bits_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, case: Any
) -> None:
    sink = io.BytesIO()
    case.write(sink)
    volume = mroi.open(sink.getvalue(), missing="fill")
    folder = tmp_path_factory.mktemp("export") / "a.ome.zarr"
    samples = case.geom.datatype.sample_shape
    try:
        result = export_ome_zarr(volume, folder, chunk=3)
    except SourceError:
        assert volume.ndim + len(samples) > 5 or case.geom.datatype.sample.kind == "V"
        return
    except UsageError:
        assert case.rescale is not None
        return
    names = result.plan.axes
    stored = case.geom.datatype.to_samples(volume.unscaled[...])  # x, y, z[, t[, c]][, samples]
    beyond = ["t", "c"][: volume.ndim - 3] if volume.ndim > 3 else []
    order = [*"xyz"[: volume.ndim], *beyond, *("c",) * len(samples)]
    lengths = dict(zip(order, stored.shape, strict=True))
    array = zarr.open_group(folder, mode="r")["0"][...]
    assert array.shape == tuple(lengths.get(name, 1) for name in names)
    whole = [*order, *(name for name in names if name not in order)]
    found = array.transpose([names.index(name) for name in whole])
    assert found.dtype == stored.dtype
    assert found.tobytes() == stored.tobytes()


@pytest.mark.parametrize("axis", ["x", "y", "z"])
@pytest.mark.parametrize("labels", [False, True])
def test_lower_levels_are_means_of_boxes_or_their_middles(
    tmp_path: Path, axis: str, *, labels: bool
) -> None:
    voxels = noise((13, 18, 21))
    volume = packed(tmp_path, voxels, slice_axis=axis, chunk=5)
    export_ome_zarr(volume, tmp_path / "a.ome.zarr", chunk=4, labels=labels)
    group = group_of(tmp_path / "a.ome.zarr")
    levels = [group[entry["path"]][...].T for entry in scales_of(group)["datasets"]]
    assert [level.shape for level in levels] == [(13, 18, 21), (7, 9, 11), (4, 5, 6), (2, 3, 3)]
    for number, level in enumerate(levels):
        f = 2**number
        for index in np.ndindex(level.shape):
            box = tuple(slice(f * i, f * i + f) for i in index)
            middle = tuple(
                min(f * i + f // 2, n - 1) for i, n in zip(index, voxels.shape, strict=True)
            )
            mean = np.floor(voxels[box].mean() + 0.5)
            assert level[index] == (voxels[middle] if labels else mean)


@pytest.mark.parametrize("shape", [(9, 8, 7, 11), (9, 8, 7, 3, 2)])
def test_small_volumes_of_a_series_share_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    voxels = noise(shape)
    monkeypatch.setattr(ome_zarr, "_SHARD", 4 * 9 * 8 * 7 * 2)
    result = export_ome_zarr(packed(tmp_path, voxels), tmp_path / "a.ome.zarr", chunk=5)
    group = group_of(tmp_path / "a.ome.zarr")
    order = (3, 2, 1, 0) if len(shape) == 4 else (3, 4, 2, 1, 0)
    assert_array_equal(group["0"][...], voxels.transpose(order))
    assert group["0"].shards[0] == min(4, shape[3])
    of_level = [file for file in (tmp_path / "a.ome.zarr" / "0").rglob("*") if file.is_file()]
    assert len(of_level) == 1 + (3 if len(shape) == 4 else 2)
    assert result.files == sum(file.is_file() for file in result.path.rglob("*"))
    assert result.size == sum(f.stat().st_size for f in result.path.rglob("*") if f.is_file())


def test_what_is_held_for_a_file_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voxels = noise((40, 40, 40))
    volume = packed(tmp_path, voxels)
    monkeypatch.setattr(ome_zarr, "_SHARD", 40 * 40 * 2 * 20)
    monkeypatch.setattr(ome_zarr, "_MAX_HELD", 40 * 40 * 2 * 5)
    plan = plan_ome_zarr(volume, chunk=32)
    assert plan.levels[0].chunks == (4, 32, 32)
    assert plan.levels[0].shards == (20, 64, 64)
    export_ome_zarr(volume, tmp_path / "a.ome.zarr", chunk=32)
    assert_array_equal(group_of(tmp_path / "a.ome.zarr")["0"][...], voxels.T)


def test_negative_zeros_and_nan_stay(tmp_path: Path) -> None:
    voxels = np.zeros((6, 5, 4), "<f4")
    voxels[:3] = -0.0
    voxels[4, 4] = np.nan
    export_ome_zarr(packed(tmp_path, voxels), tmp_path / "a.ome.zarr", chunk=2)
    found = group_of(tmp_path / "a.ome.zarr")["0"][...].T
    assert np.ascontiguousarray(found).tobytes() == voxels.tobytes()


def test_colours_are_channels(tmp_path: Path) -> None:
    rgb = np.dtype([(name, "u1") for name in "RGB"])
    samples = np.random.default_rng(0).integers(0, 255, (9, 8, 7, 3), np.uint8)
    volume = packed(tmp_path, samples.view(rgb)[..., 0])
    plan = export_ome_zarr(volume, tmp_path / "a.ome.zarr", chunk=4).plan
    group = group_of(tmp_path / "a.ome.zarr")
    assert plan.axes == ("c", "z", "y", "x")
    assert_array_equal(group["0"][...], samples.transpose(3, 2, 1, 0))
    assert_array_equal(group["1"][:, 0, 0, 0], np.floor(samples[:2, :2, :2].mean((0, 1, 2)) + 0.5))


def test_the_roi_alone(tmp_path: Path) -> None:
    voxels = noise((12, 10, 9))
    volume = packed(tmp_path, voxels, affine=AFFINE)
    export_ome_zarr(volume.cropped, tmp_path / "a.ome.zarr", chunk=4)
    group = group_of(tmp_path / "a.ome.zarr")
    assert_array_equal(group["0"][...], voxels[1:-1, 1:-1, 1:-1].T)
    assert group.attrs["mroi"]["start"] == [1, 1, 1]
    header = nib.Nifti1Header.from_fileobj(io.BytesIO(group["nifti"][...].tobytes()))
    assert_allclose(header.get_best_affine(), volume.cropped.affine, rtol=1e-6)
    assert header.get_data_shape() == (10, 8, 7)


# -- values ------------------------------------------------------------------------------------


def test_stored_values_and_what_they_mean_are_those_of_nibabel(tmp_path: Path) -> None:
    image = nib.load(DATA / "example4d.nii.gz")
    volume = packed(tmp_path, DATA / "example4d.nii.gz")
    export_ome_zarr(volume, tmp_path / "a.ome.zarr")
    group = group_of(tmp_path / "a.ome.zarr")
    assert_array_equal(group["0"][...].T, image.dataobj.get_unscaled())
    header = nib.Nifti1Header.from_fileobj(io.BytesIO(group["nifti"][...].tobytes()))
    with gzip.open(DATA / "example4d.nii.gz") as file:
        assert header == nib.Nifti1Header.from_fileobj(file).as_byteswapped("<")
    assert scales_of(group)["axes"][0] == {"name": "t", "type": "time", "unit": "second"}
    assert scales_of(group)["datasets"][0]["coordinateTransformations"][0]["scale"][0] == 2000


def test_the_header_is_little_endian_as_the_voxels_are(tmp_path: Path) -> None:
    voxels = noise((6, 5, 4)).astype(">i2")
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    image = nib.Nifti1Image(voxels, AFFINE, header)
    nib.save(image, tmp_path / "a.nii")
    export_ome_zarr(packed(tmp_path, tmp_path / "a.nii"), tmp_path / "a.ome.zarr")
    group = group_of(tmp_path / "a.ome.zarr")
    assert_array_equal(group["0"][...].T, voxels)
    data = group["nifti"][...].tobytes()
    assert int.from_bytes(data[:4], "little") == 348
    assert_allclose(nib.Nifti1Header(data).get_best_affine(), AFFINE)


def test_xarray_applies_slope_and_intercept(tmp_path: Path) -> None:
    voxels = noise((6, 5, 4))
    volume = packed(tmp_path, voxels, slope=0.5, inter=-3.0)
    plan = export_ome_zarr(volume, tmp_path / "a.ome.zarr").plan
    assert any("0.5 * v - 3:" in note for note in plan.notes)
    dataset = xarray.open_dataset(tmp_path / "a.ome.zarr", engine="zarr", consolidated=False)
    assert_allclose(dataset["0"].values.T, voxels * 0.5 - 3)


@pytest.mark.parametrize(
    ("dtype", "slope", "inter", "wanted"),
    [
        ("<u2", 1.0, -1024.0, "<i4"),
        ("u1", 2.0, -100.0, "<i2"),
        ("<i2", 0.5, 0.0, "<f4"),
        ("<i4", 0.5, 0.0, "<f8"),
        ("<f4", 2.0, 1.0, "<f4"),
        ("<i2", 1.0, 0.0, "<i2"),
    ],
)
def test_real_units_are_integers_where_they_are_such(
    tmp_path: Path, dtype: str, slope: float, inter: float, wanted: str
) -> None:
    voxels = noise((6, 5, 4), dtype)
    voxels[0, 0, 0] = np.iinfo(dtype).max if voxels.dtype.kind in "iu" else 0.25
    volume = packed(tmp_path, voxels, slope=slope, inter=inter)
    export_ome_zarr(volume, tmp_path / "a.ome.zarr", real=True)
    group = group_of(tmp_path / "a.ome.zarr")
    assert group["0"].dtype == wanted
    assert_allclose(group["0"][...].T, voxels * slope + inter, rtol=1e-7)
    assert dict(group["0"].attrs) == {}
    header = nib.Nifti1Header.from_fileobj(io.BytesIO(group["nifti"][...].tobytes()))
    assert header.get_data_dtype() == wanted
    assert header.get_slope_inter() in ((1.0, 0.0), (None, None))


def test_slices_with_slopes_of_their_own_only_in_real_units(tmp_path: Path) -> None:
    voxels = noise((5, 4, 3))
    layout = Layout(
        roi=mroi.Box.whole(voxels.shape), chunk_shape=(5, 4, 1, 1), slice_axis=2,
        background=Background.FILL_VERIFIED, fill=bytes(2),
    )  # fmt: skip
    geom = Geom.of(ArraySource(voxels).geometry, layout)
    rescale = np.array([[1, 2], [0.5, 4.0], [3, 0]])
    codec = Pipeline(parse("zstd"))
    with VolumeWriter(
        tmp_path / "a.mroi", geom, pipeline=codec, rescale=rescale.tobytes()
    ) as writer:
        for k in range(3):
            writer.write(voxels[:, :, k])
    volume = mroi.open(tmp_path / "a.mroi")
    with pytest.raises(UsageError, match="--real"):
        export_ome_zarr(volume, tmp_path / "a.ome.zarr")
    export_ome_zarr(volume, tmp_path / "a.ome.zarr", real=True)
    group = group_of(tmp_path / "a.ome.zarr")
    assert group["0"].dtype == "<f4"
    assert_allclose(group["0"][...].T, voxels * rescale[:, 0] + rescale[:, 1])


# -- place -------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize(
    "affine", [np.diag([2.0, 3.0, 1.5, 1.0]), np.diag([-2.0, 3.0, 1.5, 1.0]), AFFINE]
)
def test_scale_and_translation_lead_to_the_voxels_of_each_level(
    tmp_path: Path, affine: np.ndarray, *, labels: bool
) -> None:
    affine = affine.copy()
    affine[:3, 3] = (-20, 31, 7)
    volume = packed(tmp_path, noise((32, 24, 16)), affine=affine)
    plan = export_ome_zarr(volume, tmp_path / "a.ome.zarr", chunk=6, labels=labels).plan
    entries = scales_of(group_of(tmp_path / "a.ome.zarr"))["datasets"]
    direction = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    for level, entry in zip(plan.levels, entries, strict=True):
        scale, translation = entry["coordinateTransformations"]
        index = np.array([2, 1, 0])
        place = direction @ (index * scale["scale"][::-1] + translation["translation"][::-1])
        factor = np.array(level.factor)
        voxel = index * factor + (factor // 2 if labels else (factor - 1) / 2)
        assert_allclose(place, (affine @ [*voxel, 1])[:3])
    is_straight = bool((np.diag(affine)[:3] > 0).all() and not affine[0, 1])
    assert (plan.notes == ()) is is_straight
    if is_straight:
        assert entries[0]["coordinateTransformations"][0]["scale"] == [1.5, 3, 2]
        assert entries[0]["coordinateTransformations"][1]["translation"] == [7, 31, -20]


def test_thick_slices_are_halved_when_voxels_are_cubes(tmp_path: Path) -> None:
    volume = packed(tmp_path, noise((64, 64, 20)), affine=np.diag([1, 1, 4, 1]))
    factors = [level.factor for level in plan_ome_zarr(volume, chunk=8).levels]
    assert factors == [(1, 1, 1), (2, 2, 1), (4, 4, 1), (8, 8, 2), (16, 16, 4)]
    assert [v.factor for v in plan_ome_zarr(volume, chunk=8, levels=2).levels] == factors[:2]


def test_a_single_slice_and_an_affine_without_directions(tmp_path: Path) -> None:
    affine = np.diag([1.0, 1.0, 0.0, 1.0])
    volume = packed(tmp_path, noise((40, 30, 1)), affine=affine)
    plan = export_ome_zarr(volume, tmp_path / "a.ome.zarr", chunk=8).plan
    assert [level.shape for level in plan.levels] == [
        (1, 30, 40),
        (1, 15, 20),
        (1, 8, 10),
        (1, 4, 5),
    ]
    group_of(tmp_path / "a.ome.zarr")


def test_axes_say_where_they_run_to(tmp_path: Path) -> None:
    export_ome_zarr(
        packed(tmp_path, noise((6, 5, 4)), affine=np.diag([-1, -1, 2, 1])), tmp_path / "a.ome.zarr"
    )
    ways = [a["orientation"]["value"] for a in scales_of(group_of(tmp_path / "a.ome.zarr"))["axes"]]
    assert ways == ["inferior-to-superior", "anterior-to-posterior", "right-to-left"]


# -- labels ------------------------------------------------------------------------------------


def blocks() -> np.ndarray:
    voxels = np.zeros((24, 24, 24), "u1")
    voxels[4:14, 4:20, 4:20] = 3
    voxels[14:20, 4:20, 4:20] = 7
    return voxels


def test_maps_of_labels_are_found_by_voxels_intent_and_overview(tmp_path: Path) -> None:
    assert plan_ome_zarr(packed(tmp_path, blocks())).labels
    assert not plan_ome_zarr(packed(tmp_path, noise((24, 24, 24), "u1"))).labels
    assert not plan_ome_zarr(packed(tmp_path, blocks().astype("<f4"))).labels
    assert not plan_ome_zarr(packed(tmp_path, blocks(), slope=2.0)).labels
    assert plan_ome_zarr(packed(tmp_path, blocks(), overview=4)).labels
    image = nib.Nifti1Image(noise((9, 9, 9), "u1"), np.eye(4))
    for intent, is_label in (("label", True), (1003, True), ("none", False)):
        image.header.set_intent(intent)
        nib.save(image, tmp_path / "a.nii")
        assert plan_ome_zarr(packed(tmp_path, tmp_path / "a.nii")).labels is is_label


def test_labels_say_so_and_stay_labels(tmp_path: Path) -> None:
    export_ome_zarr(packed(tmp_path, blocks()), tmp_path / "a.ome.zarr", chunk=8)
    group = group_of(tmp_path / "a.ome.zarr")
    assert group.attrs["ome"]["image-label"] == {"version": "0.5"}
    assert set(np.unique(group["1"][...])) == {0, 3, 7}


# -- files -------------------------------------------------------------------------------------


def test_a_folder_is_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = packed(tmp_path, noise((20, 20, 20)), chunk=4)
    target = tmp_path / "out" / "a.ome.zarr"

    def fail(_step: str, done: int, _total: int) -> None:
        if done == 12:
            raise DecodeError("as if a chunk were damaged")

    with pytest.raises(DecodeError):
        export_ome_zarr(volume, target, progress=fail)
    assert list(target.parent.iterdir()) == []
    export_ome_zarr(volume, target)
    with pytest.raises(FileExistsError):
        export_ome_zarr(volume, target)
    before = sorted(target.rglob("*"))
    with pytest.raises(DecodeError):
        export_ome_zarr(volume, target, overwrite=True, progress=fail, chunk=4)
    assert sorted(target.rglob("*")) == before
    export_ome_zarr(volume, target, overwrite=True, chunk=4, levels=1)
    assert "1" not in group_of(target)
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    volume = packed(tmp_path, noise((6, 5, 4)))
    (tmp_path / "mine.ome.zarr").mkdir()
    (tmp_path / "mine.ome.zarr" / "thesis.txt").write_text("all of it")
    with pytest.raises(UsageError, match="not replaced"):
        export_ome_zarr(volume, tmp_path / "mine.ome.zarr", overwrite=True)
    assert (tmp_path / "mine.ome.zarr" / "thesis.txt").exists()


def test_damage_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    packed(tmp_path, noise((20, 20, 20)))
    data = bytearray((tmp_path / "a.mroi").read_bytes())
    data[len(data) // 2] ^= 1
    with pytest.raises(mroi.MroiError):
        export_ome_zarr(mroi.open(bytes(data)), tmp_path / "b.ome.zarr")
    assert not (tmp_path / "b.ome.zarr").exists()


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    volume = packed(tmp_path, noise((6, 5, 4)))
    for options in ({"chunk": 0}, {"levels": 0}):
        with pytest.raises(UsageError, match="at least 1"):
            plan_ome_zarr(volume, **options)
    with pytest.raises(SourceError, match="6 axes"):
        plan_ome_zarr(packed(tmp_path, np.ones((3, 3, 3, 2, 2, 2), "u1")))


def test_the_extra_brings_what_it_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["optional-dependencies"]["zarr"] == ["zarr>=3"]
