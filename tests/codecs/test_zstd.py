"""Zstandard: the laws, the two steps before it as its page defines them, other decoders."""

import struct
import zlib

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from mroi.codecs import ChunkSpec
from mroi.codecs.general.deflate import Deflate
from mroi.codecs.general.shuffle import split
from mroi.codecs.general.zstd import Zstd
from mroi.errors import CodecError
from mroi.testing import CodecSuite, chunks, specs_for


class TestZstd(CodecSuite):
    codecs = (
        Zstd(),
        Zstd(shuffle=False),
        Zstd(level=19, delta=True),
        Zstd(shuffle=False, delta=True),
    )


def by_the_page(chunk: np.ndarray, spec: ChunkSpec, *, shuffle: bool, delta: bool) -> bytes:
    """Delta and shuffle, one sample after the other, from the text alone."""
    size = spec.dtype.itemsize
    data = chunk.tobytes()
    samples = [data[i : i + size] for i in range(0, len(data), size)]
    if delta:
        numbers = [int.from_bytes(sample, "little") for sample in samples]
        differences = [
            (number - (numbers[i - spec.samples] if i >= spec.samples else 0)) % 256**size
            for i, number in enumerate(numbers)
        ]
        samples = [number.to_bytes(size, "little") for number in differences]
    if shuffle:
        return bytes(sample[k] for k in range(size) for sample in samples)
    return b"".join(samples)


@given(st.data())
def test_delta_and_shuffle_are_those_of_the_page(data: st.DataObject) -> None:
    shuffle, delta = data.draw(st.booleans()), data.draw(st.booleans())
    spec = data.draw(specs_for(Zstd(delta=delta), largest=6))
    chunk = data.draw(chunks(spec))
    expected = by_the_page(chunk, spec, shuffle=shuffle, delta=delta)
    assert split(chunk, spec, shuffle=shuffle, delta=delta) == expected
    payload = Zstd(shuffle=shuffle, delta=delta).encode(chunk, spec)
    assert zstandard.ZstdDecompressor().decompress(payload) == expected
    payload = Deflate(shuffle=shuffle, delta=delta).encode(chunk, spec)
    assert zlib.decompress(payload) == expected


def test_differences_wrap_around() -> None:
    spec = ChunkSpec((1, 1, 4), np.dtype("<i2"), 16)
    chunk = np.array([[[-32768, 32767, -32768, 0]]], "<i2")
    assert split(chunk, spec, shuffle=False, delta=True) == struct.pack(
        "<4h", -32768, -1, 1, -32768
    )


def test_delta_of_floats_is_refused() -> None:
    spec = ChunkSpec((1, 2, 2), np.dtype("<f4"), 32)
    assert Zstd().refuses(spec) is None
    assert "delta takes integers" in (Zstd(delta=True).refuses(spec) or "")


@pytest.mark.parametrize("level", [0, 23, 3.0, True, "3"], ids=repr)
def test_levels_that_do_not_exist_are_refused(level: object) -> None:
    with pytest.raises(CodecError, match="integer from 1 to 22"):
        Zstd(level=level)  # type: ignore[arg-type]
