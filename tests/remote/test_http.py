"""A file on a web server: few requests, absolute ranges, no byte more than needed."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import mroi
from mroi.container.remote import UrlSource
from tests.extras import needs

pytestmark = needs("remote")


class Server(ThreadingHTTPServer):
    """Serves one file, and remembers what it was asked for."""

    def __init__(self, data: bytes, *, ranges: bool) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = data
        self.ranges = ranges
        self.asked: list[str] = []
        self.sent = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        data = self.server.data
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        self.server.asked.append(self.headers.get("Range", "HEAD" if not body else "all"))
        if wanted and self.server.ranges:
            start, stop = int(wanted[1]), min(int(wanted[2]) + 1, len(data))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
            data = data[start:stop]
        else:
            self.send_response(200)
        if self.server.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.server.sent += len(data)
            self.wfile.write(data)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def volume(tmp_path: Path) -> tuple[np.ndarray, bytes]:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 4000, (64, 64, 60)).astype(np.int16)
    mroi.pack(array, tmp_path / "x.mroi", codec="zstd", chunk=1)
    return array, (tmp_path / "x.mroi").read_bytes()


@pytest.fixture(params=[True, False], ids=["ranges", "no ranges"])
def server(request: pytest.FixtureRequest, volume: tuple[np.ndarray, bytes]) -> Iterator[Server]:
    server = Server(volume[1], ranges=request.param)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/x.mroi"


def test_a_slice_costs_one_request_to_open_and_one_to_read(
    server: Server, volume: tuple[np.ndarray, bytes]
) -> None:
    array, data = volume
    opened = mroi.open(url(server))
    gets = [asked for asked in server.asked if asked.startswith("bytes=")]
    assert len(gets) == 1
    assert np.array_equal(opened.slice(30), array[:, :, 30])
    gets = [asked for asked in server.asked if asked.startswith("bytes=")]
    assert len(gets) == 2
    if server.ranges:
        assert server.sent < 17_000 + 2 * len(data) // 60


def test_neighbouring_slices_come_with_one_request(
    server: Server, volume: tuple[np.ndarray, bytes]
) -> None:
    opened = mroi.open(url(server))
    before = len(server.asked)
    assert np.array_equal(opened[:, :, 10:40], volume[0][:, :, 10:40])
    assert len(server.asked) == before + 1


def test_no_suffix_range_is_ever_asked_for(
    server: Server, volume: tuple[np.ndarray, bytes]
) -> None:
    mroi.verify(url(server))
    assert not [asked for asked in server.asked if "=-" in asked]


def test_a_missing_file_is_an_os_error(server: Server) -> None:
    missing = f"http://127.0.0.1:{server.server_address[1]}"
    source = UrlSource(missing + "/x.mroi")
    assert source.size() == len(server.data)
    server.data = b""
    with pytest.raises((OSError, mroi.MroiError)):
        mroi.open(missing + "/other.mroi")
