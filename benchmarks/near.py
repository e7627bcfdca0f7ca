"""Bytes and seconds of codecs with a bound on the error of each voxel, side by side.

    python benchmarks/near.py FOLDER [--only NAME ...] [--planes 96] [--near 1 2 4 8] [--max]

FOLDER holds NIfTI files and DICOM files of one image, as for ``benchmarks/calv.py``. All codecs
keep the same bound: no voxel, rounded to an integer, is off by more than N, which is checked.
Codecs of floats therefore get N + 0.49, and zfp, which keeps far more than it is asked for, the
largest tolerance that does. Those that offer settings alone get the coarsest that keeps it. Times
are processor time of one thread, the best of three runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from calv import Array, Rival, best_of, plane_codec, slabs, spec_of, volumes

from mroi.codecs import Codec, Pipeline, SupportsTarget, Values, available
from mroi.codecs.base import ChunkSpec

BOUNDED = ("calv", "jpegls", "zfp")  # those that promise it; others find it by trial


def ours(codec: Codec, values: Values) -> Rival:
    """Return a codec of this package, in chunks of its default thickness."""

    def encode(volume: Array) -> list[tuple[Pipeline, bytes, ChunkSpec]]:
        parts = [(part, spec_of(part)) for part in slabs(volume, codec.default_slices)]
        pipelines = [Pipeline.fitting(codec, spec, values) for _, spec in parts]
        return [
            (pipeline, pipeline.encode(part, spec), spec)
            for pipeline, (part, spec) in zip(pipelines, parts, strict=True)
        ]

    def decode(coded: list[tuple[Pipeline, bytes, ChunkSpec]]) -> Array:
        return np.concatenate([pipeline.decode(data, spec) for pipeline, data, spec in coded])

    return encode, decode, lambda coded: sum(len(data) for _, data, _ in coded)


def of_floats(encode: Callable[[Array], bytes], decode: Callable[[bytes, Array], Array]) -> Rival:
    """Return a codec of one array of float32, whose voxels are rounded afterwards."""

    def encode_all(volume: Array) -> tuple[bytes, Array]:
        floats = volume.astype(np.float32)
        return encode(floats if len(floats) > 1 else floats[0]), volume

    def decode_all(coded: tuple[bytes, Array]) -> Array:
        data, volume = coded
        return np.rint(decode(data, volume).reshape(volume.shape))

    return encode_all, decode_all, lambda coded: len(coded[0])


def zfp(near: int, volume: Array) -> Rival:
    """Return zfp at the largest tolerance, a power of two, that keeps the bound."""
    import imagecodecs as ic

    def at(tolerance: float) -> Rival:
        return of_floats(
            lambda floats: ic.zfp_encode(floats, tolerance, mode="a", numthreads=1),
            lambda data, _: ic.zfp_decode(data),
        )

    tolerance = float(near)
    while off(at(2 * tolerance), volume) <= near:
        tolerance *= 2
    return at(tolerance)


def by_trial(cls: type[Any], near: int, volume: Array, values: Values) -> Rival | None:
    """Return a codec at its coarsest setting that keeps the bound; None if none does."""
    ladder = cls.ladder(values)
    low, high = 0, len(ladder)
    while low < high:
        middle = (low + high) // 2
        if off(ours(ladder[middle], values), volume) <= near:
            low = middle + 1
        else:
            high = middle
    return ours(ladder[low - 1], values) if low else None


def off(rival: Rival, volume: Array) -> float:
    """Return the largest error of any voxel."""
    encode, decode, _ = rival
    found = decode(encode(volume)).astype(np.float64)
    return float(np.abs(found - volume).max())


def rivals(near: int, volume: Array, values: Values, *, slow: bool) -> dict[str, Rival]:
    """Return what is measured at a bound."""
    import imagecodecs as ic

    from mroi.codecs.calv import Calv

    found = {
        "jpegls": plane_codec(
            lambda plane: ic.jpegls_encode(plane, near, out=4 * plane.nbytes + 4096),
            ic.jpegls_decode,
        ),
        "sz3": of_floats(
            lambda floats: ic.sz3_encode(floats, mode=ic.SZ3.MODE.ABS, abs=near + 0.49),
            lambda data, volume: ic.sz3_decode(
                data, volume.shape if len(volume) > 1 else volume.shape[1:], np.float32
            ),
        ),
        "sperr": of_floats(
            lambda floats: ic.sperr_encode(floats, near + 0.49, mode=ic.SPERR.MODE.PWE),
            lambda data, _: ic.sperr_decode(data),
        ),
        "zfp": zfp(near, volume),
        "calv fast": ours(Calv("fast", near), values),
        "calv small": ours(Calv("small", near), values),
    }
    if slow:
        found["calv max"] = ours(Calv("max", near), values)
    for entry in available():
        cls = entry.codec
        if not slow or cls is None or entry.problem or entry.name in BOUNDED:
            continue
        if cls.max_slices is None and issubclass(cls, SupportsTarget):
            rival = by_trial(cls, near, volume, values)
            found |= {} if rival is None else {entry.name: rival}
    return found


def measure(name: str, rival: Rival, volume: Array, near: int) -> tuple[int, float, float]:
    """Return bytes, and seconds of encoding and of decoding."""
    encode, decode, size = rival
    decode(encode(np.ascontiguousarray(volume[:1, :32, :32])))  # what is compiled is kept
    coded, writing = best_of(lambda: encode(volume))
    back, reading = best_of(lambda: decode(coded))
    if np.abs(back.astype(np.float64) - volume).max() > near:
        raise SystemExit(f"{name} is off by more than {near}")
    return size(coded), writing, reading


def main() -> None:
    """Print a table for each bound: bytes as ratios to JPEG-LS, seconds, then totals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--planes", type=int, default=96)
    parser.add_argument("--near", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--max", action="store_true", help="also what takes minutes")
    options = parser.parse_args()
    totals: dict[tuple[int, str], int] = {}
    for name, volume in volumes(options.folder, options.only, options.planes):
        values = Values(float(volume.min()), float(volume.max()), whole=True)
        for near in options.near:
            cells, base = [], 0
            for codec, rival in rivals(near, volume, values, slow=options.max).items():
                size, writing, reading = measure(codec, rival, volume, near)
                base = base or size
                cells.append(f"{codec} {size:,} {size / base:.3f} {writing:.2f}s {reading:.2f}s")
                if volume.shape[0] > 1:
                    totals[near, codec] = totals.get((near, codec), 0) + size
            print(f"{name[:16]:16} near {near}:", " | ".join(cells), flush=True)
    for near in options.near:
        base = totals.get((near, "jpegls"), 0)
        row = [f"{codec} {size / base:.3f}" for (n, codec), size in totals.items() if n == near]
        print(f"all volumes, near {near}, of JPEG-LS:", "  ".join(row))


if __name__ == "__main__":
    main()
