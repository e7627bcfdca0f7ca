"""Payloads of `ebb` that break one rule of its page, and nothing else.

Nearly all differ in one thing from `SOUND`, a payload of a small array.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cases.broken import Case

SHAPE = (2, 3, 4)
WORDS = 39  # of zeros, that a decoder of `SOUND` takes: each decision is a 1
SIZES = {"u1": 1, "<i2": 2, "<f4": 4}


@dataclass(frozen=True)
class Payload:
    """The fields of a payload, by the names of the page, and of what array it is said to be."""

    shape: tuple[int, int, int] = SHAPE
    dtype: str = "u1"
    kind: int = 1
    flags: int = 0
    count: int | None = None
    top: int = 100
    offset: float = 3
    scale: float = 1
    wavelet: int = 0
    levels: int = 0x45
    step: int = 256
    shifts: tuple[int, ...] = (0,) * 9
    mode: int = 0
    sizes: tuple[int, ...] = (0, 0, WORDS, 0)
    words: int | None = None
    last: bytes = b""
    long_top: bool = False

    def build(self) -> bytes:
        """Return the bytes."""
        count = math.prod(self.shape)
        if self.kind == 0:
            return bytes([0]) + bytes(count * SIZES[self.dtype]) + self.last
        parts = [bytes([self.kind, self.flags]), n7(count if self.count is None else self.count)]
        parts.append(bytes([self.top | 128, 0]) if self.long_top else n7(self.top))
        if self.dtype == "<f4":
            parts.append(struct.pack("<dd", self.offset, self.scale))
        else:
            parts += [n7(int(2 * self.offset)), n7(int(self.scale))]
        parts += [bytes([self.wavelet, self.levels]), n7(self.step)]
        parts.append(struct.pack("<9bB", *self.shifts, self.mode))
        parts += map(n7, self.sizes)
        words = sum(self.sizes) if self.words is None else self.words
        return b"".join(parts) + bytes(2 * words) + self.last


def n7(number: int) -> bytes:
    """Return a number of 7 bits a byte."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


SOUND = Payload()
FLOATS = replace(SOUND, dtype="<f4", flags=2, offset=0.5, scale=0.25)


def cases() -> Iterator[Case]:
    """Yield all of them, each rule at least once."""

    def case(rule: str, name: str, description: str, **changes: object) -> Case:
        return Case(rule, name, description, replace(SOUND, **changes))

    yield case("EBB-1", "kind", "the kind is 2", kind=2)
    raw = replace(SOUND, kind=0)
    yield Case("EBB-2", "raw", "a raw payload has a byte too many", replace(raw, last=b"\0"))
    yield case("EBB-3", "flags", "the flags are 4", flags=4)
    yield case("EBB-3", "floats", "an array of bytes is said to be of floats", flags=2)
    yield case("EBB-3", "series", "an array of one volume is said to be a series", flags=1)
    yield case("EBB-3", "count", "the count is one less than that of the array", count=23)
    yield case("EBB-4", "long", "a number takes a byte too many", long_top=True)
    yield case("EBB-4", "top", "the largest symbol is 65536", top=65536)
    yield case("EBB-4", "type", "the last symbols are beyond the type", offset=200)
    yield case("EBB-4", "scale", "the scale is 0", scale=0)
    yield Case("EBB-4", "finite", "the offset is NaN", replace(FLOATS, offset=math.nan))
    yield Case("EBB-4", "negative", "the scale is negative", replace(FLOATS, scale=-1.0))
    yield case("EBB-5", "wavelet", "the wavelet is 2", wavelet=2)
    yield case("EBB-5", "step", "the step is 0", step=0)
    yield case("EBB-5", "large", "the step is 2^26 + 1", step=(1 << 26) + 1)
    yield case("EBB-5", "shift", "a shift is -65", shifts=(-65, *[0] * 8))
    yield case("EBB-5", "mode", "the mode is 5", mode=5, sizes=(0, 0, WORDS, 3))
    yield case("EBB-5", "taps", "there is a filter without taps", mode=1)
    yield case("EBB-5", "no-mode", "there are taps without a filter", sizes=(0, 0, WORDS, 3))
    yield case("EBB-6", "short", "the last section has a word too few", words=WORDS - 1)
    yield case("EBB-6", "rest", "there is a byte behind the last section", last=b"\0")
    yield case("EBB-7", "words", "a section with bands has 2 words", sizes=(0, 0, 2, 0))
    yield case("EBB-7", "left", "a word of a section is left", sizes=(0, 0, WORDS + 1, 0))
    yield case("EBB-7", "no-bands", "a section without bands has words", sizes=(3, 0, WORDS, 0))
    yield case("EBB-7", "taps-left", "words of the taps are left", mode=1, sizes=(0, 0, WORDS, 99))
    thin = "rows are so short that margins weigh more than voxels"
    yield case("EBB-8", "thin", thin, shape=(1, 1_500_000, 1))
