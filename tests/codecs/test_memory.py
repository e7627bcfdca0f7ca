"""A payload of some bytes takes no more memory than its chunk allows: `Codec.decode` says how much.

Chunks are nearly constant, so their payloads are tiny, and of the narrowest type, where what a
decoder keeps for each voxel weighs most.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mroi.codecs import parse

CHILD = """
import json, sys
from pathlib import Path
import numpy as np
from mroi.codecs import ChunkSpec, Pipeline, Window, parse

def memory(field):
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith(field)).split()[1]) << 10

text, dtype, shape, window = json.loads(sys.argv[1])
filters = (Window(0.5, 3.0, 8),) if window else ()
pipeline = Pipeline(parse(text), filters)
spec = ChunkSpec(tuple(shape), np.dtype(dtype), 8 * np.dtype(dtype).itemsize)
if sys.argv[2] == "encode":
    chunk = np.full(spec.shape, 3, spec.dtype)
    chunk.flat[-1] = 4
    sys.stdout.buffer.write(pipeline.encode(chunk, spec))
    sys.exit()
small = ChunkSpec((min(shape[0], 9), 64, 64, *shape[3:]), spec.dtype, spec.bits)
pipeline.decode(pipeline.encode(np.full(small.shape, 3, spec.dtype), small), small)  # imports
payload = sys.stdin.buffer.read()
Path("/proc/self/clear_refs").write_text("5")  # the peak is that from here on
before = memory("VmRSS:")
chunk = pipeline.decode(payload, spec)
print(json.dumps([len(payload), spec.size, memory("VmHWM:") - before]))
"""

PLANE, COLOUR, SLAB = (1, 3500, 3500), (1, 2000, 2000, 3), (16, 880, 880)

CASES = [
    ("zstd", "u1", PLANE),
    ("zstd:delta=true", "u1", PLANE),
    ("deflate:delta=true", "<i2", PLANE),
    ("jpeg2000", "u1", PLANE),
    ("jpeg2000", "u1", COLOUR),
    ("jpeg2000:psnr=50", "i1", PLANE),
    ("htj2k", "u1", PLANE),
    ("htj2k:step=1", "u1", COLOUR),
    ("jpegls", "u1", PLANE),
    ("jpegls", "<u2", COLOUR),
    ("jpegxl:effort=1", "u1", PLANE),
    ("jpegxl:effort=3", "u1", PLANE),
    ("jpegxl:distance=1", "u1", PLANE),
    ("heif", "u1", PLANE),
    ("heif:quality=50", "u1", COLOUR),
    ("pcodec", "u1", SLAB),
    ("zfp", "<f4", SLAB),
    ("jpeg2000-3d", "u1", SLAB),
    ("jpeg2000-3d", "u1", PLANE),
    ("jpeg2000-3d", "<i2", (2, 1800, 1800)),
    ("wavelet3d", "u1", SLAB),
    ("wavelet3d", "u1", (3, 2000, 2000)),
    ("wavelet3d", "u1", (2, 2, 3_000_000)),
    ("wavelet3d", "<f4", SLAB),
]


def peak(text: str, dtype: str, shape: tuple[int, ...], *, window: bool = False) -> list[int]:
    """Return the bytes of payload and chunk, and those that decoding took."""
    case = json.dumps([text, dtype, shape, window])
    payload = subprocess.run(
        [sys.executable, "-c", CHILD, case, "encode"], check=True, stdout=subprocess.PIPE
    ).stdout
    done = subprocess.run(
        [sys.executable, "-c", CHILD, case, "decode"],
        check=True,
        input=payload,
        stdout=subprocess.PIPE,
    )
    numbers: list[int] = json.loads(done.stdout)
    return numbers


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="not measured here")
@pytest.mark.parametrize(("text", "dtype", "shape"), CASES, ids=str)
def test_decoding_keeps_to_its_bound(text: str, dtype: str, shape: tuple[int, ...]) -> None:
    if problem := type(parse(text)).probe():
        pytest.skip(problem)
    payload, chunk, taken = peak(text, dtype, shape)
    assert taken <= 6 * chunk + 2 * payload + (8 << 20), taken / chunk


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="not measured here")
@pytest.mark.parametrize("dtype", ["u1", "<f4"])
def test_filters_keep_to_it_as_well(dtype: str) -> None:
    payload, chunk, taken = peak("zstd", dtype, PLANE, window=True)
    assert taken <= 6 * chunk + 2 * payload + (8 << 20), taken / chunk
