"""Write and check the vectors of the codecs: ``spec/vectors/codecs/<name>/NNN.{bin,json}``.

``NNN.bin`` is a payload; ``NNN.json`` says of which codec with which parameters, of what kind of
chunk, and what it decodes to. With ``--check``, all vectors there are decoded and nothing is
written. Without, missing vectors are written; those there are never changed: a payload of an
earlier release must decode for ever.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mroi.codecs import ChunkSpec, Codec, available, build, parse
from mroi.errors import MroiError

VECTORS = Path(__file__).resolve().parent.parent / "spec" / "vectors" / "codecs"
os.environ["MROI_MODEL_PATH"] = str(VECTORS.parent / "models")

# Name of the codec: (settings, shape, dtype, significant bits, what the voxels look like).
WANTED: dict[str, list[tuple[str, tuple[int, ...], str, int, str]]] = {
    "raw": [
        ("", (2, 5, 6), "<i2", 16, "anatomy"),
        ("", (1, 1, 1), "u1", 8, "extremes"),
        ("", (1, 2, 3), "V16", 128, "noise"),
    ],
    "zstd": [
        ("", (3, 12, 10), "<i2", 16, "anatomy"),
        ("", (1, 1, 1), "u1", 8, "extremes"),
        ("shuffle=false,delta=true", (1, 9, 8), "<u4", 32, "extremes"),
        ("shuffle=true,delta=true", (1, 7, 6, 3), "<i2", 16, "anatomy"),
        ("", (1, 1, 40), "<f8", 64, "noise"),
        ("", (2, 5, 4), "<c8", 64, "noise"),
    ],
    "deflate": [
        ("", (3, 12, 10), "<i2", 16, "anatomy"),
        ("", (1, 1, 1), "u1", 8, "extremes"),
        ("shuffle=true,delta=true", (1, 9, 8, 3), "u1", 8, "extremes"),
        ("shuffle=false", (1, 1, 40), "<f4", 32, "noise"),
    ],
    "jpeg2000": [
        ("", (1, 24, 20), "<i2", 12, "anatomy"),
        ("", (1, 1, 1), "u1", 8, "extremes"),
        ("", (1, 9, 8), "<u2", 16, "extremes"),
        ("", (1, 12, 10, 3), "u1", 8, "anatomy"),
        ("psnr=50", (1, 40, 36), "<i2", 12, "anatomy"),
    ],
    "htj2k": [
        ("", (1, 24, 20), "<i2", 16, "anatomy"),
        ("", (1, 1, 1), "u1", 8, "extremes"),
        ("", (1, 9, 8), "<i4", 32, "extremes"),
        ("", (1, 12, 10, 3), "u1", 8, "anatomy"),
        ("step=4", (1, 40, 36), "<u2", 16, "anatomy"),
    ],
    "jpegls": [
        ("", (1, 24, 20), "<u2", 16, "anatomy"),
        ("", (1, 1, 1), "u1", 8, "extremes"),
        ("", (1, 9, 8), "<u2", 16, "extremes"),
        ("near=3", (1, 12, 10, 3), "u1", 8, "anatomy"),
    ],
    "heif": [
        ("", (1, 70, 66), "<u2", 12, "anatomy"),
        ("", (1, 1, 1), "u1", 8, "extremes"),
        ("", (1, 9, 8), "<u2", 10, "extremes"),
        ("quality=50", (1, 12, 10, 3), "u1", 8, "anatomy"),
    ],
    "jpegxl": [
        ("", (1, 24, 20), "<u2", 12, "anatomy"),
        ("", (1, 1, 1), "u1", 8, "extremes"),
        ("", (1, 9, 8), "<u2", 16, "extremes"),
        ("", (1, 8, 7), "<f4", 32, "noise"),
        ("distance=1", (1, 24, 20, 3), "u1", 8, "anatomy"),
    ],
    "pcodec": [
        ("", (3, 12, 10), "<i2", 16, "anatomy"),
        ("", (1, 1, 1), "u1", 8, "extremes"),
        ("", (1, 9, 8), "<i8", 64, "extremes"),
        ("", (1, 1, 40), "<f8", 64, "noise"),
    ],
    "jpeg2000-3d": [
        ("", (5, 12, 10), "<i2", 16, "anatomy"),
        ("", (1, 1, 1), "u1", 8, "extremes"),
        ("", (4, 9, 8), "<u2", 16, "extremes"),
        ("psnr=50", (4, 20, 18), "<i2", 12, "anatomy"),
    ],
    "wavelet3d": [
        ("", (9, 12, 10), "<i2", 16, "anatomy"),
        ("", (1, 1, 1), "u1", 8, "extremes"),
        ("step=0.25", (2, 9, 8), "<u2", 16, "extremes"),
    ],
    "tcm": [
        ("model=tiny-tcm", (1, 24, 20), "u1", 8, "anatomy"),
        ("model=tiny-tcm,channels=neighbours", (5, 12, 10), "<u2", 12, "anatomy"),
        ("model=tiny-tcm", (1, 12, 10, 3), "u1", 8, "anatomy"),
        ("model=tiny-tcm", (1, 1, 1), "u1", 8, "extremes"),
    ],
    "tcm-auxt": [
        ("model=tiny-tcm-auxt", (1, 24, 20), "u1", 8, "anatomy"),
        ("model=tiny-tcm-auxt,channels=neighbours", (2, 65, 10), "<u2", 16, "anatomy"),
        ("model=tiny-tcm-auxt", (1, 9, 8, 3), "u1", 8, "extremes"),
    ],
    "bcm-net": [
        ("model=tiny-bcm-net", (5, 12, 10), "<u2", 12, "anatomy"),
        ("model=tiny-bcm-net", (2, 33, 20), "u1", 8, "noisy"),
        ("model=tiny-bcm-net", (1, 1, 1), "u1", 8, "extremes"),
        ("model=tiny-bcm-net,step=16", (2, 9, 8), "<u2", 16, "extremes"),
    ],
    "ebb": [
        ("step=6", (9, 12, 10), "<i2", 16, "anatomy"),
        ("", (1, 1, 1), "u1", 8, "extremes"),
        ("step=0.25", (2, 9, 8), "<u2", 16, "extremes"),
        ("step=4", (3, 18, 14), "<f4", 32, "anatomy"),
        ("step=12", (6, 40, 36), "u1", 8, "noisy"),
        ("step=3000", (5, 9, 8), "<i4", 32, "extremes"),
    ],
    "sirenmri": [
        ("width=8,layers=2,steps=60", (3, 12, 10), "<i2", 16, "anatomy"),
        ("width=4,steps=20", (1, 1, 1), "u1", 8, "extremes"),
        ("width=6,steps=40,bits=6", (2, 9, 8), "<u2", 16, "extremes"),
    ],
    "zfp": [
        ("", (5, 6, 7), "<f4", 32, "anatomy"),
        ("", (1, 1, 1), "<f8", 64, "extremes"),
        ("", (1, 9, 8), "<i8", 64, "extremes"),
        ("", (1, 1, 40), "<f8", 64, "noise"),
        ("tolerance=0.5", (5, 6, 7), "<f4", 32, "anatomy"),
    ],
}


def voxels(spec: ChunkSpec, kind: str) -> np.ndarray[Any, Any]:
    """Return a chunk: bumps on slopes, the ends of the type in turn, or any bits at all."""
    count = spec.size // spec.dtype.itemsize
    if kind == "noise":
        return np.frombuffer(np.random.default_rng(1).bytes(spec.size), spec.dtype).reshape(
            spec.shape
        )
    if kind == "extremes":
        info: Any = np.iinfo(spec.dtype) if spec.dtype.kind in "iu" else np.finfo(spec.dtype)
        drop = 8 * spec.dtype.itemsize - spec.bits
        ends = (
            [info.max >> drop, info.min >> drop]
            if spec.dtype.kind in "iu"
            else [info.max, info.min]
        )
        return np.resize(np.array([*ends, 0, 1], spec.dtype), count).reshape(spec.shape)
    place = np.indices(spec.shape)
    if kind == "noisy":
        noise = np.random.default_rng(2).integers(-9, 10, spec.shape)
        edges = 70 * ((place[2] // 7 + place[1] // 9) % 2) + 6 * place[0]
        return (40 + noise + edges).astype(spec.dtype)
    bumps = 40 * np.sin(place[1] / 3) * np.cos(place[2] / 4) + 2 * place[0] + place[1] + 60
    return (np.rint(4 * bumps) / 4 if spec.dtype.kind == "f" else bumps).astype(spec.dtype)


def write(name: str) -> Iterator[str]:
    """Write the vectors of one codec that are not there yet; yield their names."""
    for number, (settings, shape, dtype, bits, kind) in enumerate(WANTED[name], 1):
        path = VECTORS / name / f"{number:03}.bin"
        if path.exists():
            continue
        codec = parse(f"{name}:{settings}")
        spec = ChunkSpec(shape, np.dtype(dtype), bits)
        payload = codec.encode(voxels(spec, kind), spec)
        record = {
            "codec": name,
            "bitstream_version": codec.version,
            "params": codec.params(),
            "implementation": codec.implementation(),
            "shape": shape,
            "dtype": spec.dtype.str.replace("|", ""),
            "bits": bits,
            "voxels": kind,
            "max_difference": 0 if codec.deterministic else 1,
            "decoded": codec.decode(payload, spec).tobytes().hex(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload)
        path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        yield f"{name}/{path.name}"


def check(path: Path) -> str | None:
    """Return what is wrong with one vector, or None."""
    record = json.loads(path.with_suffix(".json").read_text("utf-8"))
    dtype = np.dtype(record["dtype"])
    spec = ChunkSpec(tuple(record["shape"]), dtype, record["bits"])
    codec: Codec = build(record["codec"], record["params"])
    if codec.version != record["bitstream_version"]:
        return f"is of bitstream version {record['bitstream_version']}, not {codec.version}"
    expected = np.frombuffer(bytes.fromhex(record["decoded"]), dtype).reshape(spec.shape)
    try:
        decoded = codec.decode(path.read_bytes(), spec)
    except MroiError as exc:
        return str(exc)
    if decoded.tobytes() == expected.tobytes():
        return None
    if not record["max_difference"]:
        return "decodes to other voxels"
    difference = np.abs(decoded.astype(np.float64) - expected.astype(np.float64)).max()
    return None if difference <= record["max_difference"] else f"is off by {difference:g}"


def main() -> int:
    """Write what is missing or check what is there; return 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="decode all vectors, write none")
    arguments = parser.parse_args()
    broken = 0
    missing = {entry.name: entry.problem for entry in available() if entry.problem}
    for name in WANTED:
        if name in missing:
            print(f"skipped {name}: {missing[name]}")
            continue
        if not arguments.check:
            for written in write(name):
                print("wrote", written)
        vectors = sorted((VECTORS / name).glob("*.bin"))
        faults = {path: fault for path in vectors if (fault := check(path))}
        for path, fault in faults.items():
            print(f"{name}/{path.name} {fault}", file=sys.stderr)
        if len(vectors) < 3:
            print(f"{name} has {len(vectors)} vectors, not at least 3", file=sys.stderr)
        broken += len(faults) + (len(vectors) < 3)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
