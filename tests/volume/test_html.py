"""What a notebook shows is small, complete in itself, safe, and there within a second."""

from __future__ import annotations

import io
import os
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image
from typing_extensions import override

import mroi
from mroi.codecs import Pipeline
from mroi.container import MemorySource
from mroi.volume import html
from tests.volume.conftest import cases


class Page(HTMLParser):
    """The elements, pictures and text of a page; an assertion for each that is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.pictures: list[dict[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    @override
    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.add(tag)
        if tag == "img":
            self.pictures.append(dict(attrs))
        else:
            self.open.append(tag)

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    @override
    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " | ".join(self.words)

    def picture(self) -> Image.Image:
        (found,) = self.pictures
        kind, _, data = (found["src"] or "").partition(",")
        assert kind == "data:image/jpeg;base64"
        image = Image.open(io.BytesIO(b64decode(data, validate=True)))
        assert image.size == (int(found["width"] or 0), int(found["height"] or 0))
        return image


def voxels() -> np.ndarray:
    array = np.zeros((40, 50, 30), "<i2")
    array[5:35, 5:45, 5:25] = np.random.default_rng(0).integers(1, 999, (30, 40, 20))
    return array


@pytest.fixture
def path(tmp_path: Path) -> Path:
    mroi.pack(voxels(), tmp_path / "a.mroi", codec="zstd", affine=np.diag([1, 1, 2, 1]))
    return tmp_path / "a.mroi"


def page_of(volume: mroi.Volume) -> Page:
    return Page(volume._repr_html_())


def test_it_says_what_the_volume_is(path: Path) -> None:
    page = page_of(mroi.open(path))
    assert page.text.startswith(
        "a.mroi | volume | 40 x 50 x 30 voxels, int16 | spacing | 1 x 1 x 2"
    )
    assert (
        "orientation | RAS | ROI | 5:35,5:45,5:25 (40% of the voxels) | codec | zstd, lossless"
        in page.text
    )
    assert page.text.endswith(f"ratio {2 * voxels().size / path.stat().st_size:.2f}")
    assert page.seen == {"div", "img", "table", "tr", "td"}


def test_three_planes_are_drawn_to_scale_in_a_few_kilobytes(path: Path) -> None:
    text = mroi.open(path)._repr_html_()
    assert len(text) < 20_000
    picture = Page(text).picture()
    assert picture.width > 2 * picture.height
    assert np.asarray(picture.convert("L")).std() > 20
    alt = Page(text).pictures[0]["alt"]
    assert alt == "k = 14 axial +28.0 mm; j = 24 coronal +24.0 mm; i = 19 sagittal +19.0 mm"


def test_a_part_is_described_as_it_is(path: Path) -> None:
    page = page_of(mroi.open(path).cropped)
    assert "volume | 30 x 40 x 20 voxels" in page.text
    assert page.picture().size == page_of(mroi.open(path)).picture().size


@settings(max_examples=25)
@given(cases())
def test_any_volume_is_shown(case: Any) -> None:
    sink = io.BytesIO()
    case.write(sink)
    page = page_of(mroi.open(sink.getvalue()))
    assert case.geom.datatype.name in page.text
    drawn = case.geom.datatype.element.kind != "V" or bool(case.geom.datatype.element.names)
    assert len(page.pictures) == drawn
    assert ("not drawn" in page.text) is not drawn


def test_names_cannot_become_elements(tmp_path: Path, path: Path) -> None:
    name = "<script>alert('x')&amp; \"" if os.name != "nt" else "a&amp;b'"
    path.rename(tmp_path / f"{name}.mroi")
    page = page_of(mroi.open(tmp_path / f"{name}.mroi"))
    assert "script" not in page.seen
    assert page.words[0] == f"{name}.mroi"


def test_what_cannot_be_read_is_said(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    page = page_of(mroi.open(bytes(data)))
    assert page.pictures == []
    assert "not drawn | " in page.text
    assert "[FRM-6]" in page.text


def test_a_closed_volume_is_described(path: Path) -> None:
    volume = mroi.open(path)
    volume.close()
    page = page_of(volume)
    assert "40 x 50 x 30 voxels" in page.text
    assert page.pictures == []


def test_what_takes_long_is_not_drawn(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "_SECONDS", 0.0)
    alt = page_of(mroi.open(path)).pictures[0]["alt"] or ""
    assert alt.startswith("k = 14")
    assert ";" not in alt
    monkeypatch.setattr(html, "_MOST", 40 * 50)
    assert page_of(mroi.open(path)).pictures == []
    mroi.pack(voxels(), tmp_path / "b.mroi", codec="zstd", overview=2)
    assert (page_of(mroi.open(tmp_path / "b.mroi")).pictures[0]["alt"] or "").count(";") == 2


def test_of_a_slow_codec_the_first_slice_of_a_chunk_is_drawn_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mroi.pack(voxels(), tmp_path / "a.mroi", codec="calv:level=small")
    alts = []
    for seconds in (60.0, 0.0):
        monkeypatch.setattr(html, "_SECONDS", seconds)
        alts.append(page_of(mroi.open(tmp_path / "a.mroi")).pictures[0]["alt"] or "")
    assert [alt.split()[:3] for alt in alts] == [["k", "=", "14"], ["k", "=", "5"]]
    assert [alt.count(";") for alt in alts] == [2, 0]
    monkeypatch.setattr(html, "_SECONDS", 60.0)
    monkeypatch.setattr(Pipeline, "encode_seconds", lambda *_: 61.0)
    assert page_of(mroi.open(tmp_path / "a.mroi")).pictures == []


def test_files_on_servers_are_not_read_for_it(path: Path) -> None:
    class Remote(MemorySource):
        is_remote = True
        reads = 0

        @override
        def read(self, offset: int, size: int) -> bytes:
            self.reads += 1
            return super().read(offset, size)

    source = Remote(path.read_bytes())
    volume = mroi.open(source)
    before = source.reads
    assert page_of(volume).pictures == []
    assert source.reads <= before + 1  # whether it has an overview


def test_missing_chunks_are_counted(tmp_path: Path) -> None:
    mroi.pack(voxels(), tmp_path / "a.mroi", codec="zstd", chunk=5)
    data = (tmp_path / "a.mroi").read_bytes()
    (tmp_path / "cut.mroi").write_bytes(data[: len(data) // 2])
    result = mroi.recover(tmp_path / "cut.mroi", tmp_path / "rest.mroi")
    page = page_of(mroi.open(tmp_path / "rest.mroi"))
    assert f"missing | {len(result.missing)} of " in page.text
    assert len(page.pictures) == 1
