"""Mutated payloads for the native decoders, in workers that may die; counts what came of them.

    python fuzz/native.py --seconds 25                all of them, so long each
    python fuzz/native.py --seconds 25 --codec heif   one

Properties: a worker does not die, no payload takes more memory than `Codec.decode` allows, a
payload is refused by an error of the rule CHK-8, and what is decoded does not depend on what
memory held before: two workers, whose memory is filled with different bytes (glibc), give the same
voxels. What breaks one is saved in ``fuzz/findings``.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from harness import mutate

from mroi.codecs import ChunkSpec, Codec, isolation, parse
from mroi.errors import CodecError, DecodeError

FINDINGS = Path(__file__).resolve().parent / "findings"
SPARE = 64 << 20  # of `Codec.decode`, for what does not depend on the chunk

# Settings, and the kinds of chunks: shape, type, significant bits.
PLANES = (((1, 20, 24), "u1", 8), ((1, 70, 66), "<u2", 12), ((1, 33, 31, 3), "u1", 8))
SIGNED = (*PLANES, ((1, 40, 21), "<i2", 16))
SLABS = (((5, 20, 24), "<i2", 12), ((2, 17, 15), "u1", 8), ((3, 12, 13, 3), "u1", 8))
FLOATS = (((5, 9, 11), "<f4", 32), ((1, 1, 40), "<f8", 64), ((1, 9, 8), "<f4", 32))
NUMBERS = (*SLABS, *FLOATS, ((1, 30, 40), "<i8", 64))
Kinds = tuple[tuple[tuple[int, ...], str, int], ...]
CODECS: dict[str, tuple[tuple[str, Kinds], ...]] = {
    "zstd": (("", NUMBERS), ("delta=true,level=19", SLABS)),
    "deflate": (("", NUMBERS), ("delta=true,level=9", SLABS)),
    "jpeg2000": (("", SIGNED), ("psnr=50", SIGNED), ("ratio=20", SIGNED)),
    "jpeg2000-3d": (("", SLABS), ("psnr=50", SLABS)),
    "htj2k": (("", (*SIGNED, ((1, 30, 20), "<i4", 32))), ("step=4", SIGNED)),
    "jpegls": (("", PLANES), ("near=3", PLANES)),
    "heif": (("", PLANES), ("quality=50", PLANES)),
    "jpegxl": (
        ("", (*PLANES, ((1, 19, 23), "<f4", 32))),
        ("effort=1", PLANES),
        ("effort=8", PLANES),
        ("distance=1", PLANES),
    ),
    "pcodec": (("", NUMBERS), ("level=1", NUMBERS)),
    "zfp": (("", FLOATS), ("tolerance=0.5", FLOATS)),
}

# Where the bytes leave our code for the library.
ENTRIES = {
    "jpeg2000": ("mroi.codecs.jpeg.openjpeg", "decode"),
    "jpeg2000-3d": ("mroi.codecs.jpeg.openjpeg", "decode"),
    "htj2k": ("imagecodecs", "htj2k_decode"),
    "jpegls": ("imagecodecs", "jpegls_decode"),
    "heif": ("pillow_heif", "open_heif"),
    "jpegxl": ("imagecodecs", "jpegxl_decode"),
    "zfp": ("imagecodecs", "zfp_decode"),
    "pcodec": ("pcodec.wrapped", "FileDecompressor"),
}


_FOREIGN = re.compile(r": \w+(Error|Exception)\(")  # an exception that the codec let through
COLUMNS = ("payloads", "refused before the library", "by it", "decoded", "deaths", "other findings")


@dataclass(frozen=True, slots=True)
class Seed:
    """A payload as the encoder writes it."""

    codec: Codec
    spec: ChunkSpec
    payload: bytes


class ReachedError(BaseException):
    """The library was about to see the bytes."""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=25)
    parser.add_argument("--codec", choices=CODECS, action="append")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print(f"| codec | {' | '.join(COLUMNS)} | peak of the bound |")
    print("| --- |" + " ---: |" * (len(COLUMNS) + 1))
    findings = 0
    for name in args.codec or CODECS:
        counts, peak = Fuzzer(name, args.seed).run(args.seconds)
        done = [counts[kind] for kind in ("before", "refused", "decoded", "died")]
        other = sum(counts[kind] for kind in ("memory", "foreign", "differs", "slow"))
        findings += counts["died"] + other
        row = " | ".join(map(str, [sum(done), *done, other]))
        print(f"| `{name}` | {row} | {peak:.2f} |", flush=True)
    return bool(findings)


class Fuzzer:
    """Mutates the payloads of one codec and keeps the counts.

    Attributes
    ----------
    counts : Counter
        Payloads refused before the library saw them, by it, decoded, and findings by kind.
    peak : float
        Largest share of the memory allowed that a payload took.
    """

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.random = random.Random(seed)
        self.seeds = list(_seeds(name))
        self.counts: Counter[str] = Counter()
        self.peak = 0.0
        self._workers = [_worker(fill) for fill in (0x55, 0xAA)]

    def run(self, seconds: float) -> tuple[Counter[str], float]:
        for seed in self.seeds:  # imports, buffers of the library
            for worker in self._workers:
                worker.decode(_call(seed), memoryview(seed.payload), seed.spec)
        stop = time.monotonic() + seconds
        while time.monotonic() < stop:
            seed = self.random.choice(self.seeds)
            self._try(seed, self._mutated(seed))
        for worker in self._workers:
            worker.stop()
        return self.counts, self.peak

    def _mutated(self, seed: Seed) -> bytes:
        """Return the payload with some changes: anywhere, among the headers, or spliced."""
        data = bytearray(seed.payload)
        match self.random.randrange(8):
            case 0:
                other = self.random.choice(self.seeds).payload
                at = self.random.randrange(len(data))
                data[at:] = other[self.random.randrange(len(other)) :]
            case 1 | 2:
                head = bytearray(data[:200])
                mutate(head, self.random)
                data[:200] = head
            case 3 | 4:
                start = self.random.randrange(len(data))
                tail = bytearray(data[start:])
                for k in range(min(len(tail), self.random.choice((1, 4, 16)))):
                    tail[k] = self.random.randrange(256)
                data[start:] = tail
            case 5:
                start = len(data) // 3
                for _ in range(self.random.randint(1, 8)):
                    data[self.random.randrange(start, len(data))] = self.random.randrange(256)
            case _:
                mutate(data, self.random)
        return bytes(data)

    def _try(self, seed: Seed, payload: bytes) -> None:
        """Give a payload to our checks, and what passes them to the workers."""
        try:
            with _no_library(self.name):
                seed.codec.decode(payload, seed.spec)
        except DecodeError as exc:
            self.counts["before"] += 1
            if exc.rule != "CHK-8":
                self._found("foreign", seed, payload, exc.message)
            return
        except ReachedError:
            pass
        first = self._decode(0, seed, payload)
        if first is not None:
            self.counts["decoded"] += 1
            second = self._decode(1, seed, payload)
            if second is None or first.tobytes() != second.tobytes():
                self._found("differs", seed, payload)

    def _decode(self, number: int, seed: Seed, payload: bytes) -> np.ndarray[Any, Any] | None:
        worker = self._workers[number]
        before = _memory(worker, "VmRSS:", reset=True)
        begun = time.monotonic()
        try:
            return worker.decode(_call(seed), memoryview(payload), seed.spec)
        except DecodeError as exc:
            kind = "refused" if worker.is_usable else "died"
            if kind == "died":
                self._found("died", seed, payload, exc.message)
                self._workers[number] = _worker((0x55, 0xAA)[number])
            else:
                self.counts[kind if number == 0 else "again"] += 1
            if exc.rule != "CHK-8" or _FOREIGN.search(exc.message):
                self._found("foreign", seed, payload, exc.message)
            return None
        finally:
            if worker.is_alive():
                taken = _memory(worker, "VmHWM:") - before
                share = taken / (6 * seed.spec.size + 2 * len(payload) + SPARE)
                self.peak = max(self.peak, share)
                if share > 1:
                    self._found("memory", seed, payload, f"{taken} bytes")
            if time.monotonic() - begun > 10:
                self._found("slow", seed, payload)

    def _found(self, kind: str, seed: Seed, payload: bytes, says: str = "") -> None:
        self.counts[kind] += 1
        FINDINGS.mkdir(exist_ok=True)
        path = FINDINGS / f"{self.name}-{kind}-{zlib.crc32(payload):08x}.bin"
        path.write_bytes(payload)
        print(f"{path.name}: {seed.codec} {seed.spec} {says}", file=sys.stderr)


def _seeds(name: str) -> Iterator[Seed]:
    for settings, kinds in CODECS[name]:
        codec = parse(f"{name}:{settings}")
        for shape, dtype, bits in kinds:
            spec = ChunkSpec(shape, np.dtype(dtype), bits)
            if codec.refuses(spec) is None:
                for smooth in (True, False):
                    with suppress(CodecError):
                        yield Seed(codec, spec, codec.encode(_voxels(spec, smooth=smooth), spec))


def _voxels(spec: ChunkSpec, *, smooth: bool) -> np.ndarray[Any, Any]:
    """Return bumps with noise, or bumps above a flat background."""
    place = np.indices(spec.shape)
    waves = np.sin(place[-1] / 3 + place[0]) * np.cos(place[1] / 4)
    top = 2 ** min(spec.bits - (spec.dtype.kind == "i"), 20) - 1
    if smooth:
        values = np.clip(waves, 0, 1) * top
    else:
        values = (0.4 + 0.3 * waves + 0.3 * np.random.default_rng(3).random(spec.shape)) * top
    return np.ascontiguousarray(values.astype(spec.dtype))


@contextmanager
def _no_library(name: str) -> Iterator[None]:
    """Raise `ReachedError` where the bytes would leave our code."""
    if name not in ENTRIES:
        raise ReachedError
    module, attribute = ENTRIES[name]
    library = import_module(module)
    saved: Callable[..., Any] = getattr(library, attribute)

    class Reached:
        def __init__(self, *_: object, **__: object) -> None:
            raise ReachedError

        new = __init__

    setattr(library, attribute, Reached)
    try:
        yield
    finally:
        setattr(library, attribute, saved)


def _call(seed: Seed) -> isolation.Call:
    return isolation.Call(seed.codec, "decode", seed.spec)


def _worker(fill: int) -> Any:
    """Return a worker whose C library fills memory that it hands out, and returns all of it."""
    settings = {"perturb": fill, "mmap_threshold": 1 << 16, "trim_threshold": 1 << 16}
    tunables = (f"glibc.malloc.{name}={value}" for name, value in settings.items())
    os.environ["GLIBC_TUNABLES"] = ":".join(tunables)
    return isolation._Worker()  # noqa: SLF001 (two of them, and each known)


def _memory(worker: Any, field: str, *, reset: bool = False) -> int:
    """Return the memory of a worker, in bytes; `reset` sets its peak to what it has now."""
    folder = Path(f"/proc/{worker._process.pid}")  # noqa: SLF001
    try:
        if reset:
            (folder / "clear_refs").write_text("5")
        lines = (folder / "status").read_text().splitlines()
    except OSError:
        return 0
    return int(next((line.split()[1] for line in lines if line.startswith(field)), "0")) << 10


if __name__ == "__main__":
    sys.exit(main())
