"""Training: it makes files smaller, and an interruption changes nothing."""

from __future__ import annotations

import json
import os
import signal
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save

import mroi
from mroi.codecs.neural import models
from mroi.errors import CodecError, UsageError
from mroi.training import run
from mroi.training.curves import Entry
from mroi.training.prepare import Wish, prepare
from mroi.training.run import Files, Training
from tests.training.phantoms import phantom, write

WISH = Wish(
    architecture="tcm", size="tiny", start="", settings={"lambda": 0.01, "channels": "equal"},
    steps=40, batch=2, patch=None, rate=None, seed=1, validation=0.34, device="cpu", threads=1,
    about="phantoms", licence="MIT",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write(tmp_path_factory.mktemp("data"), 3)


Begin = Callable[..., Training]


@pytest.fixture
def begin(data: list[str], tmp_path: Path) -> Begin:
    def begin(name: str = "m", **wishes: Any) -> Training:
        files = Files(tmp_path / f"{name}{models.SUFFIX}")
        return prepare(replace(WISH, **wishes), data, files)

    return begin


def packed(model: Path, folder: Path) -> tuple[int, float]:
    """Return the bytes of a volume that nobody trained on, and its PSNR in dB."""
    image = phantom(9, (150, 140, 4))
    nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "new.nii")
    codec = f"tcm:model={model}"
    target = folder / "new.mroi"
    mroi.pack(folder / "new.nii", target, codec=codec, roi="full", overwrite=True)
    with mroi.open(target) as volume:
        error = ((np.asarray(volume[:]).astype(float) - image) ** 2).mean()
    return target.stat().st_size, 10 * np.log10(np.ptp(image.astype(float)) ** 2 / error)


def test_a_trained_model_makes_smaller_files_of_better_pictures(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bytes on disk and decoded voxels, of a volume that it has not seen."""
    monkeypatch.setattr(run, "_ENTRIES", 8)
    begin("untrained", steps=1, rate=1e-9).run()
    training = begin()
    header = training.run()
    first, last = training.entries[0], training.entries[-1]
    assert last.step == 40
    assert last.loss < first.loss / 2
    assert last.validation_loss is not None
    assert first.validation_loss is not None
    assert last.validation_loss < first.validation_loss / 2
    size, psnr = packed(header.path, tmp_path)
    before, worse = packed(tmp_path / "untrained.mroi-model", tmp_path)
    assert size < before
    assert psnr > worse + 5


def test_bcm_net_learns_to_foresee_voxels(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bytes on disk, of a volume that it has not seen and that comes back without a loss."""
    monkeypatch.setattr(run, "_ENTRIES", 3)
    wish = {"architecture": "bcm-net", "settings": {"step": 1.0}, "batch": 2}
    untrained = begin("untrained", **wish, steps=1, rate=1e-9)
    untrained.run()
    training = begin(**wish, steps=24)
    header = training.run()
    first, last = untrained.entries[-1], training.entries[-1]
    assert last.loss == last.bpp < 0.8 * first.bpp
    assert (last.psnr, last.validation_psnr) == (None, None)
    assert last.validation_bpp is not None
    assert header.notes["step"] == 1
    assert "--step 1.0" in str(header.notes["command"])
    image = phantom(9, (44, 40, 3))
    sizes = []
    for name in ("untrained", "m"):
        target = tmp_path / "x.mroi"
        codec = f"bcm-net:model={tmp_path / name}.mroi-model"
        mroi.pack(image, target, codec=codec, roi="full", overwrite=True)
        with mroi.open(target) as volume:
            assert np.array_equal(volume[:], image)
        sizes.append(target.stat().st_size)
    assert sizes[1] < 0.9 * sizes[0]
    again = begin("again", **wish, steps=1, rate=1e-9, start=str(header.path)).run()
    assert (again.config, again.notes["start"]) == (header.config, header.id)


def test_a_model_says_how_it_was_trained(begin: Begin, data: list[str], tmp_path: Path) -> None:
    settings = {"lambda": 0.01, "channels": "neighbours"}
    training = begin(steps=2, architecture="tcm-auxt", settings=settings)
    header = training.run()
    assert header == models.read_header(tmp_path / "m.mroi-model")
    notes = header.notes
    for name, value in {"about": "phantoms", "licence": "MIT", "seed": 1, "lambda": 0.01}.items():
        assert notes[name] == value
    assert str(notes["data"]).startswith("3 volumes, 18 slices, SHA-256 ")
    assert "--steps 2 --batch 2 --patch 64" in str(notes["command"])
    assert not any(Path(path).name in json.dumps(notes) for path in data)
    assert notes["psnr"] == training.entries[-1].psnr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.csv", "m.mroi-model", "m.svg"]
    lines = (tmp_path / "m.csv").read_text().splitlines()
    assert lines[0] == ",".join(asdict(training.entries[0]))
    assert [line.split(",")[0] for line in lines[1:]] == ["1", "2"]
    root = ET.parse(tmp_path / "m.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert sum("polyline" in element.tag for element in root.iter()) == 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_changes_nothing(
    begin: Begin, tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the model nor the curves: all bytes are those of a training that nobody stopped."""
    monkeypatch.setattr(run, "_APART", 1)
    monkeypatch.setattr(run, "_ENTRIES", 2)  # so that it stops between two
    expected = begin("whole", steps=4).run()

    def stop(step: int, _entry: Entry) -> None:
        if step == 3:
            os.kill(os.getpid(), number)

    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            begin(steps=4).run(stop)
    finally:
        signal.signal(number, before)
    assert not (tmp_path / "m.mroi-model").exists()
    training = begin(steps=4)
    training.resume()
    assert training.step == 3
    training.seconds()  # tries a step, and leaves no trace
    training.run()
    for ending in (".mroi-model", ".csv", ".svg"):
        whole = (tmp_path / "whole").with_suffix(ending).read_bytes()
        assert (tmp_path / "m").with_suffix(ending).read_bytes() == whole
    assert not (tmp_path / "m.checkpoint").exists()
    assert expected.id == models.read_header(tmp_path / "m.mroi-model").id


def test_checkpoints_of_something_else_are_refused(begin: Begin, tmp_path: Path) -> None:
    training = begin(steps=4)
    with pytest.raises(UsageError, match=r"there is no .*checkpoint to go on with"):
        training.resume()
    training._save()
    path = tmp_path / "m.checkpoint"
    whole = path.read_bytes()
    with pytest.raises(UsageError, match=r"another training: .*lambda was 0\.01, and is 0\.02"):
        begin(steps=4, settings={**WISH.settings, "lambda": 0.02}).resume()
    for data in (b"", b"?", whole[:-1], whole[:100], whole.replace(b"mroi-training", b"x" * 13)):
        path.write_bytes(data)
        with pytest.raises(UsageError, match="is no checkpoint"):
            training.resume()
    path.write_bytes(whole.replace(b'"settled.weights"', b'"settled.weight_"'))
    with pytest.raises(UsageError, match=r"is damaged: settled\.weights"):
        training.resume()
    with safe_open(path, framework="numpy") as file:
        assert set(file.metadata()) == {"mroi-training"}  # tensors and JSON: nothing that runs


def test_checkpoints_with_other_numbers_are_refused(begin: Begin, tmp_path: Path) -> None:
    """Those that no training writes, each of the same tensors."""
    training = begin(steps=4)
    training._save()
    path = tmp_path / "m.checkpoint"
    with safe_open(path, framework="numpy") as file:
        record = json.loads(file.metadata()["mroi-training"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    entry = [2, 1.0, 1.0, None, None, None, None]
    cases: list[tuple[dict[str, object], str]] = [
        ({"step": -1}, "do not fit together"),
        ({"step": 5, "sums": [1, 1, 1, 5]}, "do not fit together"),
        ({"step": 4, "sums": [1, 1, 1, 4]}, "do not fit together"),
        ({"step": 3, "sums": [1, 1, 3]}, "do not fit together"),
        ({"step": 3, "entries": [entry]}, "do not fit together"),
        ({"sums": [1, 1, float("nan"), 0]}, "is no checkpoint"),
        ({"step": 2, "entries": [["2", *entry[1:]]]}, "is no checkpoint"),
        ({"step": 2, "entries": [[2, None, *entry[2:]]]}, "is no checkpoint"),
        ({"step": 2, "entries": [[*entry[:-1], "1"]]}, "is no checkpoint"),
    ]
    for change, match in cases:
        path.write_bytes(save(tensors, {"mroi-training": json.dumps({**record, **change})}))
        with pytest.raises(UsageError, match=match):
            training.resume()
    there = {"step": 3, "entries": [entry], "sums": [1, 1, 1, 1]}
    path.write_bytes(save(tensors, {"mroi-training": json.dumps({**record, **there})}))
    training.resume()
    assert training.step == 3


@pytest.mark.parametrize("name", ["entropy_bottleneck.quantiles", "tables.y.scales"])
def test_a_model_that_lacks_what_is_trained_is_refused(
    begin: Begin, tmp_path: Path, name: str
) -> None:
    header = models.find("tiny-tcm")
    tensors = models.load(header, {}, lambda there: there != name)
    path = tmp_path / "less.mroi-model"
    models.save(path, header, tensors)
    there = tmp_path / "none" / "m.mroi-model"
    with pytest.raises(FileNotFoundError) as caught:
        models.save(there, header, tensors)
    assert caught.value.filename == str(there)
    with pytest.raises(CodecError, match="is damaged"):
        begin(start=str(path))


def test_a_step_that_does_not_fit_is_said(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    training = begin(steps=1)

    def loss(*_: object) -> object:
        return torch.empty(1 << 60)

    monkeypatch.setattr(training._objective, "loss", loss)
    for work in (training.seconds, training.run):
        with pytest.raises(MemoryError, match="a smaller --batch or --patch"):
            work()


def test_a_loss_that_is_no_number_ends_it(begin: Begin, tmp_path: Path) -> None:
    with pytest.raises(CodecError, match="the loss of step 2 is no number; try a lower --rate"):
        begin(steps=3, rate=1.0, settings={**WISH.settings, "lambda": 1e3}).run()
    assert list(tmp_path.iterdir()) == []


def test_a_model_can_be_gone_on_from(begin: Begin) -> None:
    first = begin("first", steps=1, rate=1e-9).run()
    more = begin("more", start=str(first.path), steps=1, rate=1e-9, validation=0, patch=64).run()
    assert more.config == first.config
    assert more.notes["start"] == first.id
    one, other = (models.load(header, {}, lambda _name: True) for header in (first, more))
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        close = np.isclose(other[name], tensor, atol=2 if name.startswith("tables.") else 1e-3)
        assert close.all(), name


def test_sizes_come_from_a_file(begin: Begin, tmp_path: Path) -> None:
    path = tmp_path / "sizes.json"
    for text, match in (
        ("?", "is no JSON"), ("[]", "no JSON object"), ('{"width": 7}', "no multiple"),
        ('{"wide": 8}', "its sizes are"), ("[" * 60_000, "is no JSON"),
        ('{"latent": 4095, "hyper": 4096}', "weights: at most 268,435,456 are trained"),
    ):  # fmt: skip
        path.write_text(text)
        with pytest.raises(UsageError, match=match):
            begin(size=str(path))
    with pytest.raises(UsageError, match="expected tiny, small, medium, large or a JSON file"):
        begin(size="huge")
    tiny = models.find("tiny-tcm").config
    path.write_text(json.dumps(tiny))
    assert begin(size=str(path), steps=1, patch=64).run().config == tiny
    with pytest.raises(UsageError, match="patches of 65 do not fit the network"):
        begin(patch=65)
