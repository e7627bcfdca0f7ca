"""What passes is tried again, a file that changes is noticed, and requests are few or at once."""

from __future__ import annotations

import io
import pickle
import threading
import time

import numpy as np
import pytest

import mroi
from mroi.container import remote
from mroi.container.remote import UrlSource
from mroi.errors import SourceError
from tests.extras import needs
from tests.remote.servers import CLOSE, DATA, Line, Start

pytestmark = needs("remote")


@pytest.fixture
def packed() -> tuple[np.ndarray, bytes]:
    """A volume in 60 chunks of a slice, of about 8 kB each."""
    array = np.random.default_rng(0).integers(0, 4000, (64, 64, 60)).astype(np.int16)
    file = io.BytesIO()
    mroi.pack(array, file, codec="zstd", chunk=1)
    return array, file.getvalue()


# -- tries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_server_that_is_busy_is_asked_again(start: Start, status: int) -> None:
    def behave(line: Line) -> None:
        if len(line.server.asked) < 3:
            line.head(f"{status} Busy", Content_Length=0)
        else:
            line.part()

    server = start(behave)
    assert UrlSource(server.url).read(100_000, 9) == DATA[100_000:100_009]
    assert len(server.asked) == 3


def test_it_is_not_asked_for_ever(start: Start) -> None:
    server = start(lambda line: line.head("503 No", Content_Length=0))
    with pytest.raises(SourceError, match=r"answers 503 Service Unavailable \(tried 4 times\)"):
        UrlSource(server.url).read(0, 9)
    assert len(server.asked) == 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 416, 501])
def test_what_does_not_pass_is_not_tried_again(start: Start, status: int) -> None:
    server = start(lambda line: line.head(f"{status} No", Content_Length=0))
    with pytest.raises((SourceError, FileNotFoundError)):
        UrlSource(server.url).read(0, 9)
    assert len(server.asked) == 1


def test_the_pauses_grow_and_are_those_that_the_server_wants(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(remote, "_PAUSE", 1.0)
    monkeypatch.setattr(remote.time, "sleep", pauses.append)
    with pytest.raises(SourceError):
        UrlSource(start(lambda line: line.head("503 No", Content_Length=0)).url).size()
    assert len(pauses) == 3
    for pause, about in zip(pauses, (1, 2, 4), strict=True):
        assert about / 2 <= pause <= about * 3 / 2
    del pauses[:]
    wanted = start(lambda line: line.head("429 No", Content_Length=0, Retry_After=7))
    with pytest.raises(SourceError):
        UrlSource(wanted.url).size()
    assert pauses == [7, 7, 7]
    del pauses[:]
    patient = start(lambda line: line.head("429 No", Content_Length=0, Retry_After=3600))
    with pytest.raises(SourceError, match="tried 1 time"):
        UrlSource(patient.url).size()
    assert pauses == []


def test_a_body_that_is_cut_goes_on_where_it_ended(start: Start) -> None:
    """Nothing is sent twice, and nothing is written twice."""

    def behave(line: Line) -> str:
        body = DATA[line.start : line.stop]
        place = f"bytes {line.start}-{line.stop - 1}/{len(DATA)}"
        line.head("206 Part", Content_Range=place, Content_Length=len(body))
        line.send(body[:120_000])
        return CLOSE

    server = start(behave)
    source = UrlSource(server.url)
    assert source.size() == len(DATA)
    file = io.BytesIO()
    source.copy_to(file)
    assert file.getvalue() == DATA
    assert [asked[1] for asked in server.asked[1:]] == [0, 120_000, 240_000]


# -- a file that becomes another -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "is_noticed"),
    [
        ({"ETag": '"a"'}, {"ETag": '"b"'}, True),
        ({"ETag": '"a"'}, {"ETag": 'W/"a"'}, False),
        ({"Last_Modified": "Mon"}, {"Last_Modified": "Tue"}, True),
        ({"ETag": '"a"', "Last_Modified": "Mon"}, {"ETag": '"a"', "Last_Modified": "Tue"}, False),
        ({"ETag": '"a"'}, {"Last_Modified": "Tue"}, False),
        ({"ETag": '"a"'}, {}, False),
    ],
)
def test_a_file_of_the_same_size_that_changes(
    start: Start, first: dict[str, str], second: dict[str, str], *, is_noticed: bool
) -> None:
    state = [first]
    source = UrlSource(start(lambda line: line.part(**state[0])).url)
    assert source.size() == len(DATA)
    copy = pickle.loads(pickle.dumps(source))
    state[0] = second
    for one in (source, copy):  # a copy in another process is of the same file
        if is_noticed:
            with pytest.raises(SourceError, match="has another file now: it has changed"):
                one.read(100_000, 10)
        else:
            assert one.read(100_000, 10) == DATA[100_000:100_010]


# -- few requests, or several at once ------------------------------------------------------------


def test_chunks_that_are_near_come_with_one_request(
    start: Start, packed: tuple[np.ndarray, bytes]
) -> None:
    array, data = packed
    server = start(lambda line: line.part(data))
    volume = mroi.open(server.url)
    assert len(server.asked) == 1
    assert np.array_equal(volume[:, :, 5:55:3], array[:, :, 5:55:3])
    assert len(server.asked) == 2


def test_chunks_that_are_far_do_not(
    start: Start, packed: tuple[np.ndarray, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    array, data = packed
    monkeypatch.setattr("mroi.container.reader._FAR_GAP", 1000)
    server = start(lambda line: line.part(data))
    volume = mroi.open(server.url, jobs=1)
    assert np.array_equal(volume[:, :, 5:55:10], array[:, :, 5:55:10])
    assert len(server.asked) == 1 + 5
    assert server.sent < 16_384 + 5 * 10_000 + 6 * 200


@pytest.mark.parametrize("jobs", [1, 4])
def test_so_many_requests_are_made_at_once(
    start: Start, packed: tuple[np.ndarray, bytes], monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    array, data = packed
    monkeypatch.setattr("mroi.container.reader._FAR_RUN", 30_000)
    lock = threading.Lock()
    busy, most = 0, 0

    def behave(line: Line) -> None:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.05)
        with lock:
            busy -= 1
        line.part(data)

    volume = mroi.open(start(behave).url, jobs=jobs)
    assert np.array_equal(np.asarray(volume), array)
    assert most == jobs


def test_a_request_that_fails_among_several_fails_the_read(
    start: Start, packed: tuple[np.ndarray, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mroi.container.reader._FAR_RUN", 30_000)

    def behave(line: Line) -> None:
        if line.start > 300_000:
            line.head("403 No", Content_Length=0)
        else:
            line.part(packed[1])

    server = start(behave)
    volume = mroi.open(server.url, jobs=4)
    with pytest.raises(SourceError, match="403"):
        np.asarray(volume)
    assert [thread for thread in threading.enumerate() if "mroi-read" in thread.name] == []
