"""What was read of a remote file is kept as far as there is room, and never believed unseen."""

from __future__ import annotations

import os
import pickle
import stat
import threading
from pathlib import Path

import pytest

import mroi
from mroi.container.cache import DiskCache, default_cache_size
from mroi.container.remote import UrlSource
from mroi.errors import UsageError
from tests.extras import needs
from tests.remote.servers import DATA, Line, Start

BLOCK = 1 << 16


def taken(cache: DiskCache) -> int:
    return sum(path.stat().st_size for path in cache.folder.rglob("*") if path.is_file())


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    cache = DiskCache(10**6, tmp_path / "a" / "b")
    assert cache.get("x") is None
    cache.put("x", b"data")
    cache.put("y", b"")
    assert (cache.get("x"), cache.get("y"), cache.get("z")) == (b"data", b"", None)
    assert DiskCache(10**6, tmp_path / "a" / "b").get("x") == b"data"


def test_there_is_never_more_than_the_limit(tmp_path: Path) -> None:
    cache = DiskCache(100_000, tmp_path)
    others = DiskCache(100_000, tmp_path)  # another process
    for number in range(200):
        (cache, others)[number % 2].put(str(number), bytes(3000))
        assert taken(cache) <= 100_000 * 17 / 16
    assert taken(cache) > 60_000
    assert cache.get("199") is not None
    assert cache.get("0") is None
    cache.put("large", bytes(100_001))
    assert cache.get("large") is None


def test_what_is_wanted_stays(tmp_path: Path) -> None:
    cache = DiskCache(50_000, tmp_path)
    cache.put("wanted", bytes(1000))
    for number in range(200):
        assert cache.get("wanted") is not None, number
        cache.put(str(number), bytes(1000))


def test_what_was_damaged_is_forgotten(tmp_path: Path) -> None:
    cache = DiskCache(10**6, tmp_path)
    for change in (lambda d: d[:-1], lambda d: d[:2], lambda d: d[:0], lambda d: d[:-1] + b"!"):
        cache.put("x", b"some data")
        (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
        path.write_bytes(change(path.read_bytes()))
        assert cache.get("x") is None
    assert taken(cache) == 0


@pytest.mark.skipif(os.name == "nt", reason="modes are of POSIX")
def test_others_cannot_read_it(tmp_path: Path) -> None:
    cache = DiskCache(10**6, tmp_path / "cache")
    cache.put("https://a.org/?key=secret", b"data")
    for path in [cache.folder, *cache.folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        assert "secret" not in path.name


def test_a_disk_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = DiskCache(10**6, tmp_path / "file" / "folder")
    cache.put("x", b"data")
    assert cache.get("x") is None


def test_threads_may_share_it(tmp_path: Path) -> None:
    cache = DiskCache(20_000, tmp_path)
    wrong = []

    def work(seed: int) -> None:
        for number in range(60):
            key = str((seed + number) % 40)
            found = cache.get(key)
            if found not in (None, key.encode() * 500):
                wrong.append(key)
            cache.put(key, key.encode() * 500)

    threads = [threading.Thread(target=work, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(("text", "size"), [("", 0), ("0", 0), ("1.5 GB", 15 * 10**8)])
def test_the_environment_says_how_much(
    monkeypatch: pytest.MonkeyPatch, text: str, size: int
) -> None:
    monkeypatch.setenv("MROI_CACHE", text)
    assert default_cache_size() == size
    monkeypatch.setenv("MROI_CACHE", "much")
    with pytest.raises(UsageError, match="MROI_CACHE=much"):
        default_cache_size()


# -- of remote files -----------------------------------------------------------------------------


@needs("remote")
def test_what_was_read_is_not_asked_for_again(start: Start, tmp_path: Path) -> None:
    server = start(lambda line: line.part(ETag='"a"'))
    cache = DiskCache(10**6, tmp_path)
    for attempt in range(2):
        source = UrlSource(server.url, cache=cache)
        assert source.size() == len(DATA)
        for offset, size in ((70_000, 9), (100_000, 100_000), (299_990, 10), (5, 290_000)):
            assert source.read(offset, size) == DATA[offset : offset + size]
        assert len(server.asked) == (5 if attempt == 0 else 6)
    copy = pickle.loads(pickle.dumps(source))
    assert copy.read(70_000, 9) == DATA[70_000:70_009]
    assert len(server.asked) == 6
    with pytest.raises(mroi.MroiError):
        source.read(299_990, 11)


@needs("remote")
def test_another_state_of_the_file_is_read_anew(start: Start, tmp_path: Path) -> None:
    data, fields = [DATA], {"ETag": '"a"'}
    server = start(lambda line: line.part(data[0], **fields))
    cache = DiskCache(10**6, tmp_path)
    for text, tag in ((DATA, '"a"'), (DATA[::-1], '"b"'), (DATA, '"a"')):
        data[0], fields["ETag"] = text, tag
        source = UrlSource(server.url, cache=cache)
        source.size()
        assert source.read(100_000, 99) == text[100_000:100_099]


@needs("remote")
def test_a_file_of_no_known_state_is_not_kept(start: Start, tmp_path: Path) -> None:
    server = start(Line.part)
    cache = DiskCache(10**6, tmp_path)
    source = UrlSource(server.url, cache=cache)
    source.size()
    assert source.read(100_000, 9) == source.read(100_000, 9)
    assert len(server.asked) == 3
    assert taken(cache) == 0


@needs("remote")
def test_open_takes_a_size(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_, **__: tmp_path / "user")
    url = start(lambda line: line.part(ETag='"a"')).url
    for wanted, environ, is_kept in ((None, "", False), (0, "1MB", False), (10**6, "", True)):
        monkeypatch.setenv("MROI_CACHE", environ)
        with pytest.raises(mroi.FormatError):
            mroi.open(url, cache=wanted)
        from mroi.container import open_source

        source = open_source(url, cache=wanted)
        source.size()
        source.read(100_000, 9)
        assert (tmp_path / "user").exists() is is_kept
