"""A file appears whole or not at all, whatever happens while it is written."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import mroi
from mroi.container import AtomicFile, AtomicFolder, ContainerWriter

IMAGE = np.arange(20, dtype=np.int16).reshape(5, 4)


def write(target, count: int = 3, *, overwrite: bool = False, fail: bool = False) -> None:
    with mroi.create(target, (5, 4, count), np.int16, overwrite=overwrite, jobs=1) as writer:
        for k in range(count):
            writer.write(IMAGE + k)
            if fail:
                raise RuntimeError("on purpose")


def test_the_file_appears_at_the_end(tmp_path):
    target = tmp_path / "new.mroi"
    with mroi.create(target, (5, 4, 2), np.int16) as writer:
        writer.write(IMAGE)
        assert not target.exists()
        assert len(list(tmp_path.iterdir())) == 1
        writer.write(IMAGE)
    assert [path.name for path in tmp_path.iterdir()] == ["new.mroi"]
    assert np.array_equal(mroi.open(target.read_bytes())[:, :, 1], IMAGE)


@pytest.mark.parametrize("old", [None, b"the old file"])
def test_an_exception_leaves_what_was_there(tmp_path, old):
    target = tmp_path / "new.mroi"
    if old is not None:
        target.write_bytes(old)
    with pytest.raises(RuntimeError, match="on purpose"):
        write(target, overwrite=True, fail=True)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([] if old is None else [old])


def test_too_few_slices_leave_nothing(tmp_path):
    with (
        pytest.raises(mroi.UsageError, match="1 of 2 slices"),
        mroi.create(tmp_path / "new.mroi", (5, 4, 2), np.int16) as writer,
    ):
        writer.write(IMAGE)
    assert not list(tmp_path.iterdir())


def test_existing_files_are_kept_unless_asked(tmp_path):
    target = tmp_path / "new.mroi"
    write(target)
    before = target.read_bytes()
    with pytest.raises(FileExistsError):
        write(target, 2)
    assert target.read_bytes() == before
    write(target, 2, overwrite=True)
    assert mroi.open(target.read_bytes()).shape == (5, 4, 2)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_name_that_is_taken_meanwhile_is_kept(tmp_path):
    target = tmp_path / "new.mroi"
    atomic = AtomicFile(target)
    atomic.file.write(b"mine")
    target.write_bytes(b"of another")
    with pytest.raises(FileExistsError):
        atomic.commit()
    assert target.read_bytes() == b"of another"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_the_target_of_a_link_is_replaced(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "file.mroi").write_bytes(b"old")
    link = tmp_path / "link.mroi"
    link.symlink_to(folder / "file.mroi")
    write(link, overwrite=True)
    assert link.is_symlink()
    assert mroi.open(folder / "file.mroi").shape == (5, 4, 3)
    dangling = tmp_path / "dangling.mroi"
    dangling.symlink_to(folder / "later.mroi")
    write(dangling)
    assert mroi.open(folder / "later.mroi").shape == (5, 4, 3)


@pytest.mark.parametrize("name", ["ä" * 120 + ".mroi", "脳" * 83 + ".mroi", "x" * 250 + ".mroi"])
def test_long_names_are_no_trouble(tmp_path, name):
    write(tmp_path / name)
    assert mroi.open(tmp_path / name).shape == (5, 4, 3)


class Full(io.BytesIO):
    """A sink with room for some bytes."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, data) -> int:
        if self.tell() + len(data) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("room", [0, 100, 700, 900])
def test_a_full_sink_is_an_error(room):
    with pytest.raises(OSError, match="No space left"):
        write(Full(room))


LIMITED = """
import resource, signal, sys
import numpy as np
import mroi

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
noise = np.random.default_rng(0).integers(0, 255, (64, 64, 64), dtype=np.uint8)
try:
    mroi.pack(noise, sys.argv[1], codec="zstd", overwrite=True)
except OSError as exc:
    print(type(exc).__name__, exc.errno)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on files there")
@pytest.mark.parametrize("old", [None, b"the old file"])
def test_a_full_disk_leaves_no_half_file(tmp_path, old):
    target = tmp_path / "new.mroi"
    if old is not None:
        target.write_bytes(old)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, target], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["OSError", str(errno.EFBIG)], done.stderr
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([] if old is None else [old])


SLOW = """
import sys, time
import numpy as np
import mroi

with mroi.create(sys.argv[1], (64, 64, 1000), np.uint8, jobs=1) as writer:
    for k in range(1000):
        writer.write(np.random.default_rng(k).integers(0, 255, (64, 64), dtype=np.uint8))
        if k == 500:
            print("half", flush=True)
            time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
def test_a_killed_program_leaves_no_file_under_the_name(tmp_path):
    target = tmp_path / "new.mroi"
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, target], stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout.readline() == "half\n"
        program.send_signal(signal.SIGKILL)
    assert not target.exists()
    left = list(tmp_path.iterdir())
    assert [path.suffix for path in left] == [".part"]
    with pytest.raises(mroi.FormatError):  # nor does a reader take what is left
        mroi.open(left[0])
    recovery = mroi.recover(left[0], target)
    assert 400 < recovery.chunks - len(recovery.missing) <= 501
    assert left[0].exists()  # it is not swept away by what reads it


class Silent:
    """A sink of one's own, whose `write` returns nothing."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data) -> None:
        self.parts.append(bytes(data))


class Dribble(io.RawIOBase):
    """A raw sink that takes a few bytes of what it is given."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.data += bytes(data[:5])
        return min(len(data), 5)


def test_sinks_of_all_manners_get_every_byte(tmp_path):
    silent, dribble = Silent(), Dribble()
    write(silent)
    write(dribble)
    assert b"".join(silent.parts) == bytes(dribble.data)
    assert mroi.verify(bytes(dribble.data)).ok
    raw = tmp_path / "raw.mroi"
    with raw.open("wb", buffering=0) as file:
        write(file)
    assert mroi.verify(raw).ok


def test_a_sink_that_does_not_wait_is_an_error():
    class Busy(Dribble):
        def write(self, data):
            return None

    with pytest.raises(BlockingIOError):
        write(Busy())


def test_files_that_append_are_written_from_front_to_end(tmp_path):
    target = tmp_path / "appended.mroi"
    with target.open("ab") as file:
        write(file)
    with mroi.open(target) as volume:
        assert volume.reader.head.index is None
        assert np.array_equal(volume[:, :, 2], IMAGE + 2)


def test_a_file_object_is_written_where_it_stands():
    file = io.BytesIO()
    file.write(b"before")
    write(file)
    assert file.tell() == len(file.getvalue())
    assert file.getvalue().startswith(b"before\x89MROI")
    assert mroi.verify(file.getvalue()[6:]).ok


def test_what_is_no_sink_is_refused():
    with pytest.raises(mroi.UsageError):
        ContainerWriter(3)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_named_pipes_are_written_directly(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    program = "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"
    with subprocess.Popen([sys.executable, "-c", program, pipe], stdout=subprocess.PIPE) as reader:
        write(pipe, overwrite=True)
        data, _ = reader.communicate(timeout=30)
    assert mroi.verify(data).ok


# -- folders -----------------------------------------------------------------------------------


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make_folder(target, data: bytes, *, overwrite: bool = False, fail: bool = False) -> None:
    with AtomicFolder(target, overwrite=overwrite) as part:
        (part / "data").write_bytes(data)
        if fail:
            raise RuntimeError("on purpose")


def test_a_folder_appears_at_the_end(tmp_path):
    with AtomicFolder(tmp_path / "a" / "new") as part:
        (part / "data").write_bytes(b"1")
        assert not (tmp_path / "a" / "new").exists()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["new"]
    assert contents(tmp_path / "a") == {"data": b"1"}


@pytest.mark.parametrize("old", [None, b"old"])
def test_an_exception_leaves_the_folder_that_was_there(tmp_path, old):
    if old is not None:
        make_folder(tmp_path / "new", old)
    with pytest.raises(RuntimeError, match="on purpose"):
        make_folder(tmp_path / "new", b"new", overwrite=True, fail=True)
    assert contents(tmp_path) == ({} if old is None else {"data": old})
    assert len(list(tmp_path.iterdir())) == (old is not None)


def test_existing_folders_are_kept_unless_asked(tmp_path):
    make_folder(tmp_path / "new", b"old")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "new", b"new")
    make_folder(tmp_path / "new", b"new", overwrite=True)
    assert contents(tmp_path) == {"data": b"new"}
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_file_is_never_replaced_by_a_folder(tmp_path):
    (tmp_path / "new").write_bytes(b"a file")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "new", b"new", overwrite=True)
    assert (tmp_path / "new").read_bytes() == b"a file"


def test_a_rename_that_fails_gives_the_old_folder_back(tmp_path, monkeypatch):
    make_folder(tmp_path / "new", b"old")
    rename = type(tmp_path).rename

    def fail(path, target):
        if path.suffix == ".part":
            raise OSError(errno.EACCES, "denied")
        return rename(path, target)

    folder = AtomicFolder(tmp_path / "new", overwrite=True)
    (folder.__enter__() / "data").write_bytes(b"new")
    monkeypatch.setattr(type(tmp_path), "rename", fail)
    with pytest.raises(OSError, match="denied"):
        folder.__exit__(None)
    assert contents(tmp_path) == {"data": b"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_a_folder_is_as_readable_as_others(tmp_path):
    make_folder(tmp_path / "new", b"1")
    (tmp_path / "usual").mkdir()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode
