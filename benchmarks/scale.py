"""What a file of many costs, and what a second process brings.

    python benchmarks/scale.py [--files 100 1000 10000] [--large 8] [--rounds 3]

Packs folders of small NIfTI images (16 x 16 x 8 voxels) and one of larger ones (192 x 192 x 128)
by the command line, with one process and with two, in turn. Of each it says the median: seconds;
milliseconds a file, on the clock, of all processors, and of the process that the user started; how
many times as long one process takes as two; and the largest memory of the first. Time of processors
says what a file costs also where others use the machine. The codec is zstd: nothing is compiled.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

SMALL, LARGE = (16, 16, 8), (192, 192, 128)
RUN = """
import resource
from mroi.cli import main
try:
    main()
finally:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--large", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print("                                 ms a file: CPU, of which")
    print("files        processes  seconds   clock      of all the first  one : two   MB")
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


@dataclass(frozen=True)
class Cost:
    """What packing a folder took: seconds, those of processors, and memory.

    Attributes
    ----------
    seconds : float
        On the clock.
    cpu : float
        Of all processors, in all processes.
    first : float
        Of the process that the user started.
    memory : int
        Its largest, in kilobytes.
    """

    seconds: float
    cpu: float
    first: float
    memory: int


def measure(name: str, folder: Path, rounds: int) -> None:
    """Pack a folder several times, with one process and with two in turn, and print medians."""
    count = len(list(folder.iterdir()))
    costs: dict[int, list[Cost]] = {1: [], 2: []}
    for _ in range(rounds):
        for processes, found in costs.items():
            found.append(pack(folder, processes))
    alone = statistics.median(cost.seconds for cost in costs[1])
    for processes, found in costs.items():
        seconds = statistics.median(cost.seconds for cost in found)
        cpu = statistics.median(cost.cpu for cost in found)
        first = statistics.median(cost.first for cost in found)
        ratio = f"{alone / seconds:.2f}" if processes == 2 else ""
        print(
            f"{name:<12} {processes:>9} {seconds:8.2f} {1000 * seconds / count:9.2f} "
            f"{1000 * cpu / count:10.2f} {1000 * first / count:9.2f} {ratio:>9} "
            f"{max(cost.memory for cost in found) / 1000:8.0f}",
            flush=True,
        )


def pack(folder: Path, processes: int) -> Cost:
    """Pack a folder, and return what it took."""
    output = folder.parent / "out"
    command: Sequence[str] = [
        sys.executable, "-c", RUN, "pack", str(folder), "-o", f"{output}/", "-q",
        "-j", str(processes), "--codec", "zstd",
    ]  # fmt: skip
    start, before = time.perf_counter(), cpu_of_children()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds, cpu = time.perf_counter() - start, cpu_of_children() - before
    shutil.rmtree(output)
    first, memory = done.stdout.split()[-2:]
    return Cost(seconds, cpu, float(first), int(memory))


def cpu_of_children() -> float:
    """Return the seconds of processors that processes took which this one started."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
