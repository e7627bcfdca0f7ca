"""Unfinished outputs: those in use stay, those that nobody writes any more go."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from mroi.container import AtomicFile
from mroi.container.parts import Part

LOCKS = pytest.mark.skipif(sys.platform == "win32", reason="no locks there")

ABANDON = """
import os, sys
from pathlib import Path
from mroi.container.parts import Part

for _ in range(int(sys.argv[2])):
    kept = Part(Path(sys.argv[1]), shown="", is_folder=sys.argv[3] == "folder")
    globals()[f"kept{_}"] = kept  # all are in use at once
os._exit(0)  # as after a crash
"""


def abandon(target, count=1, kind="file"):
    subprocess.run([sys.executable, "-c", ABANDON, target, str(count), kind], check=True)


def close(part):
    if part.path.is_file():
        part.file.close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@LOCKS
@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("is_folder", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_what_was_abandoned_goes(tmp_path, kind, is_folder, count):
    abandon(tmp_path / "x", count, kind)
    assert names(tmp_path) == [f".x.{n}.part" for n in range(count)]
    if kind == "folder":
        (tmp_path / ".x.0.part/00001.dcm").write_bytes(b"half")
    part = Part(tmp_path / "x", shown="x", is_folder=is_folder)
    assert names(tmp_path) == [".x.0.part"]
    assert part.path.is_dir() == is_folder
    assert not is_folder or not list(part.path.iterdir())
    close(part)
    part.remove()
    assert names(tmp_path) == []


@LOCKS
@pytest.mark.parametrize("is_folder", [True, False])
def test_what_is_in_use_stays(tmp_path, is_folder):
    first = Part(tmp_path / "x", shown="x", is_folder=is_folder)
    second = Part(tmp_path / "x", shown="x", is_folder=is_folder)
    assert names(tmp_path) == [".x.0.part", ".x.1.part"]
    close(first)
    first.release()
    third = Part(tmp_path / "x", shown="x", is_folder=is_folder)
    assert third.path.name == ".x.0.part"
    assert names(tmp_path) == [".x.0.part", ".x.1.part"]
    for part in (second, third):
        close(part)
        part.remove()
    assert names(tmp_path) == []


@LOCKS
def test_an_input_stays(tmp_path):
    """What a crash left may be what is recovered."""
    abandon(tmp_path / "x")
    left = tmp_path / ".x.0.part"
    left.write_bytes(b"worth something")
    with AtomicFile(tmp_path / "x", inputs=[left]) as file:
        file.write(b"new")
        assert left.read_bytes() == b"worth something"
    assert names(tmp_path) == [".x.0.part", "x"]
    with AtomicFile(tmp_path / "x", overwrite=True):
        pass
    assert names(tmp_path) == ["x"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_that_somebody_put_there_is_not_followed(tmp_path):
    (tmp_path / "other").write_bytes(b"of another")
    (tmp_path / ".x.0.part").symlink_to("other")
    with AtomicFile(tmp_path / "x") as file:
        file.write(b"mine")
    assert (tmp_path / "other").read_bytes() == b"of another"
    assert (tmp_path / "x").read_bytes() == b"mine"


def test_other_names_are_left_alone(tmp_path):
    for name in (".x.part", ".x.0.part.gz", "x.0.part", ".xy.0.part", ".x.16.part"):
        (tmp_path / name).write_bytes(b"of another")
    before = names(tmp_path)
    with AtomicFile(tmp_path / "x"):
        pass
    assert names(tmp_path) == sorted([*before, "x"])


@pytest.mark.parametrize("locks", [True, False])
def test_writers_of_one_name_do_not_meet(tmp_path, locks, monkeypatch):
    """Each writes a whole file, however many start and end at once; also where nothing locks."""
    if not locks:
        monkeypatch.setattr("mroi.container.parts.lock_file", lambda _file: None)
    target = tmp_path / "x"

    def write(number: int) -> bool:
        for _ in range(20):
            with AtomicFile(target, overwrite=True) as file:
                for _ in range(3):
                    file.write(b"%03d" % number)
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(write, range(8)))
    data = target.read_bytes()
    assert len(data) == 9
    assert data == 3 * data[:3]
    assert names(tmp_path) == ["x"]


DROP = """
import sys
from pathlib import Path
from mroi.container import AtomicFile
from mroi.container.parts import Part

if sys.argv[2] == "drop":
    AtomicFile(sys.argv[1])
else:
    kept = AtomicFile(sys.argv[1]), Part(Path(sys.argv[1] + "y"), shown="", is_folder=True)
    kept[0].file.write(b"some bytes")
    if sys.argv[2] == "fork":
        import os
        if not os.fork():
            sys.exit()  # of the child: what is its parent's stays
        os.wait()
        assert kept[0]._part.path.exists() and kept[1].path.exists()
    sys.exit("gone")
"""


@pytest.mark.parametrize("how", ["drop", "exit", "fork"])
def test_what_a_program_does_not_finish_goes_with_it(tmp_path, how):
    if how == "fork" and not hasattr(os, "fork"):
        pytest.skip("no fork here")
    program = [sys.executable, "-W", "ignore", "-c", DROP, tmp_path / "x", how]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines() == ([] if how == "drop" else ["gone"])
    assert names(tmp_path) == []
