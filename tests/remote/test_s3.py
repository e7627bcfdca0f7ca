"""A file in an object store, which is a server on this machine."""

from __future__ import annotations

import io
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import mroi
from mroi.container.remote import UrlSource

pytestmark = [
    pytest.mark.skipif(
        find_spec("s3fs") is None or find_spec("moto") is None, reason="needs s3fs and moto"
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:moto"),
]

KEYS = {"key": "test", "secret": "test"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A store with a bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def store(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> object:
    """The store as fsspec has it, and as ``s3://`` finds it from its configuration."""
    import fsspec

    options = {**KEYS, "client_kwargs": {"endpoint_url": endpoint, "region_name": "eu-west-1"}}
    monkeypatch.setitem(fsspec.config.conf, "s3", options)
    filesystem = fsspec.filesystem("s3")
    if not filesystem.exists("bucket"):
        filesystem.mkdir("bucket")
    return filesystem


def test_a_slice_of_an_object(store, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).integers(0, 4000, (64, 64, 60)).astype(np.int16)
    file = io.BytesIO()
    mroi.pack(array, file, codec="zstd", chunk=1)
    store.pipe("bucket/a.mroi", file.getvalue())
    asked: list[str] = []
    real = type(store)._call_s3

    async def counted(self, method: str, *args: object, **named: object) -> object:
        asked.append(method)
        return await real(self, method, *args, **named)

    monkeypatch.setattr(type(store), "_call_s3", counted)
    volume = mroi.open("s3://bucket/a.mroi")
    assert asked == ["head_object", "get_object"]
    assert np.array_equal(volume.slice(30), array[:, :, 30])
    assert asked == ["head_object", "get_object", "get_object"]
    assert np.array_equal(volume[:, :, 10:40], array[:, :, 10:40])
    assert asked == ["head_object", *["get_object"] * 3]


def test_an_object_that_is_not_there(store) -> None:
    with pytest.raises(FileNotFoundError):
        mroi.open("s3://bucket/none.mroi")


def test_another_state_of_an_object_is_read_anew(store, tmp_path: Path) -> None:
    from mroi.container.cache import DiskCache

    cache = DiskCache(10**7, tmp_path)
    for data in (bytes(200_000), bytes(range(250)) * 800):
        store.pipe("bucket/b", data)
        source = UrlSource("s3://bucket/b", cache=cache)
        assert source.size() == len(data)
        assert source.read(100_000, 99) == data[100_000:100_099]
