"""What a network of sines gives for its bytes, beside other codecs at few bits a voxel.

    python benchmarks/sirenmri.py VOLUME [--setting width=64,steps=800,bits=7 ...]

Prints bytes, bits a voxel, PSNR (the peak is the range of the voxels) and CPU seconds of one chunk
of all slices; `jpeg2000` encodes slice by slice. Set OPENBLAS_NUM_THREADS=1 to compare times.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.codecs import ChunkSpec, parse

SETTINGS = (
    "width=64,steps=800,bits=6",
    "width=64,steps=800,bits=7",
    "width=64,steps=800",
    "width=64,steps=800,bits=10",
    "width=64,steps=800,bits=7,frequency=15",
    "width=64,steps=800,bits=7,frequency=60",
    "width=256,steps=150,bits=10",
)
OTHERS = (
    *(f"wavelet3d:step={step}" for step in (80, 120, 160, 240)),
    *(f"ebb:step={step}" for step in (80, 120, 160, 240)),
    *(f"jpeg2000:psnr={psnr}" for psnr in (22, 24, 26, 28, 30)),
)


def measure(setting: str, volume: NDArray[Any]) -> str:
    """Return a line of the table."""
    codec = parse(setting)
    chunks = [volume] if codec.max_slices is None else [plane[None] for plane in volume]
    size, error, encode, decode = 0, 0.0, 0.0, 0.0
    for chunk in chunks:
        spec = ChunkSpec(chunk.shape, chunk.dtype, 8 * chunk.itemsize)
        start = time.process_time()
        payload = codec.encode(chunk, spec)
        between = time.process_time()
        decoded = codec.decode(payload, spec)
        decode += time.process_time() - between
        encode += between - start
        size += len(payload)
        error += float(((decoded.astype(np.float64) - chunk) ** 2).sum())
    peak = float(volume.max()) - float(volume.min())
    psnr = 10 * math.log10(peak**2 * volume.size / error)
    rate = 8 * size / volume.size
    return f"| `{setting}` | {size:,} | {rate:.4f} | {psnr:.2f} | {encode:.1f} | {decode:.1f} |"


def main() -> None:
    """Measure all settings on one volume."""
    import nibabel

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("volume", type=Path)
    parser.add_argument("--setting", nargs="*", default=SETTINGS, help="of sirenmri")
    arguments = parser.parse_args()
    image: Any = nibabel.load(arguments.volume)
    voxels = np.asanyarray(image.dataobj.get_unscaled())
    volume = np.ascontiguousarray(voxels.reshape(*voxels.shape[:3], -1)[..., 0].T)
    print("| codec | bytes | bits a voxel | PSNR, dB | encode, s | decode, s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for setting in (*(f"sirenmri:{words}" for words in arguments.setting), *OTHERS):
        print(measure(setting, volume), flush=True)


if __name__ == "__main__":
    main()
