"""The report: one file that loads nothing, says everything, and shows names as they are."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typing_extensions import override

from mroi.bench.charts import Point, Series, draw_chart
from mroi.bench.report import build_report, mean_rows
from mroi.bench.rows import Row, Subject, Task

RECORD = {
    "ended": "2026-01-01",
    "machine": {"mroi": "1", "processor": "<p>", "system": "s", "cores": 2},
    "missing": 0,
}


def row(volume: str, codec: str, size: int, psnr: float, target: str = "", **more: object) -> Row:
    return Row.of(
        Task(subject=Subject(volume, ""), codec=codec, target=target),
        bytes=size,
        raw_bytes=20000,
        full_8bit_bytes=10000,
        nii_gz_bytes=9000,
        psnr=psnr,
        psnr_8bit=psnr,
        max_error=2.0,
        lossless=math.isinf(psnr),
        encode_seconds=0.5,
        decode_seconds=0.25,
        slice_seconds=0.01,
        **more,
    )


class Page(HTMLParser):
    """What a page holds: its text, its tags, and what its attributes refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags, self.links = "", [], []
        self.feed(text)
        self.close()

    @override
    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    @override
    def handle_data(self, data) -> None:
        self.text += data


@pytest.fixture
def rows() -> list[Row]:
    return [
        row("one", "calv", 4000, math.inf),
        row("two", "calv", 2000, math.inf),
        row("one", "heif", 400, 35.5, "psnr=35", picture="x.png", worst_slice=3),
        row("one", "heif", 800, 45.5, "psnr=45"),
        replace(row("two", "heif", 0, 0.0, "psnr=35"), status="failed", error="no & why"),
    ]


def test_it_says_everything_and_loads_nothing(rows: list[Row], tmp_path: Path) -> None:
    Image.new("L", (9, 3)).save(tmp_path / "x.png")
    text = build_report(RECORD, rows, tmp_path)
    page = Page(text)
    assert "no & why" in page.text
    assert "1 failed" in page.text
    assert "slice 3" in page.text
    assert [link[:22] for link in page.links] == ["data:image/png;base64,"]
    assert not re.search(r"https?://|url\(|@import", text)
    charts = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(charts) == 5  # rate and two times in the mean, rate of each volume
    for chart in charts:
        ET.fromstring(chart)


def test_means_say_how_many_volumes_they_are_of(rows: list[Row]) -> None:
    calv, heif, _ = mean_rows(rows)
    assert (len(calv.rows), calv.volumes, calv.is_whole) == (2, 2, True)
    assert calv.geometric("ratio_raw") == pytest.approx((5 * 10) ** 0.5)
    assert calv.arithmetic("bits_per_voxel") == pytest.approx((3.2 + 1.6) / 2)
    assert calv.seconds_per_megavoxel("decode_seconds") == pytest.approx(25)
    assert (len(heif.rows), heif.is_whole) == (1, False)


@given(st.text(max_size=30))
def test_a_name_is_text_whatever_it_is_called(name: str) -> None:
    name = "<script>alert(1)</script>" + name
    found, plain = (
        [row(text, text, 400, 35.5, text), row(text, "zstd", 900, math.inf)]
        for text in (name, "plain")
    )
    text = build_report(RECORD, found, Path("nowhere"))
    assert Page(text).tags == Page(build_report(RECORD, plain, Path("nowhere"))).tags


def test_nothing_measured_is_a_page_too() -> None:
    page = Page(build_report(RECORD | {"missing": 3}, [], Path("nowhere")))
    assert "0 measurements" in page.text
    assert "3 not yet done" in page.text


@given(
    st.lists(st.tuples(st.floats(1e-6, 1e9), st.floats(1e-6, 1e9) | st.just(math.inf)), min_size=1),
    st.sampled_from([True, False]),
)
def test_all_marks_are_inside_the_chart(pairs, log_y) -> None:
    series = [Series(f"s{n}", (Point(x, y, "t"),)) for n, (x, y) in enumerate(pairs)]
    chart = ET.fromstring(draw_chart(series, "x", "y", log_y=log_y))
    width, height = (float(n) for n in chart.attrib["viewBox"].split()[2:])
    marks = [one for one in chart.iter() if "mark" in one.attrib.get("class", "")]
    assert len(marks) == 2 * len(pairs)  # one in the legend
    for one in marks:
        corner = one.attrib.get("points") or f"{one.attrib['cx']},{one.attrib['cy']}"
        x, y = map(float, corner.split()[0].split(","))
        assert 0 <= x <= width
        assert 0 <= y <= height
