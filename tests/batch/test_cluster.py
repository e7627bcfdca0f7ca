"""A cluster of dask.distributed: real processes, one of which is killed amid its work."""

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from mroi.batch import run
from mroi.batch.cluster import connect
from mroi.errors import UsageError
from tests.batch.works import Copy, copies
from tests.cli.runner import Mroi
from tests.extras import require


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    require("dask")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("PYTHONWARNINGS", "ignore")
        warnings.simplefilter("ignore")
        from distributed import LocalCluster

        with LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
            silence_logs=50,
        ) as cluster:  # fmt: skip
            yield cluster.scheduler_address


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_worker_that_is_killed_costs_nothing(tmp_path: Path, address: str) -> None:
    tasks = copies(tmp_path, [b"%d" % number for number in range(30)])
    work = Copy(str(tmp_path / "log"), 0.05)
    with connect(address) as executor:
        pids = [executor.submit(os.getpid).result() for _ in range(3)]
        results = run(work, tasks, executor=executor)
        done = [next(results)]
        os.kill(pids[0], signal.SIGKILL)
        done += results
    assert [result.error for result in done] == [None] * len(tasks)
    assert sorted(result.task.source for result in done) == [task.source for task in tasks]
    assert [Path(task.target).read_bytes() for task in tasks] == [b"%d" % n for n in range(30)]


def test_the_command_line_works_on_it(mroi: Mroi, scan: Path, address: str) -> None:
    Path("in").mkdir()
    for name in "abc":
        (Path("in") / f"{name}.nii.gz").write_bytes(scan.read_bytes())
    (Path("in") / "d.nii").write_bytes(b"no image")
    done = mroi("pack", "in", "-o", "out", "-c", "zstd", "--dask", address, "--manifest", "m.csv")
    assert done.code == 8, done.err
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.mroi", "b.mroi", "c.mroi"]
    assert "1 of 4 failed" in done.err
    assert mroi("verify", "out", "--dask", address, "-q").code == 0


def test_where_nobody_answers_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    require("dask")
    monkeypatch.setattr("mroi.batch.cluster._SECONDS", 0.5)
    with pytest.raises(UsageError, match="no dask scheduler at"), connect("tcp://127.0.0.1:9"):
        pass
