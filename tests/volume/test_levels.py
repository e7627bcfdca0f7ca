"""Slices at a reduced resolution."""

from __future__ import annotations

import io

import numpy as np
import pytest

import mroi
from tests.extras import needs

pytestmark = needs("codecs")


def smooth(shape: tuple[int, ...]) -> np.ndarray:
    axes = np.meshgrid(*(np.linspace(0, 3, n) for n in shape), indexing="ij")
    return (1000 + 500 * np.sin(sum(axes))).astype(np.int16)


@pytest.mark.parametrize("codec", ["htj2k", "jpeg2000"])
@pytest.mark.parametrize("shape", [(40, 33, 5), (37, 41, 3, 2)])
def test_each_level_halves_the_slice_and_shows_the_same_picture(
    codec: str, shape: tuple[int, ...]
) -> None:
    array = smooth(shape)
    file = io.BytesIO()
    mroi.pack(array, file, codec=codec, roi="full", chunk=1)
    volume = mroi.open(file)
    for level in (1, 2):
        reduced = volume.slice(1, level=level)
        step = 2**level
        expected = array[::step, ::step, 1]
        assert reduced.shape == expected.shape
        assert reduced.dtype == array.dtype
        assert np.abs(reduced.astype(int) - expected).max() < 60


def test_a_constant_slice_has_levels_too() -> None:
    file = io.BytesIO()
    mroi.pack(np.full((9, 7, 2), 5, np.int16), file, codec="htj2k", roi="full", chunk=1)
    assert mroi.open(file).slice(0, level=1).tolist() == np.full((5, 4), 5).tolist()


def test_what_has_no_levels_says_so() -> None:
    array = smooth((20, 20, 4))
    file = io.BytesIO()
    mroi.pack(array, file, codec="zstd", roi="full", chunk=1)
    volume = mroi.open(file)
    with pytest.raises(mroi.CodecError, match="reduced resolution"):
        volume.slice(0, level=1)
    with pytest.raises(mroi.UsageError, match="slice axis"):
        volume.slice(0, axis=0, level=1)
    with pytest.raises(mroi.UsageError, match="expected 0 to"):
        volume.slice(0, level=-1)
    with pytest.raises(IndexError):
        volume.slice(4, level=1)
    slabs = io.BytesIO()
    mroi.pack(array, slabs, codec="zstd", roi="full", chunk=2)
    with pytest.raises(mroi.UsageError, match="one slice per chunk"):
        mroi.open(slabs).slice(0, level=1)
