"""No index of the kernels of ebb leaves its array: compiled with checks, on what is damaged."""

import os
import subprocess
import sys

import pytest

CHILD = """
import numpy as np
from mroi.codecs import ChunkSpec
from mroi.codecs.ebb import Ebb
from mroi.errors import DecodeError

rng = np.random.default_rng(1)
refused = 0
CASES = [
    ((9, 30, 33), "u1", 1), ((5, 9, 12), "<i2", 1), ((3, 1, 60), "<f4", 1), ((8, 12, 14), "<i2", 4),
    ((33, 5, 4), "u1", 1), ((1, 1, 300), "u1", 1), ((4, 4, 4), "u1", 1), ((6, 70, 9), "<u2", 2),
]
for shape, dtype, volumes in CASES:
    z, y, x = np.indices(shape)
    voxels = 60 + 40 * np.sin(y / 3) * np.cos(x / 4) + 2 * z + 6 * rng.normal(0, 1, shape)
    chunk = np.abs(voxels + 50 * (x > shape[2] // 2)).astype(dtype)
    spec = ChunkSpec(shape, chunk.dtype, 8 * chunk.itemsize, volumes)
    for step in (0.5, 4, 20):
        payload = Ebb(step).encode(chunk, spec)
        Ebb().decode(payload, spec)
        for number in range(40):
            damaged = bytearray(payload)
            first = 0 if number % 2 else min(40, len(payload) - 1)
            for _ in range(1 + number % 3):
                damaged[rng.integers(first, len(damaged))] ^= int(rng.integers(1, 256))
            for level in (0, 1 + number % 4):
                try:
                    Ebb().decode_level(bytes(damaged), spec, level)
                except DecodeError:
                    refused += 1
print(refused)
"""


@pytest.mark.slow
def test_no_index_leaves_its_array(tmp_path: object) -> None:
    checked = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", CHILD], env=os.environ | checked, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 500


MEMORY = """
import sys
import numpy as np
from mroi.codecs import ChunkSpec
from mroi.codecs.ebb import Ebb

def status(field):
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(field))

def chunk_of(shape):
    chunk = np.zeros(shape, sys.argv[1])
    chunk[:, ::2, ::7] = 90
    return chunk, ChunkSpec(shape, chunk.dtype, 8 * chunk.itemsize)

shape = tuple(map(int, sys.argv[2].split(",")))
small, spec = chunk_of((shape[0], min(shape[1], 60), min(shape[2], 60)))
Ebb().decode(Ebb(9).encode(small, spec), spec)
chunk, spec = chunk_of(shape)
payload = Ebb(9).encode(chunk, spec)
del chunk
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak begins anew
before = status("VmRSS")
decoded = Ebb().decode(payload, spec)
print(len(payload), spec.size, status("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak of memory")
@pytest.mark.parametrize("shape", ["16,700,700", "3,1500,1500", "1,3000,3000"])
def test_decoding_keeps_to_its_bound(shape: str) -> None:
    command = [sys.executable, "-c", MEMORY, "u1", shape]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    payload, size, taken = map(int, done.stdout.split())
    assert size < taken <= 6 * size + 2 * payload + (64 << 20)
