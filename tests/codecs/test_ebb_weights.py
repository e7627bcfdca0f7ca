"""ebb keeps some voxels better than others; its decoder does not know which."""

from __future__ import annotations

import numpy as np
import pytest

from mroi.codecs import ChunkSpec, Pipeline, Planar, SupportsWeights
from mroi.codecs.ebb import Ebb
from mroi.codecs.ebb.bands import plan
from mroi.codecs.ebb.wavelet import NAMES, spread, synthesise
from mroi.errors import CodecError
from tests.codecs.test_ebb import chunk_of

SHAPE = (12, 64, 72)


@pytest.fixture(scope="module")
def chunk() -> np.ndarray:
    voxels, _ = chunk_of(SHAPE, "<i2")
    return voxels


SPEC = ChunkSpec(SHAPE, np.dtype("<i2"), 16)


def mask() -> np.ndarray:
    inside = np.zeros(SHAPE, bool)
    inside[4:8, 20:40, 24:48] = True
    return inside


def weights(weight: float) -> np.ndarray:
    return np.where(mask(), 1, weight).astype(np.float32)


def errors(chunk: np.ndarray, payload: bytes) -> tuple[float, float]:
    """Return the mean squared error in the mask, and beside it."""
    squares = (Ebb().decode(payload, SPEC).astype(float) - chunk) ** 2
    return float(squares[mask()].mean()), float(squares[~mask()].mean())


def test_what_counts_less_is_worse_and_takes_fewer_bytes(chunk: np.ndarray) -> None:
    plain = Ebb(6).encode(chunk, SPEC)
    inside, beside = errors(chunk, plain)
    sizes, rests = [len(plain)], [beside]
    for weight in (0.5, 0.1, 0.01, 0.001, 1e-6):
        payload = Ebb(6).encode_weighted(chunk, SPEC, weights(weight))
        sizes.append(len(payload))
        found, rest = errors(chunk, payload)
        rests.append(rest)
        assert found < 6 * inside  # 8 dB, at the edge most of all
    assert sizes == sorted(sizes, reverse=True)
    assert rests == sorted(rests)
    assert sizes[-1] < 0.3 * sizes[0]
    assert rests[-1] > 10 * rests[0]


def test_weights_of_one_change_nothing(chunk: np.ndarray) -> None:
    assert Ebb(2).encode_weighted(chunk, SPEC, weights(1)) == Ebb(2).encode(chunk, SPEC)


def test_a_chunk_beside_the_mask_has_a_coarser_step(chunk: np.ndarray) -> None:
    quarter = np.full(SHAPE, 0.25, np.float32)
    assert Ebb(2).encode_weighted(chunk, SPEC, quarter) == Ebb(4).encode(chunk, SPEC)


def test_a_series_is_weighted_volume_by_volume() -> None:
    voxels, spec = chunk_of((12, 40, 44), "<i2", 3)
    inside = np.zeros((3, 4, 40, 44), bool)
    inside[1] = True  # the second volume alone
    inside = inside.reshape(spec.shape)
    payload = Ebb(1).encode_weighted(voxels, spec, np.where(inside, 1, 0.001).astype("f4"))
    squares = (Ebb().decode(payload, spec).astype(float) - voxels) ** 2
    assert 4 * squares[inside].mean() < squares[~inside].mean()


def test_weights_beyond_one_are_refused(chunk: np.ndarray) -> None:
    for wrong in (0.0, 2.0):
        with pytest.raises(CodecError, match="expected more than 0"):
            Ebb().encode_weighted(chunk, SPEC, np.full(SHAPE, wrong, np.float32))


@pytest.mark.parametrize("wavelet", range(len(NAMES)))
def test_the_weight_of_a_coefficient_is_that_of_where_its_energy_goes(wavelet: int) -> None:
    shape = (8, 32, 32)
    how = plan(shape, 2, 3)
    counts = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    found = counts.copy()
    spread(found, how, wavelet)
    for at in ((7, 20, 9), (1, 5, 27), (6, 3, 3), (2, 9, 21), (0, 1, 2)):
        one = np.zeros(shape, np.int32)
        one[at] = 1 << 24
        synthesise(one, how, wavelet)
        energy = np.square(one.astype(float))
        assert found[at] == pytest.approx((energy * counts).sum() / energy.sum(), abs=0.1)


def test_a_pipeline_that_moves_voxels_takes_no_weights(chunk: np.ndarray) -> None:
    assert isinstance(Ebb(), SupportsWeights)
    assert Pipeline(Ebb()).supports_weights
    colours = ChunkSpec((*SHAPE, 3), np.dtype("u1"), 8)
    pipeline = Pipeline(Ebb(), (Planar(),))
    assert not pipeline.supports_weights
    with pytest.raises(CodecError, match="cannot keep some voxels better"):
        pipeline.encode(np.zeros(colours.shape, "u1"), colours, weights(0.5))
