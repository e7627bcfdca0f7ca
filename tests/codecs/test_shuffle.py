"""Samples from their bytes and differences: two ways, one result."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mroi.codecs import ChunkSpec
from mroi.codecs.general import shuffle


@given(data=st.data())
def test_what_is_split_is_joined_by_numpy_and_by_the_kernel(data):
    dtype = np.dtype(data.draw(st.sampled_from(["u1", "i1", "<u2", "<i2", "<u4", "<i4", "<f4"])))
    shape = data.draw(st.tuples(*[st.integers(1, 5)] * 3))
    shape += data.draw(st.sampled_from([(), (3,), (4,)]))
    spec = ChunkSpec(shape, dtype, 8 * dtype.itemsize)
    chunk = np.frombuffer(data.draw(st.binary(min_size=spec.size, max_size=spec.size)), dtype)
    chunk = chunk.reshape(shape)
    steps = {"shuffle": data.draw(st.booleans()), "delta": dtype.kind != "f"}
    steps["delta"] = steps["delta"] and data.draw(st.booleans())
    parts = shuffle.split(chunk, spec, **steps)
    with pytest.MonkeyPatch.context() as patch:
        for way in (lambda *_args, **_options: None, shuffle._compiled):
            patch.setattr(shuffle, "_compiled", way)
            patch.setattr(shuffle, "_WORTH", 0)
            joined = shuffle.join(parts, spec, **steps)
            assert (joined.dtype, joined.shape) == (dtype, shape)
            assert joined.tobytes() == chunk.tobytes()


def test_the_compiler_is_loaded_where_it_saves_more_than_it_takes(monkeypatch):
    spec = ChunkSpec((1, 2, 2), np.dtype("<f4"), 32)
    chunk = np.arange(4, dtype="<f4").reshape(spec.shape)
    parts = shuffle.split(chunk, spec, shuffle=True, delta=False)
    monkeypatch.setattr(shuffle, "sys", type("Bare", (), {"modules": {}}))
    monkeypatch.setattr(shuffle, "_joined", 0)
    monkeypatch.setattr(shuffle, "_WORTH", 2 * len(parts))
    ways = [shuffle._compiled(parts, spec, delta=False) for _ in range(3)]
    assert [way is None for way in ways] == [True, True, False]
    assert np.array_equal(ways[2], chunk)
