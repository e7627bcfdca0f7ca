"""calv: exact for everything, hardly ever larger, and safe on any bytes."""

import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mroi.codecs.base import ChunkSpec, Codec
from mroi.codecs.calv import Calv, codec
from mroi.codecs.calv.fast import decoder, encoder
from mroi.codecs.calv.values import symbols_in
from mroi.errors import CodecError, DecodeError
from mroi.testing import CodecSuite

LEVELS = ("fast", "small", "max")
RAW, FAST, SMALL, MAX, LABELS = range(5)
LOSSY = 16


class TestCalv(CodecSuite):
    codecs = tuple(Calv(level) for level in LEVELS)


class TestNear(CodecSuite):
    codecs = (Calv(near=2), Calv("small", 3))

    @pytest.fixture(autouse=True)
    def _use(self, never_fast: None) -> None:
        pass

    def max_error(self, codec: Codec, spec: ChunkSpec) -> float:
        assert isinstance(codec, Calv)
        return codec.near

    def test_foreign_parameters_are_refused(self, codec: Codec) -> None:
        """`near` may be missing: then nothing was lost. See test_calv_near for what it may be."""
        TestCalv().test_foreign_parameters_are_refused(Calv())


class TestAdaptive(CodecSuite):
    codecs = (Calv("small"), Calv("max"))

    @pytest.fixture(autouse=True)
    def _use(self, never_fast: None) -> None:
        pass


@pytest.fixture
def never_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `small` and `max` keep to their own kind, where `fast` would win in a chunk so small."""
    monkeypatch.setattr("mroi.codecs.calv.codec._LITTLE", 0)


def spec_of(chunk: np.ndarray) -> ChunkSpec:
    return ChunkSpec(chunk.shape, chunk.dtype, 8 * chunk.dtype.itemsize)


def round_trip(chunk: np.ndarray, level: str) -> bytes:
    payload = Calv(level).encode(chunk, spec_of(chunk))
    back = Calv().decode(payload, spec_of(chunk))
    assert back.dtype == chunk.dtype
    assert back.tobytes() == chunk.tobytes()
    return payload


def anatomy(shape: tuple[int, int, int], dtype: str = "<i2", noise: float = 3.0) -> np.ndarray:
    """Return a head of two tissues in noisy air."""
    rng = np.random.default_rng(5)
    z, y, x = (np.linspace(-1, 1, n).reshape([-1 if k == i else 1 for k in range(3)])
               for i, n in enumerate(shape))  # fmt: skip
    radius = np.sqrt(z**2 / 4 + y**2 + x**2)
    signal = np.where(radius < 0.8, 400 + 200 * np.cos(5 * x + 3 * y), 0) + 150 * (radius < 0.4)
    return np.abs(signal + rng.normal(0, noise, shape)).astype(dtype)


def blobs(shape: tuple[int, int, int], dtype: str = "<u2") -> np.ndarray:
    """Return a label map of a dozen balls with labels far apart."""
    rng = np.random.default_rng(8)
    grid = np.indices(shape).reshape(3, -1).T
    labels = np.zeros(len(grid), dtype)
    for label in range(1, 13):
        centre = rng.uniform(0, shape)
        labels[((grid - centre) ** 2).sum(axis=1) < rng.uniform(9, 200)] = 17 * label
    return labels.reshape(shape)


def one_hot(info: np.iinfo) -> np.ndarray:
    """Return a chunk of the lowest value with one of the highest."""
    chunk = np.full((5, 12, 13), info.min, info.dtype)
    chunk[2, 5, 6] = info.max
    return chunk


EXTREMES = {
    "constant": lambda i: np.full((4, 9, 7), i.max, i.dtype),
    "hot voxel": one_hot,
    "extremes in turn": lambda i: np.resize(np.array([i.min, i.max], i.dtype), (3, 8, 9)),
    "down from the top": lambda i: i.max - np.arange(99, dtype=i.dtype).reshape(3, 3, 11),
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("case", EXTREMES)
@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8"])
def test_extremes_are_exact(case: str, dtype: str, level: str) -> None:
    chunk = EXTREMES[case](np.iinfo(dtype))
    assert len(round_trip(chunk, level)) <= chunk.nbytes + 1


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", ["u1", "<u2", "<i4", "<f4", "<f8"])
def test_noise_grows_by_one_byte_at_most(dtype: str, level: str) -> None:
    data = np.random.default_rng(3).bytes(6 * 40 * 41 * np.dtype(dtype).itemsize)
    chunk = np.frombuffer(data, dtype).reshape(6, 40, 41)
    assert len(round_trip(chunk, level)) <= chunk.nbytes + 1


@pytest.mark.parametrize("level", LEVELS)
@settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_shape_is_exact(level: str, never_fast: None, data: st.DataObject) -> None:
    """Axes of one voxel, lists of voxels, colours; few values and many."""
    shape = data.draw(st.tuples(*[st.integers(1, 12)] * 3, st.sampled_from([1, 3, 4])))
    highest = data.draw(st.sampled_from([1, 2, 40, 255]))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    steps = rng.integers(0, 1 + data.draw(st.sampled_from([1, 2, 9])), shape)
    chunk = (np.cumsum(steps, axis=2) % (highest + 1)).astype(np.uint8)
    round_trip(chunk if shape[3] > 1 else chunk[..., 0], level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("zeros", [0, 7])
def test_a_background_chunk_is_a_list(level: str, zeros: int) -> None:
    voxels = anatomy((8, 40, 40)).reshape(1, 1, -1)
    chunk = np.where(np.arange(voxels.size) % 9 < zeros, 0, voxels).astype("<i2")
    assert len(round_trip(chunk, level)) < chunk.nbytes * 0.8


ROWS = [(3, 15, 40), (3, 16, 44), (2, 17, 45), (4, 33, 61), (1, 50, 7), (3, 40, 1), (2, 1, 90),
        (5, 48, 44), (9, 32, 32), (1, 1, 1024), (1, 1, 1025), (1, 1, 20_000)]  # fmt: skip
LARGE = [(3, 47, 1000), (4, 33, 1300), (5, 16, 3000), (6, 17, 1300)]  # not one gapless


@pytest.mark.parametrize("shape", [*ROWS, *LARGE])
@pytest.mark.parametrize("spread", [2, 30_000])
def test_rows_decoded_in_lockstep_are_exact(shape: tuple[int, int, int], spread: int) -> None:
    """Fewer rows than lanes, rows left over, narrow planes, lists; small errors and large ones."""
    symbols = wandering(shape, spread)
    section = memoryview(encoder.encode(symbols, 59_999))
    for count in range(1, shape[0] + 1):
        found = np.zeros((count, *shape[1:]), np.uint16)
        assert decoder.decode(section, symbols_in(found), found.shape, shape[0], 59_999)
        assert (found == symbols[:count]).all()


@pytest.mark.parametrize("run", [2, 3, 5])
@pytest.mark.parametrize("shape", [(2, 15, 40), (3, 16, 44), (3, 33, 20), (2, 17, 1300)])
def test_runs_decoded_in_lockstep_are_exact(shape: tuple[int, int, int], run: int) -> None:
    """Three predictors in turn, the last of them for several slices or for none."""
    symbols = wandering((shape[0] * run, *shape[1:]), 9)
    section = memoryview(encoder.encode(symbols, 59_999, run))
    found = np.zeros(symbols.shape, np.uint16)
    assert decoder.decode(section, symbols_in(found), found.shape, len(found), 59_999, run)
    assert (found == symbols).all()


def wandering(shape: tuple[int, ...], spread: int) -> np.ndarray:
    """Return symbols below 60000 that differ from their neighbours by so much, or not at all."""
    rng = np.random.default_rng(7)
    steps = rng.integers(-spread, spread, shape) * (rng.random(shape) < 0.5)
    return (np.cumsum(steps, axis=2) % 60_000).astype(np.int32)


def test_levels_grow_smaller() -> None:
    chunk = anatomy((12, 64, 60))
    sizes = [len(round_trip(chunk, level)) for level in LEVELS]
    assert sizes == sorted(sizes, reverse=True)
    noise_floor = chunk.size * (math.log2(3.0) + 2.05) / 8  # of the Gauss noise that was added
    assert noise_floor < sizes[-1] < sizes[0] < 1.25 * noise_floor


def test_the_slice_before_helps() -> None:
    """Copies of one noisy slice cost little more than the first."""
    chunk = np.repeat(anatomy((1, 64, 60), noise=20.0), 8, axis=0)
    alone = len(round_trip(np.ascontiguousarray(chunk[:1]), "fast"))
    assert len(round_trip(chunk, "fast")) < 1.5 * alone


@pytest.mark.parametrize("level", LEVELS)
def test_labels_are_smaller_than_zstd(level: str) -> None:
    import zstandard

    chunk = blobs((12, 60, 50))
    payload = round_trip(chunk, level)
    shuffled = chunk.view(np.uint8).reshape(-1, 2).T.tobytes()
    assert payload[0] == LABELS
    assert len(payload) < len(zstandard.compress(shuffled, 19))


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<i4", "<u8", "<i8"])
def test_integers_in_disguise_cost_no_more(dtype: str) -> None:
    """Wide types that hold small integers, also scaled ones, code like 16-bit integers."""
    plain = anatomy((4, 30, 30))
    small = len(round_trip(plain, "fast"))
    assert len(round_trip((plain * 10).astype(dtype), "fast")) < small + 16


@pytest.mark.parametrize("value", [0.5, -0.0, math.nan, math.inf, 2.0**25 + 2])
def test_floats_that_are_no_integers_are_stored(value: float) -> None:
    chunk = np.zeros((2, 9, 9), "<f4")
    chunk[1, 2, 3] = value
    assert round_trip(chunk, "fast")[0] == RAW
    assert "calv" in str(Calv.find_misfit(chunk))


def test_wide_ranges_are_stored() -> None:
    chunk = np.random.default_rng(1).integers(-(2**31), 2**31, (2, 60, 60)).astype("<i4")
    assert round_trip(chunk, "fast")[0] == RAW
    assert "65536" in str(Calv.find_misfit(chunk))
    assert Calv.find_misfit(anatomy((2, 9, 9))) is None


@pytest.mark.parametrize("dtype", ["<f2", "<c8", "V16", "?"])
def test_other_types_are_refused(dtype: str) -> None:
    assert "calv takes integers" in str(Calv().refuses(ChunkSpec((1, 4, 4), np.dtype(dtype), 8)))


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(CodecError, match="level"):
        Calv("tiny")


def attempt(data: bytes, spec: ChunkSpec, count: int) -> np.ndarray | None:
    """Return the first slices, or None if the payload is refused as it should be."""
    try:
        return Calv(near=20).decode_prefix(data, spec, count)
    except DecodeError as exc:
        if exc.rule != "CHK-8":
            raise
        return None


@pytest.mark.parametrize(
    ("level", "near", "kind"),
    [
        ("fast", 0, FAST),
        ("small", 0, SMALL),
        ("max", 0, MAX),
        ("fast", 0, LABELS),
        ("small", 20, LOSSY | SMALL),
        ("max", 20, LOSSY | MAX),
    ],
)
def test_damage_raises_or_gives_a_chunk(level: str, near: int, kind: int, never_fast: None) -> None:
    """Every byte changed, every length cut, in all parts of a payload; prefixes too."""
    chunk = blobs((3, 20, 25)) if kind == LABELS else anatomy((3, 20, 25))
    spec = spec_of(chunk)
    codec = Calv(level, near)
    payload = codec.encode(chunk, spec)
    assert payload[0] == kind
    rng = np.random.default_rng(2)
    for place in range(len(payload)):
        damaged = bytearray(payload)
        damaged[place] ^= int(rng.integers(1, 256))
        for data in (bytes(damaged), payload[:place]):
            for count in (1, 3):
                part = attempt(data, spec, count)
                assert part is None or part.shape == (count, 20, 25)
    for place in range(len(payload)):
        with pytest.raises(DecodeError):
            codec.decode(payload[:place], spec)


@settings(deadline=None)
@given(
    kind=st.sampled_from([FAST, SMALL, MAX, LABELS, LOSSY | SMALL, LOSSY | MAX]),
    body=st.binary(max_size=120),
    top=st.integers(40, 65535),
    near=st.integers(1, 20),
)
def test_any_section_is_harmless(kind: int, body: bytes, top: int, near: int) -> None:
    """A sound head before any bytes at all gives a chunk or a DecodeError."""
    spec = ChunkSpec((2, 5, 6), np.dtype("<u2"), 16)
    low, high = top & 127 | 128, top >> 7 & 127 | 128
    values = bytes([0, 1, low, high, top >> 14, 0]) + (bytes([near]) if kind & LOSSY else b"")
    head = bytes([kind]) + (60).to_bytes(6, "little") + values
    data = head + len(body).to_bytes(4, "little") + body
    part = attempt(data, spec, 2)
    assert part is None or part.shape == (2, 5, 6)


def test_a_chunk_of_another_shape_is_refused() -> None:
    chunk = anatomy((4, 10, 10))
    payload = Calv().encode(chunk, spec_of(chunk))
    with pytest.raises(DecodeError):
        Calv().decode(payload, ChunkSpec((5, 10, 10), chunk.dtype, 16))


@pytest.mark.parametrize(("level", "kind"), [("small", FAST), ("max", SMALL)])
def test_planes_too_large_for_matrices_take_a_leaner_kind(
    level: str, kind: int, never_fast: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunk = anatomy((3, 40, 40))
    payload = round_trip(chunk, level)
    needed = codec._memory(codec._LEVELS[level], chunk.shape, is_series=False)
    monkeypatch.setattr(codec, "_FREE", needed - 1 - 3 * chunk.nbytes)
    assert round_trip(chunk, level)[0] == kind
    assert round_trip(chunk[:1], level)[0] == payload[0]
    with pytest.raises(DecodeError, match="too large"):
        Calv().decode(payload, spec_of(chunk))


@pytest.mark.parametrize("shape", [(1, 1, 1 << 25), (2, 1 << 23, 1), (2, 1, 1 << 22)])
@pytest.mark.parametrize("kind", [SMALL, MAX, LABELS])
def test_a_few_bytes_cannot_ask_for_memory(kind: int, shape: tuple[int, int, int]) -> None:
    """Long rows, and many short ones, cost far more than their voxels."""
    head = bytes([kind]) + math.prod(shape).to_bytes(6, "little") + bytes([0, 1, 9, 0])
    payload = head + (20).to_bytes(4, "little") + bytes(20)
    with pytest.raises(DecodeError, match="too large" if kind != LABELS else None):
        Calv().decode(payload, ChunkSpec(shape, np.dtype("u1"), 8))


@pytest.mark.parametrize("kind", [FAST, SMALL, MAX, LABELS])
def test_the_code_stays_below_the_range(kind: int) -> None:
    """Words that leave the code at or above the range, where all results would be out of theirs."""
    rng = np.random.default_rng(kind)
    spec = ChunkSpec((2, 8, 64), np.dtype("<u2"), 16)
    for _ in range(300):
        words = rng.integers(0, 65536, 12) * (rng.random(12) < 0.6)
        words[rng.random(12) < 0.3] = 65535
        words[:3] = 65535
        section = words.astype("<u2").tobytes()
        if kind == FAST:
            section = len(section).to_bytes(4, "little") + section
        head = bytes([kind, 0, 4, 0, 0, 0, 0, 0, 1, 7, 0])
        assert attempt(head + len(section).to_bytes(4, "little") + section, spec, 2) is None


def test_threads_share_nothing() -> None:
    chunks = [anatomy((6, 30 + k, 31), noise=1 + k) for k in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda chunk: round_trip(chunk, "small"), chunks))
    assert together == [round_trip(chunk, "small") for chunk in chunks]


def in_a_new_process(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_nothing_is_compiled_before_it_is_needed() -> None:
    code = """
import sys, numpy as np
from mroi.codecs.calv import Calv
from mroi.codecs.base import ChunkSpec
codec = Calv("small")
codec.implementation(), codec.default_slices, codec.probe()
codec.refuses(ChunkSpec((1, 2, 2), np.dtype("<u2"), 16))
print("numba" in sys.modules)
"""
    assert in_a_new_process(code).strip() == "False"


@pytest.mark.slow
def test_the_first_run_says_that_it_prepares(tmp_path: object) -> None:
    code = """
import logging, sys, numpy as np
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s: %(message)s")
from mroi.codecs.calv import Calv
from mroi.codecs.base import ChunkSpec
chunk = (np.arange(3 * 9 * 9, dtype="<u2") % 97).reshape(3, 9, 9)
spec = ChunkSpec(chunk.shape, chunk.dtype, 16)
payload = Calv().encode(chunk, spec)
"""
    said = "mroi.codecs: preparing the codec, which takes some 10 seconds, once\n"
    assert in_a_new_process(code, NUMBA_CACHE_DIR=str(tmp_path)) == said
    assert in_a_new_process(code, NUMBA_CACHE_DIR=str(tmp_path)) == ""


def test_many_gaps_in_a_small_chunk_are_no_reason_to_store_it():
    """240 values below 600: the gaps between them are not worth leaving out."""
    rng = np.random.default_rng(2)
    chunk = np.cumsum(rng.integers(-9, 10, (4, 18, 19)), axis=2).astype("<i2") * 3
    chunk[0, 0, :2] = 600, 601
    assert Calv().encode(chunk, spec_of(chunk))[0] == 1
    back = Calv().decode(Calv().encode(chunk, spec_of(chunk)), spec_of(chunk))
    assert np.array_equal(back, chunk)
