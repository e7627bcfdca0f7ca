"""The recipes of the manual for arrays of jobs, in the programs that they are for."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "scale.md"
PROGRAM = [sys.executable, "-c", "from mroi.cli import main; main()"]


def recipe(title: str) -> str:
    """Return the text of a file of the manual."""
    (text,) = re.findall(rf'```\w+ title="{title}"\n(.*?)```', PAGE.read_text("utf-8"), re.DOTALL)
    return str(text)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A folder with a study in it, and a program that is called mroi."""
    monkeypatch.chdir(tmp_path)
    for number in range(5):
        folder = tmp_path / "study" / f"sub-{number:02}"
        folder.mkdir(parents=True)
        voxels = np.arange(240, dtype=np.int16).reshape(5, 6, 8) + number
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / "T1w.nii")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mroi").write_text(f'#!/bin/sh\nexec {shlex.join(PROGRAM)} "$@"\n')
    (tmp_path / "bin" / "mroi").chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_slurm(environment: dict[str, str]) -> None:
    """With the variables that SLURM sets; twice, as after a time limit."""
    Path("pack.sbatch").write_text(recipe("pack.sbatch"))
    for task in ("1", "2", "3", "1"):
        variables = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": "3"}
        done = subprocess.run(
            ["bash", "pack.sbatch"], env={**environment, **variables, "SLURM_CPUS_PER_TASK": "1"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert "2 of 2 are done" in done.stderr
    assert len(list(Path("archive").rglob("*.mroi"))) == 5


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("snakemake") is None, reason="needs snakemake")
def test_snakemake(environment: dict[str, str]) -> None:
    Path("Snakefile").write_text(recipe("Snakefile"))
    done = subprocess.run(
        ["snakemake", "--cores", "2"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(list(Path("snake").rglob("*.mroi"))) == 5
    assert sorted(path.name for path in Path("done").glob("*.csv")) == [
        "m.1-of-2.csv",
        "m.2-of-2.csv",
    ]
