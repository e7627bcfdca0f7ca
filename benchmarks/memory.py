"""Peak memory of packing, unpacking, verifying and streaming a large volume.

    python benchmarks/memory.py [--gigabytes 2] [--codec zstd]

A phantom of the given size is written as .nii and .nii.gz to a temporary folder; every job runs in
a process of its own, whose peak resident size is what the operating system reports at its end.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np

CHILD = """
import resource, sys
import mroi
{code}
unit = 1 << 20 if sys.platform == "darwin" else 1024
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit)
"""


def run(code: str, stdin: object = None) -> tuple[int, float]:
    """Run `code` in a new process; return its peak memory in MB, and its time in seconds."""
    start = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-c", CHILD.format(code=code)],
        stdin=stdin,
        stdout=subprocess.PIPE,
        check=True,
    )
    return int(result.stdout.split()[-1]), time.perf_counter() - start


def write_phantom(path: Path, gigabytes: float) -> None:
    """Write a head-like int16 volume of noise in a ball, slice by slice."""
    rng = np.random.default_rng(1)
    width = 512
    depth = int(gigabytes * 2**30 / (2 * width * width))
    header = nib.Nifti1Header()
    header.set_data_dtype("<i2")
    header.set_data_shape((width, width, depth))
    header["vox_offset"] = 352
    y, x = np.mgrid[-1 : 1 : width * 1j, -1 : 1 : width * 1j]
    with path.open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        for z in np.linspace(-0.9, 0.9, depth):
            noise = rng.normal(600, 20, (width, width))  # afresh: no slice is that of another
            plane = np.where(x * x + y * y + z * z < 0.8, noise, 0)
            file.write(plane.astype("<i2").tobytes())


def main() -> None:
    """Print one line for each job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--codec", default="zstd")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain, zipped = folder / "x.nii", folder / "x.nii.gz"
        write_phantom(plain, options.gigabytes)
        with plain.open("rb") as source, gzip.open(zipped, "wb", compresslevel=1) as target:
            shutil.copyfileobj(source, target, 1 << 20)
        packed = folder / "x.mroi"
        codec = f"codec={options.codec!r}"
        stream = "import sys\nfor s in mroi.stream(sys.stdin.buffer): s.array"
        jobs = {
            "import mroi, numpy, nibabel": "import numpy, nibabel, mroi.adapters.convert",
            "pack .nii": f"mroi.pack({str(plain)!r}, {str(packed)!r}, {codec}, overwrite=True)",
            "pack .nii.gz": f"mroi.pack({str(zipped)!r}, {str(packed)!r}, {codec}, overwrite=True)",
            "verify": f"assert mroi.verify({str(packed)!r}).ok",
            "unpack .nii": f"mroi.unpack({str(packed)!r}, {str(folder / 'y.nii')!r})",
        }
        sizes = [path.stat().st_size / 2**20 for path in (plain, zipped)]
        print(f"volume {sizes[0]:.0f} MiB, as .nii.gz {sizes[1]:.0f} MiB")
        for job, code in jobs.items():
            memory, seconds = run(code)
            print(f"{job:30} {memory:6} MB  {seconds:7.1f} s", flush=True)
        with packed.open("rb") as file:
            memory, seconds = run(stream, stdin=file)
        print(f"{'stream through a pipe':30} {memory:6} MB  {seconds:7.1f} s")


if __name__ == "__main__":
    main()
