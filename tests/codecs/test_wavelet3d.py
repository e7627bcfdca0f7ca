"""The 3-D wavelet and its range coder."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mroi.codecs import ChunkSpec
from mroi.codecs.wavelet.rangecoder import decode, encode
from mroi.codecs.wavelet.wavelet3d import Wavelet3d, _analyse, _plan, _synthesise
from mroi.errors import CodecError
from mroi.testing import CodecSuite
from tests.extras import needs_codec


class TestWavelet3d(CodecSuite):
    codecs = (Wavelet3d(), Wavelet3d(step=8))


magnitudes = st.one_of(st.integers(-3, 3), st.integers(-(2**30) + 1, 2**30 - 1))
bands = arrays(np.int32, array_shapes(max_dims=3, max_side=7), elements=magnitudes)


@settings(deadline=None)
@given(st.lists(bands, min_size=1, max_size=4))
def test_the_range_coder_is_exact(values: list[np.ndarray]) -> None:
    code = encode(values)
    decoded = decode(memoryview(code), [band.shape for band in values])
    assert [band.tolist() for band in decoded] == [band.tolist() for band in values]
    for wrong in (code[:-1], code + b"\0"):
        with pytest.raises(ValueError, match="code"):
            decode(memoryview(wrong), [band.shape for band in values])


def test_the_range_coder_carries() -> None:
    """Runs of ones in the middle of the code, where a carry has to travel far."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        values = np.where(rng.random(4000) < 0.98, 0, rng.integers(-40, 40, 4000)).astype(np.int32)
        assert np.array_equal(decode(memoryview(encode([values])), [values.shape])[0], values)


def test_the_range_coder_is_near_the_entropy() -> None:
    values = np.random.default_rng(0).geometric(0.4, (20, 40, 50)).astype(np.int32) - 1
    _, counts = np.unique(values, return_counts=True)
    shares = counts / values.size
    entropy = -(shares * np.log2(shares)).sum() + (values > 0).mean()  # and a sign for each
    assert 8 * len(encode([values])) / values.size < 1.03 * entropy


@needs_codec("wavelet3d")
@given(array_shapes(min_dims=3, max_dims=3, max_side=24))
@example((1, 130, 251))
@example((125, 9, 120))
@example((300, 1, 2))
def test_the_transform_is_undone(shape: tuple[int, ...]) -> None:
    """Also where it is undone block by block: a seam would show as an error of many steps."""
    voxels = np.random.default_rng(1).normal(0, 100, shape)
    transformed = list(_analyse(voxels))
    planned = [band for level in _plan(shape) for band in level.bands] or [shape]
    assert [band.shape for band in transformed] == planned
    step = 1e-5
    quantised = [np.rint(band / step).astype(np.int32) for band in transformed]
    undone = _synthesise(quantised, step, ChunkSpec(shape, np.dtype("<f8"), 64))
    assert np.abs(undone - voxels).max() < 10 * step


@needs_codec("wavelet3d")
@pytest.mark.parametrize("step", [1, 4, 16])
def test_the_step_sets_the_error(step: float) -> None:
    spec = ChunkSpec((16, 48, 50), np.dtype("<i2"), 16)
    chunk = np.random.default_rng(2).normal(0, 400, spec.shape).astype("<i2")
    codec = Wavelet3d(step=step)
    decoded = codec.decode(codec.encode(chunk, spec), spec)
    error = np.sqrt(np.mean((decoded.astype(float) - chunk) ** 2))
    assert 0.2 * step < error < 0.5 * step + 0.3


@needs_codec("wavelet3d")
def test_what_has_no_transform_is_refused() -> None:
    spec = ChunkSpec((1, 2, 2), np.dtype("<f4"), 32)
    with pytest.raises(CodecError, match="NaN and infinity"):
        Wavelet3d().encode(np.full(spec.shape, np.nan, "<f4"), spec)
    with pytest.raises(CodecError, match="step 1 is too small"):
        Wavelet3d().encode(np.full(spec.shape, 1e30, "<f4"), spec)
