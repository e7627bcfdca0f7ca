"""nnU-Net reads raw and preprocessed files: what its own readers read, and its trainer trains."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import nnunetv2
import numpy as np
import pytest
from nnunetv2.imageio import reader_writer_registry
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.training.dataloading.nnunet_dataset import (
    comp_blosc2_params,
    infer_dataset_class,
    nnUNetDatasetBlosc2,
)
from numpy.testing import assert_allclose, assert_array_equal

import mroi
from mroi.errors import UsageError
from mroi.nnunet import (
    TRAINERS,
    MroiIO,
    install,
    nnUNetDatasetMroi,
    pack_preprocessed,
)
from mroi.nnunet.__main__ import main

DATA = Path(nib.__file__).parent / "tests" / "data"
AFFINE = np.array([[-2, 0, 0, 40], [0, 1.5, 0, -30], [0, 0, 3, 7], [0, 0, 0, 1.0]])


# -- raw -------------------------------------------------------------------------------------


def test_images_are_what_nnunet_reads_of_the_source(tmp_path: Path) -> None:
    mroi.pack(DATA / "anatomical.nii", tmp_path / "a.mroi", codec="zstd")
    expected, about = NibabelIO().read_images([DATA / "anatomical.nii"] * 2)
    array, properties = MroiIO().read_images([tmp_path / "a.mroi"] * 2)
    assert array.dtype == np.float32
    assert_array_equal(array, expected)
    assert_allclose(properties["spacing"], about["spacing"], rtol=1e-6)


def test_channels_along_a_fourth_axis_and_images_of_two(tmp_path: Path) -> None:
    series = np.random.default_rng(0).integers(0, 99, (6, 5, 4, 2)).astype("i2")
    mroi.pack(series, tmp_path / "a.mroi", affine=AFFINE, codec="zstd")
    array, properties = MroiIO().read_images([tmp_path / "a.mroi"])
    assert_array_equal(array, series.T)
    assert_allclose(properties["spacing"], (3, 1.5, 2))
    mroi.pack(series[:, :, 0, 0], tmp_path / "b.mroi", affine=AFFINE, codec="zstd")
    array, properties = MroiIO().read_images([tmp_path / "b.mroi"])
    assert array.shape == (1, 1, 5, 6)
    assert properties["spacing"][0] > max(properties["spacing"][1:])
    MroiIO().write_seg(array[0].astype(int), tmp_path / "c.mroi", properties)
    assert mroi.open(tmp_path / "c.mroi").shape == (6, 5)


def test_images_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    voxels = np.zeros((6, 5, 4), "u1")
    mroi.pack(voxels, tmp_path / "a.mroi", affine=AFFINE, codec="zstd")
    mroi.pack(voxels[1:], tmp_path / "b.mroi", affine=AFFINE, codec="zstd")
    mroi.pack(voxels, tmp_path / "c.mroi", affine=np.eye(4), codec="zstd")
    for other, message in (("b", "does not fit"), ("c", "another spacing")):
        with pytest.raises(UsageError, match=message):
            MroiIO().read_images([tmp_path / "a.mroi", tmp_path / f"{other}.mroi"])
    with pytest.raises(UsageError, match="no images"):
        MroiIO().read_images([])


def test_segmentations_lie_where_their_image_does(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(0, 99, (9, 8, 7)).astype("i2")
    mroi.pack(voxels, tmp_path / "a.mroi", affine=AFFINE, codec="zstd")
    array, properties = MroiIO().read_images([tmp_path / "a.mroi"])
    MroiIO().write_seg((array[0] > 50).astype(int), tmp_path / "seg.mroi", properties)
    volume = mroi.open(tmp_path / "seg.mroi")
    assert volume.dtype == np.uint8
    assert_array_equal(volume[...], voxels > 50)
    assert_allclose(volume.affine, AFFINE)
    MroiIO().write_seg(array[0].astype(int) * 9, tmp_path / "seg.mroi", properties)
    assert mroi.open(tmp_path / "seg.mroi").dtype == np.uint16
    found, again = MroiIO().read_seg(tmp_path / "seg.mroi")
    assert_array_equal(found[0], array[0] * 9)
    assert again["spacing"] == properties["spacing"]


def test_nnunet_finds_the_reader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    find = reader_writer_registry.determine_reader_writer_from_dataset_json
    assert find({"file_ending": ".mroi"}, verbose=False) is MroiIO
    # By name, as plans have it: nnU-Net looks into its own folder, of which this is a copy.
    copy = tmp_path / "nnunetv2"
    shutil.copytree(Path(nnunetv2.__path__[0]) / "imageio", copy / "imageio")
    monkeypatch.setattr(reader_writer_registry, "__file__", str(copy / "imageio" / "registry.py"))
    module = install()
    assert module.parent == copy / "imageio"
    names: dict[str, Any] = {}
    exec(module.read_text("utf-8"), names)
    assert names["MroiIO"] is MroiIO


# -- preprocessed ----------------------------------------------------------------------------


def write_b2nd(folder: Path, cases: int, shape: tuple[int, ...] = (2, 30, 28, 26)) -> None:
    """Write cases as nnU-Net's preprocessor does."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(cases):
        random = np.random.default_rng(number)
        data = random.normal(size=shape).astype("f4")
        data[:, :, :9] = 0
        seg = np.zeros((1, *shape[1:]), "i2")
        seg[:, 8:20, 10:22, 7:19] = random.integers(0, 2, (12, 12, 12))
        seg[:, :2] = -1
        locations = {1: np.argwhere(seg == 1)}
        (blocks, chunks), (seg_blocks, seg_chunks) = (
            comp_blosc2_params(part.shape, (16, 16, 16), part.itemsize) for part in (data, seg)
        )
        nnUNetDatasetBlosc2.save_case(
            data, seg, {"class_locations": locations, "spacing": (1, 1, 1)},
            str(folder / f"case_{number}"), chunks=chunks, blocks=blocks,
            chunks_seg=seg_chunks, blocks_seg=seg_blocks,
        )  # fmt: skip


@pytest.mark.parametrize("max_error", [0.0, 1e-3, 1e-7])
def test_cases_are_those_that_nnunet_wrote(tmp_path: Path, max_error: float) -> None:
    write_b2nd(tmp_path, 2)
    expected = nnUNetDatasetBlosc2(str(tmp_path))
    arrays = {name: [part[:] for part in expected[name][:2]] for name in expected.identifiers}
    sizes = pack_preprocessed(tmp_path, max_error=max_error)
    assert sizes[1] == sum(path.stat().st_size for path in tmp_path.glob("*.mroi"))
    assert not list(tmp_path.glob("*.b2nd"))
    assert infer_dataset_class(str(tmp_path)) is nnUNetDatasetMroi
    dataset = pickle.loads(pickle.dumps(nnUNetDatasetMroi(str(tmp_path))))
    assert dataset.identifiers == ["case_0", "case_1"]
    for name in dataset.identifiers:
        data, seg, before, properties = dataset[name]
        assert before is None
        assert properties["class_locations"].keys() == {1}
        assert (data.shape, data.dtype) == ((2, 30, 28, 26), np.float32)
        assert (data.ndim, len(data)) == (4, 2)
        assert_array_equal(seg[:], arrays[name][1])
        assert seg.dtype == np.int16
        off = np.abs(data[:].astype("f8") - arrays[name][0]).max()
        assert off <= max_error
        assert_array_equal(data[:, 3:7, 2:28, 5], np.asarray(data)[:, 3:7, 2:28, 5])
        assert_array_equal(data[..., 4], data[:][..., 4])
        assert data[:].flags.c_contiguous
    if max_error == 1e-3:  # 16 bits instead of 32, and nothing is exactly 0 any more but was
        assert data.volume.stored_dtype == np.int16
        assert_array_equal(data[:][:, :, :9], 0)
        assert sizes[1] < 0.5 * sizes[0]
    else:
        assert data.volume.stored_dtype == np.float32


def test_the_sources_stay_if_asked_for_or_if_something_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_b2nd(tmp_path, 1)
    pack_preprocessed(tmp_path, keep=True)
    assert len(list(tmp_path.glob("*.b2nd"))) == 2
    with pytest.raises(UsageError, match="max_error=-1"):
        pack_preprocessed(tmp_path, max_error=-1)
    whole = nnUNetDatasetMroi.save_case

    def wrong(data: Any, *rest: Any, **options: Any) -> None:
        whole(data + np.float32(1e-3), *rest, **options)

    monkeypatch.setattr(nnUNetDatasetMroi, "save_case", staticmethod(wrong))
    with pytest.raises(UsageError, match="not equal to its source"):
        pack_preprocessed(tmp_path)
    assert len(list(tmp_path.glob("*.b2nd"))) == 2
    with pytest.raises(UsageError, match=r"no \.b2nd files"):
        pack_preprocessed(TRAINERS)


def test_a_cascade_takes_the_label_of_the_stage_before(tmp_path: Path) -> None:
    write_b2nd(tmp_path / "cases", 1)
    pack_preprocessed(tmp_path / "cases")
    previous = np.random.default_rng(0).integers(0, 2, (30, 28, 26)).astype("u1")
    (tmp_path / "before").mkdir()
    nnUNetDatasetMroi.save_seg(previous, str(tmp_path / "before" / "case_0"))
    dataset = nnUNetDatasetMroi(
        str(tmp_path / "cases"), folder_with_segs_from_previous_stage=str(tmp_path / "before")
    )
    assert_array_equal(dataset["case_0"][2][:], previous)


# -- the trainer -----------------------------------------------------------------------------


def test_the_commands_say_and_do_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_b2nd(tmp_path, 1)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mroi.nnunet", *map(str, arguments)])
        code = main()
        return code, *capsys.readouterr()

    assert run("trainers") == (0, f"{TRAINERS}\n", "")
    code, out, err = run("pack", tmp_path, "--max-error", "0.001")
    assert (code, err) == (0, "")
    assert out.startswith(f"{tmp_path}: ")
    assert out.endswith("of .mroi\n")
    code, out, err = run("pack", tmp_path)
    assert (code, out) == (1, "")
    assert err == f"python -m mroi.nnunet: {tmp_path}: no .b2nd files there\n"


NETWORKS = "dynamic_network_architectures.architectures"
PLANS = {
    "dataset_name": "Dataset001_Test",
    "plans_name": "nnUNetPlans",
    "image_reader_writer": "NibabelIO",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "configurations": {
        "3d_fullres": {
            "data_identifier": "nnUNetPlans_3d_fullres",
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 2,
            "patch_size": [16, 16, 16],
            "spacing": [1.0, 1.0, 1.0],
            "normalization_schemes": ["NoNormalization"] * 2,
            "use_mask_for_norm": [False] * 2,
            "batch_dice": False,
            "architecture": {
                "network_class_name": f"{NETWORKS}.unet.PlainConvUNet",
                "arch_kwargs": {
                    "n_stages": 2, "features_per_stage": [4, 8],
                    "conv_op": "torch.nn.modules.conv.Conv3d", "kernel_sizes": [[3, 3, 3]] * 2,
                    "strides": [[1, 1, 1], [2, 2, 2]], "n_conv_per_stage": [1, 1],
                    "n_conv_per_stage_decoder": [1], "conv_bias": True,
                    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                    "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "dropout_op": None,
                    "dropout_op_kwargs": None, "nonlin": "torch.nn.LeakyReLU",
                    "nonlin_kwargs": {"inplace": True},
                },
                "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
            },
        }
    },
}  # fmt: skip
DATASET = {
    "channel_names": {"0": "T1", "1": "T2"},
    "labels": {"background": 0, "thing": 1},
    "numTraining": 3,
    "file_ending": ".nii.gz",
}
SCRIPT = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
from nnunetv2.run.run_training import get_trainer_from_args
trainer = get_trainer_from_args("Dataset001_Test", "3d_fullres", "all", "nnUNetTrainerMroi",
                                device=torch.device("cpu"))
trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 1, 2, 1
trainer.disable_checkpointing = True
trainer.plot_network_architecture = lambda: None
trainer.run_training()
print(trainer.dataset_class.__name__)
"""


def test_the_trainer_is_found_and_trains(tmp_path: Path) -> None:
    base = tmp_path / "preprocessed" / "Dataset001_Test"
    write_b2nd(base / "nnUNetPlans_3d_fullres", 3)
    pack_preprocessed(base / "nnUNetPlans_3d_fullres")
    (base / "nnUNetPlans.json").write_text(json.dumps(PLANS), "utf-8")
    (base / "dataset.json").write_text(json.dumps(DATASET), "utf-8")
    (base / "dataset_fingerprint.json").write_text("{}", "utf-8")
    environment = {
        "nnUNet_raw": str(tmp_path / "raw"),
        "nnUNet_preprocessed": str(tmp_path / "preprocessed"),
        "nnUNet_results": str(tmp_path / "results"),
        "nnUNet_extTrainer": str(TRAINERS),
        "nnUNet_n_proc_DA": "1",
        "nnUNet_compile": "f",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True, text=True, check=False, env={**os.environ, **environment}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert f"Using trainer 'nnUNetTrainerMroi' from: {TRAINERS}" in done.stdout
    assert done.stdout.split()[-1] == "nnUNetDatasetMroi"
    assert "train_loss" in done.stdout


def test_nan_is_near_to_nan_alone() -> None:
    from mroi.nnunet import _are_near

    nan, inf = np.nan, np.inf
    same = np.array([nan, 1.0, inf], "f4")
    assert _are_near(same, same.copy(), 0.0)
    assert _are_near(np.array([1.1], "f4"), np.array([1.0], "f4"), 0.2)
    for one, other in ((0.0, nan), (nan, 0.0), (inf, -inf), (inf, 3.0), (1.5, 1.0)):
        assert not _are_near(np.array([one], "f4"), np.array([other], "f4"), 0.2)
