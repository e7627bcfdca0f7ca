"""A second reader of `.mroi` files, written from the text of `mroi-1.md` alone.

It needs nothing but the standard library (and, for chunks of `calv` and `ebb`, the decoders beside
it), holds the whole file in memory and is slow; what counts is that each check stands beside the id
of its rule.  Whatever the bytes are, the answer is a result, `Refused` or `Unavailable`.

    python decode.py FILE        geometry, chunk table and SHA-256 of the volume
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import itertools
import json
import math
import re
import struct
import sys
import zlib
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAGIC = b"\x89MROI\r\n\n"
PARTIAL, BACKGROUND_PLANE = 1, 2  # incompat_flags
CONST, STORED, MISSING = 1, 2, 4  # flags of CHNK
OMIT, FILL_VERIFIED, RESIDUE_EXACT, RESIDUE_LOSSY, FILL_LOSSY = range(5)
CRITICAL = {"GEOM", "CODC", "SLSC", "CHNK", "INDX", "FOOT"}
COMPRESSIBLE = {"nIFt", "dCMh", "jSOn"}
KNOWN = CRITICAL | COMPRESSIBLE | {"rOIB", "sLPo", "dIGE", "oVRW", "pADd"}
REGISTRY = {
    "raw": 1, "zstd": 2, "deflate": 3, "jpeg2000": 4, "htj2k": 5, "jpegls": 6, "heif": 7,
    "jpegxl": 8, "calv": 9, "pcodec": 10, "jpeg2000-3d": 11, "wavelet3d": 12, "zfp": 13,
    "tcm": 14, "tcm-auxt": 15, "ebb": 16, "sirenmri": 17, "bcm-net": 18,
}  # fmt: skip
PARAMS: dict[str, dict[str, Any]] = {
    "raw": {},
    "zstd": {"delta": bool, "shuffle": bool},
    "deflate": {"delta": bool, "shuffle": bool},
    "calv": {},
    "ebb": {"step": (int, float)},
}
LIMITS = {  # section 12; a volume must fit in memory here
    "head": 1 << 28, "frames": 4096, "metadata": 1 << 26, "inflated": 1 << 28,
    "volume": 1 << 30, "chunk": 1 << 31, "chunks": 1 << 24,
    "calv": 1 << 24, "ebb": 1 << 22,
}  # fmt: skip
DATATYPES = {  # code: name, bytes of a number (that a byte swap reverses), numbers of an element
    2: ("uint8", 1, 1), 4: ("int16", 2, 1), 8: ("int32", 4, 1), 16: ("float32", 4, 1),
    32: ("complex64", 4, 2), 64: ("float64", 8, 1), 128: ("RGB24", 1, 3), 256: ("int8", 1, 1),
    512: ("uint16", 2, 1), 768: ("uint32", 4, 1), 1024: ("int64", 8, 1), 1280: ("uint64", 8, 1),
    1536: ("float128", 16, 1), 1792: ("complex128", 8, 2), 2048: ("complex256", 16, 2),
    2304: ("RGBA32", 1, 4),
}  # fmt: skip
SAMPLE_SIZES = {
    2: 1, 4: 2, 8: 4, 128: 1, 256: 1, 512: 2, 768: 4, 1024: 8, 1280: 8, 2304: 1,
}  # fmt: skip  # of integers
# The tables of the text, each field as name:format.
PREFIX = """magic:8s version_major:B version_minor:B prefix_size:H head_size:I incompat_flags:Q
    compat_flags:Q autoclear_flags:I sync:I index_offset:Q file_size:Q checksum_id:B reserved:3s"""
FRAME = """sync:I type:4s length:Q ordinal:I codec_slot:B flags:B reserved:H payload_crc:I
    header_crc:I"""
OVERVIEW = "factor:3s method:B codec_slot:B reserved:3s volumes:I decoded_crc:I"
GEOM = """size:H ndim:B slice_axis:B datatype:H itemsize:B bits_stored:B shape:7Q roi_start:3Q
    roi_stop:3Q chunk_shape:4I background:B source_kind:B source_flags:B xyzt_units:B xform_code:h
    reserved:2s slope:d inter:d spacing:7d affine:12d fill:32s roi_chunks:I background_chunks:I"""
CODEC = """codec_id:H fidelity:B flags:B name_size:B role:B bitstream_version:H params_size:I
    reserved:I"""
INDEX = "count:I entry_size:B flags:B reserved:H first:Q end:Q reserved2:Q"
FOOTER = "index_offset:Q file_size:Q head_digest:8s magic:8s"


class Refused(Exception):  # noqa: N818 - the word of the specification
    """The file breaks `rule` (LIM-1: it is legal, but too large for this reader)."""

    def __init__(self, rule: str, message: object, offset: int | None = None) -> None:
        super().__init__(rule, message, offset)
        self.rule, self.message, self.offset = rule, str(message), offset

    def __str__(self) -> str:
        where = "" if self.offset is None else f" at byte {self.offset}"
        return f"{self.rule}{where}: {self.message}"


class Unavailable(Exception):  # noqa: N818
    """The file may be right, but its voxels or metadata need a codec that is not here."""


def require(holds: object, rule: str, found: object, offset: int | None = None) -> None:
    """Refuse the file unless the condition holds; `found` says what is wrong."""
    if not holds:
        raise Refused(rule, found, offset)


def limit(name: str, value: int) -> None:
    """Refuse what is legal but too large."""
    require(value <= LIMITS[name], "LIM-1", f"{name}: {value}, limit {LIMITS[name]}")


def unpack(layout: str, raw: bytes) -> dict[str, Any]:
    """Unpack one of the tables above."""
    fields: dict[str, Any] = {}
    at = 0
    for name, form in (field.split(":") for field in layout.split()):
        values = struct.unpack_from("<" + form, raw, at)
        fields[name] = values if len(values) > 1 else values[0]
        at += struct.calcsize("<" + form)
    return fields


def align8(n: int) -> int:
    """Return the smallest multiple of 8 that is not less than `n`."""
    return -(-n // 8) * 8


class Cursor:
    """Takes bytes in order from an iterable of bytes; running out of them breaks `rule`."""

    def __init__(self, parts: Iterable[Any], at: int = 0, rule: str = "LAY-4") -> None:
        self.at, self._parts, self._rule, self._part = at, iter(parts), rule, memoryview(b"")

    def at_end(self) -> bool:
        """Tell whether nothing follows."""
        while not self._part:
            part = next(self._parts, None)
            if part is None:
                return True
            self._part = memoryview(part)
        return False

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        taken = bytearray()
        while len(taken) < size and not self.at_end():
            part = self._part[: size - len(taken)]
            self._part = self._part[len(part) :]
            taken += part
        self.at += len(taken)
        require(len(taken) == size, self._rule, f"{size - len(taken)} bytes are missing", self.at)
        return bytes(taken)

    def peek(self, size: int) -> bytes:
        """Return the next `size` bytes without taking them."""
        taken = self.take(size)
        self._part = memoryview(taken + bytes(self._part))
        self.at -= size
        return taken


# 4 Prefix


def read_prefix(cursor: Cursor) -> SimpleNamespace:
    """Read and check the prefix."""
    raw = cursor.take(64)
    p = SimpleNamespace(**unpack(PREFIX, raw))
    require(p.magic == MAGIC, "PFX-1", p.magic, 0)
    require(p.version_major == 1, "PFX-2", p.version_major, 8)
    size = p.prefix_size
    require(64 <= size <= 4096 and size % 8 == 0, "PFX-3", size, 10)
    raw += cursor.take(size - 64)
    crc = zlib.crc32(raw[:-4])
    require(crc == int.from_bytes(raw[-4:], "little"), "PFX-4", f"the CRC is {crc:#x}", size - 4)
    require(p.checksum_id == 1, "PFX-5", p.checksum_id, 56)
    require(not any(p.reserved), "PFX-6", p.reserved, 57)
    require(p.incompat_flags <= PARTIAL | BACKGROUND_PLANE, "PFX-7", p.incompat_flags, 16)
    require(p.head_size % 8 == 0 and p.head_size > size, "PFX-8", p.head_size, 12)
    require(p.sync & 0xFF >= 0x80, "PFX-9", hex(p.sync), 36)
    require(p.file_size or not p.index_offset, "PFX-11", "index_offset without file_size", 48)
    limit("head", p.head_size)
    return p


# 5 Frames


@dataclass(slots=True)
class Frame:
    """A frame; `payload` is empty until `read_payload`."""

    offset: int
    type: str
    length: int
    ordinal: int
    slot: int
    flags: int
    payload_crc: int
    payload: bytes = b""


def read_header(cursor: Cursor, sync: int) -> Frame:
    """Read and check the header of a frame."""
    at, raw = cursor.at, cursor.take(32)
    h = SimpleNamespace(**unpack(FRAME, raw))
    require(zlib.crc32(raw[:28]) == h.header_crc, "FRM-1", f"the CRC is {h.header_crc:#x}", at)
    require(h.sync == sync, "FRM-2", hex(h.sync), at)
    require(re.fullmatch(rb"[A-Za-z]{2}[A-Z][A-Za-z]", h.type), "FRM-3", h.type, at + 4)
    name = h.type.decode("ascii")
    require(name in KNOWN or name[0].islower(), "FRM-9", f"unknown critical frame {name}", at + 4)
    require(h.reserved == 0 and (h.codec_slot == 0 or name == "CHNK"), "FRM-4", name, at + 20)
    compressible = name in COMPRESSIBLE or name not in KNOWN
    legal = {0, CONST, STORED, MISSING} if name == "CHNK" else {0, 1} if compressible else {0}
    require(h.flags in legal, "FRM-5", f"{name} with flags {h.flags}", at + 21)
    # CHNK and dCMh have a number here, dIGE its scope, pADd anything; nothing is known of others.
    free = {"CHNK", "dIGE", "pADd", "dCMh"}
    parts = 5 if name == "nIFt" else 1 if name in KNOWN - free else 1 << 32
    require(h.ordinal < parts, "FRM-10", f"{name} with ordinal {h.ordinal}", at + 16)
    return Frame(at, name, h.length, h.ordinal, h.codec_slot, h.flags, h.payload_crc)


def read_payload(cursor: Cursor, frame: Frame, stop: int | None = None) -> Frame:
    """Read and check payload and padding; `stop` is where the part of the file ends, if known."""
    padded = align8(frame.length)
    require(stop is None or cursor.at + padded <= stop, "FRM-8", frame.length, frame.offset + 8)
    if frame.type not in {"CHNK", "INDX"}:  # GEOM bounds those two
        limit("metadata", frame.length)
    raw = cursor.take(padded)
    frame.payload, padding = raw[: frame.length], raw[frame.length :]
    crc = zlib.crc32(frame.payload)
    require(crc == frame.payload_crc, "FRM-6", f"the CRC is {crc:#x}", frame.offset + 24)
    require(not any(padding), "FRM-7", padding, cursor.at - len(padding))
    if frame.flags == 1 and frame.type != "CHNK":
        limit("inflated", zstd_content_size(frame))
    return frame


def zstd_content_size(frame: Frame) -> int:
    """Check that the payload is one frame of RFC 8878 (FRM-11); return its content size."""
    cursor, at = Cursor([frame.payload], frame.offset + 32, "FRM-11"), frame.offset + 32
    require(cursor.take(4) == b"\x28\xb5\x2f\xfd", "FRM-11", "no Zstandard frame", at)
    descriptor = cursor.take(1)[0]
    single = descriptor >> 5 & 1
    cursor.take(1 - single)  # window descriptor
    require(not any(cursor.take((0, 1, 2, 4)[descriptor & 3])), "FRM-11", "a dictionary", at)
    size = cursor.take((single, 2, 4, 8)[descriptor >> 6])
    require(size, "FRM-11", "no content size", at)
    last = 0
    while not last:
        block = int.from_bytes(cursor.take(3), "little")
        last, kind = block & 1, block >> 1 & 3
        require(kind != 3, "FRM-11", "reserved type of block", cursor.at - 3)
        cursor.take(1 if kind == 1 else block >> 3)
    cursor.take(4 * (descriptor >> 2 & 1))  # content checksum
    require(cursor.at_end(), "FRM-11", "bytes after the Zstandard frame", cursor.at)
    return int.from_bytes(size, "little") + (256 if len(size) == 2 else 0)


def content(frame: Frame) -> bytes:
    """Return the payload of a metadata frame, inflated if need be."""
    if frame.flags == 0:
        return frame.payload
    return zstd_frame(frame.payload, zstd_content_size(frame), "FRM-11", frame.offset)


# 6 Head


class Array(NamedTuple):
    """What a codec sees of a chunk (7.1): slices, rows, columns[, samples]."""

    shape: tuple[int, ...]
    volumes: int
    datatype: int

    @property
    def samples(self) -> int:
        """Samples of a voxel."""
        return {128: 3, 2304: 4}.get(self.datatype, 1)

    @property
    def sample_size(self) -> int:
        """Bytes of a sample."""
        _, number, numbers = DATATYPES[self.datatype]
        return number * numbers // self.samples

    @property
    def size(self) -> int:
        """Bytes of all."""
        return math.prod(self.shape) * self.sample_size


class Geometry(SimpleNamespace):
    """The fields of `GEOM`, and what section 7 derives from them."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.fill = self.fill[: self.itemsize]
        fast, slow = (axis for axis in range(3) if axis != self.slice_axis)
        self.axes = self.slice_axis, slow, fast
        sides = zip(self.roi_start, self.roi_stop, self.chunk_shape[:3], strict=True)
        self.grid = [-(-(stop - start) // size) for start, stop, size in sides]
        self.times = -(-self.shape[3] // self.chunk_shape[3])  # groups along axis 3
        self.groups = self.times * math.prod(self.shape[4:])
        self.slices = self.shape[self.slice_axis] * math.prod(self.shape[3:])
        self.slabs = -(-self.shape[self.slice_axis] // self.chunk_shape[self.slice_axis])
        self.chunks = self.roi_chunks + self.background_chunks

    def box(self, ordinal: int) -> tuple[range, list[range]]:
        """Return volumes and ranges along x, y, z of a chunk (7.1) or a slab (7.2)."""
        group, box = ordinal, [range(extent) for extent in self.shape[:3]]
        if ordinal >= self.roi_chunks:
            group, slab = divmod(ordinal - self.roi_chunks, self.slabs)
            axis, size = self.slice_axis, self.chunk_shape[self.slice_axis]
            box[axis] = box[axis][slab * size : (slab + 1) * size]
        else:
            for axis in reversed(self.axes):
                group, i = divmod(group, self.grid[axis])
                start = self.roi_start[axis] + i * self.chunk_shape[axis]
                box[axis] = range(start, min(start + self.chunk_shape[axis], self.roi_stop[axis]))
        outer, time = divmod(group, self.times)
        series = range(outer * self.shape[3], (outer + 1) * self.shape[3])
        first = time * self.chunk_shape[3]
        return series[first : first + self.chunk_shape[3]], box

    def decoded_size(self, ordinal: int) -> int:
        """Return the bytes of the decoded chunk."""
        volumes, box = self.box(ordinal)
        voxels = math.prod(map(len, box))
        if ordinal >= self.roi_chunks:
            roi = zip(box, self.roi_start, self.roi_stop, strict=True)
            voxels -= math.prod(len(range(max(s.start, a), min(s.stop, b))) for s, a, b in roi)
        return len(volumes) * voxels * self.itemsize

    def array(self, ordinal: int) -> Array:
        """Return the array of a chunk (7.1); of a background chunk it is a list (7.2)."""
        volumes, box = self.box(ordinal)
        if ordinal >= self.roi_chunks:
            return self.array_of((1, 1, self.decoded_size(ordinal) // self.itemsize), 1)
        slices, rows, columns = (len(box[axis]) for axis in self.axes)
        return self.array_of((len(volumes) * slices, rows, columns), len(volumes))

    def array_of(self, shape: tuple[int, ...], volumes: int) -> Array:
        """Return the array of voxels in this shape."""
        colours = {128: (3,), 2304: (4,)}.get(self.datatype, ())
        return Array((*shape, *colours), volumes, self.datatype)

    def rows(self, ordinal: int) -> Iterator[tuple[int, int, int]]:
        """Yield first voxel (x fastest), count and stride of each row, in scan order."""
        volumes, box = self.box(ordinal)
        roi = [range(a, b) for a, b in zip(self.roi_start, self.roi_stop, strict=True)]
        x, y, z, *_ = self.shape
        stride = 1, x, x * y
        s, w, f = self.axes
        for volume, i, j in itertools.product(volumes, box[s], box[w]):
            parts = [box[f]]
            if ordinal >= self.roi_chunks and i in roi[s] and j in roi[w]:
                parts = [range(roi[f].start), range(roi[f].stop, self.shape[f])]
            start = volume * x * y * z + i * stride[s] + j * stride[w]
            for part in filter(len, parts):
                yield start + part.start * stride[f], len(part), stride[f]


def parse_geometry(frame: Frame, incompat_flags: int) -> Geometry:
    """Parse and check `GEOM`."""
    raw, at = frame.payload, frame.offset + 32
    require(344 <= len(raw) == int.from_bytes(raw[:2], "little"), "GEO-1", len(raw), at)
    g = SimpleNamespace(**unpack(GEOM, raw))
    require(1 <= g.ndim <= 7, "GEO-2", g.ndim, at + 2)
    require(all(1 <= extent <= 1 << 40 for extent in g.shape), "GEO-2", g.shape, at + 8)
    require(all(extent == 1 for extent in g.shape[g.ndim :]), "GEO-2", g.shape, at + 8)
    require(math.prod(g.shape) * g.itemsize < 1 << 62, "GEO-2", g.shape, at + 8)
    require(g.slice_axis <= 2, "GEO-3", g.slice_axis, at + 3)
    require(g.datatype in DATATYPES, "GEO-4", g.datatype, at + 4)
    name, number, numbers = DATATYPES[g.datatype]
    require(g.itemsize == number * numbers, "GEO-4", g.itemsize, at + 6)
    sample = 1 if name in {"RGB24", "RGBA32"} else g.itemsize
    require(1 <= g.bits_stored <= 8 * sample, "GEO-5", g.bits_stored, at + 7)
    sides = list(zip(g.roi_start, g.roi_stop, g.shape[:3], strict=True))
    require(all(a < b <= n for a, b, n in sides), "GEO-6", sides, at + 64)
    most = [*(b - a for a, b, _ in sides), g.shape[3]]
    legal_chunk = all(1 <= c <= n for c, n in zip(g.chunk_shape, most, strict=True))
    require(legal_chunk, "GEO-7", g.chunk_shape, at + 112)
    whole = all(b - a == n for a, b, n in sides)
    legal = {FILL_VERIFIED} if whole else set(range(5))
    require(g.background in legal, "GEO-8", g.background, at + 128)
    require(g.source_kind in {0, 1, 2, 3, 4, 5, 255}, "GEO-9", g.source_kind, at + 129)
    require(g.source_flags <= 3, "GEO-9", g.source_flags, at + 130)
    require(0 <= g.xform_code <= 5, "GEO-9", g.xform_code, at + 132)
    require(math.isfinite(g.slope) and g.slope != 0, "GEO-10", g.slope, at + 136)
    require(math.isfinite(g.inter), "GEO-10", g.inter, at + 144)
    require(all(map(math.isfinite, g.affine)), "GEO-11", g.affine, at + 208)
    require(all(0 <= step < math.inf for step in g.spacing), "GEO-11", g.spacing, at + 152)
    require(not any(g.spacing[max(g.ndim, 3) :]), "GEO-11", g.spacing, at + 152)
    filled = g.itemsize if g.background in {FILL_VERIFIED, FILL_LOSSY} else 0
    require(not any(g.fill[filled:]), "GEO-12", g.fill, at + 304)
    require(not any(g.reserved), "GEO-14", g.reserved, at + 134)
    plane = g.background in {RESIDUE_EXACT, RESIDUE_LOSSY}
    require(bool(incompat_flags & BACKGROUND_PLANE) == plane, "BKG-2", incompat_flags, 16)
    g = Geometry(**vars(g))
    roi_chunks, background_chunks = math.prod(g.grid) * g.groups, plane * g.slabs * g.groups
    require(g.roi_chunks == roi_chunks, "GEO-13", g.roi_chunks, at + 336)
    require(g.background_chunks == background_chunks, "GEO-13", g.background_chunks, at + 340)
    limit("chunks", g.chunks)
    return g


def check_roi_record(frame: Frame, g: Geometry) -> None:
    """Check `rOIB` against `GEOM`."""
    raw, at = frame.payload, frame.offset + 32
    bounds = [bound for a in range(3) for bound in (g.roi_start[a], g.roi_stop[a] - 1)]
    require(len(raw) == 54, "ROI-2", len(raw), at)
    require(raw[:18] == struct.pack("<9h", *bounds, *g.shape[:3]), "ROI-2", raw[:18], at)
    for i, value in enumerate(g.affine[j] for j in (0, 1, 2, 4, 5, 6, 8, 9, 10)):
        try:
            rounded = struct.pack("<f", value)
        except OverflowError:
            rounded = struct.pack("<f", math.copysign(math.inf, value))
        require(raw[18 + 4 * i : 22 + 4 * i] == rounded, "ROI-3", value, at + 18 + 4 * i)


def restricted_json(raw: bytes, most: int, at: int) -> dict[str, Any]:
    """Parse restricted JSON of at most `most` bytes (section 10)."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        require(len(dict(pairs)) == len(pairs), "JSN-2", "two members of one name", at)
        return dict(pairs)

    def integer(digits: str) -> int:
        require(len(digits) <= 17 and abs(int(digits)) < 1 << 53, "JSN-3", digits[:40], at)
        return int(digits)

    def number(digits: str) -> float:
        require(math.isfinite(float(digits)), "JSN-3", digits[:40], at)
        return float(digits)

    require(len(raw) <= most, "JSN-4", f"{len(raw)} bytes", at)
    try:
        text = raw.decode("utf-8")  # a byte order mark is no JSON and fails below
        brackets = re.findall(r'"(?:[^"\\]|\\.)*+"|[][{}]', text)
        depths = accumulate((b in "[{") - (b in "]}") for b in brackets)
        require(max(depths, default=0) <= 8, "JSN-4", "nested too deep", at)
        value = json.loads(
            text, object_pairs_hook=members, parse_int=integer, parse_float=number,
            parse_constant=number,
        )  # fmt: skip
    except ValueError as error:
        raise Refused("JSN-1", error, at) from error
    require(isinstance(value, dict), "JSN-1", "the top level is no object", at)
    lone = re.search("[\ud800-\udfff]", json.dumps(value, ensure_ascii=False))
    require(not lone, "JSN-2", "unpaired surrogate", at)
    return value


def parse_slot(cursor: Cursor) -> SimpleNamespace:
    """Parse and check one entry of `CODC`."""
    at = cursor.at
    s = SimpleNamespace(**unpack(CODEC, cursor.take(16)))
    legal = s.fidelity in {1, 2, 3} and s.flags <= 1 and s.role <= 2 and s.reserved == 0
    require(legal, "CDC-1", s, at)
    name = cursor.take(s.name_size)
    require(re.fullmatch(rb"[a-z][a-z0-9._-]{0,62}", name), "CDC-3", name, at + 16)
    s.name = name.decode("ascii")
    require(s.codec_id or "." in s.name, "CDC-3", s.name, at + 16)
    known = s.name in REGISTRY or s.codec_id in REGISTRY.values()
    require(not known or REGISTRY.get(s.name) == s.codec_id, "CDC-4", (s.codec_id, s.name), at)
    s.json = restricted_json(cursor.take(s.params_size), 65536, cursor.at)
    require(not any(cursor.take(-cursor.at % 8)), "CDC-1", "padding is not zero", cursor.at)
    check_members(s.json, {"params": dict, "filters": list, "encoder": dict, "impl": str}, at)
    for item in s.json["filters"]:
        check_members(item, {"name": str, "params": dict}, at)
    if s.name == "calv" and s.json["params"]:
        check_members(s.json["params"], {"near": int}, at)
        near = s.json["params"]["near"]
        require(near is not True and 1 <= near <= 65535, "CDC-6", near, at)
    elif s.name in PARAMS:
        check_members(s.json["params"], PARAMS[s.name], at)
    return s


def check_members(value: Any, types: dict[str, Any], at: int) -> None:
    """Check that a JSON value is an object with exactly these members."""
    right = isinstance(value, dict) and value.keys() == types.keys()
    right = right and all(isinstance(value[name], kind) for name, kind in types.items())
    require(right, "CDC-6", value, at)


def parse_codecs(frame: Frame, g: Geometry) -> list[SimpleNamespace]:
    """Parse and check `CODC`."""
    cursor, at = Cursor([frame.payload], frame.offset + 32, "CDC-1"), frame.offset + 32
    count, reserved = struct.unpack("<H6s", cursor.take(8))
    require(1 <= count <= 16 and not any(reserved), "CDC-1", (count, reserved), at)
    slots = [parse_slot(cursor) for _ in range(count)]
    require(cursor.at_end(), "CDC-1", "bytes after the entries", cursor.at)
    roles = [slot.role for slot in slots]
    needed = {0, 1} if g.background_chunks else {0}
    require(set(roles) - {2} == needed and roles.count(2) <= 1, "CDC-2", roles, at)
    exact = all(slot.fidelity == 1 for slot in slots if slot.role == 1)
    require(exact or g.background != RESIDUE_EXACT, "BKG-2", "fidelity of role 1", at)
    return slots


@dataclass(frozen=True, slots=True)
class Head:
    """What stands before the chunks."""

    prefix: SimpleNamespace
    frames: list[Frame]
    geometry: Geometry
    slots: list[SimpleNamespace]
    index: Frame | None
    digest: bytes


def read_head(cursor: Cursor, *, damaged: bool = False) -> Head:
    """Read and check prefix and head; what a `damaged` one can do without is left out."""
    prefix = read_prefix(cursor)
    stop, first = prefix.head_size, prefix.prefix_size
    raw = cursor.take(stop - first)
    if damaged:
        raw = whole_frames(raw, first, prefix)
        stop, prefix.index_offset = first + len(raw), 0
    inner = Cursor([raw], first, "FRM-8")
    frames: list[Frame] = []
    while inner.at < stop:
        frames.append(read_payload(inner, read_header(inner, prefix.sync), stop))
        limit("frames", len(frames))
    check_unique(frames)
    types = [frame.type for frame in frames]
    start = types.index("GEOM") if "GEOM" in types else 0
    ordered = types[: start + 2] in (["GEOM", "CODC"], ["rOIB", "GEOM", "CODC"])
    require(ordered and "rOIB" not in types[1:], "HED-1", types, first)
    others = CRITICAL - {"SLSC", "INDX"}
    require(not others & set(types[start + 2 :]), "FRM-9", types, first)
    require("INDX" not in types[:-1], "HED-2", types, first)
    index = frames[-1] if types[-1] == "INDX" else None
    rule, at = ("PFX-10" if prefix.index_offset else "LAY-2"), index.offset if index else 0
    require(prefix.index_offset == at, rule, prefix.index_offset, 40)
    g = parse_geometry(frames[start], prefix.incompat_flags)
    require(start == all(extent <= 32767 for extent in g.shape[:3]), "ROI-1", types, first)
    if start:
        check_roi_record(frames[0], g)
    slots = parse_codecs(frames[start + 1], g)
    for frame in frames:
        if frame.type == "SLSC":
            require(frame.length == 16 * g.slices, "SLS-1", frame.length, frame.offset + 8)
            require(all_finite(frame.payload), "SLS-1", "not finite", frame.offset + 32)
            require((g.slope, g.inter) == (1, 0), "SLS-1", (g.slope, g.inter), frame.offset)
    return Head(prefix, frames, g, slots, index, hashlib.sha256(raw).digest()[:8])


def whole_frames(raw: bytes, first: int, prefix: SimpleNamespace) -> bytes:
    """Return the frames of a head without INDX, and without metadata that is damaged."""
    kept, at = [], 0
    while at + 32 <= len(raw):
        cursor = Cursor([raw[at:]], first + at, "FRM-8")
        try:
            frame = read_header(cursor, prefix.sync)
        except Refused:
            if prefix.index_offset != first + at:  # a lost INDX is no loss
                raise
            break
        start, at = at, at + 32 + align8(frame.length)
        try:
            read_payload(cursor, frame)
        except Refused:
            if frame.type in CRITICAL - {"INDX"} or frame.type == "rOIB":
                raise
            continue
        if frame.type != "INDX":
            kept.append(raw[start:at])
    return b"".join(kept)


def check_unique(frames: list[Frame]) -> None:
    """Check that no two frames have the same type and ordinal."""
    keys = [(frame.type, frame.ordinal) for frame in frames]
    require(len(keys) == len(set(keys)), "FRM-10", keys)


def all_finite(raw: bytes) -> bool:
    """Tell whether all f64 of `raw` are finite."""
    return all(math.isfinite(value) for (value,) in struct.iter_unpack("<d", raw))


# 7 Chunks


def check_chunk(frame: Frame, head: Head) -> None:
    """Check the header of a chunk whose ordinal is in range."""
    g, at = head.geometry, frame.offset
    size, role = g.decoded_size(frame.ordinal), int(frame.ordinal >= g.roi_chunks)
    roles = dict(enumerate(slot.role for slot in head.slots))
    require(roles.get(frame.slot) == role, "CHK-5", frame.slot, at + 20)
    require(size or frame.flags in {STORED, MISSING}, "CHK-7", frame.flags, at + 21)
    require(frame.length <= 2 * size + (1 << 16), "CHK-6", frame.length, at + 8)
    exact = {STORED: ("CHK-2", size), CONST: ("CHK-3", g.itemsize), MISSING: ("CHK-4", 0)}
    rule, length = exact.get(frame.flags, ("", frame.length))
    require(frame.length == length, rule, frame.length, at + 8)
    partial = head.prefix.incompat_flags & PARTIAL
    require(partial or frame.flags != MISSING, "CHK-4", "MISSING without PARTIAL", at + 21)
    limit("chunk", size)


def read_chunk(cursor: Cursor, head: Head, ordinal: int) -> Frame:
    """Read and check chunk number `ordinal`, without decoding it."""
    frame = read_header(cursor, head.prefix.sync)
    require(frame.type == "CHNK", "LAY-3", frame.type, frame.offset + 4)
    require(frame.ordinal == ordinal, "CHK-1", frame.ordinal, frame.offset + 16)
    check_chunk(frame, head)
    return read_payload(cursor, frame)


def decode_chunk(frame: Frame, head: Head) -> bytes | None:
    """Return the decoded chunk, None if it is MISSING (CHK-10)."""
    g = head.geometry
    if frame.flags == CONST:
        return frame.payload * (g.decoded_size(frame.ordinal) // g.itemsize)
    if frame.flags:
        return frame.payload if frame.flags == STORED else None
    array, slot = g.array(frame.ordinal), head.slots[frame.slot]
    return decode_payload(frame.payload, array, slot, "CHK-8", frame.offset)


def decode_payload(
    payload: bytes, array: Array, slot: SimpleNamespace, rule: str, at: int
) -> bytes:
    """Return the bytes of the array that a payload of a slot stands for."""
    filters = [item["name"] for item in slot.json["filters"]]
    if filters or slot.name not in {*DECODERS, "calv"}:
        raise Unavailable(f"codec {slot.name} with filters {filters}")
    whole = array.datatype in SAMPLE_SIZES
    params = slot.json["params"]
    require(whole or not params.get("delta"), rule, "delta of what is no integer", at)
    if slot.name == "calv":
        return calv_decode(payload, array, params.get("near", 0), rule, at)
    decoded = DECODERS[slot.name](payload, array, rule, at)
    undo = {name: params[name] for name in ("shuffle", "delta") if name in params}
    return join(decoded, array.sample_size, array.samples, **undo)


def join(
    data: bytes, size: int, samples: int, *, shuffle: bool = False, delta: bool = False
) -> bytes:
    """Undo shuffle, then delta (page of the codec `zstd`), on samples of `size` bytes."""
    count = len(data) // size
    if shuffle:
        data = bytes(data[byte * count + i] for i in range(count) for byte in range(size))
    if not delta:
        return data
    values = [int.from_bytes(data[at : at + size], "little") for at in range(0, len(data), size)]
    for i in range(samples, count):
        values[i] = (values[i] + values[i - samples]) % 256**size
    return b"".join(value.to_bytes(size, "little") for value in values)


def raw_decode(payload: bytes, array: Array, rule: str, at: int) -> bytes:
    """Codec `raw`: the payload is the decoded chunk."""
    require(len(payload) == array.size, rule, f"{len(payload)} bytes, not {array.size}", at)
    return payload


def deflate_decode(payload: bytes, array: Array, rule: str, at: int) -> bytes:
    """Codec `deflate`: one zlib stream."""
    return decode_stream(zlib.decompressobj(), zlib.error, payload, array.size, rule, at)


def zstd_decode(payload: bytes, array: Array, rule: str, at: int) -> bytes:
    """Codec `zstd`: one Zstandard frame."""
    return zstd_frame(payload, array.size, rule, at)


def zstd_frame(payload: bytes, size: int, rule: str, at: int) -> bytes:
    """Decode one Zstandard frame."""
    try:
        from compression import zstd
    except ImportError:
        raise Unavailable("zstd needs Python 3.14") from None
    return decode_stream(zstd.ZstdDecompressor(), zstd.ZstdError, payload, size, rule, at)


def calv_decode(payload: bytes, array: Array, near: int, rule: str, at: int) -> bytes:
    """Codec `calv`: the reference decoder of its page, and its values in their type."""
    code = {"uint8": "B", "int8": "b", "uint16": "H", "int16": "h", "uint32": "I", "int32": "i",
            "uint64": "Q", "int64": "q", "float32": "f", "float64": "d", "RGB24": "B",
            "RGBA32": "B"}.get(DATATYPES[array.datatype][0])  # fmt: skip
    require(code, rule, "calv takes no such type", at)
    limit("calv", math.prod(array.shape))  # slow
    kind = "f" if code in "fd" else "u" if code in "BHIQ" else "i"
    calv = beside("calv")
    try:
        values = calv.decode(payload, array.shape, kind, array.sample_size, array.volumes, near)
    except calv.BrokenError as error:
        raise Refused(rule, error, at) from error
    if payload[0] == 0:  # stored as it is; NaN does not always survive as a number
        return payload[1:]
    return struct.pack(f"<{len(values)}{code}", *values)


def ebb_decode(payload: bytes, array: Array, rule: str, at: int) -> bytes:
    """Codec `ebb`: the reference decoder of its page, and its values in their type."""
    code = {"uint8": "B", "int8": "b", "uint16": "H", "int16": "h", "uint32": "I", "int32": "i",
            "float32": "f"}.get(DATATYPES[array.datatype][0])  # fmt: skip
    require(code and len(array.shape) == 3, rule, "ebb takes no such type", at)
    limit("ebb", math.prod(array.shape))  # slow
    kind = "f" if code == "f" else "u" if code in "BHI" else "i"
    ebb = beside("ebb")
    try:
        values = ebb.decode(payload, array.shape, kind, array.sample_size, array.volumes)
    except ebb.BrokenError as error:
        raise Refused(rule, error, at) from error
    if payload[0] == 0:
        return payload[1:]
    return struct.pack(f"<{len(values)}{code}", *values)


@functools.cache
def beside(name: str) -> ModuleType:
    """Return the reference decoder of a codec, which stands beside this file."""
    found = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def decode_stream(
    stream: Any, failure: type[Exception], payload: bytes, size: int, rule: str, at: int
) -> bytes:
    """Decode exactly one stream of exactly `size` bytes, never more than one byte too many."""
    try:
        decoded = stream.decompress(payload, size + 1)
    except failure as error:
        raise Refused(rule, error, at) from error
    exact = len(decoded) == size and stream.eof and not stream.unused_data
    require(exact, rule, f"not exactly one stream of {size} bytes", at)
    return decoded


DECODERS = {
    "raw": raw_decode, "deflate": deflate_decode, "zstd": zstd_decode, "ebb": ebb_decode,
}  # fmt: skip


def assemble(
    g: Geometry,
    chunks: Iterable[bytes | None],
    omitted: bytes | None = None,
    missing: bytes | None = None,
) -> bytes:
    """Return the full volume: x fastest, then y, z, axis 3 and so on.

    `omitted` and `missing` are elements for voxels that are not in the file (BKG-1, CHK-10).
    """
    size, volume_size = g.itemsize, math.prod(g.shape) * g.itemsize
    limit("volume", volume_size)
    outside = omitted if g.background == OMIT else g.fill
    require(outside, "BKG-1", "the voxels outside the ROI are not in the file")
    volume = bytearray(outside * (volume_size // size))
    for ordinal, chunk in enumerate(chunks):
        require(chunk is not None or missing, "CHK-10", f"chunk {ordinal} is not in the file")
        voxels = missing * (g.decoded_size(ordinal) // size) if chunk is None else chunk
        done = 0
        for first, count, stride in g.rows(ordinal):
            for byte in range(size):  # one byte of each element of the row
                start = first * size + byte
                places = slice(start, start + (count - 1) * stride * size + 1, stride * size)
                volume[places] = voxels[done + byte : done + count * size : size]
            done += count * size
    return bytes(volume)


# 8 Index, 9 Tail and footer


@dataclass(frozen=True, slots=True)
class Index:
    """Lengths, decoded CRCs if it has them, and offsets (the last one is the end of the chunks)."""

    lengths: list[int]
    crcs: list[int] | None
    offsets: list[int]

    def check_place(self, frame: Frame) -> None:
        """Check that a chunk is where the index has it."""
        place = self.lengths[frame.ordinal], self.offsets[frame.ordinal]
        require((frame.length, frame.offset) == place, "IDX-3", place, frame.offset)

    def check_decoded(self, frame: Frame, decoded_crc: int | None) -> None:
        """Check the CRC of a decoded chunk; it is None if the chunk is MISSING."""
        crc = self.crcs[frame.ordinal] if self.crcs is not None else decoded_crc
        missing = decoded_crc is None
        require(not (missing and crc), "IDX-4", crc, frame.offset)
        require(missing or crc == decoded_crc, "CHK-9", decoded_crc, frame.offset)


def parse_index(frame: Frame, head: Head) -> Index:
    """Parse and check `INDX`."""
    raw, at = frame.payload, frame.offset + 32
    require(len(raw) >= 32, "IDX-1", len(raw), at)
    i = SimpleNamespace(**unpack(INDEX, raw))
    require(i.count == head.geometry.chunks, "IDX-1", i.count, at)
    require(i.entry_size in {8, 16}, "IDX-1", i.entry_size, at + 4)
    require(i.flags <= 1 and i.reserved == i.reserved2 == 0, "IDX-1", i, at + 5)
    require(len(raw) == 32 + i.count * i.entry_size, "IDX-1", len(raw), at)
    entries = list(struct.iter_unpack("<II" if i.entry_size == 8 else "<QII", raw[32:]))
    require(not any(any(entry[2:]) for entry in entries), "IDX-1", "reserved bytes", at + 32)
    lengths, crcs = [entry[0] for entry in entries], [entry[1] for entry in entries]
    require(i.flags or not any(crcs), "IDX-4", "decoded_crc without flag 1", at + 32)
    legal = head.prefix.head_size <= i.first < 1 << 63 and i.first % 8 == 0
    require(legal, "IDX-2", i.first, at + 8)
    offsets = list(accumulate((align8(32 + length) for length in lengths), initial=i.first))
    require(i.end == offsets[-1], "IDX-2", i.end, at + 16)
    return Index(lengths, crcs if i.flags else None, offsets)


def read_tail(
    cursor: Cursor, head: Head, preface: list[Frame], first: int | None = None
) -> tuple[list[Frame], Index]:
    """Read and check the tail to the end of the file; return its frames and the index.

    `first` is the offset of the first chunk, if it is known.
    """
    frames: list[Frame] = []
    start = cursor.at
    while not frames or frames[-1].type != "FOOT":
        frame = read_header(cursor, head.prefix.sync)
        placed = frame.type in {"INDX", "FOOT"} or frame.type not in CRITICAL
        require(placed, "LAY-3" if frame.type == "CHNK" else "FRM-9", frame.type, frame.offset)
        require(frame.type != "rOIB", "HED-1", "rOIB in the tail", frame.offset)
        size = frame.length if frame.type == "INDX" else 0
        require(size <= 32 + 16 * head.geometry.chunks, "IDX-1", size, frame.offset + 8)
        frames.append(read_payload(cursor, frame))
        limit("frames", len(frames))
    require(cursor.at_end(), "LAY-1", "bytes after FOOT", cursor.at)
    check_unique(head.frames + preface + frames)
    types = [frame.type for frame in frames]
    require("INDX" not in types[1:], "FOT-5", types, start)
    found = frames[0] if types[0] == "INDX" else head.index
    require(found, "LAY-2", "no INDX", start)
    index = parse_index(found, head)
    require(first in {None, index.offsets[0]}, "IDX-2", index.offsets[0], found.offset + 40)
    require(index.offsets[-1] == start, "IDX-5", index.offsets[-1], found.offset + 48)
    raw, at = frames[-1].payload, frames[-1].offset + 32
    require(len(raw) == 32 and raw[24:] == MAGIC[::-1], "FOT-1", raw[24:], at + 24)
    foot = SimpleNamespace(**unpack(FOOTER, raw))
    require(foot.index_offset == found.offset, "FOT-2", foot.index_offset, at)
    require(foot.file_size == cursor.at, "FOT-3", foot.file_size, at + 8)
    require(foot.head_digest == head.digest, "FOT-4", foot.head_digest, at + 16)
    require(head.prefix.file_size in {0, cursor.at}, "PFX-11", head.prefix.file_size, 48)
    return frames, index


def read_preface(cursor: Cursor, head: Head, stop: int | None = None) -> list[Frame]:
    """Read and check the frames between the head and the first chunk, or `stop`."""
    frames: list[Frame] = []
    while cursor.peek(8)[4:] != b"CHNK" if stop is None else cursor.at < stop:
        frame = read_header(cursor, head.prefix.sync)
        require(frame.type not in CRITICAL, "LAY-3", frame.type, frame.offset + 4)
        require(frame.type != "rOIB", "HED-1", "rOIB in the preface", frame.offset)
        frames.append(read_payload(cursor, frame, stop))
        limit("frames", len(frames))
    check_unique(head.frames + frames)
    return frames


# 10 Metadata frames


def check_metadata(frame: Frame, file: File) -> None:
    """Check the payload of a metadata frame."""
    raw, at, slices = frame.payload, frame.offset + 32, file.head.geometry.slices
    if frame.type == "pADd":
        require(not any(raw), "MET-4", "pADd is not zero", at)
    elif frame.type == "sLPo":
        require(len(raw) == 24 * slices, "MET-3", len(raw), at)
        require(all_finite(raw), "MET-3", "not finite", at)
    elif frame.type == "dIGE":
        form = struct.pack("<BB6x", 1, frame.ordinal & 0xFF)
        require(frame.ordinal in {1, 2, 3}, "MET-2", frame.ordinal, frame.offset + 16)
        require(len(raw) == 40 and raw[:8] == form, "MET-2", raw, at)
    elif frame.type == "jSOn":
        restricted_json(content(frame), 1 << 20, at)
    elif frame.type == "dCMh":
        records = dicom_records(frame, slices)
        if frame.ordinal:
            check_upper_bits(records, file, at)
    elif (frame.type, frame.ordinal) == ("nIFt", 0):
        check_nifti(content(frame), file, at)
    elif frame.type == "oVRW":
        check_overview(frame, file)


def check_overview(frame: Frame, file: File) -> None:
    """Check an overview, and its values against the volume where they must be equal."""
    g, raw, at = file.head.geometry, frame.payload, frame.offset + 32
    require(len(raw) >= 16, "OVR-1", len(raw), at)
    o = SimpleNamespace(**unpack(OVERVIEW, raw))
    require(set(o.factor) <= {1, 2, 4, 8, 16} and o.method <= 1, "OVR-1", (o.factor, o.method), at)
    require(not any(o.reserved), "OVR-1", o.reserved, at + 5)
    require(1 <= o.volumes <= math.prod(g.shape[3:]), "OVR-1", o.volumes, at + 8)
    rescaled = any(other.type == "SLSC" for other in file.head.frames)
    require(not rescaled, "OVR-1", "an overview beside SLSC", frame.offset)
    roles = dict(enumerate(slot.role for slot in file.head.slots))
    require(roles.get(o.codec_slot) == 2, "OVR-2", o.codec_slot, at + 4)
    extent = [-(-n // f) for n, f in zip(g.shape[:3], o.factor, strict=True)]
    slices, rows, columns = (extent[axis] for axis in g.axes)
    array = g.array_of((o.volumes * slices, rows, columns), o.volumes)
    limit("chunk", array.size)
    decoded = decode_payload(raw[16:], array, file.head.slots[o.codec_slot], "OVR-3", at + 16)
    require(zlib.crc32(decoded) == o.decoded_crc, "OVR-4", "another CRC", at + 12)
    exact = all(slot.fidelity == 1 for slot in file.head.slots)
    if not exact or file.head.prefix.incompat_flags & PARTIAL:
        return
    volume = file.volume(omitted=bytes(g.itemsize))
    step = g.itemsize if o.method == 0 else SAMPLE_SIZES.get(g.datatype)
    if step is None:  # the mean of floats is not exact
        return
    values = reduce(volume, g, o, step)
    require(values == decoded, "OVR-5", "not the volume at a reduced resolution", at + 16)


def reduce(volume: bytes, g: Geometry, o: SimpleNamespace, step: int) -> bytes:
    """Return the array of an overview; `step` is the size of what is reduced: elements, samples."""
    signed = g.datatype in {4, 8, 256, 1024}
    x, y, z = g.shape[:3]
    boxes = [
        [range(first, min(first + f, n)) for first in range(0, n, f)]
        for n, f in zip((x, y, z), o.factor, strict=True)
    ]
    out = []
    s, w, f = g.axes
    for v, *found in itertools.product(range(o.volumes), boxes[s], boxes[w], boxes[f]):
        box = dict(zip((s, w, f), found, strict=True))
        if o.method == 0:
            box = {a: [side[min(o.factor[a] // 2, len(side) - 1)]] for a, side in box.items()}
        starts = [
            (((v * z + k) * y + j) * x + i) * g.itemsize
            for k, j, i in itertools.product(box[2], box[1], box[0])
        ]
        for part in range(0, g.itemsize, step):
            pieces = [volume[start + part : start + part + step] for start in starts]
            if o.method == 0:
                out += pieces
                continue
            total = sum(int.from_bytes(piece, "little", signed=signed) for piece in pieces)
            mean = (2 * total + len(pieces)) // (2 * len(pieces))
            out.append(mean.to_bytes(step, "little", signed=signed))
    return b"".join(out)


def dicom_records(frame: Frame, slices: int) -> list[tuple[int, int]]:
    """Return the slice and the size of each record of a `dCMh` (DCM-1)."""
    cursor, found, at = Cursor([content(frame)], 0, "DCM-1"), [], frame.offset + 32
    while not cursor.at_end():
        number, reserved, size = struct.unpack("<IIQ", cursor.take(16))
        require(reserved == 0 and number < slices, "DCM-1", (number, reserved), at)
        cursor.take(size)
        found.append((number, size))
    return found


def check_upper_bits(records: list[tuple[int, int]], file: File, at: int) -> None:
    """Check records of the bits above `bits_stored` (DCM-2)."""
    g = file.head.geometry
    _, number, numbers = DATATYPES[g.datatype]
    above = 8 * number - g.bits_stored
    width = next((n for n in (1, 2, 4, 8) if 0 < above <= 8 * n), 0)
    samples = math.prod(g.shape[axis] for axis in g.axes[1:]) * numbers
    require(width, "DCM-2", f"{g.bits_stored} bits of {8 * number} are stored", at)
    for slice_, size in records:
        require(size == samples * width, "DCM-2", f"{size} bytes for slice {slice_}", at)
    every = [
        slice_
        for frame in file.frames
        if frame.type == "dCMh" and frame.ordinal
        for slice_, _ in dicom_records(frame, g.slices)
    ]
    require(len(set(every)) == len(every), "DCM-2", "two records of one slice", at)


def check_nifti(header: bytes, file: File, at: int) -> None:
    """Check a NIfTI header against `GEOM` (MET-1)."""
    g = file.head.geometry
    if not 1 <= g.source_kind <= 4:
        return
    order = ">" if g.source_flags & 1 else "<"
    size, places = 348, {"8h": 40, "h": 70, "f": 108}  # dim, datatype, vox_offset
    if g.source_kind in {2, 4}:
        size, places = 540, {"8q": 16, "h": 12, "q": 168}
    whole = len(header) >= size and struct.unpack_from(order + "i", header) == (size,)
    require(whole, "MET-1", f"no header of {size} bytes in byte order {order}", at)
    dim, datatype, offset = (
        struct.unpack_from(order + form, header, place) for form, place in places.items()
    )
    require(dim[: g.ndim + 1] == (g.ndim, *g.shape[: g.ndim]), "MET-1", dim, at)
    require(datatype == (g.datatype,), "MET-1", datatype, at)
    before = len(header) if g.source_kind <= 2 else len(file.content("nIFt", 2))
    require(offset == (before,), "MET-1", offset, at)


def covered(scope: int, file: File, chunks: list[bytes | None]) -> bytes | None:
    """Return the bytes that a digest covers, None if the file does not have them."""
    g = file.head.geometry
    roi = [chunk for chunk in chunks[: g.roi_chunks] if chunk is not None]
    if scope == 1:
        return b"".join(roi) if len(roi) == g.roi_chunks else None
    if g.background == OMIT or None in chunks:
        return None
    volume = assemble(g, chunks)
    if scope == 2:
        return volume
    lossless = g.background in {FILL_VERIFIED, RESIDUE_EXACT}
    lossless = lossless and all(slot.fidelity == 1 for slot in file.head.slots)
    header = file.content("nIFt", 0)
    if not lossless or not header or not 1 <= g.source_kind <= 4:
        return None
    if g.source_flags & 1:  # the source had big-endian elements
        swapped, number = bytearray(volume), DATATYPES[g.datatype][1]
        for byte in range(number):
            swapped[byte::number] = volume[number - 1 - byte :: number]
        volume = bytes(swapped)
    return header + file.content("nIFt", 2) + volume + file.content("nIFt", 1)


# 11 Reading


@dataclass(frozen=True, slots=True)
class File:
    """An opened file."""

    data: bytes
    head: Head
    preface: list[Frame]
    tail: list[Frame]
    index: Index

    @property
    def frames(self) -> list[Frame]:
        """All frames but the chunks."""
        return self.head.frames + self.preface + self.tail

    def content(self, kind: str, ordinal: int) -> bytes:
        """Return the content of a metadata frame, nothing if it is not there."""
        for frame in self.frames:
            if (frame.type, frame.ordinal) == (kind, ordinal):
                return content(frame)
        return b""

    def chunk(self, ordinal: int) -> tuple[Frame, bytes | None]:
        """Return the frame of a chunk and its voxels in scan order, None if it is MISSING."""
        start, stop = self.index.offsets[ordinal : ordinal + 2]
        cursor = Cursor([memoryview(self.data)[start:stop]], start, "IDX-3")
        frame = read_chunk(cursor, self.head, ordinal)
        self.index.check_place(frame)
        decoded = decode_chunk(frame, self.head)
        self.index.check_decoded(frame, crc_of(decoded))
        return frame, decoded

    def volume(self, omitted: bytes | None = None, missing: bytes | None = None) -> bytes:
        """Return the full volume, see `assemble`."""
        chunks = (self.chunk(ordinal)[1] for ordinal in range(self.head.geometry.chunks))
        return assemble(self.head.geometry, chunks, omitted, missing)


def crc_of(decoded: bytes | None) -> int | None:
    """Return the CRC of a decoded chunk, None if it is MISSING."""
    return None if decoded is None else zlib.crc32(decoded)


def open_bytes(data: bytes) -> File:
    """Open a file (11.2): all is checked but chunks, digests and the contents of metadata."""
    size = len(data)
    head = read_head(Cursor([data]))
    said = head.prefix.file_size or size
    require(size >= said, "LAY-4", f"{size} bytes of {said}", size)
    require(size <= said, "LAY-1", f"{size} bytes, not {said}", said)
    if head.index:
        start = parse_index(head.index, head).offsets[-1]
    else:
        require(size >= head.prefix.head_size + 64, "LAY-4", "no room for FOOT", size)
        require(data[-60:-56] == b"FOOT", "LAY-4", "the file does not end with FOOT", size)
        cursor = Cursor([data[-64:]], size - 64)
        foot = read_payload(cursor, read_header(cursor, head.prefix.sync), size)
        require(foot.length == 32, "FOT-1", foot.length, size - 56)
        start = int.from_bytes(foot.payload[:8], "little")
    rule = "IDX-5" if head.index else "FOT-2"
    after_head = head.prefix.head_size
    require(after_head <= start <= size - 64, rule, start)
    tail, index = read_tail(Cursor([memoryview(data)[start:]], start), head, [])
    first = index.offsets[0]
    inner = Cursor([memoryview(data)[after_head:first]], after_head, "FRM-8")
    preface = read_preface(inner, head, first)
    check_unique(head.frames + preface + tail)
    return File(data, head, preface, tail, index)


def verify(data: bytes) -> File:
    """Check every byte, and every digest of which the file has the bytes.

    `Unavailable` means that nothing is wrong as far as this reader can tell.
    """
    file = open_bytes(data)
    limit("volume", math.prod(file.head.geometry.shape) * file.head.geometry.itemsize)
    chunks, unavailable = [], []
    for ordinal in range(file.head.geometry.chunks):
        try:
            chunks.append(file.chunk(ordinal)[1])
        except Unavailable as error:
            unavailable.append(error)
    for frame in file.frames:
        try:
            check_metadata(frame, file)
        except Unavailable as error:
            unavailable.append(error)
    if unavailable:
        raise unavailable[0]
    for frame in file.frames:
        known = covered(frame.ordinal, file, chunks) if frame.type == "dIGE" else None
        if known is not None:
            digest = hashlib.sha256(known).digest()
            require(digest == frame.payload[8:], "MET-2", digest.hex(), frame.offset + 40)
    return file


def read_stream(parts: Iterable[bytes]) -> Iterator[Head | tuple[Frame, bytes | None]]:
    """Yield the head, then each chunk (11.3); provisional until the iterator ends."""
    cursor = Cursor(parts)
    head = read_head(cursor)
    yield head
    preface = read_preface(cursor, head)
    seen, first = [], cursor.at
    for ordinal in range(head.geometry.chunks):
        frame = read_chunk(cursor, head, ordinal)
        decoded = decode_chunk(frame, head)
        yield frame, decoded
        frame.payload = b""
        seen.append((frame, crc_of(decoded)))
    _, index = read_tail(cursor, head, preface, first)
    for frame, crc in seen:
        index.check_place(frame)
        index.check_decoded(frame, crc)


def salvage(data: bytes) -> tuple[Head, list[bytes | None]]:
    """Return the head and what is left of the chunks (11.4), None for each that is lost."""
    head = read_head(Cursor([data]), damaged=True)
    found: dict[int, Frame] = {}
    indexes = []
    at, work = head.prefix.prefix_size, 16 * len(data)
    while at + 32 <= len(data):
        frame = find_frame(data, at, head)
        work -= frame.length if frame else 0
        require(work >= 0, "LIM-1", "too many frames that overlap", at)
        at += 1
        if frame and zlib.crc32(frame.payload) == frame.payload_crc:
            if frame.type == "CHNK":
                if frame.ordinal in found:
                    continue
                found[frame.ordinal] = frame
            elif frame.type == "INDX":
                indexes.append(frame)
            at += align8(frame.length) + 31
    return head, decode_found(found, indexes, head)


def find_frame(data: bytes, at: int, head: Head) -> Frame | None:
    """Return the frame at `at` if its header is legal and its payload whole, right or not."""
    try:
        frame = read_header(Cursor([data[at : at + 32]], at), head.prefix.sync)
        if frame.type == "CHNK":
            require(frame.ordinal < head.geometry.chunks, "CHK-1", frame.ordinal, at)
            check_chunk(frame, head)
    except Refused:
        return None
    frame.payload = data[at + 32 : at + 32 + frame.length]
    return frame if len(frame.payload) == frame.length else None


def decode_found(found: dict[int, Frame], indexes: list[Frame], head: Head) -> list[bytes | None]:
    """Decode what was found; a chunk that does not decode to the CRC of a whole index is lost."""
    limit("volume", math.prod(head.geometry.shape) * head.geometry.itemsize)
    whole = []
    for frame in indexes:
        try:
            whole.append(parse_index(frame, head))
        except Refused:
            continue
    chunks: list[bytes | None] = [None] * head.geometry.chunks
    for ordinal, frame in found.items():
        try:
            decoded = decode_chunk(frame, head)
            for index in whole:
                index.check_decoded(frame, crc_of(decoded))
        except Refused:
            continue
        chunks[ordinal] = decoded
    return chunks


def main(path: str) -> int:
    """Print geometry, codecs, chunk table and the SHA-256 of the volume."""
    try:
        file = open_bytes(Path(path).read_bytes())
        g, lines = file.head.geometry, []
        lines += [f"{name:18}{value}" for name, value in vars(g).items()]
        lines += [f"slot {number}            {slot}" for number, slot in enumerate(file.head.slots)]
        for ordinal in range(g.chunks):
            frame, _ = file.chunk(ordinal)
            volumes, box = g.box(ordinal)
            sides = " ".join(f"{side.start}:{side.stop}" for side in (*box, volumes))
            where = f"offset {frame.offset} length {frame.length} box {sides}"
            lines.append(f"chunk {ordinal}: {where} slot {frame.slot} flags {frame.flags}")
        lines.append(f"sha256            {hashlib.sha256(file.volume()).hexdigest()}")
    except (Refused, Unavailable) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
