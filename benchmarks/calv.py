"""Measure calv beside what one would take instead: bytes, ratios and speed, in one run.

    python benchmarks/calv.py FOLDER [--only NAME ...] [--planes 96] [--quick]

FOLDER holds NIfTI files and DICOM files of one image; 4-D files are measured volume by volume.
Times are processor time of one thread, the best of three runs.
"""

from __future__ import annotations

import argparse
import io
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.codecs.base import ChunkSpec
from mroi.codecs.calv import Calv

Array = NDArray[Any]
Rival = tuple[Callable[[Array], object], Callable[[Any], Array], Callable[[Any], int]]


def volumes(folder: Path, only: list[str], planes: int) -> Iterator[tuple[str, Array]]:
    """Yield names and volumes (slices, rows, columns) of at most so many slices from the middle."""
    for path in sorted(folder.iterdir()):
        name = path.name.split(".")[0]
        if only and name not in only:
            continue
        array = _nifti(path) if ".nii" in path.name else _dicom(path)
        if array is None:
            continue
        first = max(0, (array.shape[0] - planes) // 2)
        yield name, np.ascontiguousarray(array[first : first + planes])


def _nifti(path: Path) -> Array | None:
    import nibabel

    array = np.asanyarray(nibabel.load(path).dataobj.get_unscaled())
    if array.dtype.kind not in "iuf" or array.ndim < 3:
        return None
    array = array.reshape(*array.shape[:3], -1)[..., 0].T
    if array.dtype.kind == "f" or array.dtype.itemsize > 2:
        low, high = int(array.min()), int(array.max())
        if (array != np.rint(array)).any() or high - low > 65535:
            return None
        array = (array - low).astype(np.uint16)
    return array.astype(array.dtype.newbyteorder("<"))


def _dicom(path: Path) -> Array | None:
    if path.suffix != ".dcm":
        return None
    import pydicom

    array = pydicom.dcmread(path).pixel_array
    return array[np.newaxis] if array.ndim == 2 else None


def spec_of(array: Array) -> ChunkSpec:
    """Return the kind of a chunk."""
    return ChunkSpec(array.shape, array.dtype, 8 * array.dtype.itemsize)


def slabs(volume: Array, thickness: int) -> list[Array]:
    """Return the chunks of a volume."""
    count = volume.shape[0]
    return [np.ascontiguousarray(volume[k : k + thickness]) for k in range(0, count, thickness)]


def calv(level: str, thickness: int | None = None) -> Rival:
    """Return calv at a level, in chunks of its default thickness."""
    codec = Calv(level)
    thickness = thickness or codec.default_slices

    def encode(volume: Array) -> list[tuple[bytes, ChunkSpec]]:
        parts = slabs(volume, thickness)
        return [(codec.encode(part, spec_of(part)), spec_of(part)) for part in parts]

    def decode(payloads: list[tuple[bytes, ChunkSpec]]) -> Array:
        return np.concatenate([codec.decode(data, spec) for data, spec in payloads])

    return encode, decode, lambda payloads: sum(len(data) for data, _ in payloads)


def plane_codec(encode: Callable[[Array], bytes], decode: Callable[[bytes], Array]) -> Rival:
    """Return a codec of single planes; signed voxels are made unsigned first."""

    def encode_planes(volume: Array) -> tuple[list[bytes], int, np.dtype[Any]]:
        low = min(0, int(volume.min()))
        unsigned = (volume.astype(np.int32) - low).astype(f"u{volume.dtype.itemsize}")
        return [encode(np.ascontiguousarray(plane)) for plane in unsigned], low, volume.dtype

    def decode_planes(coded: tuple[list[bytes], int, np.dtype[Any]]) -> Array:
        payloads, low, dtype = coded
        planes = np.stack([decode(data) for data in payloads])
        return (planes.astype(np.int32) + low).astype(dtype)

    return encode_planes, decode_planes, lambda coded: sum(map(len, coded[0]))


def rivals(quick: bool) -> dict[str, Rival]:  # noqa: FBT001
    """Return what is measured beside calv; without the slow ones if `quick`."""
    import blosc2
    import imagecodecs

    def jpegxl(effort: int) -> Rival:
        return plane_codec(
            lambda plane: imagecodecs.jpegxl_encode(
                plane, lossless=True, effort=effort, numthreads=1
            ),
            lambda data: imagecodecs.jpegxl_decode(data, numthreads=1),
        )

    zstd = blosc2.CParams(
        codec=blosc2.Codec.ZSTD, clevel=5, nthreads=1, filters=[blosc2.Filter.BITSHUFFLE]
    )
    found = {
        "nii.gz": (_to_nifti, _from_nifti, len),
        "b2nd zstd": (
            lambda volume: blosc2.asarray(volume, cparams=zstd),
            lambda stored: stored[...],
            lambda stored: stored.schunk.cbytes,
        ),
        "jpegls": plane_codec(imagecodecs.jpegls_encode, imagecodecs.jpegls_decode),
        "htj2k": plane_codec(
            lambda plane: imagecodecs.htj2k_encode(plane, reversible=True),
            imagecodecs.htj2k_decode,
        ),
        "jxl 1": jpegxl(1),
        "jxl 3": jpegxl(3),
    }
    return found if quick else {**found, "jxl 7": jpegxl(7)}


def _to_nifti(volume: Array) -> bytes:
    import gzip

    import nibabel

    image = nibabel.Nifti1Image(volume.T, np.eye(4), dtype=volume.dtype)
    return gzip.compress(image.to_bytes(), 6)


def _from_nifti(data: bytes) -> Array:
    import gzip

    import nibabel

    image = nibabel.Nifti1Image.from_stream(io.BytesIO(gzip.decompress(data)))
    return np.asanyarray(image.dataobj).T


def best_of(work: Callable[[], Any], seconds: float = 3.0) -> tuple[Any, float]:
    """Return the result and the least processor time of up to three runs."""
    times: list[float] = []
    result = None
    while len(times) < 3 and sum(times) < seconds:
        start = time.process_time()
        result = work()
        times.append(time.process_time() - start)
    return result, min(times)


def measure(volume: Array, rival: Rival) -> tuple[int, float, float]:
    """Return bytes, and million voxels a second of encoding and of decoding."""
    encode, decode, size = rival
    coded, writing = best_of(lambda: encode(volume))
    back, reading = best_of(lambda: decode(coded))
    if back.reshape(volume.shape).astype(volume.dtype).tobytes() != volume.tobytes():
        raise SystemExit("a rival is not lossless")
    return size(coded), volume.size / writing / 1e6, volume.size / reading / 1e6


def compare(found: list[tuple[str, Array]], *, quick: bool) -> None:
    """Print sizes in bits a voxel, speeds, and the ratio of totals."""
    codecs = {
        **rivals(quick),
        "calv fast": calv("fast"),
        "calv small": calv("small"),
        "calv max": calv("max"),
    }
    print(f"{'bits a voxel (encode / decode Mvoxel/s)':40s}", *(f"{name:>18s}" for name in codecs))
    sizes = []
    for name, volume in found:
        cells = []
        for codec, rival in codecs.items():
            size, writing, reading = measure(volume, rival)
            sizes.append((volume.shape[0] > 1, codec, size))
            cells.append(f"{8 * size / volume.size:7.3f} ({writing:3.0f}/{reading:3.0f})".rjust(18))
        label = f"{name} {volume.dtype.name} {'x'.join(map(str, volume.shape))}"
        print(f"{label:40s}", *cells, flush=True)
    for title, only in (("all", False), ("volumes of several slices", True)):
        totals = dict.fromkeys(codecs, 0)
        for several, codec, size in sizes:
            totals[codec] += size if several or not only else 0
        print(f"{'total bytes, ' + title:40s}", *(f"{size:18,d}" for size in totals.values()))
        for ours in ("calv fast", "calv small", "calv max"):
            ratios = (f"{totals[ours] / size:18.4f}" for size in totals.values())
            print(f"{ours + ' against it':40s}", *ratios)


def thicknesses(found: list[tuple[str, Array]]) -> None:
    """Print size and time to one slice for several slab thicknesses."""
    print("\nthickness: size against that of 16; milliseconds to one slice, mean over the slab")
    for name, volume in found:
        if volume.shape[0] < 32:
            continue
        for level in ("fast", "small"):
            reference = calv(level, 16)
            whole = reference[2](reference[0](volume))
            cells = []
            for thickness in (1, 4, 8, 16, 32, 64):
                encode, _, size = calv(level, thickness)
                coded = encode(volume)
                data, spec = coded[len(coded) // 2]
                codec = Calv(level)
                counts = range(1, spec.shape[0] + 1, max(1, spec.shape[0] // 8))
                spent = 1e3 * np.mean([time_to(codec, data, spec, count) for count in counts])
                cells.append(f"{thickness}: {size(coded) / whole:.3f} {spent:5.1f}ms")
            print(f"  {name} {level}:", "  ".join(cells), flush=True)


def time_to(codec: Calv, data: bytes, spec: ChunkSpec, count: int) -> float:
    """Return the seconds that the first slices of a slab take."""
    return best_of(lambda: codec.decode_prefix(data, spec, count), 0.2)[1]


def threads(found: list[tuple[str, Array]]) -> None:
    """Print how much faster two threads are than one, by the clock."""
    volume = max((volume for _, volume in found), key=lambda volume: volume.size)
    for level in ("fast", "small"):
        codec = Calv(level)
        coded = calv(level)[0](volume)
        parts = [(part, spec_of(part)) for part in slabs(volume, codec.default_slices)]
        for name, work, chunks in (
            ("encoding", codec.encode, parts),
            ("decoding", codec.decode, coded),
        ):
            one, two = (wall_time(work, chunks, workers) for workers in (1, 2))
            print(f"two threads against one, {name} {level}: {one / two:.2f} times")


CHILD = """
import pickle, sys, time
chunk = pickle.load(sys.stdin.buffer)
import mroi
loaded = time.perf_counter(), time.process_time()
from mroi.codecs.calv import Calv
Calv().decode(*chunk)
print(time.perf_counter() - loaded[0], time.process_time() - loaded[1])
"""


def first_use() -> None:
    """Print what the first chunk of a process takes: nothing compiled yet, and what was kept."""
    steps = np.random.default_rng(1).integers(0, 9, (8, 100, 100))
    voxels = (np.cumsum(steps, axis=2) % 500).astype(np.uint16)
    for level in ("fast", "small", "max"):
        given = pickle.dumps((Calv(level).encode(voxels, spec_of(voxels)), spec_of(voxels)))
        with tempfile.TemporaryDirectory() as folder:
            for when in ("first ever", "from the second process on"):
                done = subprocess.run(
                    [sys.executable, "-c", CHILD],
                    env={**os.environ, "NUMBA_CACHE_DIR": folder},
                    input=given,
                    capture_output=True,
                    check=True,
                )
                wall, cpu = map(float, done.stdout.split())
                print(
                    f"first chunk of {level}, {when}: {wall:.2f} s, {cpu:.2f} s of processor time"
                )


def wall_time(work: Callable[..., Any], chunks: list[Any], workers: int) -> float:
    """Return the least seconds by the clock that threads take for all chunks."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda chunk: work(*chunk), chunks))
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Run the comparison on the folder of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--planes", type=int, default=10**6)
    parser.add_argument("--quick", action="store_true", help="leave JPEG XL effort 7 out")
    args = parser.parse_args()
    found = list(volumes(args.folder, args.only, args.planes))
    warm = np.arange(4000, dtype=np.uint16).reshape(4, 20, 50) % 97
    for level in ("fast", "small", "max"):
        measure(warm, calv(level))
    compare(found, quick=args.quick)
    thicknesses(found)
    threads(found)
    first_use()


if __name__ == "__main__":
    main()
