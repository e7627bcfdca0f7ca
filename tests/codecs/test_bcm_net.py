"""`bcm-net`: the laws of codecs, exactness, damage, other machines, and its frequencies."""

from __future__ import annotations

import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from mroi.codecs import ChunkSpec, Pipeline, Values, build, parse
from mroi.codecs.neural import mixture, models, rans
from mroi.codecs.neural.bcm import BcmNet
from mroi.codecs.neural.bcm_model import model_of
from mroi.codecs.neural.bcm_network import Network, initial
from mroi.codecs.neural.bcm_shapes import Config
from mroi.codecs.neural.checkpoint import import_checkpoint
from mroi.codecs.neural.mixture import Mixtures, Tables
from mroi.codecs.neural.trained import forget
from mroi.errors import CodecError, CodecUnavailableError, DecodeError
from tests.codecs.few_examples import FewExamples, few

MODELS = Path(__file__).resolve().parents[2] / "spec" / "vectors" / "models"


class TestBcmNet(FewExamples):
    """The laws, with fewer examples: a slice takes 20 ms whatever its size."""

    codecs = (BcmNet("tiny-bcm-net"),)
    largest = 12

    def test_bombs_are_refused(self, codec: Any) -> None:
        """As the law says, with a large chunk of fewer voxels than it takes."""
        large, small = anatomy((4, 64, 64), 8), anatomy((1, 8, 8), 8)
        with pytest.raises(DecodeError):
            codec.decode(codec.encode(large, spec_of(large)), spec_of(small))


def anatomy(shape: tuple[int, ...], bits: int, noise: float = 2) -> np.ndarray:
    place, top = np.indices(shape), 2**bits - 1
    disc = (place[1] - shape[1] / 2) ** 2 + (place[2] - shape[2] / 2) ** 2 < (shape[1] / 3) ** 2
    shade = np.where(disc, 0.6 + 0.2 * np.sin(place[1] / 9 + place[0] / 3), 0.1) * top
    shade += np.random.default_rng(0).normal(0, noise, shape)
    return np.clip(np.rint(shade), 0, top).astype("u1" if bits == 8 else "<u2")


def spec_of(chunk: np.ndarray, volumes: int = 1) -> ChunkSpec:
    return ChunkSpec(chunk.shape, chunk.dtype, 8 * chunk.dtype.itemsize, volumes)


def coded(chunk: np.ndarray) -> bytes:
    return BcmNet("tiny-bcm-net").encode(chunk, spec_of(chunk))


# -- exactness -------------------------------------------------------------------------------------


@few
@given(data=st.data())
def test_any_voxels_come_back(data: st.DataObject) -> None:
    slices, rows, columns = (data.draw(st.integers(1, most)) for most in (10, 9, 9))
    bits = data.draw(st.integers(1, 16))
    dtype = np.dtype("<u2") if bits > 8 else np.dtype(data.draw(st.sampled_from(["u1", "<u2"])))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    chunk = rng.integers(0, 2**bits, (slices, rows, columns)).astype(dtype)
    volumes = data.draw(st.sampled_from([n for n in range(1, slices + 1) if slices % n == 0]))
    codec, spec = BcmNet("tiny-bcm-net"), spec_of(chunk, volumes)
    payload = codec.encode(chunk, spec)
    decoded = codec.decode(payload, spec)
    assert decoded.dtype == dtype
    assert (decoded == chunk).all()
    start = data.draw(st.integers(0, slices - 1))
    stop = data.draw(st.integers(start + 1, slices))
    assert (codec.decode_range(payload, spec, start, stop) == chunk[start:stop]).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2, 1), (63, 64), (129, 257)])
def test_every_size_of_slice_is_taken(size: tuple[int, int]) -> None:
    codec, chunk = BcmNet("tiny-bcm-net"), anatomy((3, *size), 12)
    assert (codec.decode(coded(chunk), spec_of(chunk)) == chunk).all()


def test_it_pays() -> None:
    """Even the tiny network, trained for a minute, takes off half of the bits, noise included."""
    chunk = anatomy((8, 48, 48), 8)
    in_noise = 0.5 * np.log2(2 * np.pi * np.e * 4)
    assert in_noise < 8 * len(coded(chunk)) / chunk.size < 4.2


def test_a_slice_is_decoded_by_those_it_refers_to(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, chunk = BcmNet("tiny-bcm-net"), anatomy((9, 12, 10), 8)
    payload, spec, prior = coded(chunk), spec_of(chunk), Network.prior
    calls: list[int] = []
    monkeypatch.setattr(Network, "prior", lambda *args: calls.append(0) or prior(*args))
    for k, expected in ((0, 1), (8, 2), (4, 3), (3, 5), (7, 5)):
        calls.clear()
        assert (codec.decode_range(payload, spec, k, k + 1) == chunk[k : k + 1]).all()
        assert len(calls) == expected


def test_volumes_refer_to_no_other() -> None:
    codec, chunk = BcmNet("tiny-bcm-net"), anatomy((6, 12, 10), 8)
    spec = spec_of(chunk, 2)
    payload = bytearray(codec.encode(chunk, spec))
    payload[-1] ^= 1
    assert (codec.decode_range(bytes(payload), spec, 0, 3) == chunk[:3]).all()
    with pytest.raises(DecodeError):
        codec.decode(bytes(payload), spec)


def test_volumes_of_other_types_go_through_filters() -> None:
    chunk = anatomy((3, 20, 20), 12).astype("<i2") - 1024
    spec = ChunkSpec(chunk.shape, chunk.dtype, 16)
    pipeline = Pipeline.fitting(BcmNet("tiny-bcm-net"), spec, Values(-1024.0, 3071.0, whole=True))
    assert [step.name for step in pipeline.filters] == ["bias"]
    assert (pipeline.decode(pipeline.encode(chunk, spec), spec) == chunk).all()


def test_what_it_does_not_take_is_said() -> None:
    codec = BcmNet("tiny-bcm-net")
    for shape, dtype, message in (
        ((1, 4, 4, 3), "u1", "uint8 and uint16, gray, not uint8 RGB"),
        ((1, 4, 4), "<i2", "not int16"),
        ((8, 1025, 1024), "u1", "slices of at most 1,048,576 voxels"),
    ):
        kind = np.dtype(dtype)
        assert message in str(codec.refuses(ChunkSpec(shape, kind, 8 * kind.itemsize)))
    assert codec.refuses(ChunkSpec((8, 1024, 1024), np.dtype("u1"), 8)) is None


# -- damage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "kind"), [((2, 3, 3), 0), ((1, 8, 8), 1)], ids=["raw base", "coded base"]
)
def test_no_damage_gives_other_voxels(shape: tuple[int, ...], kind: int) -> None:
    """A byte of the base layer may stand for nothing; any other is found."""
    chunk = anatomy(shape, 8, 9)
    codec, spec = BcmNet("tiny-bcm-net", 200.0), spec_of(chunk)
    payload = codec.encode(chunk, spec)
    size = int.from_bytes(payload[1:5], "little")
    assert payload[5] == kind
    assert size < len(payload) < 300
    for at in range(len(payload)):
        damaged = bytearray(payload)
        damaged[at] ^= 0xFF if at % 2 else 0x01
        if 5 <= at < 5 + size:
            try:
                assert (codec.decode(bytes(damaged), spec) == chunk).all()
            except DecodeError:
                continue
        else:
            with pytest.raises(DecodeError):
                codec.decode(bytes(damaged), spec)
    for length in range(len(payload)):
        with pytest.raises(DecodeError):
            codec.decode(payload[:length], spec)


def test_exceptions_that_are_none_are_refused() -> None:
    chunk = anatomy((1, 6, 6), 8)
    codec, payload, spec = BcmNet("tiny-bcm-net"), coded(chunk), spec_of(chunk)
    at = 5 + int.from_bytes(payload[1:5], "little")
    size, crc, count = struct.unpack_from("<IIH", payload, at)
    assert count == 0
    code = payload[at + 10 :]
    for place, value, message in (
        (0, 1, "next to no border"), (0, 2, "next to no border"),
        (9 * 36, 1, "no number that there is"), (2**32 - 1, 1, "no number that there is"),
    ):  # fmt: skip
        section = struct.pack("<IIHIB", size + 5, crc, 1, place, value)
        with pytest.raises(DecodeError, match=message):
            codec.decode(payload[:at] + section + code, spec)


# -- other machines --------------------------------------------------------------------------------


def test_a_machine_that_computes_otherwise_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, chunk = BcmNet("tiny-bcm-net"), anatomy((1, 20, 20), 8)
    payload, mixtures = coded(chunk), Network.mixtures
    for wrong in (1.02, float("nan")):
        monkeypatch.setattr(Network, "mixtures", lambda *args, w=wrong: mixtures(*args) * w)
        with pytest.raises(DecodeError, match=r"voxels are not those|code|no finite"):
            codec.decode(payload, spec_of(chunk))


def test_numbers_next_to_borders_are_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all means on a border of the grid, a decoder a little off reads what was written."""
    codec, chunk = BcmNet("tiny-bcm-net"), anatomy((1, 20, 20), 8)
    mixtures = Network.mixtures

    def on_border(nudge: float) -> Any:
        def give(*args: Any) -> torch.Tensor:
            found = mixtures(*args).clone()
            found[:, 3:6] = torch.floor(found[:, 3:6] * 256) / 256 + (0.5 + nudge) / 256
            return found

        return give

    monkeypatch.setattr(Network, "mixtures", on_border(0))
    payload = coded(chunk)
    at = 5 + int.from_bytes(payload[1:5], "little")
    assert struct.unpack_from("<IIH", payload, at)[2] == 3 * 400
    for nudge in (1e-9, -1e-9):
        monkeypatch.setattr(Network, "mixtures", on_border(nudge))
        assert (codec.decode(payload, spec_of(chunk)) == chunk).all()


def test_an_encoder_that_cannot_decode_what_it_wrote_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    mixtures, calls = Network.mixtures, []

    def drifting(*args: Any) -> torch.Tensor:
        calls.append(0)
        return mixtures(*args) + len(calls)

    monkeypatch.setattr(Network, "mixtures", drifting)
    with pytest.raises(CodecError, match="what was written does not decode here"):
        coded(anatomy((1, 20, 20), 8))


# -- frequencies -----------------------------------------------------------------------------------


def drawn(rng: np.random.Generator, bits: int, places: int) -> Mixtures:
    """Return mixtures of any kind, extreme ones among them."""
    numbers = rng.normal(0, 1, (3, 4, places)) * np.exp(rng.normal(1, 3, (3, 1, places)))
    grid, _ = mixture.on_grid(numbers)
    return Mixtures(grid, rng.integers(0, 2**bits, places).astype(np.int32), bits)


def test_frequencies_are_a_partition() -> None:
    """All values of a voxel have something of 2**24, one after the other, and nothing is left."""
    tables, rng = Tables.frozen(), np.random.default_rng(0)
    for bits, places in ((8, 40), (12, 6), (16, 2)):
        many, count = drawn(rng, bits, places), 2**bits
        for n in range(places):
            one = replace(
                many,
                numbers=np.repeat(many.numbers[:, :, n : n + 1], count, 2),
                lossy=np.repeat(many.lossy[n : n + 1], count),
            )
            starts, widths = mixture.intervals(one, np.arange(count, dtype=np.int32), tables)
            assert widths.min() >= 1
            assert (starts == np.cumsum(widths) - widths).all()
            assert starts[-1] + widths[-1] == 1 << 24


def test_frequencies_are_those_of_logistics() -> None:
    numbers = np.array([[[0.5], [-1.0]], [[3.25], [-20.0]], [[0.5], [2.0]]])
    grid, _ = mixture.on_grid(numbers.reshape(3, 2, 1))
    values = np.arange(256, dtype=np.int32)
    one = Mixtures(np.repeat(grid, 256, 2), np.full(256, 100, np.int32), 8)
    _, widths = mixture.intervals(one, values, Tables.frozen())
    weights = np.exp(numbers[0, :, 0]) / np.exp(numbers[0, :, 0]).sum()
    borders = (np.arange(257) - 100.5)[:, None]
    below = 1 / (1 + np.exp(-(borders - numbers[1, :, 0]) / np.exp(numbers[2, :, 0])))
    below = below @ weights
    below[0], below[-1] = 0, 1
    np.testing.assert_allclose(widths / 2**24, np.diff(below), rtol=2e-3, atol=3 / 2**24)


@few
@given(seed=st.integers(0, 1000), bits=st.integers(8, 16))
def test_symbols_come_back(seed: int, bits: int) -> None:
    tables, rng = Tables.frozen(), np.random.default_rng(seed)
    many = drawn(rng, bits, 50)
    voxels = rng.integers(0, 2**bits, 50).astype(np.int32)
    decoder = rans.Decoder(
        memoryview(rans.encode_intervals(*mixture.intervals(many, voxels, tables)))
    )
    assert (mixture.decode(decoder, many, tables) == voxels).all()
    decoder.finish()


def test_tables_are_checked() -> None:
    good = Tables.frozen()
    for name, wrong in (
        ("weights", np.zeros(1024, np.int32)), ("weights", good.weights[:-1]),
        ("weights", good.weights.astype(np.int64)), ("weights", good.weights + np.int32(1)),
        ("rates", good.rates * 0), ("rates", good.rates * 1024), ("logistic", good.logistic[::-1]),
        ("logistic", good.logistic * np.int32(2)), ("logistic", good.logistic // 2**9 * 2**10),
        ("logistic", np.where(np.arange(2049) < 9, 0, 1 << 28).astype(np.int32)),
    ):  # fmt: skip
        with pytest.raises(CodecError):
            replace(good, **{name: np.ascontiguousarray(wrong)})


# -- models ----------------------------------------------------------------------------------------


def test_a_model_is_known_by_its_id() -> None:
    codec = parse("bcm-net:model=tiny-bcm-net")
    identity = str(codec.params()["model"])
    assert models.is_id(identity)
    assert codec.params() == {"model": identity}
    assert parse(f"bcm-net:model={identity[:12]}") == codec
    assert build("bcm-net", codec.params()) == codec


def test_another_model_is_refused_by_name(tmp_path: Path) -> None:
    chunk = anatomy((1, 9, 9), 8)
    payload, spec = coded(chunk), spec_of(chunk)
    with pytest.raises(CodecUnavailableError, match=r"the model 0{64} is needed, and not here"):
        build("bcm-net", {"model": "0" * 64}).decode(payload, spec)
    with pytest.raises(CodecError, match="tiny-tcm"):
        BcmNet("tiny-tcm")
    with pytest.raises(CodecError, match="must be an id"):
        build("bcm-net", {"model": "tiny-bcm-net"})
    config = Config(8, 16, 3, 1, 2)
    header, kept = model_of({k: v.numpy() for k, v in initial(config).items()}, config, 4.0, {})
    models.save(tmp_path / "other.mroi-model", header, kept)
    with pytest.raises(DecodeError):
        BcmNet(str(tmp_path / "other.mroi-model")).decode(payload, spec)
    with pytest.raises(CodecUnavailableError, match="bcm-net needs a model"):
        BcmNet().encode(chunk, spec)


def test_damaged_models_are_refused(tmp_path: Path) -> None:
    header = models.find("tiny-bcm-net")
    arrays = load_file(header.path)
    chunk = anatomy((1, 9, 9), 8)
    for number, (name, wrong) in enumerate(
        (
            ("base.step", np.array([np.nan])), ("base.step", np.array([0.0])),
            ("tables.rates", arrays["tables.rates"] * 0), ("tables.weights", np.zeros(2, "i4")),
            ("i2cg.ctx_fusion_head_wo_ref.0.bias", np.ones(16, "f4")),
        )
    ):  # fmt: skip
        path = tmp_path / f"{number}.mroi-model"
        models.save(path, header, {**arrays, name: wrong})
        with pytest.raises(CodecError, match=path.name):
            BcmNet(str(path)).encode(chunk, spec_of(chunk))


def test_the_step_is_the_models_or_given() -> None:
    chunk = anatomy((2, 40, 40), 8)
    codec = BcmNet("tiny-bcm-net")
    sizes = []
    for step in (0.0, 4.0, 64.0):
        other = BcmNet("tiny-bcm-net", step)
        assert other.params() == codec.params()
        payload = other.encode(chunk, spec_of(chunk))
        assert (codec.decode(payload, spec_of(chunk)) == chunk).all()
        sizes.append(int.from_bytes(payload[1:5], "little"))
    assert sizes[0] == sizes[1] > 3 * sizes[2]
    for step in (-1.0, 2.0**17, float("nan"), True, "4"):
        with pytest.raises(CodecError):
            BcmNet("tiny-bcm-net", step)  # type: ignore[arg-type]


def test_without_pytorch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    chunk = anatomy((2, 9, 9), 8)
    codec = BcmNet("tiny-bcm-net")
    payload = codec.encode(chunk, spec_of(chunk))
    forget()
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "mroi.codecs.neural.bcm_model")
    for work in (lambda: codec.decode(payload, spec_of(chunk)),
                 lambda: codec.encode(chunk, spec_of(chunk))):  # fmt: skip
        with pytest.raises(CodecUnavailableError, match=r"mroi\[neural\]"):
            work()


def test_a_checkpoint_becomes_a_model(tmp_path: Path) -> None:
    """In the sizes of the authors, whatever it is wrapped in; it is tried before it is kept."""
    path, target = tmp_path / "Axial.pth", tmp_path / "axial.mroi-model"
    state = initial(Config(), 5)
    torch.save({"network": {f"module.{k}": tensor for k, tensor in state.items()}}, path)
    header = import_checkpoint(path, "bcm-net", target)
    assert models.find(str(target)) == header
    assert Config.from_json(header.config) == Config()
    chunk = anatomy((2, 8, 8), 8)
    codec = BcmNet(str(target))
    assert (codec.decode(codec.encode(chunk, spec_of(chunk)), spec_of(chunk)) == chunk).all()
    torch.save({k: tensor for k, tensor in state.items() if "tail" not in k}, path)
    with pytest.raises(
        CodecError, match=r"Axial.pth is no checkpoint of bcm-net: .*tail.* not there"
    ):
        import_checkpoint(path, "bcm-net", tmp_path / "other")
    assert not (tmp_path / "other").exists()
