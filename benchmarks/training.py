"""Patches a second in a training loop, and the bytes they are read from: mroi and what others keep.

    python benchmarks/training.py FOLDER [--names t1w_7t,breast_mr] [--sizes 64,128] [--workers 2]

Needs torch and blosc2. FOLDER has NIfTI images of integers. For each: a `DataLoader` reads patches
of each size at the same random places, four of a file one after the other, as float32. The forms:

b2nd
    as nnU-Net 2.8 writes it: LZ4HC level 5, shuffled where that is smaller, blocks of at most
    128 KiB and chunks of at most 6 MiB that fit the patch, one thread, mapped into memory.
    ``b2nd float``: float32, normalised, which is what nnU-Net keeps; ``b2nd``: the same integers.
npy
    the integers, mapped into memory.
nii.gz
    the whole volume is loaded for each patch.
mroi
    the preset ``patches``, and others.

All are read in turn, round by round; figures are ratios to ``b2nd`` in the same round, medians and
ranges: of patches a second, and of patches a second of CPU time, which other programs on the same
machine hardly change.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import blosc2
import nibabel as nib
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import mroi
from mroi.torch import PatchDataset

PRESETS: dict[str, dict[str, Any]] = {
    "mroi": {"purpose": "patches"},
    "mroi fastest": {"purpose": "patches", "codec": "auto:fastest"},
    "mroi 32": {"codec": "auto:fastest", "chunk": (32, 32, 32)},
    "mroi slices": {},
}
_BLOCK, _CHUNK = 128 << 10, 6 << 20
_PER_FILE = 4


class Others(Dataset[torch.Tensor]):
    """Patches of files in another form, at the places where `PatchDataset` has its own."""

    def __init__(self, files: Sequence[Path], size: Sequence[int], form: str) -> None:
        self.files = files
        self.size = size
        self.form = form

    def __len__(self) -> int:
        return len(self.files) * _PER_FILE

    def __getitem__(self, index: int) -> torch.Tensor:
        volume = self._open(self.files[index // _PER_FILE])
        random = np.random.default_rng([0, 0, index])
        random.random()
        starts = [
            int(random.integers(0, n - side + 1))
            for n, side in zip(volume.shape[::-1], self.size, strict=False)
        ][::-1]
        box = tuple(slice(a, a + n) for a, n in zip(starts, self.size[::-1], strict=True))
        return torch.from_numpy(np.ascontiguousarray(volume[box])).float()[None]

    def _open(self, path: Path) -> Any:
        if self.form == "npy":
            return np.load(path, mmap_mode="r")
        if self.form == "nii.gz":
            return np.asanyarray(nib.load(path).dataobj).T
        return blosc2.open(str(path), mode="r", dparams={"nthreads": 1}, mmap_mode="r")


def blocks_and_chunks(
    shape: Sequence[int], size: Sequence[int], itemsize: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the blocks and chunks of nnU-Net (``comp_blosc2_params``, 2.8.1) for a patch."""
    target = [min(n, int(1.5 * side)) for n, side in zip(shape, size, strict=True)]
    block = [min(1 << (side - 1).bit_length(), n) for side, n in zip(size, shape, strict=True)]
    while math.prod(block) * itemsize > _BLOCK:
        axis = max((a for a in range(3) if block[a] > 1), key=lambda a: (block[a] / target[a], a))
        block[axis] = max(1, 1 << ((block[axis] - 1).bit_length() - 1))
    chunk = list(block)
    while True:
        grown = []
        for axis in range(3):
            longer = min(chunk[axis] + block[axis], target[axis])
            candidate = [longer if a == axis else n for a, n in enumerate(chunk)]
            if longer > chunk[axis] and math.prod(candidate) * itemsize <= _CHUNK:
                grown.append((chunk[axis] / target[axis], -shape[axis], axis, candidate))
        if not grown:
            return tuple(block), tuple(chunk)
        chunk = min(grown)[3]


def write_b2nd(array: np.ndarray[Any, Any], path: Path, size: Sequence[int]) -> None:
    """Write an array, z first, as nnU-Net does; the smaller one of two filters."""
    blocks, chunks = blocks_and_chunks(array.shape, size[::-1], array.itemsize)

    def encode(filter_: blosc2.Filter, **options: Any) -> Any:
        parameters = {
            "codec": blosc2.Codec.LZ4HC,
            "clevel": 5,
            "filters": [filter_],
            "nthreads": 2,
        }
        return blosc2.asarray(
            array, chunks=chunks, blocks=blocks, cparams=parameters, **options
        ).schunk.cbytes

    filters = (blosc2.Filter.NOFILTER, blosc2.Filter.SHUFFLE)
    encode(min(filters, key=encode), urlpath=str(path), mode="w")


def write(source: Path, folder: Path, size: Sequence[int]) -> dict[str, Path]:
    """Write a volume in all forms."""
    array = np.ascontiguousarray(np.asanyarray(nib.load(source).dataobj.get_unscaled()).T)
    normal = array.astype(np.float32)
    normal -= normal.mean()
    normal /= normal.std()
    files = {"b2nd": folder / "a.b2nd", "b2nd float": folder / "float.b2nd"}
    write_b2nd(array, files["b2nd"], size)
    write_b2nd(normal, files["b2nd float"], size)
    files["npy"] = folder / "a.npy"
    np.save(files["npy"], array)
    files["nii.gz"] = folder / "a.nii.gz"
    nib.save(nib.Nifti1Image(array.T, np.eye(4)), files["nii.gz"])
    for name, options in PRESETS.items():
        files[name] = folder / f"{name}.mroi"
        mroi.pack(array.T, files[name], affine=np.eye(4), overwrite=True, **options)
    return files


class Timed(Dataset[Any]):
    """Items of a dataset, each with the worker that read it and the CPU seconds it has taken."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        item = self.dataset[index]
        image = item["image"] if isinstance(item, dict) else item
        return image, os.getpid(), time.process_time()


def loader(
    form: str, path: Path, size: Sequence[int], copies: int, workers: int
) -> DataLoader[Any]:
    """Return what reads the patches of a form from copies of a file: each is opened for itself."""
    dataset: Dataset[Any]
    paths = [path.with_name(f"{number}-{path.name}") for number in range(copies)]
    for copy in paths:
        shutil.copyfile(path, copy)
    if form.startswith("mroi"):
        # One open file: as with many, nothing is left of one when its turn comes again.
        dataset = PatchDataset(paths, size=size, per_volume=_PER_FILE, order="zyx", open_files=1)
    else:
        dataset = Others(paths, size, form.partition(" ")[0])
    return DataLoader(
        Timed(dataset), batch_size=_PER_FILE, num_workers=workers, persistent_workers=workers > 0
    )


def rate(batches: DataLoader[Any], epochs: int) -> tuple[float, float, float]:
    """Return patches a second, patches a CPU second of all processes, and the sum of all voxels."""
    start, own = time.perf_counter(), time.process_time()
    workers: dict[int, list[float]] = {}
    count, total = 0, 0.0
    for _ in range(epochs):
        for images, processes, seconds in batches:
            count += len(images)
            total += float(images[:, :, ::16, ::16, ::16].double().sum())
            for process, taken in zip(processes.tolist(), seconds.tolist(), strict=True):
                workers.setdefault(process, []).append(taken)
    wall = time.perf_counter() - start
    # Of each worker, the time between its first item and its last is that of all but the first.
    cpu = sum((t[-1] - t[0]) * len(t) / (len(t) - 1) for t in workers.values())
    return count / wall, count / (cpu + time.process_time() - own), total


def compare(source: Path, folder: Path, side: int, options: argparse.Namespace) -> None:
    """Print what each form of a volume takes, and how fast it is read."""
    shape = nib.load(source).shape[:3]
    size = [min(side, n) for n in shape]
    files = write(source, folder, size)
    loaders = {
        form: loader(form, path, size, 1 if form == "nii.gz" else options.files, options.workers)
        for form, path in files.items()
    }
    rates: dict[str, list[tuple[float, float]]] = {form: [] for form in files}
    for turn in range(1 + options.rounds):
        sums = {}
        for form, batches in loaders.items():
            *found, sums[form] = rate(batches, 2 if form == "nii.gz" else options.epochs)
            if turn:  # the first one starts workers, and compiles
                rates[form].append((found[0], found[1]))
        exact = {sums[form] for form in files if form not in ("b2nd float", "nii.gz")}
        assert len(exact) == 1, "not all read the same voxels"
    print(f"{source.name}, patches of {' x '.join(map(str, size))}, {options.workers} workers")
    for form, path in files.items():
        ratios = [
            [a[kind] / b[kind] for a, b in zip(rates[form], rates["b2nd"], strict=True)]
            for kind in (0, 1)
        ]
        wall, cpu = (
            f"{statistics.median(kind):.2f} ({min(kind):.2f} to {max(kind):.2f})" for kind in ratios
        )
        bytes_ = path.stat().st_size / files["b2nd"].stat().st_size
        a_second = statistics.median(found for found, _ in rates[form])
        print(
            f"  {form:13} bytes {bytes_:.3f}  patches/s {wall}  per CPU second {cpu}  "
            f"[{a_second:.1f} patches/s]",
            flush=True,
        )


def main() -> None:
    """Print a table for each volume and size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--names", default="", help="files without .nii.gz; all by default")
    parser.add_argument("--sizes", default="64,128")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--files", type=int, default=8, help="how often each file is read")
    parser.add_argument("--epochs", type=int, default=2, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    wanted = [name for name in options.names.split(",") if name]
    sources = sorted(options.folder.glob("*.nii.gz"))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        for source in sources:
            if not wanted or source.name.removesuffix(".nii.gz") in wanted:
                for side in map(int, options.sizes.split(",")):
                    compare(source, Path(name), side, options)


if __name__ == "__main__":
    main()
