"""HTJ2K: the laws, another decoder, and the errors that the library loses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mroi.codecs import ChunkSpec
from mroi.codecs.jpeg import openjpeg
from mroi.codecs.jpeg.htj2k import Htj2k
from mroi.errors import DecodeError
from mroi.testing import CodecSuite, chunks, specs_for
from tests.extras import needs_codec

pytestmark = needs_codec("htj2k")


class TestHtj2k(CodecSuite):
    codecs = (Htj2k(), Htj2k(step=2))


@given(st.data())
def test_openjpeg_reads_the_payload(data: st.DataObject) -> None:
    if openjpeg._glymur() is None:
        pytest.skip("no OpenJPEG that can be loaded")
    kinds = specs_for(Htj2k()).filter(lambda spec: spec.dtype.itemsize < 4)
    spec = data.draw(kinds)
    chunk = data.draw(chunks(spec))
    plane = openjpeg.decode(memoryview(Htj2k().encode(chunk, spec)), spec, 0)
    assert plane.reshape(spec.shape).tolist() == chunk.tolist()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_rows_that_were_never_decoded_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    import imagecodecs

    spec = ChunkSpec((1, 40, 30), np.dtype("<u2"), 16)
    payload = Htj2k().encode(np.ones(spec.shape, "<u2"), spec)
    decode = imagecodecs.htj2k_decode

    def lose_the_end(data: object, *, out: np.ndarray, **options: object) -> None:
        rest = out[20:].copy()
        decode(data, out=out, **options)
        out[20:] = rest

    monkeypatch.setattr(imagecodecs, "htj2k_decode", lose_the_end)
    with pytest.raises(DecodeError, match="entropy-coded data are corrupt"):
        Htj2k().decode(payload, spec)


@pytest.mark.parametrize("mark", [0x5555, 0xAAAA])
def test_voxels_that_look_like_marks_are_none(mark: int) -> None:
    spec = ChunkSpec((1, 4, 5), np.dtype("<u2"), 16)
    chunk = np.full(spec.shape, mark, "<u2")
    assert Htj2k().decode(Htj2k().encode(chunk, spec), spec).tolist() == chunk.tolist()


def test_the_step_bounds_the_loss_in_units_of_voxels() -> None:
    spec = ChunkSpec((1, 64, 60), np.dtype("<i2"), 16)
    chunk = np.random.default_rng(2).normal(0, 300, spec.shape).astype("<i2")
    errors = []
    for step in (1, 4, 16):
        codec = Htj2k(step=step)
        decoded = codec.decode(codec.encode(chunk, spec), spec)
        errors.append(float(np.sqrt(np.mean((decoded.astype(float) - chunk) ** 2))))
        assert errors[-1] < step
    assert errors == sorted(errors)
