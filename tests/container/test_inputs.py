"""What an input is called by: paths, URLs, pipes; and copies that go when they are used."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mroi.container.inputs import copy_stream, is_pipe, is_url, name_of, on_disk, stored
from mroi.errors import ChecksumError, SourceError

PIPES = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
DATA = bytes(range(256)) * 5000


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("https://example.org/a.mroi", True),
        ("HTTP://example.org", True),
        ("s3://bucket/key", True),
        ("simplecache::https://example.org/a", True),
        ("zip://a.mroi::https://example.org/a.zip", True),
        ("scan.nii.gz", False),
        ("/data/a:b//c", False),
        ("C:\\data\\a.nii", False),
        ("C:/data/a.nii", False),
        ("c://data", False),  # a drive
        ("://x", False),
        ("", False),
        (Path("https://x"), False),
        (b"https://x", False),
        (None, False),
    ],
)
def test_what_is_a_url(target: object, expected: bool) -> None:  # noqa: FBT001
    assert is_url(target) == expected


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("study/scan.nii.gz", "scan.nii.gz"),
        (Path("study") / "scan", "scan"),
        ("https://example.org/a/scan%201.nii.gz?key=1#x", "scan 1.nii.gz"),
        ("https://example.org/a/b/", "b"),
        ("https://example.org", "example.org"),
        ("https://example.org/a/..", "a"),
        ("https://example.org/%2e%2e/%2fetc%2fpasswd", "passwd"),
        ("https://example.org/a%5cb%00c.mroi", "c.mroi"),
        ("file:///", "download"),
    ],
)
def test_names(target: str | Path, name: str) -> None:
    assert name_of(target) == name


def test_the_folder_one_is_in_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "study" / "series").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "study" / "series")
    assert name_of(".") == "series"
    assert name_of("..") == "study"


@given(st.text(max_size=40))
def test_a_url_never_names_another_folder(path: str) -> None:
    name = name_of(f"https://example.org/{path}")
    assert name not in {"", ".", ".."}
    assert not {"/", "\\", "\0"} & set(name)


@PIPES
def test_what_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    assert is_pipe(tmp_path / "pipe")
    assert not is_pipe(tmp_path / "file")
    assert not is_pipe(tmp_path)
    assert not is_pipe(tmp_path / "nothing")
    assert not is_pipe("a\0b")
    with pytest.raises(SourceError, match=r"null is a device"):
        is_pipe("/dev/null")


def test_a_file_on_disk_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA)
    with on_disk(str(tmp_path / "file")) as path:
        assert path == tmp_path / "file"
    assert path.exists()


@PIPES
def test_a_pipe_is_copied_and_the_copy_goes(tmp_path: Path) -> None:
    pipe = tmp_path / "scan.nii.gz"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(DATA,))
    writer.start()
    with on_disk(pipe) as path:
        assert path != pipe
        assert path.name == "scan.nii.gz"  # the ending may matter
        assert path.read_bytes() == DATA
    writer.join()
    assert not path.parent.exists()


def test_a_copy_goes_whatever_happens() -> None:
    def use(path: Path) -> None:
        assert path.read_bytes() == b"x"
        raise KeyError(path)

    copied = stored(lambda file: file.write(b"x"), "a.nii", "https://x/a.nii")
    with pytest.raises(KeyError) as caught, copied as path:
        use(path)
    assert not caught.value.args[0].parent.exists()


def test_messages_name_what_was_given_and_not_the_copy() -> None:
    with (
        pytest.raises(ChecksumError) as caught,
        stored(lambda _: None, "a.nii", "https://x/a.nii") as path,
    ):
        raise ChecksumError(f"{path}: broken", "FRM-6", 7)
    assert str(caught.value) == "https://x/a.nii: broken at byte 7 [FRM-6]"


def test_a_copy_without_room_is_named() -> None:
    def fail(_file: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught, stored(fail, "a.nii", "x"):
        pass
    assert Path(caught.value.filename).name == "a.nii"
    assert not Path(caught.value.filename).parent.exists()


def test_long_names_keep_their_ending() -> None:
    with stored(lambda _: None, "n" * 300 + ".nii.gz", "x") as path:
        assert path.name.endswith("nnn.nii.gz")
        assert len(path.name) == 60


def test_the_rest_of_a_stream_is_copied() -> None:
    source, target = io.BytesIO(DATA), io.BytesIO()
    source.read(100)
    copy_stream(source, target)
    assert target.getvalue() == DATA[100:]
