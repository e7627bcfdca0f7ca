"""A third party's package, installed as users install it, is found by its entry point and works."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "plugin-example"

USE = """
import numpy as np
from mroi.codecs import ChunkSpec, Pipeline, available, parse

(entry,) = [entry for entry in available() if entry.name == "org.example.lzma"]
assert (entry.provider, entry.problem, entry.id) == ("mroi-lzma 1.0.0", None, 0), entry
pipeline = Pipeline(parse("org.example.lzma:preset=9"))
spec = ChunkSpec((2, 9, 8), np.dtype("<i2"), 16)
chunk = np.arange(144, dtype="<i2").reshape(spec.shape)
payload = pipeline.encode(chunk, spec)
twin = Pipeline.from_json("org.example.lzma", pipeline.to_json())
assert twin.decode(payload, spec).tolist() == chunk.tolist()
print("found")
"""

TARGET = """
import io
import numpy as np
import mroi
from mroi import Target

voxels = np.random.default_rng(0).normal(500, 90, (30, 20, 4)).astype("<i2")
file = io.BytesIO()
mroi.pack(voxels, file, codec="org.example.lzma", quality=Target(max_error=7))
print(np.abs(np.asarray(mroi.open(file)).astype(int) - voxels).max())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the example into a folder of its own, offline."""
    pytest.importorskip("hatchling")
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += [
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--target",
        str(target),
        str(EXAMPLE),
    ]
    subprocess.run(command, check=True, timeout=120)
    return target


def run(arguments: list[str], site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(site)))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_codec_is_found_and_works(installed: Path) -> None:
    done = run(["-c", USE], installed)
    assert done.stdout == "found\n", done.stderr


def test_it_takes_a_target(installed: Path) -> None:
    done = run(["-c", TARGET], installed)
    assert done.stdout == "7\n", done.stderr


def test_its_own_tests_pass(installed: Path, tmp_path: Path) -> None:
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-c", os.devnull]
    done = run(["-m", "pytest", *options, str(EXAMPLE / "tests")], installed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
