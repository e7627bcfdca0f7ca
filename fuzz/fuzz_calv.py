"""Property fuzzed: any bytes give a chunk of the right kind or a `DecodeError` of the rule CHK-8.

The first byte picks the kind of chunk, the others are the payload.
"""

from __future__ import annotations

import json

import numpy as np
from harness import VECTORS, run

from mroi.codecs.base import ChunkSpec
from mroi.codecs.calv import Calv
from mroi.errors import DecodeError


def kinds() -> list[tuple[ChunkSpec, bytes]]:
    """Return the kind of chunk and the payload of each vector."""
    found = []
    for path in sorted((VECTORS / "calv").glob("*.calv")):
        about = json.loads(path.with_suffix(".json").read_text())
        dtype = np.dtype(about["dtype"])
        volumes = about.get("volumes", 1)
        spec = ChunkSpec(tuple(about["shape"]), dtype, 8 * dtype.itemsize, volumes)
        found.append((spec, path.read_bytes()))
    return found


KINDS = kinds()


def fuzz(data: bytes) -> None:
    """Decode one payload, whole and its first slice alone."""
    if not data:
        return
    spec, _ = KINDS[data[0] % len(KINDS)]
    first = attempt(data[1:], spec, 1)
    chunk = attempt(data[1:], spec, spec.shape[0])
    if chunk is not None:
        assert (chunk.shape, chunk.dtype) == (spec.shape, spec.dtype)
        assert first is not None
        assert first.tobytes() == chunk[:1].tobytes()


def attempt(payload: bytes, spec: ChunkSpec, count: int) -> np.ndarray | None:
    """Return the first slices, or None if the payload is refused."""
    try:
        return Calv(near=20).decode_prefix(payload, spec, count)
    except DecodeError as exc:  # anything else escapes, and is a bug
        if exc.rule != "CHK-8":
            raise
        return None


if __name__ == "__main__":
    seeds = [bytes([i]) + payload for i, (_, payload) in enumerate(KINDS)]
    # Words that put the code of the binary coder at its range.
    seeds += [seed[:-12] + b"\xff" * 12 for seed in seeds]
    seeds += [seed[: len(seed) // 3] + b"\xff" * 24 for seed in seeds]
    run(fuzz, seeds)
