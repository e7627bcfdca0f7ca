"""Every fuzz target holds its invariant on the seeds and on some changes to them."""

import subprocess
import sys
from pathlib import Path

import pytest

TARGETS = sorted((Path(__file__).resolve().parent.parent / "fuzz").glob("fuzz_*.py"))


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
