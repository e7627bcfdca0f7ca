"""URLs and pipes in the place of files: in every command that reads, and in Python."""

import gzip
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import mroi as library
from mroi.cli.exits import ExitCode
from tests.cli.runner import Mroi, phantom
from tests.extras import require
from tests.remote.servers import files, running

PROGRAM = [sys.executable, "-c", "from mroi.cli import main; main()"]
PIPES = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")


@pytest.fixture
def root() -> Iterator[str]:
    """The URL of the folder that the tests work in."""
    require("remote")
    with running() as start:
        yield start(files).root


@pytest.fixture
def mask(scan: Path) -> Path:
    image = nib.load(scan)
    inside = np.zeros(image.shape, np.uint8)
    inside[3:9, 4:12, 2:8] = 2
    nib.save(nib.Nifti1Image(inside, image.affine), "mask.nii.gz")
    return Path("mask.nii.gz").resolve()


# -- URLs ----------------------------------------------------------------------------------------


def test_pack_takes_urls(mroi: Mroi, scan: Path, mask: Path, root: str) -> None:
    done = mroi("pack", f"{root}/scan.nii.gz?key=1", "-c", "zstd")
    assert done.code == 0, done.err
    assert library.verify("scan.mroi", against=scan).comparison.equal
    done = mroi("pack", f"{root}/scan.nii.gz", "-o", "m.mroi", "--roi", f"{root}/mask.nii.gz:2")
    assert done.code == 0, done.err
    assert library.open("m.mroi").roi == library.Box((3, 4, 2), (9, 12, 8))
    (found,) = mroi("roi", f"{root}/scan.nii.gz", "-o", "roi", "--json").records
    assert found["subject"] == "scan"
    table = f"boxes:{root}/roi/bbox3d_by_subject.csv"
    done = mroi("pack", f"{root}/scan.nii.gz", "-o", "b.mroi", "--roi", table)
    assert done.code == 0, done.err
    box = library.open("b.mroi").roi
    assert found["roi"] == {"start": list(box.start), "stop": list(box.stop)}


def test_pack_takes_the_url_of_a_dicom_file(mroi: Mroi, ct: Path, root: str) -> None:
    shutil.copy(ct, "ct.dcm")
    assert mroi("pack", f"{root}/ct.dcm").code == 0
    assert library.verify("ct.mroi", against=ct).comparison.equal


def test_every_command_that_reads_takes_urls(mroi: Mroi, packed: Path, root: str) -> None:
    url, folder = f"{root}/scan.mroi", Path("from-url")
    assert mroi("verify", url, "--against", f"{root}/scan.nii.gz").code == 0
    from_url, from_file = (
        mroi("info", url, "--json").records,
        mroi("info", packed, "--json").records,
    )
    assert [{**record, "source": ""} for record in from_url] == [
        {**record, "source": ""} for record in from_file
    ]
    folder.mkdir()
    for command, name in (
        ("slice", "scan.slice.png"),
        ("preview", "scan.png"),
        ("recover", "scan.recovered.mroi"),
        ("unpack", "scan-1.nii.gz"),
    ):
        expected = f"expected.{name.partition('.')[2]}"
        assert mroi(command, packed, "-o", expected, "--exists", "overwrite").code == 0
        done = mroi(command, url, "--exists", "suffix")
        assert done.code == 0, done.err
        assert Path(name).read_bytes() == Path(expected).read_bytes()
        assert mroi(command, url, "-o", folder).code == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "scan.nii.gz", "scan.png", "scan.recovered.mroi", "scan.slice.png",
    ]  # fmt: skip


def test_no_command_writes_to_urls(mroi: Mroi, scan: Path, packed: Path, root: str) -> None:
    before = sorted(Path().rglob("*"))
    for arguments in (
        ["pack", scan],
        ["roi", scan],
        *([command, packed] for command in ("unpack", "slice", "preview", "recover")),
    ):
        done = mroi(*arguments, "-o", f"{root}/out")
        assert done.code == ExitCode.USAGE, arguments
        assert "outputs are files" in done.err
    for write in (library.pack, library.recover):
        with pytest.raises(library.UsageError, match="outputs are files"):
            write(scan if write is library.pack else packed, f"{root}/out.mroi")
    assert sorted(Path().rglob("*")) == before


def test_what_is_not_there_is_no_input(mroi: Mroi, scan: Path, packed: Path, root: str) -> None:
    for arguments in (
        ["pack", f"{root}/no.nii"],
        ["pack", f"{root}/no.nii", "--dry-run"],
        ["pack", scan, "-o", "m.mroi", "--roi", f"{root}/no.nii"],
        ["pack", scan, "-o", "m.mroi", "--roi", f"boxes:{root}/no.csv"],
        ["info", f"{root}/no.mroi"],
        ["unpack", f"{root}/no.mroi"],
        ["recover", f"{root}/no.mroi"],
        ["roi", f"{root}/no.nii", "-o", "roi"],
        ["verify", packed, "--against", f"{root}/no.nii"],
    ):
        done = mroi(*arguments)
        assert done.code == ExitCode.NO_INPUT, done.err
        assert f"{root}/no." in done.err
        assert "404" in done.err


def test_messages_name_the_url(mroi: Mroi, scan: Path, root: str) -> None:
    Path("cut.nii.gz").write_bytes(scan.read_bytes()[:-500])
    done = mroi("pack", f"{root}/cut.nii.gz")
    assert done.code == ExitCode.NO_INPUT
    assert f"{root}/cut.nii.gz" in done.err
    assert "mroi-" not in done.err


def test_urls_in_python(scan: Path, packed: Path, root: str, monkeypatch) -> None:
    monkeypatch.chdir(packed.parent)
    library.pack(f"{root}/scan.nii.gz", "python.mroi")
    report = library.verify(f"{root}/python.mroi", against=f"{root}/scan.nii.gz")
    compared = report.comparison
    assert report.ok
    assert compared.equal
    result = library.unpack(f"{root}/python.mroi")
    assert [path.name for path in result.paths] == ["python.nii.gz"]
    assert gzip.decompress(Path("python.nii.gz").read_bytes()) == gzip.decompress(scan.read_bytes())
    assert not library.recover(f"{root}/python.mroi", "again.mroi").missing


# -- pipes ---------------------------------------------------------------------------------------


@contextmanager
def pipe_of(data: bytes, name: str = "pipe") -> Iterator[Path]:
    """A named pipe that gives these bytes, once."""
    path = Path(name)
    os.mkfifo(path)
    feeder = threading.Thread(target=path.write_bytes, args=[data], daemon=True)
    feeder.start()
    yield path
    feeder.join(30)
    assert not feeder.is_alive()
    path.unlink()


@PIPES
def test_every_command_that_reads_takes_named_pipes(mroi: Mroi, scan: Path, packed: Path) -> None:
    with pipe_of(scan.read_bytes()) as pipe:
        assert mroi("pack", pipe, "-o", "p.mroi", "-c", "zstd", "--chunk", "1").code == 0
    assert library.verify("p.mroi", against=scan).comparison.equal
    data = packed.read_bytes()
    with pipe_of(data) as pipe:
        assert mroi("verify", pipe).code == 0
    with pipe_of(data) as pipe:
        assert mroi("info", pipe, "--json").records[0]["size"] == len(data)
    with pipe_of(scan.read_bytes()) as pipe:
        assert mroi("verify", packed, "--against", pipe).code == 0
    for command, output in (("slice", "s.png"), ("preview", "p.png"), ("recover", "r.mroi"),
                            ("unpack", "u.nii")):  # fmt: skip
        assert mroi(command, packed, "-o", output).code == 0
        expected = Path(output).read_bytes()
        with pipe_of(data) as pipe:
            done = mroi(command, pipe, "-o", output, "--exists", "overwrite")
        assert done.code == 0, done.err
        if command != "preview":  # which has the name of its input in it
            assert Path(output).read_bytes() == expected


@PIPES
def test_masks_and_tables_come_through_pipes(mroi: Mroi, scan: Path, mask: Path) -> None:
    with pipe_of(mask.read_bytes()) as pipe:
        assert mroi("pack", scan, "--roi", pipe, "-o", "m.mroi").code == 0
    assert library.open("m.mroi").roi == library.Box((3, 4, 2), (9, 12, 8))


@PIPES
def test_what_comes_out_of_a_pipe_goes_into_one(mroi: Mroi, scan: Path) -> None:
    """As with -: a pipe has no place beside it."""
    with pipe_of(scan.read_bytes()) as pipe:
        done = mroi("pack", pipe, "-c", "zstd")
    assert np.array_equal(library.open(done.data).unscaled[...], phantom())
    os.mkfifo("a")
    os.mkfifo("b")
    assert mroi("pack", "a", "b").code == ExitCode.USAGE


@PIPES
def test_a_pipe_in_a_folder_is_left_alone(mroi: Mroi, scan: Path) -> None:
    Path("study").mkdir()
    shutil.copy(scan, "study/a.nii.gz")
    os.mkfifo("study/b.nii.gz")
    assert mroi("pack", "study", "-o", "out", "-c", "zstd").code == 0
    assert [path.name for path in Path("out").iterdir()] == ["a.mroi"]


@PIPES
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_in_a_shell(mroi: Mroi, scan: Path, packed: Path) -> None:
    program = '"$MROI" -c "from mroi.cli import main; main()"'
    for script in (
        f"{program} pack <(zcat scan.nii.gz) -o a.mroi -c zstd",
        f"zcat scan.nii.gz | {program} pack /dev/stdin -o b.mroi -c zstd",
        f"{program} pack /dev/stdin -o c.mroi -c zstd < scan.nii.gz",
        f"{program} pack <(cat scan.nii.gz) -c zstd > d.mroi",
        f"{program} unpack <(cat scan.mroi) | cmp - <(zcat scan.nii.gz)",
        f"{program} verify <(cat scan.mroi) --against <(cat scan.nii.gz)",
    ):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", script],
            env={**os.environ, "MROI": sys.executable},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (script, done.stderr)
    for name in "abcd":
        assert library.verify(f"{name}.mroi", against=scan).comparison.equal


@PIPES
def test_python_says_at_once_that_a_pipe_has_no_places(tmp_path: Path, scan: Path) -> None:
    """Nobody writes to it: whoever opened it would wait."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for call in (
        library.open,
        library.verify,
        lambda path: library.unpack(path, tmp_path / "x.nii"),
        lambda path: library.recover(path, tmp_path / "x.mroi"),
    ):
        with pytest.raises(library.SourceError, match="is a pipe"):
            call(pipe)
    feeder = threading.Thread(target=pipe.write_bytes, args=[scan.read_bytes()], daemon=True)
    feeder.start()
    library.pack(pipe, tmp_path / "x.mroi")
    feeder.join()
    assert library.verify(tmp_path / "x.mroi", against=scan).comparison.equal


@pytest.mark.skipif(os.name == "nt", reason="no devices there")
@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
@pytest.mark.parametrize("command", ["pack", "info", "verify", "unpack", "recover", "roi"])
def test_devices_are_refused(mroi: Mroi, device: str, command: str) -> None:
    output = {"info": [], "verify": [], "unpack": ["-o", "x.nii"]}
    done = mroi(command, device, *output.get(command, ["-o", "x.mroi"]))
    assert done.code == ExitCode.NO_INPUT
    assert "is a device" in done.err
    with pytest.raises(library.SourceError, match="is a device"):
        library.open(device)


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
def test_a_terminal_is_no_input(mroi: Mroi) -> None:
    import pty

    ours, theirs = pty.openpty()
    done = subprocess.run(
        [*PROGRAM, "info", "-"], stdin=theirs, capture_output=True, timeout=60, check=False
    )
    os.close(ours)
    os.close(theirs)
    assert done.returncode == ExitCode.USAGE
    assert b"is a terminal" in done.stderr


def test_messages_about_standard_input_name_no_temporary_file(mroi: Mroi, packed: Path) -> None:
    done = mroi("pack", "-", "-o", "x.mroi", stdin=packed.read_bytes())
    assert done.code == ExitCode.NO_INPUT
    assert "mroi: -: an .mroi file already" in done.err
    done = mroi("pack", "-", "-o", "x.mroi", stdin=bytes(1000))
    assert "mroi-" not in done.err
