"""The command line as a whole: help, version, usage, exit codes."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import mroi as library
from mroi.cli.exits import ExitCode
from tests.cli.runner import Mroi

COMMANDS = ("pack", "unpack", "info", "verify", "recover", "slice", "preview", "export", "codecs")
START = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs the tests may ignore it
from mroi.cli import main
main()
"""
PROGRAM = [sys.executable, "-c", START]


def test_help_lists_every_command_and_every_exit_code(mroi: Mroi) -> None:
    done = mroi("--help")
    assert done.code == 0
    assert [name for name in COMMANDS if f"\n  {name} " not in done.out] == []
    assert [code for code in ExitCode if f"\n    {code:<4} {code.meaning}" not in done.out] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_examples_that_start_with_its_name(mroi: Mroi, command: str) -> None:
    for option in ("--help", "-h"):
        done = mroi(command, option)
        assert done.code == 0
        examples = done.out.partition("Examples:\n")[2]
        assert examples.strip().startswith(f"mroi {command}")


def test_version(mroi: Mroi) -> None:
    assert mroi("--version").out == f"mroi {library.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["pac"],
        ["pack", "--no-such-option"],
        ["pack", "-", "other.nii"],
        ["pack", "x.nii", "--codec", "zstd:level=99"],
        ["pack", "x.nii", "--codec", "zstd:lvl=9"],
        ["pack", "x.nii", "--margin", "3"],
        ["pack", "x.nii", "--roi", "0:1,0:1,0:1", "--margin", "three"],
        ["pack", "x.nii", "--axis", "t"],
        ["pack", "a/x.nii", "b/x.nii", "-o", "-"],
        ["pack", "x.nii", "-o", "-", "--json"],
        ["verify", "a.mroi", "b.mroi", "--against", "c.nii"],
        ["recover", "a.mroi", "-o", "-"],
        ["preview", "a.mroi", "--window", "5"],
        ["preview", "a.mroi", "--window", "5,5"],
        ["slice", "a.mroi", "--window", "nan,5"],
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_told_apart_from_failures(mroi: Mroi, arguments: list[str]) -> None:
    done = mroi(*arguments)
    assert (done.code, done.out) == (ExitCode.USAGE, "")
    assert "Error: " in done.err


def test_completion_knows_the_commands() -> None:
    environment = {
        **os.environ,
        "_MROI_COMPLETE": "complete_bash",
        "COMP_WORDS": "mroi p",
        "COMP_CWORD": "1",
    }
    code = "from mroi.cli import app; app(prog_name='mroi')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["pack", "preview"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, ExitCode.INTERRUPTED),
        (signal.SIGTERM, ExitCode.TERMINATED),
        (signal.SIGHUP, ExitCode.HUNG_UP),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
    ids=["interrupted", "terminated", "hung up", "killed"],
)
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_stopping_leaves_no_file_under_the_final_name(
    tmp_path: Path, number: int, code: int, jobs: str
) -> None:
    save_noise(tmp_path)
    program = start_packing(tmp_path, "-j", jobs)
    program.send_signal(number)
    _out, err = program.communicate(timeout=60)
    assert program.returncode == code, err
    assert b"Traceback" not in err
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["a.nii", "b.nii"]
    if number == signal.SIGKILL and jobs == "1":
        assert parts(tmp_path)
    else:  # processes that work for one that was killed find out, and clean up
        wait_for(lambda: not parts(tmp_path))


def save_noise(folder: Path) -> None:
    """Save what takes the highest level of zstd many seconds."""
    noise = np.random.default_rng(0).integers(0, 4, (256, 256, 400), dtype=np.uint8)
    for name in ("a.nii", "b.nii"):
        nib.save(nib.Nifti1Image(noise, np.eye(4)), folder / name)


def start_packing(folder: Path, *options: str, **how: object) -> subprocess.Popen[bytes]:
    """Start to pack a folder, and return once it writes."""
    arguments = ["pack", str(folder), "--roi", "full", "-c", "zstd:level=22", *options]
    before = parts(folder)
    program = subprocess.Popen([*PROGRAM, *arguments], stderr=subprocess.PIPE, **how)
    wait_for(lambda: parts(folder) - before)
    return program


def parts(folder: Path) -> set[tuple[str, int]]:
    """Return what is unfinished in a folder: names, and when each was made."""
    with suppress(FileNotFoundError):  # one that goes meanwhile
        return {(path.name, path.stat().st_ctime_ns) for path in folder.glob(".*.part")}
    return set()


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not what() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert what()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_hang_up_that_was_ignored_from_the_start_stays_ignored(tmp_path: Path) -> None:
    """As after nohup."""
    save_noise(tmp_path)
    program = start_packing(
        tmp_path, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    program.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert program.poll() is None
    program.terminate()
    program.communicate(timeout=60)
    assert program.returncode == ExitCode.TERMINATED


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_stopping_removes_what_came_through_a_pipe(tmp_path: Path, number: int) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    program = subprocess.Popen(
        [*PROGRAM, "pack", "-", "-o", str(tmp_path / "x.mroi")],
        stdin=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    wait_for(lambda: list(folder.glob("mroi-*/*")))  # not the folder alone: it may not be known yet
    program.send_signal(number)
    for _ in range(5):  # one that comes just before the read is seen with the next
        with suppress(subprocess.TimeoutExpired):
            program.wait(10)
            break
        program.send_signal(number)
    assert program.returncode == 128 + number
    program.stdin.close()
    assert not list(folder.glob("mroi-*"))


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_later_run_removes_what_nobody_writes_any_more(tmp_path: Path) -> None:
    save_noise(tmp_path)
    (tmp_path / "b.nii").unlink()
    killed = start_packing(tmp_path)
    killed.kill()
    killed.communicate()
    assert (tmp_path / ".a.mroi.0.part").exists()
    (tmp_path / ".other.mroi.0.part").write_bytes(b"of another output")
    with start_packing(tmp_path) as living:
        mine = (tmp_path / ".a.mroi.0.part").stat().st_ino
        third = [*PROGRAM, "pack", str(tmp_path / "a.nii"), "-c", "zstd", "--roi", "full"]
        subprocess.run(third, check=True, stderr=subprocess.DEVNULL)
        assert (tmp_path / ".a.mroi.0.part").stat().st_ino == mine
        living.terminate()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".other.mroi.0.part", "a.mroi", "a.nii"]
    assert library.verify(tmp_path / "a.mroi", against=tmp_path / "a.nii").comparison.equal


@pytest.mark.parametrize(("option", "said"), [("--verbose", 1), ("--quiet", 0)])
def test_what_takes_long_once_is_said(
    mroi: Mroi, scan: Path, option: str, said: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A codec that is compiled logs so, and the command passes it on."""

    def encode(*_: object) -> bytes:
        logging.getLogger("mroi.calv").info("preparing")
        raise library.CodecError("stop", "CDC-6")

    monkeypatch.setattr("mroi.codecs.general.raw.Raw.encode", encode)
    done = mroi("pack", scan, "--codec", "raw", "--chunk", "100", option)
    assert done.err.count("mroi: calv: preparing\n") == said
