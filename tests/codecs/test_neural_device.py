"""Where networks are computed; there is no GPU in tests, so what can be known without one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from mroi.codecs import ChunkSpec, parse
from mroi.codecs.neural import bcm_model, latent
from mroi.codecs.neural.device import device_of, reading_device
from mroi.codecs.neural.siren import SirenMri
from mroi.codecs.neural.trained import forget
from mroi.errors import CodecError, CodecUnavailableError


def test_a_device_is_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto") == device_of("cpu") == reading_device() == "cpu"
    with pytest.raises(CodecUnavailableError, match="sees no GPU with CUDA here"):
        device_of("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of("auto") == device_of("cuda") == "cuda"
    assert device_of("cpu") == reading_device() == "cpu"
    for name, device in (("cpu", "cpu"), ("cuda", "cuda"), ("auto", "cuda"), ("", "cpu")):
        monkeypatch.setenv("MROI_DEVICE", name)
        assert reading_device() == device
    monkeypatch.setenv("MROI_DEVICE", "tpu")
    with pytest.raises(CodecError, match="MROI_DEVICE: device must be cpu, cuda or auto"):
        reading_device()


def picture() -> np.ndarray:
    place = np.indices((2, 40, 60))
    return (100 + 80 * np.sin(place[1] / 5) * np.cos(place[2] / 7)).astype("u1")


CODECS = (
    *(f"{name}:model=tiny-{name}" for name in ("tcm", "tcm-auxt", "bcm-net")),
    "sirenmri:width=6,steps=8",
)


@pytest.fixture
def _elsewhere() -> Iterator[None]:
    """Make tensors that nobody says a device for, on one that computes nothing."""
    with torch.device("meta"):
        yield


@pytest.mark.usefixtures("_elsewhere")
@pytest.mark.parametrize("setting", CODECS)
def test_all_tensors_are_where_the_network_is(setting: str) -> None:
    """One that is not would fail with those that are."""
    codec, chunk = parse(setting), picture()
    forget()  # no model that another test has left
    spec = ChunkSpec(chunk.shape, chunk.dtype, 8)
    assert codec.encode_seconds(spec) > 0
    assert codec.decode(codec.encode(chunk, spec), spec).shape == chunk.shape


@pytest.mark.parametrize("setting", CODECS)
def test_a_device_is_a_setting_of_the_encoder(setting: str) -> None:
    codec: Any = parse(f"{setting},device=auto")
    assert (codec.device, parse(setting).params()) == ("auto", codec.params())
    with pytest.raises(CodecError, match="device must be cpu, cuda or auto, not 'tpu'"):
        parse(f"{setting},device=tpu")


@pytest.mark.parametrize("setting", CODECS[:3])
def test_what_a_device_computes_wrong_is_computed_again(
    setting: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A reader gets the voxels that were written, and is told that the device is of no use."""
    codec, chunk = parse(setting), picture()
    spec = ChunkSpec(chunk.shape, chunk.dtype, 8)
    payload = codec.encode(chunk, spec)
    expected = codec.decode(payload, spec)
    asked: list[str] = []

    def on(self: Any, device: str, **_kind: object) -> Any:
        asked.append(device)
        if device == "cuda":
            raise ValueError("other scales")
        return find(self, "cpu", **_kind)

    cls, name = (bcm_model.Model, "on") if "bcm" in setting else (latent.Model, "_on")
    find = getattr(cls, name)
    monkeypatch.setattr(cls, name, on)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("MROI_DEVICE", "cuda")
    assert codec.decode(payload, spec).tobytes() == expected.tobytes()
    assert {"cpu", "cuda"} == set(asked)
    assert "cuda computes something else than was written" in caplog.text
    asked.clear()
    monkeypatch.setenv("MROI_DEVICE", "cpu")
    codec.decode(payload, spec)
    codec.encode(chunk, spec)
    assert set(asked) == {"cpu"}


def test_without_a_gpu_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    chunk = picture()
    spec = ChunkSpec(chunk.shape, chunk.dtype, 8)
    for setting in CODECS:
        with pytest.raises(CodecUnavailableError, match="sees no GPU"):
            parse(f"{setting},device=cuda").encode(chunk, spec)
    assert SirenMri(device="auto").encode_seconds(spec) > 0
