"""NIfTI volumes as .mroi and as .nii.gz with nibabel, side by side in one run.

    python benchmarks/nifti.py FOLDER [--codec CODEC ...] [--repeat N]

For every .nii.gz in FOLDER: bytes of both, time to pack and to save, to load all voxels, and to get
one middle slice including opening the file. Times are the best of N runs; what counts are the
ratios, since both sides run on the same machine at the same time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

import mroi
from mroi.volume.chunks import ChunkDecoder


@dataclass(frozen=True)
class Row:
    """Figures of one volume with one codec; times in seconds."""

    name: str
    codec: str
    gz_size: int
    saved_size: int
    size: int
    save: float
    pack: float
    nib_load: float
    load: float
    nib_slice: float
    slice: float
    open: float
    overhead: float
    decode: float


def best(run: Callable[[], object], repeat: int) -> float:
    """Return the shortest of `repeat` runs."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(path: Path, codec: str, repeat: int, folder: Path) -> Row:
    """Measure one volume."""
    packed, saved, plain = folder / "x.mroi", folder / "x.nii.gz", folder / "x.nii"
    image = nib.load(path)
    plain.write_bytes(b"")
    nib.save(nib.Nifti1Image(image.dataobj.get_unscaled(), image.affine), plain)
    unscaled = nib.load(plain)
    data = np.asarray(unscaled.dataobj)  # in memory: saving should not pay for loading
    in_memory = nib.Nifti1Image(data, image.affine)
    save = best(lambda: nib.save(in_memory, saved), max(1, repeat // 3))
    # Packed from the plain .nii, as nibabel saves from memory: neither pays for inflating.
    pack = best(lambda: mroi.pack(plain, packed, codec=codec, overwrite=True), max(1, repeat // 3))
    mroi.pack(path, packed, codec=codec, overwrite=True)
    middle = image.shape[2] // 2

    def nib_slice() -> object:
        return np.asarray(nib.load(path).dataobj[:, :, middle])

    def our_slice() -> object:
        with mroi.open(packed) as volume:
            return volume.slice(middle)

    assert np.array_equal(nib_slice(), our_slice())
    volume = mroi.open(packed)
    geom = volume.geom
    inside = min(max(middle, geom.roi.start[2]), geom.roi.stop[2] - 1)
    found = next(geom.grid.find_chunks(_slice_box(geom, inside), 0))
    chunk = volume.reader.read_chunk(found.ordinal)
    decoder = ChunkDecoder(geom, volume.reader.head.codecs)
    decode = best(lambda: decoder.decode(chunk), 10 * repeat)
    read = best(lambda: volume.reader.read_chunk(found.ordinal), 10 * repeat)
    return Row(
        path.name,
        codec,
        path.stat().st_size,
        saved.stat().st_size,
        packed.stat().st_size,
        save,
        pack,
        best(lambda: np.asarray(nib.load(path).dataobj), repeat),
        best(lambda: np.asarray(mroi.open(packed)), repeat),
        best(nib_slice, repeat),
        best(our_slice, 10 * repeat),
        best(lambda: mroi.open(packed).close(), 10 * repeat),
        read,
        decode,
    )


def _slice_box(geom: object, k: int) -> object:
    from mroi import Box

    start, stop = geom.roi.start, geom.roi.stop  # type: ignore[attr-defined]
    return Box((*start[:2], k), (*stop[:2], k + 1))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--codec", action="append")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    paths = sorted(options.folder.glob("*.nii.gz"))
    if not paths:
        parser.error(f"no .nii.gz in {options.folder}")
    print(
        "volume                     codec     MB gz   /.nii.gz /nibabel  pack x  load x  slice x"
        "   slice ms  open ms  read/decode"
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            for codec in options.codec or ["zstd"]:
                row = measure(path, codec, options.repeat, Path(folder))
                rows.append(row)
                print(
                    f"{row.name[:26]:26} {row.codec[:9]:9} {row.gz_size / 1e6:6.2f}  "
                    f"{row.size / row.gz_size:8.3f} {row.size / row.saved_size:8.3f} "
                    f"{row.save / row.pack:7.2f} {row.nib_load / row.load:7.2f} "
                    f"{row.nib_slice / row.slice:8.1f} {1e3 * row.slice:10.2f} "
                    f"{1e3 * row.open:8.2f}  {row.overhead / row.decode:8.1%}",
                    flush=True,
                )
    for codec in options.codec or ["zstd"]:
        mine = [row for row in rows if row.codec == codec]
        share = sum(r.size for r in mine) / sum(r.gz_size for r in mine)
        slowest = {
            "pack": min(r.save / r.pack for r in mine),
            "load": min(r.nib_load / r.load for r in mine),
            "slice": min(r.nib_slice / r.slice for r in mine),
        }
        ratios = ", ".join(f"{job} {ratio:.2f}" for job, ratio in slowest.items())
        print(f"{codec}: {share:.3f} of the bytes of the .nii.gz in all; slowest ratios: {ratios}")
    print(
        "x: times faster than nibabel on .nii.gz. /: bytes of ours over theirs, below 1 is smaller."
    )


if __name__ == "__main__":
    main()
