"""Datasets of PyTorch: the voxels of the volumes, the same patches with any number of workers."""

from __future__ import annotations

import os
import pickle
from bisect import bisect_right
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from torch.utils.data import DataLoader, Dataset

import mroi
from mroi.errors import FormatError, UsageError
from mroi.torch import FileBatchSampler, PatchDataset, SliceDataset

AFFINE = np.array([[0, -2, 0.5, 40], [1.5, 0, 0, -30], [0, 0.25, 3, 7], [0, 0, 0, 1]])
SHAPES = ((23, 20, 18), (16, 25, 12), (20, 20, 30))


def write(path: Path, array: np.ndarray, **options: Any) -> Path:
    """Pack an array in small chunks, so that reads meet several."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wishes = {"codec": "zstd", "chunk": (8, 8, 4), "affine": AFFINE, **options}
    mroi.pack(array, path, **wishes)
    return path


def phantom(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Noise in a box, nothing around it."""
    voxels = np.zeros(shape, "i2")
    voxels[3:-4, 4:-3, 2:-5] = np.random.default_rng(seed).integers(1, 999, shape)[3:-4, 4:-3, 2:-5]
    return voxels


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Three images, and labels of the same names; image and label are made of the same noise."""
    for number, shape in enumerate(SHAPES):
        voxels = phantom(shape, number)
        name = f"sub-{number}/T1w.mroi"
        write(tmp_path / "images" / name, voxels, roi="tight")
        label = (voxels > 500).astype("u1")
        label[:8] = 0
        write(tmp_path / "labels" / name, label, roi="tight")
    return tmp_path


def images(study: Path) -> list[mroi.Volume]:
    return [mroi.open(path) for path in sorted((study / "images").rglob("*.mroi"))]


@pytest.mark.parametrize("moved", [False, True])
def test_labels_that_lie_elsewhere_are_refused(tmp_path: Path, *, moved: bool) -> None:
    """Their arrays may have one shape: a label that is flipped would train on wrong voxels."""
    voxels = phantom((12, 10, 9), 1)
    affine = AFFINE.copy()
    if moved:
        affine[:, 0] *= -1
        affine[:, 3] -= 11 * affine[:, 0]
    write(tmp_path / "image.mroi", voxels)
    label = voxels[::-1] if moved else voxels
    write(tmp_path / "label.mroi", (label > 500).astype("u1"), affine=affine)
    pair = [tmp_path / "image.mroi"], [tmp_path / "label.mroi"]
    taken = PatchDataset(*pair, size=4, check_grid=False)[0]
    if not moved:
        assert_array_equal(taken["label"], taken["image"] > 500)
        return
    for dataset in (PatchDataset(*pair, size=4), SliceDataset(*pair)):
        with pytest.raises(UsageError, match=r"label.mroi lies up to \d+\.?\d* mm away from"):
            dataset[0]


# -- slices ----------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [None, "x", 1])
def test_slices_are_those_of_the_volumes_in_order(study: Path, axis: Any) -> None:
    dataset = SliceDataset(study / "images", study / "labels", axis=axis)
    number = {None: 2, "x": 0, 1: 1}[axis]
    expected = [(volume, k) for volume in images(study) for k in range(volume.shape[number])]
    assert len(dataset) == len(expected)
    for item, (volume, k) in zip(
        map(dataset.__getitem__, range(len(dataset))), expected, strict=True
    ):
        assert item["index"] == k
        assert item["image"].dtype == torch.float32
        assert item["label"].dtype == torch.int64
        assert_array_equal(item["image"].numpy(), volume.slice(k, number)[None])
        assert item["source"] == volume.reader.source.name
        first = [k if a == number else 0 for a in range(3)]
        assert item["start"].tolist() == first
        assert_allclose(item["affine"][:3, 3], (volume.affine @ (*first, 1))[:3])


def test_slices_of_the_roi_alone(study: Path) -> None:
    dataset = SliceDataset(study / "images", study / "labels", cropped=True, dtype=None)
    volumes = images(study)
    assert len(dataset) == sum(volume.roi.shape[2] for volume in volumes)
    item, volume = dataset[volumes[0].roi.shape[2] + 2], volumes[1]
    assert item["image"].dtype == torch.int16
    assert_array_equal(item["image"][0].numpy(), volume.cropped.slice(2))
    assert item["start"].tolist() == [*volume.roi.start[:2], volume.roi.start[2] + 2]
    label = mroi.open(study / "labels" / "sub-1" / "T1w.mroi")
    assert_array_equal(
        item["label"][0].numpy(), label[(*volume.roi.slices[:2], volume.roi.start[2] + 2)]
    )


def test_items_asked_for_together_are_those_asked_for_one_by_one(study: Path) -> None:
    dataset = SliceDataset(study / "images", order="zyx")
    wanted = [40, 3, 3, 55, 0, 7, -1]
    for one, item in zip(wanted, dataset.__getitems__(wanted), strict=True):
        alone = dataset[one]
        assert item.keys() == alone.keys()
        for name in ("image", "affine", "start"):
            assert torch.equal(item[name], alone[name])
    volume = images(study)[0]
    assert_array_equal(dataset[3]["image"][0].numpy(), volume.slice(3).T)


def test_a_slab_is_decoded_once_for_a_batch(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = count_decoded(monkeypatch)
    dataset = SliceDataset(
        write(study / "one.mroi", phantom((20, 20, 32), 9), chunk=8, codec="calv")
    )
    dataset.__getitems__(list(range(8)))
    assert decoded == [0]


def count_decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    from mroi.volume.chunks import ChunkDecoder

    decoded: list[int] = []
    decode = ChunkDecoder.decode

    def counted(self: Any, chunk: Any, *args: Any, **options: Any) -> Any:
        decoded.append(chunk.ordinal)
        return decode(self, chunk, *args, **options)

    monkeypatch.setattr(ChunkDecoder, "decode", counted)
    return decoded


# -- patches ---------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    size=st.tuples(*[st.integers(1, 40)] * 3),
    order=st.sampled_from(["xyz", "zyx"]),
    cropped=st.booleans(),
    foreground=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 9),
)
def test_patches_are_boxes_of_the_volumes(
    tmp_path_factory: pytest.TempPathFactory,
    size: tuple[int, int, int], order: Any, cropped: bool, foreground: float, seed: int,  # noqa: FBT001
) -> None:  # fmt: skip
    path = tmp_path_factory.getbasetemp() / "patches.mroi"
    if not path.exists():
        write(path, phantom((23, 20, 18), 1), roi="tight")
    dataset = PatchDataset(
        path, size=size, per_volume=3, seed=seed, order=order, cropped=cropped, pad=-5,
        foreground=foreground,
    )  # fmt: skip
    volume = mroi.open(path)
    bounds = volume.roi if cropped else mroi.Box((0, 0, 0), volume.shape)
    for item in map(dataset.__getitem__, range(3)):
        start = item["start"].tolist()
        image = item["image"][0].numpy()
        image = image if order == "xyz" else image.T
        assert image.shape == size
        outside = np.full(volume.shape, -5, "f4")
        outside[bounds.slices] = volume[bounds.slices]
        whole = np.pad(outside, 64, constant_values=-5)
        box = tuple(slice(64 + a, 64 + a + n) for a, n in zip(start, size, strict=True))
        assert_array_equal(image, whole[box])
        assert_allclose(item["affine"], volume.affine @ shift(start))
        for low, high, a, n in zip(bounds.start, bounds.stop, start, size, strict=True):
            inside = low <= a <= high - n
            assert inside if high - low >= n else a <= low <= high <= a + n


def shift(start: list[int]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = start
    return matrix


def test_every_place_is_reached_and_none_beyond(tmp_path: Path) -> None:
    write(tmp_path / "a.mroi", phantom((14, 12, 12), 0))
    dataset = PatchDataset(tmp_path, size=(11, 12, 9), per_volume=200)
    starts = {tuple(dataset[k]["start"].tolist()) for k in range(len(dataset))}
    assert starts == {(x, 0, z) for x in range(4) for z in range(4)}


def test_foreground_is_the_roi_of_the_label(study: Path) -> None:
    dataset = PatchDataset(study / "images", study / "labels", size=1, per_volume=50, foreground=1)
    boxes = [mroi.open(study / "labels" / f"sub-{k}" / "T1w.mroi").roi for k in range(3)]
    for index in range(len(dataset)):
        start = tuple(dataset[index]["start"].tolist())
        assert boxes[index // 50].contains(mroi.Box(start, tuple(a + 1 for a in start)))
    anywhere = PatchDataset(study / "images", study / "labels", size=1, per_volume=50)
    starts = [anywhere[k]["start"].tolist() for k in range(50)]
    assert any(not boxes[0].contains(mroi.Box(tuple(a), tuple(n + 1 for n in a))) for a in starts)


def test_image_and_label_are_of_the_same_place(study: Path) -> None:
    dataset = PatchDataset(study / "images", study / "labels", size=12, per_volume=4)
    for item in map(dataset.__getitem__, range(12)):
        expected = item["image"] > 500
        beyond = max(0, 8 - int(item["start"][0]))  # the phantom's label has nothing there
        expected[:, :beyond] = False
        assert torch.equal(item["label"].bool(), expected)


# -- files -----------------------------------------------------------------------------------


def test_files_are_a_folder_a_pattern_a_list_or_one(study: Path) -> None:
    folder = SliceDataset(study / "images").files
    assert folder == [str(study / "images" / f"sub-{k}" / "T1w.mroi") for k in range(3)]
    assert SliceDataset(str(study / "images" / "sub-[01]" / "*.mroi")).files == folder[:2]
    assert SliceDataset(str(study / "**" / "T1w.mroi")).files[:3] == folder
    assert SliceDataset([folder[2], Path(folder[0])]).files == [folder[2], folder[0]]
    assert SliceDataset(folder[1]).files == folder[1:2]


def test_files_that_are_no_pairs_are_refused(study: Path) -> None:
    with pytest.raises(UsageError, match="3 images, but 1 labels"):
        SliceDataset(study / "images", study / "labels" / "sub-0")
    (study / "labels" / "sub-2" / "T1w.mroi").rename(study / "labels" / "sub-2" / "other.mroi")
    with pytest.raises(UsageError, match="are no pair"):
        SliceDataset(study / "images", study / "labels")
    by_order = sorted((study / "labels").rglob("*.mroi"))
    assert len(SliceDataset(study / "images", by_order)) == 60
    with pytest.raises(UsageError, match=r"has 16 x 25 x 12 voxels; .* has 23 x 20 x 18"):
        PatchDataset(study / "images", [by_order[k] for k in (1, 0, 2)], size=4)[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size 0"),
        ({"size": (4, 4)}, "expected one whole number or three"),
        ({"size": 2.5}, "size 2.5: expected one whole number or three"),
        ({"size": (4, 4, 1.5)}, "expected one whole number or three"),
        ({"size": 4, "dtype": torch.uint8, "pad": -1}, "pad -1 is no value of torch.uint8"),
        ({"size": 4, "dtype": torch.int16, "pad": 0.5}, "a whole number from -32768 to 32767"),
        ({"size": 4, "per_volume": 0}, "per_volume=0"),
        ({"size": 4, "seed": -1}, "seed=-1"),
        ({"size": 4, "foreground": 1.5}, r"foreground=1\.5"),
        ({"size": 4, "order": "yxz"}, "order 'yxz'"),
        ({"size": 4, "open_files": 0}, "0 open files"),
    ],
)
def test_options_out_of_range_are_refused(study: Path, options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PatchDataset(study / "images", **options)


def test_the_type_of_the_first_volume_says_what_images_are_padded_with(tmp_path: Path) -> None:
    write(tmp_path / "a.mroi", np.ones((3, 3, 3), "u1"))
    with pytest.raises(UsageError, match=r"pad -1024 is no value of torch\.uint8: .*float32"):
        PatchDataset(tmp_path / "a.mroi", size=4, dtype=None, pad=-1024)
    item = PatchDataset(tmp_path / "a.mroi", size=4, dtype=None, pad=7)[0]
    assert sorted(item["image"].unique().tolist()) == [1, 7]


def test_items_are_numbers(study: Path) -> None:
    for dataset in (PatchDataset(study / "images", size=4), SliceDataset(study / "images")):
        for index in (slice(2), [0, 1], 1.0):
            with pytest.raises(IndexError, match=r"is not supported: .* a Subset takes several"):
                dataset[index]
        with pytest.raises(IndexError, match="item 900 is out of range"):
            dataset[900]


def test_nothing_and_damage_are_told_apart(study: Path) -> None:
    (study / "empty").mkdir()
    for nothing in (study / "empty", [], str(study / "*.none")):
        with pytest.raises(UsageError, match=r"expected files|no \.mroi files"):
            SliceDataset(nothing)
    with pytest.raises(FileNotFoundError):
        SliceDataset(study / "no.mroi")
    with pytest.raises(FileNotFoundError):
        PatchDataset(study / "no.mroi", size=3)
    (study / "cut.mroi").write_bytes((study / "images/sub-0/T1w.mroi").read_bytes()[:400])
    with pytest.raises(FormatError):
        SliceDataset(study / "cut.mroi")


# -- kinds of volumes ------------------------------------------------------------------------


def test_channels_are_volumes_samples_or_files(tmp_path: Path) -> None:
    series = np.random.default_rng(0).integers(0, 99, (9, 8, 7, 3)).astype("i2")
    write(tmp_path / "series.mroi", series, chunk=(4, 4, 4, 2))
    item = PatchDataset(tmp_path / "series.mroi", size=(5, 8, 4))[0]
    x, y, z = item["start"].tolist()
    expected = series[x : x + 5, y : y + 8, z : z + 4]
    assert_array_equal(item["image"].numpy(), np.moveaxis(expected, 3, 0))
    assert SliceDataset(tmp_path / "series.mroi")[2]["image"].shape == (3, 9, 8)

    colour = np.zeros((6, 5, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for k, name in enumerate("RGB"):
        colour[name] = np.random.default_rng(k).integers(0, 255, colour.shape)
    write(tmp_path / "colour.mroi", colour, chunk=2)
    item = SliceDataset(tmp_path / "colour.mroi", dtype=None)[1]
    assert item["image"].dtype == torch.uint8
    assert_array_equal(item["image"].numpy(), [colour[name][:, :, 1] for name in "RGB"])

    names = [write(tmp_path / f"{k}.mroi", series[..., k]) for k in range(3)]
    item = SliceDataset([tuple(names)])[4]
    assert_array_equal(item["image"].numpy(), np.moveaxis(series[:, :, 4], 2, 0))


@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", ">i2"]
)
def test_types_and_scaling(tmp_path: Path, dtype: str) -> None:
    voxels = np.random.default_rng(0).integers(0, 99, (6, 5, 4)).astype(dtype)
    write(tmp_path / "a.mroi", voxels)
    assert_array_equal(SliceDataset(tmp_path)[2]["image"][0].numpy(), voxels[:, :, 2].astype("f4"))
    kept = SliceDataset(tmp_path, dtype=None)[2]["image"].numpy()
    assert kept.dtype == np.dtype(dtype).newbyteorder("=")
    write(tmp_path / "a.mroi", voxels, slope=0.5, inter=3.0, overwrite=True)
    assert_array_equal(SliceDataset(tmp_path)[2]["image"][0].numpy(), voxels[:, :, 2] * 0.5 + 3)


def test_volumes_that_are_no_tensors_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.mroi", np.ones((4, 4, 4), "c8"), chunk=2)
    with pytest.raises(UsageError, match="complex64 are no tensors"):
        SliceDataset(tmp_path)[0]
    write(tmp_path / "a.mroi", np.ones((4, 4, 4, 2, 2), "i2"), chunk=2, overwrite=True)
    with pytest.raises(UsageError, match="5 axes"):
        SliceDataset(tmp_path)[0]
    write(tmp_path / "a.mroi", np.arange(20, dtype="i2").reshape(5, 4), chunk=1, overwrite=True)
    assert SliceDataset(tmp_path)[0]["image"].shape == (1, 5, 4)
    assert PatchDataset(tmp_path, size=3)[0]["image"].shape == (1, 3, 3, 3)


def test_a_transform_makes_of_an_item_what_it_likes(study: Path) -> None:
    dataset = SliceDataset(study / "images", transform=lambda item: item["image"].mean())
    assert dataset[9] == torch.as_tensor(images(study)[0].slice(9)).float().mean()


# -- loaders ---------------------------------------------------------------------------------


def starts_of(loader: DataLoader[Any]) -> list[tuple[str, list[int], float]]:
    return [
        (source, start.tolist(), float(image.sum()))
        for batch in loader
        for source, start, image in zip(
            batch["source"], batch["start"], batch["image"], strict=True
        )
    ]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_patches_are_the_same_with_any_number_of_workers(study: Path, method: str) -> None:
    if method not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    dataset = PatchDataset(study / "images", size=8, per_volume=4, seed=3)
    alone = starts_of(DataLoader(dataset, batch_size=3))
    assert len({str(found) for found in alone}) == 12
    loader = DataLoader(
        dataset, batch_size=3, num_workers=2, multiprocessing_context=method,
        persistent_workers=True,
    )  # fmt: skip
    assert starts_of(loader) == alone
    dataset.set_epoch(1)
    second = starts_of(loader)
    assert second != alone
    assert starts_of(DataLoader(dataset, batch_size=5)) == second
    dataset.set_epoch(0)
    assert starts_of(loader) == alone


def test_a_fork_opens_files_of_its_own(study: Path) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    dataset = PatchDataset(study / "images", size=8, memory=0)
    expected = [float(dataset[k]["image"].sum()) for k in range(3)]
    volumes = dataset._reader._volumes
    before = volumes.open(dataset.files[0]).reader

    class Peek(Dataset[Any]):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Any:
            item = dataset[index]
            mine = volumes.open(dataset.files[0]).reader
            return float(item["image"].sum()), mine is before

    found = list(DataLoader(Peek(), batch_size=None, num_workers=2, multiprocessing_context="fork"))
    assert found == [[value, False] for value in expected]
    assert volumes.open(dataset.files[0]).reader is before


def test_few_files_are_open_at_a_time_and_none_is_pickled(study: Path) -> None:
    dataset = PatchDataset(study / "images", study / "labels", size=4, open_files=2)
    for k in (0, 1, 2, 0):
        dataset[k]
    opened = dataset._reader._volumes._volumes
    assert sorted(Path(path).parts[-3:-1] for path in opened) == [
        ("images", "sub-0"),
        ("labels", "sub-0"),
    ]
    copy = pickle.loads(pickle.dumps(dataset))
    assert not copy._reader._volumes._volumes
    assert torch.equal(copy[1]["image"], dataset[1]["image"])
    readers = [volume.reader for volume in opened.values()]
    dataset.close()
    assert not dataset._reader._volumes._volumes
    assert all(reader.source._file is None for reader in readers)
    assert torch.equal(copy[2]["image"], dataset[2]["image"])


def test_decoded_chunks_are_kept_for_all_files_within_one_bound(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = count_decoded(monkeypatch)
    dataset = PatchDataset(study / "images", size=12, memory=10_000)
    cache = dataset._reader._volumes._cache
    for k in range(3):
        dataset[k]
        assert 0 < cache._used <= 10_000
    count = len(decoded)
    dataset[2]
    assert len(decoded) < 2 * count
    assert sum(chunk.nbytes for chunk in cache._chunks.values()) == cache._used


# -- batches ---------------------------------------------------------------------------------


@settings(max_examples=50)
@given(
    per_volume=st.integers(1, 7), batch=st.integers(1, 9), files=st.integers(1, 4),
    shuffle=st.booleans(), drop=st.booleans(), count=st.integers(1, 3), epoch=st.integers(0, 3),
)  # fmt: skip
def test_batches_have_every_item_once_and_few_files(
    per_volume: int, batch: int, files: int, count: int, epoch: int,
    shuffle: bool, drop: bool,  # noqa: FBT001
) -> None:  # fmt: skip
    dataset = PatchDataset([f"{k}.mroi" for k in range(5)], size=4, per_volume=per_volume)
    shards = [
        FileBatchSampler(
            dataset, batch, files=files, shuffle=shuffle, drop_last=drop, shard=(rank, count)
        )
        for rank in range(count)
    ]
    shards[0].set_epoch(epoch)
    assert len({len(list(shard)) for shard in shards}) == 1
    whole = FileBatchSampler(dataset, batch, files=files, shuffle=shuffle, drop_last=drop)
    batches = list(whole)
    assert len(whole) == len(batches)
    parts = [list(shard) for shard in shards]
    together = [found for row in zip(*parts, strict=True) for found in row]
    assert together == batches[: len(batches) - len(batches) % count]
    items = [item for found in batches for item in found]
    assert len(items) == len(set(items))
    if drop:
        assert {len(found) for found in batches} <= {batch}
    else:
        assert sorted(items) == list(range(len(dataset)))
    assert all(len({item // per_volume for item in found}) <= files for found in batches)
    if not shuffle and files == 1:
        assert items == sorted(items)


def test_batches_differ_from_epoch_to_epoch_and_come_back(study: Path) -> None:
    dataset = SliceDataset(study / "images")
    sampler = FileBatchSampler(dataset, 4, seed=5)
    first = list(sampler)
    sampler.set_epoch(1)
    assert dataset.epoch == 1
    assert list(sampler) != first
    sampler.set_epoch(0)
    assert (
        list(sampler) == first == list(FileBatchSampler(SliceDataset(study / "images"), 4, seed=5))
    )


def test_slices_of_a_slab_stay_together(study: Path) -> None:
    """The ROI of the first file begins at slice 2 and ends at 13; slabs have 4 slices."""
    dataset = SliceDataset(study / "images")
    cuts = (0, 2, 6, 10, 18)
    assert dataset.groups()[0] == [range(a, b) for a, b in pairwise(cuts)]
    batches = list(FileBatchSampler(dataset, 4))
    seen = [item for batch in batches for item in batch if item < 18]
    slabs = [bisect_right(cuts, item) for item in seen]
    assert sum(a != b for a, b in pairwise(slabs)) == 3
    assert sorted(seen) == list(range(18))


def test_a_sampler_out_of_range_is_refused(study: Path) -> None:
    dataset = SliceDataset(study / "images")
    for options in (
        {"batch_size": 0},
        {"batch_size": 1, "files": 0},
        {"batch_size": 1, "shard": (1, 1)},
    ):
        with pytest.raises(UsageError, match="expected at least 1"):
            FileBatchSampler(dataset, **options)


def test_a_loader_takes_batches_of_it(study: Path) -> None:
    dataset = PatchDataset(study / "images", study / "labels", size=8, per_volume=4)
    loader = DataLoader(dataset, batch_sampler=FileBatchSampler(dataset, 2))
    batches = list(loader)
    assert [len(set(batch["source"])) for batch in batches] == [1] * 6
    assert batches[0]["image"].shape == batches[0]["label"].shape == (2, 1, 8, 8, 8)
    assert batches[0]["affine"].shape == (2, 4, 4)
