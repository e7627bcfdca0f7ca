"""Where networks are computed; there is no GPU in tests, so what can be known without one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from mroi.codecs import ChunkSpec, parse
from mroi.codecs.neural.device import device_of, reading_device
from mroi.codecs.neural.siren import SirenMri
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


CODECS = ("tcm:model=tiny-tcm", "tcm-auxt:model=tiny-tcm-auxt", "sirenmri:width=6,steps=8")


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
    spec = ChunkSpec(chunk.shape, chunk.dtype, 8)
    assert codec.encode_seconds(spec) > 0
    assert codec.decode(codec.encode(chunk, spec), spec).shape == chunk.shape


@pytest.mark.parametrize("setting", CODECS)
def test_a_device_is_a_setting_of_the_encoder(setting: str) -> None:
    codec: Any = parse(f"{setting},device=auto")
    assert (codec.device, parse(setting).params()) == ("auto", codec.params())
    with pytest.raises(CodecError, match="device must be cpu, cuda or auto, not 'tpu'"):
        parse(f"{setting},device=tpu")


def test_without_a_gpu_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    chunk = picture()
    spec = ChunkSpec(chunk.shape, chunk.dtype, 8)
    for setting in CODECS:
        with pytest.raises(CodecUnavailableError, match="sees no GPU"):
            parse(f"{setting},device=cuda").encode(chunk, spec)
    assert SirenMri(device="auto").encode_seconds(spec) > 0
