"""`tcm` and `tcm-auxt`: the laws of codecs, the network against numbers, and other machines."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from mroi.codecs import ChunkSpec, Pipeline, Values, build, parse
from mroi.codecs.neural import models
from mroi.codecs.neural.network import Network
from mroi.codecs.neural.shapes import Config, tensors
from mroi.codecs.neural.tcm import Tcm, TcmAuxt
from mroi.errors import CodecError, CodecUnavailableError, DecodeError
from tests.codecs import neural_reference as reference
from tests.codecs.few_examples import FewExamples

DATA = Path(__file__).resolve().parents[1] / "data"
MODELS = Path(__file__).resolve().parents[2] / "spec" / "vectors" / "models"


class TestTcm(FewExamples):
    codecs = (Tcm("tiny-tcm", "neighbours"),)


class TestTcmAuxt(FewExamples):
    codecs = (TcmAuxt("tiny-tcm-auxt"),)


def picture(shape: tuple[int, ...], top: int = 255) -> np.ndarray:
    place = np.indices(shape)
    disc = (place[1] - shape[1] / 2) ** 2 + (place[2] - shape[2] / 2) ** 2 < (shape[1] / 3) ** 2
    shade = 0.3 + 0.2 * np.sin(place[1] / 9) + 0.01 * place[0]
    return np.rint(top * np.where(disc, shade + 0.3, 0.1)).astype("u1" if top < 256 else "<u2")


# -- what comes out --------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", [Tcm("tiny-tcm"), TcmAuxt("tiny-tcm-auxt")], ids=["tcm", "auxt"])
def test_pictures_come_back_nearly(codec: Tcm) -> None:
    """Even the tiny networks, which were trained for seconds, give pictures."""
    chunk = picture((2, 129, 257))
    spec = ChunkSpec(chunk.shape, chunk.dtype, 8)
    payload = codec.encode(chunk, spec)
    error = codec.decode(payload, spec).astype(float) - chunk
    assert 20 * math.log10(255 / math.sqrt((error**2).mean())) > 15
    assert len(payload) < chunk.size / 5
    rgb = np.repeat(chunk[..., None], 3, 3)
    spec = ChunkSpec(rgb.shape, rgb.dtype, 8)
    error = codec.decode(codec.encode(rgb, spec), spec).astype(float) - rgb
    assert 20 * math.log10(255 / math.sqrt((error**2).mean())) > 15


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (63, 64), (64, 64), (65, 63), (129, 257)])
def test_every_size_of_slice_is_taken(size: tuple[int, int]) -> None:
    codec = Tcm("tiny-tcm")
    chunk = picture((1, *size), 4095)
    spec = ChunkSpec(chunk.shape, chunk.dtype, 12)
    assert codec.decode(codec.encode(chunk, spec), spec).shape == chunk.shape


def test_a_slice_is_decoded_without_those_after_it() -> None:
    for channels, sections in (("equal", 5), ("neighbours", 2)):
        codec = Tcm("tiny-tcm", channels)
        chunk = picture((5, 20, 20))
        spec = ChunkSpec(chunk.shape, chunk.dtype, 8)
        payload = codec.encode(chunk, spec)
        at = [0]
        while at[-1] < len(payload):
            at.append(at[-1] + 16 + int.from_bytes(payload[at[-1] : at[-1] + 4], "little"))
        assert len(at) == sections + 1
        damaged = bytearray(payload)
        damaged[-1] ^= 1
        whole = codec.decode(payload, spec)
        assert codec.decode_prefix(bytes(damaged), spec, 2).tobytes() == whole[:2].tobytes()
        with pytest.raises(DecodeError):
            codec.decode(bytes(damaged), spec)


def test_volumes_go_through_filters() -> None:
    values = Values(-1024.0, 3071.0, whole=True)
    spec = ChunkSpec((1, 40, 40), np.dtype("<i2"), 16)
    pipeline = Pipeline.fitting(Tcm("tiny-tcm"), spec, values)
    assert [step.name for step in pipeline.filters] == ["window"]
    chunk = (picture((1, 40, 40), 4095).astype(int) - 1024).astype("<i2")
    decoded = pipeline.decode(pipeline.encode(chunk, spec), spec)
    assert np.abs(decoded.astype(float) - chunk).mean() < 600


# -- other machines --------------------------------------------------------------------------------


def test_a_machine_that_computes_otherwise_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Symbols are checked before anything is made of them, voxels before they are given."""
    codec = Tcm("tiny-tcm")
    chunk = picture((1, 60, 60))
    spec = ChunkSpec(chunk.shape, chunk.dtype, 8)
    payload = codec.encode(chunk, spec)
    parameters, synthesise = Network.parameters, Network.synthesise

    def other_scales(*args: Any) -> Any:
        mean, scale, support = parameters(*args)
        return mean, scale * 1.5, support

    monkeypatch.setattr(Network, "parameters", other_scales)
    with pytest.raises(DecodeError, match=r"symbols|code"):
        codec.decode(payload, spec)
    monkeypatch.setattr(Network, "parameters", parameters)
    monkeypatch.setattr(Network, "synthesise", lambda *args: synthesise(*args) + 0.01)
    with pytest.raises(DecodeError, match="the voxels are not those that were written"):
        codec.decode(payload, spec)


def test_numbers_next_to_borders_are_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all scales on a border of the table, a decoder a little off reads what was written."""
    codec = Tcm("tiny-tcm")
    chunk = picture((1, 60, 60))
    spec = ChunkSpec(chunk.shape, chunk.dtype, 8)
    codec.decode(codec.encode(chunk, spec), spec)  # so that the model is there
    from mroi.codecs.neural.trained import _models

    border = float(_models[codec.model].borders[3])
    parameters = Network.parameters

    def on_border(nudge: float) -> Any:
        def give(*args: Any) -> Any:
            mean, scale, support = parameters(*args)
            return mean, torch.full_like(scale, border * (1 + nudge)), support

        return give

    monkeypatch.setattr(Network, "parameters", on_border(0))
    payload = codec.encode(chunk, spec)
    assert int.from_bytes(payload[12:14], "little") == 6 * 4 * 4
    expected = codec.decode(payload, spec)
    for nudge in (1e-13, -1e-13):
        monkeypatch.setattr(Network, "parameters", on_border(nudge))
        assert codec.decode(payload, spec).tobytes() == expected.tobytes()


def test_an_encoder_that_cannot_decode_what_it_wrote_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, calls = Tcm("tiny-tcm"), []
    parameters = Network.parameters

    def drifting(*args: Any) -> Any:
        calls.append(0)
        mean, scale, support = parameters(*args)
        return mean, scale * (1 + len(calls)), support

    monkeypatch.setattr(Network, "parameters", drifting)
    chunk = picture((1, 60, 60))
    with pytest.raises(CodecError, match="what was written does not decode here"):
        codec.encode(chunk, ChunkSpec(chunk.shape, chunk.dtype, 8))


# -- the network -----------------------------------------------------------------------------------


def test_names_and_shapes_are_those_of_the_checkpoints() -> None:
    """The digests are of `name shape` lines of the authors' networks, N = 64, without constants."""
    for auxiliary, count, expected in (
        (False, 1230, "bc330d9ba388684fa33d46617afb77d5f977c9845b703333ae77ef1060afd215"),
        (True, 1274, "fcb9a01f4264da1d265a7b46fc1744f379b503b0ed76bbc54b4a59c6eae474fe"),
    ):
        shapes = tensors(Config(), auxiliary=auxiliary)
        lines = "".join(f"{name} {list(shape)}\n" for name, shape in sorted(shapes.items()))
        assert len(shapes) == count
        assert hashlib.sha256(lines.encode()).hexdigest() == expected


def formula(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return weights that nobody has to store."""
    count = math.prod(shape)
    wave = np.sin(0.7 * np.arange(count) + zlib.crc32(name.encode()) % 997)
    last = name.rpartition(".")[2]
    if last == "beta":
        wave = np.full(count, math.sqrt(1 + 2**-36))
    elif last == "gamma":
        wave = np.sqrt(0.1 * np.eye(shape[0]) + 2**-36).ravel()
    elif last == "relative_position_params":
        wave = 0.5 * wave
    elif len(shape) > 1:
        wave = wave * 2 * math.sqrt(2 * shape[0] / count)
    else:
        wave = 1 + 0.1 * wave if last == "weight" else 0.05 * wave
    return torch.from_numpy(wave.astype(np.float32).reshape(shape)).double()


def test_scales_and_means_are_those_of_the_authors_program() -> None:
    """Numbers of the authors' program, in double precision, N = 64, weights by formula."""
    numbers = np.load(DATA / "tcm_numbers.npz")
    needed = ("h_mean_s.", "h_scale_s.", "atten_mean.0.", "atten_scale.0.", "cc_mean_transforms.0.")
    weights = {
        name: formula(name, shape)
        for name, shape in tensors(Config(), auxiliary=False).items()
        if name.startswith((*needed, "cc_scale_transforms.0."))
    }
    network = Network(Config(), weights)
    hyper = torch.from_numpy(np.rint(numbers["z"]))[None]
    with torch.inference_mode():
        mean, scale, _ = network.parameters(0, network.synthesise_hyper(hyper), [])
    np.testing.assert_allclose(mean[0, ::16].numpy(), numbers["means"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(scale[0, ::16].numpy(), numbers["scales"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("auxiliary", [False, True], ids=["tcm", "auxt"])
def test_transforms_are_those_of_a_second_program(*, auxiliary: bool) -> None:
    name = "tiny-tcm-auxt" if auxiliary else "tiny-tcm"
    header = models.find(name)
    config = Config.from_json(header.config)
    shapes = tensors(config, auxiliary=auxiliary)
    weights = {k: v.astype(np.float64) for k, v in load_file(header.path).items() if k in shapes}
    network = Network(
        config, {k: torch.from_numpy(v) for k, v in weights.items()}, auxiliary=auxiliary
    )
    x = np.random.default_rng(0).random((3, 64, 64))
    with torch.inference_mode():
        latent = network.analyse(torch.from_numpy(x)[None])
        back = network.synthesise(latent)[0].numpy()
    expected = reference.analyse(x, weights, config, auxiliary=auxiliary)
    np.testing.assert_allclose(latent[0].numpy(), expected, rtol=1e-9, atol=1e-11)
    expected = reference.synthesise(expected, weights, config, auxiliary=auxiliary)
    np.testing.assert_allclose(back, expected, rtol=1e-9, atol=1e-11)


# -- models ----------------------------------------------------------------------------------------


def test_a_model_is_known_by_its_id() -> None:
    codec = parse("tcm:model=tiny-tcm")
    identity = str(codec.params()["model"])
    assert models.is_id(identity)
    assert parse(f"tcm:model={MODELS / 'tiny-tcm.mroi-model'}") == codec
    assert parse(f"tcm:model={identity}") == codec
    assert parse(f"tcm:model={identity[:12]}") == codec
    assert build("tcm", codec.params()) == codec


def test_another_model_is_refused_by_name() -> None:
    codec = build("tcm", {"model": "0" * 64, "channels": "equal"})
    chunk = picture((1, 9, 9))
    spec = ChunkSpec(chunk.shape, chunk.dtype, 8)
    payload = Tcm("tiny-tcm").encode(chunk, spec)
    with pytest.raises(CodecUnavailableError, match=r"the model 0{64} is needed, and not here"):
        codec.decode(payload, spec)
    auxt = str(parse("tcm-auxt:model=tiny-tcm-auxt").params()["model"])
    with pytest.raises(CodecError, match="is for tcm-auxt"):
        build("tcm", {"model": auxt, "channels": "equal"}).decode(payload, spec)


def test_the_file_named_last_encodes(tmp_path: Path) -> None:
    """Files of one id decode the same; their encoders may differ."""
    arrays = load_file(MODELS / "tiny-tcm.mroi-model")
    arrays["g_a.0.conv1.bias"] += np.float32(0.3)
    models.save(tmp_path / "other.mroi-model", models.find("tiny-tcm"), arrays)
    chunk = picture((1, 60, 60))
    spec = ChunkSpec(chunk.shape, chunk.dtype, 8)
    first = Tcm("tiny-tcm").encode(chunk, spec)
    other = Tcm(str(tmp_path / "other.mroi-model"))
    assert other == Tcm("tiny-tcm")
    assert Tcm("tiny-tcm").encode(chunk, spec) == first
    assert Tcm(str(tmp_path / "other.mroi-model")).encode(chunk, spec) != first
    assert Tcm("tiny-tcm").encode(chunk, spec) == first


@pytest.mark.parametrize("model", ["tiny-tcm", "/etc/passwd", "../x.mroi-model", 7, None, ["a"]])
def test_a_file_names_no_path(model: object) -> None:
    with pytest.raises(CodecError) as caught:
        build("tcm", {"model": model, "channels": "equal"})
    assert caught.value.rule == "CDC-6"


def test_without_a_model_it_says_how_to_name_one() -> None:
    chunk = picture((1, 9, 9))
    with pytest.raises(CodecUnavailableError, match="tcm needs a model"):
        Tcm().encode(chunk, ChunkSpec(chunk.shape, chunk.dtype, 8))


def test_sizes_are_checked() -> None:
    good: dict[str, Any] = json.loads(json.dumps(Config().to_json()))
    assert Config.from_json(good) == Config()
    for name, value in (
        ("width", 0), ("width", 2**40), ("width", 1.5), ("width", True), ("width", [64]),
        ("slices", 7), ("support", 9), ("window", 7), ("heads", [8] * 5), ("heads", 8),
        ("heads", [7] * 6), ("depths", [0] * 6), ("context", [2]), ("attention", 129),
    ):  # fmt: skip
        with pytest.raises(CodecError):
            Config.from_json({**good, name: value})
    with pytest.raises(CodecError):
        Config.from_json({**good, "more": 1})
