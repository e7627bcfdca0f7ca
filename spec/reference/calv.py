"""A slow decoder of `calv`, written from ``spec/codecs/calv.md`` alone; standard library only.

    values = decode(payload, shape, kind, size)

`shape` is that of the chunk, `kind` and `size` those of its type: "u", "i" or "f", and bytes of a
sample. Values are given flat, in C order. `BrokenError` is raised for a payload that breaks a rule.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator

EXACT = {4: 1 << 24, 8: 1 << 53}


class BrokenError(Exception):
    """The payload breaks the rule named first."""


def need(sound: bool, rule: str) -> None:  # noqa: FBT001
    """Refuse a payload that breaks a rule."""
    if not sound:
        raise BrokenError(rule)


def decode(payload: bytes, shape: tuple[int, ...], kind: str, size: int) -> list[float]:
    """Return the samples of a chunk."""
    count = math.prod(shape)
    need(len(payload) > 0 and payload[0] <= 4, "CLV-1")
    if payload[0] == 0:
        need(len(payload) == 1 + count * size, "CLV-2")
        code = {"u1": "B", "i1": "b", "u2": "H", "i2": "h", "u4": "I", "i4": "i", "u8": "Q",
                "i8": "q", "f4": "f", "f8": "d"}[f"{kind}{size}"]  # fmt: skip
        return list(struct.unpack(f"<{count}{code}", payload[1:]))
    need(int.from_bytes(payload[1:7], "little") == count and len(payload) >= 7, "CLV-3")
    values, at = value_table(payload, 7, kind, size)
    if len(values) == 1:
        need(at == len(payload), "CLV-4")
        return values * count
    samples = shape[3] if len(shape) == 4 else 1
    chunk = [0] * count
    for sample in range(samples):
        need(at + 4 <= len(payload), "CLV-4")
        start = at + 4
        at = start + int.from_bytes(payload[at:start], "little")
        need(at <= len(payload), "CLV-4")
        section = payload[start:at]
        numbers = SECTIONS[payload[0]](section, shape[:3], len(values) - 1)
        chunk[sample::samples] = [values[n] for n in numbers]
    need(at == len(payload), "CLV-4")
    return chunk


def value_table(payload: bytes, at: int, kind: str, size: int) -> tuple[list[int], int]:
    """Return the value of each number, and where the map ends."""

    def varint() -> int:
        nonlocal at
        number = 0
        for place in range(11):
            need(at < len(payload) and place < 10, "CLV-5")
            byte = payload[at]
            at += 1
            number |= (byte & 127) << 7 * place
            if byte < 128:
                need(place == 0 or byte > 0, "CLV-5")
                break
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
    for number in range(top + 1):
        value += step * left_out.get(number, 0)
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

    def __init__(self, section: bytes) -> None:
        need(len(section) >= 6 and len(section) % 2 == 0, "CLV-7")
        self.words = list(struct.unpack(f"<{len(section) // 2}H", section))
        self.code = self.words[0] << 32 | self.words[1] << 16 | self.words[2]
        self.range = (1 << 48) - 1
        self.at = 3

    def refresh(self) -> None:
        """Take another word while the range is small."""
        if self.range < 1 << 32:
            word = self.words[self.at] if self.at < len(self.words) else 0
            self.code = self.code << 16 | word
            self.range <<= 16
            self.at += 1

    def bit(self, chance: int) -> int:
        """Return a decision that is 1 with a chance of so many 65536ths."""
        bound = (self.range >> 16) * min(max(chance, 32), 65504)
        result = int(self.code < bound)
        if result:
            self.range = bound
        else:
            self.range -= bound
            self.code -= bound
        self.refresh()
        return result

    def uniform(self, bits: int) -> int:
        """Return an integer of so many bits."""
        part = self.range >> bits
        value = min(self.code // part, (1 << bits) - 1)
        self.code -= value * part
        self.range = part
        self.refresh()
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

    def finish(self) -> None:
        """Check that the code ends where its words do."""
        need(self.at == len(self.words) and self.code == 0, "CLV-8")


def fresh(count: int) -> list[list[int]]:
    """Return contexts that have seen nothing: a chance, and a count of decisions."""
    return [[32768, 0] for _ in range(count)]


def learn(context: list[int], bit: int) -> None:
    """Move the chance of a context towards what was decided."""
    chance, count = context
    context[0] = chance + ((65535 * bit - chance) * (655360 // (10 * count + 16)) >> 16)
    context[1] = min(count + 1, 255)


def signed(number: int) -> int:
    """Return the integer that a number stands for: 0, -1, 1, -2..."""
    return number >> 1 if number % 2 == 0 else -(number + 1 >> 1)


# --- fast ---

PLANE = ((0, 0, 1), (0, 1, 0), (0, 1, 1), (0, 1, -1), (0, 0, 2), (0, 2, 0), (0, 1, 2), (0, 1, -2),
         (0, 2, 1), (0, 2, -1))  # fmt: skip
ABOVE = ((1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 0, -1), (1, -1, 0), (1, 1, 1), (1, 1, -1), (1, -1, 1),
         (1, -1, -1))  # fmt: skip
NOISE = ((2, 0, 0, 1), (2, 0, 1, 0), (1, 0, 1, 1), (1, 0, 1, -1), (1, 0, 0, 2), (1, 0, 2, 0))
NOISE_ABOVE = ((2, 1, 0, 0), (1, 1, 0, -1), (1, 1, -1, 0), (1, 1, 0, 1), (1, 1, 1, 0))


def activity_of(noise: Slab, s: int, y: int, x: int, *, alone: bool = False) -> int:
    """Return the weighted sum of the errors around a place, or of those in its slice alone."""
    near = sum(k * noise(s, y - up, x - left) for k, _, up, left in NOISE)
    if s == 0 or alone:
        return 2 * near
    return near + sum(k * noise(s - 1, y - up, x - left) for k, _, up, left in NOISE_ABOVE)


class Stream:
    """The tokens of every 16th row: a state, and words that it takes."""

    def __init__(self, words: tuple[int, ...]) -> None:
        need(len(words) >= 2, "CLV-13")
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
        """Return the number of an error: a token, and raw bits if it is large."""
        token, frequency, place = table[self.state & 4095]
        self.state = frequency * (self.state >> 12) + place
        self.refill()
        if token < 32:
            return token
        bits = (token - 32 >> 3) + 2
        number = (8 + (token & 7)) << bits | self.state & (1 << bits) - 1
        self.state >>= bits
        self.refill()
        return number


def decode_fast(section: bytes, shape: tuple[int, ...], top: int) -> list[int]:
    """Return the numbers of a section of the kind 1."""
    need(len(section) >= 4, "CLV-9")
    start = 4 + int.from_bytes(section[:4], "little")
    need(start <= len(section) and (len(section) - start) % 2 == 0, "CLV-9")
    count = math.prod(shape)
    alone = shape[:2] == (1, 1) and count > 1024
    rows = -(-count // 1024) if alone else shape[1]
    if alone:
        shape = (rows, 1, 1024)
    coder = Coder(section[4:start])
    contexts = fresh(420)
    coefficients = fast_coefficients(coder, contexts, 1 if alone else min(shape[0], 2))
    shift, split = coder.number(contexts, 21), coder.number(contexts, 42)
    need(shift <= 20 and split < 1024, "CLV-11")
    context_of, contexts_used = fast_map(coder, contexts, split)
    tables = [fast_table(coder, contexts) for _ in range(contexts_used)]
    sizes = [coder.number(contexts, 105) << 16 | coder.uniform(16) for _ in range(min(rows, 16))]
    coder.finish()
    words = struct.unpack(f"<{(len(section) - start) // 2}H", section[start:])
    need(sum(sizes) == len(words), "CLV-9")
    streams = [Stream(words[sum(sizes[:i]) : sum(sizes[: i + 1])]) for i in range(len(sizes))]
    numbers, noise = Slab(shape), Slab(shape)
    for s, y, x in itertools.islice(numbers.places(), count):
        first = s == 0 or alone
        taps = PLANE if first else PLANE + ABOVE
        exact = sum(
            c * numbers(s - back, y - up, x - left)
            for c, (back, up, left) in zip(coefficients[0 if first else 1], taps, strict=True)
        )
        exact = min(max(exact, 0), top << 12)
        activity = min(activity_of(noise, s, y, x, alone=alone) >> shift, 1023)
        near = {numbers(s, y, x - 1), numbers(s, y - 1, x), numbers(s, y - 1, x + 1)}
        if not first:
            near.add(numbers(s - 1, y, x))
        sort = 4 if len(near) == 1 else exact + 2048 >> 10 & 3
        number = streams[(s if alone else y) % 16].number(tables[context_of[activity][sort]])
        value = (exact + 2048 >> 12) + signed(number)
        need(0 <= value <= top, "CLV-13")
        numbers.data[s][y][x] = value
        noise.data[s][y][x] = min(abs((value << 12) - exact) >> 8, 65535)
    for stream in streams:
        need(stream.state == 65536 and stream.at == len(stream.words), "CLV-13")
    return flat(numbers)[:count]


def fast_coefficients(coder: Coder, contexts: list[list[int]], kinds: int) -> list[list[int]]:
    """Return the coefficients of the first slice, and of the others."""
    result = []
    for kind in range(kinds):
        others = [signed(coder.number(contexts, 0)) for _ in range(9 + 9 * kind)]
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

NEAREST = ((0, 0, 1), (0, 1, 0))
FIRST = (*NEAREST, (0, 1, 1), (0, 1, -1), (0, 0, 2), (0, 2, 0), (0, 1, -2), (0, 1, 2), (0, 2, 1),
         (0, 2, -1), (0, 0, 3), (0, 3, 0))  # fmt: skip
WIDE = ((0, 2, 2), (0, 2, -2), (0, 1, 3), (0, 1, -3), (0, 3, 1), (0, 3, -1), (0, 2, 3), (0, 2, -3),
        (0, 3, 2), (0, 3, -2))  # fmt: skip
BEFORE = ((1, 0, 1), (1, 1, 0), (1, 0, -1), (1, -1, 0), (1, 1, 1), (1, 1, -1), (1, -1, 1),
          (1, -1, -1), (1, 0, 2), (1, 0, -2), (1, 2, 0), (1, -2, 0))  # fmt: skip
EARLIER = ((2, 0, 0), (2, 0, 1), (2, 0, -1), (2, 1, 0), (2, -1, 0))
SECOND = (*NEAREST, (1, 0, 0), *FIRST[2:], *BEFORE)
TAPS = (FIRST + WIDE, SECOND, SECOND + EARLIER)
STRETCH = [round(256 * math.log((2 * i + 1) / (8191 - 2 * i))) for i in range(4096)]
SQUASH = [round(65536 / (1 + math.exp(-i / 256))) for i in range(-2816, 2817)]


def clip(value: int, low: int, high: int) -> int:
    """Return the value, or the limit that it is beyond."""
    return max(low, min(value, high))


def wrapped(value: int) -> int:
    """Return a value modulo 2**32, as a signed integer."""
    return (value + (1 << 31) & 0xFFFFFFFF) - (1 << 31)


def level_of(activity: int) -> int:
    """Return the level of an activity: four to each octave."""
    if activity >= 4096:
        activity = min(activity >> 10, 1023) << 10
    if activity < 8:
        return 0
    length = activity.bit_length()
    return min(63, 4 * (length - 4) + (activity >> length - 3 & 3))


class Adaptive:
    """The state of the kinds 2 and 3."""

    def __init__(self, coder: Coder, sets: int, models: int, mixed: int) -> None:
        self.coder = coder
        self.sets, self.models, self.mixed = sets, models, mixed
        self.masks = fresh(256)
        self.contexts: dict[tuple[int, ...], list[int]] = {}
        self.shares: dict[tuple[int, int], list[int]] = {}

    def decide(self, keys: list[tuple[int, ...]], level: int, decision: int) -> int:
        """Return a decision on the error, of which every context learns."""
        mixing = decision < self.mixed
        used = [
            self.contexts.setdefault((*key, decision), [32768, 0])
            for key in (keys if mixing else keys[:1])
        ]
        if not mixing:
            bit = self.coder.bit(used[0][0])
        else:
            shares = self.shares.setdefault(
                (decision, level >> 4), [85536 // self.models] * self.models
            )
            inputs = [STRETCH[chance >> 4] for chance, _ in used]
            dot = sum(t * share for t, share in zip(inputs, shares, strict=True)) >> 16
            chance = SQUASH[clip(dot + 2816, 0, 5632)]
            bit = self.coder.bit(chance)
            miss = (65535 * bit - chance) * 6
            for i, t in enumerate(inputs):
                shares[i] = wrapped(shares[i] + (t * miss + 131072 >> 18))
        for context in used:
            learn(context, bit)
        return bit

    def error(self, keys: list[tuple[int, ...]], level: int, part: int) -> int:
        """Return the error of a voxel."""
        if self.decide(keys, level, part):
            return 0
        negative = self.decide(keys, level, 3)
        shift = max(0, level - 21 >> 2)
        quotient = 0
        while quotient < 24 and self.decide(keys, level, 4 + quotient):
            quotient += 1
        few = min(quotient, 2)
        remainder = 0
        if shift > 0:
            remainder = self.decide(keys, level, 28 + few)
        if shift > 1:
            remainder = 2 * remainder + self.decide(keys, level, 31 + 2 * few + remainder)
        if quotient == 24:
            length = min(self.coder.uniform(5), 16)
            quotient = 23 + (1 << length | self.coder.uniform(length))
        if shift > 2:
            remainder = remainder << shift - 2 | self.coder.uniform(shift - 2)
        rest = quotient << shift | remainder
        return -1 - rest if negative else rest + 1


def decode_small(section: bytes, shape: tuple[int, ...], top: int) -> list[int]:
    """Return the numbers of a section of the kind 2."""
    return decode_adaptive(section, shape, top, (2, 3, 5))


def decode_max(section: bytes, shape: tuple[int, ...], top: int) -> list[int]:
    """Return the numbers of a section of the kind 3."""
    return decode_adaptive(section, shape, top, (3, 6, 40))


def decode_adaptive(  # noqa: C901, PLR0915  # one voxel is one long sentence
    section: bytes, shape: tuple[int, ...], top: int, profile: tuple[int, int, int]
) -> list[int]:
    """Return the numbers of a section of the kinds 2 and 3."""
    coder = Coder(section)
    model = Adaptive(coder, *profile)
    contexts = fresh(63)
    background = coder.number(contexts, 0) - 1
    rates = [coder.number(contexts, 21) for _ in range(3)]
    need(background < 65536 and max(rates) <= 1023, "CLV-14")
    first_weights = []
    for kind in range(min(shape[0], 3)):
        first_weights.append([coder.number(contexts, 42) for _ in TAPS[kind]])
        need(max(first_weights[kind]) <= 4095, "CLV-14")
        first_weights[kind] = [64 * signed(number) for number in first_weights[kind]]
    weights: list[list[list[int]]] = []
    bias = [[0, 0] for _ in range(1024)]
    history = 0
    numbers, noise = Slab(shape), Slab(shape)
    for s, y, x in numbers.places():
        if (y, x) == (0, 0) and s < 3:
            weights = [[list(first_weights[s]) for _ in range(16)] for _ in range(3)]
        w, n = numbers(s, y, x - 1), numbers(s, y - 1, x)
        ne, nw = numbers(s, y - 1, x + 1), numbers(s, y - 1, x - 1)
        near = [w, n, nw, ne]
        u = ue = us = 0
        if s > 0:
            u, ue, us = numbers(s - 1, y, x), numbers(s - 1, y, x + 1), numbers(s - 1, y + 1, x)
            near += [u, ue, us]
        bounds = [w, n, ne] if s == 0 else [w, n, ne, u]
        base = w + n >> 1 if s == 0 else w + n + 2 * u >> 2
        activity = activity_of(noise, s, y, x)
        level = level_of(activity)
        d = [numbers(s - back, y - up, x - left) - base for back, up, left in TAPS[min(s, 2)]]
        chosen = (
            level >> 3,
            min(base * 16 // (top + 1), 15),
            (w > n) + 2 * (nw > n) + 4 * (ne > n) + 8 * (u > n),
        )
        predicted = []
        for j in range(model.sets):
            dot = sum(a * b for a, b in zip(weights[j][chosen[j]], d, strict=True))
            predicted.append(clip((base << 8) + (dot >> 8), 0, top << 8))
        total = sum(predicted)
        mean = total >> 1 if model.sets == 2 else total * 21846 >> 16
        margin = 128 * (max(bounds) - min(bounds)) + 512
        mean = max((min(bounds) << 8) - margin, min(mean, (max(bounds) << 8) + margin))
        mean = clip(mean, 0, top << 8)
        signs = sum((value > mean >> 8) << i for i, value in enumerate(near))
        k = 128 * chosen[0] + signs
        final = mean + (bias[k][0] * (65536 // (bias[k][1] + 1)) >> 16)
        final = clip(final, 0, top << 8) + 128
        fraction, guess = final & 255, final >> 8
        mask = 0
        if background >= 0:
            order = [w, n, ne, nw] if s == 0 else [w, n, ne, nw, u, ue, us]
            mask = sum((value == background) << i for i, value in enumerate(order))
            if s == 0 and mask:
                mask += 128
        if mask and coder.adaptive(model.masks, mask):
            error = background - guess
        else:
            keys: list[tuple[int, ...]] = [
                (0, level),
                (1, level >> 2, signs),
                (2, level >> 2, 2 * chosen[1] + (fraction >> 7)),
            ]
            if model.models > 3:
                detail = abs(w - nw) + abs(n - nw) + abs(n - ne)
                above = 0
                if s > 0:
                    detail += abs(u - n)
                    above = ratio(noise(s - 1, y, x), activity)
                detail *= 64
                grade = sum((2 * detail > activity, *(detail > activity << i for i in range(4))))
                west = ratio(noise(s, y, x - 1), activity)
                north = ratio(noise(s, y - 1, x), activity)
                keys += [
                    (3, level >> 1, history),
                    (4, level >> 1, west, north),
                    (5, level >> 1, above, grade),
                ]
            error = model.error(keys, level, fraction * 3 >> 8)
        value = guess + error
        need(0 <= value <= top, "CLV-15")
        numbers.data[s][y][x] = value
        exact = value << 8
        noise.data[s][y][x] = min(abs(exact - final + 128) >> 4, 1 << 20)
        history = history % 5 * 5 + 2 + clip(error * 448 // (activity + 1), -2, 2)
        bias[k][0] += exact - mean
        bias[k][1] += 1
        if bias[k][1] == 255:
            bias[k] = [bias[k][0] >> 1, bias[k][1] >> 1]
        power = sum(t * t for t in d) + len(d) * ((activity * activity >> 14) + 2)
        gain = (len(d) << 24) // power
        for j in range(model.sets):
            step = (exact - predicted[j]) * gain * rates[j] >> 20
            step = clip(step, 1 - (1 << 31), (1 << 31) - 1)
            weight = weights[j][chosen[j]]
            for i, t in enumerate(d):
                weight[i] = wrapped(weight[i] + (wrapped(wrapped(step * t) + 2048) >> 12))
    coder.finish()
    return flat(numbers)


def ratio(error: int, activity: int) -> int:
    """Return 0 to 3: an error against those around it."""
    return sum((28 * error > activity, 14 * error > activity, 14 * error > 2 * activity))


# --- labels ---


def decode_labels(section: bytes, shape: tuple[int, ...], top: int) -> list[int]:
    """Return the numbers of a section of the kind 4."""
    coder = Coder(section)
    choices, tree = fresh(5 * 2048), fresh(1 << top.bit_length())
    numbers = Slab(shape)
    for s, y, x in numbers.places():
        w, n = numbers(s, y, x - 1), numbers(s, y - 1, x)
        ne, nw = numbers(s, y - 1, x + 1), numbers(s, y - 1, x - 1)
        pattern = (w == n) + 2 * (w == nw) + 4 * (n == nw) + 8 * (n == ne)
        pattern += 16 * (w == numbers(s, y, x - 2)) + 32 * (n == numbers(s, y - 2, x))
        u = n
        if s > 0:
            u = numbers(s - 1, y, x)
            pattern += 64 * (w == u) + 128 * (n == u) + 256 * (u == numbers(s - 1, y, x + 1))
            pattern += 512 * (u == numbers(s - 1, y + 1, x)) + 1024
        candidates = [w, n, u, ne, nw]
        value = None
        for i, candidate in enumerate(candidates):
            if candidate not in candidates[:i] and coder.adaptive(choices, 2048 * i + pattern):
                value = candidate
                break
        if value is None:
            node = 1
            for _ in range(top.bit_length()):
                node = 2 * node + coder.adaptive(tree, node)
            value = node - (1 << top.bit_length())
            need(value <= top, "CLV-16")
        numbers.data[s][y][x] = value
    coder.finish()
    return flat(numbers)


def flat(slab: Slab) -> list[int]:
    """Return the numbers of a slab in order."""
    return [number for plane in slab.data for row in plane for number in row]


SECTIONS = {1: decode_fast, 2: decode_small, 3: decode_max, 4: decode_labels}
