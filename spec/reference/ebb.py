"""A slow decoder of `ebb`, written from ``spec/codecs/ebb.md`` alone; standard library only.

    values = decode(payload, shape, kind, size, volumes=1)

`shape` is that of the array, `kind` and `size` those of its type: "u", "i" or "f", and bytes of a
sample; `volumes` says how many volumes its slices are of. Values are given flat, in C order.
`BrokenError` is raised for a payload that breaks a rule.

A callback `trace` is told the head, every decision and coefficient, and the taps, as they are
decoded. ``tools/ebb_vectors.py`` makes a trace for other decoders of it.
"""

from __future__ import annotations

import array
import importlib.util
import itertools
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

Place = tuple[int, int, int]
Trace = Callable[..., None]


def _load_calv() -> ModuleType:
    """Return `calv.py`, which stands beside this file and has the binary coder."""
    found = importlib.util.spec_from_file_location("calv", Path(__file__).with_name("calv.py"))
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


calv = _load_calv()
clip = calv.clip
signed = calv.signed

ORDER = (1, 2, 4, 3, 5, 6, 7)
CLASSES = (1, 2, 3, 5, 7, 10, 15, 23, 37, 61, 111)
ACTIVITIES = (346, 1037, 2419, 4838, 8294, 13824, 24192)
START = Path(__file__).parent.parent / "codecs" / "ebb-start.bin"
KEYS = (
    (12, 12),
    (12, 12, 6),
    (44,),
    (3, 3, 3, 3, 3, 2, 2),
    (12, 12),
    (12, 12),
    (44, 12),
    (3, 3, 3, 2, 2, 2, 6),
)
TRUST = [256 * (10 * k + 6) // (10 * k + 20) for k in range(32)]
TAPS = (
    (
        (795772, -441237, -42329, 81016, 15170, -12514, 0, 2007, 0),
        (866043, 438147, -98628, -82546, 52149, 15127, -17816, 0, 2002),
    ),
    (
        (826787, -395736, -42666, 25008, 0, 0, 0, 0, 0),
        (894119, 438402, -115998, -67674, 39666, 0, 0, 0, 0),
    ),
)


class BrokenError(Exception):
    """The payload breaks the rule named first."""


def need(sound: bool, rule: str) -> None:  # noqa: FBT001
    """Refuse a payload that breaks a rule."""
    if not sound:
        raise BrokenError(rule)


def wrap32(value: int) -> int:
    """Return a value modulo 2^32, with a sign."""
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


# --- payload ---


class Bytes:
    """Takes numbers from a payload."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int, rule: str) -> bytes:
        """Return the next bytes."""
        need(self.at + count <= len(self.data), rule)
        self.at += count
        return self.data[self.at - count : self.at]

    def n7(self) -> int:
        """Return a number of 7 bits a byte."""
        number = 0
        for place in range(10):
            byte = self.take(1, "EBB-4")[0]
            number |= (byte & 127) << 7 * place
            if byte < 128:
                need(place == 0 or byte > 0, "EBB-4")
                return number
        raise BrokenError("EBB-4")


class Head(NamedTuple):
    """What stands before the sections."""

    wavelet: int
    deep: int
    flat: int
    step: int
    shifts: tuple[int, ...]
    mode: int
    sizes: tuple[int, ...]


def decode(
    payload: bytes,
    shape: Place,
    kind: str,
    size: int,
    volumes: int = 1,
    trace: Trace = calv.ignore,
) -> list[float]:
    """Return the samples of a chunk."""
    count = math.prod(shape)
    data = Bytes(payload)
    form = data.take(1, "EBB-1")[0]
    need(form <= 1, "EBB-1")
    if form == 0:
        need(len(payload) == 1 + count * size, "EBB-2")
        code = {"u1": "B", "i1": "b", "u2": "H", "i2": "h", "u4": "I", "i4": "i", "f4": "f"}
        return list(struct.unpack(f"<{count}{code[f'{kind}{size}']}", payload[1:]))
    flags = data.take(1, "EBB-3")[0]
    series = flags & 1
    need(flags <= 3 and (flags >= 2) == (kind == "f") and (not series or volumes > 1), "EBB-3")
    need(data.n7() == count, "EBB-3")
    top = data.n7()
    value = value_of(data, top, kind, size)
    if top == 0:
        need(data.at == len(payload), "EBB-6")
        return [value(0)] * count
    head = read_head(data)
    trace("head", top=top, head=head._asdict())
    sections = [data.take(2 * words, "EBB-6") for words in head.sizes]
    need(data.at == len(payload), "EBB-6")
    slices = shape[0] // volumes
    slabs, deep = (slices, volumes) if series else (volumes, slices)
    bands = Bands((deep, shape[1], shape[2]), head)
    need(
        4 * count + count * size + max(slabs * bands.bytes(), bands.strip(head.mode))
        <= 6 * count * size + (62 << 20),
        "EBB-8",
    )
    symbols = decode_slabs(sections, slabs, bands, head, top, trace)
    flat = [value(n) for slab in symbols for n in slab]
    if not series:
        return flat
    plane = shape[1] * shape[2]
    places = (i * volumes + v for v in range(volumes) for i in range(slices))
    return [one for k in places for one in flat[k * plane : (k + 1) * plane]]


def value_of(data: Bytes, top: int, kind: str, size: int) -> Callable[[int], float]:
    """Return what turns a symbol into a value."""
    need(top <= 65535, "EBB-4")
    if kind == "f":
        offset, scale = struct.unpack("<dd", data.take(16, "EBB-4"))
        need(math.isfinite(offset) and math.isfinite(scale) and scale >= 0, "EBB-4")
        most = (2 - 2.0**-23) * 2.0**127
        return lambda n: single(min(max(offset + scale * n, -most), most))
    offset, scale = signed(data.n7()), data.n7()
    low = -(1 << 8 * size - 1) if kind == "i" else 0
    high = low + (1 << 8 * size) - 1
    last = offset + scale * max(top - 1, 0)
    need(scale >= 1 and low <= offset and last <= high, "EBB-4")
    return lambda n: clip(offset + scale * n, low, high)


def single(value: float) -> float:
    """Return a value rounded to binary32."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


def read_head(data: Bytes) -> Head:
    """Return what stands before the sections."""
    wavelet, levels = data.take(2, "EBB-5")
    step = data.n7()
    *shifts, mode = struct.unpack("<9bB", data.take(10, "EBB-5"))
    sizes = tuple(data.n7() for _ in range(4))
    need(wavelet <= 1 and 1 <= step <= 1 << 26 and min(shifts) >= -64 and mode <= 4, "EBB-5")
    need((mode > 0) == (sizes[3] > 0), "EBB-5")
    return Head(wavelet, levels // 16, levels % 16, step, tuple(shifts), mode, sizes)


# --- bands ---


class Band(NamedTuple):
    """A band: its place is where its first coefficient lies in the array of all."""

    level: int
    orientation: int
    place: Place
    shape: Place


class Bands:
    """The bands of a slab."""

    def __init__(self, shape: Place, head: Head) -> None:
        self.shapes = [shape]
        while True:
            level, last = len(self.shapes), self.shapes[-1]
            most = (head.deep, head.flat, head.flat)
            split = [n >= 4 and level <= limit for n, limit in zip(last, most, strict=True)]
            if not any(split):
                break
            halves = ((n + 1) // 2 if s else n for n, s in zip(last, split, strict=True))
            self.shapes.append(tuple(halves))
        self.bands: list[Band] = []
        deepest = len(self.shapes) - 1
        for level in range(deepest, 0, -1):
            for orientation in (0, *ORDER) if level == deepest else ORDER:
                self._add(level, orientation)
        if not self.bands:
            self.bands = [Band(1, 0, (0, 0, 0), shape)]

    def _add(self, level: int, orientation: int) -> None:
        whole, low = self.shapes[level - 1], self.shapes[level]
        highs = [orientation >> bit & 1 for bit in (2, 1, 0)]
        shape = tuple(w - n if h else n for h, w, n in zip(highs, whole, low, strict=True))
        if min(shape):
            place = tuple(n * h for n, h in zip(low, highs, strict=True))
            self.bands.append(Band(level, orientation, place, shape))

    def section(self, number: int) -> list[Band]:
        """Return the bands of a section."""
        return [band for band in self.bands if 3 - min(band.level, 3) == number]

    def parent(self, band: Band) -> Band | None:
        """Return the parent of a band."""
        for orientation in (band.orientation, band.orientation % 4):
            for other in self.bands:
                if other.level == band.level + 1 and other.orientation == orientation > 0:
                    return other
        return None

    def siblings(self, band: Band) -> list[Band]:
        """Return the siblings of a band."""
        before = itertools.takewhile(lambda other: other is not band, self.bands)
        return [other for other in before if other.level == band.level and other.orientation]

    def bytes(self) -> int:
        """Return the bytes of the bands with margins, and of the sums."""

        def padded(shape: Place) -> int:
            return (shape[0] + 3) * (shape[1] + 4) * (shape[2] + 6)

        sums = max((padded(shape) for shape in self.shapes[1:]), default=1)
        return sum(padded(band.shape) for band in self.bands) + 2 * sums

    def strip(self, mode: int) -> int:
        """Return the bytes of a strip of the filter."""
        _, rows, columns = self.shapes[0]
        n = min(rows, clip((1 << 15) // columns, 4, 64))
        wide = columns + 6
        return 4 * (11 * (n + 6) * wide + 12 * n * wide + 28 * wide) if mode else 0


# --- coefficients ---


class Coder(calv.Coder):
    """The coder of calv, with decisions that are all but certain."""

    def __init__(self, section: bytes, trace: Trace) -> None:
        need(len(section) >= 6, "EBB-7")
        super().__init__(section, trace)

    def sharp(self, probability: int) -> int:
        """Return a decision that is 1 with a probability of so many 65536ths."""
        bound = (self.range >> 16) * clip(probability, 1, 65535)
        result = int(self.code < bound)
        if result:
            self.range = bound
        else:
            self.range -= bound
            self.code -= bound
        self.refresh()
        self.trace("decision", probability=probability, bit=result)
        return result

    def finish(self) -> None:
        """Check that the code ends where its words do."""
        need(self.at == len(self.words) and self.code == 0, "EBB-7")


def started(value: int, fresh: int) -> list[int]:
    """Return the context that a number of the start stands for."""
    return [fresh, 0] if value == -128 else [calv.SQUASH[16 * value + 2816], 16]


class Model:
    """Contexts and weights, by the names of the page."""

    def __init__(self) -> None:
        numbers = iter(array.array("b", START.read_bytes()))
        self.known: dict[Any, list[int]] = {}
        for i, sizes in enumerate(KEYS):
            for key in itertools.product(*map(range, sizes)):
                self.known[i, key] = [next(numbers) for _ in range(8)]
        self.magnitudes: dict[Any, list[list[int]]] = {}
        self.signs: dict[Any, list[int]] = {}
        self.calm = [started(next(numbers), 655) for _ in range(32)]
        self.rest = calv.fresh(42)
        self.weights: dict[Any, list[int]] = {}
        self.known_signs: dict[Any, int] = {}
        for i in range(6):
            for name in itertools.product(range(27 if i == 5 else 81), range(8)):
                self.known_signs[i, *name] = next(numbers)
        self.first = [[256 * next(numbers) for _ in range(8)] for _ in range(4)]
        self.first_of_signs = [256 * next(numbers) for _ in range(6)]
        self.sign_weights: dict[int, list[int]] = {}

    def settle(self) -> None:
        """Let all contexts of magnitudes have seen little."""
        for contexts in self.magnitudes.values():
            for context in contexts:
                context[1] = min(context[1], 24)

    def context(self, name: Any, decision: int) -> list[int]:
        """Return the context of a decision."""
        if name not in self.magnitudes:
            known = self.known[name[0], name[1][: len(KEYS[name[0]])]]
            fresh = [started(value, 26214 if t else 6554) for t, value in enumerate(known)]
            self.magnitudes[name] = fresh
        return self.magnitudes[name][min(decision, 7)]


class Grid:
    """The coefficients of a slab, by band."""

    def __init__(self, bands: Bands) -> None:
        self.bands = bands
        self.data: dict[Band, dict[Place, int]] = {band: {} for band in bands.bands}

    def near(self, band: Band, z: int, y: int, x: int) -> int:
        """Return a coefficient as contexts know it."""
        return clip(self.data[band].get((z, y, x), 0), -127, 127)


def decode_slabs(
    sections: list[bytes], slabs: int, bands: Bands, head: Head, top: int, trace: Trace
) -> list[list[int]]:
    """Return the symbols of each slab."""
    grids, model = [Grid(bands) for _ in range(slabs)], Model()
    fraction = min(8, 20 - top.bit_length())
    even = max(0, ((top << fraction + 8) // head.step).bit_length() - 18)
    for number in range(3):
        found = bands.section(number)
        if not found:
            need(not sections[number], "EBB-7")
            continue
        coder = Coder(sections[number], trace)
        for slab, grid in enumerate(grids):
            for band in found:
                if slab == 0:
                    model.settle()
                if band.orientation == 0:
                    decode_lowest(coder, model, grid.data[band], band.shape, even, trace)
                else:
                    BandDecoder(coder, model, grid, band, trace).decode()
        coder.finish()
    taps = decode_taps(sections[3], head.mode, trace)
    if taps:
        trace("taps", taps=taps)
    return [finish(restore(grid, head), bands, head, taps, top, fraction) for grid in grids]


def places(shape: Place) -> Iterator[Place]:
    """Yield the places of a band in the order of coding."""
    return itertools.product(*map(range, shape))


def decode_lowest(
    coder: Coder, model: Model, data: dict[Place, int], shape: Place, even: int, trace: Trace
) -> None:
    """Decode the lowest band."""
    for z, y, x in places(shape):
        if x and y:
            guess = data[z, y, x - 1] + data[z, y - 1, x] - data[z, y - 1, x - 1]
            if z:
                guess = guess + data[z - 1, y, x] >> 1
        elif x or y or z:
            guess = data[(z, y, x - 1) if x else (z, y - 1, x) if y else (z - 1, y, x)]
        else:
            guess = 0
        number = coder.number(model.rest, 21)
        if even:
            number = number << even | coder.uniform(even)
        data[z, y, x] = wrap32(guess + signed(number))
        trace("lowest", at=(z, y, x), guess=guess, value=data[z, y, x])


def class_of(value: int) -> int:
    """Return K(value)."""
    return sum(limit <= value for limit in CLASSES)


def trit(value: int) -> int:
    """Return 2, 1, 0 for a positive, no, a negative value."""
    return (value > 0) - (value < 0) + 1


class BandDecoder:
    """Decodes a band of one slab."""

    def __init__(self, coder: Coder, model: Model, grid: Grid, band: Band, trace: Trace) -> None:
        self.coder, self.model, self.grid, self.band, self.trace = coder, model, grid, band, trace
        self.parent = grid.bands.parent(band)
        self.siblings = grid.bands.siblings(band)
        self.b = 8 * min(band.level - 1, 3) + band.orientation

    def decode(self) -> None:
        """Decode all coefficients."""
        for place in places(self.band.shape):
            value = self.coefficient(*place)
            self.grid.data[self.band][place] = value
            self.trace("coefficient", band=self.band[:2], at=place, value=value)

    def at(self, b: int, r: int, c: int) -> int:
        """Return the neighbour so many slices before, rows above, columns to the left."""
        z, y, x = self.place
        return self.grid.near(self.band, z - b, y - r, x - c)

    def size(self, b: int, r: int, c: int) -> int:
        """Return the magnitude of a neighbour."""
        return abs(self.at(b, r, c))

    def above(self, dz: int = 0, dy: int = 0, dx: int = 0) -> int:
        """Return P, or a neighbour of it: 1 for the nearer one along an axis, -1 for the other."""
        if self.parent is None:
            return 0
        place = []
        near = zip(self.place, self.parent.shape, self.band.shape, (dz, dy, dx), strict=True)
        for i, theirs, ours, d in near:
            halved = theirs < ours and ours > 1
            place.append(min(i >> halved, theirs - 1) + (d if i % 2 else -d))
        return self.grid.near(self.parent, *place)

    def beside(self) -> list[int]:
        """Return the coefficients of the siblings at this place."""
        found = []
        for band in self.siblings:
            place = (min(i, n - 1) for i, n in zip(self.place, band.shape, strict=True))
            found.append(self.grid.near(band, *place))
        return found

    def sum(self, dz: int = 0, dy: int = 0, dx: int = 0) -> int:
        """Return the sum of the magnitudes of the siblings at a place."""
        z, y, x = self.place
        return sum(abs(self.grid.near(band, z + dz, y + dy, x + dx)) for band in self.siblings)

    def coefficient(self, z: int, y: int, x: int) -> int:
        """Decode a coefficient."""
        self.place = (z, y, x)
        size = self.size
        w, n, u = size(0, 0, 1), size(0, 1, 0), size(1, 0, 0)
        diagonal = size(0, 1, 1) + size(0, 1, -1)
        ww_nn = size(0, 0, 2) + size(0, 2, 0)
        cross = size(1, 0, 1) + size(1, 0, -1) + size(1, 1, 0) + size(1, -1, 0)
        corners = sum(size(1, r, c) for r in (1, -1) for c in (1, -1))
        uu = size(2, 0, 0)
        wide = size(0, 1, 2) + size(0, 1, -2) + size(0, 2, 1) + size(0, 2, -1) + size(0, 0, 3)
        p, pn = abs(self.above()), 0
        for axis in ("dz", "dy", "dx"):
            pn += 2 * abs(self.above(**{axis: 1})) + abs(self.above(**{axis: -1}))
        s = self.sum()
        sn = sum(self.sum(**{axis: d}) for axis in ("dz", "dy", "dx") for d in (1, -1))
        expected = 16 * (w + n + u) + 8 * diagonal + 6 * (ww_nn + cross + uu) + 2 * corners
        expected += 10 * p + 2 * pn + 5 * s + sn
        t = 0
        if expected + wide == 0:
            calm = self.model.calm[self.b]
            bit = self.coder.sharp(calm[0])
            calv.learn(calm, bit)
            if not bit:
                return 0
            t = 1
        e = min(expected, 4095)
        bits = e.bit_length()
        level = e if e < 4 else 4 * (bits - 2) + (e >> bits - 3) % 4
        beside, before, coarser = 2 * (w + n) + diagonal, 2 * u + cross, 4 * p + pn
        around = ww_nn + uu + corners + wide
        o, k = self.band.orientation, class_of
        digits = tuple(min(v, 2) for v in (w, n, u, p, s))
        pattern = [min(abs(v), 2 if j < 3 else 1) for j, v in enumerate(self.beside())]
        pattern += [0] * (6 - len(pattern))
        contexts = (
            (k(beside), k(before), o),
            (k(before), k(coarser >> 1), min(k(w + n), 5), o),
            (level, self.b),
            (*digits, ww_nn > 1, uu + corners > 0, o),
            (k(4 * s + sn >> 2), k(beside + before >> 1), o),
            (k(around), k(beside + before + coarser >> 2), o),
            (level, k(sn + pn)),
            (*pattern, level >> 3),
        )
        while t < 14 and self.more(t, contexts, level):
            t += 1
        if t == 14:
            t += self.coder.number(self.model.rest, 0)
        if t == 0:
            return 0
        return -t if self.negative() else t

    def more(self, t: int, names: tuple[Any, ...], level: int) -> int:
        """Return whether the magnitude is more than t."""
        found = [self.model.context((i, name), t) for i, name in enumerate(names)]
        v = [calv.STRETCH[c[0] >> 4] * TRUST[min(c[1], 31)] >> 8 for c in found]
        f = min(t, 3)
        a, b = (
            self.model.weights.setdefault((f, kind, which), list(self.model.first[f]))
            for kind, which in (("band", self.b), ("level", level))
        )
        total = sum(v[i] * (a[i] + b[i]) for i in range(8)) >> 17
        probability = calv.SQUASH[clip(total + 2816, 0, 5632)]
        bit = self.coder.sharp(probability)
        error = 65535 * bit - probability
        for i in range(8):
            calv.learn(found[i], bit)
            if abs(error) >= 600:
                change = v[i] * error + (1 << 15) >> 16
                a[i] = wrap32(a[i] + change)
                b[i] = wrap32(b[i] + change)
        return bit

    def negative(self) -> int:
        """Return whether the coefficient is negative."""
        at, o = self.at, self.band.orientation
        w, n, u = at(0, 0, 1), at(0, 1, 0), at(1, 0, 0)
        p, px, py = self.above(), self.above(dx=1), self.above(dy=1)
        around = self.beside()[:4]
        names = (
            (w, n, u, p),
            around,
            (w, at(0, 0, 2), n, at(0, 2, 0)),
            (u, at(2, 0, 0), at(1, 0, 1), at(1, 0, -1)),
            (w, at(0, 1, 1), n, at(0, 1, -1)),
            (p, px, py),
        )
        z, y, x = (i % 2 for i in self.place)
        found = []
        for i, values in enumerate(names):
            number = 0  # of the trits: the first siblings are the highest, those not there 0
            for value in values:
                number = 3 * number + trit(value)
            name = (i, number, 4 * x + 2 * y + z if i == 5 else o)
            fresh = started(self.model.known_signs[name], 32768)
            found.append(self.model.signs.setdefault(name, fresh))
        v = [calv.STRETCH[c[0] >> 4] for c in found]
        g = self.model.sign_weights.setdefault(self.b, list(self.model.first_of_signs))
        total = sum(v[i] * g[i] for i in range(6)) >> 16
        probability = clip(calv.SQUASH[clip(total + 2816, 0, 5632)], 655, 64880)
        bit = self.coder.sharp(probability)
        error = 65535 * bit - probability
        for i in range(6):
            g[i] = wrap32(g[i] + (v[i] * error + (1 << 13) >> 14))
            calv.learn(found[i], bit)
        return bit


# --- from coefficients to symbols ---


class Volume:
    """Integers of a slab, flat."""

    def __init__(self, shape: Place) -> None:
        self.shape = shape
        self.data = [0] * math.prod(shape)
        self.activities: dict[Place, list[int]] = {}

    def activity(self, place: Place) -> list[int]:
        """Return the curves of the three axes, added, and the slope along each."""
        if place not in self.activities:
            z, y, x = place
            v, found = self(z, y, x), [0]
            for dz, dy, dx in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
                a, b = self(z - dz, y - dy, x - dx), self(z + dz, y + dy, x + dx)
                found[0] += abs(a + b - 2 * v)
                found.append(abs(b - a))
            self.activities[place] = found
        return self.activities[place]

    def index(self, z: int, y: int, x: int) -> int:
        """Return where a place is."""
        return (z * self.shape[1] + y) * self.shape[2] + x

    def __call__(self, z: int, y: int, x: int) -> int:
        """Return what is at a place, or at the nearest one of the slab."""
        d, r, c = self.shape
        return self.data[self.index(clip(z, 0, d - 1), clip(y, 0, r - 1), clip(x, 0, c - 1))]


def restore(grid: Grid, head: Head) -> Volume:
    """Return the values that coefficients stand for."""
    volume = Volume(grid.bands.shapes[0])
    for band in grid.bands.bands:
        for place, q in grid.data[band].items():
            m = abs(q)
            v = m * head.step
            if band.orientation and m:
                v += head.shifts[3 * (3 - min(band.level, 3)) + min(m, 3) - 1] * head.step >> 6
            v = min(v, 1 << 30)
            to = (p + i for p, i in zip(band.place, place, strict=True))
            volume.data[volume.index(*to)] = -v if q < 0 else v
    shapes = grid.bands.shapes
    for level in range(len(shapes) - 1, 0, -1):
        for axis in range(3):
            if shapes[level][axis] < shapes[level - 1][axis]:
                join(volume, shapes[level - 1], axis, TAPS[head.wavelet])
    return volume


def join(volume: Volume, shape: Place, axis: int, taps: tuple[tuple[int, ...], ...]) -> None:
    """Join low and high parts along an axis, within the first places of a volume."""
    n = shape[axis]
    others = [range(m) if a != axis else range(1) for a, m in enumerate(shape)]
    for start in itertools.product(*others):
        line = []
        for i in range(n):
            place = list(start)
            place[axis] = i
            line.append(volume.index(*place))
        low = (n + 1) // 2
        found = [volume.data[line[i // 2 if i % 2 == 0 else low + i // 2]] for i in range(n)]

        def x(i: int, found: list[int] = found) -> int:
            i = abs(i) % (2 * n - 2)
            return found[min(i, 2 * n - 2 - i)]

        for i in range(n):
            t = taps[i % 2]
            total = t[0] * x(i) + sum(t[k] * wrap32(x(i - k) + x(i + k)) for k in range(1, 9))
            volume.data[line[i]] = wrap32(total + (1 << 19) >> 20)


def decode_taps(section: bytes, mode: int, trace: Trace) -> list[list[int]]:
    """Return the taps of each group."""
    if mode == 0:
        return []
    coder, contexts = Coder(section, trace), calv.fresh(105)
    taps = []
    for _ in range((1, 8, 24, 48)[mode - 1]):
        used = coder.adaptive(contexts, 0)
        numbers = (coder.number(contexts, 21 * (1 + k // 6)) if used else 0 for k in range(22))
        taps.append([signed(number) for number in numbers])
    coder.finish()
    return taps


def finish(
    volume: Volume, bands: Bands, head: Head, taps: list[list[int]], top: int, fraction: int
) -> list[int]:
    """Return the symbols of a slab."""
    volume.data = [clip(v, 0, top << fraction) for v in volume.data]
    half = 1 << fraction - 1
    if head.mode == 0:
        return [v + half >> fraction for v in volume.data]
    divisor = (48, 6, 2, 1)[head.mode - 1]
    symbols = []
    for place in places(bands.shapes[0]):
        tap = taps[class_at(volume, place, head.step) // divisor]
        change = sum(t * f for t, f in zip(tap, features(volume, place, head.step), strict=True))
        value = volume(*place) + (change + 128 >> 8)
        symbols.append(clip(value + half >> fraction, 0, top))
    return symbols


def class_at(volume: Volume, place: Place, step: int) -> int:
    """Return the class of a voxel."""
    z, y, x = place
    slices = (max(z - 1, 0), z, min(z + 1, volume.shape[0] - 1))
    much, slopes = 0, [0, 0, 0]
    for around in itertools.product(slices, (y - 1, y, y + 1), (x - 1, x, x + 1)):
        curve, *slope = volume.activity(around)
        much += curve
        slopes = [a + b for a, b in zip(slopes, slope, strict=True)]
    way = slopes.index(max(slopes))
    second = sorted(slopes)[1]
    level = sum(much > step * limit >> 8 for limit in ACTIVITIES)
    return 6 * level + 2 * way + (slopes[way] > 2 * second)


def features(volume: Volume, place: Place, step: int) -> list[int]:
    """Return the features of a voxel."""
    z, y, x = place
    v = volume(z, y, x)

    def pair(dz: int, dy: int, dx: int) -> tuple[int, int]:
        return volume(z - dz, y - dy, x - dx) - v, volume(z + dz, y + dy, x + dx) - v

    axes = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    found = []
    for axis in axes:
        found += [sum(pair(*axis)), sum(pair(*(2 * d for d in axis)))]
    diagonals = ((1, 1, 0), (1, -1, 0), (1, 0, 1), (1, 0, -1), (0, 1, 1), (0, 1, -1))
    found += [sum(pair(*diagonal)) for diagonal in diagonals]
    corners = ((1, 1, 1), (1, 1, -1), (1, -1, 1), (1, -1, -1))
    found.append(sum(sum(pair(*corner)) for corner in corners) >> 2)
    near, far = step * 77 >> 8, step * 38 >> 8
    found += [sum(clip(d, -near, near) for d in pair(*axis)) for axis in axes]
    twice = [d for axis in axes for d in pair(*(2 * d for d in axis))]
    edges = [d for diagonal in diagonals for d in pair(*diagonal)]
    corner = [d for corner in corners for d in pair(*corner)]
    faces = [d for axis in axes for d in pair(*axis)]
    found.append(sum(clip(d, -far, far) for d in twice))
    found.append(sum(sum(pair(*(3 * d for d in axis))) for axis in axes))
    for differences, limit in ((edges, near), (corner, far), (faces, step), (twice, step >> 1)):
        found.append(sum(clip(d, -limit, limit) for d in differences))
    return found
