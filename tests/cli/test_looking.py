"""``info``, ``verify``, ``recover``, ``codecs``: what is said of files, and whether it is true."""

import gzip
import math
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import mroi as library
from mroi.cli.codecs import meanings_of
from mroi.cli.exits import ExitCode
from mroi.codecs import Codec, available
from tests.cli.runner import AFFINE, SHAPE, Mroi, phantom
from tests.extras import is_missing


def test_info_is_what_the_library_and_the_source_say(mroi: Mroi, scan: Path, packed: Path) -> None:
    (info,) = mroi("info", packed, "--json").records
    assert info["shape"] == list(SHAPE)
    assert np.allclose(info["affine"], AFFINE[:3], atol=1e-6)
    assert (info["datatype"], info["slope"], info["inter"]) == ("int16", 0.5, -3.0)
    assert (info["orientation"], info["units"]) == ("LAS", ["mm", "s"])
    assert info["format"] == {"kind": "NIfTI-1", "gzipped": True, "big_endian": False}
    assert info["size"] == packed.stat().st_size
    assert info["ratio"] == pytest.approx(phantom().nbytes / packed.stat().st_size)
    roi = info["roi"]
    extents = [b - a for a, b in zip(roi["start"], roi["stop"], strict=True)]
    assert roi["share"] == pytest.approx(math.prod(extents) / math.prod(SHAPE))


SERIES = [["--chunk", "5x4x3x2"], ["--for", "series"], ["--roi", "3:9,4:12,2:8", "--chunk", "2"]]


@pytest.mark.parametrize("kind", ["slice_x", "slice_y", "slice_z", "patch", "volume", "series"])
@pytest.mark.parametrize("options", [[], ["--chunk", "4", "-a", "y"], *SERIES], ids=" ".join)
def test_the_cost_of_a_read_is_what_it_takes(mroi: Mroi, options: list[str], kind: str) -> None:
    shape = (90, 15, 10, 5)
    voxels = np.random.default_rng(5).integers(0, 900, shape).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, AFFINE), "x.nii")
    mroi("pack", "x.nii", "--exists", "overwrite", *options)
    (info,) = mroi("info", "x.mroi", "--json").records
    cost = info["read_cost"][kind]
    bounds = list(zip(info["roi"]["start"], info["roi"]["stop"], strict=True))
    x0, y0, z0 = ((a + b - 1) // 2 for a, b in bounds)
    patch = tuple(
        slice(max(a, (a + b - 64) // 2), min(b, max(a, (a + b - 64) // 2) + 64)) for a, b in bounds
    )
    index, extent = {
        "slice_x": ((x0, ..., 0), (1, 15, 10, 1)),
        "slice_y": ((slice(None), y0, slice(None), 0), (90, 1, 10, 1)),
        "slice_z": ((..., z0, 0), (90, 15, 1, 1)),
        "patch": ((*patch, 0), (*(s.stop - s.start for s in patch), 1)),
        "volume": ((..., 0), (90, 15, 10, 1)),
        "series": ((x0, y0, z0), (1, 1, 1, 5)),
    }[kind]
    assert tuple(cost["shape"]) == extent
    with library.open("x.mroi", jobs=1) as volume:
        decoded, parse = [], volume.reader.parse_chunk
        volume.reader.parse_chunk = lambda stored, size: (
            decoded.append(stored) or parse(stored, size)
        )
        assert np.array_equal(volume.unscaled[index], voxels[index])
        assert cost["chunks"] == len(decoded)
        assert cost["bytes"] == sum(len(stored.frame) for stored in decoded)
        assert cost["voxels"] == sum(volume.geom.grid.voxels(stored.ordinal) for stored in decoded)


def test_info_says_what_reads_cost(mroi: Mroi, packed: Path) -> None:
    library.pack(np.zeros((70, 9, 8, 3), np.uint8) + np.arange(3, dtype=np.uint8), "series.mroi")
    text = mroi("info", "series.mroi").out
    for name in ("slice along x", "patch 64x9x8", "one 3-D volume", "one time series"):
        assert re.search(rf"^  {name} +\d+ chunks?, [\d.]+ k?B, [\d,]+ voxels$", text, re.MULTILINE)
    assert "one time series" not in mroi("info", packed).out


def test_info_for_people_has_what_json_has(mroi: Mroi, packed: Path) -> None:
    text = mroi("info", packed).out
    (info,) = mroi("info", packed, "--json").records
    for expected in ("12 x 15 x 10", "LAS", "0.5 x stored + -3", "zstd", "lossless"):
        assert expected in text
    for digest in info["sha256"].values():
        assert digest in text


def test_the_chunk_table_has_a_line_for_each_chunk(mroi: Mroi, packed: Path) -> None:
    (info,) = mroi("info", packed, "--json", "--chunks").records
    table = info["chunk_table"]
    assert len(table) == info["chunks"]["count"]
    assert sum(row["size"] for row in table) == info["chunks"]["stored"]
    assert sum(row["decoded"] for row in table) == round(info["roi"]["share"] * phantom().nbytes)
    assert len(mroi("info", packed, "--chunks").out.splitlines()) > len(table)


def test_info_needs_no_codec(mroi: Mroi, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mroi.codecs.registry._BUILT_IN", {})
    monkeypatch.setattr("mroi.volume.chunks._opened", {})
    assert mroi("info", packed).code == 0
    assert mroi("verify", packed).code == ExitCode.NO_CODEC
    assert mroi("slice", packed).code == ExitCode.NO_CODEC


def test_info_keeps_the_path(mroi: Mroi, packed: Path) -> None:
    (info,) = mroi("info", packed, "--json").records
    assert info["source"] == str(packed)
    assert info["format"]["kind"] == "NIfTI-1"


@pytest.mark.parametrize("degrees", [0.0, 0.2, 12.0])
def test_info_says_how_oblique_a_volume_is(mroi: Mroi, degrees: float) -> None:
    a = np.radians(degrees)
    affine = np.eye(4)
    affine[1:3, 1:3] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    library.pack(phantom(), "turned.mroi", affine=affine @ np.diag([1, 2, 3, 1]))
    (info,) = mroi("info", "turned.mroi", "--json").records
    assert info["oblique"] == pytest.approx(degrees, abs=1e-4)
    text = mroi("info", "turned.mroi").out
    assert "RAS, in the space of another scan" in text
    assert ("oblique 12.0 degrees" in text) == (degrees == 12)


def test_info_says_that_the_unit_is_not_known(mroi: Mroi) -> None:
    nib.save(nib.Nifti1Image(phantom(), AFFINE), "bare.nii")
    mroi("pack", "bare.nii")
    assert "(unit not known)" in mroi("info", "bare.mroi").out


# -- verify ------------------------------------------------------------------------------------


def test_verify_proves_equality(mroi: Mroi, scan: Path, packed: Path) -> None:
    (record,) = mroi("verify", packed, "--against", scan, "--json").records
    assert (record["status"], record["equal"], record["missing"]) == ("ok", True, 0)
    assert {"source", "volume"} <= set(record["digests"])


def test_verify_finds_one_changed_voxel_and_one_changed_header_byte(
    mroi: Mroi, scan: Path, packed: Path
) -> None:
    source = gzip.decompress(scan.read_bytes())
    for offset, said in ((len(source) // 2, "1 of 1,800 voxels"), (150, "around the voxels")):
        changed = bytearray(source)
        changed[offset] ^= 1
        Path("changed.nii").write_bytes(changed)
        done = mroi("verify", packed, "--against", "changed.nii")
        assert done.code == ExitCode.DAMAGED
        assert said in done.err


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_verify_refuses_any_change(mroi: Mroi, packed: Path, share: float) -> None:
    data = bytearray(packed.read_bytes())
    data[int(share * len(data))] ^= 0x10
    Path("changed.mroi").write_bytes(data)
    done = mroi("verify", "changed.mroi", packed, "--json")
    assert done.code == ExitCode.SOME_FAILED
    assert sorted(record["status"] for record in done.records) == ["failed", "ok"]


def test_one_chunk_is_not_chunks(mroi: Mroi) -> None:
    library.pack(np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "small.mroi", chunk=4)
    assert "ok, 1 chunk," in mroi("verify", "small.mroi").out


def test_a_source_that_is_not_there(mroi: Mroi, packed: Path) -> None:
    done = mroi("verify", packed, "--against", "nope.nii.gz")
    assert done.code == ExitCode.NO_INPUT
    assert "nope.nii.gz" in done.err


# -- recover -----------------------------------------------------------------------------------


def test_recover_saves_what_is_whole_and_names_what_is_not(
    mroi: Mroi, scan: Path, packed: Path
) -> None:
    (info,) = mroi("info", packed, "--json", "--chunks").records
    bad = info["chunk_table"][3]
    data = bytearray(packed.read_bytes())
    data[bad["offset"] + 40] ^= 1
    packed.write_bytes(data)
    assert mroi("verify", packed).code == ExitCode.DAMAGED
    (record,) = mroi("recover", packed, "--json").records
    assert record["missing"] == [3]
    assert record["target"] == str(packed.with_name("scan.recovered.mroi"))
    done = mroi("verify", record["target"])
    assert done.code == 0
    assert "1 of 7 chunks are missing" in done.out
    with library.open(record["target"]) as volume:
        k = int(str(bad["box"]).rpartition(",")[2].partition(":")[0])
        with pytest.raises(library.MissingVoxelsError):
            volume.slice(k)
        expected = phantom()[:, :, k + 1] * 0.5 - 3
        assert np.array_equal(volume.slice(k + 1), expected)


def test_recover_says_when_nothing_can_be_saved(mroi: Mroi) -> None:
    Path("junk.mroi").write_bytes(bytes(1000))
    assert mroi("recover", "junk.mroi").code == ExitCode.DAMAGED
    assert not Path("junk.recovered.mroi").exists()


def test_recovering_what_is_whole_says_so(mroi: Mroi, packed: Path) -> None:
    said = "nothing was wrong; a full copy was written"
    assert said in mroi("recover", packed, "-o", "copy.mroi").err
    assert np.array_equal(library.open("copy.mroi"), library.open(packed))
    data = packed.read_bytes()
    Path("cut.mroi").write_bytes(data[: len(data) - 40])
    done = mroi("recover", "cut.mroi", "-o", "saved.mroi")
    assert done.code == ExitCode.OK
    assert said not in done.err
    assert "chunks" in done.err


# -- codecs ------------------------------------------------------------------------------------


def test_codecs_lists_all_of_them(mroi: Mroi) -> None:
    names = [entry.name for entry in available()]
    assert [record["name"] for record in mroi("codecs", "--json").records] == names
    table, *notices = mroi("codecs").out.split("\n\n")
    assert [line.split()[0] for line in table.splitlines()[1:]] == names
    assert all(notice.partition(":")[0] in names for notice in notices)
    text = mroi("codecs", "-v").out
    assert re.search(r"\n\nzstd\n  level=3 +1 \(fast\) to 22 \(small\)", text)


def test_every_setting_of_every_codec_is_explained(mroi: Mroi) -> None:
    for record in mroi("codecs", "--json").records:
        assert list(record["meanings"]) == list(record["settings"]), record["name"]
        assert all(record["meanings"].values()), record["name"]


def test_meanings_are_those_of_the_docstring() -> None:
    class Mine(Codec):
        """Mine.

        Parameters
        ----------
        level : int
            1 to 9; ``9`` is
            slow.
        mode : str
            Any.

        Notes
        -----
        x : no setting
        """

    assert meanings_of(Mine) == {"level": "1 to 9; 9 is slow.", "mode": "Any."}
    Mine.__doc__ = None
    assert meanings_of(Mine) == {}


def test_codecs_with_settings_say_what_they_take_then(mroi: Mroi) -> None:
    if not available()[-1].problem:
        records = mroi("codecs", "zfp", "zfp:tolerance=1", "--json").records
        assert [record["name"] for record in records] == ["zfp", "zfp:tolerance=1"]
        assert [record["fidelity"] for record in records] == ["lossless", "bounded"]
        assert "int16" in records[0]["takes"][1].replace("int8/16", "int16")
        assert records[1]["takes"] == ["float32/64"]
        assert records[1]["settings"] == {"tolerance": 1}
    for wrong in ("zstd:level=99", "zstd:x=1", "zstdd"):
        assert mroi("codecs", wrong).code == ExitCode.USAGE


def test_a_codec_that_lists_a_type_packs_it(mroi: Mroi, tmp_path: Path) -> None:
    import nibabel as nib

    for record in mroi("codecs", "--json").records:
        if not record["works"] or not record["takes"][0].startswith(("everything", "uint8")):
            continue
        image = nib.Nifti1Image(phantom().astype(np.uint8), np.eye(4))
        nib.save(image, tmp_path / "u8.nii")
        name = str(record["name"])
        if name == "sirenmri" and is_missing("neural"):  # works for reading
            continue
        quick = {
            "tcm": ":model=tiny-tcm",
            "tcm-auxt": ":model=tiny-tcm-auxt",
            "bcm-net": ":model=tiny-bcm-net",
            "sirenmri": ":steps=9",
        }
        codec = name + quick.get(name, "")
        done = mroi("pack", "u8.nii", "-c", codec, "--exists", "overwrite")
        assert done.code == 0, (record["name"], done.err)
        if record["fidelity"] == "lossless":
            assert mroi("verify", "u8.mroi", "--against", "u8.nii").code == 0


def test_codecs_says_what_packing_takes(mroi: Mroi) -> None:
    nib.save(nib.Nifti1Image(phantom(), AFFINE), "i2.nii")
    for record in mroi("codecs", "--json").records:
        if not record["works"] or record["name"].partition(".")[0] not in ("jpegls", "heif"):
            continue
        signed = [name for name in record["takes"] if name.startswith("int")]
        takes_16 = any("16" in name for name in signed)
        done = mroi("pack", "i2.nii", "-c", record["name"], "--exists", "overwrite")
        # A type that is not listed may still be taken where its values fit a narrower one.
        assert done.code == ExitCode.OK or not takes_16, done.err
        assert takes_16 == (record["name"] == "jpegls")
