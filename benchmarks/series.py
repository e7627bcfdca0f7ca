"""Bytes and reads of series, with chunks of one volume and with chunks that span volumes.

    python benchmarks/series.py FILE...           # NIfTI images of four axes
    python benchmarks/series.py --cuts FILE...

For each file and level: bytes as `.nii.gz` here, packed with chunks of one volume each, and as
`mroi pack` does by itself; then milliseconds, with the file open, to read one volume, one slice of
it, and the series of one voxel, as ratios to nibabel's time for the same from the `.nii.gz`. With
`--cuts`: bytes of the payloads of calv for numbers of slices and of volumes in a chunk.
"""

from __future__ import annotations

import argparse
import sys
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
from timing import milliseconds, packed

import mroi
from mroi.adapters.convert import open_input
from mroi.codecs import ChunkSpec
from mroi.codecs.calv import Calv
from mroi.packing.write import plan_pack


def reads(shape: tuple[int, ...]) -> list[tuple[object, ...]]:
    """Return indices of one volume, one slice of it, the series of one voxel."""
    x, y, z, t = (n // 2 for n in shape[:4])
    every = slice(None)
    return [(every, every, every, t), (every, every, z, t), (x, y, z, every)]


def steps(count: int) -> list[int]:
    """Return numbers of slices or volumes to try, the last is all."""
    return sorted({min(n, count) for n in (1, 2, 4, 10, 32, 128)} | {count})


def cuts(path: Path) -> None:
    """Print what the chunks of each number of slices and of volumes take."""
    voxels = np.asanyarray(nib.load(path).dataobj.get_unscaled()).T
    voxels = voxels.astype(voxels.dtype.newbyteorder("<"))
    for level, slices in product(("fast", "small"), steps(voxels.shape[1])):
        sizes = []
        for volumes in steps(voxels.shape[0]):
            size = 0
            for t, z in product(*map(range, (0, 0), voxels.shape[:2], (volumes, slices))):
                part = voxels[t : t + volumes, z : z + slices]
                chunk = np.ascontiguousarray(part).reshape(-1, *part.shape[2:])
                spec = ChunkSpec(chunk.shape, chunk.dtype, 8 * chunk.itemsize, len(part))
                size += len(Calv(level).encode(chunk, spec))
            sizes.append(f"{volumes}: {size:,}")
        print(f"{path.name[:24]:24} {level:5} {slices:3} slices;", "  ".join(sizes), flush=True)


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--cuts", action="store_true", help="bytes by slices and volumes")
    args = parser.parse_args()
    if args.cuts:
        for path in args.files:
            cuts(path)
        return 0
    print("file, level: bytes .nii.gz, one volume a chunk, as packed (ratio); chunk; ms and ratio")
    for path in args.files:
        image = nib.load(path)
        if len(image.shape) != 4:
            continue
        for codec in ("auto:fast", "auto:small"):
            plan = plan_pack(open_input(path), codec=codec)
            x, y, z, _t = plan.geom.chunk_shape
            before = packed(path, codec=codec, chunk=(x, y, z, 1))
            after = packed(path, codec=codec)
            volume = mroi.open(after)
            shape = "x".join(map(str, volume.geom.chunk_shape))
            assert np.array_equal(volume.unscaled, np.asanyarray(image.dataobj.get_unscaled()))
            times = []
            for index in reads(image.shape):
                ours = milliseconds(lambda i=index, a=after: mroi.open(a)[i])
                theirs = milliseconds(lambda i=index, p=path: nib.load(p).dataobj[i])
                times.append(f"{ours:6.1f} ({ours / theirs:.2f})")
            sizes = f"{path.stat().st_size:>10,} {len(before):>10,} {len(after):>10,}"
            ratio = len(after) / len(before)
            print(
                f"{path.name[:24]:24} {codec:10} {sizes} ({ratio:.3f}) {shape:14} {' '.join(times)}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
