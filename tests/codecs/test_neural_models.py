"""Models: what is a model, where it is found, and that nothing hostile gets through."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from mroi.codecs import ChunkSpec
from mroi.codecs.neural import models
from mroi.codecs.neural.checkpoint import import_checkpoint, model_of, read_checkpoint
from mroi.codecs.neural.latent import Model
from mroi.codecs.neural.shapes import Config, tensors
from mroi.codecs.neural.tcm import Tcm
from mroi.errors import CodecError, CodecUnavailableError

TINY = models.find("tiny-tcm")
SIZES = Config.from_json(TINY.config)


def metadata(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    record: dict[str, Any] = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["mroi"])
    return record


def rewritten(path: Path, record: object, arrays: dict[str, np.ndarray] | None = None) -> Path:
    save_file(arrays or load_file(TINY.path), path, {"mroi": json.dumps(record)})
    return path


def opened(path: Path) -> Model:
    header = models.read_header(path)
    return Model(header, Config.from_json(header.config))


# -- finding ---------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _own_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what is named here from other tests: some models differ in the encoder alone."""
    monkeypatch.setattr(models, "_seen", dict(models._seen))


def test_models_are_found_by_variable_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "mine.mroi-model").write_bytes(TINY.path.read_bytes())
    (folder / "broken.mroi-model").write_bytes(b"?")
    monkeypatch.setattr(models, "_seen", {})
    for value in (str(folder), f"{tmp_path / 'none'}:{folder / 'mine.mroi-model'}"):
        monkeypatch.setenv("MROI_MODEL_PATH", value)
        for reference in ("mine", TINY.id, TINY.id[:8]):
            assert models.find(reference).id == TINY.id
    monkeypatch.setenv("MROI_MODEL_PATH", str(tmp_path / "none"))
    monkeypatch.setattr(models, "_seen", {})
    for reference in ("mine", TINY.id):
        with pytest.raises(CodecUnavailableError, match=r"put its file \(.mroi-model\) into"):
            models.find(reference)


def test_two_models_of_one_name_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, source in (("a", "tiny-tcm"), ("b", "tiny-tcm-auxt")):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "same.mroi-model"
        path.write_bytes(models.find(source).path.read_bytes())
    monkeypatch.setenv("MROI_MODEL_PATH", f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    with pytest.raises(CodecError, match="give the path"):
        models.find("same")


# -- what is a model -------------------------------------------------------------------------------


def test_the_id_is_of_all_that_decoding_depends_on(tmp_path: Path) -> None:
    arrays, record = load_file(TINY.path), metadata(TINY.path)
    opened(rewritten(tmp_path / "same.mroi-model", record))
    for name in ("g_s.0.conv.bias", "tables.y.scales", "tables.z.medians", "h_mean_s.0.conv.bias"):
        changed = arrays | {
            name: np.nextafter(arrays[name], np.float32(9), dtype=arrays[name].dtype)
        }
        with pytest.raises(CodecError, match="damaged"):
            opened(rewritten(tmp_path / "changed.mroi-model", record, changed))
    with pytest.raises(CodecError, match="damaged"):
        opened(rewritten(tmp_path / "other.mroi-model", {**record, "id": "0" * 64}))
    encoder = arrays | {"g_a.0.conv1.bias": arrays["g_a.0.conv1.bias"] + 1}
    opened(rewritten(tmp_path / "encoder.mroi-model", record, encoder))


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2}, {"id": "x"}, {"arithmetic": "f32"}, {"config": {"width": 2**40}},
        {"config": []}, {"notes": None}, {"architecture": 3}, {"more": 1},
        {"arithmetic": "int-exact"},
    ],
    ids=str,
)  # fmt: skip
def test_what_a_model_says_of_itself_is_checked(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(CodecError):
        opened(rewritten(tmp_path / "x.mroi-model", metadata(TINY.path) | change))


def test_tensors_are_checked(tmp_path: Path) -> None:
    arrays, record = load_file(TINY.path), metadata(TINY.path)
    name = "g_s.0.conv.weight"
    for wrong in (
        {k: v for k, v in arrays.items() if k != name},
        {k: v for k, v in arrays.items() if k != "tables.y.cdf"},
        arrays | {name: arrays[name][:1]},
        arrays | {name: arrays[name] * np.float32(np.nan)},
        arrays | {"tables.y.cdf": arrays["tables.y.cdf"] * 0},
        arrays | {"tables.y.sizes": arrays["tables.y.sizes"] + 1},
        arrays | {"tables.y.scales": -arrays["tables.y.scales"]},
    ):
        path = rewritten(tmp_path / "x.mroi-model", record, wrong)
        with pytest.raises(CodecError, match=r"damaged|frequencies"):
            opened(path)


def test_files_that_are_no_models_are_refused(tmp_path: Path) -> None:
    path, whole = tmp_path / "x.mroi-model", TINY.path.read_bytes()
    (size,) = struct.unpack_from("<Q", whole)
    huge = whole[8 : 8 + size].replace(b'"shape":[', b'"shape":[1099511627776,', 1)
    for data in (
        b"", b"?", whole[:7], whole[:100], whole[:-1], whole + b"?",
        struct.pack("<Q", 2**40) + whole[8:],
        struct.pack("<Q", len(huge)) + huge + whole[8 + size :],
        pickle.dumps({"g_a": 1}),
    ):  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(CodecError, match="is no model"):
            models.read_header(path)
    save_file({"x": np.zeros(1, np.float32)}, path)
    with pytest.raises(CodecError, match="does not say what it is"):
        models.read_header(path)
    with pytest.raises(CodecUnavailableError, match="there is no model"):
        models.read_header(tmp_path / "none")


def test_writing_replaces_nothing_unasked(tmp_path: Path) -> None:
    path = tmp_path / "x.mroi-model"
    path.write_bytes(b"mine")
    with pytest.raises(CodecError, match="exists"):
        models.save(path, TINY, load_file(TINY.path))
    assert path.read_bytes() == b"mine"
    models.save(path, TINY, load_file(TINY.path), overwrite=True)
    assert models.read_header(path).id == TINY.id
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.mroi-model"]


# -- checkpoints -----------------------------------------------------------------------------------


def checkpoint(path: Path, state: dict[str, Any]) -> Path:
    torch.save(state, path)
    return path


def trained() -> dict[str, np.ndarray]:
    arrays = load_file(TINY.path)
    made = {k: v for k, v in arrays.items() if not k.startswith("tables.")}
    return made | {"gaussian_conditional.scale_table": arrays["tables.y.scales"].astype(np.float32)}


def test_checkpoints_of_all_kinds_give_one_model(tmp_path: Path) -> None:
    state = {name: torch.from_numpy(array) for name, array in trained().items()}
    old = {
        name.replace("entropy_bottleneck.matrices.", "entropy_bottleneck._matrix")
        .replace("entropy_bottleneck.biases.", "entropy_bottleneck._bias")
        .replace("entropy_bottleneck.factors.", "entropy_bottleneck._factor"): tensor
        for name, tensor in state.items()
    }
    constants = {
        "g_a.0.gdn.beta_reparam.pedestal": torch.ones(1),
        "g_a.0.gdn.gamma_reparam.lower_bound.bound": torch.ones(1),
        "entropy_bottleneck.target": torch.ones(3),
        "entropy_bottleneck._offset": torch.zeros(0, dtype=torch.int32),
        "gaussian_conditional.scale_bound": torch.ones(1),
    }
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))])
    more = {"epoch": 3, "loss": torch.ones(()), "optimizer": optimizer.state_dict()}
    for kind in (
        state,
        {"state_dict": state},
        {"state_dict": {f"module.{name}": tensor for name, tensor in old.items()}, **more},
        {"state_dict": old | constants},
        {name: tensor.double() for name, tensor in state.items()},
    ):
        found = read_checkpoint(checkpoint(tmp_path / "c.pth.tar", kind))
        header, kept = model_of(found, "tcm", SIZES, {})
        assert header.id == TINY.id
        assert set(kept) == set(load_file(TINY.path))


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("evil"),))


def test_checkpoints_that_would_run_code_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "c.pth"
    torch.save({"state_dict": Evil()}, path)
    with pytest.raises(CodecError, match="without running code"):
        read_checkpoint(path)
    for data in (pickle.dumps(Evil()), b"", b"PK\3\4", bytes(1000)):
        path.write_bytes(data)
        with pytest.raises(CodecError, match="without running code"):
            read_checkpoint(path)
    assert not Path("evil").exists()


def test_checkpoints_of_something_else_are_refused(tmp_path: Path) -> None:
    path, whole = tmp_path / "c.pth", trained()
    state = {name: torch.from_numpy(array) for name, array in whole.items()}
    bad = torch.full((6, 6, 3, 3), float("nan"))
    for wrong in ([1], {}, {"a": 1}, {1: torch.ones(1)}, {**state, "g_s.0.conv.weight": bad}):
        with pytest.raises(CodecError):
            read_checkpoint(checkpoint(path, wrong))  # type: ignore[arg-type]
    for found in (
        {k: v for k, v in whole.items() if k != "g_s.0.conv.bias"},
        {k: v for k, v in whole.items() if k != "entropy_bottleneck.matrices.0"},
        {**whole, "g_s.0.conv.bias": np.zeros(9, np.float32)},
        {**whole, "extra.weight": np.zeros(9, np.float32)},
        {**whole, "entropy_bottleneck.matrices.0": np.zeros((2, 5, 5), np.float32)},
        {**whole, "entropy_bottleneck.quantiles": np.zeros((9, 1, 3), np.float32)},
        {**whole, "entropy_bottleneck.quantiles": np.full((2, 1, 3), 1e9, np.float32) * [-1, 0, 1]},
        {**whole, "gaussian_conditional.scale_table": np.array([2.0, 1.0], np.float32)},
    ):
        with pytest.raises(CodecError):
            model_of(found, "tcm", SIZES, {})
    with pytest.raises(CodecError, match=r"no checkpoint of tcm: g_a\.0 is another layer"):
        import_checkpoint(checkpoint(path, {"x": torch.ones(1)}), "tcm", tmp_path / "m")
    layer = {"g_a.0.conv1.weight": torch.ones(6, 3, 3, 3)}
    with pytest.raises(CodecError, match=r"no checkpoint of tcm: model: channels"):
        import_checkpoint(checkpoint(path, layer), "tcm", tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_network_that_gives_no_numbers_is_refused(tmp_path: Path) -> None:
    """Weights may be finite and what comes out not: nothing is written of it."""
    found = trained()
    found["g_a.0.conv1.weight"] = np.full((6, 3, 3, 3), 1e38, np.float32)
    header, kept = model_of(found, "tcm", SIZES, {})
    path = tmp_path / "wild.mroi-model"
    models.save(path, header, kept)
    chunk = np.full((1, 9, 9), 200, np.uint8)
    with pytest.raises(CodecError, match=r"too large to be coded|no finite"):
        Tcm(str(path)).encode(chunk, ChunkSpec(chunk.shape, chunk.dtype, 8))


def test_a_model_that_fails_its_trial_leaves_the_old_one(tmp_path: Path) -> None:
    header, kept = model_of(trained(), "tcm", SIZES, {})
    path = tmp_path / "mine.mroi-model"
    path.write_bytes(b"the one before")

    def fail(written: Path) -> None:
        assert load_file(written).keys() == kept.keys()
        raise CodecError("no good")

    with pytest.raises(CodecError, match="no good"):
        models.save(path, header, kept, overwrite=True, trial=fail)
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [
        ("mine.mroi-model", b"the one before")
    ]


def test_shapes_name_what_is_decoded() -> None:
    shapes = tensors(SIZES, auxiliary=False)
    assert {
        name: array.shape for name, array in load_file(TINY.path).items() if name in shapes
    } == shapes
