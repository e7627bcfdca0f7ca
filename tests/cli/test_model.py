"""``mroi model``, and ``pack`` with one: what is said, and what is refused."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mroi.cli.exits import ExitCode
from mroi.codecs import codec_class
from mroi.codecs.neural.tcm import Tcm
from mroi.packing.options import AUTO_MODES, COLOUR_MODES, LOSSY_MODES
from tests.cli.runner import AFFINE, Mroi
from tests.extras import needs

MODELS = Path(__file__).resolve().parents[2] / "spec" / "vectors" / "models"


@needs("neural")
def test_list_says_which_models_there_are(mroi: Mroi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MROI_MODEL_PATH", str(MODELS))
    done = mroi("model", "list")
    assert done.code == 0
    for line in done.out.splitlines()[1:3]:
        name, codec, identity, path = line.split()
        assert (name, len(identity)) == (f"tiny-{codec}", 12)
        assert Path(path) == MODELS / f"{name}.mroi-model"
    records = mroi("model", "list", "--json").records
    assert {record["architecture"] for record in records} >= {"tcm", "tcm-auxt"}


@needs("neural")
def test_list_names_files_that_are_broken(
    mroi: Mroi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MROI_MODEL_PATH", str(tmp_path))
    assert "no models in" in mroi("model", "list").out
    (tmp_path / "x.mroi-model").write_bytes(b"?")
    assert "x.mroi-model is no model" in mroi("model", "list").out
    assert "is no model" in str(mroi("model", "list", "--json").records[0]["problem"])


@needs("neural")
def test_info_says_what_a_model_is(mroi: Mroi) -> None:
    done = mroi("model", "info", "tiny-tcm")
    assert done.code == 0
    assert "arithmetic        f64-guard" in done.out
    record = mroi("model", "info", "tiny-tcm", "--json").records[0]
    assert record["id"] == Tcm("tiny-tcm").model
    done = mroi("model", "info", "none")
    assert done.code != 0
    assert "there is no model 'none'" in done.err


@needs("neural")
def test_what_is_no_model_is_an_input_that_is_refused(
    mroi: Mroi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("scan", "scan.mroi-model"):
        (tmp_path / name).write_bytes(b"something else")
        done = mroi("model", "info", name)
        assert (done.code, f"{name} is no model" in done.err) == (ExitCode.NO_INPUT, True)
    done = mroi("model", "import", "--arch", "tcm", "scan")
    assert (done.code, "scan is no checkpoint" in done.err) == (ExitCode.NO_INPUT, True)


@needs("neural")
def test_import_refuses_another_network(mroi: Mroi, tmp_path: Path) -> None:
    import torch
    from safetensors.numpy import load_file

    arrays = load_file(MODELS / "tiny-tcm.mroi-model")
    state = {k: torch.from_numpy(v) for k, v in arrays.items() if not k.startswith("tables.")}
    torch.save({"state_dict": state}, tmp_path / "small.pth.tar")
    done = mroi("model", "import", "--arch", "tcm", tmp_path / "small.pth.tar")
    assert done.code == ExitCode.NO_INPUT
    assert "no checkpoint of tcm" in done.err
    assert not (tmp_path / "small.mroi-model").exists()


@pytest.fixture
def wave(tmp_path: Path) -> Path:
    x, y, z = np.indices((40, 44, 3))
    image = (500 + 300 * np.sin(x / 9) * np.cos(y / 8) + 4 * z).round().astype("i2")
    nib.save(nib.Nifti1Image(image, AFFINE), tmp_path / "wave.nii")
    return tmp_path / "wave.nii"


@needs("neural")
def test_pack_and_read_with_a_model(mroi: Mroi, wave: Path) -> None:
    done = mroi("pack", wave, "-o", "w.mroi", "-c", "tcm:model=tiny-tcm")
    assert done.code == 0
    assert mroi("verify", "w.mroi").code == 0
    assert "tcm" in mroi("info", "w.mroi").out


@needs("neural")
def test_a_missing_model_is_named(
    mroi: Mroi, wave: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mroi("pack", wave, "-o", "w.mroi", "-c", "tcm:model=tiny-tcm").code == 0
    from mroi.codecs.neural import models, trained

    trained.forget()
    monkeypatch.setattr(models, "_seen", {})
    monkeypatch.setenv("MROI_MODEL_PATH", str(tmp_path))
    assert mroi("info", "w.mroi").code == 0
    done = mroi("verify", "w.mroi")
    assert done.code == ExitCode.NO_CODEC
    assert "is needed, and not here" in done.err + done.out


@needs("neural")
def test_who_packs_with_a_patented_method_is_told(mroi: Mroi, wave: Path) -> None:
    done = mroi("pack", wave, "-o", "w.mroi", "-c", "bcm-net:model=tiny-bcm-net")
    assert done.code == 0, done.err
    lines = [line for line in done.err.splitlines() if "12 597 507" in line]
    assert len(lines) == 1
    assert "check that you may use it" in lines[0]
    assert "12 597 507" not in mroi("verify", "w.mroi", "--against", wave).err
    assert "lossless" in mroi("info", "w.mroi").out
    assert "bcm-net: the method is patented" in mroi("codecs").out
    assert "bcm-net is never chosen" in " ".join(mroi("pack", "--help").out.split())
    plain = mroi("pack", wave, "-o", "v.mroi", "--small")
    assert "12 597 507" not in plain.err


def test_no_automatic_choice_is_a_codec_with_a_notice() -> None:
    modes = [mode for choice in (AUTO_MODES, COLOUR_MODES, LOSSY_MODES) for mode in choice.values()]
    assert modes
    for name in {text.partition(":")[0] for mode in modes for text in mode}:
        assert not codec_class(name).notice


def test_pack_says_how_long_a_slow_codec_takes(
    mroi: Mroi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mroi.codecs.general.zstd import Zstd

    image = np.arange(5 * 6 * 4, dtype="u1").reshape(5, 6, 4)
    nib.save(nib.Nifti1Image(image, AFFINE), tmp_path / "wave.nii")
    options = ("-c", "zstd", "--chunk", "1", "-v", "-j", "2")
    done = mroi("pack", tmp_path / "wave.nii", "-o", "a.mroi", *options)
    assert "will take" not in done.err
    monkeypatch.setattr(Zstd, "encode_seconds", lambda _codec, _spec: 100.0)
    done = mroi("pack", tmp_path / "wave.nii", "-o", "b.mroi", *options)
    assert "zstd will take about 3 min: 4 chunks, on 2 threads" in done.err
