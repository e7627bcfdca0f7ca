"""Bytes and reads of series, with chunks of one volume and with chunks that span volumes.

    python benchmarks/series.py FILE...           # NIfTI images of four axes

For each file and level: bytes as `.nii.gz` here, packed with chunks of one volume each, and as
`mroi pack` does by itself; then milliseconds, with the file open, to read one volume, one slice of
it, and the series of one voxel, as ratios to nibabel's time for the same from the `.nii.gz`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from timing import milliseconds, packed

import mroi
from mroi.adapters.convert import open_input
from mroi.volume.pack import plan_pack


def reads(shape: tuple[int, ...]) -> list[tuple[object, ...]]:
    """Return indices of one volume, one slice of it, the series of one voxel."""
    x, y, z, t = (n // 2 for n in shape[:4])
    every = slice(None)
    return [(every, every, every, t), (every, every, z, t), (x, y, z, every)]


def main() -> int:
    """Print a table."""
    print("file, level: bytes .nii.gz, one volume a chunk, as packed (ratio); chunk; ms and ratio")
    for path in map(Path, sys.argv[1:]):
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
