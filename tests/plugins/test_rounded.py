"""A lossy plug-in: it inherits the laws, and takes every target, as built-in codecs do."""

import json
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import mroi
from mroi import Target
from mroi.cli import app
from mroi.codecs import ChunkSpec, Codec, Pipeline, registry
from mroi.errors import CodecError, UsageError
from mroi.testing import CodecSuite
from tests.extras import needs_codec
from tests.plugins.rounded import Rounded


class TestRounded(CodecSuite):
    codecs = (Rounded(), Rounded(step=5))

    def max_error(self, codec: Codec, spec: ChunkSpec) -> float:
        assert isinstance(codec, Rounded)
        return codec.step / 2


def test_super_is_the_base_class() -> None:
    assert Rounded().default_slices == 4
    assert Rounded.implementation() == "mroi org.example.rounded of the tests"
    assert Rounded().refuses(ChunkSpec((9, 4, 4), np.dtype("u1"), 8)) is None


def test_the_pipeline_keeps_to_the_thickest_chunk() -> None:
    spec = ChunkSpec((5, 4, 4), np.dtype("u1"), 8)
    refusal = "org.example.rounded takes chunks of 4 slices, not 5"
    assert Pipeline(Rounded()).refuses(spec) == refusal
    with pytest.raises(CodecError, match=refusal):
        Pipeline(Rounded()).encode(np.zeros(spec.shape, "u1"), spec)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    points = [EntryPoint(Rounded.name, "tests.plugins.rounded:Rounded", registry.GROUP)]
    monkeypatch.setattr(registry, "entry_points", lambda **_: points)
    registry._plugins.cache_clear()
    yield
    registry._plugins.cache_clear()


def wave() -> np.ndarray:
    x, y, z = np.indices((32, 28, 10))
    noise = np.random.default_rng(1).normal(0, 3, x.shape)
    return (500 + 300 * np.sin(x / 5) * np.cos(y / 7) + 4 * z + noise).round().astype("<i2")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("wanted", [1.0, 7.0, 40.0])
def test_it_reaches_an_error(wanted: float, tmp_path: Path) -> None:
    file = tmp_path / "a.mroi"
    mroi.pack(wave(), file, codec=Rounded.name, quality=Target(max_error=wanted))
    worst = np.abs(np.asarray(mroi.open(file)).astype(float) - wave()).max()
    assert wanted / 2 <= worst <= wanted


@pytest.mark.usefixtures("installed")
def test_it_reaches_a_psnr(tmp_path: Path) -> None:
    file = tmp_path / "a.mroi"
    mroi.pack(wave(), file, codec=Rounded.name, quality=Target(psnr=40))
    square = ((np.asarray(mroi.open(file)).astype(float) - wave()) ** 2).mean()
    assert 40 <= 20 * np.log10(np.ptp(wave()) / np.sqrt(square)) < 42


@pytest.mark.usefixtures("installed")
def test_it_reaches_a_ratio(tmp_path: Path) -> None:
    file = tmp_path / "a.mroi"
    mroi.pack(wave(), file, codec=Rounded.name, quality=Target(ratio=4))
    assert 4 <= wave().nbytes / file.stat().st_size < 5


@pytest.mark.usefixtures("installed")
def test_the_command_takes_it(tmp_path: Path) -> None:
    source, file = tmp_path / "a.nii", tmp_path / "a.mroi"
    mroi.pack(wave(), tmp_path / "exact.mroi", codec="zstd")
    mroi.unpack(tmp_path / "exact.mroi", source)
    options = ["-c", Rounded.name, "--max-error", "6", "--json"]
    done = CliRunner().invoke(app, ["pack", str(source), "-o", str(file), *options])
    assert done.exit_code == 0, done.output
    assert 0 < json.loads(done.stdout)["loss"]["max_error"] <= 6


@needs_codec("jpegls")
@pytest.mark.usefixtures("installed")
def test_who_has_no_setting_is_told_who_has() -> None:
    with pytest.raises(UsageError, match=r"'zstd' has no setting.*jpegls.*org\.example\.rounded"):
        mroi.pack(wave(), "never.mroi", codec="zstd", quality=Target(psnr=40))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    "ladder",
    [lambda _: [3], lambda _: None, lambda _: 1 / 0],
    ids=["numbers", "nothing", "an error"],
)
def test_a_ladder_of_something_else_is_refused(
    ladder: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Rounded, "ladder", ladder)
    with pytest.raises(CodecError, match=r"org\.example\.rounded"):
        mroi.pack(wave(), tmp_path / "a.mroi", codec=Rounded.name, quality=Target(psnr=40))
    assert not list(tmp_path.iterdir())
