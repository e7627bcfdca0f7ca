"""``mroi bench``: a row for what is asked, also if it fails; again, and after an interruption."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import pytest

from mroi.bench import run as bench_run
from mroi.cli.exits import ExitCode
from tests.cli.runner import AFFINE, Mroi, phantom
from tests.extras import needs, needs_codec

pytestmark = needs("bench")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "study" / "scan.nii.gz"
    path.parent.mkdir()
    nib.save(nib.Nifti1Image(phantom(), AFFINE), path)
    return path


def rows(folder: str = "out") -> list[dict[str, str]]:
    with Path(folder, "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_its_journal_and_the_same_again(mroi: Mroi, scan: Path) -> None:
    options = ("-c", "zstd", "--roi", "tight", "--roi", "0:99,0:9,0:9")
    done = mroi("bench", scan.parent, "-o", "out", *options)
    assert done.code == ExitCode.SOME_FAILED
    assert "2 of 2 rows" in done.err
    good, bad = rows()
    assert (good["volume"], good["codec"], good["roi"]) == ("scan", "zstd", "tight")
    mroi("pack", scan, "-o", "x.mroi", "--codec", "zstd", "--roi", "tight")
    assert int(good["bytes"]) == Path("x.mroi").stat().st_size
    assert int(good["raw_bytes"]) == 2 * phantom().size
    assert int(good["nii_gz_bytes"]) == scan.stat().st_size
    assert (good["lossless"], good["psnr"]) == ("True", "inf")
    assert float(good["slice_seconds"]) > 0
    assert bad["status"] == "failed"
    assert "0:99" in bad["error"]
    assert bad["raw_bytes"] == good["raw_bytes"]
    assert bad["bytes"] == ""
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "journal.jsonl", "report.html", "results.csv", "results.json",
    ]  # fmt: skip

    # What is finished is not measured again, what failed is; a torn line is no harm.
    journal = Path("out/journal.jsonl")
    with journal.open("a") as file:
        file.write('{"key": "x", "row')
    before = journal.read_text()
    done = mroi("bench", scan.parent, "-o", "out", *options)
    assert "(measured before)" in done.err
    assert journal.read_text().removeprefix(before).count("failed") == 1

    # And the whole once more, elsewhere, from what the results say.
    done = mroi("bench", "--reproduce", "out/results.json")
    assert "all results are the same" in done.out
    assert rows("out/again")[0]["bytes"] == good["bytes"]
    record = json.loads(Path("out/results.json").read_text())
    record["rows"][0]["bytes"] += 1
    Path("out/results.json").write_text(json.dumps(record))
    done = mroi("bench", "--reproduce", "out/results.json")
    assert done.code == ExitCode.FAILED
    assert f"bytes was {int(good['bytes']) + 1}, is {good['bytes']}" in done.out


@needs_codec("jpegls")
def test_medrois_arguments(mroi: Mroi, scan: Path) -> None:
    mroi("roi", scan, "-o", "roi", "--save-cropped")
    done = mroi(
        "bench", "--original_dir", scan.parent, "--cropped_dir", "roi/cropped_volumes",
        "--bbox_csv", "roi/bbox3d_by_subject.csv", "--output", "out", "--real_mode",
        "-c", "jpegls", "--psnr", "40", "--json",
    )  # fmt: skip
    assert done.code == 0
    (record,) = done.records
    assert record["roi"] == "boxes:roi/bbox3d_by_subject.csv"
    assert (record["background"], record["target"]) == ("drop", "psnr=40")
    assert 40 <= record["psnr"] < 60
    assert record["setting"].startswith("jpegls:near=")
    assert Path("out/pictures", record["picture"]).is_file()
    assert "data:image/png" in Path("out/report.html").read_text()


def test_only_the_original(mroi: Mroi, scan: Path) -> None:
    done = mroi(
        "bench", "--original_dir", scan.parent, "--use_original_only", "-o", "out", "--dry-run",
        "-c", "zstd", "--json",
    )  # fmt: skip
    assert [record["part"] for record in done.records] == ["zstd, ROI full"]
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ("import os, signal; print('last words'); os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("import sys; sys.exit('last words')", "ended with code 1: last words"),
        ("import time; time.sleep(60)", "given up after 1 s"),
    ],
)
def test_what_crashes_or_hangs_is_a_row(
    mroi: Mroi, scan: Path, steps: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_run, "_STEPS", ("-c", steps))
    done = mroi("bench", scan, "-o", "out", "-c", "zstd", "--roi", "full", "--timeout", "1")
    assert done.code == ExitCode.FAILED
    assert why in rows()[0]["error"]
    assert not Path("out/work").exists()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "name files or folders"),
        (("x.nii",), "--output"),
        (("x.nii", "-o", "out", "-c", "nonsense"), "nonsense"),
        (("x.nii", "-o", "out", "--roi", "nonsense"), "expected"),
        (("x.nii", "-o", "out", "--psnr", "30,x"), "target"),
        (("x.nii", "-o", "out", "--roi", "full", "--use_original_only"), "exclusive"),
        (("--reproduce", "x.json", "-c", "zstd"), "from its file"),
    ],
)
def test_wrong_arguments(mroi: Mroi, arguments: tuple[str, ...], why: str) -> None:
    done = mroi("bench", *arguments, *(("-o", "out") if not arguments else ()))
    assert done.code == ExitCode.USAGE
    assert why in done.err


def test_an_input_that_is_not_there_is_a_row(mroi: Mroi) -> None:
    done = mroi("bench", "nothing.nii", "-o", "out", "-c", "zstd", "--roi", "full")
    assert done.code == ExitCode.FAILED
    assert "nothing.nii" in rows()[0]["error"]


def test_results_do_not_fit_into_a_file(mroi: Mroi, scan: Path) -> None:
    Path("taken").write_bytes(b"mine")
    done = mroi("bench", scan, "-o", "taken", "-c", "zstd")
    assert done.code == ExitCode.USAGE
    assert "taken is no folder" in done.err
    assert Path("taken").read_bytes() == b"mine"
