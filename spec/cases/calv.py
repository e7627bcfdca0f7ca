"""Payloads of `calv` that break one rule of its page, and nothing else.

The reference decoder makes them: a `Writer` stands in for its coder, answers the decisions as a
case wants them, and encodes the answers. Nearly all differ in one thing from the payloads in
`SOUND`, which are of a small array of zeros.
"""

from __future__ import annotations

import contextlib
import math
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from unittest import mock

from cases.broken import Case
from reference import calv

SHAPE = (1, 3, 4)
TOP = 9
# Answers to `frequency`.
FULL = (*(1,) * 13, 0)  # 4096
HALVES = (*(1,) * 12, 0, 0, 1, 0, 0)  # 2048 and 2048
TOO_MUCH = (*(1,) * 12, 0, 2047, 0, *(1,) * 9, 0, 0)  # 4095 and 2


class DoneError(Exception):
    """All answers are given."""


class Writer(calv.Coder):
    """An encoder in the place of the decoder: it is told the answers that the decoder looks for.

    Parameters
    ----------
    answers : iterable of int
        Numbers, bits and integers at even odds, as the decoder asks for them.
    """

    def __init__(self, answers: Iterable[int]) -> None:
        self.answers = deque(answers)
        self.trace = calv.ignore
        self.low, self.range = 0, (1 << 48) - 1
        self.code = self.at = 0
        self.written: list[int] = []

    def answer(self) -> int:
        """Return the next answer."""
        if not self.answers:
            raise DoneError
        return self.answers.popleft()

    def bit(self, probability: int) -> int:
        """Encode a decision."""
        bound = (self.range >> 16) * min(max(probability, 32), 65504)
        bit = self.answer()
        self.low += 0 if bit else bound
        self.range = bound if bit else self.range - bound
        if self.range < 1 << 32:
            self.put()
        return bit

    def uniform(self, bits: int) -> int:
        """Encode an integer at even odds."""
        value = self.answer() if bits else 0
        self.range >>= bits
        self.low += value * self.range
        if self.range < 1 << 32:
            self.put()
        return value

    def number(self, contexts: list[list[int]], first: int) -> int:
        """Encode a number of up to 20 bits, bit by bit."""
        value = self.answer()
        length = value.bit_length()
        bits = [1] * length + [0] * (length < 20)
        rest = value - (1 << max(length - 1, 0))
        if length > 17:
            bits += [rest >> 16, rest & 65535]
        elif length > 1:
            bits.append(rest)
        self.answers.extendleft(reversed(bits))
        return super().number(contexts, first)

    def put(self) -> None:
        """Write the top word of the low end of the interval."""
        if self.low >> 48:
            at = len(self.written) - 1
            while self.written[at] == 65535:
                self.written[at] = 0
                at -= 1
            self.written[at] += 1
        self.written.append(self.low >> 32 & 65535)
        self.low = (self.low & 0xFFFFFFFF) << 16
        self.range <<= 16

    def finish(self) -> None:
        """Leave the decoder."""
        raise DoneError


def coded(kind: int, answers: Iterable[int], shape: tuple[int, ...] = SHAPE) -> bytes:
    """Return what the coder of a kind reads: answers to what its decoder asks until it is done."""
    writer = Writer(answers)
    with (
        mock.patch.object(calv, "Coder", return_value=writer),
        contextlib.suppress(DoneError, calv.BrokenError),
    ):
        calv.SECTIONS[kind](bytes(4), shape, TOP, calv.Runs(shape[0], 2), calv.ignore)
    for _ in range(3):
        writer.put()
    return struct.pack(f"<{len(writer.written)}H", *writer.written)


def side(
    *,
    taps: tuple[int, ...] = (0,) * 9,
    shift: int = 0,
    split: int = 0,
    cuts: tuple[int, ...] = (0, 0),
    tables: tuple[int, ...] = FULL + FULL,
    sizes: tuple[int, ...] = (2, 2, 2),
) -> bytes:
    """Return side information of fast: by default, the coefficient of N alone and one token."""
    counts = [part for size in sizes for part in (0, size)]
    return coded(1, (*taps, shift, split, *cuts, *tables, *counts))


def fast(information: bytes, *words: int) -> bytes:
    """Return a section of fast; by default the three streams have the words 1 and 0."""
    words = words or (1, 0) * 3
    size = struct.pack("<I", len(information))
    return size + information + struct.pack(f"<{len(words)}H", *words)


def integers(*values: int) -> bytes:
    """Return the bytes of a map of values."""
    data = bytearray()
    for value in values:
        rest = value
        while rest > 127:
            data.append(rest & 127 | 128)
            rest >>= 7
        data.append(rest)
    return bytes(data)


MAP = integers(0, 1, TOP, 0)  # offset 0, step 1, no gaps


@dataclass(frozen=True)
class Payload:
    """A payload of one section, and the array that it is said to be of.

    Parameters
    ----------
    kind, section, values, count, after
        First byte, the section, the map of values, the count of samples, what follows the section.
    shape, dtype
        Of the array.
    keep
        Bytes that are kept, from the first, if it is cut.
    """

    kind: int
    section: bytes
    values: bytes = MAP
    count: int | None = None
    after: bytes = b""
    shape: tuple[int, ...] = SHAPE
    dtype: str = "u1"
    keep: int | None = None

    def build(self) -> bytes:
        """Return its bytes."""
        count = math.prod(self.shape) if self.count is None else self.count
        head = bytes([self.kind]) + count.to_bytes(6, "little") + self.values
        section = struct.pack("<I", len(self.section)) + self.section
        return (head + section + self.after)[: self.keep]


FAST = Payload(1, fast(side()))
HEAD = (0, 2, 0, 0, 0, 0)  # of small and max: no background, a reach of 1 with the coefficient 0
SMALL = Payload(2, coded(2, (*HEAD, *(1,) * 12)))
MAX = Payload(3, coded(3, (*HEAD, *(1,) * 12)))
LABELS = Payload(4, coded(4, (1, 1, 1)))
SOUND = (FAST, SMALL, MAX, LABELS)
"""Payloads of zeros that break nothing."""


def cases() -> list[Case]:
    """Return the cases in the order of the rules."""
    found = (
        *_payloads(), *_values(), *_coders(), *_sides(), *_streams(), *_heads(), *_numbers(),
        *_large(),
    )  # fmt: skip
    return sorted(found, key=lambda case: int(case.rule.rpartition("-")[2]))


def _payloads() -> Iterator[Case]:
    raw = Payload(0, b"", b"")
    yield Case("CLV-1", "empty", "no byte at all", replace(raw, keep=0))
    yield Case("CLV-1", "kind", "kind 5", replace(FAST, kind=5))
    yield Case("CLV-1", "series-raw", "a series of kind 0", replace(raw, kind=8))
    yield Case("CLV-1", "series-kind", "a series of kind 5", replace(FAST, kind=13))
    yield Case("CLV-1", "lossy-kind", "a lossy payload of kind 1", replace(FAST, kind=17))
    yield Case("CLV-1", "lossy-labels", "a lossy payload of kind 4", replace(LABELS, kind=20))
    yield Case("CLV-1", "bit", "32 more than kind 2", replace(SMALL, kind=34))
    yield Case("CLV-18", "series", "a series in an array of one volume", replace(FAST, kind=9))
    yield Case("CLV-2", "short", "10 bytes of 12", raw)
    yield Case("CLV-2", "long", "13 bytes of 12", replace(raw, after=bytes(3)))
    yield Case("CLV-3", "count", "one sample more than the array has", replace(FAST, count=13))
    yield Case("CLV-3", "cut", "the count is cut", replace(FAST, keep=6))
    yield Case("CLV-4", "after", "a byte after the last section", replace(FAST, after=b"\0"))
    size = len(FAST.build())
    yield Case("CLV-4", "cut", "the last section is cut", replace(FAST, keep=size - 2))
    size -= len(FAST.section)
    yield Case("CLV-4", "size", "the size of a section is cut", replace(FAST, keep=size - 1))
    constant = replace(FAST, values=integers(0, 1, 0, 0))
    yield Case("CLV-4", "constant", "a section where all samples are equal", constant)


def _values() -> Iterator[Case]:
    for name, description, values in (
        ("long", "step takes a byte too many", b"\0\x81\0" + integers(TOP, 0)),
        ("11-bytes", "an integer of 11 bytes", b"\x80" * 10 + b"\1" + integers(1, TOP, 0)),
    ):
        yield Case("CLV-5", name, description, replace(FAST, values=values))
    cut = replace(FAST, values=b"\0\x81", keep=9)
    yield Case("CLV-5", "cut", "the payload ends within an integer", cut)
    for name, description, *values in (
        ("top", "top is 65536", 0, 1, 65536, 0),
        ("step-0", "step is 0", 0, 0, TOP, 0),
        ("gaps", "more gaps than top", 0, 1, 1, 2, 1, 1, 1, 1),
        ("length", "a gap of length 0", 0, 1, TOP, 1, 0, 1),
        ("left-out", "a gap that leaves out nothing", 0, 1, TOP, 1, 1, 0),
        ("lengths", "a gap after top", 0, 1, TOP, 1, TOP + 1, 1),
        ("above", "values up to 256 in uint8", 2 * 247, 1, TOP, 0),
        ("below", "values from -1 in uint8", 1, 1, TOP, 0),
    ):
        yield Case("CLV-6", name, description, replace(FAST, values=integers(*values)))
    wide = integers(0, (1 << 40) + 1, 0, 0)
    step = replace(FAST, values=wide, keep=7 + len(wide), dtype="<u8")
    yield Case("CLV-6", "step", "step is above 2^40", step)
    wide = integers(0, 1 << 40, 1, 1, 1, 1)
    span = replace(FAST, values=wide, dtype="<u8")
    yield Case("CLV-6", "span", "values 2^41 apart", span)
    for rule, name, description, step, near in (
        ("CLV-19", "zero", "near is 0", 1, 0),
        ("CLV-19", "half", "near is more than half of top", 1, TOP // 2 + 1),
        ("CLV-20", "more", "near is 1, the parameter 0", 1, 1),
    ):
        values = integers(0, step, TOP, 0, near)
        yield Case(rule, name, description, replace(SMALL, kind=18, values=values))
    cut = replace(SMALL, kind=18, values=integers(0, 1, TOP, 0) + b"\x81", keep=12)
    yield Case("CLV-5", "near", "the payload ends within near", cut)
    inexact = replace(FAST, values=integers(2 * ((1 << 24) - 8), 1, TOP, 0), dtype="<f4")
    yield Case("CLV-6", "float", "2^24 + 1 in float32", inexact)


def _coders() -> Iterator[Case]:
    spoilt = (
        ("CLV-7", "short", "two words", lambda _: bytes(4)),
        ("CLV-7", "odd", "half a word", lambda words: words + b"\0"),
        ("CLV-8", "more", "a word that is not read", lambda words: words + b"\0\0"),
        ("CLV-8", "code", "the code does not end as 0", lambda words: words[:-1] + b"\7"),
    )
    for rule, name, description, spoil in spoilt:
        for payload, kind in zip(SOUND, ("fast", "small", "max", "labels"), strict=True):
            section = fast(spoil(side())) if kind == "fast" else spoil(payload.section)
            yield Case(rule, f"{kind}-{name}", description, replace(payload, section=section))
    yield Case("CLV-8", "fast-less", "a word of side information is missing", _fast(side()[:-2]))


def _fast(information: bytes, *words: int) -> Payload:
    return replace(FAST, section=fast(information, *words))


def _sides() -> Iterator[Case]:
    size, rest = len(side()) + 13, FAST.section[4:]
    yield Case("CLV-9", "size", "no whole size", replace(FAST, section=bytes(2)))
    beyond = replace(FAST, section=struct.pack("<I", size) + rest)
    yield Case("CLV-9", "side", "side information ends after the section", beyond)
    odd = replace(FAST, section=FAST.section + b"\0")
    yield Case("CLV-9", "odd", "half a word after the streams", odd)
    yield Case("CLV-9", "more", "a word after the streams", _fast(side(), *(1, 0) * 3, 0))
    yield Case("CLV-9", "less", "the last stream has no words", _fast(side(), 1, 0, 1, 0))
    for rule, name, description, information in (
        ("CLV-10", "sum", "coefficients 20000 and -15904", side(taps=(40000, *(0,) * 8))),
        ("CLV-11", "shift", "shift is 21", side(shift=21)),
        ("CLV-11", "split", "split is 1024", side(split=1024)),
        ("CLV-11", "cut", "a cut at bin 1024", side(cuts=(1, 1023))),
        ("CLV-11", "contexts", "65 contexts", side(cuts=(62, *(0,) * 62, 1, 0))),
        ("CLV-12", "sum", "frequencies of 4095 and 2", side(tables=TOO_MUCH + FULL)),
        ("CLV-12", "count", "128 frequencies of 0", side(tables=(0,) * 128)),
    ):
        yield Case(rule, name, description, _fast(information))


def _streams() -> Iterator[Case]:
    state = _fast(side(), 1, 0, 1, 1, 1, 0)
    yield Case("CLV-13", "state", "a stream ends in the state 65537", state)
    more = _fast(side(sizes=(2, 3, 2)), 1, 0, 1, 0, 0, 1, 0)
    yield Case("CLV-13", "more", "a stream has a word that is not taken", more)
    one = _fast(side(sizes=(2, 1, 2)), 1, 0, 1, 1, 0)
    yield Case("CLV-13", "one", "a stream has one word", one)
    none = _fast(side(sizes=(2, 0, 2)), 1, 0, 1, 0)
    yield Case("CLV-13", "none", "a stream has no words", none)
    less = _fast(side(tables=FULL + HALVES))
    yield Case("CLV-13", "less", "a stream takes a word that it does not have", less)
    below = _fast(side(tables=(*FULL, 0, *FULL)))
    yield Case("CLV-13", "below", "the first symbol is -1", below)
    above = _fast(side(tables=(*FULL, *(0,) * 20, *FULL)))
    yield Case("CLV-13", "above", "the first symbol is top + 1", above)


def _heads() -> Iterator[Case]:
    for kind, name in ((2, "small"), (3, "max")):
        for what, description, head in (
            ("background", "background is 65536", (65537,)),
            ("no-plane", "a reach of 0 in the plane", (0, 1, 0, 0, 0)),
            ("plane", "a reach of 26 in the plane", (0, 27, 0, 0, 0)),
            ("slice", "a reach of 17 in the slice before", (0, 2, 18, 0, 0)),
            ("taps", "more than 127 taps", (0, 26, 17, 17, 17)),
            ("coefficient", "a coefficient is 32768", (0, 2, 0, 0, 0, 65536)),
        ):
            payload = Payload(kind, coded(kind, head))
            yield Case("CLV-14", f"{name}-{what}", description, payload)


def _numbers() -> Iterator[Case]:
    for kind, name in ((2, "small"), (3, "max")):
        below = coded(kind, (*HEAD, 0, 1, 0))  # not 0, negative, quotient 0
        yield Case("CLV-15", f"{name}-below", "the first symbol is -1", Payload(kind, below))
        above = coded(kind, (*HEAD, 0, 0, *(1,) * TOP, 0))
        yield Case("CLV-15", f"{name}-above", "the first symbol is top + 1", Payload(kind, above))
    label = Payload(4, coded(4, (0, 0, 1, 0, 1, 0)))
    yield Case("CLV-16", "label", "a label of top + 1", label)
    row = (1, 1, 3)
    place = Payload(4, coded(4, (0, 3), row), shape=row)
    yield Case("CLV-16", "place", "a run of 3 voxels ends at place 3", place)


def _large() -> Iterator[Case]:
    for kind, name, shape in (
        (1, "fast", (2, 1, 160_000)),
        (2, "small", (1, 1, 17_000)),
        (3, "max", (1, 1, 3_100)),
        (4, "labels", (2, 1, 1_800_000)),
    ):
        payload = Payload(kind, bytes(6), shape=shape)
        yield Case("CLV-17", name, "planes are too large", payload)
