"""MedROI's tables: the text that pandas writes of the same rows, and boxes read back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mroi.errors import SourceError
from mroi.geometry.box import Box
from mroi.roi.medroi import ImageRoi, Rect, SliceRoi, VolumeRoi, find_volume_roi
from mroi.roi.tables import (
    CropTimes,
    ImageCrop,
    SubjectBox,
    build_box_table,
    build_image_metadata,
    build_image_table,
    build_slice_table,
    build_time_table,
    find_subject,
    parse_box_table,
    subject_id,
)


def axis():
    return st.tuples(st.integers(0, 40_000), st.integers(1, 40_000), st.integers(0, 9)).map(
        lambda t: (t[0], t[0] + t[1], t[0] + t[1] + t[2])
    )


SUBJECT_BOXES = st.builds(
    lambda subject, x, y, z: SubjectBox(
        subject, Box((x[0], y[0], z[0]), (x[1], y[1], z[1])), (x[2], y[2], z[2])
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=12),
    axis(), axis(), axis(),
)  # fmt: skip


@given(st.lists(SUBJECT_BOXES))
def test_box_table_is_read_back(boxes):
    assert parse_box_table(build_box_table(boxes)) == boxes
    assert parse_box_table("\ufeff" + build_box_table(boxes)) == boxes


def test_box_table_is_the_text_that_medroi_writes():
    box = SubjectBox("002_S_0413", Box((3, 0, 7), (200, 256, 166)), (208, 256, 166))
    assert build_box_table([box]) == (
        "subject_id,x_min,y_min,z_min,x_max,y_max,z_max,dim_x,dim_y,dim_z,orig_x,orig_y,orig_z\n"
        "002_S_0413,3,0,7,199,255,165,197,256,159,208,256,166\n"
    )


def test_slice_table_is_the_text_that_pandas_writes():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(4)
    volume = rng.integers(0, 60, (7, 30, 31)).astype(np.int16)
    volume[2:5, 8:20, 9:22] = rng.integers(400, 900, (3, 12, 13))
    volume[6] = 0
    roi = find_volume_roi(volume)
    rows = [
        {
            "subject_id": 'a "quoted", id',
            "slice_axis": "X",
            "slice_idx": x,
            "thr_slice": piece.threshold,
            "thr_global": roi.threshold,
            "y_min": -1 if piece.rect is None else piece.rect.start[0],
            "x_min": -1 if piece.rect is None else piece.rect.start[1],
            "y_max": -1 if piece.rect is None else piece.rect.stop[0] - 1,
            "x_max": -1 if piece.rect is None else piece.rect.stop[1] - 1,
            "miss_rate": piece.miss_rate,
        }
        for x, piece in enumerate(roi.slices)
    ]
    assert {row["y_min"] == -1 for row in rows} == {False, True}
    expected = pandas.DataFrame(rows).to_csv(index=False, lineterminator="\n")
    assert build_slice_table([('a "quoted", id', roi)]) == expected


@given(
    st.lists(
        st.builds(
            SliceRoi, st.floats(0, 255), st.just(Rect((0, 1), (2, 9))), st.floats(0, 1)
        ),
        min_size=1,
    )
)  # fmt: skip
def test_floats_of_the_slice_table_are_exact(slices):
    lines = build_slice_table([("s", VolumeRoi(None, 0.1, tuple(slices)))]).splitlines()[1:]
    cells = [line.split(",") for line in lines]
    assert [(float(c[3]), float(c[4]), float(c[9])) for c in cells] == [
        (s.threshold, 0.1, s.miss_rate) for s in slices
    ]
    assert [c[5:9] for c in cells] == [["0", "1", "1", "8"]] * len(slices)


def test_time_table():
    times = CropTimes("s", 0.25, 1e-05, 1.5, (10, 20, 30), (5, 6, 7))
    assert build_time_table([times]) == (
        "subject_id,filename,bbox_calc_time,file_save_time,total_cropping_time,"
        "original_shape,cropped_shape\n"
        "s,s.nii.gz,0.25,1e-05,1.5,10x20x30,5x6x7\n"
    )


def test_image_json_and_table():
    roi = ImageRoi(Rect((3, 0), (90, 41)), 2.0, 1.0, 4000.0, 0.01, 0.0)
    crop = ImageCrop("a", "in/a.dcm", "out/a_cropped.npy", "out/a_metadata.json", roi, (100, 60),
                     (0.0, 4095.0), (1.0, 4000.0), 14396, 0.5, 0.25, 1.0, "MG", 12)  # fmt: skip
    assert json.loads(build_image_metadata(crop)) == {
        "bbox": {"y_min": 3, "x_min": 0, "y_max": 89, "x_max": 40},
        "original_shape": [100, 60],
        "cropped_shape": [87, 41],
        "original_file": "in/a.dcm",
        "npy_file": "out/a_cropped.npy",
        "value_range": {"min": 0.0, "max": 4095.0, "cropped_min": 1.0, "cropped_max": 4000.0},
        "modality": "MG",
        "bits_stored": 12,
    }
    header, row = build_image_table([crop]).splitlines()
    assert dict(zip(header.split(","), row.replace("3,0)-(89,40", "3;0)-(89;40").split(","),
                    strict=True)) == {
        "filename": "a", "original_file": "in/a.dcm", "npy_file": "out/a_cropped.npy",
        "metadata_file": "out/a_metadata.json", "original_shape": "100x60",
        "cropped_shape": "87x41", "bbox": '"(3;0)-(89;40)"', "npy_size_bytes": "14396",
        "bbox_calc_time": "0.5", "file_save_time": "0.25", "total_time": "1.0",
        "modality": "MG", "bits_stored": "12",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.nii.gz", "a"), ("a.nii", "a"), ("a.b.nii", "a.b"), ("a.gz", "a.gz"), ("a.nii.x", "a.x")],
)
def test_subject_is_the_file_name(name, expected):
    assert subject_id(name) == expected


def test_names_that_would_break_the_table_are_refused():
    for name in ("a\rb", "a\0b"):
        with pytest.raises(SourceError, match="table"):
            build_box_table([SubjectBox(name, Box((0, 0, 0), (1, 1, 1)), (1, 1, 1))])


GOOD = "s,1,2,3,4,5,6,4,4,4,9,9,9"
HEADER = build_box_table([])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "subject_id,x_min\ns,1\n",
        HEADER.replace("orig_z", "orig_q") + GOOD,
        HEADER + GOOD + ",1",
        HEADER + GOOD.removesuffix(",9"),
        HEADER + GOOD.replace("1,2,3", "1,2,x"),
        HEADER + GOOD.replace("1,2,3", "-1,2,3"),
        HEADER + GOOD.replace("1,2,3", "5,2,3"),
        HEADER + GOOD.replace("9,9,9", "9,9,6"),
        HEADER + GOOD.replace("4,4,4", "4,4,5"),
        HEADER + GOOD.replace("4,4,4", "4,4,"),
        HEADER + '"s',
        HEADER + "9" * 200_000,
        HEADER + GOOD.replace("9,9,9", "9,9," + "9" * 5000),
    ],
)
def test_broken_box_tables_are_refused(text):
    assert parse_box_table(HEADER + GOOD)
    with pytest.raises(SourceError, match="box table"):
        parse_box_table(text)


def test_a_subject_is_found_or_refused():
    rows = parse_box_table(f"{HEADER}{GOOD}\n{GOOD}\n\nt{GOOD[1:]}\n{GOOD.replace('s,1', 't,0').replace('4,4,4', '5,4,4')}\n")  # fmt: skip  # noqa: E501
    assert find_subject(rows, "s", (9, 9, 9, 50)) == Box((1, 2, 3), (5, 6, 7))
    for subject, shape, message in (
        ("u", (9, 9, 9), "no boxes"),
        ("t", (9, 9, 9), "2 boxes"),
        ("s", (9, 9, 8), "shape"),
    ):
        with pytest.raises(SourceError, match=message):
            find_subject(rows, subject, shape)
