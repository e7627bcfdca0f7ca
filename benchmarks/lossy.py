"""Bytes of lossy codecs at equal PSNR on real volumes, beside x265 and SPERR, in one run.

    python benchmarks/lossy.py --data FOLDER [--out FOLDER] [--slices 32] [--volumes NAME ...]

For each volume in FOLDER, a block of consecutive slices around the middle (0 for all), cropped to
what is not constant, is brought to 8 bits: lowest value 0, highest 255. Each codec packs it with
some settings into whole `.mroi` files; x265 (preset slower, tuned for PSNR, slices as 12-bit video,
its stream with all that it says of itself) and SPERR (in three dimensions) are called bare. Bytes
at a PSNR (peak 255, of voxels that are rounded and clipped) are interpolated between settings,
monotonically and in their logarithm; none is given beyond the settings. Speeds of `ebb` are those
of the middle slab, in millions of voxels a second of one thread, its own time alone.

Writes ``lossy.md`` into ``--out``. Needs the group ``bench``; PyAV brings x265, which is GPL.
"""

from __future__ import annotations

import argparse
import io
import math
import time
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import mroi
from mroi.codecs import ChunkSpec, parse

VOLUMES = ("t1w_7t", "T2w", "breast_mr", "chris_PD", "CT_pitch")
LEVELS = (30, 35, 40, 45)
SETTINGS = {
    "ebb": [f"ebb:step={step}" for step in (110, 60, 32, 17, 9, 5.5)],
    "wavelet3d": [f"wavelet3d:step={step}" for step in (90, 50, 26, 14, 8, 4)],
    "jpeg2000-3d": [f"jpeg2000-3d:psnr={db}" for db in (29, 33, 37, 41, 46)],
    "jpegxl": [f"jpegxl:distance={d}" for d in (12, 7, 4, 2, 1, 0.5)],
    "heif": [f"heif:quality={quality}" for quality in (25, 40, 55, 70, 85, 94)],
}
Point = tuple[int, float]
Volume = NDArray[np.uint8]


def load(path: Path, slices: int) -> Volume:
    """Return a block of slices in 8 bits, (slices, rows, columns), without constant borders."""
    import nibabel

    image = nibabel.load(path)
    voxels = np.asanyarray(image.dataobj.get_unscaled())  # type: ignore[attr-defined]
    voxels = voxels.reshape(*voxels.shape[:3], -1)[..., 0].astype(np.float64).T
    low, high = voxels.min(), voxels.max()
    volume = np.rint((voxels - low) / (high - low) * 255).astype(np.uint8)
    inside = volume != volume.flat[0]
    for axis in range(3):
        found = np.flatnonzero(inside.any(tuple(a for a in range(3) if a != axis)))
        volume = volume.take(range(found[0], found[-1] + 1), axis)
        inside = volume != volume.flat[0]
    start = max(0, (len(volume) - slices) // 2) if slices else 0
    return np.ascontiguousarray(volume[start : start + slices] if slices else volume)


def psnr(volume: Volume, decoded: NDArray[np.floating]) -> float:
    """Return the PSNR of voxels that are rounded and clipped first, in dB."""
    difference = np.clip(np.rint(decoded), 0, 255) - volume
    return 10 * math.log10(255**2 / max(float((difference**2).mean()), 1e-9))


def packed(volume: Volume, setting: str) -> Point:
    """Return the size of a file, and its PSNR."""
    file = io.BytesIO()
    mroi.pack(volume.T, file, codec=setting, roi="full")
    decoded = np.asarray(mroi.open(file)).T.astype(np.float64)
    return file.getbuffer().nbytes, psnr(volume, decoded)


def x265(volume: Volume, crf: int) -> Point:
    """Return the size of a stream of x265, and its PSNR."""
    import av

    _, rows, columns = volume.shape
    encoder = av.CodecContext.create("libx265", "w")
    encoder.width, encoder.height, encoder.pix_fmt = columns, rows, "gray12le"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25, 1)
    encoder.options = {
        "preset": "slower", "tune": "psnr", "crf": str(crf),
        "x265-params": "log-level=none",
    }  # fmt: skip
    packets = []
    for number, plane in enumerate(volume):
        frame = av.VideoFrame(columns, rows, "gray12le")
        line = np.zeros((rows, frame.planes[0].line_size // 2), np.uint16)
        line[:, :columns] = plane.astype(np.uint16) << 4
        frame.planes[0].update(line.tobytes())
        frame.pts = number
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    size = sum(len(bytes(packet)) for packet in packets)
    decoder = av.CodecContext.create("hevc", "r")
    frames = [frame for packet in packets for frame in decoder.decode(packet)]
    frames = sorted([*frames, *decoder.decode(None)], key=lambda frame: frame.pts)
    decoded = np.stack([frame.to_ndarray() for frame in frames]).astype(np.float64) / 16
    return size, psnr(volume, decoded)


def sperr(volume: Volume, db: int) -> Point:
    """Return the size of a stream of SPERR, and its PSNR."""
    import imagecodecs

    stream = imagecodecs.sperr_encode(volume.astype(np.float32), db, "psnr")
    return len(stream), psnr(volume, imagecodecs.sperr_decode(stream).reshape(volume.shape))


def curve(points: Iterable[Point]) -> Callable[[float], float | None]:
    """Return the bytes at a PSNR, None beyond the points."""
    from scipy.interpolate import PchipInterpolator

    best: list[Point] = []
    for size, db in sorted(points, key=lambda point: point[1]):
        if not best or (db > best[-1][1] + 1e-6 and size > best[-1][0]):
            best.append((size, db))
    if len(best) < 2:
        return lambda _: None
    fit = PchipInterpolator([db for _, db in best], [math.log(size) for size, _ in best])
    return lambda db: math.exp(fit(db)) if best[0][1] <= db <= best[-1][1] else None


def speeds(volume: Volume, step: float) -> tuple[float, float]:
    """Return how many millions of voxels `ebb` encodes and decodes in a second."""
    codec = parse(f"ebb:step={step}")
    start = max(0, (len(volume) - codec.default_slices) // 2)
    slab = np.ascontiguousarray(volume[start : start + codec.default_slices])
    spec = ChunkSpec(slab.shape, slab.dtype, 8)
    payload = codec.encode(slab, spec)
    codec.decode(payload, spec)
    began = time.thread_time()
    codec.encode(slab, spec)
    middle = time.thread_time()
    codec.decode(payload, spec)
    ended = time.thread_time()
    return slab.size / (middle - began) / 1e6, slab.size / (ended - middle) / 1e6


def measure(name: str, volume: Volume) -> list[str]:
    """Return the rows of one volume."""
    curves = {"x265": curve(x265(volume, crf) for crf in (40, 34, 28, 22, 16, 11))}
    curves["SPERR"] = curve(sperr(volume, db) for db in (27, 32, 37, 42, 47))
    for codec, settings in SETTINGS.items():
        curves[codec] = curve(packed(volume, setting) for setting in settings)
        print(name, codec, flush=True)
    rows = []
    for db in LEVELS:
        sizes = {codec: at(db) for codec, at in curves.items()}
        ours = sizes.pop("ebb")
        if ours is None:
            continue
        cells = [f"{100 * (ours / size - 1):+.1f} %" if size else "" for size in sizes.values()]
        rows.append(f"| {name} | {db} | {volume.size / ours:.1f} | {' | '.join(cells)} |")
    return rows


def main() -> None:
    """Measure, print the table, write it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--slices", type=int, default=32)
    parser.add_argument("--volumes", nargs="*", default=VOLUMES)
    arguments = parser.parse_args()
    others = ["x265", "SPERR", *(name for name in SETTINGS if name != "ebb")]
    head = ["volume", "dB", "ratio of `ebb`", *(f"against {name}" for name in others)]
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    notes = []
    for name in arguments.volumes:
        volume = load(arguments.data / f"{name}.nii.gz", arguments.slices)
        lines += measure(name, volume)
        encode, decode = speeds(volume, 12)
        shape = " x ".join(map(str, volume.shape))
        notes.append(f"{name}: {shape}; {encode:.1f} and {decode:.1f} Mvoxel/s")
        text = "\n".join([*lines, "", "Slices, rows, columns; speed of `ebb` with step 12:", ""])
        text += "\n" + "".join(f"* {note}\n" for note in notes)
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "lossy.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
