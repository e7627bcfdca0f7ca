"""Slices go through a pipe one by one: as they come, in bounded memory, never past damage."""

from __future__ import annotations

import io
import itertools
import os
import threading
import tracemalloc

import numpy as np
import pytest

import mroi

SHAPE = (64, 48, 40)


def image(k: int) -> np.ndarray:
    rng = np.random.default_rng(k)
    return rng.integers(0, 2000, SHAPE[:2], dtype=np.int16)


def write(sink, **options) -> None:
    with mroi.create(sink, SHAPE, np.int16, **options) as writer:
        for k in range(SHAPE[2]):
            writer.write(image(k))


@pytest.fixture(scope="module")
def written() -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


@pytest.mark.parametrize("options", [{}, {"slice_axis": 2, "chunk": (17, 20, 7)}, {"codec": "raw"}])
def test_a_pipe_from_end_to_end(options):
    """One thread creates, another streams; neither end can seek."""
    receive, send = os.pipe()
    got: dict[int, np.ndarray] = {}

    def read() -> None:
        with os.fdopen(receive, "rb") as file:
            for part in mroi.stream(file):
                got[part.index] = part.array

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(send, "wb") as file:
        write(file, **options)
    reader.join(timeout=60)
    assert sorted(got) == list(range(SHAPE[2]))
    assert all(np.array_equal(got[k], image(k)) for k in got)


def test_a_slice_comes_as_soon_as_its_bytes_do(written):
    """The sender waits for each slice to be seen before it sends the next."""
    offsets = mroi.open(written).reader.index.offsets.tolist()
    receive, send = os.pipe()
    seen = threading.Semaphore(0)
    late: list[int] = []

    def feed() -> None:
        with os.fdopen(send, "wb", buffering=0) as file:
            file.write(written[: offsets[0]])
            for k, (start, stop) in enumerate(itertools.pairwise(offsets)):
                file.write(written[start:stop])
                if not seen.acquire(timeout=10):
                    late.append(k)
                    break
            file.write(written[offsets[-1] :])

    sender = threading.Thread(target=feed)
    sender.start()
    with os.fdopen(receive, "rb") as file:
        for _ in mroi.stream(file):
            seen.release()
    sender.join()
    assert not late


@pytest.mark.parametrize("keep", [10, 300, 2000, -64, -1])
def test_what_was_whole_is_delivered_before_the_error(written, keep):
    got = []

    def read() -> None:
        got.extend(mroi.stream(io.BytesIO(written[:keep])))

    with pytest.raises(mroi.TruncatedError) as caught:
        read()
    assert caught.value.rule in {"LAY-4", "STR-1"}
    assert all(np.array_equal(part.array, image(part.index)) for part in got)
    assert (len(got) > 0) == (keep < 0)


def test_a_wrong_decoded_crc_is_found():
    """Frames whose own CRC is right, but that do not decode to what was written."""
    file = io.BytesIO()
    with mroi.create(file, SHAPE, np.int16) as writer:
        builder = writer._builder
        for k in range(SHAPE[2]):
            writer.write(image(k))
        while writer._pending:
            writer._write_next()
        builder._crcs[5] ^= 1
    with pytest.raises(mroi.ChecksumError) as caught:
        list(mroi.stream(io.BytesIO(file.getvalue())))
    assert caught.value.rule == "CHK-9"
    volume = mroi.open(file)
    with pytest.raises(mroi.ChecksumError):
        volume.slice(5)
    assert np.array_equal(volume.slice(4), image(4))


def test_odd_files_are_told_apart():
    class Busy(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer) -> None:
            return None

    with pytest.raises(BlockingIOError):
        mroi.stream(Busy())
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(mroi.TruncatedError):
        mroi.stream(closed)
    with pytest.raises(mroi.UsageError):
        mroi.stream(7)
    with pytest.raises(mroi.FormatError):
        mroi.stream(io.BytesIO(b"no mroi file at all, and long enough for a prefix" * 3))


def test_iterating_again_is_an_error(written):
    stream = mroi.stream(io.BytesIO(written))
    assert len(list(stream)) == SHAPE[2]
    with pytest.raises(mroi.FormatError):
        list(stream)


class Endless(io.RawIOBase):
    """Gives a file of many slices without ever holding it."""

    def __init__(self, count: int) -> None:
        self.receive, send = os.pipe()
        self.sender = threading.Thread(target=self.feed, args=(send, count))
        self.sender.start()

    def feed(self, send: int, count: int) -> None:
        noise = np.random.default_rng(1).integers(0, 255, (512, 512), dtype=np.uint8)
        with (
            os.fdopen(send, "wb") as file,
            mroi.create(file, (512, 512, count), np.uint8, jobs=1) as writer,
        ):
            for k in range(count):
                writer.write(noise + np.uint8(k))


def test_memory_does_not_grow_with_the_volume():
    """64 MB from a pipe, written at the other end meanwhile."""
    tracemalloc.start()
    try:
        sender = Endless(256)
        with os.fdopen(sender.receive, "rb") as file:
            total = sum(1 for _ in mroi.stream(file))
        sender.sender.join()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 256
    assert peak < 24 << 20


def test_a_path_is_streamed_and_closed(tmp_path, written):
    path = tmp_path / "s.mroi"
    path.write_bytes(written)
    for target in (path, str(path)):
        got = {part.index: part.array for part in mroi.stream(target)}
        assert all(np.array_equal(got[k], image(k)) for k in range(SHAPE[2]))
    with mroi.stream(path) as stream:
        next(iter(stream))
    with pytest.raises(mroi.TruncatedError, match="closed"):
        list(stream)
    path.write_bytes(b"no such format" * 10)
    with pytest.raises(mroi.FormatError):
        mroi.stream(path)
    with pytest.raises(FileNotFoundError):
        mroi.stream(tmp_path / "none.mroi")
    with pytest.raises(mroi.UsageError, match=r"mroi\.open"):
        mroi.stream("https://example.org/s.mroi")
    with pytest.raises(mroi.UsageError, match="a path or an open binary file"):
        mroi.stream(7)


def test_a_file_that_the_caller_opened_is_left_open(written):
    file = io.BytesIO(written)
    with mroi.stream(file) as stream:
        assert len(list(stream)) == SHAPE[2]
    assert not file.closed
