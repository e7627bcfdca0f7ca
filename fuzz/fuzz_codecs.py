"""Property fuzzed: any payload gives a chunk of the right kind or a DecodeError of rule CHK-8."""

import json

import numpy as np
from harness import VECTORS, run

from mroi.codecs import ChunkSpec, Codec, build
from mroi.errors import CodecUnavailableError, DecodeError

PATHS = sorted((VECTORS / "codecs").glob("*/*.bin"))


def kinds() -> list[tuple[Codec, ChunkSpec]]:
    """Return the codec and the kind of chunk of each vector that can be decoded here."""
    found = []
    for path in PATHS:
        record = json.loads(path.with_suffix(".json").read_text("utf-8"))
        codec = build(record["codec"], record["params"])
        spec = ChunkSpec(tuple(record["shape"]), np.dtype(record["dtype"]), record["bits"])
        found.append((codec, spec))
    return found


KINDS = kinds()


def fuzz(data: bytes) -> None:
    """One payload, given to the codec of the vector that its first byte picks."""
    codec, spec = KINDS[data[0] % len(KINDS) if data else 0]
    try:
        chunk = codec.decode(data[1:], spec)
    except CodecUnavailableError:
        return
    except DecodeError as exc:  # anything else escapes, and is a bug
        if exc.rule != "CHK-8":
            raise RuntimeError("the error does not name the broken rule") from exc
    else:
        assert (chunk.shape, chunk.dtype) == (spec.shape, spec.dtype)


if __name__ == "__main__":
    run(fuzz, [bytes([number]) + path.read_bytes() for number, path in enumerate(PATHS)])
