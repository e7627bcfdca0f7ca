"""Patches and planes: the presets of `mroi pack --for`, side by side with b2nd.

    python benchmarks/reads.py FILE... [--patches 40]

Needs blosc2 (`python tools/dev.py bench` installs it). b2nd as nnU-Net writes it: zstd 5,
bitshuffle, blocks of 32^3. For each file: bits a voxel; milliseconds for a patch of 64^3 at random
places with the file open and nothing in its cache; for the middle plane of each axis with opening;
and the ratio to b2nd.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blosc2
import nibabel as nib
import numpy as np

import mroi

_SIDE = 64
PRESETS = {
    "patches zstd": {"purpose": "patches", "codec": "auto:fastest"},
    "patches calv": {"purpose": "patches", "codec": "calv"},
    "planes": {"purpose": "planes"},
    "slices": {},
}


def write_b2nd(array: np.ndarray[Any, Any], path: Path) -> None:
    """Write an array in blocks of 32^3."""
    parameters = {
        "codec": blosc2.Codec.ZSTD,
        "clevel": 5,
        "filters": [blosc2.Filter.BITSHUFFLE],
        "nthreads": 2,
    }
    chunks = tuple(min(n, 192) for n in array.shape)
    blosc2.asarray(
        array, chunks=chunks, blocks=(32, 32, 32), urlpath=str(path), mode="w", cparams=parameters
    )


def seconds(work: Callable[[], object]) -> float:
    """Return how long some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Print a table for each file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--patches", type=int, default=40)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for path in options.files:
            compare(path, Path(name), options.patches)


def compare(path: Path, folder: Path, count: int) -> None:
    """Write a volume in all forms, read from each in turn, and print what it took."""
    array = np.ascontiguousarray(np.asanyarray(nib.load(path).dataobj.get_unscaled()))
    files = {"b2nd": folder / "x.b2nd"} | {key: folder / f"{key}.mroi" for key in PRESETS}
    write_b2nd(array, files["b2nd"])
    for key, options in PRESETS.items():
        mroi.pack(path, files[key], overwrite=True, overview=0, roi="full", **options)

    def opened(key: str) -> Any:
        if key == "b2nd":
            return blosc2.open(str(files[key]), mode="r", dparams={"nthreads": 2})
        return mroi.open(files[key]).unscaled

    rng = np.random.default_rng(1)
    sides = [min(_SIDE, n) for n in array.shape]
    patches: dict[str, list[float]] = {key: [] for key in files}
    for _ in range(count):
        starts = [int(rng.integers(0, n - s + 1)) for n, s in zip(array.shape, sides, strict=True)]
        box = tuple(slice(a, a + s) for a, s in zip(starts, sides, strict=True))
        for key in files:
            volume = opened(key)
            start = time.perf_counter()
            found = volume[box]
            patches[key].append(1000 * (time.perf_counter() - start))
            assert np.array_equal(found, array[box]), key
    planes: dict[str, list[float]] = {key: [] for key in files}
    for axis in range(3):
        index = tuple(n // 2 if a == axis else slice(None) for a, n in enumerate(array.shape))
        for key in files:
            times = [1000 * seconds(lambda k=key, at=index: opened(k)[at]) for _ in range(5)]
            planes[key].append(statistics.median(times))
    print(f"{path.name}, {' x '.join(map(str, array.shape))} {array.dtype}")
    base_bits, base_time = files["b2nd"].stat().st_size, statistics.median(patches["b2nd"])
    for key, file in files.items():
        size, time_ = file.stat().st_size, statistics.median(patches[key])
        across = " ".join(f"{t:7.2f}" for t in planes[key])
        print(
            f"  {key:13} {8 * size / array.size:6.3f} bits ({size / base_bits:.3f})  "
            f"patch {time_:6.2f} ms ({time_ / base_time:.2f})  planes x y z {across} ms"
        )


if __name__ == "__main__":
    main()
