"""A manifest: what CSV and Parquet say is the same, and right."""

import csv
import hashlib
from pathlib import Path

import pytest

from mroi.batch import Journal, run
from mroi.batch.manifest import COLUMNS, entries_of
from mroi.batch.tasks import Task
from mroi.batch.told import Outcome, Result
from mroi.errors import UsageError
from tests.batch.works import Copy, copies
from tests.extras import require

CONTENTS = [b"one", b"twoo", b"gone"]


def rows_of(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return [
                {name: None if text == "" and COLUMNS[name] is not str else COLUMNS[name](text)
                 for name, text in row.items()}
                for row in csv.DictReader(file)
            ]  # fmt: skip
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path).to_pylist()


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_it_says_what_was_written(tmp_path: Path, ending: str) -> None:
    if ending == ".parquet":
        require("parquet")
    tasks = copies(tmp_path, CONTENTS)
    Path(tasks[2].source).unlink()
    path = tmp_path / f"made{ending}"
    for _ in range(2):  # its own is replaced
        list(run(Copy(str(tmp_path / "log")), tasks, manifest=path))
        rows = rows_of(path)
        if _ == 0:
            assert [row["status"] for row in rows] == ["ok", "ok", "failed"]
            first = rows[0]
            assert isinstance(first["seconds"], float)
            checksum = hashlib.sha256(b"one").hexdigest()
            del first["seconds"]
            assert first == {
                "command": "copy", "source": tasks[0].source, "part": "", "status": "ok",
                "reason": "", "target": tasks[0].target, "source_size": 3, "target_size": 3,
                "voxel_size": None, "codec": "none", "source_sha256": checksum,
                "target_sha256": checksum,
            }  # fmt: skip
            assert "No such file" in str(rows[2]["reason"])
            assert rows[2]["source_size"] is None
    assert len(rows) == 3


def test_the_checksum_of_a_series_is_that_of_its_files_by_name(tmp_path: Path) -> None:
    files = tuple(tmp_path / name for name in ("b.dcm", "a.dcm"))
    for file in files:
        file.write_bytes(file.name.encode())
    task = Task(str(tmp_path), "x.mroi", files=files)
    (row,) = entries_of("pack", Result(task, Outcome({}, "")))
    assert row["source_size"] == 10
    assert row["source_sha256"] == hashlib.sha256(b"a.dcmb.dcm").hexdigest()
    files[0].unlink()
    (row,) = entries_of("pack", Result(task, Outcome({}, "")))
    assert (row["source_size"], row["source_sha256"]) == (None, None)


def test_it_has_what_the_journal_has_from_before(tmp_path: Path) -> None:
    tasks, work = copies(tmp_path, CONTENTS), Copy(str(tmp_path / "log"))
    with Journal(tmp_path / "journal", work) as journal:
        list(run(work, tasks[:2], journal=journal))
    with Journal(tmp_path / "journal", work) as journal:
        (result,) = run(work, tasks, journal=journal, manifest=tmp_path / "m.csv")
    assert result.task == tasks[2]
    rows = rows_of(tmp_path / "m.csv")
    assert [row["source"] for row in rows] == [task.source for task in tasks]


def test_it_is_there_whole_when_the_work_is_given_up(tmp_path: Path) -> None:
    results = run(
        Copy(str(tmp_path / "log")), copies(tmp_path, CONTENTS), manifest=tmp_path / "m.csv"
    )
    next(results)
    assert not (tmp_path / "m.csv").exists()
    results.close()
    assert len(rows_of(tmp_path / "m.csv")) == 1


@pytest.mark.parametrize("name", ["m.csv", "m.parquet", "m.txt"])
def test_another_file_is_not_replaced(tmp_path: Path, name: str) -> None:
    if name == "m.parquet":
        require("parquet")
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(UsageError, match="manifest"):
        list(run(Copy(str(tmp_path / "l")), copies(tmp_path, CONTENTS), manifest=tmp_path / name))
    assert (tmp_path / name).read_bytes() == b"precious"
    assert not list((tmp_path / "out").iterdir())
