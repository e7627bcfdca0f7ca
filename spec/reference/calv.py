"""A slow decoder of `calv`, written from ``spec/codecs/calv.md`` alone; standard library only.

    values = decode(payload, shape, kind, size, volumes=1, near=0)

`shape` is that of the array, `kind` and `size` those of its type: "u", "i" or "f", and bytes of a
sample; `volumes` says how many volumes its slices are of, `near` is the parameter of the codec.
Values are given flat, in C order.
`BrokenError` is raised for a payload that breaks a rule.

A callback `trace` is told what is decoded, as it is: the head of a section, every decision, and
every voxel with what led to it. ``tools/calv_vectors.py`` makes traces for other decoders of it.
"""

from __future__ import annotations

import itertools
import math
import operator
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

EXACT = {4: 1 << 24, 8: 1 << 53}


Trace = Callable[..., None]


def ignore(_what: str, **_about: object) -> None:
    """Trace nothing."""


class BrokenError(Exception):
    """The payload breaks the rule named first."""


def need(sound: bool, rule: str) -> None:  # noqa: FBT001
    """Refuse a payload that breaks a rule."""
    if not sound:
        raise BrokenError(rule)


class Runs(NamedTuple):
    """Slices of a run, how many predictors the kind 1 has for them at most, and the field near."""

    length: int
    kinds: int
    near: int = 0


def decode(
    payload: bytes,
    shape: tuple[int, ...],
    kind: str,
    size: int,
    volumes: int = 1,
    near: int = 0,
    trace: Trace = ignore,
) -> list[float]:
    """Return the samples of a chunk."""
    count = math.prod(shape)
    need(len(payload) > 0, "CLV-1")
    (lossy, series), coded = divmod(payload[0] // 8, 2), payload[0] % 8
    need(coded <= 4 and series <= (coded > 0) and lossy <= (coded in {2, 3}), "CLV-1")
    need(not series or volumes > 1, "CLV-18")
    if payload[0] == 0:
        need(len(payload) == 1 + count * size, "CLV-2")
        code = {"u1": "B", "i1": "b", "u2": "H", "i2": "h", "u4": "I", "i4": "i", "u8": "Q",
                "i8": "q", "f4": "f", "f8": "d"}[f"{kind}{size}"]  # fmt: skip
        return list(struct.unpack(f"<{count}{code}", payload[1:]))
    need(int.from_bytes(payload[1:7], "little") == count and len(payload) >= 7, "CLV-3")
    values, at = value_table(payload, 7, kind, size)
    lost = 0
    if lossy:
        lost, at = integer(payload, at)
        need(lost >= 1 and 2 * lost < len(values), "CLV-19")
        need(lost * integer(payload, integer(payload, 7)[1])[0] <= near, "CLV-20")
    if len(values) == 1:
        need(at == len(payload), "CLV-4")
        return values * count
    need(memory(coded, series, *shape[:3]) <= 3 * count * size + (1 << 26), "CLV-17")
    runs = Runs(volumes, 3, lost) if series else Runs(shape[0], 2, lost)
    samples = shape[3] if len(shape) == 4 else 1
    chunk = [0] * count
    for sample in range(samples):
        need(at + 4 <= len(payload), "CLV-4")
        start = at + 4
        at = start + int.from_bytes(payload[at:start], "little")
        need(at <= len(payload), "CLV-4")
        section = payload[start:at]
        symbols = SECTIONS[coded](section, shape[:3], len(values) - 1, runs, trace)
        chunk[sample::samples] = [values[n] for n in symbols]
    need(at == len(payload), "CLV-4")
    if not series:
        return chunk
    # Slice i of volume v was coded as slice i * volumes + v.
    plane = count // shape[0]
    places = (i * volumes + v for v in range(volumes) for i in range(shape[0] // volumes))
    return [value for k in places for value in chunk[k * plane : (k + 1) * plane]]


def memory(kind: int, series: int, slices: int, rows: int, columns: int) -> int:
    """Return the bytes that a decoder of a kind may need for planes and matrices."""
    if (kind, slices, rows) == (1, 1, 1):  # a list
        rows, columns = -(-columns // 1024), 1024
    held = rows if slices > 1 else min(rows, 112)
    kept = rows if slices > 2 else 0
    if kind == 1:
        return 72 * min(slices, 2 + series) * (-(-held // 16) + 2) * (max(columns, 48) + 4)
    if kind == 4:
        return 2 * min(slices, 2) * (rows + 10) * (columns + 16)
    lanes = -(-columns // 64) * 64
    matrices = 30 * lanes * (kept + 128) if kind == 2 else 147 * lanes * (kept + 150)
    planes = min(slices, 4) + (kind + 1) * min(slices, 2)
    return 4 * planes * (held + 10) * (columns + 16) + matrices


def integer(payload: bytes, at: int) -> tuple[int, int]:
    """Return an integer of 7 bits a byte, and where it ends."""
    number = 0
    for place in range(11):
        need(at < len(payload) and place < 10, "CLV-5")
        byte = payload[at]
        at += 1
        number |= (byte & 127) << 7 * place
        if byte < 128:
            need(place == 0 or byte > 0, "CLV-5")
            break
    return number, at


def value_table(payload: bytes, at: int, kind: str, size: int) -> tuple[list[int], int]:
    """Return the value of each symbol, and where the map ends."""

    def varint() -> int:
        nonlocal at
        number, at = integer(payload, at)
        return number

    zigzag, step, top, gaps = varint(), varint(), varint(), varint()
    offset = zigzag // 2 if zigzag % 2 == 0 else -(zigzag + 1) // 2
    need(top <= 65535 and gaps <= top and 0 < step <= 1 << 40, "CLV-6")
    runs = [(varint(), varint()) for _ in range(gaps)]
    left_out: dict[int, int] = {}
    number = 0
    for length, gap in runs:
        need(length > 0 and gap > 0, "CLV-6")
        number += length
        left_out[number] = gap
    need(number <= top, "CLV-6")
    need(step * (top + sum(gap for _, gap in runs)) <= 1 << 40, "CLV-6")
    values = []
    value = offset
    for symbol in range(top + 1):
        value += step * left_out.get(symbol, 0)
        values.append(value)
        value += step
    if kind == "f":
        sound = max(abs(values[0]), abs(values[-1])) <= EXACT[size]
    else:
        low = -(1 << 8 * size - 1) if kind == "i" else 0
        sound = low <= values[0] and values[-1] < low + (1 << 8 * size)
    need(sound, "CLV-6")
    return values, at


# --- neighbours ---


class Slab:
    """Numbers or errors of a slab, with the margins of the specification."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.slices, self.rows, self.columns = shape
        self.data = [[[0] * self.columns for _ in range(self.rows)] for _ in range(self.slices)]

    def __call__(self, s: int, y: int, x: int) -> int:
        """Return what is at a place, or in the margin."""
        y = min(y, self.rows - 1)
        if x < 0:  # the value above the first of the row, as far up as the row is in a margin, too
            y, x = y - 1, 0
        if y < 0:
            return 0
        return self.data[s][y][min(x, self.columns - 1)]

    def places(self) -> Iterator[tuple[int, int, int]]:
        """Yield the places in the order of coding."""
        for s in range(self.slices):
            for y in range(self.rows):
                for x in range(self.columns):
                    yield s, y, x


# --- binary coder ---


class Coder:
    """The decoder of decisions and of even bits."""

    def __init__(self, section: bytes, trace: Trace) -> None:
        need(len(section) >= 6 and len(section) % 2 == 0, "CLV-7")
        self.trace = trace
        self.words = list(struct.unpack(f"<{len(section) // 2}H", section))
        start = self.words[0] << 32 | self.words[1] << 16 | self.words[2]
        self.code = min(start, (1 << 48) - 2)
        self.range = (1 << 48) - 1
        self.at = 3

    def refresh(self) -> None:
        """Take another word while the range is small."""
        if self.range < 1 << 32:
            word = self.words[self.at] if self.at < len(self.words) else 0
            self.code = self.code << 16 | word
            self.range <<= 16
            self.at += 1

    def bit(self, probability: int) -> int:
        """Return a decision that is 1 with a probability of so many 65536ths."""
        bound = (self.range >> 16) * min(max(probability, 32), 65504)
        result = int(self.code < bound)
        if result:
            self.range = bound
        else:
            self.range -= bound
            self.code -= bound
        self.refresh()
        self.trace("decision", probability=probability, bit=result)
        return result

    def uniform(self, bits: int) -> int:
        """Return an integer of so many bits."""
        part = self.range >> bits
        value = min(self.code // part, (1 << bits) - 1)
        self.code = min(self.code - value * part, part - 1)
        self.range = part
        self.refresh()
        self.trace("uniform", bits=bits, value=value)
        return value

    def adaptive(self, contexts: list[list[int]], index: int) -> int:
        """Return a decision in a context, which learns from it."""
        bit = self.bit(contexts[index][0])
        learn(contexts[index], bit)
        return bit

    def number(self, contexts: list[list[int]], first: int) -> int:
        """Return a number of up to 20 bits."""
        length = 0
        while length < 20 and self.adaptive(contexts, first + length):
            length += 1
        if length < 2:
            return length
        low = length - 1
        if low > 16:
            high = self.uniform(low - 16)
            return (1 << low - 16 | high) << 16 | self.uniform(16)
        return 1 << low | self.uniform(low)

    def state(self) -> dict[str, int]:
        """Return what the next decision depends on."""
        return {"code": self.code, "range": self.range, "words": self.at}

    def finish(self) -> None:
        """Check that the code ends where its words do."""
        need(self.at == len(self.words) and self.code == 0, "CLV-8")


def fresh(count: int) -> list[list[int]]:
    """Return contexts that have seen nothing: a probability, and a count of decisions."""
    return [[32768, 0] for _ in range(count)]


def learn(context: list[int], bit: int) -> None:
    """Move the probability of a context towards what was decided."""
    probability, count = context
    context[0] = probability + ((65535 * bit - probability) * (655360 // (10 * count + 16)) >> 16)
    context[1] = min(count + 1, 255)


def signed(number: int) -> int:
    """Return the integer that a number stands for: 0, -1, 1, -2..."""
    return number >> 1 if number % 2 == 0 else -(number + 1 >> 1)


# --- fast ---

PLANE = ((0, 0, 1), (0, 1, 0), (0, 1, 1), (0, 1, -1), (0, 0, 2), (0, 2, 0), (0, 1, 2), (0, 1, -2),
         (0, 2, 1), (0, 2, -1))  # fmt: skip
ABOVE = ((1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 0, -1), (1, -1, 0), (1, 1, 1), (1, 1, -1), (1, -1, 1),
         (1, -1, -1))  # fmt: skip
FAST_TAPS = (PLANE, PLANE + ABOVE, (*PLANE, *ABOVE, (2, 0, 0)))
NOISE = ((2, 0, 0, 1), (2, 0, 1, 0), (1, 0, 1, 1), (1, 0, 1, -1), (1, 0, 0, 2), (1, 0, 2, 0))
NOISE_ABOVE = ((2, 1, 0, 0), (1, 1, 0, -1), (1, 1, -1, 0), (1, 1, 0, 1), (1, 1, 1, 0))


def activity_of(noise: Slab, s: int, y: int, x: int, *, alone: bool) -> int:
    """Return the weighted sum of the errors around a place, or of those in its slice alone."""
    near = sum(k * noise(s, y - up, x - left) for k, _, up, left in NOISE)
    if alone:
        return 2 * near
    return near + sum(k * noise(s - 1, y - up, x - left) for k, _, up, left in NOISE_ABOVE)


class Stream:
    """The tokens of every 16th row: a state, and words that it takes."""

    def __init__(self, words: tuple[int, ...], trace: Trace) -> None:
        need(len(words) >= 2, "CLV-13")
        self.trace = trace
        self.words = words
        self.state = words[0] << 16 | words[1]
        self.at = 2

    def refill(self) -> None:
        """Take another word if the state is small."""
        if self.state < 65536:
            need(self.at < len(self.words), "CLV-13")
            self.state = self.state << 16 | self.words[self.at]
            self.at += 1

    def number(self, table: list[tuple[int, int, int]]) -> int:
        """Return the n of an error: a token, and raw bits if it is large."""
        token, frequency, place = table[self.state & 4095]
        self.state = frequency * (self.state >> 12) + place
        self.refill()
        self.trace("token", token=token, frequency=frequency)
        if token < 32:
            return token
        bits = (token - 32 >> 3) + 2
        number = (8 + (token & 7)) << bits | self.state & (1 << bits) - 1
        self.state >>= bits
        self.refill()
        self.trace("uniform", bits=bits, value=number & (1 << bits) - 1)
        return number


def decode_fast(
    section: bytes, shape: tuple[int, ...], top: int, runs: Runs, trace: Trace
) -> list[int]:
    """Return the symbols of a section of the kind 1."""
    need(len(section) >= 4, "CLV-9")
    start = 4 + int.from_bytes(section[:4], "little")
    need(start <= len(section) and (len(section) - start) % 2 == 0, "CLV-9")
    count = math.prod(shape)
    alone = shape[:2] == (1, 1) and count > 1024
    rows = -(-count // 1024) if alone else shape[1]
    if alone:
        shape, runs = (rows, 1, 1024), Runs(1, 1)
    coder = Coder(section[4:start], trace)
    contexts = fresh(420)
    coefficients = fast_coefficients(coder, contexts, min(runs.length, runs.kinds))
    shift, split = coder.number(contexts, 21), coder.number(contexts, 42)
    need(shift <= 20 and split < 1024, "CLV-11")
    context_of, contexts_used = fast_map(coder, contexts, split)
    tables = [fast_table(coder, contexts) for _ in range(contexts_used)]
    sizes = [coder.number(contexts, 105) << 16 | coder.uniform(16) for _ in range(min(rows, 16))]
    coder.finish()
    words = struct.unpack(f"<{(len(section) - start) // 2}H", section[start:])
    need(sum(sizes) == len(words), "CLV-9")
    ends = list(itertools.accumulate(sizes, initial=0))
    streams = [Stream(words[a:b], trace) for a, b in itertools.pairwise(ends)]
    trace("head", coefficients=coefficients, shift=shift, split=split, sizes=sizes, tables=tables)
    symbols, noise = Slab(shape), Slab(shape)
    for s, y, x in itertools.islice(symbols.places(), count):
        before = s % runs.length  # slices that predict it
        kind = min(before, len(coefficients) - 1)
        exact = sum(
            c * symbols(s - back, y - up, x - left)
            for c, (back, up, left) in zip(coefficients[kind], FAST_TAPS[kind], strict=True)
        )
        exact = min(max(exact, 0), top << 12)
        activity = activity_of(noise, s, y, x, alone=before == 0)
        near = {symbols(s, y, x - 1), symbols(s, y - 1, x), symbols(s, y - 1, x + 1)}
        if before > 0:
            near.add(symbols(s - 1, y, x))
        sort = 4 if len(near) == 1 else exact + 2048 >> 10 & 3
        context = context_of[min(activity >> shift, 1023)][sort]
        stream = streams[(s if alone else y) % 16]
        number = stream.number(tables[context])
        value = (exact + 2048 >> 12) + signed(number)
        need(0 <= value <= top, "CLV-13")
        symbols.data[s][y][x] = value
        noise.data[s][y][x] = min(abs((value << 12) - exact) >> 8, 65535)
        trace(
            "voxel", at=(s, y, x), symbols=symbols, before=before, activity=activity, exact=exact,
            context=context, n=number, symbol=value, noise=noise.data[s][y][x],
            state=stream.state, words=stream.at,
        )  # fmt: skip
    for stream in streams:
        need(stream.state == 65536 and stream.at == len(stream.words), "CLV-13")
    return flat(symbols)[:count]


def fast_coefficients(coder: Coder, contexts: list[list[int]], kinds: int) -> list[list[int]]:
    """Return the coefficients of the first slice of a run, of the second, and of the others."""
    result = []
    for taps in FAST_TAPS[:kinds]:
        others = [signed(coder.number(contexts, 0)) for _ in taps[1:]]
        coefficients = [others[0], 4096 - sum(others), *others[1:]]
        need(sum(map(abs, coefficients)) <= 32767, "CLV-10")
        result.append(coefficients)
    return result


def fast_map(coder: Coder, contexts: list[list[int]], split: int) -> tuple[list[list[int]], int]:
    """Return the context of each bin and part (4: flat), and how many contexts there are."""
    result = [[0] * 5 for _ in range(1024)]
    context = 0
    lists: list[tuple[int, int, tuple[int, ...]]]
    lists = [(0, split, (part,)) for part in range(4)] if split else []
    for low, high, sorts in [*lists, (split, 1024, (0, 1, 2, 3)), (0, 1024, (4,))]:
        cuts = []
        before = low
        for _ in range(coder.number(contexts, 63)):
            before += 1 + coder.number(contexts, 84)
            need(before < high, "CLV-11")
            cuts.append(before)
        for a_bin in range(low, high):
            for sort in sorts:
                result[a_bin][sort] = context + sum(cut <= a_bin for cut in cuts)
        context += len(cuts) + 1
        need(context <= 64, "CLV-11")
    return result, context


def fast_table(coder: Coder, contexts: list[list[int]]) -> list[tuple[int, int, int]]:
    """Return for each slot its token, the frequency of it, and the place of the slot within it."""
    frequencies: list[int] = []
    while sum(frequencies) < 4096:
        need(len(frequencies) < 128, "CLV-12")
        near = 0
        if frequencies:
            near = frequencies[-1]
        if len(frequencies) > 1:
            near = near + frequencies[-2] + 1 >> 1
        frequencies.append(fast_frequency(coder, contexts, near.bit_length()))
        need(sum(frequencies) <= 4096, "CLV-12")
    return [
        (token, frequency, place)
        for token, frequency in enumerate(frequencies)
        for place in range(frequency)
    ]


def fast_frequency(coder: Coder, contexts: list[list[int]], length: int) -> int:
    """Return a frequency, where that of a likely one has so many bits."""
    first = 126 + 21 * length
    if length == 0 or coder.adaptive(contexts, first):
        i = first + 1
        while length < 13 and coder.adaptive(contexts, i):
            length += 1
            i += 1
    else:
        i = first + 20
        length -= 1
        while length > 0 and coder.adaptive(contexts, i):
            length -= 1
            i -= 1
    return length if length < 2 else 1 << length - 1 | coder.uniform(length - 1)


# --- small and max ---

# of each correction: the reach of its taps, rows of a tile, tiles to share what slices left, limit
CORRECTIONS = (((8, 4, 1, -1), 4, 2, 3 << 18), ((17, 10, 5, -1), 16, 1, 1 << 19))
STRETCH = [round(256 * math.log((2 * i + 1) / (8191 - 2 * i))) for i in range(4096)]
SQUASH = [round(65536 / (1 + math.exp((2816 - i) / 256))) for i in range(5633)]
DETAIL = [0.0, *((4.5 + level % 4) * 2 ** (level // 4 + 1) for level in range(1, 64))]
GAIN = [round(65536 / math.sqrt((3 * v / 224) ** 1.5 + 30)) for v in DETAIL]


def clip(value: int, low: int, high: int) -> int:
    """Return the value, or the limit that it is beyond."""
    return max(low, min(value, high))


def wrapped(value: int, bits: int = 32) -> int:
    """Return a value modulo 2**bits, as a signed integer."""
    half = 1 << bits - 1
    return (value + half) % (2 * half) - half


def level_of(activity: int) -> int:
    """Return the level of an activity: four to each octave."""
    if activity < 8:
        return 0
    length = activity.bit_length()
    return min(63, 4 * (length - 4) + (activity >> length - 3 & 3))


def logarithm(activity: int) -> int:
    """Return L of an activity."""
    v = activity if activity < 4096 else 256 * min(activity >> 8, 4095) + 128
    return round(1024 * math.log(v + 16))


def ratio(error: int, activity: int) -> int:
    """Return 0 to 3: an error against those around it."""
    return sum((28 * error > activity, 14 * error > activity, 14 * error > 2 * activity))


def taps_of(reach: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Return the taps of a reach, that of N first."""
    side = math.isqrt(reach[0])
    taps = [(0, 1, 0), *((0, 0, c) for c in range(1, side + 1))]
    for back, distance in enumerate(reach):
        side = math.isqrt(max(distance, 0))
        near = [
            (r * r + c * c, r, c)
            for r in range(-side, side + 1)
            for c in range(-side, side + 1)
            if r * r + c * c <= distance and (back > 0 or (r > 0 and (r, c) != (1, 0)))
        ]
        taps += [(back, r, c) for _, r, c in sorted(near)]
    return taps


def solve(matrix: list[int], n: int) -> list[int]:
    """Return the weights of n taps; the matrix is its lower triangle, row by row."""
    b = [matrix[i * (i + 1) // 2 :][: i + 1] for i in range(n + 1)]
    most = max(b[i][i] for i in range(n + 1))
    ridge = 40000 + (most >> 17)
    for i in range(n + 1):
        b[i][i] = wrapped(b[i][i] + ridge, 64)
    z = 0
    while wrapped(most + ridge, 64) >> z >= 1 << 30:
        z += 1
    c: list[list[int]] = [[] for _ in range(n + 1)]  # row i: C[i][0], C[i][1]...
    inverse = []
    for j in range(n):
        row = c[j][:]
        v = [
            wrapped(((b[i][j] >> z) << 30) - sum(map(operator.mul, c[i], row)), 64)
            for i in range(j, n + 1)
        ]
        root = math.isqrt(min(max(v[0], 1 << 42), 1 << 60))
        inverse.append((1 << 60) // root)
        c[j].append(root)
        for i in range(j + 1, n + 1):
            c[i].append(clip(v[i - j] >> 30, -root, root) * inverse[j] >> 30)
    x = [0] * n
    for i in range(n - 1, -1, -1):
        rest = (c[n][i] << 16) - sum(c[k][i] * x[k] for k in range(i + 1, n))
        x[i] = clip(wrapped(rest, 64) >> 16, -4 * c[i][i], 4 * c[i][i]) * inverse[i] >> 44
    return [value + 8 >> 4 for value in x]


class Correction:
    """What the neighbours said of the errors of the stored predictor, in tiles of a slice."""

    def __init__(
        self,
        shape: tuple[int, ...],
        run: int,
        profile: tuple[tuple[int, ...], int, int, int],
    ) -> None:
        reach, self.height, self.shared, self.limit = profile
        self.run = run
        self.taps = [[t for t in taps_of(reach)[1:] if t[0] <= s] for s in range(run)]
        self.rows, self.columns = shape[1:]
        self.across = -(-self.columns // 8)
        size = (len(self.taps[-1]) + 1) * (len(self.taps[-1]) + 2) // 2
        groups = -(-self.rows // (self.height * self.shared))
        self.before = [[[0] * size for _ in range(self.across)] for _ in range(groups)]  # P
        self.further: list[list[int]] = []  # F of each tile column
        self.sums: list[list[list[int]]] = []  # S of each row of tiles of the slice, and tile
        self.weights: list[list[int]] = []
        self.seen: list[list[list[int]]] = []  # a of each voxel of a tile

    def begin(self, s: int, y: int) -> None:
        """Solve for the weights of a row of tiles."""
        t = s % self.run
        n = len(self.taps[t])
        nothing = [[0] * ((n + 1) * (n + 2) // 2)] * self.across
        if y == 0:
            self.sums = [nothing, nothing]
            self.further = nothing
        k = 1 if t == 0 else 2
        self.further = [
            [f + a >> k for f, a in zip(*pair, strict=True)]
            for pair in zip(self.further, self.sums[-2], strict=True)
        ]
        before = self.before[y // (self.height * self.shared)] if t >= 2 else nothing
        q = [
            [a + f + p for a, f, p in zip(*three, strict=True)]
            for three in zip(self.sums[-1], self.further, before, strict=True)
        ]
        q = [nothing[0], *q, nothing[0]]
        self.weights = [
            solve([w + 2 * v + e for w, v, e in zip(*q[i : i + 3], strict=True)], n)
            for i in range(self.across)
        ]
        self.seen = [[] for _ in range(self.across)]

    def learn(self, place: tuple[int, int, int], d: list[int], miss: int, level: int) -> None:
        """Remember a voxel, and sum at the end of a row of tiles."""
        s, y, x = place
        if y >= 2:
            most = max(abs(miss) >> 8, *map(abs, d))
            g = min(GAIN[level], self.limit // (most + 1))
            self.seen[x // 8].append([*(t * g + 128 >> 8 for t in d), miss * g + 32768 >> 16])
        if x + 1 < self.columns or (y + 1 < self.rows and (y + 1) % self.height):
            return
        size = len(d) + 1
        self.sums.append([])
        for voxels in self.seen:
            a = list(zip(*voxels, strict=True)) if voxels else [()] * size
            self.sums[-1].append(
                [sum(map(operator.mul, a[i], a[j])) for i in range(size) for j in range(i + 1)]
            )
        group = y // (self.height * self.shared)
        if s % self.run >= 2 and (y + 1 == self.rows or (y + 1) % (self.height * self.shared) == 0):
            tile_rows = self.sums[2 + group * self.shared :]
            for i, old in enumerate(self.before[group]):
                new = [5 * p >> 3 for p in old]
                for tiles in tile_rows:
                    new = [p + a for p, a in zip(new, tiles[i], strict=True)]
                self.before[group][i] = new


class Adaptive:
    """The decisions of the kinds 2 and 3, and what they have learnt."""

    def __init__(self, coder: Coder, models: int, experts: int, mixed: int) -> None:
        self.coder = coder
        self.models, self.experts, self.mixed = models, experts, mixed
        self.contexts: dict[tuple[int, ...], list[int]] = {}
        self.shares: dict[tuple[int, int], list[int]] = {}
        self.keys: list[tuple[int, ...]] = []
        self.level = self.slope = 0

    def decide(self, decision: int, part: int, parts: int) -> int:
        """Return a decision on the error, of which every context learns."""
        mixing = decision < self.mixed
        used = [
            self.contexts.setdefault((i, decision, *key), [32768, 0])
            for i, key in enumerate(self.keys[: self.models if mixing else 1])
        ]
        if not mixing:
            bit = self.coder.bit(used[0][0])
        else:
            shares = self.shares.setdefault(
                (decision, self.level >> 4), [85536 // self.experts] * self.experts
            )
            t = [STRETCH[probability >> 4] for probability, _ in used]
            if self.experts > self.models:
                t.append(STRETCH[min(4096 * max(part, 0) // (parts + 1), 4095)])
            dot = sum(map(operator.mul, t, shares)) >> 16
            probability = SQUASH[clip(dot + 2816, 0, 5632)]
            bit = self.coder.bit(probability)
            for i in range(self.experts):
                change = t[i] * 4 * (65535 * bit - probability) + 131072 >> 18
                shares[i] = wrapped(shares[i] + change)
        for context in used:
            learn(context, bit)
        return bit

    def beyond(self, x: int) -> int:
        """Return F(x), the probability of an error beyond x."""
        return SQUASH[clip(2816 - (x * self.slope >> 16), 0, 5632)]

    def error(self, fraction: int) -> int:
        """Return the error of a voxel."""
        shift = max(0, self.level - 21 >> 2)
        unit = int(shift == 0)
        below, above = self.beyond(fraction), self.beyond(256 * unit - fraction)
        if unit and self.decide(3 * fraction >> 8, 65536 - below - above, 65536):
            return 0
        negative = self.decide(3 if unit else 3 * fraction >> 8, below, below + above)
        d = fraction if negative else 256 * unit - fraction
        quotient = 0
        step = 1 << shift
        while quotient < 24:
            least = d + 256 * quotient * step
            part, parts = self.beyond(least + 256 * step), self.beyond(least)
            if not self.decide(4 + quotient, part, parts):
                break
            quotient += 1
        few = min(quotient, 2)
        if quotient == 24:
            length = min(self.coder.uniform(5), 16)
            quotient = 23 + (1 << length) + self.coder.uniform(length)
        least = d + 256 * quotient * step
        remainder = 0
        for i in range(min(shift, 2)):
            step >>= 1
            end = self.beyond(least + 512 * step)
            part, parts = self.beyond(least + 256 * step) - end, self.beyond(least) - end
            bit = self.decide(28 + few if i == 0 else 31 + 2 * few + remainder, part, parts)
            remainder = 2 * remainder + bit
            least += 256 * step * bit
        if shift > 2:
            remainder = remainder << shift - 2 | self.coder.uniform(shift - 2)
        m = (quotient << shift) + remainder
        return -1 - m if negative else m + unit


def stored_predictor(
    coder: Coder, contexts: list[list[int]], run: int
) -> tuple[list[list[tuple[int, int, int]]], list[list[int]]]:
    """Return the taps, and their coefficients, of the first slices of a run."""
    reach = tuple(coder.number(contexts, 21) - 1 for _ in range(4))
    need(1 <= reach[0] <= 25 and max(reach[1:]) <= 16, "CLV-14")
    every = taps_of(reach)
    need(len(every) < 128, "CLV-14")
    taps = [[tap for tap in every if tap[0] <= s] for s in range(min(run, 4))]
    coefficients = []
    for several in taps:
        coded = [coder.number(contexts, 42) for _ in several[1:]]
        need(max(coded) <= 65535, "CLV-14")
        others = [signed(number) for number in coded]
        coefficients.append([4096 - sum(others), *others])
    return taps, coefficients


def decode_small(
    section: bytes, shape: tuple[int, ...], top: int, runs: Runs, trace: Trace
) -> list[int]:
    """Return the symbols of a section of the kind 2."""
    return decode_adaptive(section, shape, top, runs, (1, 3, 3, 8), trace)


def decode_max(
    section: bytes, shape: tuple[int, ...], top: int, runs: Runs, trace: Trace
) -> list[int]:
    """Return the symbols of a section of the kind 3."""
    return decode_adaptive(section, shape, top, runs, (2, 6, 7, 37), trace)


def with_room(guess: int, near: int, background: int, top: int, *, mask: int) -> int:
    """Return the guess that the error is added to: another one if the payload is lossy."""
    if near == 0:
        return guess
    width = 2 * near + 1
    if background >= 0 and not mask and abs(guess - background) <= near:
        return background
    if mask and abs(guess - background) < width:
        above = guess >= background or background < width
        guess = background + (width if above else -width)
    return max(near, min(guess, top - near))


def corrected(guess: int, error: int, near: int, top: int) -> int:
    """Return the symbol that is meant by an error."""
    value = guess + error * (2 * near + 1)
    return clip(value, 0, top) if near > 0 else value


def decode_adaptive(  # noqa: PLR0915  # one voxel is one long sentence
    section: bytes,
    shape: tuple[int, ...],
    top: int,
    runs: Runs,
    profile: tuple[int, int, int, int],
    trace: Trace,
) -> list[int]:
    """Return the symbols of a section of the kinds 2 and 3."""
    run, near, width = runs.length, runs.near, 2 * runs.near + 1
    coder = Coder(section, trace)
    contexts = fresh(63)
    background = coder.number(contexts, 0) - 1
    need(background <= 65535, "CLV-14")
    taps, coefficients = stored_predictor(coder, contexts, run)
    trace("head", background=background, taps=taps, coefficients=coefficients)
    corrections = [Correction(shape, run, about) for about in CORRECTIONS[: profile[0]]]
    model = Adaptive(coder, *profile[1:])
    masks = fresh(256)
    bias, seen = [0] * 1024, [0] * 1024
    history = newest = 0
    symbols, noise = Slab(shape), Slab(shape)
    missed = [Slab(shape) for _ in range(1 + profile[0])]  # noise of each p[j]
    for s, y, x in symbols.places():
        t = s % run  # slices before it that predict it
        w, n = symbols(s, y, x - 1), symbols(s, y - 1, x)
        ne, nw = symbols(s, y - 1, x + 1), symbols(s, y - 1, x - 1)
        around, order = [w, n, nw, ne], [w, n, ne, nw]
        u = n
        if t > 0:
            u = symbols(s - 1, y, x)
            above = [u, symbols(s - 1, y, x + 1), symbols(s - 1, y + 1, x)]
            around += above
            order += above

        # prediction
        stored = sum(
            c * symbols(s - back, y - r, x - left)
            for c, (back, r, left) in zip(coefficients[min(t, 3)], taps[min(t, 3)], strict=True)
        )
        p = [clip(wrapped(stored) >> 4, 0, top << 8)]
        d = []
        for correction in corrections:
            if x == 0 and y % correction.height == 0:
                correction.begin(s, y)
            d.append([symbols(s - b, y - r, x - c) - n for b, r, c in correction.taps[t]])
            change = wrapped(sum(map(operator.mul, correction.weights[x // 8], d[-1])))
            p.append(clip(p[0] + (change >> 4), 0, top << 8))
        activity = activity_of(noise, s, y, x, alone=t == 0)
        level = level_of(activity)
        logarithms = [logarithm(activity_of(slab, s, y, x, alone=t == 0)) for slab in missed]
        mean, best = p[0], logarithms[0]
        for one, its in zip(p[1:], logarithms[1:], strict=True):
            share = SQUASH[clip(its - best + 2816, 0, 5632)]
            mean = one + ((mean - one) * share >> 16)
            best = min(best, its)
        signs = sum((value > mean >> 8) << i for i, value in enumerate(around))
        k = 128 * (level >> 3) + signs
        final = mean + (bias[k] * (65536 // (seen[k] + 1)) >> 16)
        final = clip(final, 0, top << 8) + 128
        guess, fraction = final >> 8, 128 + ((final & 255) - 128) // width

        # background, or error
        mask = 0
        if background >= 0:
            mask = sum((value == background) << i for i, value in enumerate(order))
            if t == 0 and mask:
                mask += 128
        if mask and coder.adaptive(masks, mask):
            value = background
            error = (value - guess + near) // width
        else:
            guess = with_room(guess, near, background, top, mask=mask)
            detail = abs(w - nw) + abs(n - nw) + abs(n - ne) + abs(u - n)
            detail = 64 * detail // width
            grade = sum((2 * detail > activity, *(detail > activity << i for i in range(4))))
            model.level, model.slope = level, 24466000 // (activity + 34)
            model.keys = [
                (level,),
                (level >> 2, (mean >> 8) >> max(0, top.bit_length() - 4), fraction >> 7),
                (level >> 1, history),
                (level >> 2, signs),
                (level >> 1, *(ratio(noise(s, *at), activity) for at in ((y, x - 1), (y - 1, x)))),
                (level >> 1, ratio(noise(s - 1, y, x), activity) if t > 0 else 0, grade),
            ]
            error = model.error(fraction)
            value = corrected(guess, error, near, top)
        need(0 <= value <= top, "CLV-15")
        symbols.data[s][y][x] = value

        # learning
        exact = value << 8
        noise.data[s][y][x] = min((abs(exact - final + 128) >> 4) // width, 1 << 20)
        for one, slab in zip(p, missed, strict=True):
            slab.data[s][y][x] = min((abs(exact - one) >> 4) // width, 1 << 20)
        older = newest
        large = (448 * abs(error) > activity) + (448 * abs(error) > 2 * activity)
        newest = 2 + (large if error > 0 else -large)
        history = 5 * newest + older
        bias[k] += exact - mean
        seen[k] += 1
        if seen[k] == 255:
            bias[k] >>= 1
            seen[k] >>= 1
        for correction, differences in zip(corrections, d, strict=True):
            correction.learn((s, y, x), differences, exact - p[0], level_of(activity * width))
        trace(
            "voxel", at=(s, y, x), symbols=symbols, before=t, activity=activity, level=level,
            p=p, mean=mean, guess=guess, fraction=fraction, mask=mask, error=error, symbol=value,
            noise=noise.data[s][y][x], **coder.state(),
        )  # fmt: skip
    coder.finish()
    return flat(symbols)


# --- labels ---


def decode_labels(
    section: bytes, shape: tuple[int, ...], top: int, _runs: Runs, trace: Trace
) -> list[int]:
    """Return the symbols of a section of the kind 4, which takes no notice of runs."""
    coder = Coder(section, trace)
    choices, tree, runs = fresh(5 * 2048), fresh(1 << top.bit_length()), fresh(64)
    symbols = Slab(shape)
    for s in range(shape[0]):
        for y in range(shape[1]):
            row = symbols.data[s][y]
            x = 0
            while x < shape[2]:
                w = symbols(s, y, x - 1)
                missed = False
                if calm(symbols, s, y, x):
                    length = 1
                    while x + length < shape[2] and {w} == set(ahead(symbols, s, y, x + length)):
                        length += 1
                    place = length
                    if not coder.adaptive(runs, length.bit_length()):
                        missed = True
                        bits = (length - 1).bit_length()
                        place = coder.uniform(bits - 16) << 16 if bits > 16 else 0
                        place += coder.uniform(min(bits, 16))
                        need(place < length, "CLV-16")
                    row[x : x + place] = [w] * place
                    trace(
                        "run", at=(s, y, x), symbols=symbols, before=s, length=length,
                        place=place, **coder.state(),
                    )  # fmt: skip
                    x += place
                    if not missed:
                        continue
                row[x] = label(coder, choices, tree, symbols, (s, y, x), missed, top)
                trace(
                    "voxel", at=(s, y, x), symbols=symbols, before=s, symbol=row[x],
                    **coder.state(),
                )  # fmt: skip
                x += 1
    coder.finish()
    return flat(symbols)


def ahead(symbols: Slab, s: int, y: int, x: int) -> list[int]:
    """Return what must be equal to W for a run to go on at a place."""
    places = [symbols(s, y - 1, x + 1)]
    if s > 0:
        places += [symbols(s - 1, y, x + 1), symbols(s - 1, y + 1, x)]
    return places


def calm(symbols: Slab, s: int, y: int, x: int) -> bool:
    """Whether all around a place is the same."""
    around = [symbols(s, y, x - 1), symbols(s, y - 1, x - 1), symbols(s, y - 1, x)]
    if s > 0:
        around.append(symbols(s - 1, y, x))
    return len({*around, *ahead(symbols, s, y, x)}) == 1


def label(
    coder: Coder,
    choices: list[list[int]],
    tree: list[list[int]],
    symbols: Slab,
    at: tuple[int, int, int],
    missed: bool,  # noqa: FBT001
    top: int,
) -> int:
    """Return the number at a place that is not calm, or that ends a run."""
    s, y, x = at
    w, n = symbols(s, y, x - 1), symbols(s, y - 1, x)
    ne, nw = symbols(s, y - 1, x + 1), symbols(s, y - 1, x - 1)
    pattern = (w == n) + 2 * (w == nw) + 4 * (n == nw) + 8 * (n == ne)
    pattern += 16 * (w == symbols(s, y, x - 2)) + 32 * (n == symbols(s, y - 2, x))
    u = n
    if s > 0:
        u = symbols(s - 1, y, x)
        pattern += 64 * (w == u) + 128 * (n == u) + 256 * (u == symbols(s - 1, y, x + 1))
        pattern += 512 * (u == symbols(s - 1, y + 1, x)) + 1024
    tried = [w] if missed else []
    for i, candidate in enumerate((w, n, u, ne, nw)):
        if candidate not in tried and coder.adaptive(choices, 2048 * i + pattern):
            return candidate
        tried.append(candidate)
    node = 1
    for _ in range(top.bit_length()):
        node = 2 * node + coder.adaptive(tree, node)
    value = node - (1 << top.bit_length())
    need(value <= top, "CLV-16")
    return value


def flat(slab: Slab) -> list[int]:
    """Return the symbols of a slab in order."""
    return [number for plane in slab.data for row in plane for number in row]


SECTIONS = {1: decode_fast, 2: decode_small, 3: decode_max, 4: decode_labels}
