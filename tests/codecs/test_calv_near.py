"""calv with an error that is never exceeded: every voxel of every type is within it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mroi.codecs import Fidelity, Pipeline, Values, build
from mroi.codecs.calv import Calv, codec
from mroi.codecs.calv.lattice import to_lattice
from mroi.codecs.calv.values import find_map, to_symbols
from mroi.errors import CodecError, DecodeError
from tests.codecs.test_calv import LEVELS, anatomy, spec_of

TYPES = ("u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8")
NEARS = (1, 2, 3, 7, 40, 127, 5000, 65535)


@pytest.fixture(autouse=True)
def _never_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `small` and `max` keep to their own kind, where `fast` would win in a chunk so small."""
    monkeypatch.setattr(codec, "_LITTLE", 0)


def loss(decoded: np.ndarray, chunk: np.ndarray) -> int:
    """Return the largest difference, in integers of Python, which have no end."""
    pairs = zip(decoded.ravel().tolist(), chunk.ravel().tolist(), strict=True)
    return max(abs(a - b) for a, b in pairs)


def decoded(chunk: np.ndarray, level: str, near: int) -> np.ndarray:
    payload = Calv(level, near).encode(chunk, spec_of(chunk))
    return Calv(near=near).decode(payload, spec_of(chunk))


@st.composite
def chunks(draw: st.DrawFn) -> np.ndarray:
    """Draw values at the ends of their type or anywhere, in steps, with a background, with gaps."""
    info = np.iinfo(draw(st.sampled_from(TYPES)))
    span = min(draw(st.sampled_from([1, 5, 90, 255, 4000, 65535, 1 << 33])), info.max - info.min)
    lowest = draw(
        st.sampled_from([info.min, info.max - span, max(info.min, min(0, info.max - span))])
    )
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)))
    above = rng.integers(0, span + 1, shape)
    if draw(st.booleans()):
        above[:, : 2 * shape[1] // 3] = draw(st.integers(0, span))
    if draw(st.booleans()):
        above = above // 3 * 3
    if draw(st.booleans()):
        above[above > span // 9] = span
    return (above.astype(info.dtype) + np.array([lowest], info.dtype)).astype(info.dtype)


@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
@given(chunk=chunks(), near=st.sampled_from(NEARS))
def test_every_value_is_near_its_point_of_the_lattice(chunk: np.ndarray, near: int) -> None:
    coarse = to_lattice(chunk, near)
    assert (coarse.dtype, coarse.shape) == (chunk.dtype, chunk.shape)
    assert loss(coarse, chunk) <= near


@pytest.mark.parametrize("level", LEVELS)
@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(chunk=chunks(), near=st.sampled_from(NEARS))
def test_every_voxel_is_within_the_error(level: str, chunk: np.ndarray, near: int) -> None:
    assert loss(decoded(chunk, level, near), chunk) <= near


@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
@given(chunk=chunks(), near=st.sampled_from(NEARS))
def test_symbols_that_are_near_stand_for_values_that_are(chunk: np.ndarray, near: int) -> None:
    """Also across the gaps that a map leaves out."""
    values = find_map(chunk, near)
    if values is None:
        return
    table = values.table()
    symbols = to_symbols(chunk, values)
    for off in (-(near // values.step), near // values.step):
        moved = np.clip(symbols.astype(np.int64) + off, 0, values.top)
        assert loss(table[moved], table[symbols]) <= near


@pytest.mark.parametrize("level", LEVELS)
def test_loss_makes_chunks_smaller_each_time(level: str) -> None:
    chunk = anatomy((6, 60, 60), noise=9.0)
    sizes = [len(Calv(level, near).encode(chunk, spec_of(chunk))) for near in (0, 1, 2, 4, 8)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < 0.75 * sizes[0]


def test_predicting_from_what_is_decoded_is_smaller() -> None:
    """Where errors are no more than a few widths: the reason for it."""
    chunk = anatomy((8, 64, 64), noise=6.0)
    chunk[:, :20] = 0
    closed = len(Calv("small", 9).encode(chunk, spec_of(chunk)))
    opened = len(Calv("small").encode(to_lattice(chunk, 9), spec_of(chunk)))
    assert closed < opened


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("background", [0, 1, 70, 254, 255])
def test_the_background_stays(level: str, background: int) -> None:
    """Of air in a mask a viewer sees that it has become 2."""
    chunk = np.clip(anatomy((4, 40, 40), noise=9.0) // 3, 0, 255).astype("u1")
    chunk[:, :18] = background
    found = decoded(chunk, level, 6)
    same = found[:, :17] == background
    assert same.mean() > 0.99
    assert loss(found, chunk) <= 6


@pytest.mark.parametrize("level", LEVELS)
def test_padding_far_below_stays_far_below(level: str) -> None:
    chunk = anatomy((3, 30, 30))
    chunk[:, :, :6] = -3024
    payload = Calv(level, 5).encode(chunk, spec_of(chunk))
    found = Calv(near=5).decode(payload, spec_of(chunk))
    assert loss(found, chunk) <= 5
    assert len(payload) < 1.2 * len(Calv(level, 5).encode(anatomy((3, 30, 30)), spec_of(chunk)))


@pytest.mark.parametrize("level", LEVELS)
def test_what_lies_further_apart_than_the_error_is_exact(level: str) -> None:
    chunk = anatomy((3, 20, 20)) * 16
    assert decoded(chunk, level, 15).tobytes() == chunk.tobytes()


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_lost_is_the_lossless_codec(level: str) -> None:
    chunk = anatomy((3, 20, 20))
    assert Calv(level, 0).encode(chunk, spec_of(chunk)) == Calv(level).encode(chunk, spec_of(chunk))
    assert Calv(level, 0).fidelity is Fidelity.LOSSLESS
    assert Calv(level, 1).fidelity is Fidelity.BOUNDED


def test_the_parameter_is_left_out_where_nothing_is_lost() -> None:
    assert Calv().params() == {}
    assert Calv(near=3).params() == {"near": 3}
    assert build("calv", {}) == Calv()
    assert build("calv", {"near": 3}) == Calv(near=3)


@pytest.mark.parametrize("params", [{"near": 0}, {"near": -1}, {"near": 65536}, {"near": 1.0},
                                    {"near": True}, {"level": "fast"}])  # fmt: skip
def test_other_parameters_are_refused(params: dict[str, object]) -> None:
    with pytest.raises(CodecError) as caught:
        build("calv", params)
    assert caught.value.rule == "CDC-6"


def test_a_payload_that_lost_more_is_refused() -> None:
    chunk = anatomy((3, 20, 20))
    payload = Calv("small", 4).encode(chunk, spec_of(chunk))
    with pytest.raises(DecodeError, match="more than 3"):
        Calv(near=3).decode(payload, spec_of(chunk))


def test_floats_come_as_integers() -> None:
    """Exactly if they are some, else through a window."""
    whole = anatomy((3, 20, 20)).astype("<f4")
    assert Calv(near=2).refuses(spec_of(whole)) is not None
    for chunk, most in ((whole, 2), (whole / 7, 2.5 * whole.max() / 7 / 65535 + 1e-5)):
        values = Values(float(chunk.min()), float(chunk.max()), whole=chunk is whole)
        pipeline = Pipeline.fitting(Calv("small", 2), spec_of(chunk), values)
        found = pipeline.decode(pipeline.encode(chunk, spec_of(chunk)), spec_of(chunk))
        assert 0 < np.abs(found - chunk).max() <= most


def test_wide_ranges_are_stored() -> None:
    """Unless the loss makes them narrow enough."""
    chunk = np.random.default_rng(2).integers(0, 1 << 17, (2, 200, 200)).astype("<i4") * 5
    assert decoded(chunk, "small", 4).tobytes() == chunk.tobytes()
    assert 0 < loss(decoded(chunk, "small", 9), chunk) <= 9


def test_ladders_have_every_small_error() -> None:
    rungs = [rung.near for rung in Calv.ladder(Values(0, 4095, whole=True))]
    assert rungs[:257] == list(range(257))
    assert rungs[-1] <= 4095
    assert all(after < 1.03 * before for before, after in itertools.pairwise(rungs[64:]))
