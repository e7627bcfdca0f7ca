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


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("info", []),
        ("verify", []),
        ("slice", ["-o", "out.png"]),
        ("preview", ["-o", "out.png"]),
        ("unpack", ["-o", "out.nii"]),
    ],
)
def test_a_source_in_place_of_a_file_is_recognised(
    mroi: Mroi, scan: Path, command: str, output: list[str]
) -> None:
    Path("scan.nii").write_bytes(gzip.decompress(scan.read_bytes()))
    Path("ct.dcm").write_bytes(bytes(128) + b"DICM" + bytes(8))
    ending = "nii" if command == "unpack" else "png"
    output = [] if command in ("info", "verify") else ["-o", f"out.{ending}"]
    for name, kind in ((scan, "gzip"), ("scan.nii", "a NIfTI image"), ("ct.dcm", "a DICOM file")):
        done = mroi(command, name, *output)
        assert done.code == ExitCode.DAMAGED
        assert kind in done.err
        assert "`mroi pack` it first [PFX-1]" in done.err
    Path("junk").write_bytes(bytes(50))
    done = mroi(command, "junk", *output)
    assert done.code == ExitCode.DAMAGED
    assert "mroi pack" not in done.err


# -- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "option", "values"),
    [
        ("pack scan.nii.gz", "--codec", ("zstd", "raw")),
        ("pack scan.nii.gz", "-c", ("zstd", "zstd")),
        ("pack scan.nii.gz", "--jobs", ("1", "2")),
        ("slice scan.mroi", "-k", ("1", "2")),
        ("unpack scan.mroi", "--output", ("a.nii", "b.nii")),
        ("roi scan.nii.gz -o roi", "--window", ("0,1", "0,2")),
        ("verify scan.mroi", "--against", ("scan.nii.gz", "scan.nii.gz")),
    ],
)
@pytest.mark.usefixtures("packed")
def test_an_option_of_one_value_is_given_once(
    mroi: Mroi, command: str, option: str, values: tuple[str, str]
) -> None:
    before = set(Path().iterdir())
    done = mroi(*command.split(), option, values[0], option, values[1])
    assert (done.code, "it is given twice" in done.err) == (ExitCode.USAGE, True)
    assert option in done.err
    assert set(Path().iterdir()) == before


def test_names_of_one_option_are_one_option(mroi: Mroi, scan: Path) -> None:
    done = mroi("pack", scan, "-c", "zstd", "--codec", "raw")
    assert (done.code, "it is given twice" in done.err) == (ExitCode.USAGE, True)


def test_options_of_several_values_and_flags_may_be_given_twice(mroi: Mroi, scan: Path) -> None:
    retained = ("--metadata", "clean", "--retain", "uids", "--retain", "dates")
    assert mroi("pack", scan, "-q", "-q", *retained).code == 0
