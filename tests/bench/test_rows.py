"""Rows survive being written, and nothing else is taken for one."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mroi.bench.again import compare, read_results, slowdown
from mroi.bench.rows import EXACT, Row, Subject, Task, build_csv, parse_target
from mroi.bench.run import Plan
from mroi.errors import UsageError

TASK = Task(subject=Subject("a,b", "a.nii"), codec="zstd", target="psnr=35")
ROW = Row.of(
    TASK,
    bytes=50,
    raw_bytes=200,
    full_8bit_bytes=100,
    nii_gz_bytes=75,
    nii_gz_is="source",
    psnr=math.inf,
    lossless=True,
    encode_seconds=2.0,
)


def test_ratios_have_their_own_bases() -> None:
    assert (ROW.ratio_raw, ROW.ratio_8bit, ROW.ratio_nii_gz) == (4, 2, 1.5)
    assert ROW.bits_per_voxel == 4


def test_a_failure_has_no_numbers() -> None:
    row = Row.of(TASK, status="failed", error="why", raw_bytes=200)
    assert (row.ratio_raw, row.bits_per_voxel, row.is_ok) == (None, None, False)


def test_rows_and_tasks_come_back() -> None:
    text = json.dumps(ROW.to_json(), allow_nan=False)
    assert Row.from_json(json.loads(text)) == ROW
    assert Task.from_json(json.loads(json.dumps(TASK.to_json()))) == TASK


@pytest.mark.parametrize("name", [field.name for field in fields(Row)])
def test_a_field_of_another_type_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        Row.from_json(ROW.to_json() | {name: ["no"]})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("bytes", "ratio_raw", "bits_per_voxel", "encode_seconds")
          for value in (-1, math.nan, 5e-324, 1e300)),
        *(("picture", text) for text in ("/etc/passwd", "../a.png", ".")),
        ("psnr", math.nan), ("psnr", 10**400), ("max_error", -1.0), ("decode_seconds", "Infinity"),
    ],
    ids=range(23),
)  # fmt: skip
def test_a_value_that_nothing_measures_is_refused(name: str, value: object) -> None:
    """A journal may be anybody's: a report is made of it, with the pictures that it names."""
    with pytest.raises(UsageError, match=name):
        Row.from_json(ROW.to_json() | {name: value})


def test_a_picture_needs_what_is_said_below_it() -> None:
    with pytest.raises(UsageError, match="picture"):
        Row.from_json(ROW.to_json() | {"picture": "a.png"})
    assert Row.from_json(ROW.to_json() | {"picture": "a.png", "max_error": 1}).picture == "a.png"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(json_values)
def test_what_is_no_row_or_plan_is_refused(value: object) -> None:
    for read in (Row.from_json, Plan.from_json):
        with pytest.raises(UsageError):
            read(value)


def test_csv_has_a_column_for_each_field() -> None:
    lines = list(csv.DictReader(io.StringIO(build_csv([ROW, replace(ROW, volume='"\n')]))))
    assert list(lines[0]) == [field.name for field in fields(Row)]
    assert lines[0]["volume"] == "a,b"
    assert lines[0]["psnr"] == "inf"
    assert lines[0]["ssim_3d"] == ""
    assert lines[1]["volume"] == '"\n'


@pytest.mark.parametrize("text", ["psnr", "psnr=", "psnr=-3", "psnr=nan", "size=3", "=3"])
def test_a_target_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_target(text)


def test_each_result_that_changed_is_found() -> None:
    assert compare([ROW], [replace(ROW, encode_seconds=9.0, encode_memory=5)]) == []
    for name in EXACT:
        (changed,) = compare([ROW], [replace(ROW, **{name: 12345})])
        assert changed.field == name
        assert "12345" in str(changed)
    (changed,) = compare([ROW], [])
    assert "not measured" in str(changed)
    assert slowdown([ROW], [replace(ROW, encode_seconds=3.0)]) == {"encode_seconds": 1.5}


def test_results_that_are_cut_are_refused(tmp_path) -> None:
    plan = Plan(inputs=("x",), codecs=("zstd",), rois=("full",))
    record = {
        "version": 1,
        "machine": {},
        "plan": {field.name: getattr(plan, field.name) for field in fields(Plan)},
        "rows": [ROW.to_json()],
    }
    whole = json.dumps(record)
    path = tmp_path / "results.json"
    path.write_text(whole)
    assert read_results(path).plan == plan
    assert read_results(path).rows == (ROW,)
    for stop in range(len(whole)):
        path.write_text(whole[:stop])
        with pytest.raises(UsageError, match="not the results"):
            read_results(path)
    for name in record:
        path.write_text(json.dumps(record | {name: 7}))
        with pytest.raises(UsageError):
            read_results(path)
