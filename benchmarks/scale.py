"""What a file of many costs, and what a second process brings.

    python benchmarks/scale.py [--files 100 1000 10000] [--large 8] [--rounds 3]

Packs folders of small NIfTI images (16 x 16 x 8 voxels) and one of larger ones (192 x 192 x 128)
by the command line, with one process and with two, in turn. Of each it says the median: seconds,
milliseconds a file, how often one process takes as long as two, and the largest memory of the
process that the user started. The codec is zstd, so that nothing is compiled.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

SMALL, LARGE = (16, 16, 8), (192, 192, 128)
RUN = (
    "import resource, sys; from mroi.cli import main\n"
    "try:\n    main()\n"
    "finally:\n    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stdout)"
)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--large", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print("files            processes   seconds   ms a file   one : two   memory of the first")
    with tempfile.TemporaryDirectory() as folder:
        for count in args.files:
            measure(f"{count} small", make(Path(folder) / f"{count}", count, SMALL), args.rounds)
        large = make(Path(folder) / "large", args.large, LARGE)
        measure(f"{args.large} large", large, args.rounds)


def make(folder: Path, count: int, shape: tuple[int, int, int]) -> Path:
    """Save images that look a little like heads: smooth noise within zeros."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    inside = tuple(slice(n // 8, n - n // 8) for n in shape)
    image = np.zeros(shape, np.int16)
    image[inside] = rng.integers(0, 200, image[inside].shape).cumsum(axis=0) % 1500
    for number in range(count):
        image[shape[0] // 2, shape[1] // 2, 0] = number % 1000
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / f"{number:06}.nii")
    return folder


def measure(name: str, folder: Path, rounds: int) -> None:
    """Pack a folder several times, with one process and with two in turn, and print medians."""
    count = len(list(folder.iterdir()))
    times: dict[int, list[float]] = {1: [], 2: []}
    memory: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for processes, seconds in times.items():
            taken, size = pack(folder, processes)
            seconds.append(taken)
            memory[processes].append(size)
    middle = {processes: statistics.median(seconds) for processes, seconds in times.items()}
    for processes, seconds in middle.items():
        ratio = f"{middle[1] / seconds:9.2f}" if processes == 2 else " " * 9
        largest = max(memory[processes]) / 1000
        print(
            f"{name:<16} {processes:>9} {seconds:9.2f} {1000 * seconds / count:11.2f} "
            f"{ratio}   {largest:16.0f} MB",
            flush=True,
        )


def pack(folder: Path, processes: int) -> tuple[float, int]:
    """Return how many seconds packing takes, and kilobytes of the first process."""
    output = folder.parent / "out"
    command: Sequence[str] = [
        sys.executable, "-c", RUN, "pack", str(folder), "-o", f"{output}/", "-q",
        "-j", str(processes), "--codec", "zstd",
    ]  # fmt: skip
    start = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - start
    shutil.rmtree(output)
    return seconds, int(done.stdout.split()[-1])


if __name__ == "__main__":
    main()
