"""The lossy codec of ours: laws, what its page says, and what is special about it."""

from __future__ import annotations

import importlib.util
import json
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mroi.codecs import ChunkSpec
from mroi.codecs.calv import coder
from mroi.codecs.ebb import Ebb, fitting, slab, start
from mroi.codecs.ebb.bands import plan
from mroi.codecs.ebb.header import fraction_bits, parse_header
from mroi.codecs.ebb.wavelet import NAMES, analyse, synthesise
from mroi.errors import CodecError, DecodeError
from mroi.testing import CodecSuite

SPEC = Path(__file__).resolve().parents[2] / "spec"
VECTORS = sorted((SPEC / "vectors" / "codecs" / "ebb").glob("*.bin"))


class TestEbb(CodecSuite):
    codecs = (Ebb(), Ebb(step=8))
    largest = 12


def load_reference() -> ModuleType:
    """Return the decoder that was written from the page of the specification."""
    found = importlib.util.spec_from_file_location("reference_ebb", SPEC / "reference" / "ebb.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


reference = load_reference()


def head(shape: tuple[int, ...], noise: float = 3.0, seed: int = 0) -> np.ndarray:
    """Return two tissues in air, a little noisy."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.sqrt(z**2 / 4 + y**2 + x**2)
    signal = np.where(radius < 0.8, 120 + 40 * np.cos(5 * x + 3 * y), 0) + 50 * (radius < 0.4)
    return np.abs(signal + np.random.default_rng(seed).normal(0, noise, shape))


def chunk_of(shape: tuple[int, ...], dtype: str, volumes: int = 1) -> tuple[Any, ChunkSpec]:
    parts = [head((shape[0] // volumes, *shape[1:]), seed=seed) for seed in range(volumes)]
    chunk = np.concatenate(parts).clip(0, 127).astype(dtype)
    return chunk, ChunkSpec(shape, chunk.dtype, 8 * chunk.itemsize, volumes)


# --- the page ---


def by_reference(payload: bytes, spec: ChunkSpec) -> bytes:
    kind, size = spec.dtype.kind, spec.dtype.itemsize
    values = reference.decode(payload, spec.shape, kind, size, spec.volumes)
    return np.array(values, spec.dtype).tobytes()


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_the_reference_decodes_the_vectors(path: Path) -> None:
    record = json.loads(path.with_suffix(".json").read_text("utf-8"))
    spec = ChunkSpec(tuple(record["shape"]), np.dtype(record["dtype"]), record["bits"])
    assert by_reference(path.read_bytes(), spec).hex() == record["decoded"]


@settings(deadline=None, max_examples=12)
@given(
    st.tuples(st.integers(1, 7), st.integers(1, 14), st.integers(1, 14)),
    st.sampled_from(["u1", "<i2", "<f4", "<i4"]),
    st.sampled_from([0.5, 4.0, 30.0]),
    st.integers(1, 3),
)
def test_the_reference_decodes_whatever_is_encoded(
    shape: tuple[int, int, int], dtype: str, step: float, volumes: int
) -> None:
    shape = (shape[0] * volumes, *shape[1:])
    chunk, spec = chunk_of(shape, dtype, volumes)
    payload = Ebb(step).encode(chunk, spec)
    assert Ebb().decode(payload, spec).tobytes() == by_reference(payload, spec)


encode_slabs = slab.encode


def with_other_wavelet(symbols: Any, top: int, step: int, *_: object, **options: Any) -> Any:
    return encode_slabs(symbols, top, step, (2, 3), 1, **options)


def test_the_reference_knows_both_wavelets_the_filter_and_series(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What an encoder chooses rarely, chosen for it."""
    taps = np.random.default_rng(0).integers(-40, 40, (48, 22))
    for mode in (1, 4):
        count = int(fitting.GROUPS[mode - 1][-1]) + 1
        monkeypatch.setattr(slab, "fit_taps", lambda *_, m=mode, c=count: (m, taps[:c].copy()))
        monkeypatch.setattr(slab, "encode", with_other_wavelet)
        chunk, spec = chunk_of((6, 11, 13), "<i4", 3)
        payload = bytearray(Ebb(2).encode(chunk, spec))
        monkeypatch.undo()
        at = payload.index(bytes([0, 0x45]), 4)  # wavelet and levels
        payload[at : at + 2] = bytes([1, 0x23])
        decoded = Ebb().decode(bytes(payload), spec)
        assert decoded.tobytes() == by_reference(bytes(payload), spec)
        assert parse_header(memoryview(payload)[1:], chunk.size, spec.dtype)[0].mode == mode  # type: ignore[union-attr]


def test_the_start_is_that_of_the_page() -> None:
    data = (Path(start.__file__).with_name("start.bin")).read_bytes()
    assert data == (SPEC / "codecs" / "ebb-start.bin").read_bytes()
    page = (SPEC / "codecs" / "ebb.md").read_text("utf-8")
    assert f"{len(data)} signed bytes\nwith the CRC-32 `{zlib.crc32(data):08x}`" in page


# --- promises ---


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", "<u2", "<i4", "<u4", "<f4"])
def test_the_step_sets_the_error(dtype: str) -> None:
    chunk, spec = chunk_of((8, 40, 41), dtype)
    errors = []
    for step in (4.0, 16.0):
        decoded = Ebb(step).decode(Ebb(step).encode(chunk, spec), spec)
        errors.append(np.sqrt(np.mean((decoded.astype(float) - chunk) ** 2)))
    assert errors[0] < 0.35 * 4 + 0.3
    assert errors[0] < errors[1] < 0.35 * 16


def test_wide_integers_and_floats_keep_their_range() -> None:
    wide = np.array([-(2**31), 2**31 - 1, 0, 5] * 60, "<i4").reshape(3, 8, 10)
    spec = ChunkSpec(wide.shape, wide.dtype, 32)
    decoded = Ebb(1e3).decode(Ebb(1e3).encode(wide, spec), spec)
    assert np.abs(decoded.astype(float) - wide).max() < 1e6
    floats = np.linspace(-3e38, 3e38, 240, dtype="<f4").reshape(3, 8, 10)
    spec = ChunkSpec(floats.shape, floats.dtype, 32)
    decoded = Ebb(1e30).decode(Ebb(1e30).encode(floats, spec), spec)
    assert np.isfinite(decoded).all()
    assert np.abs(decoded.astype(float) - floats).max() < 1e35


def test_small_steps_of_wide_ranges_are_coded() -> None:
    """The lowest band then has more bits than the coder of numbers takes."""
    chunk = (head((6, 12, 14)) * 380).clip(0, 65535).astype("<u2")
    chunk[0, 0, 0], chunk[5, 11, 13] = 0, 65535
    spec = ChunkSpec(chunk.shape, chunk.dtype, 16)
    for step in (2.0, 16.0):
        payload = Ebb(step).encode(chunk, spec)
        assert payload[0] == 1
        decoded = Ebb().decode(payload, spec)
        assert decoded.tobytes() == by_reference(payload, spec)
        assert np.abs(decoded.astype(float) - chunk).max() < 4 * step


def test_nan_has_no_transform() -> None:
    spec = ChunkSpec((1, 2, 2), np.dtype("<f4"), 32)
    with pytest.raises(CodecError, match="NaN and infinity"):
        Ebb().encode(np.full(spec.shape, np.nan, "<f4"), spec)


def test_noise_is_never_much_larger_than_raw() -> None:
    rng = np.random.default_rng(3)
    for dtype in ("u1", "<u2"):
        chunk = np.frombuffer(rng.bytes(20 * 21 * 22 * np.dtype(dtype).itemsize), dtype)
        chunk = chunk.reshape(20, 21, 22)
        spec = ChunkSpec(chunk.shape, chunk.dtype, 8 * chunk.itemsize)
        for step in (1e-3, 1.0, 50.0):
            payload = Ebb(step).encode(chunk, spec)
            assert len(payload) <= 1.01 * chunk.nbytes
            error = np.abs(Ebb().decode(payload, spec).astype(float) - chunk)
            assert error.max() <= 4 * step + 1


def test_a_hot_voxel_stays_where_it_is() -> None:
    chunk = np.zeros((9, 20, 21), "<u2")
    chunk[4, 7, 11] = 60000
    spec = ChunkSpec(chunk.shape, chunk.dtype, 16)
    decoded = Ebb(500).decode(Ebb(500).encode(chunk, spec), spec).astype(int)
    assert np.abs(decoded - chunk).max() < 2000


def test_encoding_gives_the_same_bytes_again() -> None:
    chunk, spec = chunk_of((6, 30, 31), "u1")
    assert Ebb(5).encode(chunk, spec) == Ebb(5).encode(chunk, spec)


def test_series_that_hardly_change_take_less_than_their_volumes() -> None:
    volume = head((4, 20, 22), noise=0)
    noise = np.random.default_rng(1).normal(0, 1, (6, *volume.shape))
    chunk = (volume + noise).clip(0, 255).astype("u1").reshape(-1, 20, 22)
    sizes = [
        len(Ebb(6).encode(chunk, ChunkSpec(chunk.shape, chunk.dtype, 8, volumes)))
        for volumes in (6, 1)
    ]
    assert sizes[0] < 0.8 * sizes[1]


# --- reduced resolutions ---


def test_levels_look_like_the_chunk() -> None:
    z, y, x = np.indices((8, 64, 80))
    chunk = (120 + 50 * np.cos(y / 20) * np.sin(x / 17) + 2 * z).astype("u1")
    spec = ChunkSpec(chunk.shape, chunk.dtype, 8)
    payload = Ebb(2).encode(chunk, spec)
    for level in (1, 2, 3, 4):
        small = Ebb().decode_level(payload, spec, level).astype(float)
        assert np.abs(small - chunk[:, :: 2**level, :: 2**level]).mean() < 0.1 * chunk.std()


def test_a_level_reads_the_first_sections_only() -> None:
    chunk, spec = chunk_of((8, 64, 80), "u1")
    payload = Ebb(2).encode(chunk, spec)
    header, at = parse_header(memoryview(payload)[1:], chunk.size, spec.dtype)  # type: ignore[misc]
    ends = np.cumsum([at + 1, *(2 * size for size in header.sizes)])
    for level, sections in ((1, 2), (2, 1), (5, 1)):
        intact = Ebb().decode_level(payload, spec, level).tobytes()
        damaged = bytearray(payload)
        damaged[ends[sections] + 8] ^= 255
        assert Ebb().decode_level(bytes(damaged), spec, level).tobytes() == intact
        damaged = bytearray(payload)
        damaged[ends[sections] - 9] ^= 255
        with pytest.raises(DecodeError):
            Ebb().decode_level(bytes(damaged), spec, level)


# --- parts ---


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(*[st.integers(1, 40)] * 3), st.integers(0, 15), st.integers(0, 15),
    st.sampled_from(range(len(NAMES))),
)  # fmt: skip
def test_the_transform_is_undone(
    shape: tuple[int, int, int], deep: int, flat: int, wavelet: int
) -> None:
    how = plan(shape, deep, flat)
    voxels = np.random.default_rng(1).uniform(0, 255, shape).astype(np.float32)
    coefficients = voxels.copy()
    analyse(coefficients, how, wavelet)
    fraction = fraction_bits(255)
    values = np.rint(coefficients * (1 << fraction)).astype(np.int32)
    synthesise(values, how, wavelet)
    assert np.abs(values / (1 << fraction) - voxels).max() < 0.1


@given(st.tuples(*[st.integers(1, 50)] * 3), st.integers(0, 15), st.integers(0, 15))
def test_bands_fill_the_slab(shape: tuple[int, int, int], deep: int, flat: int) -> None:
    how = plan(shape, deep, flat)
    filled = np.zeros(shape, int)
    for band in how.bands:
        filled[tuple(slice(a, a + n) for a, n in zip(band.origin, band.shape, strict=True))] += 1
    assert (filled == 1).all()
    assert (np.diff([band.section for band in how.bands]) >= 0).all()


def test_the_taps_lessen_the_error() -> None:
    rng = np.random.default_rng(0)
    features, errors = rng.normal(0, 9, (4000, 22)), rng.normal(0, 1, 4000)
    wanted = features @ rng.normal(0, 0.2, 22) + errors
    rows = np.column_stack([features, wanted])
    products = np.zeros((48, 23, 23))
    products[5] = np.tril(rows.T @ rows)
    mode, taps = fitting.fit_taps(products, 10_000)
    left = wanted - features @ taps[fitting.GROUPS[mode - 1][5]] / 256
    assert (left**2).sum() < 1.05 * (errors**2).sum()
    assert coder.GROUP == 21  # as the page says
