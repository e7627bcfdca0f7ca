"""Every fuzz target holds its invariant on the seeds and on some changes to them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.extras import needs

FUZZ = Path(__file__).resolve().parent.parent / "fuzz"
TARGETS = sorted(FUZZ.glob("fuzz_*.py"))


@pytest.mark.parametrize("target", TARGETS, ids=lambda path: path.stem)
def test_target_holds(target: Path) -> None:
    done = subprocess.run(
        [sys.executable, target, "--mutations", "200"],
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


@needs("codecs")
@pytest.mark.parametrize("name", ["jpegls", "htj2k", "pcodec"])
def test_native_decoders_hold(name: str) -> None:
    done = subprocess.run(
        [sys.executable, FUZZ / "native.py", "--seconds", "1", "--codec", name],
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"| `{name}` |" in done.stdout
