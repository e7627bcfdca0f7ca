"""``mroi export`` writes folders that OME-Zarr programs open, and says what they cannot hold."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import zarr
from numpy.testing import assert_array_equal

from tests.cli.runner import Mroi


def test_the_folder_has_the_voxels_and_what_is_lost_is_said(
    mroi: Mroi, packed: Path, scan: Path
) -> None:
    done = mroi("export", packed)
    assert done.code == 0
    first, second, last = done.err.splitlines()
    assert first == (
        f"mroi: {packed}: its axes (LAS) do not run exactly to the right, front and up: "
        "OME-Zarr has spacing and origin, the affine is in an attribute and a NIfTI header"
    )
    assert second.startswith(f"mroi: {packed}: its values are as stored, real ones are 0.5 * v - 3")
    target = packed.with_name("scan.ome.zarr")
    assert last.startswith(f"{packed} -> {target}  int16, 1 level: 12 x 15 x 10, ")
    assert last.endswith(" in 5 files")
    found = zarr.open_group(target, mode="r")
    assert_array_equal(found["0"][...].T, nib.load(scan).dataobj.get_unscaled())


def test_options_reach_the_writer(mroi: Mroi, packed: Path, scan: Path) -> None:
    done = mroi(
        "export", packed, "-o", "a.ome.zarr", "--to", "ome-zarr", "--cropped", "--real", "--chunk",
        "4", "--levels", "2", "--json",
    )  # fmt: skip
    (record,) = done.records
    assert record["dtype"] == "float32"
    assert [level["shape"] for level in record["levels"]] == [[7, 12, 9], [7, 6, 5]]
    assert record["levels"][0]["chunks"] == [4, 4, 4]
    assert record["files"] == sum(p.is_file() for p in Path("a.ome.zarr").rglob("*"))
    found = zarr.open_group("a.ome.zarr", mode="r")
    whole = np.asarray(nib.load(scan).dataobj)
    assert_array_equal(found["0"][...].T, whole[2:11, 2:14, 2:9])


def test_a_dry_run_says_all_and_writes_nothing(mroi: Mroi, packed: Path) -> None:
    done = mroi("export", packed, "--dry-run", "--chunk", "8")
    assert done.code == 0
    target = packed.with_name("scan.ome.zarr")
    assert done.err.splitlines()[-1] == (
        f"{packed} -> {target} (dry run)  int16, 3 levels: 12 x 15 x 10 to 3 x 4 x 5"
    )
    assert not target.exists()
    (record,) = mroi("export", packed, "--dry-run", "--json").records
    assert record["kind"] == "image"
    assert len(record["notes"]) == 2


def test_folders_that_exist_are_named_outputs_not_places(mroi: Mroi, packed: Path) -> None:
    assert mroi("export", packed, "-o", "a.ome.zarr", "-q").code == 0
    again = mroi("export", packed, "-o", "a.ome.zarr")
    assert again.code == 6
    assert "exists already; see --exists" in again.err
    assert mroi("export", packed, "-o", "a.ome.zarr", "--exists", "skip").code == 0
    done = mroi("export", packed, "-o", "a.ome.zarr", "--exists", "overwrite", "--levels", "1")
    assert done.code == 0
    assert mroi("export", packed, "-o", "a.ome.zarr", "--exists", "suffix", "-q").code == 0
    assert sorted(p.name for p in Path().glob("*.zarr")) == ["a-1.ome.zarr", "a.ome.zarr"]


def test_many_files_go_into_a_folder(mroi: Mroi, packed: Path) -> None:
    Path("in/deep").mkdir(parents=True)
    for name in ("in/a.mroi", "in/deep/b.mroi"):
        Path(name).write_bytes(packed.read_bytes())
    assert mroi("export", "in", "-o", "out", "-q", "-j", "2").code == 0
    assert Path("out/a.ome.zarr/zarr.json").exists()
    assert Path("out/deep/b.ome.zarr/zarr.json").exists()


@pytest.mark.parametrize("output", [["-o", "-"], []])
def test_a_folder_does_not_go_through_a_pipe(mroi: Mroi, packed: Path, output: list[str]) -> None:
    done = mroi("export", "-", *output, stdin=packed.read_bytes())
    assert done.code == 2
    assert "the output is a folder: use --output NAME.ome.zarr" in done.err


def test_standard_input_can_be_exported(mroi: Mroi, packed: Path) -> None:
    assert mroi("export", "-", "-o", "a.ome.zarr", "-q", stdin=packed.read_bytes()).code == 0
    assert Path("a.ome.zarr/zarr.json").exists()


def test_damage_and_other_files_are_told(mroi: Mroi, packed: Path, scan: Path) -> None:
    Path("cut.mroi").write_bytes(packed.read_bytes()[:-40])
    assert mroi("export", "cut.mroi").code == 4
    assert not Path("cut.ome.zarr").exists()
    done = mroi("export", scan, "-o", "x.ome.zarr")
    assert done.code == 4
    assert "`mroi pack` it first" in done.err


def test_a_missing_zarr_is_told_with_the_extra(
    mroi: Mroi, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mroi.cli.export.find_spec", lambda _name: None)
    done = mroi("export", packed)
    assert done.code == 2
    assert "pip install 'mroi[zarr]'" in done.err
