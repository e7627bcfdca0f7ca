"""Whatever is in a file, pictures are drawn within limits, and nobody sees a traceback."""

import io
import json
import math
import os
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import mroi as library
from mroi.cli.exits import ExitCode
from mroi.cli.report import Report
from mroi.container import ContainerBuilder
from mroi.format.codec_table import Role
from mroi.format.geom import Background, Geom
from mroi.format.records import ChunkState
from mroi.geometry import axis_codes, spacing_of
from mroi.packing.create import create_volume
from mroi.pictures.planes import Plane, View, find_lost, read_values, step_for
from mroi.volume.chunks import codec_entry, codec_named
from mroi.volume.write import VolumeWriter
from tests.cli.runner import Mroi, phantom

ROI_COLOUR = (255, 176, 32)
EXTREMES = [0.0, 1e308, -1e308, 1.7e308, 1e-320, -5e-324, 1.0, -2.0, 1e154, 1e-160]


def write(path: Path, image: np.ndarray, **changed: object) -> None:
    """Write a file with a geometry that no source would have."""
    template = create_volume(io.BytesIO(), image.shape, image.dtype)
    geom = replace(template.geom, **changed)
    template.abort()
    with VolumeWriter(path, geom, pipeline=codec_named("zstd"), overwrite=True, jobs=1) as writer:
        for plane in image.T:
            writer.write(plane.T)


# -- geometry ------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(
    entries=st.lists(st.sampled_from(EXTREMES), min_size=12, max_size=12),
    spacing=st.tuples(*[st.sampled_from([abs(x) for x in EXTREMES])] * 3),
    slope=st.sampled_from([x for x in EXTREMES if x]),
    inter=st.sampled_from(EXTREMES),
)
def test_every_geometry_is_drawn_and_described(
    tmp_path_factory, entries, spacing, slope, inter
) -> None:
    from typer.testing import CliRunner

    from mroi.cli import app

    path = tmp_path_factory.mktemp("odd") / "odd.mroi"
    affine = np.array([*entries, 0, 0, 0, 1], dtype=float).reshape(4, 4)
    image = np.array([-np.inf, np.nan, 1e38, 0, 1e-45, 7], np.float32).repeat(4).reshape(2, 3, 4)
    write(path, image, affine=affine, spacing=spacing, slope=slope, inter=inter)
    picture = path.with_suffix(".png")
    for arguments in (
        ["preview", path, "-o", picture],
        ["preview", path, "--axis", "x", "-o", picture],
        ["slice", path, "-a", "y", "-o", picture],
        ["slice", path, "-o", path.with_suffix(".npy")],
        ["info", path],
    ):
        words = [*map(str, arguments), *(["--exists", "overwrite"] if len(arguments) > 2 else [])]
        done = CliRunner().invoke(app, words, env={"MROI_TRACEBACK": "1"})
        assert done.exit_code == 0, (arguments, done.exception, done.stderr)
    done = CliRunner().invoke(app, ["info", "--json", str(path)], env={"MROI_TRACEBACK": "1"})
    assert json.loads(done.stdout)["affine"] == affine[:3].tolist()
    with Image.open(picture) as drawn:
        assert 0 < drawn.width * drawn.height < 10**8


@pytest.mark.parametrize("size", [1e-320, 1e-300, 1e-3, 1.0, 1e3, 1e300, 1e308])
def test_norms_of_very_large_and_very_small_numbers(size: float) -> None:
    """3, 4 and 5, whatever the unit."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([[3, 0, 0], [4, 1, 0], [0, 0, -0.5]]) * (size / 4)
    x, y, z = spacing_of(affine)
    rounding = 0.01 if size < 1e-300 else 1e-12
    assert x == pytest.approx(size * 1.25, rel=rounding)
    assert (y, z) == pytest.approx((size / 4, size / 8), rel=rounding)
    assert axis_codes(affine) == "RAI"


def test_the_scale_of_a_picture_is_that_of_the_voxels(tmp_path: Path) -> None:
    """A unit that nobody uses changes nothing of what is seen."""
    image = phantom()
    sizes = []
    for unit in (1.0, 1e-310, 1e300):
        spacing = (1.0 * unit, 2.0 * unit, 4.0 * unit)
        write(tmp_path / "x.mroi", image, affine=np.diag([*spacing, 1]), spacing=spacing)
        with library.open(tmp_path / "x.mroi") as volume:
            panel = View(volume).panel(np.zeros((12, 15), np.uint8), Plane(2, 0))
            sizes.append(panel.size[1] / panel.size[0])
    assert sizes == pytest.approx([2.5, 2.5, 2.5])


@pytest.mark.parametrize("shape", [(512, 512, 40), (3000, 3, 3), (3, 3000, 1)])
@pytest.mark.parametrize("at", ["first", "last"])
def test_a_small_roi_is_seen(mroi: Mroi, shape: tuple[int, int, int], at: str) -> None:
    box = tuple((0, 1) if at == "first" else (n - 1, n) for n in shape)
    roi = library.Box(tuple(lo for lo, _ in box), tuple(hi for _, hi in box))
    library.pack(np.ones(shape, np.uint8), "small.mroi", roi=roi, codec="zstd")
    for options in ([], ["--axis", "z"]):
        done = mroi("preview", "small.mroi", "-o", "p.png", "--exists", "overwrite", *options)
        assert done.code == 0, done.err
        with Image.open("p.png") as picture:
            count = (np.asarray(picture.convert("RGB")) == ROI_COLOUR).all(axis=2).sum()
        assert count >= 16


# -- large planes --------------------------------------------------------------------------------


def constant(path: Path, shape: tuple[int, int, int], chunk: tuple[int, int, int]) -> None:
    """Write a file of a few bytes in which every voxel is 7."""
    template = create_volume(io.BytesIO(), (4, 4, 4), np.uint8)
    fields = {name: getattr(template.geom, name) for name in Geom.__dataclass_fields__}
    template.abort()
    depth = fields["chunk_shape"][3:]
    roi = library.Box((0, 0, 0), shape)
    geom = Geom(**{**fields, "shape": shape, "roi": roi, "chunk_shape": (*chunk, *depth)})
    builder = ContainerBuilder(
        geom, [codec_entry(codec_named("raw"), Role.ROI)], can_seek=False, decoded_crcs=False
    )
    parts = [builder.start()]
    parts += [
        builder.chunk(ChunkState.CONST, b"\7", slot=0, decoded_crc=0)
        for _ in range(geom.grid.chunks)
    ]
    path.write_bytes(b"".join((*parts, builder.finish()[0])))


def test_a_plane_that_is_too_large_is_a_limit(mroi: Mroi) -> None:
    """64 GiB of voxels in a few kilobytes."""
    constant(Path("huge.mroi"), (1 << 18, 1 << 18, 1), (1 << 18, 1 << 13, 1))
    assert Path("huge.mroi").stat().st_size < 10_000
    tracemalloc.start()
    for command in ("slice", "preview"):
        done = mroi(command, "huge.mroi", "-o", "p.png", "--json")
        (record,) = done.records
        assert (done.code, record["rule"]) == (ExitCode.DAMAGED, "LIM-1")
        assert f"{1 << 36:,}" in record["message"]
    assert tracemalloc.get_traced_memory()[1] < 10**8
    tracemalloc.stop()
    assert not Path("p.png").exists()


def test_a_large_plane_is_drawn_from_some_of_its_voxels(mroi: Mroi) -> None:
    """1.7 GB as numbers of a picture; a sheet has room for a few hundred pixels."""
    constant(Path("large.mroi"), (1 << 14, 13_000, 2), (1 << 14, 100, 1))
    with library.open("large.mroi") as volume:
        assert step_for(volume, [Plane(2, 0)]) == 3
        assert step_for(volume, [Plane(0, 0), Plane(1, 0)]) == 1
        plane = read_values(volume, Plane(2, 0), 3)
    assert plane.shape == (-(-(1 << 14) // 3), -(-13_000 // 3))
    assert (plane == 7).all()
    done = mroi("preview", "large.mroi", "--axis", "z", "-o", "p.png")
    assert done.code == 0, done.err
    done = mroi("slice", "large.mroi", "-o", "s.png")
    assert (done.code, "`mroi preview` draws it smaller" in done.err) == (ExitCode.DAMAGED, True)


@pytest.mark.parametrize("step", [1, 2, 3, 5])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_is_read_in_steps_is_what_is_there(tmp_path: Path, step: int, axis: int) -> None:
    image = phantom()
    box = library.Box((2, 3, 1), (9, 13, 8))
    path = tmp_path / "x.mroi"
    write(path, image, roi=box, background=Background.OMIT, chunk_shape=_chunks(box))
    with library.open(path, missing="fill") as volume:
        view, number = View(volume), 4
        plane = read_values(volume, Plane(axis, number), step)
        expected = np.where(volume.missing_mask(), 0, image).take(number, axis)
        assert np.array_equal(plane, expected[::step, ::step])
        mask = volume.missing_mask().take(number, axis)[::step, ::step]
        assert np.array_equal(find_lost(volume, Plane(axis, number), [], step), mask)
        panel = view.panel(plane.astype(np.uint8), Plane(axis, number), step)
        whole = view.panel(np.zeros(expected.shape, np.uint8), Plane(axis, number))
    rows, columns = panel.pixels.shape[:2]
    of = whole.pixels.shape
    left, top, right, bottom = (
        edge / n * m
        for edge, n, m in zip(panel.box, (columns, rows) * 2, (of[1], of[0]) * 2, strict=True)
    )
    assert (left, top, right, bottom) == pytest.approx(whole.box)
    assert panel.size == whole.size


def _chunks(box: library.Box) -> tuple[int, ...]:
    template = create_volume(io.BytesIO(), (4, 4, 4), np.uint8)
    depth = template.geom.chunk_shape[3:]
    template.abort()
    return (*box.shape[:2], 1, *depth)


# -- what nobody expected ------------------------------------------------------------------------


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str], mroi: Mroi) -> None:
    Report("info", json=True).answer({"values": [math.nan, math.inf, -math.inf, 1.5]}, "")
    assert json.loads(capsys.readouterr().out)["values"] == ["NaN", "Infinity", "-Infinity", 1.5]
    image = np.full((4, 4, 4), np.nan, np.float32)
    image[1:3, 1:3, 1:3] = np.arange(8).reshape(2, 2, 2)
    library.pack(image, "nan.mroi", roi="tight", codec="zstd")
    assert mroi("info", "nan.mroi", "--json").records[0]["fill"] == ["NaN"]


def test_a_fault_of_ours_is_a_line_and_the_next_file_is_done(
    mroi: Mroi, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("other.mroi").write_bytes(packed.read_bytes())
    real = library.open

    def fail(target: object, **options: object) -> object:
        if "other" in str(target):
            raise ZeroDivisionError("division by zero")
        return real(target, **options)

    monkeypatch.setattr("mroi.volume.model.open_volume", fail)
    done = mroi("verify", "other.mroi", packed, "-j", "1")
    assert done.code == ExitCode.SOME_FAILED
    assert "other.mroi: a fault of mroi, please report it: ZeroDivisionError" in done.err
    assert "Traceback" not in done.err
    assert "ok" in done.out
    monkeypatch.setenv("MROI_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        mroi("verify", "other.mroi")


def test_too_little_memory_is_said(
    mroi: Mroi, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> object:
        return np.empty(1 << 62, np.uint8)

    monkeypatch.setattr("mroi.volume.model.open_volume", fail)
    done = mroi("verify", packed)
    assert (done.code, "not enough memory: Unable to allocate" in done.err) == (1, True)


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there")
def test_names_that_are_no_text(packed: Path) -> None:
    name = os.fsencode(packed.parent) + b"/\xff\xfe.mroi"
    with open(name, "wb") as file:  # noqa: PTH123 (bytes)
        file.write(packed.read_bytes())
    program = [sys.executable, "-c", "from mroi.cli import main; main()"]
    for command in ("info", "verify"):
        done = subprocess.run(
            [*program, command, name],
            capture_output=True,
            check=False,
            env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout
