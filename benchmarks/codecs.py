"""Size and speed of every codec on real volumes, beside gzip and beside the bare libraries.

    python benchmarks/codecs.py --data FOLDER [--out FOLDER] [--slices 16]

For each volume in FOLDER, a block of consecutive slices around the middle is encoded by every
codec, slice by slice or in chunks of the codec's default thickness. Sizes are those of payloads
alone. Times are the least of several runs of one thread, divided by those of `zlib` level 6 on
the same bytes in the same run ("x gzip"), because machines differ and neighbours disturb.
The time to one slice is that of decoding the chunk that it lies in. "class" is the time of our
class over that of the library call behind it, on chunks of 100 kB and more: what the checks cost,
and for zstd and deflate the shuffle. PSNR is against the stored voxels, the peak being their range.

Codecs that need a model are measured with each of those in ``MROI_MODEL_PATH``.

Writes ``codecs.md`` and ``codecs.png`` into ``--out``.
"""

from __future__ import annotations

import argparse
import gzip
import math
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, geometric_mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.codecs import ChunkSpec, Fidelity, Pipeline, Values, available, parse
from mroi.codecs.neural import models
from mroi.errors import CodecError

VOLUMES = ("t1w_7t", "T2w", "breast_mr", "CT_pitch", "chris_PD", "spmMotor", "fmri", "pcasl")
SETTINGS = (
    *("zstd", "zstd:shuffle=false", "zstd:level=19", "zstd:delta=true", "deflate", "pcodec", "zfp"),
    *("jpeg2000", "htj2k", "jpegls", "jpegxl", "jpegxl:effort=7", "heif", "jpeg2000-3d"),
    *("calv", "calv:level=small", "calv:level=max"),
    *("jpegls:near=2", "htj2k:step=8", "jpeg2000:psnr=50", "jpegxl:distance=1"),
    *("heif:quality=60", "jpeg2000-3d:psnr=50", "wavelet3d:step=8", "ebb:step=8"),
    *("calv:near=2", "calv:level=small,near=2"),
    "zfp:tolerance=4",
    "sirenmri:rate=0.05",
)


@dataclass(frozen=True, slots=True)
class Result:
    """What one codec did with one volume. Speeds are in bytes of voxels a second."""

    volume: str
    setting: str
    ratio: float
    encode: float
    decode: float
    slice_seconds: float
    overhead: float | None
    psnr: float | None


def trained() -> list[str]:
    """Return settings for the models that are found by name."""
    found = []
    for path in models.stored():
        header = models.read_header(path)
        found.append(f"{header.architecture}:model={header.name}")
    return found


def load(path: Path, slices: int) -> NDArray[Any]:
    """Return a block of slices around the middle, (slices, rows, columns), as it is on disk."""
    import nibabel

    image = nibabel.load(path)
    voxels = np.asanyarray(image.dataobj.get_unscaled())  # type: ignore[attr-defined]
    voxels = voxels.reshape(*voxels.shape[:3], -1)[..., 0]
    start = max(0, voxels.shape[2] // 2 - slices // 2)
    block = voxels[:, :, start : start + slices].T
    return np.ascontiguousarray(block, block.dtype.newbyteorder("<"))


def least(*works: Callable[[], object], budget: float = 0.25) -> list[float]:
    """Return the shortest time of some runs of each, in turns, in seconds."""
    for work in works:
        work()
    best = [float("inf")] * len(works)
    started = time.perf_counter()
    while time.perf_counter() - started < budget * len(works):
        for k, work in enumerate(works):
            start = time.perf_counter()
            work()
            best[k] = min(best[k], time.perf_counter() - start)
    return best


def blocks(volume: NDArray[Any], thick: int) -> Iterator[NDArray[Any]]:
    """Cut a block into chunks."""
    for start in range(0, len(volume), thick):
        yield np.ascontiguousarray(volume[start : start + thick])


def bare(setting: str, payload: bytes, spec: ChunkSpec) -> Callable[[], object] | None:
    """Return the call of the library that decodes a payload, without us around it."""
    import imagecodecs

    name = setting.partition(":")[0]
    match name:
        case "zstd":
            import zstandard

            return lambda: zstandard.ZstdDecompressor().decompress(payload)
        case "deflate":
            from isal import isal_zlib

            return lambda: isal_zlib.decompress(payload)
        case "pcodec":
            from pcodec import standalone

            out = np.empty(spec.size // spec.dtype.itemsize, spec.dtype)
            return lambda: standalone.simple_decompress_into(payload, out)
        case "jpeg2000":
            return lambda: imagecodecs.jpeg2k_decode(payload, numthreads=1)
        case "htj2k":
            return lambda: imagecodecs.htj2k_decode(payload)
        case "jpegls":
            return lambda: imagecodecs.jpegls_decode(payload)
        case "jpegxl":
            return lambda: imagecodecs.jpegxl_decode(payload, numthreads=1)
        case "heif":
            import pillow_heif

            return lambda: np.asarray(
                pillow_heif.open_heif(payload, convert_hdr_to_8bit=False, hdr_to_16bit=False)
            )
        case "zfp":
            shape = tuple(extent for extent in spec.shape if extent > 1)
            return lambda: imagecodecs.zfp_decode(payload, shape=shape, dtype=spec.dtype)
    return None


def measure(name: str, volume: NDArray[Any], setting: str) -> Result:
    """Encode and decode a volume with one codec."""
    codec = parse(setting)
    thick = min(codec.max_slices or codec.default_slices, len(volume))
    finite = volume[np.isfinite(volume)] if volume.dtype.kind == "f" else volume
    whole = bool(np.all(finite == np.rint(finite))) and finite.size == volume.size
    values = Values(float(finite.min()), float(finite.max()), whole)
    chunks = list(blocks(volume, thick))
    specs = [ChunkSpec(chunk.shape, chunk.dtype, 8 * chunk.itemsize) for chunk in chunks]
    pipeline = Pipeline.fitting(codec, specs[0], values)
    if codec.fidelity is Fidelity.LOSSLESS and pipeline.fidelity is not Fidelity.LOSSLESS:
        raise CodecError(f"{setting} takes {name} only with loss")
    pairs = list(zip(chunks, specs, strict=True))
    payloads = [pipeline.encode(chunk, spec) for chunk, spec in pairs]
    decoded = [pipeline.decode(*item) for item in zip(payloads, specs, strict=True)]
    squares = [
        np.nanmean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
        for a, b in zip(decoded, chunks, strict=True)
    ]
    error = float(np.mean(squares))
    psnr = 10 * math.log10((values.high - values.low) ** 2 / error) if error else None
    middle = len(chunks) // 2
    payload, spec, chunk = payloads[middle], specs[middle], chunks[middle]
    inner = spec
    for step in pipeline.filters:
        inner = step.output(inner)
    call = bare(setting, payload, inner) if chunk.nbytes >= 100_000 else None
    encode, decode = least(
        lambda: pipeline.encode(chunk, spec), lambda: pipeline.decode(payload, spec)
    )
    overhead = None
    if call:
        ours, theirs = least(lambda: codec.decode(payload, inner), call)
        overhead = ours / theirs
    ratio = volume.nbytes / sum(map(len, payloads))
    return Result(
        name, setting, ratio, chunk.nbytes / encode, chunk.nbytes / decode, decode, overhead, psnr
    )


def gzipped(name: str, volume: NDArray[Any]) -> Result:
    """Measure what users have: gzip level 6 of the whole, nothing readable alone."""
    data = volume.tobytes()
    packed = gzip.compress(data, 6)
    one_slice = volume[: len(volume) // 2 + 1].tobytes()
    until = zlib.compress(one_slice, 6)
    first = volume[0].tobytes()
    encode, decode, reach = least(
        lambda: zlib.compress(first, 6),
        lambda: gzip.decompress(packed),
        lambda: zlib.decompress(until),
    )
    ratio = len(data) / len(packed)
    return Result(name, "gzip", ratio, len(first) / encode, len(data) / decode, reach, None, None)


def table(results: list[Result]) -> str:
    """Return one line for each setting: geometric means over the volumes that it takes."""
    base = {result.volume: result for result in results if result.setting == "gzip"}
    heads = ("codec", "volumes", "ratio", "x gzip", "encode, x gzip", "decode, x gzip")
    heads += ("one slice, ms", "class", "PSNR, dB")
    lines = [f"| {' | '.join(heads)} |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for setting in dict.fromkeys(result.setting for result in results):
        mine = [result for result in results if result.setting == setting]
        if not mine:
            continue
        mean = {
            "ratio": geometric_mean(r.ratio for r in mine),
            "gain": geometric_mean(r.ratio / base[r.volume].ratio for r in mine),
            "encode": geometric_mean(r.encode / base[r.volume].encode for r in mine),
            "decode": geometric_mean(r.decode / base[r.volume].decode for r in mine),
            "slice": 1000 * geometric_mean(r.slice_seconds for r in mine),
        }
        bare_ones = [r.overhead for r in mine if r.overhead is not None]
        losses = [r.psnr for r in mine if r.psnr is not None]
        quality = f"{fmean(losses):.1f}" if losses else ""
        overhead = f"{geometric_mean(bare_ones):.2f}" if bare_ones else ""
        lines.append(
            f"| `{setting}` | {len(mine)} | {mean['ratio']:.2f} | {mean['gain']:.2f} | "
            f"{mean['encode']:.2f} | {mean['decode']:.2f} | {mean['slice']:.2f} | {overhead} | "
            f"{quality} |"
        )
    return "\n".join(lines) + "\n"


def sizes(results: list[Result]) -> str:
    """Return the ratio of each setting on each volume."""
    names = sorted({result.volume for result in results}, key=VOLUMES.index)
    found = {(result.setting, result.volume): result.ratio for result in results}
    lines = ["| codec | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    for setting in dict.fromkeys(result.setting for result in results):
        cells = [found.get((setting, name)) for name in names]
        if any(cells):
            row = " | ".join(f"{cell:.2f}" if cell else "" for cell in cells)
            lines.append(f"| `{setting}` | {row} |")
    return "\n".join(lines) + "\n"


def draw(results: list[Result], path: Path) -> None:
    """Draw size against speed of reading where nothing is lost, else against quality."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    base = {result.volume: result for result in results if result.setting == "gzip"}
    figure, panels = plt.subplots(1, 2, figsize=(12, 5.5), layout="constrained")
    for setting in dict.fromkeys(result.setting for result in results):
        mine = [result for result in results if result.setting == setting]
        if not mine:
            continue
        losses = [r.psnr for r in mine if r.psnr is not None]
        speed = geometric_mean(r.decode / base[r.volume].decode for r in mine)
        panel, x = (panels[1], fmean(losses)) if losses else (panels[0], speed)
        y = geometric_mean(r.ratio / base[r.volume].ratio for r in mine)
        panel.plot(x, y, "o", color="black" if setting == "gzip" else "tab:blue")
        panel.annotate(setting, (x, y), textcoords="offset points", xytext=(5, 4), fontsize=9)
    panels[0].set(title="lossless", xscale="log", xlabel="decoding speed, gzip = 1")
    panels[1].set(title="lossy", xlabel="PSNR in dB, peak = range of the voxels")
    for panel in panels:
        panel.set_ylabel("compression ratio, gzip = 1")
        panel.margins(x=0.2)
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print the tables, write them and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--slices", type=int, default=16)
    parser.add_argument("--volumes", nargs="*", default=VOLUMES)
    arguments = parser.parse_args()
    broken = {entry.name for entry in available() if entry.problem}
    results = []
    for name in arguments.volumes:
        volume = load(arguments.data / f"{name}.nii.gz", arguments.slices)
        results.append(gzipped(name, volume))
        for setting in (*SETTINGS, *trained()):
            if setting.partition(":")[0] in broken:
                continue
            try:
                results.append(measure(name, volume, setting))
            except CodecError as exc:
                print(f"{name}: {setting}: {exc}")
    text = f"{table(results)}\nRatio by volume:\n\n{sizes(results)}"
    print(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "codecs.md").write_text(text, "utf-8")
    draw(results, arguments.out / "codecs.png")


if __name__ == "__main__":
    main()
