"""`sirenmri`: the laws of codecs, integers against a second program, and the fit."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mroi
from mroi.codecs import ChunkSpec, Pipeline, Values
from mroi.codecs.neural import sine
from mroi.codecs.neural.sine import ONE, TURN, Shape, Sine, coordinates, finest
from mroi.codecs.neural.siren import SirenMri
from mroi.errors import CodecError, DecodeError
from tests.codecs.few_examples import FewExamples
from tests.extras import needs

DATA = Path(__file__).resolve().parents[1] / "data"
VECTORS = Path(__file__).resolve().parents[2] / "spec" / "vectors" / "codecs" / "sirenmri"


@needs("neural")
class TestSirenMri(FewExamples):
    """The laws, with short fits and few of them."""

    codecs = (SirenMri(width=5, steps=8), SirenMri(layers=1, rate=2, steps=4, bits=4))

    def test_ladders_go_from_fine_to_coarse(self, codec: Any, monkeypatch: Any) -> None:
        ladder = SirenMri.ladder
        monkeypatch.setattr(
            SirenMri,
            "ladder",
            classmethod(lambda cls, values: [cls(r.rate, steps=150) for r in ladder(values)]),
        )
        super().test_ladders_go_from_fine_to_coarse(codec)


def ball(shape: tuple[int, ...], top: int = 255) -> np.ndarray:
    place = np.indices(shape)
    middle = sum(((place[a] - shape[a] / 2) / shape[a]) ** 2 for a in range(3))
    shade = 0.5 + 0.2 * np.sin(place[1] / 5) * np.cos(place[2] / 6) + 0.1 * np.sin(place[0] / 2)
    return np.rint(top * np.where(middle < 0.16, shade, 0.1)).astype("u1" if top < 256 else "<u2")


def psnr(decoded: np.ndarray, chunk: np.ndarray) -> float:
    error = ((decoded.astype(float) - chunk) ** 2).mean()
    return 20 * math.log10(np.ptp(chunk.astype(float))) - 10 * math.log10(max(error, 1e-9))


# -- integers --------------------------------------------------------------------------------------


def any_network(seed: int, shape: Shape) -> Sine:
    rng = np.random.default_rng(seed)
    exponents = tuple(int(e) for e in rng.integers(4, 12, shape.layers + 1))
    sizes = shape.matrices
    weights = tuple(rng.integers(-900, 901, size).astype(np.int32) for size in sizes)
    biases = tuple(rng.integers(-9000, 9001, size[0]).astype(np.int32) for size in sizes)
    return Sine(shape, (*exponents[:-1], 4), weights, biases)


def second_program(
    network: Sine, extent: tuple[int, int, int], k: int, j: int, i: int
) -> list[int]:
    """Return a voxel of each volume, in Python's integers, as the page says."""
    x = [
        (2 * at - (n - 1)) * 2**14 // (n - 1) if n > 1 else 0
        for at, n in zip((k, j, i), extent, strict=True)
    ]
    for layer, e in enumerate(network.exponents):
        weights, biases = network.weights[layer].tolist(), network.biases[layer].tolist()
        sums = [
            sum(w * a for w, a in zip(row, x, strict=True)) + 1024 * b
            for row, b in zip(weights, biases, strict=True)
        ]
        if layer < network.shape.layers:
            phases = [(s >> e if e >= 0 else s << -e) % 2**14 for s in sums]
            x = [round(math.sin(2 * math.pi * p / 2**14) * 2**14) for p in phases]
        else:
            x = [min(max((s + (1 << (13 + e)) >> 14 + e), -(2**15)), 2**15 - 1) for s in sums]
    return x


@pytest.mark.parametrize(
    ("shape", "extent"),
    [
        (Shape(3, 9, 1), (3, 4, 5)),
        (Shape(1, 4, 2), (1, 1, 7)),
        (Shape(2, 30, 3), (2, 1, 1)),
        (Shape(4, 3, 1), (1, 90, 90)),
    ],
    ids=str,
)
def test_voxels_are_those_of_a_second_program(shape: Shape, extent: tuple[int, int, int]) -> None:
    network = any_network(3, shape)
    voxels = network.evaluate(extent, 0, extent[0], np.dtype("<i2"))
    assert voxels.shape == (shape.volumes, *extent)
    rng = np.random.default_rng(0)
    for _ in range(40):
        k, j, i = (int(rng.integers(n)) for n in extent)
        assert voxels[:, k, j, i].tolist() == second_program(network, extent, k, j, i)
    for k in range(extent[0]):
        part = network.evaluate(extent, k, k + 1, np.dtype("<i2"))
        assert part.tobytes() == np.ascontiguousarray(voxels[:, k : k + 1]).tobytes()


def test_no_sine_is_near_the_middle_of_two_integers() -> None:
    """So every machine makes the same table, however it computes sines."""
    exact = np.sin(np.arange(TURN) * (2 * math.pi / TURN)) * ONE
    assert np.abs(np.abs(exact - np.floor(exact)) - 0.5).min() > 1e-4


def test_coordinates_are_even() -> None:
    assert coordinates(1).tolist() == [0]
    assert coordinates(2).tolist() == [-ONE, ONE]
    assert coordinates(5).tolist() == [-ONE, -ONE / 2, 0, ONE / 2, ONE]


@given(st.floats(1e-12, 1e12), st.integers(4, 12))
def test_weights_fit_their_bits(largest: float, bits: int) -> None:
    exponent = finest(largest, bits)
    if -13 < exponent < 30:
        assert 2 ** (bits - 2) <= largest * 2.0**exponent * (1 + 1e-12) <= 2 ** (bits - 1) + 1


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 12), st.integers(1, 3))
def test_networks_survive_the_file(seed: int, layers: int, width: int, volumes: int) -> None:
    network = any_network(seed, Shape(layers, width, volumes))
    payload = network.to_bytes(seed)
    again, crc = Sine.from_bytes(memoryview(payload), volumes)
    assert (again.shape, again.exponents, crc) == (network.shape, network.exponents, seed)
    for one, other in zip(
        network.weights + network.biases, again.weights + again.biases, strict=True
    ):
        assert np.array_equal(one, other)


def test_broken_networks_are_refused() -> None:
    """With the CRC made right again: what it guards is checked all the same."""
    payload = bytearray(any_network(0, Shape(2, 6, 1)).to_bytes(0))
    for place, value, match in (
        (4, 0, "layers"), (4, 17, "layers"), (4, 255, "layers"),
        (6, 5, "0 weights|layers|cut short"), (11, 127, "exponent"), (11, 128, "exponent"),
    ):  # fmt: skip
        wrong = bytearray(payload)
        wrong[place] = value
        wrong[:4] = zlib.crc32(wrong[4:]).to_bytes(4, "little")
        with pytest.raises(ValueError, match=match):
            Sine.from_bytes(memoryview(wrong), 1)
    with pytest.raises(ValueError, match="not those that were written"):
        Sine.from_bytes(memoryview(bytes([*payload[:-1], payload[-1] ^ 1])), 1)
    wide = any_network(0, Shape(1, 3, 1))
    wide.weights[0][0, 0] = 1 << 20
    with pytest.raises(ValueError, match="weight is out of range"):
        Sine.from_bytes(memoryview(wide.to_bytes(0)), 1)


def test_voxels_of_another_network_are_refused() -> None:
    network = any_network(0, Shape(2, 6, 1))
    spec = ChunkSpec((2, 5, 5), np.dtype("u1"), 8)
    with pytest.raises(DecodeError, match="voxels are not those that were written"):
        SirenMri().decode(network.to_bytes(12345), spec)


def test_decoding_needs_no_pytorch() -> None:
    """And gives the same with other threads of the library of matrices."""
    program = (
        "import sys, json, hashlib, numpy as np\n"
        "from mroi.codecs import ChunkSpec, build\n"
        "record = json.load(open(sys.argv[1] + '.json'))\n"
        "spec = ChunkSpec(tuple(record['shape']), np.dtype(record['dtype']), record['bits'])\n"
        "chunk = build('sirenmri', {}).decode(open(sys.argv[1] + '.bin', 'rb').read(), spec)\n"
        "assert chunk.tobytes().hex() == record['decoded']\n"
        "assert 'torch' not in sys.modules\n"
    )
    for threads in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", program, str(VECTORS / "001")],
            check=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads},
        )


# -- the fit ---------------------------------------------------------------------------------------


@needs("neural")
def test_a_network_computes_what_the_authors_program_does() -> None:
    """Numbers of the authors' program in binary64: 256 sines, 3 layers, weights by formula."""
    import torch

    from mroi.codecs.neural import fitting

    expected = np.load(DATA / "siren_numbers.npy")
    shape = Shape(3, 256, 1)
    work = fitting._Fit(shape, fitting.Effort(12, 4, None, None, 30.0, 0))
    for k, (out, inside) in enumerate(shape.matrices):
        name = "last_layer.linear" if k == 3 else f"net.{k}.linear"
        bound = math.sqrt(6 / inside) / 30 if k else 1 / inside
        for tensor, part, size in zip(
            work.tensors[2 * k :], ("weight", "bias"), ((out, inside), (out,)), strict=False
        ):
            phase = zlib.crc32(f"{name}.{part}".encode()) % 997
            wave = np.sin(0.7 * np.arange(math.prod(size)) + phase) * bound
            turns = wave.astype(np.float32).astype(np.float64) * (1 if k == 3 else 15 / math.pi)
            tensor.data = torch.from_numpy(turns.reshape(size))
    axes = [np.linspace(-1, 1, n) for n in expected.shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    with torch.no_grad():
        values = work.value(torch.from_numpy(points))[:, 0].numpy()
    np.testing.assert_allclose(values, expected.ravel(), rtol=1e-9)
    work.exponents = fitting._exponents(work)
    network = fitting._integers(work, shape, 0.0, 2.0**19)
    voxels = network.evaluate(expected.shape, 0, len(expected), np.dtype("<i2"))[0]
    assert np.abs(voxels / 2.0**19 - expected).max() < 1e-4


@needs("neural")
def test_a_fit_gives_the_voxels_nearly() -> None:
    chunk = ball((12, 40, 40))
    spec = ChunkSpec(chunk.shape, chunk.dtype, 8)
    codec = SirenMri(rate=0.5, steps=250)
    payload = codec.encode(chunk, spec)
    assert psnr(codec.decode(payload, spec), chunk) > 22
    assert 0.25 < 8 * len(payload) / chunk.size < 0.75  # few weights take more bits


@needs("neural")
@pytest.mark.parametrize("top", [1, 255, 4095, 65535])
@pytest.mark.parametrize("volumes", [1, 3])
def test_ranges_and_volumes_of_all_kinds_come_back(top: int, volumes: int) -> None:
    one = ball((4, 20, 20), top)
    chunk = np.concatenate([one] * volumes)
    spec = ChunkSpec(chunk.shape, chunk.dtype, 16 if top > 255 else 8, volumes)
    codec = SirenMri(width=20, steps=120)
    payload = codec.encode(chunk, spec)
    decoded = codec.decode(payload, spec)
    assert psnr(decoded, chunk) > 14
    assert codec.decode_range(payload, spec, len(chunk) - 2, len(chunk)).tobytes() == (
        decoded[-2:].tobytes()
    )


@needs("neural")
@pytest.mark.parametrize("value", [0, 255])
def test_a_constant_chunk_is_exact(value: int) -> None:
    chunk = np.full((2, 9, 9), value, np.uint8)
    spec = ChunkSpec(chunk.shape, chunk.dtype, 8)
    codec = SirenMri(width=4, steps=8)
    assert codec.decode(codec.encode(chunk, spec), spec).tobytes() == chunk.tobytes()


@needs("neural")
def test_a_target_ends_the_fit_early(caplog: pytest.LogCaptureFixture) -> None:
    chunk = ball((6, 30, 30))
    spec = ChunkSpec(chunk.shape, chunk.dtype, 8)
    start = time.process_time()
    codec = SirenMri(width=24, steps=100_000, psnr=20)
    payload = codec.encode(chunk, spec)
    assert time.process_time() - start < 20
    assert psnr(codec.decode(payload, spec), chunk) > 19.5


@needs("neural")
def test_a_time_ends_the_fit() -> None:
    chunk = ball((6, 30, 30))
    spec = ChunkSpec(chunk.shape, chunk.dtype, 8)
    codec = SirenMri(width=8, seconds=1.5)
    assert codec.encode_seconds(spec) == 1.5
    start = time.monotonic()
    payload = codec.encode(chunk, spec)
    assert 1 < time.monotonic() - start < 10
    assert codec.decode(payload, spec).shape == chunk.shape


@needs("neural")
def test_an_interrupted_fit_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mroi.codecs.neural import fitting

    monkeypatch.setattr(fitting, "kept_in", lambda: tmp_path)
    monkeypatch.setattr(fitting, "_SAVED", 0.0)
    monkeypatch.setattr(fitting, "_SAID", 0.0)
    chunk = ball((4, 20, 20))
    spec = ChunkSpec(chunk.shape, chunk.dtype, 8)
    codec = SirenMri(width=8, steps=300)
    expected = codec.encode(chunk, spec)
    advance = fitting._Fit.advance

    def interrupted(self: Any, *args: Any) -> None:
        if self.step == 130:
            raise KeyboardInterrupt
        advance(self, *args)

    monkeypatch.setattr(fitting._Fit, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        codec.encode(chunk, spec)
    assert [path.name[:4] for path in tmp_path.iterdir()] == ["fit-"]
    monkeypatch.setattr(fitting._Fit, "advance", advance)
    with caplog.at_level(logging.INFO, "mroi.codecs"):
        assert codec.encode(chunk, spec) == expected
    assert "goes on with a fit that was interrupted, at step 100" in caplog.text
    assert " dB  " in caplog.text
    assert list(tmp_path.iterdir()) == []
    (tmp_path / fitting._Kept(chunk[None], codec._shape(spec), codec._effort)._path).write_bytes(
        b"?"
    )
    assert codec.encode(chunk, spec) == expected


def test_the_rate_decides_the_width() -> None:
    spec = ChunkSpec((100, 200, 200), np.dtype("u1"), 8)
    for rate in (0.01, 0.1, 0.5):
        shape = SirenMri(rate)._shape(spec)
        assert 0.95 * rate < shape.weights * 8 / 4e6 <= rate
    assert SirenMri(width=256)._shape(spec) == Shape(3, 256, 1)
    assert SirenMri()._shape(ChunkSpec((1, 1, 1), np.dtype("u1"), 8)) == Shape(3, 4, 1)


@pytest.mark.parametrize(
    "setting",
    [
        {"rate": 0}, {"rate": 9}, {"width": 3}, {"width": 513}, {"layers": 0}, {"bits": 13},
        {"steps": 0}, {"seconds": 0}, {"psnr": 0}, {"frequency": 0}, {"seed": -1}, {"rate": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_settings_are_checked(setting: dict[str, Any]) -> None:
    with pytest.raises(CodecError) as caught:
        SirenMri(**setting)
    assert caught.value.rule == "CDC-6"


@needs("neural")
def test_floats_go_through_a_window() -> None:
    spec = ChunkSpec((3, 20, 20), np.dtype("<f4"), 32)
    chunk = (ball((3, 20, 20)) / 7).astype("<f4")
    values = Values(float(chunk.min()), float(chunk.max()), whole=False)
    pipeline = Pipeline.fitting(SirenMri(width=16, steps=150), spec, values)
    assert psnr(pipeline.decode(pipeline.encode(chunk, spec), spec), chunk) > 18


@needs("neural")
def test_a_slice_of_a_file_is_evaluated_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 3-D and 4-D; what is read is what the whole volume has there."""
    image = np.stack([ball((24, 26, 9)), ball((24, 26, 9))[::-1]], 3)
    codec = SirenMri(width=12, steps=60)
    points: list[int] = []
    evaluate = Sine.evaluate

    def counted(self: Any, extent: Any, start: int, stop: int, dtype: Any) -> Any:
        points.append(stop - start)
        return evaluate(self, extent, start, stop, dtype)

    monkeypatch.setattr(sine.Sine, "evaluate", counted)
    for chunk in ((0, 0, 0, 1), (0, 0, 0, 0)):
        path = tmp_path / "a.mroi"
        mroi.pack(image, path, codec=codec, chunk=chunk, overwrite=True, roi="full")
        with mroi.open(path) as volume:
            whole = np.asarray(volume[:])
        points.clear()
        with mroi.open(path) as volume:
            assert np.array_equal(volume[:, :, 7, 1], whole[:, :, 7, 1])
            assert np.array_equal(volume[3, :, 6:2:-2, 0], whole[3, :, 6:2:-2, 0])
        assert points == [1, 3]
