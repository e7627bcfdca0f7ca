"""Arguments that are wrong are told apart from inputs that are, and the message names them."""

import gzip
from pathlib import Path

import pytest

from mroi.cli.exits import ExitCode
from tests.cli.runner import Mroi


@pytest.mark.parametrize("name", ["a.nii.gz", "a.NII", "a.img", "a.dcm", "a.png"])
def test_an_mroi_file_is_not_called_otherwise(mroi: Mroi, scan: Path, name: str) -> None:
    done = mroi("pack", scan, "-o", name)
    assert done.code == ExitCode.USAGE
    assert ".mroi" in done.err
    assert not Path(name).exists()


def test_a_packed_file_is_not_packed_again(mroi: Mroi, packed: Path) -> None:
    done = mroi("pack", packed, "-o", "again.mroi")
    assert done.code == ExitCode.NO_INPUT
    assert "an .mroi file already" in done.err
    assert len(done.err) < 500


@pytest.mark.parametrize("box", ["0:10,0:4", "5:2,0:1,0:1", "1:1,:,:", "1,2,3"])
def test_what_is_no_box_is_a_wrong_argument(mroi: Mroi, scan: Path, box: str) -> None:
    done = mroi("pack", scan, "--roi", box)
    assert done.code == ExitCode.USAGE
    assert box in done.err
    assert mroi("pack", scan, "--roi", "0:99,:,:").code == ExitCode.NO_INPUT  # only this scan says


def test_a_codec_that_nobody_has_is_a_wrong_argument(mroi: Mroi, scan: Path) -> None:
    done = mroi("pack", scan, "-c", "zstdd")
    assert done.code == ExitCode.USAGE
    assert "zstdd" in done.err


@pytest.mark.parametrize("command", ["info", "verify", "slice", "preview", "unpack"])
def test_a_source_in_place_of_a_file_is_recognised(mroi: Mroi, scan: Path, command: str) -> None:
    Path("scan.nii").write_bytes(gzip.decompress(scan.read_bytes()))
    Path("ct.dcm").write_bytes(bytes(128) + b"DICM" + bytes(8))
    output = [] if command in ("info", "verify") else ["-o", "out.nii"]
    for name, kind in ((scan, "gzip"), ("scan.nii", "a NIfTI image"), ("ct.dcm", "a DICOM file")):
        done = mroi(command, name, *output)
        assert done.code == ExitCode.DAMAGED
        assert kind in done.err
        assert "`mroi pack` it first" in done.err
    Path("junk").write_bytes(bytes(50))
    done = mroi(command, "junk", *output)
    assert done.code == ExitCode.DAMAGED
    assert "mroi pack" not in done.err
