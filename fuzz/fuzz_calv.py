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
    for path in sorted((VECTORS / "calv").glob("*.json")):
        about = json.loads(path.read_text())
        dtype = np.dtype(about["dtype"])
        spec = ChunkSpec(tuple(about["shape"]), dtype, 8 * dtype.itemsize)
        found.append((spec, path.with_suffix(".calv").read_bytes()))
    return found


KINDS = kinds()


def fuzz(data: bytes) -> None:
    """Decode one payload, whole and its first slice alone."""
    if not data:
        return
    spec, _ = KINDS[data[0] % len(KINDS)]
    try:
        first = Calv().decode_prefix(data[1:], spec, 1)
    except DecodeError as exc:  # anything else escapes, and is a bug
        assert exc.rule == "CHK-8"
        first = None
    try:
        chunk = Calv().decode(data[1:], spec)
    except DecodeError as exc:
        assert exc.rule == "CHK-8"
    else:
        assert (chunk.shape, chunk.dtype) == (spec.shape, spec.dtype)
        assert first is not None
        assert first.tobytes() == chunk[:1].tobytes()


if __name__ == "__main__":
    run(fuzz, [bytes([i]) + payload for i, (_, payload) in enumerate(KINDS)])
