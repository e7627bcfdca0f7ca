"""Sources give exact ranges of bytes: to threads, other processes, and after a fork."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import mroi
from mroi.container import FileObjectSource, FileSource, MemorySource, open_source
from mroi.errors import TruncatedError, UsageError

DATA = bytes(range(256)) * 40
OPEN_FILES = Path("/proc/self/fd")


class Stutter(io.BytesIO):
    """Gives at most seven bytes at a time, as pipes and sockets may."""

    def read(self, size=-1):
        return super().read(min(size, 7) if size >= 0 else 7)


@pytest.fixture(params=["path", "str", "bytes", "words", "file", "raw", "stutter", "BytesIO"])
def source(request, tmp_path):
    path = tmp_path / "data"
    path.write_bytes(DATA)
    opened = {
        "path": lambda: path,
        "str": lambda: str(path),
        "bytes": lambda: bytearray(DATA),
        "words": lambda: memoryview(np.frombuffer(DATA, "<u4")),
        "file": lambda: path.open("rb"),
        "raw": lambda: path.open("rb", buffering=0),
        "stutter": lambda: Stutter(DATA),
        "BytesIO": lambda: io.BytesIO(DATA),
    }[request.param]()
    yield open_source(opened)
    if hasattr(opened, "close"):
        opened.close()


def test_ranges_are_exact(source):
    assert source.size() == len(DATA)
    for offset, size in [(0, 0), (0, 1), (5, 300), (0, len(DATA)), (len(DATA) - 1, 1)]:
        assert source.read(offset, size) == DATA[offset : offset + size]


@pytest.mark.parametrize(("offset", "size"), [(0, len(DATA) + 1), (len(DATA), 1), (10**6, 5)])
def test_short_reads_are_errors(source, offset, size):
    with pytest.raises(TruncatedError) as caught:
        source.read(offset, size)
    assert caught.value.rule == "LAY-4"


def test_threads_do_not_mix_their_positions(source):
    def work(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        places = rng.integers(0, len(DATA) - 100, 200).tolist()
        return all(source.read(at, 100) == DATA[at : at + 100] for at in places)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))


def test_closed_sources_open_anew(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(DATA)
    source = FileSource(path)
    source.close()
    source.close()
    assert source.read(3, 4) == DATA[3:7]
    source.close()


def test_sources_can_be_sent(tmp_path, monkeypatch):
    path = tmp_path / "data"
    path.write_bytes(DATA)
    monkeypatch.chdir(tmp_path)
    sources = [FileSource("data"), MemorySource(DATA), FileObjectSource(io.BytesIO(DATA))]
    sent = [pickle.dumps(source) for source in sources]
    monkeypatch.chdir("/" if os.name != "nt" else "C:\\")
    for data in sent:
        copy = pickle.loads(data)
        assert copy.read(9, 9) == DATA[9:18]
        copy.close()
    sources[0].close()


def test_what_is_no_source_is_refused(tmp_path):
    with pytest.raises(UsageError):
        open_source(3)
    with pytest.raises(FileNotFoundError):
        open_source(tmp_path / "nothing")
    with pytest.raises(OSError, match="directory"):
        mroi.open(tmp_path)


def open_files() -> int:
    return len(list(OPEN_FILES.iterdir()))


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="no list of open files here")
def test_no_file_stays_open_after_an_error(tmp_path, small_file):
    bad, good, target = tmp_path / "bad.mroi", tmp_path / "good.mroi", tmp_path / "out.nii"
    bad.write_bytes(small_file[:-1])
    good.write_bytes(small_file)
    before = open_files()
    caught = []  # keeps the frames of the errors alive
    for call in (mroi.open, mroi.verify, lambda path: mroi.unpack(path, target)):
        with pytest.raises(mroi.MroiError) as error:
            call(bad)
        caught.append(error)
    assert open_files() == before
    with pytest.raises(mroi.UsageError) as error:
        mroi.unpack(good, tmp_path / "wrong.txt")
    assert mroi.verify(good).ok
    mroi.unpack(good, target)
    assert open_files() == before


def test_volumes_are_shared_between_threads(tmp_path, small_file, array):
    path = tmp_path / "shared.mroi"
    path.write_bytes(small_file)
    with mroi.open(path) as volume:

        def work(seed: int) -> bool:
            rng = np.random.default_rng(seed)
            for _ in range(30):
                k = int(rng.integers(array.shape[2]))
                if not np.array_equal(volume.slice(k), array[:, :, k]):
                    return False
            return bool(volume.provenance)

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(work, range(12)))


def test_volumes_can_be_sent(tmp_path, small_file, array):
    path = tmp_path / "sent.mroi"
    path.write_bytes(small_file)
    with mroi.open(path) as volume:
        copies = [pickle.loads(pickle.dumps(v)) for v in (volume, volume.cropped, volume.unscaled)]
        assert np.array_equal(copies[0], array)
        assert np.array_equal(copies[1], volume.cropped)
        program = "import pickle, sys; v = pickle.load(sys.stdin.buffer); print(int(v[...].sum()))"
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=pickle.dumps(volume),
            capture_output=True,
            check=True,
            cwd=tmp_path.parent,
        )
        assert int(done.stdout) == array.sum()
        for copy in copies:
            copy.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_volumes_work_after_a_fork(tmp_path, small_file, array):
    """Also when other threads were reading, and changing the cache, at that moment."""
    path = tmp_path / "forked.mroi"
    path.write_bytes(small_file)
    volume = mroi.open(path)
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            volume.slice(1)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if not child:
                import signal

                signal.alarm(20)  # a lock that nobody opens
                os._exit(0 if np.array_equal(volume[...], array) else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    volume.close()
