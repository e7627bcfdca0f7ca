"""Runs a fuzz target: guided by atheris, or on mutated seeds, the same ones each time.

    python fuzz/fuzz_parser.py -max_total_time=60 CORPUS     atheris; options of libFuzzer
    python fuzz/fuzz_parser.py --mutations 200               no atheris needed
    python fuzz/fuzz_parser.py FILE                          one input, as atheris saves it

The seeds are the conformance vectors.
"""

from __future__ import annotations

import os
import random
import struct
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

VECTORS = Path(__file__).resolve().parent.parent / "spec" / "vectors"
os.environ["MROI_MODEL_PATH"] = str(VECTORS / "models")

_PREFIX_SIZE = 64
_HEADER_SIZE = 32
_INTERESTING = (
    0,
    1,
    7,
    8,
    63,
    64,
    127,
    128,
    255,
    256,
    2**15,
    2**16,
    2**31,
    2**32 - 1,
    2**40,
    2**63,
)


def run(fuzz: Callable[[bytes], None], seeds: Sequence[bytes]) -> None:
    """Do what the command line says with a target."""
    if sys.argv[1:2] == ["--mutations"]:
        for data in mutations(seeds, int(sys.argv[2])):
            fuzz(data)
    elif len(sys.argv) == 2 and Path(sys.argv[1]).is_file():
        fuzz(Path(sys.argv[1]).read_bytes())
    else:
        guided(fuzz, seeds)


def instrument() -> None:
    """Import the library so that atheris sees which of its branches are taken.

    Happens when this module is imported, which every target does before it imports the library.
    """
    if "--mutations" in sys.argv or find_spec("atheris") is None:
        return
    import atheris

    with atheris.instrument_imports(include=["mroi"]):
        for name in ("mroi.container", "mroi.codecs", "mroi.volume.model"):
            import_module(name)


def guided(fuzz: Callable[[bytes], None], seeds: Sequence[bytes]) -> None:
    """Let atheris look for inputs; the seeds go to the corpus folder that it was given."""
    import atheris

    for folder in [Path(arg) for arg in sys.argv[1:] if not arg.startswith("-")][:1]:
        folder.mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            (folder / f"seed-{zlib.crc32(seed):08x}").write_bytes(seed)
    atheris.Setup(sys.argv, fuzz)
    atheris.Fuzz()


def vectors() -> list[bytes]:
    """Return the conformance vectors that are small enough to change byte by byte."""
    paths = sorted(VECTORS.rglob("*.mroi"))
    return [path.read_bytes() for path in paths if path.stat().st_size < 1 << 16]


def mutations(seeds: Sequence[bytes], count: int) -> Iterator[bytes]:
    """Yield the seeds, then `count` of them with one to four changes."""
    yield from seeds
    rng = random.Random(20260101)
    for _ in range(count):
        data = bytearray(rng.choice(seeds))
        mutate(data, rng)
        yield bytes(data)


def mutate(data: bytearray, rng: random.Random) -> None:
    """Make one to four changes."""
    for _ in range(rng.randint(1, 4)):
        rng.choice(_CHANGES)(data, rng)


def repaired(data: bytes) -> bytes:
    """Return a file with the checksums that its bytes should have, as far as frames can be told.

    Random changes to a file never get past its checksums otherwise.
    """
    file = bytearray(data)
    if len(file) < _PREFIX_SIZE:
        return data
    struct.pack_into("<I", file, 60, zlib.crc32(file[:60]))
    at = _PREFIX_SIZE
    while at + _HEADER_SIZE <= len(file):
        (length,) = struct.unpack_from("<Q", file, at + 8)
        start, stop = at + _HEADER_SIZE, at + _HEADER_SIZE + length
        struct.pack_into("<I", file, at + 24, zlib.crc32(file[start:stop]))
        struct.pack_into("<I", file, at + 28, zlib.crc32(file[at : at + 28]))
        at = -(-stop // 8) * 8
    return bytes(file)


def _flip(data: bytearray, rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _number(data: bytearray, rng: random.Random) -> None:
    size = rng.choice((1, 2, 4, 8))
    if len(data) >= size:
        at = rng.randrange(len(data) // size) * size
        value = rng.choice(_INTERESTING) % (1 << 8 * size)
        data[at : at + size] = value.to_bytes(size, "little")


def _remove(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data) + 1)
    del data[start : start + rng.choice((1, 8, 32, 1 << 30))]


def _repeat(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data) + 1)
    data[start:start] = data[start : start + rng.choice((1, 8, 32, 64))]


_CHANGES = (_flip, _flip, _number, _number, _remove, _repeat)

instrument()
