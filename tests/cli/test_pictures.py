"""``slice`` and ``preview``: the right voxels, the right way round, to scale."""

import io
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import apply_orientation, inv_ornt_aff
from PIL import Image

import mroi as library
from mroi.cli.exits import ExitCode
from mroi.pictures.planes import (
    Plane,
    View,
    Window,
    find_window,
    read_coarse,
    read_values,
    to_pixels,
)
from mroi.pictures.preview import _lines
from mroi.pictures.sheet import Panel, draw_sheet
from tests.cli.runner import SHAPE, Mroi, phantom

ROI_COLOUR = (255, 176, 32)


def values() -> np.ndarray:
    """The voxels of the scan in real units."""
    return phantom() * 0.5 - 3


# -- slice -------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("index", [0, 5, -1])
def test_npy_is_the_slice(mroi: Mroi, packed: Path, axis: int, index: int) -> None:
    arguments = ["slice", packed, "-k", index, "-a", "xyz"[axis]]
    assert mroi(*arguments, "-o", "s.npy").code == 0
    assert np.array_equal(np.load("s.npy"), values().take(index, axis))
    done = mroi(*arguments, "-f", "npy", "--stored", "-o", "-")
    stored = np.load(io.BytesIO(done.data))
    assert stored.dtype == np.int16
    assert np.array_equal(stored, phantom().take(index, axis))


def test_a_slice_from_a_pipe_is_the_same(mroi: Mroi, packed: Path) -> None:
    mroi("slice", packed, "-o", "a.png")
    done = mroi("slice", "-", "-o", "-", stdin=packed.read_bytes())
    assert done.data == Path("a.png").read_bytes()


def test_png_has_a_pixel_for_each_voxel(mroi: Mroi, packed: Path) -> None:
    assert mroi("slice", packed, "-k", "4", "--window", "-3,447", "-o", "s.png").code == 0
    with Image.open("s.png") as picture:
        pixels = np.asarray(picture).astype(int)
    # LAS: x runs to the left, so the picture (right on the right) is mirrored; front is up.
    expected = values()[::-1, ::-1, 4].T
    assert np.abs(pixels - np.round(255 * (expected + 3) / 450)).max() <= 1


@pytest.mark.parametrize("index", ["10", "-11"])
def test_a_slice_that_is_not_there(mroi: Mroi, packed: Path, index: str) -> None:
    assert mroi("slice", packed, "-k", index).code == ExitCode.USAGE
    assert not list(Path().glob("*.png"))


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


# -- orientation -------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("flips", list(product([1, -1], repeat=3)))
def test_voxel_order_never_changes_what_is_seen(
    tmp_path: Path, order: tuple[int, ...], flips: tuple[int, ...]
) -> None:
    canonical, affine = phantom(), np.diag([1.0, 2.0, 3.0, 1.0])
    turn = np.array(list(zip(order, flips, strict=True)))
    turned = apply_orientation(canonical, turn)
    matrix = affine @ inv_ornt_aff(turn, canonical.shape)
    seen = []
    for number, (image, to_world) in enumerate([(canonical, affine), (turned, matrix)]):
        library.pack(image, tmp_path / f"{number}.mroi", affine=to_world)
        with library.open(tmp_path / f"{number}.mroi") as volume:
            view = View(volume)
            panels = []
            for plane in ("axial", "coronal", "sagittal"):
                axis = view.voxel_axis(plane)
                world = {"axial": 2, "coronal": 1, "sagittal": 0}[plane]
                # The same place in the patient, from either end of the voxel axis.
                runs_up = to_world[world, axis] > 0
                index = 4 if runs_up else volume.shape[axis] - 5
                pixels = to_pixels(volume.slice(index, axis).astype(float), Window(0, 900))
                panels.append(view.panel(pixels, Plane(axis, index)))
            seen.append(panels)
    for expected, found in zip(*seen, strict=True):
        assert np.array_equal(found.pixels, expected.pixels)
        assert (found.size, found.box, found.letters) == (
            expected.size,
            expected.box,
            expected.letters,
        )
        assert found.caption.partition("   ")[2] == expected.caption.partition("   ")[2]


def test_the_canonical_view_is_right_front_head(tmp_path: Path) -> None:
    library.pack(phantom(), tmp_path / "ras.mroi", affine=np.eye(4))
    with library.open(tmp_path / "ras.mroi") as volume:
        view = View(volume)
        panels = {p: view.panel(np.zeros((1, 1), np.uint8), Plane(view.voxel_axis(p), 0)).letters
                  for p in ("axial", "coronal", "sagittal")}  # fmt: skip
        top_left = view.turned(volume.slice(4), 2)[0, 0]
    assert panels == {"axial": "LRAP", "coronal": "LRSI", "sagittal": "PASI"}
    assert top_left == phantom()[0, -1, 4]


# -- contrast ----------------------------------------------------------------------------------


@given(
    st.lists(st.floats(-1e6, 1e6) | st.sampled_from([np.nan, np.inf, -np.inf]), min_size=1),
    st.floats(-1e6, 1e6),
    st.floats(1e-3, 1e6),
)
def test_brighter_never_means_less(data: list[float], low: float, width: float) -> None:
    array = np.array(data).reshape(-1, 1)
    pixels = to_pixels(array, Window(low, low + width)).ravel()
    order = np.argsort(np.where(np.isnan(array.ravel()), -np.inf, array.ravel()), kind="stable")
    assert (np.diff(pixels[order].astype(int)) >= 0).all()


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1))
def test_a_window_is_found_in_anything(data: list[float]) -> None:
    window = find_window([np.array(data)])
    assert np.isfinite([window.low, window.high]).all()
    assert window.low <= window.high
    to_pixels(np.array([data]), window)


# -- sheet -------------------------------------------------------------------------------------


def test_the_preview_is_to_scale_and_shows_the_box(mroi: Mroi, scan: Path) -> None:
    mroi("pack", scan, "--roi", "3:9,4:12,2:8")
    assert mroi("preview", "scan.mroi", "-o", "p.png").code == 0
    with Image.open("p.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert abs(pixels.shape[1] - 1280) < 5
    columns = np.flatnonzero((pixels == ROI_COLOUR).all(axis=2).any(axis=0))
    groups = np.split(columns, np.flatnonzero(np.diff(columns) > 40) + 1)
    assert len(groups) == 3
    # Widths of the box in mm: 6 voxels of 1.5, and for the sagittal plane 8 of about 1.254.
    drawn = np.array([columns[-1] - columns[0] + 1 for columns in groups])
    spacing = np.sqrt(1.25**2 + 0.1**2)
    assert drawn / drawn[0] == pytest.approx([1, 1, 8 * spacing / 9], rel=0.02)


@pytest.mark.parametrize("count", [1, 2, 7, 20, 400])
def test_a_grid_has_as_many_slices_as_asked_for_or_there_are(
    mroi: Mroi, packed: Path, count: int
) -> None:
    (record,) = mroi("preview", packed, "-a", "y", "--count", count, "--json").records
    with Image.open(str(record["target"])) as picture:
        assert picture.format == "PNG"
        assert list(picture.size) == record["size"]
        pixels = np.asarray(picture.convert("RGB"))
    frames = (pixels == ROI_COLOUR).all(axis=2)
    assert frames.any()


IMAGES = pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 5, 6), np.uint8),
        np.full((4, 5, 6), 7.5, np.float32),
        np.full((4, 5, 6), np.nan, np.float64),
        np.arange(24, dtype=np.float32).reshape(4, 6),
        np.arange(5, dtype=np.int32),
        np.arange(2 * 3 * 4 * 5 * 2, dtype=np.int16).reshape(2, 3, 4, 5, 2),
        np.arange(60, dtype=np.complex64).reshape(3, 4, 5) * (1 + 2j),
        np.arange(180, dtype=np.uint8)
        .view(np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
        .reshape(3, 4, 5),
        np.arange(240, dtype=np.uint8)
        .view(np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1"), ("A", "u1")]))
        .reshape(3, 4, 5),
        np.zeros((1, 1, 1), np.uint8),
        np.zeros((1, 900, 2), np.uint8),
    ],
    ids=lambda image: f"{image.dtype.str}-{image.shape}",
)


@IMAGES
def test_every_kind_of_volume_has_a_picture(mroi: Mroi, image: np.ndarray) -> None:
    library.pack(image, "any.mroi", overview=2)
    for arguments in ([], ["-a", "x"], ["--coarse"], ["--coarse", "-a", "x"]):
        done = mroi("preview", "any.mroi", "--exists", "overwrite", *arguments)
        assert done.code == 0, done.err
    assert mroi("slice", "any.mroi").code == 0


@IMAGES
def test_an_overview_of_the_same_resolution_gives_the_same_planes(image: np.ndarray) -> None:
    file = io.BytesIO()
    library.pack(image, file, overview=1)
    with library.open(file.getvalue()) as volume:
        for plane in View(volume).centre():
            for step in (1, 2):
                found, expected = (read(volume, plane, step) for read in (read_coarse, read_values))
                assert np.array_equal(found, expected, equal_nan=found.dtype.kind == "f")
                assert found.dtype == expected.dtype


def test_the_preview_has_the_units_of_the_file(tmp_path: Path) -> None:
    for code, unit, position in (
        (0, " (unit not known)", ""),
        (2, " mm", " mm"),
        (3, " um", " um"),
    ):
        image = nib.Nifti1Image(phantom(), np.diag([1, 2, 2.5, 1]))
        image.header["xyzt_units"] = code
        nib.save(image, tmp_path / "units.nii")
        library.pack(tmp_path / "units.nii", tmp_path / "units.mroi", overwrite=True)
        with library.open(tmp_path / "units.mroi") as volume:
            assert f"12 x 15 x 10 voxels of 1 x 2 x 2.5{unit}   int16" in _lines(volume, 0, 0)[0]
            panel = View(volume).panel(np.zeros((12, 15), np.uint8), Plane(2, 4))
        assert panel.caption == f"k = 4   axial +10.0{position}"


def test_voxels_of_many_pixels_are_seen_as_blocks() -> None:
    levels = np.array([[0, 80], [160, 255]], np.uint8)
    panel = Panel(levels, (2, 2), None, "    ", "")
    pixels = np.asarray(draw_sheet([panel], columns=1, title="", lines=[], width=560))
    inside = pixels[92 + 4 : 92 + 400, 28:420, 0]
    assert set(np.unique(inside)) == set(levels.ravel())
    smooth = Panel(np.tile(levels, (80, 80)), (2, 2), None, "    ", "")
    pixels = np.asarray(draw_sheet([smooth], columns=1, title="", lines=[], width=560))
    assert len(np.unique(pixels[96:492, 28:420, 0])) > 50


def test_volumes_beyond_the_last_one(mroi: Mroi) -> None:
    library.pack(np.zeros((3, 4, 5, 2), np.uint8), "four.mroi")
    assert mroi("preview", "four.mroi", "--volume", "1").code == 0
    assert mroi("preview", "four.mroi", "--volume", "2", "-o", "x.png").code == ExitCode.USAGE
    assert mroi("slice", "four.mroi", "--volume", "2", "-o", "x.png").code == ExitCode.USAGE


@given(
    sizes=st.lists(st.tuples(st.floats(0.01, 1e4), st.floats(0.01, 1e4)), min_size=1, max_size=12),
    columns=st.integers(1, 12),
    width=st.integers(560, 1500),
)
def test_a_sheet_is_never_much_larger_than_asked_for(
    sizes: list[tuple[float, float]], columns: int, width: int
) -> None:
    pixels = np.zeros((2, 3), np.uint8)
    panels = [Panel(pixels, size, (0, 0, 3, 2), "LRAP", "caption") for size in sizes]
    sheet = draw_sheet(panels, columns=columns, title="x" * 300, lines=["y" * 500], width=width)
    assert sheet.width <= width + 24 * len(panels) + 2
    assert sheet.height <= 1.5 * width + (24 + 58) * len(panels) + 110


def test_shape_of_the_phantom_tells_axes_apart() -> None:
    assert len(set(SHAPE)) == 3
