"""What neural codecs make integers with: the coder, its tables, and exceptions next to borders."""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mroi.codecs.neural import tables
from mroi.codecs.neural.guardband import Exceptions, indexes_of, rounded
from mroi.codecs.neural.rans import LARGEST, Decoder, Table, encode
from mroi.errors import CodecError

NUMBERS = Path(__file__).resolve().parents[1] / "data" / "tcm_numbers.npz"
NORMAL = tables.gaussian(tables.scales(0.11, 64.0, 16))


def cast(*values: object) -> list[np.ndarray]:
    return [np.asarray(value, np.int32) for value in values]


def normal_symbols(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 16, count).astype(np.int32)
    symbols = rng.normal(0, tables.scales(0.11, 64.0, 16)[rows])
    return np.rint(symbols).astype(np.int32), rows


# -- the coder -------------------------------------------------------------------------------------

symbols_and_rows = st.lists(
    st.tuples(
        st.one_of(st.integers(-9, 9), st.integers(1 - LARGEST, LARGEST - 1)), st.integers(0, 15)
    ),
    max_size=60,
)


@settings(deadline=None)
@given(first=symbols_and_rows, second=symbols_and_rows)
def test_the_coder_is_exact(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    parts = []
    for pairs in (first, second):
        symbols, rows = cast([s for s, _ in pairs], [r for _, r in pairs])
        parts.append((symbols, rows, NORMAL))
    decoder = Decoder(memoryview(encode(parts)))
    for symbols, rows, table in parts:
        assert decoder.decode(rows, table).tolist() == symbols.tolist()
    decoder.finish()


def test_the_coder_is_near_the_entropy() -> None:
    symbols, rows = normal_symbols(0, 20000)
    widths = np.diff(NORMAL.cdf, axis=1)
    frequency = widths[rows, symbols - NORMAL.offsets[rows]]
    ideal = -np.log2(frequency / 65536).sum() / 8
    assert len(encode([(symbols, rows, NORMAL)])) < ideal * 1.0005 + 12


def test_codes_that_are_cut_or_longer_are_found() -> None:
    symbols, rows = normal_symbols(1, 200)
    code = encode([(symbols, rows, NORMAL)])
    for wrong in (*(code[:n] for n in range(len(code))), code + bytes(4), b""):
        with pytest.raises(ValueError, match=r"code|state"):
            _decode(wrong, rows)


def test_damage_to_a_code_is_harmless() -> None:
    symbols, rows = normal_symbols(2, 200)
    symbols[::20] = 5000  # escapes
    code = encode([(symbols, rows, NORMAL)])
    for place in range(len(code)):
        damaged = bytearray(code)
        damaged[place] ^= 1 << place % 8
        try:
            decoded = _decode(bytes(damaged), rows)
        except ValueError:
            continue
        assert np.abs(decoded.astype(np.int64)).max() < 1 << 30


def _decode(code: bytes, rows: np.ndarray) -> np.ndarray:
    decoder = Decoder(memoryview(code))
    symbols = decoder.decode(rows, NORMAL)
    decoder.finish()
    return symbols


def test_what_cannot_be_coded_is_refused() -> None:
    with pytest.raises(CodecError, match="too large"):
        encode([(*cast([LARGEST], [0]), NORMAL)])
    with pytest.raises(ValueError, match="table has not"):
        encode([(*cast([0], [16]), NORMAL)])


@pytest.mark.parametrize(
    "table",
    [
        ([[0, 5, 5, 65536]], [4], [0]),  # a bin of nothing
        ([[0, 9, 5, 65536]], [4], [0]),
        ([[1, 5, 9, 65536]], [4], [0]),
        ([[0, 5, 9, 65535]], [4], [0]),
        ([[0, 5, 9, 65536]], [5], [0]),
        ([[0, 65536, 0, 0]], [2], [0]),
        ([[0, 5, 9, 65536]], [4], [1 << 28]),
        ([[0, 5, 9, 65536]], [4, 4], [0]),
        ([0, 5, 9, 65536], [4], [0]),
    ],
)
def test_tables_that_are_none_are_refused(table: tuple[list[int], list[int], list[int]]) -> None:
    with pytest.raises(CodecError):
        Table(*cast(*table))


# -- tables ----------------------------------------------------------------------------------------


def test_tables_are_those_of_compressai() -> None:
    """The numbers were computed by CompressAI 1.2.8 in single precision; ours are in double.

    That moves single units between neighbours in one row of 64, and in a few of 192.
    """
    expected = np.load(NUMBERS)
    normal = tables.gaussian(tables.scales(0.11, 256.0, 64))
    assert normal.cdf.shape == (64, 3133)
    assert normal.offsets.tolist() == expected["gc_offset"].tolist()
    crcs = [
        zlib.crc32(row[:size].tobytes())
        for row, size in zip(normal.cdf, normal.sizes.tolist(), strict=True)
    ]
    assert (np.array(crcs) == expected["gc_crc32"]).sum() == 63
    density = tables.factorized(*initial_density(192))
    frequencies, wanted = (
        np.diff(cdf.astype(np.int64)) for cdf in (density.cdf, expected["eb_cdf"])
    )
    assert (frequencies == wanted).all(axis=1).sum() >= 180
    assert np.abs(frequencies - wanted)[:, :-1].max() <= 1


def initial_density(channels: int) -> tuple[np.ndarray, list, list, list]:
    """Return the density as it begins, with biases by formula: quantiles, matrices, ..."""
    width, matrices, biases, factors = (1, 3, 3, 3, 3, 1), [], [], []
    for k in range(5):
        start = np.float32(math.log(math.expm1(1 / 10**0.2 / width[k + 1])))
        matrices.append(np.full((channels, width[k + 1], width[k]), start).astype(np.float64))
        count = channels * width[k + 1]
        wave = np.sin(
            0.7 * np.arange(count) + zlib.crc32(f"entropy_bottleneck.biases.{k}".encode()) % 997
        )
        bias = (wave * 2 * math.sqrt(2 / width[k + 1])).astype(np.float32)
        biases.append(bias.astype(np.float64).reshape(channels, width[k + 1], 1))
        if k < 4:
            factors.append(np.zeros((channels, width[k + 1], 1)))
    return np.tile(np.array([-10.0, 0, 10]), (channels, 1, 1)), matrices, biases, factors


@given(st.lists(st.floats(0, 1), min_size=2, max_size=300))
def test_every_symbol_has_a_frequency(pmf: list[float]) -> None:
    if sum(math.floor(p * 65536 + 0.5) for p in pmf) == 0:
        with pytest.raises(CodecError, match="without probability"):
            tables.quantized(np.array(pmf))
        return
    cdf = tables.quantized(np.array(pmf))
    assert cdf[0] == 0
    assert cdf[-1] == 65536
    assert (np.diff(cdf) > 0).all()


# -- exceptions ------------------------------------------------------------------------------------

BORDERS = np.array([0.5, 1.0, 4.0])


@given(st.lists(st.sampled_from([0.1, 0.5, 0.7, 1.0, 2.0, 4.0, 9.0]), max_size=20), st.randoms())
def test_indexes_survive_another_machine(values: list[float], random: object) -> None:
    numbers = np.array(values)
    indexes, near = indexes_of(numbers, BORDERS)
    assert indexes.tolist() == [int((number > BORDERS).sum()) for number in values]
    assert near.places.tolist() == [k for k, number in enumerate(values) if number in BORDERS]
    nudged = numbers * (1 + np.array([random.choice((-1, 1)) for _ in values]) * 1e-12)  # type: ignore[attr-defined]
    again, _ = indexes_of(nudged, BORDERS, near)
    assert again.tolist() == indexes.tolist()


def test_without_exceptions_another_machine_differs() -> None:
    numbers = np.array([1.0, 1.0])
    indexes, _ = indexes_of(numbers, BORDERS)
    other, _ = indexes_of(numbers * (1 + 1e-12), BORDERS)
    assert (indexes.tolist(), other.tolist()) == ([1, 1], [2, 2])


@given(st.lists(st.integers(-40, 40), max_size=20), st.randoms())
def test_rounding_survives_another_machine(halves: list[int], random: object) -> None:
    numbers = np.array(halves) / 4
    integers, near = rounded(numbers)
    assert integers.tolist() == [math.floor(half / 4 + 0.5) for half in halves]
    assert near.places.tolist() == [k for k, half in enumerate(halves) if half % 4 == 2]
    nudged = numbers + np.array([random.choice((-1, 1)) for _ in halves]) * 1e-9  # type: ignore[attr-defined]
    again, _ = rounded(nudged, near)
    assert again.tolist() == integers.tolist()


def test_exceptions_are_of_numbers_that_there_are() -> None:
    places, values = np.array([3, 5], np.uint32), np.zeros(2, np.uint8)
    Exceptions(places, values).check(6)
    for wrong, count in ((places, 5), (places[::-1], 6), (places[[0, 0]], 6)):
        with pytest.raises(ValueError, match="exception"):
            Exceptions(wrong, values).check(count)


def test_an_exception_lies_next_to_a_border() -> None:
    """One that does not was never written: a decoder refuses it (MDL-8)."""
    numbers = np.array([0.5 + 1e-9, 3.5 + 1e-4, 7.0])
    for place, value in ((0, 0), (0, 1)):
        known = Exceptions(np.array([place], np.uint32), np.array([value], np.uint8))
        integers, _ = rounded(numbers, known)
        assert integers.tolist() == [value, 4, 7]
    for place, value in ((0, 2), (1, 0), (1, 1), (2, 1)):
        known = Exceptions(np.array([place], np.uint32), np.array([value], np.uint8))
        with pytest.raises(ValueError, match="next to no border"):
            rounded(numbers, known)


def test_exceptions_are_bytes() -> None:
    known = Exceptions(np.array([3, 70000], np.uint32), np.array([1, 0], np.uint8))
    data = known.to_bytes()
    assert data == bytes([3, 0, 0, 0, 0x70, 0x11, 1, 0, 1, 0])
    again, rest = Exceptions.parse(memoryview(data + b"code"), 2)
    assert bytes(rest) == b"code"
    assert again.to_bytes() == data
    with pytest.raises(ValueError, match="cut short"):
        Exceptions.parse(memoryview(data[:-1]), 2)
