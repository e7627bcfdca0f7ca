"""A full disk is said of the output, wherever it goes, and leaves nothing."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mroi as library
from mroi.cli.exits import ExitCode
from tests.cli.runner import Mroi

PROGRAM = [sys.executable, "-c", "from mroi.cli import main; main()"]
FULL = Path("/dev/full")
LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
from mroi.cli import main
main()
"""


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file whose parts are all larger than what the tests have room for."""
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    library.pack(noise, tmp_path / "large.mroi", codec="zstd", roi="full")
    library.unpack(tmp_path / "large.mroi", tmp_path / "large.nii")
    return tmp_path / "large.mroi"


COMMANDS = [
    ("pack", "large.nii", "out.mroi"),
    ("unpack", "large.mroi", "out.nii"),
    ("unpack", "large.mroi", "out.nii.gz"),
    ("recover", "large.mroi", "out.mroi"),
    ("slice", "large.mroi", "out.npy"),
    ("slice", "large.mroi", "out.png"),
    ("preview", "large.mroi", "out.png"),
]


OPTIONS = {"pack": ("--codec", "zstd")}  # calv may want to keep what it compiled
"""Further options, by command."""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on files there")
@pytest.mark.parametrize(("command", "source", "output"), COMMANDS)
def test_the_output_is_named(large: Path, command: str, source: str, output: str) -> None:
    before = sorted(large.parent.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, command, source, "-o", output, *OPTIONS.get(command, ())],
        cwd=large.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == ExitCode.NO_OUTPUT, done.stderr
    assert f"mroi: {source}: {output}: File too large\n" in done.stderr
    assert sorted(large.parent.iterdir()) == before


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
@pytest.mark.parametrize(
    ("command", "source"), sorted({c[:2] for c in COMMANDS if c[0] != "recover"})
)
def test_standard_output_is_named(large: Path, command: str, source: str) -> None:
    with FULL.open("wb") as full:
        done = subprocess.run(
            [*PROGRAM, command, source, "-o", "-"],
            cwd=large.parent, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == ExitCode.NO_OUTPUT, done.stderr
    assert f"mroi: {source}: standard output: No space left on device\n" in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
def test_a_device_is_named(mroi: Mroi, large: Path) -> None:
    done = mroi("pack", large.with_suffix(".nii"), "-o", FULL, "--exists", "overwrite")
    assert (done.code, f"{FULL}: No space left" in done.err) == (ExitCode.NO_OUTPUT, True)


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on files there")
def test_the_place_of_temporary_files_is_named(large: Path) -> None:
    with large.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-c", LIMITED, "info", "-"],
            cwd=large.parent, stdin=file, env={**os.environ, "TMPDIR": str(large.parent)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == ExitCode.NO_OUTPUT
    assert f"{large.parent}/mroi-" in done.stderr
    assert "File too large" in done.stderr
