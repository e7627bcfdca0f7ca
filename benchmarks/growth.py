"""What a volume costs as it grows, as its chunks grow, and as cores are added.

    python benchmarks/growth.py [--gigabytes 0.1,0.5,1,2] [--codec zstd --codec calv] [--out FOLDER]

A phantom of each size (int16, 512 x 512 slices, noise in a ball) is packed and read; every step
runs in a process of its own, which says its own peak of memory. Chunks of more and more slices,
and more and more threads, are tried on the smallest. Writes ``growth.md`` into ``--out``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import mroi

if __name__ == "__main__":
    from memory import write_phantom

SLICES = (1, 4, 16, 64, 0)
_WARM = (48, 48, 16)


def milliseconds(work: Callable[[], object], runs: int = 5) -> float:
    """Return the median time of some work."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def peak() -> float:
    """Return the peak of memory of this process in MB."""
    import resource

    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text("ascii").splitlines() if "VmHWM" in line)
        return int(line.split()[1]) / 1000
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def pack(source: Path, target: Path, options: dict[str, Any]) -> dict[str, float]:
    """Pack, after a few voxels that compile the codec."""
    warm = np.random.default_rng(0).integers(0, 99, _WARM).astype("i2")
    mroi.pack(warm, target.with_suffix(".warm"), codec=options["codec"], overwrite=True)
    start = time.perf_counter()
    mroi.pack(source, target, overwrite=True, **options)
    return {"pack, s": time.perf_counter() - start, "pack, MB": peak()}


def read(_source: Path, target: Path, options: dict[str, Any]) -> dict[str, float]:
    """Open, read a slice of each axis and a patch, and go through all slices."""
    jobs = options.get("jobs")

    def part(*key: Any) -> Callable[[], object]:
        def work() -> object:
            with mroi.open(target, jobs=jobs) as volume:
                return volume.unscaled[key]

        return work

    def through() -> None:
        with mroi.open(target, jobs=jobs) as volume:
            for _plane in volume.planes():
                pass

    with mroi.open(target) as volume:
        x, y, z = (n // 2 for n in volume.shape)
    every = slice(None)
    box = (slice(x - 32, x + 32), slice(y - 32, y + 32), slice(max(z - 32, 0), z + 32))
    part(every, every, z)()
    found = {
        "open, ms": milliseconds(lambda: mroi.open(target).close()),
        "slice z, ms": milliseconds(part(every, every, z)),
        "patch, ms": milliseconds(part(*box)),
        "slice x, ms": milliseconds(part(x, every, every), 1),
    }
    start = time.perf_counter()
    through()
    return found | {"all, s": time.perf_counter() - start, "read, MB": peak()}


def in_child(step: str, source: Path, target: Path, options: dict[str, Any]) -> dict[str, float]:
    """Do a step in a new process."""
    order = json.dumps([step, str(source), str(target), options])
    done = subprocess.run(
        [sys.executable, __file__, "--child", order], stdout=subprocess.PIPE, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(source: Path, folder: Path, jobs: int | None = None, **options: Any) -> dict[str, Any]:
    """Return the figures of one volume with these options."""
    target = folder / "x.mroi"
    found = in_child("pack", source, target, options | ({"jobs": jobs} if jobs else {}))
    with mroi.open(target) as volume:
        chunks = volume.geom.grid.chunks
    bits = 8 * target.stat().st_size / (source.stat().st_size / 2)
    found = {"chunks": chunks, "bits a voxel": bits} | found
    found |= in_child("read", source, target, {"jobs": jobs} if jobs else {})
    target.unlink()
    return found


def table(first: str, rows: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Return rows as a Markdown table."""
    names = list(rows[0][1])
    lines = [f"| {first} | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
    for name, found in rows:
        cells = (f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" for value in found.values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", default="0.1,0.5,1,2")
    parser.add_argument("--codec", action="append")
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        step, source, target, wishes = json.loads(options.child)
        print(json.dumps({"pack": pack, "read": read}[step](Path(source), Path(target), wishes)))
        return
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    parts = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = [float(part) for part in options.gigabytes.split(",")]
        for codec in options.codec or ["zstd", "calv"]:
            by_size, by_chunk, by_core = [], [], []
            for size in sizes:
                source = folder / "x.nii"
                write_phantom(source, size)
                by_size.append((f"{size:g} GB", measure(source, folder, codec=codec)))
                if size == sizes[0]:
                    by_chunk = [(str(n or "all"), measure(source, folder, codec=codec, chunk=n))
                                for n in SLICES]  # fmt: skip
                    by_core = [(str(n), measure(source, folder, jobs=n, codec=codec))
                               for n in sorted({1, 2, cores})]  # fmt: skip
            parts += [f"`{codec}`, as the volume grows:", table("size", by_size),
                      f"as its chunks grow ({sizes[0]:g} GB):", table("slices", by_chunk),
                      f"as threads are added ({sizes[0]:g} GB, {cores} cores):",
                      table("threads", by_core)]  # fmt: skip
            print("\n\n".join(parts[-6:]), flush=True)
    (options.out / "growth.md").write_text("\n\n".join(parts) + "\n", "utf-8")


if __name__ == "__main__":
    main()
