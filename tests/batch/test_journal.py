"""A journal: cut anywhere, it is continued; changed anywhere, it is refused or harmless."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from mroi import PackOptions
from mroi.batch import Journal, Pack, Task, run
from mroi.batch.tasks import Action
from mroi.batch.told import Context, Outcome, Result
from mroi.errors import MroiError, SourceError, UsageError
from tests.batch.works import Copy, copies

CONTENTS = [b"one", b"two", b"three"]


def work_of(folder: Path) -> Copy:
    return Copy(str(folder / "log"))


@pytest.fixture
def done(tmp_path: Path) -> bytes:
    """A journal of three tasks that are done."""
    work = work_of(tmp_path)
    with Journal(tmp_path / "journal", work) as journal:
        results = list(run(work, copies(tmp_path, CONTENTS), journal=journal))
    assert [result.error for result in results] == [None] * 3
    return (tmp_path / "journal").read_bytes()


def again(folder: Path, data: bytes) -> list[str]:
    """Continue a journal that has these bytes; return which files were copied."""
    (folder / "journal").write_bytes(data)
    (folder / "log").write_bytes(b"")
    tasks = [
        Task(str(folder / "in" / name), str(folder / "out" / name))
        for name in ("000", "001", "002")
    ]
    work = work_of(folder)
    with Journal(folder / "journal", work) as journal:
        results = list(run(work, tasks, journal=journal))
    assert [str(result.error) for result in results if result.error] == []
    return [Path(line).name for line in (folder / "log").read_text().split()]


def test_what_is_done_is_not_done_again(tmp_path: Path, done: bytes) -> None:
    assert again(tmp_path, done) == []


def test_cut_anywhere_it_is_continued_and_nothing_is_lost(tmp_path: Path, done: bytes) -> None:
    for size in range(0, len(done), 7):
        whole = [json.loads(line) for line in done[:size].split(b"\n")[:-1]]
        ended = {line["end"][0][-3:] for line in whole if "end" in line}
        begun = {line["start"][0][-3:] for line in whole if "start" in line}
        for name in {"000", "001", "002"} - begun:  # what was not begun has no output
            (tmp_path / "out" / name).unlink(missing_ok=True)
        assert set(again(tmp_path, done[:size])) == {"000", "001", "002"} - ended
        assert [(tmp_path / "out" / f"00{k}").read_bytes() for k in range(3)] == CONTENTS


def test_changed_anywhere_it_is_refused_or_harmless(tmp_path: Path, done: bytes) -> None:
    tasks = len(CONTENTS)
    for at in range(0, len(done), 3):
        damaged = bytearray(done)
        damaged[at] ^= 1 + at % 127
        (tmp_path / "journal").write_bytes(damaged)
        try:
            with Journal(tmp_path / "journal", work_of(tmp_path)) as journal:
                list(journal.entries())
                list(journal.tables())
                assert len(journal.remaining(copies(tmp_path, CONTENTS))) <= tasks
        except MroiError:
            continue


def end(**members: object) -> bytes:
    """Return a line that says that a task is done, with other members than it may have."""
    line = {"end": ["a", "b", "c"], "status": "ok", "stamp": None, "sizes": [], "entries": []}
    return json.dumps({**line, "tables": {}, **members}).encode()


LINES = [
    b"[" * 100_000, b"null", b"{}", b'{"start": 5}', b'{"start": ["a", "b"], "free": true}',
    b'{"end": ["a", "b", "c"]}', end(status="done"), end(stamp=[1, True]), end(sizes=[["a", "b"]]),
    end(entries=[{"command": 1}]), end(tables={"a": 1}), end(end=["a", 1, "c"]), b"\xff\xfe",
    b"9" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_a_hostile_line_is_told(tmp_path: Path, done: bytes, line: bytes) -> None:
    (tmp_path / "journal").write_bytes(done + line + b"\n")
    with pytest.raises(SourceError, match="line 8"):
        Journal(tmp_path / "journal", work_of(tmp_path))


@pytest.mark.parametrize("data", [b"precious", b"precious\n", b'{"a": 1}\n', b"\0" * 100])
def test_another_file_is_left_as_it_is(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "journal").write_bytes(data)
    with pytest.raises(SourceError, match="is no journal"):
        Journal(tmp_path / "journal", work_of(tmp_path))
    assert (tmp_path / "journal").read_bytes() == data


def test_a_folder_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is a folder: name a file .* such as .*journal\.jsonl"):
        Journal(tmp_path, work_of(tmp_path))


def test_of_other_work_it_is_refused(tmp_path: Path, done: bytes) -> None:
    with pytest.raises(UsageError, match=r"other work, with seconds 0\.0, not 1\.0"):
        Journal(tmp_path / "journal", Copy(str(tmp_path / "log"), 1.0))


def test_of_other_work_it_names_what_differs(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", Pack(PackOptions())):
        pass
    with pytest.raises(UsageError, match=r"with options\.codec 'auto', not 'zstd': name another"):
        Journal(tmp_path / "journal", Pack(PackOptions(codec="zstd")))
    assert "salt" not in (tmp_path / "journal").read_text()
    with Journal(tmp_path / "journal", Pack(PackOptions())):  # another salt
        pass


def test_two_runs_do_not_share_it(tmp_path: Path, done: bytes) -> None:
    with (
        Journal(tmp_path / "journal", work_of(tmp_path)),
        pytest.raises(UsageError, match="in use by another run"),
    ):
        Journal(tmp_path / "journal", work_of(tmp_path))


def test_what_changed_or_is_gone_is_done_again(tmp_path: Path, done: bytes) -> None:
    (tmp_path / "out" / "001").unlink()
    assert again(tmp_path, done) == ["001"]


class Look(Copy):
    """Only reads: a source that may be a folder, and no output."""

    def do(self, task: Task, context: Context) -> Outcome:
        return Outcome({}, "looked", files=())


def looked(folder: Path, files: list[Path]) -> int:
    """Look at a folder of files as one input, and return how many inputs had to be looked at."""
    work = Look(str(folder / "log"))
    task = Task(str(folder / "series"), files=tuple(files))
    with Journal(folder / "journal", work) as journal:
        results = list(run(work, [task], journal=journal))
    with Journal(folder / "journal", work) as journal:
        assert journal.remaining([task]) == []
        assert len(list(journal.entries())) == 1
    return len(results)


def test_of_folders_and_without_outputs_it_is_continued(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    files = [tmp_path / "series" / name for name in ("1.dcm", "2.dcm", "3.dcm")]
    for file in files:
        file.write_bytes(b"slice")
    assert [looked(tmp_path, files[:2]) for _ in range(2)] == [1, 0]
    assert [looked(tmp_path, files) for _ in range(2)] == [1, 0]
    files[1].write_bytes(b"longer")
    assert [looked(tmp_path, files) for _ in range(2)] == [1, 0]


def test_a_source_that_changed_meanwhile_is_done_again(tmp_path: Path) -> None:
    (task,) = copies(tmp_path, [b"one"])
    work = work_of(tmp_path)
    with Journal(tmp_path / "journal", work) as journal:
        journal.start(task)
        Path(task.source).write_bytes(b"another")
        journal.end(Result(task, Outcome({}, "", files=())))
    with Journal(tmp_path / "journal", work) as journal:
        assert [left.source for left in journal.remaining([task])] == [task.source]


def test_what_was_skipped_is_not_done(tmp_path: Path) -> None:
    (task,) = copies(tmp_path, [b"one"])
    Path(task.target).write_bytes(b"of somebody")
    work, skipping = work_of(tmp_path), replace(task, action=Action.SKIP)
    for _ in range(2):
        with Journal(tmp_path / "journal", work) as journal:
            (result,) = run(work, [skipping], journal=journal)
        assert result.outcome is not None
        assert result.outcome.status == "skipped"
    Path(task.target).unlink()
    with Journal(tmp_path / "journal", work) as journal:
        assert journal.remaining([task]) == [task]


def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    tasks = copies(tmp_path, CONTENTS)
    Path(tasks[1].source).unlink()
    work = work_of(tmp_path)
    with Journal(tmp_path / "journal", work) as journal:
        failed = [result.task for result in run(work, tasks, journal=journal) if result.error]
    assert failed == [tasks[1]]
    Path(tasks[1].source).write_bytes(b"two")
    assert again(tmp_path, (tmp_path / "journal").read_bytes()) == ["001"]


def test_names_that_are_no_text_pass_through(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    (task,) = copies(tmp_path, [b"x"])
    try:
        source = Path(task.source).rename(tmp_path / "in" / name)
    except OSError:
        pytest.skip("names are text here")
    with Journal(tmp_path / "journal", work_of(tmp_path)) as journal:
        journal.end(Result(Task(str(source), "b"), Outcome({}, "")))
    with Journal(tmp_path / "journal", work_of(tmp_path)) as journal:
        assert journal.remaining([Task(str(source), "b")]) == []
