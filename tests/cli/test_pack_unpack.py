"""``mroi pack`` and ``mroi unpack``: the main job, on one file, on many, through pipes."""

import gzip
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import mroi as library
from mroi.batch.pack import _larger
from mroi.cli.exits import ExitCode
from tests.cli.runner import AFFINE, Mroi, phantom

PROGRAM = [sys.executable, "-c", "from mroi.cli import main; main()"]


def test_round_trip_gives_the_bytes_of_the_source(mroi: Mroi, scan: Path) -> None:
    assert mroi("pack", scan).code == 0
    done = mroi("unpack", "scan.mroi", "-o", "back.nii")
    assert done.code == 0
    assert "equal to the source" in done.err
    assert Path("back.nii").read_bytes() == gzip.decompress(scan.read_bytes())


def test_what_was_cleaned_is_not_called_the_source(mroi: Mroi, scan: Path) -> None:
    mroi("pack", scan, "--metadata", "clean")
    assert "equal to the cleaned source" in mroi("unpack", "scan.mroi", "-o", "back.nii").err


def test_unpacking_gives_the_ending_that_the_source_had(mroi: Mroi, scan: Path) -> None:
    source = gzip.decompress(scan.read_bytes())
    mroi("pack", scan, "-o", "other/")
    assert mroi("unpack", "other/scan.mroi").code == 0
    assert gzip.decompress(Path("other/scan.nii.gz").read_bytes()) == source


def test_a_pair_comes_back_as_a_pair(mroi: Mroi) -> None:
    nib.save(nib.Nifti1Pair(phantom(), AFFINE), "pair.img")
    assert mroi("pack", "pair.hdr").code == 0
    assert mroi("unpack", "pair.mroi", "-o", "back/").code == 0
    for ending in ("hdr", "img"):
        assert Path(f"back/pair.{ending}").read_bytes() == Path(f"pair.{ending}").read_bytes()


def test_pipes_in_a_row(scan: Path) -> None:
    with scan.open("rb") as source:
        first = subprocess.Popen([*PROGRAM, "pack", "-"], stdin=source, stdout=subprocess.PIPE)
    second = subprocess.run(
        [*PROGRAM, "unpack", "-", "-o", "-"], stdin=first.stdout, capture_output=True, check=True
    )
    assert first.stdout is not None
    first.stdout.close()
    assert first.wait() == 0
    assert second.stdout == gzip.decompress(scan.read_bytes())


def test_json_says_what_was_written_and_nothing_else(mroi: Mroi, scan: Path) -> None:
    done = mroi("pack", scan, "--json")
    (record,) = done.records
    assert (record["command"], record["status"], record["source"]) == ("pack", "ok", str(scan))
    assert record["size"] == Path(str(record["target"])).stat().st_size
    (record,) = mroi("unpack", "scan.mroi", "-o", "x.nii", "--json").records
    assert (record["targets"], record["proven"]) == (["x.nii"], True)
    assert done.err == ""


def test_quiet_says_nothing(mroi: Mroi, scan: Path) -> None:
    done = mroi("pack", scan, "-q")
    assert (done.out, done.err) == ("", "")


# -- region of interest ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--roi", "full"], "0:12,0:15,0:10"),
        (["--roi", "tight"], "2:11,2:14,2:9"),
        (["--roi", "3:9,:,1:"], "3:9,0:15,1:10"),
        (["--roi", "3:9,4:5,6:7", "--margin", "2"], "1:11,2:7,4:9"),
        (["--roi", "3:9,4:5,6:7", "--margin", "3mm"], "1:11,1:8,5:8"),
        (["--roi", "mask.nii"], "4:6,5:8,3:4"),
        (["--roi", "mask.nii:2", "--margin", "1"], "3:6,4:7,2:5"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_box_is_the_one_asked_for(
    mroi: Mroi, scan: Path, options: list[str], expected: str
) -> None:
    mask = np.zeros(phantom().shape, dtype=np.uint8)
    mask[4:6, 5:8, 3] = 1
    mask[4, 5, 3] = 2
    nib.save(nib.Nifti1Image(mask, AFFINE), "mask.nii")
    assert mroi("pack", scan, *options).code == 0
    (info,) = mroi("info", "scan.mroi", "--json").records
    roi = info["roi"]
    box = ",".join(f"{a}:{b}" for a, b in zip(roi["start"], roi["stop"], strict=True))
    assert box == expected
    assert info["lossless"] is True


def test_dropping_the_background_is_a_loss_and_is_said_to_be_one(mroi: Mroi, scan: Path) -> None:
    assert mroi("pack", scan, "--roi", "4:6,4:6,4:6", "--background", "drop").code == 0
    (info,) = mroi("info", "scan.mroi", "--json").records
    assert (info["lossless"], info["background"]) == (False, "FILL_LOSSY")
    lost = info["provenance"]["loss"]["background"]
    assert lost["voxels"] == phantom().size - 8
    assert mroi("verify", "scan.mroi", "--against", scan).code == ExitCode.DAMAGED


def test_a_mask_on_another_grid_is_refused(mroi: Mroi, scan: Path) -> None:
    nib.save(nib.Nifti1Image(phantom(), np.eye(4)), "mask.nii")
    done = mroi("pack", scan, "--roi", "mask.nii")
    assert done.code == ExitCode.NO_INPUT
    assert not Path("scan.mroi").exists()


# -- existing outputs --------------------------------------------------------------------------


def test_existing_outputs_are_kept_unless_told_otherwise(mroi: Mroi, scan: Path) -> None:
    target = Path("scan.mroi")
    target.write_bytes(b"precious")
    for options in ([], ["--exists", "error"], ["--dry-run"]):
        assert mroi("pack", scan, *options).code == ExitCode.NO_OUTPUT
    assert mroi("pack", scan, "--exists", "skip").code == 0
    assert target.read_bytes() == b"precious"
    for number in (1, 2):
        assert mroi("pack", scan, "--exists", "suffix").code == 0
        assert mroi("verify", f"scan-{number}.mroi", "--against", scan).code == 0
    assert target.read_bytes() == b"precious"
    assert mroi("pack", scan, "--exists", "overwrite").code == 0
    assert mroi("verify", target, "--against", scan).code == 0


def test_a_dry_run_writes_nothing(mroi: Mroi, scan: Path) -> None:
    before = sorted(Path().rglob("*"))
    done = mroi("pack", scan, "-o", "new/folder/", "--dry-run", "--json")
    (record,) = done.records
    assert (record["status"], record["target"]) == ("planned", str(Path("new/folder/scan.mroi")))
    assert sorted(Path().rglob("*")) == before


def test_a_dry_run_says_what_will_be_in_the_file(mroi: Mroi, scan: Path) -> None:
    options = ["--roi", "tight", "--codec", "zstd:level=3", "--chunk", "2"]
    done = mroi("pack", scan, "-o", "a.mroi", "--dry-run", *options)
    assert mroi("pack", scan, "-o", "a.mroi", *options).code == 0
    with library.open("a.mroi") as volume:
        geom = volume.geom
    shape = " x ".join(map(str, geom.chunk_shape[:3]))
    said = f"ROI {geom.roi}, zstd:shuffle=true,delta=false,level=3, {geom.grid.chunks} chunks"
    assert done.err.strip() == f"{scan} -> a.mroi (dry run)  {said} of {shape} voxels"
    (record,) = mroi("pack", scan, "-o", "b.mroi", "--dry-run", "--json", *options).records
    assert record["plan"]["roi"] == str(geom.roi)
    assert record["plan"]["chunk"] == list(geom.chunk_shape)


def test_a_dry_run_fails_where_packing_would(mroi: Mroi, scan: Path) -> None:
    options = ["--dry-run", "--roi", "0:999,0:2,0:2"]
    assert mroi("pack", scan, *options).code == ExitCode.NO_INPUT


# -- many files --------------------------------------------------------------------------------


@pytest.fixture
def study(scan: Path) -> Path:
    """Two images, one of them in a folder, something hidden, something else, a broken image."""
    folder = scan.parent / "study"
    (folder / "sub").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for place in ("a.nii.gz", "sub/b.NII.GZ", ".hidden/c.nii.gz", ".d.nii.gz"):
        (folder / place).write_bytes(scan.read_bytes())
    (folder / "notes.txt").write_text("nothing to pack")
    (folder / "sub" / "broken.nii").write_bytes(gzip.decompress(scan.read_bytes())[:1000])
    return folder


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_folders_keep_their_shape_and_one_failure_stops_nothing(
    mroi: Mroi, study: Path, jobs: int
) -> None:
    done = mroi("pack", study, "-o", "packed", "-j", jobs, "--json")
    assert done.code == ExitCode.SOME_FAILED
    by_status: dict[object, list[object]] = {}
    for record in done.records:
        by_status.setdefault(record["status"], []).append(record["source"])
    assert by_status["failed"] == [str(study / "sub" / "broken.nii")]
    assert sorted(path.relative_to("packed") for path in Path("packed").rglob("*.*")) == [
        Path("a.mroi"),
        Path("sub/b.mroi"),
    ]
    assert mroi("verify", "packed").code == 0


def test_failing_fast_stops_at_the_first_failure(mroi: Mroi, study: Path) -> None:
    (study / "0.nii").write_bytes(b"no image")
    done = mroi("pack", study, "-o", "packed", "-j", "1", "--fail-fast", "--json")
    assert done.code == ExitCode.NO_INPUT
    assert [record["status"] for record in done.records] == ["failed"]


def test_several_reasons_to_fail_are_one_code(mroi: Mroi, scan: Path) -> None:
    Path("scan.mroi").touch()
    assert mroi("pack", scan, "absent.nii").code == ExitCode.FAILED
    assert mroi("pack", "no.nii", "absent.nii").code == ExitCode.NO_INPUT


# -- what can go wrong with one file ------------------------------------------------------------


def test_inputs_that_are_not_there_or_no_image(mroi: Mroi) -> None:
    Path("text.nii").write_text("not an image")
    for name in ("absent.nii", "text.nii"):
        done = mroi("pack", name)
        assert done.code == ExitCode.NO_INPUT
        assert done.err.count(name) == 1


def test_a_codec_that_is_not_known(mroi: Mroi, scan: Path) -> None:
    done = mroi("pack", scan, "-c", "zst")
    assert done.code == ExitCode.USAGE
    assert "did you mean zstd" in done.err


def test_outputs_that_cannot_be_written(mroi: Mroi, scan: Path, packed: Path) -> None:
    Path("file").touch()
    for arguments in (["pack", scan, "-o", "file/x.mroi"], ["unpack", packed, "-o", "file/x.nii"]):
        assert mroi(*arguments).code == ExitCode.NO_OUTPUT


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_an_error_of_the_output(mroi: Mroi, scan: Path, packed: Path) -> None:
    for command, source, target in (
        ("pack", scan, "device.mroi"),
        ("unpack", packed, "device.nii"),
    ):
        Path(target).symlink_to("/dev/full")
        done = mroi(command, source, "-o", target)
        assert done.code == ExitCode.NO_OUTPUT
        assert "No space left" in done.err


def test_damage_is_told_with_its_rule_and_nothing_appears(mroi: Mroi, packed: Path) -> None:
    data = bytearray(packed.read_bytes())
    data[-200] ^= 1
    packed.write_bytes(data)
    done = mroi("unpack", packed, "-o", "back.nii", "--json")
    (record,) = done.records
    assert done.code == record["code"] == ExitCode.DAMAGED
    assert record["rule"]
    assert not Path("back.nii").exists()


def test_a_mask_that_is_not_there_is_an_input_that_is_not_there(mroi: Mroi, scan: Path) -> None:
    done = mroi("pack", scan, "--roi", scan.with_name("none.nii.gz"))
    assert done.code == 3
    assert "mask" in done.err
    assert not scan.with_name("scan.mroi").exists()


# -- what is said ------------------------------------------------------------------------------


def test_a_file_larger_than_its_source_is_pointed_out(mroi: Mroi, scan: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), AFFINE), "tiny.nii.gz")
    assert mroi("pack", "tiny.nii.gz").err.endswith("  larger than the source\n")
    assert "larger than the source" in mroi("pack", "tiny.nii.gz", "--small", "-o", "s.mroi").err
    nib.save(nib.Nifti1Image(phantom(), AFFINE), "plain.nii")
    assert "larger than the source" not in mroi("pack", "plain.nii").err


@pytest.mark.parametrize(
    ("size", "wishes", "compression", "text"),
    [
        (1 << 20, {}, "", "; --small makes it smaller"),
        (1 << 20, {"codec": "auto:fast"}, "", "; --small makes it smaller"),
        (1 << 10, {}, "", ""),  # all but headers
        (1 << 20, {"chunk": 1}, "", ""),
        (1 << 20, {"purpose": "planes"}, "", ""),
        (1 << 20, {"purpose": "archive"}, "", ""),
        (1 << 20, {"codec": "zstd"}, "", ""),
        (
            1 << 20,
            {},
            "JPEG-LS Lossless",
            ", which is compressed already (JPEG-LS Lossless); --small makes it smaller",
        ),
        (1 << 20, {}, "JPEG 2000, lossy", ", which is compressed already (JPEG 2000, lossy)"),
    ],
)
def test_small_is_advised_where_it_helps(
    size: int, wishes: dict[str, object], compression: str, text: str
) -> None:
    options = library.PackOptions(**wishes)
    assert _larger(size, options, compression) == f"  larger than the source{text}"


def test_choices_are_told_in_words(mroi: Mroi, scan: Path) -> None:
    done = mroi("pack", scan, "-v")
    assert "ROI auto" in done.err
    assert "zstd:delta=true" in done.err
    assert "{" not in done.err
