"""``mroi roi``: MedROI's tables, crops in place, pictures; and its tables given to ``pack``."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

import mroi as library
from mroi.adapters.convert import open_input
from mroi.adapters.crop import subject_of, write_volume_crop
from mroi.cli.exits import ExitCode
from mroi.errors import SourceError
from mroi.geometry import Box
from mroi.roi.find import find_roi
from mroi.roi.tables import parse_box_table
from mroi.volume.source import ArraySource
from tests.cli.runner import AFFINE, Mroi
from tests.extras import needs
from tests.roi import medroi_oracle

SHAPE = (17, 19, 15)
ROI_COLOUR = (255, 176, 32)
TABLES = ("per_slice_boxes.csv", "bbox3d_by_subject.csv", "cropping_times.csv")


def head(shape: tuple[int, int, int] = SHAPE, seed: int = 3) -> np.ndarray:
    """A bright ellipsoid, off centre, in dark noise."""
    rng = np.random.default_rng(seed)
    centre = [(n - 1) / 2 + 1 for n in shape]
    at = np.indices(shape).transpose(1, 2, 3, 0)
    inside = (((at - centre) / [max(n / 5, 1.5) for n in shape]) ** 2).sum(axis=3) < 1
    return np.where(inside, rng.integers(500, 900, shape), rng.integers(0, 20, shape)).astype("i2")


def save(path: Path, voxels: np.ndarray, slope: float = 0.5, inter: float = 2.0) -> Path:
    image = nib.Nifti1Image(voxels, AFFINE)
    image.header.set_slope_inter(slope, inter)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def rows(path: str | Path) -> list[dict[str, str]]:
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def subject(tmp_path: Path) -> Path:
    return save(tmp_path / "sub-01_T1w.nii.gz", head())


# -- tables ------------------------------------------------------------------------------------


def test_tables_hold_what_medroi_finds(mroi: Mroi, subject: Path) -> None:
    assert mroi("roi", subject, "-o", "out").code == 0
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(TABLES)
    box, threshold, slices = medroi_oracle.volume_roi(head() * 0.5 + 2.0)
    low, high = box
    assert high != [n - 1 for n in SHAPE]  # there is something to crop

    (row,) = rows("out/bbox3d_by_subject.csv")
    assert row.pop("subject_id") == "sub-01_T1w"
    found = list(map(int, row.values()))
    assert found == [*low, *high, *(b - a + 1 for a, b in zip(low, high, strict=True)), *SHAPE]

    lines = rows("out/per_slice_boxes.csv")
    assert [int(line["slice_idx"]) for line in lines] == list(range(SHAPE[0]))
    for line, (thr, rect, miss) in zip(lines, slices, strict=True):
        assert float(line["thr_global"]) == pytest.approx(threshold, rel=1e-12)
        assert float(line["thr_slice"]) == pytest.approx(thr, rel=1e-12)
        assert float(line["miss_rate"]) == pytest.approx(miss, rel=1e-12)
        bounds = [int(line[name]) for name in ("y_min", "x_min", "y_max", "x_max")]
        assert bounds == ([-1] * 4 if rect is None else [*rect[0], *rect[1]])

    (times,) = rows("out/cropping_times.csv")
    assert times["filename"] == "sub-01_T1w.nii.gz"
    assert times["original_shape"] == "17x19x15"
    assert times["cropped_shape"] == "x".join(str(n) for n in found[6:9])
    parts = float(times["bbox_calc_time"]) + float(times["file_save_time"])
    assert 0 < parts <= float(times["total_cropping_time"])


def test_a_study_has_one_row_for_each_subject(mroi: Mroi, tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "study" / f"s{number}" / f"sub-{number}.nii", head(seed=number))
    assert mroi("roi", "study", "-o", "out").code == 0
    found = parse_box_table(Path("out/bbox3d_by_subject.csv").read_text())
    assert [row.subject for row in found] == ["sub-0", "sub-1", "sub-2"]
    assert len(rows("out/per_slice_boxes.csv")) == 3 * SHAPE[0]


@needs("dicom")
def test_a_folder_with_a_series_is_one_volume(mroi: Mroi, tmp_path: Path) -> None:
    from tests.dicom.dicom_phantoms import series, write

    voxels = head().transpose(2, 1, 0)  # slices, rows, columns
    write(tmp_path / "series", series(np.ascontiguousarray(voxels)))
    assert mroi("roi", "series", "-o", "out", "--save-cropped").code == 0
    (row,) = parse_box_table(Path("out/bbox3d_by_subject.csv").read_text())
    assert row.subject == "series"
    crop = nib.load("out/cropped_volumes/series.nii.gz")
    source = open_input(tmp_path / "series")
    whole = np.stack(list(source.planes(2))).T
    assert np.array_equal(np.asanyarray(crop.dataobj), whole[row.box.slices])
    step = source.geometry.affine @ [*row.box.start, 1]
    assert np.allclose(crop.affine[:, 3], step, rtol=0, atol=1e-4)


def test_names_that_would_be_one_subject(mroi: Mroi, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        save(tmp_path / folder / "T1w.nii", head())
    assert mroi("roi", "a", "b", "-o", "out").code == ExitCode.USAGE
    assert not Path("out").exists()


def test_subjects_are_called_like_their_files(tmp_path: Path) -> None:
    names = {"a.nii.gz": "a", "b.nii": "b", "left.DCM": "left", "x": "x"}
    assert {name: subject_of(tmp_path / name) for name in names} == names
    (tmp_path / "a").mkdir()
    assert subject_of(tmp_path / "a" / "..") == tmp_path.name


# -- crops -------------------------------------------------------------------------------------


def test_a_crop_is_where_it_was(mroi: Mroi, subject: Path) -> None:
    assert mroi("roi", subject, "-o", "out", "--save-cropped").code == 0
    (row,) = parse_box_table(Path("out/bbox3d_by_subject.csv").read_text())
    crop = nib.load("out/cropped_volumes/sub-01_T1w.nii.gz")
    assert crop.get_data_dtype() == np.float32
    values = (head() * 0.5 + 2.0).astype(np.float32)
    assert np.array_equal(np.asanyarray(crop.dataobj), values[row.box.slices])
    assert np.allclose(crop.affine[:3, :3], AFFINE[:3, :3])
    assert np.allclose(crop.affine @ [0, 0, 0, 1], AFFINE @ [*row.box.start, 1])


@settings(max_examples=60)
@given(
    matrix=hnp.arrays(np.float64, (3, 4), elements=st.floats(-4, 4, width=16)),
    seed=st.integers(0, 99),
    flips=st.tuples(*[st.booleans()] * 3),
)
def test_every_voxel_of_a_crop_is_where_it_was(
    tmp_path_factory: pytest.TempPathFactory,
    matrix: np.ndarray,
    seed: int,
    flips: tuple[bool, ...],
) -> None:
    affine = np.vstack([matrix, [0, 0, 0, 1]])
    voxels = head(seed=seed)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    found = find_roi(ArraySource(voxels, affine))
    path = tmp_path_factory.mktemp("crop") / "c.nii.gz"
    with path.open("wb") as file:
        write_volume_crop(found, file)
    crop = nib.load(path)
    assert np.array_equal(np.asanyarray(crop.dataobj), voxels[found.box.slices])
    corners = np.indices(found.box.shape).reshape(3, -1)
    ones = np.ones((1, corners.shape[1]))
    there = affine @ np.vstack([corners + np.array(found.box.start)[:, np.newaxis], ones])
    here = crop.affine @ np.vstack([corners, ones])
    assert np.allclose(here, there, rtol=1e-5, atol=1e-3)


def test_intensities_that_float32_cannot_hold_are_not_written(tmp_path: Path) -> None:
    found = find_roi(ArraySource(head() * 1e300))
    with (tmp_path / "c").open("wb") as file, pytest.raises(SourceError, match="float32"):
        write_volume_crop(found, file)


# -- images ------------------------------------------------------------------------------------


def test_an_image_gets_a_json_a_row_and_a_crop(mroi: Mroi, ct: Path) -> None:
    done = mroi("roi", ct, "-o", "out", "--save-cropped", "--json")
    (record,) = done.records
    assert record["kind"] == "image"
    names = {"CT_small_cropped.npy", "CT_small_metadata.json", "cropped_2d_dicom_results.csv"}
    assert {path.name for path in Path("out").iterdir()} == names

    source = open_input(ct)
    g = source.geometry
    (plane,) = source.planes(2)
    values = plane.astype(np.float32) * np.float32(g.slope) + np.float32(g.inter)
    about = json.loads(Path("out/CT_small_metadata.json").read_text())
    box = about["bbox"]
    crop = values[box["y_min"] : box["y_max"] + 1, box["x_min"] : box["x_max"] + 1]
    saved = np.load("out/CT_small_cropped.npy")
    assert saved.dtype == np.float32
    assert np.array_equal(saved, crop)
    assert about["original_shape"] == [128, 128]
    assert about["cropped_shape"] == list(crop.shape)
    extremes = [values.min(), values.max(), crop.min(), crop.max()]
    assert list(about["value_range"].values()) == extremes
    assert (about["modality"], about["bits_stored"]) == ("CT", 16)
    (row,) = rows("out/cropped_2d_dicom_results.csv")
    assert int(row["npy_size_bytes"]) == Path("out/CT_small_cropped.npy").stat().st_size
    start, stop = record["roi"]["start"], record["roi"]["stop"]
    assert start == [box["x_min"], box["y_min"], 0]
    assert stop == [box["x_max"] + 1, box["y_max"] + 1, 1]


def test_images_of_a_folder_are_taken_one_by_one(mroi: Mroi, ct: Path, tmp_path: Path) -> None:
    import pydicom

    image = pydicom.dcmread(ct)
    del image.ImagePositionPatient, image.ImageOrientationPatient
    for name in ("left", "right"):
        image.save_as(tmp_path / f"{name}.dcm")
    assert mroi("roi", tmp_path, "-o", "out").code == 0
    found = rows("out/cropped_2d_dicom_results.csv")
    assert [row["filename"] for row in found] == ["left", "right"]
    assert {row["npy_file"] for row in found} == {""}  # nothing was cropped


# -- pictures ----------------------------------------------------------------------------------


def drawn(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Return where a picture has the colour of the ROI, and where bright voxels."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    is_grey = (pixels == pixels[:, :, :1]).all(axis=2)  # text and ground are bluish
    return (pixels == ROI_COLOUR).all(axis=2), is_grey & (pixels[:, :, 0] > 80)


def bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    y, x = np.nonzero(mask)
    return x.min(), y.min(), x.max() + 1, y.max() + 1


def test_the_box_is_drawn_on_three_planes(mroi: Mroi, tmp_path: Path) -> None:
    voxels = np.zeros((60, 60, 60), np.uint8)
    voxels[10:30, 20:50, 25:45] = np.random.default_rng(0).integers(150, 200, (20, 30, 20))
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "cube.nii")
    assert mroi("roi", "cube.nii", "-o", "out", "--draw").code == 0
    (row,) = parse_box_table(Path("out/bbox3d_by_subject.csv").read_text())
    box, bright = drawn("out/pictures/cube.png")
    third = box.shape[1] // 3
    for number, axes in enumerate([(0, 1), (0, 2), (1, 2)]):  # axial, coronal, sagittal
        columns = slice(number * third, (number + 1) * third)
        left, top, right, bottom = bounds(box[:, columns])
        wide, high = (row.box.shape[axis] for axis in axes)
        assert (right - left) / (bottom - top) == pytest.approx(wide / high, rel=0.03)
        x0, y0, x1, y1 = bounds(bright[:, columns])
        assert left < x0 < x1 < right
        assert top < y0 < y1 < bottom


def test_the_box_is_drawn_on_the_image(mroi: Mroi, ct: Path) -> None:
    done = mroi("roi", ct, "-o", "out", "--draw", "--json")
    start, stop = (np.array(done.records[0]["roi"][key]) for key in ("start", "stop"))
    left, top, right, bottom = bounds(drawn("out/pictures/CT_small.png")[0])
    wide, high, _ = stop - start
    assert (right - left) / (bottom - top) == pytest.approx(wide / high, rel=0.01)


# -- what goes wrong ---------------------------------------------------------------------------


def test_one_bad_file_does_not_stop_the_others(mroi: Mroi, subject: Path, tmp_path: Path) -> None:
    save(tmp_path / "dark.nii", np.zeros(SHAPE, np.int16), 1, 0)
    save(tmp_path / "movie.nii", np.stack([head(), head()], axis=3))
    (tmp_path / "text.nii").write_text("no image")
    inputs = ("dark.nii", "movie.nii", "text.nii", subject)
    done = mroi("roi", *inputs, "-o", "out", "--json", "-j", "1")
    assert done.code == ExitCode.SOME_FAILED
    assert [record["status"] for record in done.records] == ["failed"] * 3 + ["ok"]
    dark, movie, _, _ = done.records
    assert "no anatomy" in str(dark["message"])
    assert "3-D volumes" in str(movie["message"])
    (row,) = rows("out/bbox3d_by_subject.csv")
    assert row["subject_id"] == "sub-01_T1w"


def test_nothing_found_writes_nothing(mroi: Mroi, tmp_path: Path) -> None:
    save(tmp_path / "dark.nii", np.zeros(SHAPE, np.int16), 1, 0)
    assert mroi("roi", "dark.nii", "-o", "out", "--draw", "--save-cropped").code == 3
    assert not Path("out").exists()


def test_a_dry_run_writes_nothing(mroi: Mroi, subject: Path) -> None:
    assert mroi("roi", subject, "-o", "out", "--dry-run").code == 0
    assert not Path("out").exists()


def test_what_is_done_about_earlier_results(mroi: Mroi, subject: Path, tmp_path: Path) -> None:
    other = save(tmp_path / "other.nii", head(seed=9))
    table = Path("out/bbox3d_by_subject.csv")
    mroi("roi", subject, "-o", "out")
    before = table.read_bytes()
    for extra in ([], ["--dry-run"]):
        assert mroi("roi", other, "-o", "out", *extra).code == ExitCode.NO_OUTPUT
    assert mroi("roi", other, "-o", "out", "--exists", "skip").code == 0
    assert mroi("roi", other, "-o", "out", "--exists", "suffix").code == 0
    assert table.read_bytes() == before
    assert rows("out-1/bbox3d_by_subject.csv")[0]["subject_id"] == "other"
    assert mroi("roi", other, "-o", "out", "--exists", "overwrite").code == 0
    assert rows(table)[0]["subject_id"] == "other"


def test_standard_input_has_no_name(mroi: Mroi) -> None:
    assert mroi("roi", "-", "-o", "out").code == ExitCode.USAGE


# -- a table for pack --------------------------------------------------------------------------


def test_pack_takes_boxes_from_the_table(mroi: Mroi, subject: Path, tmp_path: Path) -> None:
    save(tmp_path / "sub-02.nii", head(seed=5))
    mroi("roi", subject, "sub-02.nii", "-o", "out")
    boxes = parse_box_table(Path("out/bbox3d_by_subject.csv").read_text())
    table = "boxes:out/bbox3d_by_subject.csv"
    assert mroi("pack", subject, "sub-02.nii", "-o", "packed", "--roi", table).code == 0
    for row in boxes:
        with library.open(f"packed/{row.subject}.mroi") as volume:
            assert volume.roi == row.box
    assert mroi("pack", subject, "--roi", table, "--margin", "1", "-o", "wide.mroi").code == 0
    with library.open("wide.mroi") as volume:
        assert volume.roi == boxes[0].box.padded((1, 1, 1), SHAPE)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("other,1,1,1,5,5,5,5,5,5,17,19,15", "no boxes for subject"),
        ("sub-01_T1w,1,1,1,5,5,5,5,5,5,17,19,16", "has shape"),
        ("sub-01_T1w,1,1,1,5,5,17,5,5,17,17,19,15", "not within shape"),
        ("sub-01_T1w,1,1,1,5,5,5,4,5,5,17,19,15", "contradicts box"),
        ("sub-01_T1w,1,1", "row 2"),
        (None, "No such file"),
    ],
)
def test_a_table_that_does_not_fit(mroi: Mroi, subject: Path, row: str | None, said: str) -> None:
    if row is not None:
        columns = "subject_id,x_min,y_min,z_min,x_max,y_max,z_max,dim_x,dim_y,dim_z"
        Path("t.csv").write_text(f"{columns},orig_x,orig_y,orig_z\n{row}\n")
    done = mroi("pack", subject, "--roi", "boxes:t.csv")
    assert done.code == ExitCode.NO_INPUT
    assert said in done.err
    assert not list(Path().glob("*.mroi"))


def test_a_box_is_where_medroi_packs_it(mroi: Mroi, subject: Path) -> None:
    mroi("roi", subject, "-o", "out")
    (row,) = parse_box_table(Path("out/bbox3d_by_subject.csv").read_text())
    assert mroi("pack", subject, "--roi", "medroi", "-o", "m.mroi").code == 0
    with library.open("m.mroi") as volume:
        assert volume.roi == row.box
        assert isinstance(volume.roi, Box)
