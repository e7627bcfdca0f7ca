"""A real server on this machine: the command, the library as its client, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

import mroi
from mroi.errors import UsageError
from tests.cli.runner import phantom
from tests.extras import needs

pytestmark = needs("serve")

COMMAND = [sys.executable, "-c", "from mroi.cli import main; main()", "serve"]


@contextmanager
def running(folder: Path, *options: str, **environ: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """Give a server and its URL."""
    environ = {**os.environ, **environ}
    with subprocess.Popen(
        [*COMMAND, str(folder), "--port", "0", "--json", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ,
    ) as process:  # fmt: skip
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield process, json.loads(line)["url"]
        finally:
            process.kill()


def get(url: str, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    with closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


@needs("remote")
def test_the_library_reads_what_is_served(study: Path) -> None:
    with running(study, "--verbose") as (process, url):
        with mroi.open(f"{url}files/sub%201/b.mroi") as volume:
            expected = phantom((12, 15, 10, 3)) * 0.5 - 3
            assert np.array_equal(volume[..., 5, 1], expected[..., 5, 1])
            assert np.array_equal(np.asarray(volume), expected)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    asked = [line for line in said.splitlines() if "GET /files/" in line]
    assert asked
    assert all(" 206 " in line for line in asked)
    assert "GET /files/sub%201/b.mroi 206" in asked[0]


@pytest.mark.skipif(os.name == "nt", reason="signals are not sent so here")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_what_is_being_sent_is_sent(study: Path, number: int) -> None:
    size = 1 << 23
    (study / "large.mroi").write_bytes(bytes(size))
    with running(study) as (process, url):
        host, _, port = urlsplit(url).netloc.partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as line:
            line.sendall(b"GET /files/large.mroi HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = len(line.recv(1000))
            process.send_signal(number)
            while data := line.recv(1 << 16):
                received += len(data)
        _, said = process.communicate(timeout=30)
    assert received > size
    assert process.returncode == 0
    assert said == ""


def test_many_ask_at_once(study: Path) -> None:
    expected = {n: phantom((12, 15, 10, 3))[:, :, n, 0].tobytes("F") for n in range(10)}
    wrong = []

    def ask(url: str) -> None:
        for n, data in expected.items():
            if get(url, f"/volumes/a.mroi/slice/z/{n}.bin?stored=1") != (200, data):
                wrong.append(n)

    with running(study) as (_process, url):
        threads = [threading.Thread(target=ask, args=[url]) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.skipif(sys.platform != "linux", reason="asks for the option of a connection")
def test_no_answer_waits_for_an_acknowledgement(study: Path) -> None:
    from mroi.serve.server import listen

    address = listen("127.0.0.1", 0)
    with address.socket:
        assert address.socket.proto == socket.IPPROTO_TCP  # for which asyncio sets TCP_NODELAY
    with running(study) as (_process, url):
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        seconds = []
        with closing(connection):
            for _ in range(30):
                start = time.monotonic()
                connection.request("GET", "/volumes/a.mroi/slice/z/5.bin")
                assert connection.getresponse().read()
                seconds.append(time.monotonic() - start)
    assert min(seconds) < 0.03


def test_a_token_may_come_from_the_environment(study: Path) -> None:
    with running(study, MROI_TOKEN="s3cret") as (_process, url):
        assert get(url, "/volumes")[0] == 401
        assert get(url, "/volumes", Authorization="Bearer s3cret")[0] == 200
        assert get(url, "/volumes", Authorization="Bearer s3cret", Host="evil.org")[0] == 403


@needs("remote")
def test_the_library_sends_the_token_of_the_configuration(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    with running(study, "--token", "s3cret") as (_process, url):
        with pytest.raises(mroi.SourceError, match="401 Unauthorized; it wants credentials"):
            mroi.open(f"{url}files/a.mroi")
        headers = {"headers": {"Authorization": "Bearer s3cret"}}
        monkeypatch.setitem(fsspec.config.conf, "http", headers)
        assert mroi.open(f"{url}files/a.mroi").slice(5).shape == (12, 15, 3)


def test_an_open_server_without_a_token_is_warned_of(study: Path) -> None:
    for token, is_warned in (("", True), ("t", False)):
        options = ["--token", token] if token else []
        with running(study, "--host", "0.0.0.0", *options) as (process, _url):
            process.terminate()
            _, said = process.communicate(timeout=30)
        assert ("see --token" in said) is is_warned


def test_a_body_that_fails_midway_ends_the_connection(study: Path, packed: Path) -> None:
    """The client sees that something is missing, and no traceback is printed."""
    data = bytearray(packed.read_bytes())
    with mroi.open(packed) as volume:
        data[int(volume.reader.index.offsets[3]) + 45] ^= 1
    (study / "a.mroi").write_bytes(data)
    with running(study) as (process, url):
        with pytest.raises(http.client.IncompleteRead):
            get(url, "/volumes/a.mroi/raw.nii")
        assert get(url, "/volumes")[0] == 200
        process.terminate()
        _, said = process.communicate(timeout=30)
    assert re.fullmatch(r"mroi: an answer was cut short: .*\[FRM-\d+\]\n", said)


def test_where_one_cannot_listen(study: Path) -> None:
    from mroi.serve.server import listen

    with socket.create_server(("127.0.0.1", 0)) as taken:
        for host, port in (("127.0.0.1", taken.getsockname()[1]), ("no such host.invalid", 0)):
            with pytest.raises(UsageError, match="cannot listen at"):
                listen(host, port)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_only_this_machine_is_answered_by_default(host: str) -> None:
    from mroi.serve.server import listen

    address = listen(host, 0)
    with address.socket:
        assert address.is_loopback
        assert host in (address.hosts(host) or ())
        assert "evil.org" not in (address.hosts(host) or ())
