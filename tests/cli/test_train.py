"""``mroi train``: what is said, and what is refused before anything is done."""

from pathlib import Path

import pytest

from mroi.cli.exits import ExitCode
from tests.cli.runner import Mroi
from tests.extras import needs

pytestmark = needs("neural")

TINY = ("--size", "tiny", "--steps", "2", "--batch", "1", "--device", "cpu")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    from tests.training.phantoms import write

    (tmp_path / "study").mkdir()
    write(tmp_path / "study", 2)
    return tmp_path / "study"


def test_it_says_how_long_it_takes_and_trains(mroi: Mroi, study: Path) -> None:
    done = mroi("train", "tcm", study, "-o", "m.mroi-model", *TINY, "--dry-run", "--json")
    assert done.code == 0
    (record,) = done.records
    assert (record["steps"], record["done"], record["device"]) == (2, 0, "cpu")
    assert 0 < float(str(record["seconds"])) < 600
    assert [path.name for path in Path().iterdir()] == ["study"]
    done = mroi("train", "tcm", study, "-o", "m.mroi-model", *TINY, "-v")
    assert done.code == 0
    assert "2 volumes, 12 slices" in done.err
    assert "step 2: loss " in done.err
    assert "m.mroi-model  tcm, id " in done.out
    info = mroi("model", "info", "m.mroi-model")
    assert info.code == 0
    assert "mroi train tcm DATA -o MODEL --size tiny --lambda 0.013" in info.out
    done = mroi("train", "tcm", study, "-o", "m.mroi-model", *TINY)
    assert done.code == ExitCode.USAGE
    assert "m.mroi-model exists; --resume goes on with it, --force begins anew" in done.err
    assert mroi("train", "tcm", study, "-o", "m.mroi-model", *TINY, "--force", "-q").err == ""


def test_what_cannot_be_is_refused(mroi: Mroi, study: Path) -> None:
    target = ("-o", "m.mroi-model")
    for words, code, text in (
        (("zstd", study, *target), ExitCode.USAGE, "'zstd' is not one of"),
        (("tcm", study, "-o", "m.bin"), ExitCode.USAGE, "must end in .mroi-model"),
        (("tcm", study, "-o", "none/m.mroi-model"), ExitCode.USAGE, "none is no folder"),
        (("tcm", study, *target, "--steps", "1" + 400 * "0"), ExitCode.USAGE, "--steps"),
        (("tcm", study, *target, "--threads", "1000000"), ExitCode.USAGE, "--threads"),
        (("tcm", "none", *target, *TINY), ExitCode.NO_INPUT, "none"),
        (("tcm", "-", *target, *TINY), ExitCode.USAGE, "not from standard input"),
        (("tcm", study, *target, *TINY, "--resume"), ExitCode.USAGE, "to go on with"),
        (("tcm", study, *target, *TINY, "--validation", "0.9"), ExitCode.USAGE, "leaves none"),
        (("tcm", study, *target, "--size", "huge"), ExitCode.USAGE, "expected tiny, small"),
        (("tcm", study, *target, "--start", "none"), ExitCode.NO_CODEC, "there is no model"),
        (("tcm", study, *target, "--step", "2"), ExitCode.USAGE, "tcm has no --step"),
        (("bcm-net", study, *target, "--lambda", "2"), ExitCode.USAGE, "bcm-net has no --lambda"),
        (("bcm-net", study, *target, "--size", "large"), ExitCode.USAGE, "expected tiny, small"),
    ):
        done = mroi("train", *words)
        assert (done.code, text in done.err) == (code, True), (words, done)
    assert [path.name for path in Path().iterdir()] == ["study"]
