"""Chunks are what a caller says, or serve what is read; whatever they are, voxels come back."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mroi
from mroi.codecs import available, codec_class, parse
from mroi.format.datatypes import DATATYPES
from mroi.volume.layout import (
    HELD_SIZE,
    PURPOSES,
    Extents,
    default_shape,
    parse_chunk,
    split_evenly,
    split_within,
)

SHAPES = st.lists(st.integers(1, 9), min_size=1, max_size=5).map(tuple)


def numbered(shape: tuple[int, ...], dtype: str = "<i2") -> np.ndarray:
    return np.arange(math.prod(shape)).reshape(shape).astype(dtype)


def packed(array: np.ndarray, **choices: Any) -> mroi.Volume:
    file = io.BytesIO()
    mroi.pack(array, file, roi="full", **choices)
    return mroi.open(file)


def created(array: np.ndarray, **choices: Any) -> mroi.Volume:
    file = io.BytesIO()
    with mroi.create(file, array.shape, array.dtype, **choices) as writer:
        full = array.reshape(array.shape + (1,) * (3 - array.ndim))
        for outer in np.ndindex(*full.shape[:2:-1]):
            volume = full[(..., *outer[::-1])]
            for image in np.moveaxis(volume, choices.get("slice_axis", 2), 0):
                writer.write(image)
    return mroi.open(file)


# -- what a caller says --------------------------------------------------------------------------


@settings(max_examples=60)
@given(data=st.data(), shape=SHAPES, axis=st.integers(0, 2))
def test_chunks_are_as_asked_and_no_larger_than_the_volume(data, shape, axis):
    array = numbered(shape)
    sides = (*shape, 1, 1, 1)[:4]
    slices = data.draw(st.integers(0, 12))
    voxels = tuple(data.draw(st.integers(0, 12)) for _ in range(data.draw(st.sampled_from((3, 4)))))
    chunk = data.draw(st.sampled_from((slices, voxels, list(voxels), np.int64(slices))))
    if isinstance(chunk, (tuple, list)):
        wanted = [n or side for n, side in zip((*voxels, 1)[:4], sides, strict=True)]
    else:
        wanted = [*sides[:3], 1]
        wanted[axis] = slices or sides[axis]
    expected = tuple(map(min, wanted, sides))
    for make in (packed, created):
        volume = make(array, chunk=chunk, codec="zstd", slice_axis=axis)
        assert volume.geom.chunk_shape == expected
        assert np.array_equal(volume[...], array)


@pytest.mark.parametrize(
    ("text", "chunk"),
    [("0", 0), ("1", 1), ("16", 16), ("64x64x16", (64, 64, 16)), ("0x0x1x8", (0, 0, 1, 8))],
)
def test_texts_that_name_chunks(text, chunk):
    assert parse_chunk(text) == chunk


@pytest.mark.parametrize(
    "chunk", [-1, (), (1, 2), (1, -1, 1), (1, 2, 3, 4, 5), 1.5, (1, 2, 0.5), "16", {3}]
)
def test_what_is_no_chunk_is_refused_at_once(chunk):
    for make in (packed, created):
        with pytest.raises(mroi.UsageError, match="expected a number of slices, or voxels"):
            make(numbered((3, 4, 5)), chunk=chunk)


@pytest.mark.parametrize("text", ["", "x", "3x4", "3xx4", "1x2x3x4x5", "-1", "1.5", "4 x 4 x 4"])
def test_what_names_no_chunk_is_refused(text):
    with pytest.raises(mroi.UsageError, match="expected a number of slices, or voxels"):
        parse_chunk(text)


def test_codecs_of_single_slices_say_so():
    array = numbered((8, 8, 4, 3), "u1")
    with pytest.raises(mroi.UsageError, match=r"htj2k takes chunks of 1 slice, not 2$"):
        packed(array, codec="htj2k", chunk=2)
    with pytest.raises(mroi.UsageError, match=r"not 3 \(those of 3 volumes\)"):
        packed(array, codec="htj2k", chunk=(0, 0, 1, 0))


# -- what serves a purpose -----------------------------------------------------------------------

CODECS = [codec_class(entry.name)() for entry in available()]


@settings(max_examples=300)
@given(
    purpose=st.sampled_from(PURPOSES),
    roi=st.tuples(*[st.integers(1, 3000)] * 3),
    series=st.integers(1, 10_000),
    axis=st.integers(0, 2),
    itemsize=st.sampled_from((1, 2, 3, 4, 8, 32)),
    codec=st.sampled_from(CODECS),
)
def test_every_purpose_has_chunks_for_every_volume(purpose, roi, series, axis, itemsize, codec):
    *sides, volumes = default_shape(purpose, Extents(roi, series, axis, itemsize), codec)
    assert all(1 <= n <= most for n, most in zip((*sides, volumes), (*roi, series), strict=True))
    assert volumes == 1 or math.prod(roi) * itemsize * volumes <= HELD_SIZE
    assert codec.max_slices is None or sides[axis] * volumes <= codec.max_slices


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize("kind", DATATYPES.values(), ids=lambda kind: kind.name)
def test_every_purpose_keeps_every_type(purpose, kind):
    rng = np.random.default_rng(3)
    count = 7 * 6 * 5 * 3
    array = rng.integers(0, 3, (count, kind.itemsize), np.uint8).view(kind.element)
    array = array.reshape(7, 6, 5, 3)
    for volume in (packed(array, purpose=purpose), created(array, purpose=purpose)):
        assert volume[...].tobytes() == array.tobytes()


def test_what_is_given_wins_over_the_purpose():
    volume = packed(numbered((20, 20, 20)), purpose="patches", codec="deflate", chunk=(5, 5, 5))
    assert volume.geom.chunk_shape == (5, 5, 5, 1)
    assert volume.reader.head.codecs[0].name == "deflate"
    assert "purpose" not in volume.provenance
    assert packed(numbered((20, 20, 20)), purpose="patches").provenance["purpose"] == "patches"


def test_an_unknown_purpose_is_refused():
    for make in (packed, created):
        with pytest.raises(mroi.UsageError, match="purpose 'speed' is unknown: expected slices"):
            make(numbered((3, 4, 5)), purpose="speed")


def test_purposes_choose_the_codec():
    array = np.random.default_rng(4).normal(500, 9, (40, 40, 40)).astype("<i2")
    names = {p: packed(array, purpose=p).reader.head.codecs[0].name for p in PURPOSES}
    assert (names["planes"], names["archive"]) == ("zstd", "calv")
    settings = packed(array, purpose="archive").reader.head.codecs[0].parameters["encoder"]
    assert settings == {"level": "small"}


def test_small_volumes_of_a_series_share_chunks():
    extents = Extents((8, 8, 1), 5000, 2, 2)
    *sides, volumes = default_shape("slices", extents, parse("calv"))
    assert tuple(sides) == (8, 8, 1)
    assert 256 <= volumes * 8 * 8 * 2 / 128 <= 512
    assert default_shape("slices", extents, parse("jpegls")) == (8, 8, 1, 1)


@given(extent=st.integers(1, 5000), wanted=st.integers(1, 300))
def test_parts_of_an_axis(extent, wanted):
    even, within = split_evenly(extent, wanted), split_within(extent, wanted)
    assert even <= extent
    assert 2 * even <= 3 * wanted + 1
    assert within <= min(wanted, extent)
    assert -(-extent // within) == -(-extent // min(wanted, extent))
