"""What is chosen is what a trial on the volume shows."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mroi
from mroi.codecs import Pipeline, parse
from mroi.geometry import Box
from mroi.packing.choose import Trials
from mroi.packing.options import PackOptions
from mroi.packing.survey import look
from mroi.volume.layout import HELD_SIZE, Cut, Extents, default_shape, longer_spans
from mroi.volume.source import ArraySource
from tests.extras import codec_param


def chosen(array: np.ndarray, **choices: object) -> tuple[str, dict[str, int]]:
    """Return the codec of a packed array, and the bytes that each candidate took."""
    file = io.BytesIO()
    mroi.pack(array, file, **choices)
    volume = mroi.open(file)
    return volume.reader.head.codecs[0].name, volume.provenance["codec"]["tried"]


def textured(shape: tuple[int, ...], dtype: str = "<i2") -> np.ndarray:
    rng = np.random.default_rng(1)
    waves = 300 * np.sin(np.arange(shape[0]) / 9).reshape(-1, *[1] * (len(shape) - 1))
    return (1000 + waves + rng.normal(0, 8, shape)).astype(dtype)


def test_integers_take_calv_and_colours_zstd() -> None:
    assert chosen(textured((60, 50, 20)))[0] == "calv"
    colours = textured((60, 50, 20, 3)).astype("u1").view([("R", "u1"), ("G", "u1"), ("B", "u1")])
    name, tried = chosen(colours[..., 0])
    assert name == "zstd"
    assert "calv" not in tried


def test_fractions_take_what_compresses_them() -> None:
    name, tried = chosen(np.sqrt(textured((60, 50, 20)).astype("<f4")))
    assert name == "zstd"
    assert tried["calv"] > min(tried.values())


def test_a_box_beside_the_samples_is_chosen_for_all_the_same() -> None:
    _, tried = chosen(textured((60, 50, 40)), roi=mroi.Box((0, 0, 0), (60, 50, 1)))
    assert min(tried.values()) > 0


# -- how many volumes a chunk spans --------------------------------------------------------------


def series(shape: tuple[int, int, int, int], alike: float) -> np.ndarray:
    """Volumes that have a share of their texture in common."""
    rng = np.random.default_rng(2)
    common = rng.normal(0, 60 * alike, (*shape[:3], 1))
    own = rng.normal(0, 60 * (1 - alike), shape)
    return (1000 + common + own).astype("<i2")


def size(array: np.ndarray, **choices: object) -> int:
    file = io.BytesIO()
    mroi.pack(array, file, **choices)
    return len(file.getvalue())


def test_volumes_that_are_alike_share_chunks():
    array = series((64, 64, 12, 20), 0.95)
    file = io.BytesIO()
    mroi.pack(array, file)
    volume = mroi.open(file)
    assert volume.geom.chunk_shape[3] > 4
    tried = {int(n): size for n, size in volume.provenance["volumes"]["tried"].items()}
    assert tried[volume.geom.chunk_shape[3]] < 0.7 * tried[1]
    assert len(file.getvalue()) < 0.7 * size(array, codec="calv", chunk=12)
    assert np.array_equal(volume[...], array)


@pytest.mark.parametrize("codec", ["calv", "zstd", "deflate", codec_param("htj2k")])
def test_volumes_that_have_nothing_in_common_stay_apart(codec):
    array = series((64, 64, 12, 8), 0.0)
    file = io.BytesIO()
    mroi.pack(array, file, codec=codec)
    assert mroi.open(file).geom.chunk_shape[3] == 1


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3, st.integers(2, 40)),
    alike=st.sampled_from((0.0, 0.5, 0.9, 1.0)),
    codec=st.sampled_from(("calv", "zstd", "zstd:delta=true")),
    axis=st.integers(0, 2),
)
def test_the_span_that_is_chosen_is_never_larger_on_samples(shape, alike, codec, axis):
    source = ArraySource(series(shape, alike))
    survey = look(source, PackOptions(slice_axis=axis))
    cut, pipeline = Cut("slices", None, axis), Pipeline(parse(codec))
    box = Box.whole(shape)
    first = cut.shape(cut.extents(box, shape, 2), pipeline.codec)
    chosen, sizes = Trials(survey, cut).choose_span(pipeline, box, first)
    assert sizes[str(chosen[3])] <= sizes[str(first[3])]


@settings(max_examples=300)
@given(
    roi=st.tuples(*[st.integers(1, 600)] * 3),
    volumes=st.integers(1, 5000),
    axis=st.integers(0, 2),
    itemsize=st.sampled_from((1, 2, 4, 8)),
    codec=st.sampled_from(("calv", "calv:level=small", "zstd", "jpegls")),
)
def test_longer_chunks_are_bounded(roi, volumes, axis, itemsize, codec):
    extents = Extents(roi, volumes, axis, itemsize)
    first = default_shape("slices", extents, parse(codec))
    last = first[3]
    for shape in longer_spans(first, extents, parse(codec)):
        assert last < shape[3] <= min(volumes, 16 * first[3])
        assert all(1 <= n <= most for n, most in zip(shape[:3], roi, strict=True))
        assert math.prod(shape) <= parse(codec).span_voxels
        assert math.prod(roi) * itemsize * shape[3] <= HELD_SIZE
        last = shape[3]


# -- samples -------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    shape=st.tuples(*[st.integers(1, 30)] * 3, st.integers(1, 40), st.integers(1, 3)),
    axis=st.integers(0, 2),
)
def test_samples_are_parts_of_the_volume_that_share_no_plane(shape, axis):
    array = np.arange(math.prod(shape), dtype="<i4").reshape(shape)
    source = ArraySource(array)
    survey = look(source, PackOptions(slice_axis=axis))
    by_volume = array.reshape(*shape[:3], -1, order="F")
    seen: set[int] = set()
    assert survey.samples
    for sample in survey.samples:
        volumes, slices = sample.planes.shape[:2]
        first = int(sample.planes[0, 0, 0, 0])
        start = [int(np.argwhere(by_volume == first)[0, 3])]
        for v in range(volumes):
            for s in range(slices):
                plane = np.moveaxis(by_volume[..., start[0] + v], axis, 0)[sample.start + s].T
                assert np.array_equal(sample.planes[v, s], plane)
        assert start[0] // shape[3] == (start[0] + volumes - 1) // shape[3]  # axis 4 is not crossed
        voxels = set(sample.planes.ravel().tolist())
        assert not voxels & seen
        seen |= voxels
