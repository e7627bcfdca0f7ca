"""The headline table: every lossy codec at the same PSNR, beside video codecs and SPERR and SZ3.

    python benchmarks/headline.py FILE.nii.gz... --out FOLDER [--psnr 30,35,40,45] [--quick]

Ours are measured by ``mroi bench`` (whole files, every byte, its own journal in FOLDER); the others
are bare streams of the same box of voxels, with MedROI's 54 bytes added, the coarsest setting
that reaches the PSNR, found by bisection. x265 (preset slower, 12 bits, without its text) and
SVT-AV1 (preset 4, 10 bits) get slices as frames, by least and largest value of the box; both are
there to compare with, neither is or becomes a dependency. SPERR and SZ3 get float32. Everything
is decoded again, rounded if the volume holds integers; the PSNR is that of the box, against its
range: the easy voxels of a background flatter the full volume.

Writes ``headline.md`` and ``headline.json`` into FOLDER; finished figures there are kept. Needs
`pip install av`, which bundles x265 (GPL), and imagecodecs. Hours for large volumes: ``--quick``
takes faster presets, for a try.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from mroi.bench.metrics import Difference

_RECORD = 54  # bytes: the box, the shape and the affine, as the paper stores them
_STEPS = 9  # of a bisection
ROIS = ("full", "tight")

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Anchor:
    """A codec to compare with.

    Attributes
    ----------
    name : str
        In the table.
    fine, coarse : float
        Bounds of its setting.
    code : callable
        From a volume (x, y, z) of float32 and a setting to bytes and what is decoded from them.
    is_log : bool
        Whether settings are halved by their logarithm.
    """

    name: str
    fine: float
    coarse: float
    code: Callable[[Array, float], tuple[int, Array]]
    is_log: bool = False

    def between(self, a: float, b: float) -> float:
        """Return the setting in the middle."""
        return math.sqrt(a * b) if self.is_log else (a + b) / 2


def as_video(encoder: str, decoder: str, pixels: str, bits: int, options: dict[str, str]) -> Any:
    """Return what codes a volume as frames, a slice each."""

    def code(volume: Array, setting: float) -> tuple[int, Array]:
        low, high = float(volume.min()), float(volume.max())
        top = (1 << bits) - 1
        frames = np.rint((volume - low) * (top / max(high - low, 1e-30))).astype("<u2")
        sides = [n + n % 2 for n in frames.shape[:2]]
        pads = [(0, side - n) for side, n in zip(sides, frames.shape[:2], strict=True)]
        padded = np.pad(frames, [*pads, (0, 0)], mode="edge")
        packets = encode_video(padded, encoder, pixels, options, setting)
        size = sum(map(len, packets))
        back = decode_video(packets, decoder, sides)[: frames.shape[0], : frames.shape[1]]
        return size, back.astype(np.float64) * ((high - low) / top) + low

    return code


def encode_video(
    frames: Array, encoder: str, pixels: str, options: dict[str, str], setting: float
) -> list[bytes]:
    """Return the packets of frames (x, y, z)."""
    import av

    context = av.CodecContext.create(encoder, "w")
    context.width, context.height, context.pix_fmt = frames.shape[0], frames.shape[1], pixels
    context.framerate = 25
    crf = f"{setting:.2f}" if encoder == "libx265" else str(round(setting))
    context.options = {name: value.format(crf=crf) for name, value in options.items()} | (
        {} if "x265-params" in options else {"crf": crf}
    )
    packets = []
    for k in range(frames.shape[2]):
        frame = av.VideoFrame(frames.shape[0], frames.shape[1], pixels)
        frame.pts = k
        for number, plane in enumerate(frame.planes):
            rows = np.zeros((plane.height, plane.line_size // 2), "<u2")
            rows[:, : plane.width] = frames[:, :, k].T if number == 0 else 1 << 9
            plane.update(rows.tobytes())
        packets += [bytes(packet) for packet in context.encode(frame)]
    return packets + [bytes(packet) for packet in context.encode(None)]


def decode_video(packets: Sequence[bytes], decoder: str, sides: Sequence[int]) -> Array:
    """Return the luma of frames as (x, y, z)."""
    import av

    context = av.CodecContext.create(decoder, "r")
    planes = []
    for data in [*packets, None]:
        for frame in context.decode(None if data is None else av.Packet(data)):
            luma = frame.planes[0]
            rows = np.frombuffer(luma, "<u2").reshape(luma.height, luma.line_size // 2)
            planes.append((frame.pts or 0, rows[:, : luma.width].T.copy()))
    found = np.stack([plane for _pts, plane in planes], axis=2)
    return found[: sides[0], : sides[1]]


def sperr(volume: Array, psnr: float) -> tuple[int, Array]:
    """Code with SPERR as one chunk."""
    import imagecodecs

    data = imagecodecs.sperr_encode(volume, psnr, "psnr", chunks=volume.shape)
    return len(data), imagecodecs.sperr_decode(data)


def sz3(volume: Array, bound: float) -> tuple[int, Array]:
    """Code with SZ3, by a bound on the error."""
    import imagecodecs

    data = imagecodecs.sz3_encode(volume, "abs", abs=bound)
    return len(data), imagecodecs.sz3_decode(data, shape=volume.shape, dtype=volume.dtype)


def anchors(*, quick: bool) -> tuple[Anchor, ...]:
    """Return the codecs to compare with."""
    x265 = {
        "preset": "veryfast" if quick else "slower",
        "x265-params": "crf={crf}:info=0:log-level=none",
    }
    av1 = {"preset": "10" if quick else "4"}
    return (
        Anchor("x265", 0.0, 51.0, as_video("libx265", "hevc", "gray12le", 12, x265)),
        Anchor("SVT-AV1", 1.0, 63.0, as_video("libsvtav1", "libdav1d", "yuv420p10le", 10, av1)),
        Anchor("SPERR", 70.0, 20.0, sperr),
        Anchor("SZ3", 1e-5, 0.5, sz3, is_log=True),
    )


def psnr_of(volume: Array, decoded: Array, *, rounds: bool) -> float:
    """Return the PSNR against the range of the volume."""
    back = np.rint(decoded) if rounds else decoded
    return Difference.between(volume, back).psnr(float(np.ptp(volume)))


def reach(anchor: Anchor, volume: Array, target: float, *, rounds: bool) -> dict[str, float]:
    """Return bytes, PSNR and seconds of the coarsest setting that reaches a PSNR."""
    span = float(np.ptp(volume)) if anchor.is_log else 1.0
    fine, coarse = anchor.fine * span, anchor.coarse * span
    best: dict[str, float] = {}
    for _ in range(_STEPS):
        middle = anchor.between(fine, coarse)
        start = time.perf_counter()
        size, decoded = anchor.code(volume, middle)
        seconds = time.perf_counter() - start
        psnr = psnr_of(volume, decoded, rounds=rounds)
        if psnr >= target:
            fine = middle
            if not best or size < best["bytes"]:
                best = {"bytes": size + _RECORD, "psnr": psnr, "seconds": seconds}
        else:
            coarse = middle
    return best


def run_ours(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure our codecs, and return the rows."""
    folder = options.out / "bench"
    rois = [part for roi in ROIS for part in ("--roi", roi)]
    codecs = [part for codec in options.codec or ["lossy"] for part in ("--codec", codec)]
    command = [sys.executable, "-c", "from mroi.cli import main; main()", "bench",
               *map(str, options.files), "-o", str(folder), *codecs, *rois,
               "--psnr", options.psnr, "--background", "drop"]  # fmt: skip
    subprocess.run(command, check=False)
    rows: list[dict[str, Any]] = json.loads((folder / "results.json").read_text("utf-8"))["rows"]
    return rows


def run_others(
    options: argparse.Namespace, ours: Sequence[dict[str, Any]], kept: dict[str, Any]
) -> None:
    """Measure the other codecs in the boxes that our rows have, into `kept`."""
    for path in options.files:
        image = nib.load(path)
        stored = image.dataobj.get_unscaled()
        volume = stored.reshape((*stored.shape[:3], -1))[..., 0]
        name = path.name.removesuffix(".gz").removesuffix(".nii")
        for roi in ROIS:
            box = next(
                (
                    row["box"]
                    for row in ours
                    if (row["volume"], row["roi"]) == (name, roi) and row["box"]
                ),
                None,
            )
            if box is None:
                continue
            sides = tuple(slice(*map(int, part.split(":"))) for part in box.split(","))
            crop = np.ascontiguousarray(volume[sides], np.float32)
            for anchor in anchors(quick=options.quick):
                for target in map(float, options.psnr.split(",")):
                    key = f"{name}/{roi}/{anchor.name}/{target:g}"
                    if key in kept:
                        continue
                    kept[key] = reach(anchor, crop, target, rounds=stored.dtype.kind in "iu") | {
                        "voxels": volume.size
                    }
                    (options.out / "headline.json").write_text(json.dumps(kept, indent=1), "utf-8")
                    print(key, kept[key], flush=True)


def table(
    options: argparse.Namespace, rows: Sequence[dict[str, Any]], others: dict[str, Any]
) -> str:
    """Return the ratios of the full 8-bit volume to what is stored, geometric means."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in rows:
        if row["status"] == "ok" and row["target"].startswith("psnr="):
            cells = found.setdefault((row["codec"], row["roi"]), {})
            cells.setdefault(row["target"][5:], []).append(row["ratio_8bit"])
    for key, figures in others.items():
        _volume, roi, name, target = key.split("/")
        if figures.get("bytes"):
            cells = found.setdefault((name, roi), {})
            cells.setdefault(target, []).append(figures["voxels"] / figures["bytes"])
    targets = [f"{float(target):g}" for target in options.psnr.split(",")]
    lines = ["| codec | ROI | " + " | ".join(f"{target} dB" for target in targets) + " |",
             "| --- | --- |" + " ---: |" * len(targets)]  # fmt: skip
    for (name, roi), cells in found.items():
        values = (cells.get(target, []) for target in targets)
        texts = [
            f"{statistics.geometric_mean(one):.3g}"
            + (f" ({len(one)})" if len(one) < len(options.files) else "")
            if one
            else ""
            for one in values
        ]
        lines.append(f"| {name} | {roi} | {' | '.join(texts)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--psnr", default="30,35,40,45")
    parser.add_argument("--codec", action="append")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "headline.json"
    kept: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    rows = run_ours(options)
    run_others(options, rows, kept)
    text = (
        "Ratio of the full volume at 8 bits a voxel to the bytes that are stored, geometric mean "
        f"over {', '.join(file.name for file in options.files)}:\n\n{table(options, rows, kept)}\n"
    )
    (options.out / "headline.md").write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
