"""Decoding calv takes memory for the array and little more: measured in a process of its own."""

import pickle
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
from typing_extensions import override

from mroi.codecs.base import ChunkSpec
from mroi.codecs.calv import Calv, codec

CHILD = """
import pickle, sys
from mroi.codecs.calv import Calv

def status(field):
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(field))

small, large = pickle.load(sys.stdin.buffer)
codec = Calv(near=9)  # takes payloads that lose less, too
codec.decode(*small)  # loads what is needed
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak begins anew
before = status("VmRSS")
codec.decode(*large)
print(status("VmHWM") - before)
"""


class Chunk(NamedTuple):
    """A kind of payload, the array that it is of, and how far its voxels may be off."""

    kind: str
    shape: tuple[int, ...]
    dtype: str = "u1"
    volumes: int = 1
    near: int = 0

    @override
    def __str__(self) -> str:
        return f"{self.kind} {self.shape}" + f" near {self.near}" * bool(self.near)


CHUNKS = [
    Chunk("fast", (1, 4000, 4000)),
    Chunk("fast", (1, 1, 9_000_000)),
    Chunk("fast", (2, 2500, 2500)),
    Chunk("fast", (2, 1200, 2500, 3)),
    Chunk("fast", (4, 1500, 1500), volumes=4),
    Chunk("fast", (2, 4, 120_000)),
    Chunk("fast", (2, 2000, 2000), "<f4"),
    Chunk("small", (1, 1500, 3000)),
    Chunk("small", (2, 900, 1000)),
    Chunk("small", (6, 700, 700), "<u2"),
    Chunk("max", (1, 500, 2500)),
    Chunk("max", (2, 500, 550)),
    Chunk("max", (5, 380, 400), "<u2"),
    Chunk("small", (2, 900, 1000), near=2),
    Chunk("small", (1, 900, 1200), "<u2", near=9),
    Chunk("max", (2, 500, 550), near=2),
    Chunk("labels", (1, 2000, 2500)),
    Chunk("labels", (2, 1200, 1500)),
]
TABLES = 4 << 20  # of a decoder, and what the allocator keeps


def encoded(chunk: Chunk, shape: tuple[int, ...]) -> tuple[bytes, ChunkSpec]:
    """Return a payload of the kind, of an array of some shape, and what it is of."""
    voxels = np.zeros(shape, chunk.dtype)
    voxels[:, ::2, ::7] = 90
    voxels[1::2] += 3
    if chunk.near:  # what a lossy payload pays for
        noise = np.random.default_rng(0).integers(0, 60, shape)
        voxels += noise.astype(chunk.dtype)
    spec = ChunkSpec(voxels.shape, voxels.dtype, 8 * voxels.itemsize, chunk.volumes)
    labels = chunk.kind == "labels"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_LITTLE", 0)
        patch.setattr(codec, "_orders", lambda *_: [chunk.volumes])
        patch.setattr(Calv, "_may_be_labels", lambda *_: labels)
        if labels:
            patch.setattr(Calv, "_kinds", lambda *_: [])
        level = "fast" if labels else chunk.kind
        payload = Calv(level, chunk.near).encode(voxels, spec)
    assert bool(payload[0] & codec._NEAR) == bool(chunk.near)  # whether it is lossy (CLV-19)
    return payload, spec


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak of memory")
@pytest.mark.parametrize("chunk", CHUNKS, ids=str)
def test_memory_is_that_of_the_array_and_what_the_page_says(chunk: Chunk) -> None:
    slices, rows, columns, *samples = chunk.shape
    tiny = encoded(chunk, (slices, min(rows, 40), min(columns, 2000), *samples))
    payload, spec = encoded(chunk, chunk.shape)
    command = [sys.executable, "-c", CHILD]
    given = pickle.dumps((tiny, (payload, spec)))
    taken = int(subprocess.run(command, input=given, capture_output=True, check=True).stdout)
    is_series, kind = divmod(payload[0] & ~codec._NEAR, codec._SERIES)
    assert tiny[0][0] == payload[0]
    assert codec.Kind(kind).name.lower() == chunk.kind
    assert is_series == (chunk.volumes > 1)
    work = codec._memory(codec.Kind(kind), chunk.shape, is_series=bool(is_series))
    ordered = spec.size if is_series else 0  # the same slices, as the array has them
    assert 0.95 * spec.size < taken < spec.size + max(work, ordered) + len(payload) + TABLES
    assert taken < 4 * spec.size + codec._FREE + len(payload) + TABLES


def test_what_takes_more_is_of_another_kind() -> None:
    """The last chunk of a large volume may be one whose planes are much of it."""
    chunk = np.zeros((2, 1500, 1600), "u1")
    chunk[:, ::3, ::5] = 7
    spec = ChunkSpec(chunk.shape, chunk.dtype, 8)
    payload = Calv("max").encode(chunk, spec)
    assert payload[0] in {codec.Kind.FAST, codec.Kind.LABELS}
    assert Calv().decode(payload, spec).tobytes() == chunk.tobytes()


def test_no_kind_at_all_is_raw() -> None:
    """A few rows, so long that no decoder could keep what it must."""
    chunk = np.resize(np.arange(7, dtype="u1"), (2, 1, 1_800_000))
    spec = ChunkSpec(chunk.shape, chunk.dtype, 8)
    payload = Calv("small").encode(chunk, spec)
    assert payload[0] == codec.Kind.RAW
    assert Calv().decode(payload, spec).tobytes() == chunk.tobytes()
