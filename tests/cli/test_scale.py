"""Many files on the command line: killed and run again, in shards, and what is said at the end."""

import csv
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import mroi as library
from mroi.cli.exits import ExitCode
from tests.cli.runner import AFFINE, Mroi, phantom

PROGRAM = [sys.executable, "-c", "from mroi.cli import main; main()"]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and shells")


def save(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = nib.Nifti1Image(phantom() + np.int16(number), AFFINE)
        nib.save(image, folder / f"sub-{number:02}.nii")
    return folder


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as it is pasted."""
    words = shlex.split(command)
    assert words[0] == "mroi"
    return subprocess.run([*PROGRAM, *words[1:]], capture_output=True, text=True, check=False)


def retry_of(err: str) -> str:
    (line,) = [line for line in err.splitlines() if line.startswith("to try again: ")]
    return line.removeprefix("to try again: ")


@POSIX
def test_killed_and_run_again_nothing_is_done_twice_and_nothing_is_lost(tmp_path: Path) -> None:
    study = save(tmp_path / "study", 14)
    out, journal, manifest = tmp_path / "out", tmp_path / "j.jsonl", tmp_path / "m.csv"
    command = [
        *PROGRAM, "pack", str(study), "-o", str(out), "-c", "zstd:level=22", "-j", "2",
        "--journal", str(journal), "--manifest", str(manifest),
    ]  # fmt: skip
    program = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (journal.exists() and b'"end"' in journal.read_bytes()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    program.kill()
    program.wait()
    ended = [
        line["end"][2]
        for text in journal.read_bytes().split(b"\n")[:-1]
        for line in [json.loads(text)]
        if "end" in line
    ]
    assert 0 < len(ended) < 14
    before = {path: Path(path).stat().st_mtime_ns for path in ended}
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"mroi: {len(ended)} of 14 are done, by {journal}" in done.stderr
    assert {path: Path(path).stat().st_mtime_ns for path in ended} == before
    names = [f"sub-{number:02}.mroi" for number in range(14)]
    assert sorted(path.name for path in out.iterdir()) == names
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(Path(row["target"]).name for row in rows) == names
    for row in rows[:2]:
        assert library.verify(row["target"], against=row["source"]).comparison.equal
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "14 of 14 are done" in done.stderr) == (0, True)


@pytest.mark.parametrize("options", [[], ["--exists", "skip"], ["--journal", "j"]], ids=" ".join)
def test_the_command_at_the_end_packs_what_failed(mroi: Mroi, tmp_path: Path, options) -> None:
    study = save(tmp_path / "my study", 2)
    bad = study / "sub-01.nii"
    good = bad.read_bytes()
    bad.write_bytes(good[:-20])
    done = mroi("pack", "my study", "-o", "out dir", "-c", "zstd", "-j", "1", *options)
    assert done.code == ExitCode.SOME_FAILED
    listed = done.err.partition("mroi: 1 of 2 failed:\n")[2]
    assert listed.startswith("  my study/sub-01.nii: ")
    first = Path("out dir/sub-00.mroi").stat().st_mtime_ns
    bad.write_bytes(good)
    again = shell(retry_of(done.err))
    assert again.returncode == 0, again.stderr
    assert library.verify("out dir/sub-01.mroi", against=bad).comparison.equal
    assert Path("out dir/sub-00.mroi").stat().st_mtime_ns == first


def test_the_command_at_the_end_verifies_what_failed_alone(mroi: Mroi, tmp_path: Path) -> None:
    save(tmp_path / "study", 2)
    assert mroi("pack", "study", "-o", "-p", "-c", "zstd", "-j", "1").code == 0
    bad = Path("-p/sub-01.mroi")
    good = bad.read_bytes()
    bad.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    done = mroi("verify", "-j", "1", "./-p")
    assert done.code == ExitCode.SOME_FAILED
    bad.write_bytes(good)
    again = shell(retry_of(done.err))
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(": ok") == 1


def test_shards_have_everything_once(mroi: Mroi, tmp_path: Path) -> None:
    save(tmp_path / "study" / "a", 3)
    save(tmp_path / "study" / "b", 2)
    for k in (1, 2, 3, 4, 5, 6):
        done = mroi("pack", "study", "-o", "out", "-c", "zstd", "-j", "1", "--shard", f"{k}/6",
                    "--manifest", "m.csv", "--journal", "j")  # fmt: skip
        assert (done.code, len(done.err.splitlines())) == (0, int(k < 6)), done.err
        assert Path(f"m.{k}-of-6.csv").exists()
        assert Path(f"j.{k}-of-6").exists()
    assert len(list(Path("out").rglob("*.mroi"))) == 5
    for command in ("verify", "unpack"):
        parts = [mroi(command, "out", "-j", "1", "--shard", f"{k}/2", "--json") for k in (1, 2)]
        sources = [record["source"] for part in parts for record in part.records]
        assert len(sources) == len(set(sources)) == 5
    assert mroi("pack", "study", "-o", "out", "--shard", "7/6").code == ExitCode.USAGE
    assert mroi("pack", "study/a/sub-00.nii", "-o", "-", "--shard", "1/1").code == ExitCode.USAGE


def test_every_shard_of_roi_has_its_own_tables(mroi: Mroi, tmp_path: Path) -> None:
    heads = tmp_path / "heads"
    heads.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        voxels = rng.integers(0, 20, (16, 18, 14)).astype(np.int16)
        voxels[4:12, 5:14, 3:11] += 900
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), heads / f"s{number}.nii")
    assert mroi("roi", "heads", "-o", "all", "-j", "1").code == 0
    for k in (1, 2):
        assert mroi("roi", "heads", "-o", "out", "-j", "1", "--shard", f"{k}/2").code == 0
    whole = Path("all/bbox3d_by_subject.csv").read_text().splitlines()
    parts = [
        path.read_text().splitlines()
        for path in sorted(Path("out").glob("*/bbox3d_by_subject.csv"))
    ]
    assert sorted(whole) == sorted({*parts[0], *parts[1]})


def test_roi_goes_on_with_the_rows_of_its_journal(mroi: Mroi, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(3):
        voxels = rng.integers(0, 20, (16, 18, 14)).astype(np.int16)
        voxels[4:12, 5:14, 3:11] += 900
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / f"s{number}.nii")
    good = Path("s1.nii").read_bytes()
    Path("s1.nii").write_bytes(good[:-20])
    command = ["roi", "s0.nii", "s1.nii", "s2.nii", "-o", "out", "-j", "1", "--journal", "j",
               "--save-cropped"]  # fmt: skip
    done = mroi(*command)
    assert done.code == ExitCode.SOME_FAILED
    Path("s1.nii").write_bytes(good)
    again = shell(retry_of(done.err))
    assert again.returncode == 0, again.stderr
    assert again.stderr.count(" -> ") == 1
    table = Path("out/bbox3d_by_subject.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in table] == ["subject_id", "s0", "s1", "s2"]


def test_what_makes_no_sense_is_refused(mroi: Mroi, tmp_path: Path) -> None:
    save(tmp_path / "study", 2)
    for options in (
        ["--journal", "j", "--exists", "suffix"],
        ["--shard", "0/2"],
        ["--manifest", "m.txt"],
        ["--dask", "tcp://x:1", "-o", "-"],
    ):
        done = mroi("pack", "study", "-o", "out", *options)
        assert done.code == ExitCode.USAGE, (options, done.err)
    shared = ["--metadata", "clean", "--shard", "1/2"]
    done = mroi("pack", "study", "-o", "out", *shared)
    assert (done.code, "--retain uids" in done.err) == (ExitCode.USAGE, True)
    done = mroi("pack", "study", "-o", "retained", "-j", "1", *shared, "--retain", "uids")
    assert done.code == 0
    assert not Path("out").exists() or not list(Path("out").iterdir())
    Path("j").write_text("precious")
    done = mroi("pack", "study", "-o", "out", "--journal", "j")
    assert (done.code, "is no journal" in done.err) == (ExitCode.NO_INPUT, True)
    assert Path("j").read_text() == "precious"


@POSIX
def test_an_array_of_slurm_is_shards(tmp_path: Path) -> None:
    """The line of the manual, with the variables that SLURM sets."""
    save(tmp_path / "study", 3)
    shard = "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
    line = f'mroi pack study -o packed -j 1 -c zstd --shard "{shard}"'
    (tmp_path / "mroi").write_text(f'#!/bin/sh\nexec {shlex.join(PROGRAM)} "$@"\n')
    (tmp_path / "mroi").chmod(0o755)
    for task in ("1", "2"):
        subprocess.run(
            ["sh", "-c", line], cwd=tmp_path, check=True, stderr=subprocess.DEVNULL,
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}",
                 "SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": "2"},
        )  # fmt: skip
    assert len(list((tmp_path / "packed").iterdir())) == 3
