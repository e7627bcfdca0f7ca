"""DICOM in, ours against dcm2niix: is the array equal, how far apart are the voxels, how long.

For every series and image of a folder: shape, whether all stored values are equal, the largest
distance between the world positions of a corner voxel (dcm2niix computes in single precision), the
time of both (wall clock, best of some runs; ours reads headers and pixels in one process, dcm2niix
also writes the file), and whether the files that are written back are those that were read.

    python benchmarks/dicom_vs_dcm2niix.py FOLDER
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom

from mroi.adapters.dicom import DicomSeries, read_series, to_dcm2niix_orientation, write_series

PROGRAM = shutil.which("dcm2niix", path=str(Path(sys.executable).parent)) or "dcm2niix"


def find_series(folder: Path) -> dict[str, list[Path]]:
    """Return the images of all series in a folder."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and pydicom.misc.is_dicom(path):
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
            if "Rows" in dataset:
                found.setdefault(str(dataset.SeriesInstanceUID), []).append(path)
    return found


def convert(folder: Path, out: Path) -> nib.Nifti1Image:
    """Run dcm2niix on a folder with one series."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    subprocess.run(
        [PROGRAM, "-z", "n", "-b", "n", "-f", "a", "-o", str(out), str(folder)],
        check=True,
        capture_output=True,
    )
    (path,) = out.glob("*.nii")
    return nib.load(path)


def read(paths: list[Path]) -> tuple[DicomSeries, np.ndarray]:
    """Read a series as an array of axes columns, rows, slices and volumes."""
    series = read_series(paths)
    voxels = np.empty((series.plane_count, *series.shape[1::-1]), series.dtype)
    for index, plane in series.planes():
        voxels[index] = plane
    return series, voxels.reshape(series.shape[::-1]).T


def best_of(runs: int, function, *args):
    """Return the least time of some runs, and the result."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        result = function(*args)
        times.append(time.perf_counter() - start)
    return min(times), result


def same_pixels(before: Path, after: Path) -> bool:
    """Whether two files have the same attributes and pixels."""
    a, b = pydicom.dcmread(before), pydicom.dcmread(after)
    equal = np.array_equal(a.pixel_array, b.pixel_array)
    del a.PixelData, b.PixelData
    return equal and a == b


def main() -> None:
    """Compare on every series of a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print(f"{'series':32} {'shape':>18} {'values':>9} {'apart, mm':>9} {'dcm2niix':>9} "
          f"{'mroi':>8} {'ratio':>6}  written back")  # fmt: skip
    for paths in find_series(options.folder).values():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch, "in")
            folder.mkdir()
            for path in paths:
                shutil.copy(path, folder)
            theirs, image = best_of(options.runs, convert, folder, Path(scratch, "out"))
            ours, (series, stored) = best_of(options.runs, read, paths)
            array, affine = to_dcm2niix_orientation(
                stored, series.affine, turned=series.turned_by_dcm2niix
            )
            expected = image.dataobj.get_unscaled()
            equal = array.shape == expected.shape and np.array_equal(array, expected)
            corners = np.array([[*c, 1] for c in product(*((0, n - 1) for n in array.shape[:3]))])
            apart = np.linalg.norm(corners @ (affine - image.affine).T, axis=1).max()
            back = Path(scratch, "back")
            written = write_series(back, list(series.heads()), series.planes())
            pairs = list(zip(series.instances, written, strict=True))
            if all(i.path.read_bytes() == w.read_bytes() for i, w in pairs):
                note = f"{len(pairs)} files bit for bit"
            elif all(same_pixels(i.path, w) for i, w in pairs):
                note = f"{len(pairs)} files, attributes and pixels"
            else:
                note = "DIFFERENT"
            name = paths[0].name if len(paths) == 1 else paths[0].parent.name
            print(f"{name:32} {'x'.join(map(str, series.shape)):>18} "
                  f"{'equal' if equal else 'DIFFERENT':>9} {apart:9.5f} {theirs:7.3f} s "
                  f"{ours:6.3f} s {theirs / ours:5.1f}x  {note}")  # fmt: skip


if __name__ == "__main__":
    main()
