"""Whatever a server does, the reader says what that was, soon, and takes little from it."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import signal
import time
from collections.abc import Callable

import numpy as np
import pytest

import mroi
from mroi.cli.exits import ExitCode
from mroi.container.remote import UrlSource
from mroi.errors import SourceError, TruncatedError
from tests.extras import needs
from tests.remote.servers import CLOSE, DATA, Line, Start, whole

pytestmark = needs("remote")

BUFFERS = 1 << 24  # what two systems may hold of what nobody reads
PATIENCE = 0.6  # seconds


# -- servers that do nothing wrong ---------------------------------------------------------------


def test_ranges_are_exact_and_cost_one_request_each(start: Start) -> None:
    server = start(lambda line: line.part())
    source = UrlSource(server.url)
    assert source.size() == len(DATA)
    assert source.read(0, 16_384) == DATA[:16_384]
    assert source.read(5, 300) == DATA[5:305]
    assert len(server.asked) == 1
    places = [(0, 16_385), (290_000, 10_000), (len(DATA) - 1, 1), (7, 0)]
    for at, size in places:
        assert source.read(at, size) == DATA[at : at + size]
    assert len(server.asked) == len(places)
    assert {method for method, _, _ in server.asked} == {"GET"}
    with pytest.raises(TruncatedError) as caught:
        source.read(len(DATA) - 5, 6)
    assert caught.value.rule == "LAY-4"


@pytest.mark.parametrize("data", [b"", b"x", DATA[:16_384]], ids=len)
def test_small_files(start: Start, data: bytes) -> None:
    source = UrlSource(start(lambda line: line.part(data)).url)
    assert source.size() == len(data)
    assert source.read(0, len(data)) == data
    for at, size in [(0, len(data) + 1), (len(data), 1), (10**6, 5)]:
        with pytest.raises(TruncatedError):
            source.read(at, size)


def test_a_whole_file_is_copied_with_one_request(start: Start) -> None:
    for behave in (Line.part, whole):
        server = start(behave)
        file = io.BytesIO()
        UrlSource(server.url).copy_to(file)
        assert file.getvalue() == DATA
        assert len(server.asked) == 2


def test_sources_can_be_sent(start: Start) -> None:
    source = UrlSource(start(lambda line: line.part()).url, timeout=7)
    copy = pickle.loads(pickle.dumps(source))
    assert copy.read(100_000, 9) == DATA[100_000:100_009]
    assert copy._options(0, 1)["timeout"].sock_read == 7


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_sources_work_after_a_fork(start: Start) -> None:
    source = UrlSource(start(lambda line: line.part()).url)
    assert source.read(100_000, 9) == DATA[100_000:100_009]
    child = os.fork()
    if not child:
        signal.alarm(20)  # a lock that nobody opens
        os._exit(0 if source.read(200_000, 9) == DATA[200_000:200_009] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert source.read(250_000, 9) == DATA[250_000:250_009]


# -- servers that ignore ranges ------------------------------------------------------------------


def endless(line: Line, **fields: object) -> None:
    line.head("200 OK", **fields)
    line.send(DATA)
    while True:
        line.send(bytes(1 << 16))


def test_a_server_without_ranges_is_read_as_far_as_a_block(start: Start) -> None:
    server = start(lambda line: endless(line, Content_Length=1 << 40))
    source = UrlSource(server.url)
    assert source.size() == 1 << 40
    assert source.read(100_000, 16_384) == DATA[100_000:116_384]
    assert source.read(8 << 20, 10) == bytes(10)
    with pytest.raises(SourceError, match=r"ignores ranges.*download it first"):
        source.read((8 << 20) + 1, 10)
    assert server.sent < (8 << 20) + 4 * BUFFERS


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ({}, DATA),
        ({"Transfer_Encoding": "chunked"}, b"%x\r\n%b\r\n" % (len(DATA), DATA)),
        ({"Content_Length": "many"}, DATA),
        ({"Content_Length": "1" * 40}, DATA),
    ],
    ids=["none", "chunked", "no number", "too many digits"],
)
def test_no_size(start: Start, fields: dict[str, object], body: bytes) -> None:
    def behave(line: Line) -> str:
        line.head("200 OK", **fields)
        line.send(body)
        return CLOSE

    with pytest.raises(SourceError, match=r"how large the file is|not HTTP"):
        mroi.open(start(behave).url)


def test_no_size_and_no_end(start: Start) -> None:
    server = start(endless)
    begin = time.monotonic()
    with pytest.raises(SourceError, match="does not say how large the file is"):
        mroi.open(server.url)
    assert time.monotonic() - begin < 5
    assert server.sent < 2 * BUFFERS


@pytest.mark.parametrize("status", ["200 OK", "206 Partial Content"])
def test_a_server_that_compresses(start: Start, status: str) -> None:
    """Ranges of a gzip stream are not those of the file."""
    body = gzip.compress(bytes(10**8))

    def behave(line: Line) -> None:
        fields = {"Content_Encoding": "gzip", "Content_Length": len(body)}
        line.head(status, **fields, Content_Range=f"bytes 0-{len(body) - 1}/{len(body)}")
        line.send(body)

    with pytest.raises(SourceError, match="compresses what it sends"):
        mroi.open(start(behave).url)


# -- servers that fail ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("500 \x1b[31mOops", "answers 500 Internal Server Error"),
        ("503 No", "answers 503 Service Unavailable"),
        ("401 No", "answers 401 Unauthorized; it wants credentials"),
        ("403 No", "answers 403 Forbidden; it wants credentials"),
        ("204 No", "answers 204 No Content"),
        ("299 What", "answers 299"),
        ("416 No", "answers 416 with the range ''"),
    ],
    ids=lambda text: text[:3],
)
def test_what_the_server_answers_is_said(start: Start, status: str, said: str) -> None:
    server = start(lambda line: line.head(status, Content_Length=0))
    with pytest.raises(SourceError) as caught:
        mroi.open(server.url)
    assert said in str(caught.value)
    assert server.url in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("status", ["404 Not Found", "410 Gone"])
def test_a_file_that_is_not_there(start: Start, status: str) -> None:
    server = start(lambda line: line.head(status, Content_Length=0))
    with pytest.raises(FileNotFoundError, match="not on the server"):
        mroi.open(server.url)


def test_a_page_in_place_of_the_file(start: Start) -> None:
    page = b"<!DOCTYPE html><title>Log in</title>"

    def behave(line: Line) -> None:
        line.head("200 OK", Content_Length=len(page), Content_Type="text/html")
        line.send(page)

    with pytest.raises(mroi.FormatError) as caught:
        mroi.open(start(behave).url)
    assert caught.value.rule == "PFX-1"


@pytest.mark.parametrize(
    "answer",
    [b"SSH-2.0-OpenSSH_9.2\r\n", b"\0\1\2\3" * 100, b"HTTP/9.9 what\r\n\r\n", b"\r\n\r\n", b"",
     b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
     b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, b"HTTP/1.1 200 " + b"x" * 10**6,
     b"HTTP/1.1 206 OK\r\nTransfer-Encoding: chunked\r\nContent-Range: bytes 0-16383/9\r\n\r\nzz"],
    ids=range(9),
)  # fmt: skip
def test_what_is_no_http(start: Start, answer: bytes) -> None:
    def behave(line: Line) -> str:
        line.send(answer)
        return CLOSE

    with pytest.raises(SourceError, match="http://127"):
        mroi.open(start(behave).url)


@pytest.mark.parametrize("length", [16_384, None, 10_000])
def test_a_body_that_is_cut(start: Start, length: int | None) -> None:
    def behave(line: Line) -> str:
        place = f"bytes {line.start}-{line.stop - 1}/{len(DATA)}"
        line.head("206 Part", Content_Range=place, Content_Length=length and length - line.start)
        line.send(DATA[line.start : line.start + 100])
        return CLOSE

    server = start(behave)
    with pytest.raises(SourceError, match=r"sent 100 of 16,084 bytes, then closed|not HTTP"):
        mroi.open(server.url)
    assert len(server.asked) <= 4


@pytest.mark.parametrize(
    "stated",
    ["bytes 1-16384/300000", "bytes 0-99/300000", "bytes 0-16384/300000", "bytes 9-3/300000",
     "bytes 0-16383", "octets 0-16383/300000", "bytes */300000", "", None],
)  # fmt: skip
def test_another_range_than_was_asked_for(start: Start, stated: str | None) -> None:
    server = start(lambda line: line.part(Content_Range=stated))
    with pytest.raises(SourceError, match=r"sends|with the range"):
        UrlSource(server.url).size()


def test_a_range_of_a_file_of_unknown_size(start: Start) -> None:
    server = start(lambda line: line.part(Content_Range="bytes 0-16383/*"))
    with pytest.raises(SourceError, match="does not say how large"):
        UrlSource(server.url).size()


def test_a_file_that_changes_on_the_server(start: Start) -> None:
    data = [DATA]
    source = UrlSource(start(lambda line: line.part(data[0])).url)
    assert source.size() == len(DATA)
    data[0] = DATA + b"more"
    with pytest.raises(SourceError, match="has another file now: of 300,004 bytes, it had 300,000"):
        source.read(100_000, 10)


def test_redirects_without_end(start: Start) -> None:
    server = start(lambda line: line.head("302 Found", Location="/again", Content_Length=0))
    message = r"http://127.* redirects 10 times, lastly to /again: is it a circle\?"
    with pytest.raises(SourceError, match=message):
        mroi.open(server.url)
    assert len(server.asked) < 30


# -- servers that take their time ----------------------------------------------------------------


def drip(line: Line) -> None:
    line.head("206 Part", Content_Range=f"bytes 0-16383/{len(DATA)}", Content_Length=16_384)
    while True:
        line.send(b"x")
        time.sleep(PATIENCE / 4)


def stall(line: Line) -> None:
    line.head("206 Part", Content_Range=f"bytes 0-16383/{len(DATA)}", Content_Length=16_384)
    line.send(DATA[:1000])
    time.sleep(20)


@pytest.mark.parametrize(
    ("behave", "said"),
    [
        (lambda _line: time.sleep(20), "did not answer in 1 seconds"),
        (stall, "sent 1,000 of 16,384 bytes in 1 seconds"),
        (drip, r"sent \d+ of 16,384 bytes in 3 seconds"),
    ],
    ids=["silent", "stalls", "drips"],
)
def test_a_server_that_takes_its_time(
    start: Start, behave: Callable[[Line], object], said: str
) -> None:
    source = UrlSource(start(behave).url, timeout=PATIENCE)
    begin = time.monotonic()
    with pytest.raises(SourceError, match=said):
        source.size()
    assert time.monotonic() - begin < 3 * PATIENCE + 3


def test_patience_is_some_seconds_by_default() -> None:
    source = UrlSource("http://127.0.0.1:9/x")
    options = source._options(0, 1 << 20)
    assert (options["timeout"].sock_read, options["timeout"].connect) == (20, 20)
    assert options["timeout"].total == 124


# -- no server -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1/x", "http://no-such-host.invalid/x", "http://", "http://[::1/x",
     "http://127.0.0.1:99999/x", "http://a b/x", "nothing://x", "memory://not-there"],
)  # fmt: skip
def test_no_server_at_all(url: str) -> None:
    with pytest.raises((mroi.MroiError, FileNotFoundError)) as caught:
        mroi.open(url)
    assert "Errno None" not in str(caught.value)


def test_another_protocol() -> None:
    import fsspec

    fsspec.filesystem("memory").pipe("/data", DATA)
    source = UrlSource("memory://data")
    assert source.size() == len(DATA)
    assert source.read(100_000, 7) == DATA[100_000:100_007]
    with pytest.raises(TruncatedError):
        source.read(len(DATA) - 1, 2)
    file = io.BytesIO()
    source.copy_to(file)
    assert file.getvalue() == DATA


@pytest.mark.parametrize("codec", ["raw", "zstd"])
def test_another_file_of_a_protocol_without_states(codec: str) -> None:
    """Nothing of the second is taken for the first, even if it is cut just like it."""
    import fsspec

    array = np.random.default_rng(0).integers(0, 4000, (64, 64, 30)).astype(np.int16)
    store = fsspec.filesystem("memory")
    for number, values in enumerate((array, array[::-1])):
        file = io.BytesIO()
        mroi.pack(values, file, codec=codec, chunk=1)
        store.pipe("/changing", file.getvalue())
        if not number:
            volume = mroi.open("memory://changing")
    with pytest.raises(mroi.FormatError):
        volume.slice(15)


def test_a_protocol_that_fails_in_a_way_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    class BotoError(Exception):
        pass

    def fail(*_: object, **__: object) -> bytes:
        raise BotoError("no credentials")

    source = UrlSource("memory://data")
    monkeypatch.setattr(MemoryFileSystem, "cat_file", fail)
    with pytest.raises(SourceError, match="BotoError: no credentials"):
        source.read(0, 5)
    monkeypatch.setattr(MemoryFileSystem, "cat_file", lambda *_, **__: b"")
    monkeypatch.setattr(MemoryFileSystem, "info", lambda *_: {"size": None})
    with pytest.raises(SourceError, match="does not say how large"):
        UrlSource("memory://other").size()


# -- the same from the command line --------------------------------------------------------------


def test_the_command_line_says_it_and_shows_no_traceback(start: Start) -> None:
    from typer.testing import CliRunner

    from mroi.cli import app

    for behave, code in (
        (lambda line: line.head("500 No", Content_Length=0), ExitCode.NO_INPUT),
        (lambda line: line.head("404 No", Content_Length=0), ExitCode.NO_INPUT),
        (whole, ExitCode.DAMAGED),
    ):
        for command in ("info", "verify"):
            done = CliRunner().invoke(app, [command, start(behave).url])
            assert done.exit_code == code, done.output
            assert isinstance(done.exception, SystemExit)
