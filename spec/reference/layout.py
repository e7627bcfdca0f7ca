"""The bytes of an `.mroi` file, declared once with construct: the executable specification.

The declarations say where every field is, which bytes are fixed, and which CRC covers what. Which
values are legal, and what they mean, is for the text (``spec/mroi-1.md``) to say; its byte tables
are printed from the declarations by ``tools/spec_tables.py``.

`build_file` makes whole files from plain values by these declarations alone. It checks nothing, so
it also makes files that are wrong in one chosen place.

Nothing here knows the `mroi` package: the two are held against each other by the tests.
"""

# ruff: noqa: RUF001  # the multiplication sign is that of the tables in the text

from __future__ import annotations

import hashlib
import io
import json
import math
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from construct import (
    Array,
    Bytes,
    Check,
    ChecksumError,
    ConstError,
    Construct,
    Default,
    Float32l,
    Float64l,
    GreedyBytes,
    GreedyRange,
    Int8ul,
    Int16sl,
    Int16ul,
    Int32ul,
    Int64ul,
    RepeatUntil,
    Struct,
    Subconstruct,
    Switch,
    Tell,
    Terminated,
    stream_read,
    stream_seek,
    stream_tell,
    stream_write,
    this,
)

MAGIC = b"\x89MROI\r\n\n"
FRAME_HEADER_SIZE = 32


class Fixed(Default):
    """A field with one legal value: checked when parsed, but faulty files may hold another."""

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        found = super()._parse(stream, context, path)
        expected = self.value(context) if callable(self.value) else self.value
        if found != expected:
            raise ConstError(f"expected {expected!r}, found {found!r}", path=path)
        return found


def zeros(size: Any) -> Fixed:
    """Return a field of `size` bytes (a number, or an expression of earlier fields) of zeros."""
    return Fixed(Bytes(size), (lambda ctx: bytes(size(ctx))) if callable(size) else bytes(size))


class Sealed(Subconstruct):
    """A structure whose last four bytes are the CRC of all bytes before them in it."""

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        start = stream_tell(stream, path)
        found = self.subcon._parsereport(stream, context, path)  # noqa: SLF001  # its extension point
        size = stream_tell(stream, path) - start
        stream_seek(stream, start, 0, path)
        data = stream_read(stream, size, path)
        if zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
            raise ChecksumError("wrong CRC", path=path)
        return found

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        inner = io.BytesIO()
        found = self.subcon._build(obj, inner, context, path)  # noqa: SLF001
        data = inner.getvalue()[:-4]
        stream_write(stream, data + struct.pack("<I", zlib.crc32(data)), len(data) + 4, path)
        return found


# -- prefix and frames -----------------------------------------------------------------------

Prefix = Sealed(
    Struct(
        "magic" / Fixed(Bytes(8), MAGIC) * "`89 4D 52 4F 49 0D 0A 0A`",
        "version_major" / Fixed(Int8ul, 1) * "1",
        "version_minor" / Default(Int8ul, 0) * "0; informative",
        "prefix_size" / Default(Int16ul, 64) * "64",
        "head_size" / Int32ul * "offset of the first byte after the head",
        "incompat_flags" / Default(Int64ul, 0) * "see [14](#14-versions-and-flags)",
        "compat_flags" / Default(Int64ul, 0) * "none is assigned",
        "autoclear_flags" / Default(Int32ul, 0) * "none is assigned",
        "sync" / Int32ul * "marks the frames of this file",
        "index_offset" / Default(Int64ul, 0) * "offset of `INDX` if it is in the head, else 0",
        "file_size" / Default(Int64ul, 0) * "size of the whole file; 0 if it was not known",
        "checksum_id" / Fixed(Int8ul, 1) * "1: CRC-32",
        "reserved" / zeros(3) * "0",
        "extra" / Default(Bytes(this.prefix_size - 64), b""),
        "prefix_crc" / Default(Int32ul, 0) * "CRC of all bytes of the prefix before it",
    )
)

FrameHeader = Sealed(
    Struct(
        "sync" / Int32ul * "that of the prefix",
        "type" / Bytes(4) * "four ASCII letters",
        "length" / Int64ul * "bytes of payload",
        "ordinal" / Default(Int32ul, 0) * "`CHNK`: number of the chunk; else number of the part",
        "codec_slot" / Default(Int8ul, 0) * "`CHNK`: entry of `CODC`; else 0",
        "flags" / Default(Int8ul, 0) * "see below",
        "reserved" / Fixed(Int16ul, 0) * "0",
        "payload_crc" / Int32ul * "CRC of the stored payload",
        "header_crc" / Default(Int32ul, 0) * "CRC of bytes 0 to 27 of the header",
    )
)

# -- head ------------------------------------------------------------------------------------

RoiRecord = Struct(
    "bounds" / Array(6, Int16sl) * "x_min, x_max, y_min, y_max, z_min, z_max; both inclusive",
    "shape" / Array(3, Int16sl) * "extent of the volume along x, y, z",
    "matrix" / Array(9, Float32l) * "upper left 3 × 3 of the affine, row by row",
)

Geom = Struct(
    "size" / Default(Int16ul, 344) * "344; length of the payload",
    "ndim" / Int8ul * "1 to 7",
    "slice_axis" / Int8ul * "0, 1 or 2",
    "datatype" / Int16ul * "see below",
    "itemsize" / Int8ul * "bytes of one element",
    "bits_stored"
    / Int8ul
    * "significant bits of a sample (DICOM Bits Stored); 8 × its size, at most 255, if not known",
    "shape" / Array(7, Int64ul) * "extents; 1 beyond `ndim`",
    "roi_start" / Array(3, Int64ul) * "first voxel of the ROI along x, y, z",
    "roi_stop" / Array(3, Int64ul) * "first voxel after it",
    "chunk_shape" / Array(4, Int32ul) * "voxels of a chunk along x, y, z, volumes along axis 3",
    "background" / Int8ul * "policy, see [7.2](#72-background)",
    "source_kind"
    / Default(Int8ul, 0)
    * "0 array, 1 NIfTI-1, 2 NIfTI-2, 3 NIfTI-1 pair (or ANALYZE 7.5), 4 NIfTI-2 pair, 5 DICOM, "
    "255 other",
    "source_flags"
    / Default(Int8ul, 0)
    * "1: the source had big-endian elements; 2: it was gzipped",
    "xyzt_units" / Default(Int8ul, 0) * "units of the source, as in NIfTI-1",
    "xform_code"
    / Default(Int16sl, 0)
    * (
        "NIfTI xform code of the affine: 0 unknown, 1 scanner, 2 aligned, 3 Talairach, 4 MNI, "
        "5 template"
    ),
    "reserved" / zeros(2) * "0",
    "slope" / Default(Float64l, 1.0) * "a stored value v means slope × v + inter",
    "inter" / Default(Float64l, 0.0),
    "spacing"
    / Array(7, Float64l)
    * "distance of neighbours along each axis, in the units of the source; 0 if not known",
    "affine" / Array(12, Float64l) * "rows 0 to 2 of the affine of the whole volume, mm, RAS+",
    "fill" / Bytes(32) * "one element for what the background policy leaves out, then zeros",
    "roi_chunks" / Int32ul * "number of chunks of the ROI",
    "background_chunks" / Int32ul * "number of background chunks",
    "extra" / Default(Bytes(this.size - 344), b""),
)

CodecEntry = Struct(
    "codec_id" / Int16ul * "number in the [registry](registry.md); 0 if it has none",
    "fidelity" / Default(Int8ul, 1) * "1 lossless, 2 bounded error, 3 lossy",
    "flags" / Default(Int8ul, 1) * "1: decoding gives the same bits everywhere",
    "name_size" / Int8ul * "1 to 63",
    "role" / Default(Int8ul, 0) * "0 ROI chunks, 1 background chunks, 2 the overview",
    "bitstream_version" / Default(Int16ul, 1) * "of the codec's page",
    "params_size" / Int32ul * "at most 65536",
    "reserved" / Fixed(Int32ul, 0) * "0",
    "name" / Bytes(this.name_size),
    "params" / Bytes(this.params_size),
    "padding" / zeros(-(this.name_size + this.params_size) % 8),
)

CodecTable = Struct(
    "count" / Int16ul,
    "reserved" / Fixed(Int16ul, 0),
    "reserved2" / Fixed(Int32ul, 0),
    "entries" / Array(this.count, CodecEntry),
)

SliceRescale = GreedyRange(Struct("slope" / Float64l, "inter" / Float64l))

# -- index and footer ------------------------------------------------------------------------

IndexHeader = Struct(
    "count" / Int32ul * "number of chunks",
    "entry_size" / Int8ul * "8 or 16",
    "flags" / Int8ul * "1: the decoded CRCs are there",
    "reserved" / Fixed(Int16ul, 0) * "0",
    "first" / Int64ul * "offset of the first chunk: `head_size`, or the end of the preface",
    "end" / Int64ul * "offset of the first byte after the last chunk",
    "reserved2" / Fixed(Int64ul, 0) * "0",
)

IndexEntry8 = Struct("length" / Int32ul, "decoded_crc" / Int32ul)
IndexEntry16 = Struct("length" / Int64ul, "decoded_crc" / Int32ul, "reserved" / Fixed(Int32ul, 0))

Index = Struct(
    "header" / IndexHeader,
    "entries"
    / Array(
        this.header.count,
        Switch(this.header.entry_size, {8: IndexEntry8, 16: IndexEntry16}),
    ),
)

Footer = Struct(
    "index_offset" / Int64ul * "offset of `INDX`, wherever it is",
    "file_size" / Int64ul * "size of the file",
    "head_digest"
    / Bytes(8)
    * "first 8 bytes of the SHA-256 of the head, from `prefix_size` to `head_size`",
    "magic"
    / Fixed(Bytes(8), MAGIC[::-1])
    * "`0A 0A 0D 49 4F 52 4D 89`, the magic of the prefix reversed",
)

# -- metadata --------------------------------------------------------------------------------

Digest = Struct(
    "algorithm" / Fixed(Int8ul, 1),
    "scope" / Int8ul,
    "reserved" / zeros(6),
    "sha256" / Bytes(32),
)

Overview = Struct(
    "factor" / Array(3, Int8ul) * "voxels of the volume for one of the overview along x, y, z",
    "method" / Int8ul * "see below",
    "codec_slot" / Int8ul * "entry of `CODC`, of role 2",
    "reserved" / zeros(3) * "0",
    "volumes" / Default(Int32ul, 1) * "3-D volumes that it has, from the first on",
    "decoded_crc" / Int32ul * "CRC of the decoded array",
)

SlicePositions = GreedyRange(Array(3, Float64l))

DicomRecords = GreedyRange(
    Struct(
        "slice" / Int32ul,
        "reserved" / Fixed(Int32ul, 0),
        "size" / Int64ul,
        "data" / Bytes(this.size),
    )
)

PAYLOADS: dict[bytes, Construct] = {
    b"rOIB": RoiRecord,
    b"GEOM": Geom,
    b"CODC": CodecTable,
    b"SLSC": SliceRescale,
    b"INDX": Index,
    b"FOOT": Footer,
    b"dIGE": Digest,
    b"oVRW": Struct("header" / Overview, "bitstream" / GreedyBytes),
    b"sLPo": SlicePositions,
    b"dCMh": DicomRecords,  # once inflated
}
"""What is in the payloads that are structures; those of other frames are plain bytes."""

Frame = Struct(
    "offset" / Tell,
    "header" / FrameHeader,
    "payload" / Bytes(this.header.length),
    Check(lambda ctx: zlib.crc32(ctx.payload) == ctx.header.payload_crc),
    "padding" / zeros(-this.header.length % 8),
)

File = Struct(
    "prefix" / Prefix,
    "frames" / RepeatUntil(lambda frame, _list, _ctx: frame.header.type == b"FOOT", Frame),
    Terminated,
)


def parse_payload(kind: bytes, data: bytes) -> Any:
    """Return the value of a whole payload, or its bytes if frames of this type have no structure.

    Raises
    ------
    construct.ConstructError
        If the bytes do not have the structure, to the last one.
    """
    if kind not in PAYLOADS:
        return data
    return Struct("value" / PAYLOADS[kind], Terminated).parse(data).value


# -- building --------------------------------------------------------------------------------


@dataclass
class Part:
    """One frame to be built.

    Attributes
    ----------
    type, ordinal, slot, flags
        What the header says.
    payload : bytes
        Left empty for INDX and FOOT, whose payloads follow from the rest of the file.
    decoded_crc : int
        Of a CHNK: what the index says of it.
    header : dict
        Values for fields of the header that otherwise follow from the rest.
    padding : bytes
        What stands in place of the zero bytes after the payload.
    """

    type: bytes
    payload: bytes = b""
    ordinal: int = 0
    slot: int = 0
    flags: int = 0
    decoded_crc: int = 0
    header: dict[str, Any] = field(default_factory=dict)
    padding: bytes = b""

    @property
    def size(self) -> int:
        """Bytes of the frame."""
        return FRAME_HEADER_SIZE + len(self.payload) + len(self.pad)

    @property
    def pad(self) -> bytes:
        """What stands after the payload."""
        return self.padding or bytes(-len(self.payload) % 8)

    def copy(self) -> Part:
        """Return a part that may be changed."""
        return replace(self, header=dict(self.header))

    def build(self, sync: int) -> bytes:
        """Return header, payload and padding."""
        header = {
            "sync": sync,
            "type": self.type,
            "length": len(self.payload),
            "ordinal": self.ordinal,
            "codec_slot": self.slot,
            "flags": self.flags,
            "payload_crc": zlib.crc32(self.payload),
        }
        return FrameHeader.build(header | self.header) + self.payload + self.pad


@dataclass
class Draft:
    """A file whose parts may still be changed, rightly or wrongly; `build` makes its bytes.

    Attributes
    ----------
    head, preface, chunks, tail : list of Part
        All frames, with an INDX in the head or in the tail, and FOOT.
    entry_size : int
        8 or 16, bytes of an entry of the index.
    decoded_crcs : bool
        Whether the index has the CRCs of the decoded chunks.
    prefix, index, footer : dict
        Values for fields of `Prefix`, `IndexHeader` and `Footer` that otherwise follow from the
        rest of the file.
    entries : dict
        Ordinal to values for fields of its entry in the index.
    """

    head: list[Part]
    chunks: list[Part]
    tail: list[Part]
    preface: list[Part] = field(default_factory=list)
    entry_size: int = 8
    decoded_crcs: bool = True
    prefix: dict[str, Any] = field(default_factory=dict)
    index: dict[str, Any] = field(default_factory=dict)
    footer: dict[str, Any] = field(default_factory=dict)
    entries: dict[int, dict[str, Any]] = field(default_factory=dict)

    def find(self, kind: bytes, ordinal: int = 0) -> Part:
        """Return the first frame of this type and ordinal."""
        parts = [*self.head, *self.preface, *self.chunks, *self.tail]
        return next(part for part in parts if (part.type, part.ordinal) == (kind, ordinal))

    def build(self) -> bytes:
        """Return the bytes of the file."""
        parts = [*self.head, *self.preface, *self.chunks, *self.tail]
        for part in parts:  # sizes first, offsets follow from them
            if part.type == b"INDX" and not part.payload:
                part.payload = bytes(IndexHeader.sizeof() + len(self.chunks) * self.entry_size)
            elif part.type == b"FOOT" and not part.payload:
                part.payload = bytes(Footer.sizeof())
        extra = self.prefix.get("extra", b"")
        start = self.prefix.get("prefix_size", 64 + len(extra))
        head_size = start + sum(part.size for part in self.head)
        first = head_size + sum(part.size for part in self.preface)
        end = first + sum(part.size for part in self.chunks)
        file_size = end + sum(part.size for part in self.tail)
        is_front = any(part.type == b"INDX" for part in self.head)
        index_offset, at = 0, start
        for part in parts:
            if part.type == b"INDX":
                index_offset = index_offset or at
                part.payload = self._index(part.payload, first, end)
            at += part.size
        prefix = {
            "prefix_size": start,
            "head_size": head_size,
            "sync": self.build_sync(),
            "index_offset": index_offset if is_front else 0,
            "file_size": file_size if is_front else 0,
        } | self.prefix
        head = b"".join(part.build(prefix["sync"]) for part in self.head)
        for part in self.tail:
            if part.type == b"FOOT" and not any(part.payload):
                footer = {
                    "index_offset": index_offset,
                    "file_size": file_size,
                    "head_digest": hashlib.sha256(head).digest()[:8],
                }
                part.payload = Footer.build(footer | self.footer)
        after = (*self.preface, *self.chunks, *self.tail)
        rest = b"".join(part.build(prefix["sync"]) for part in after)
        return Prefix.build(prefix) + head + rest

    def _index(self, payload: bytes, first: int, end: int) -> bytes:
        if any(payload):
            return payload
        header = {
            "count": len(self.chunks),
            "entry_size": self.entry_size,
            "flags": int(self.decoded_crcs),
            "first": first,
            "end": end,
        }
        entry = IndexEntry8 if self.entry_size == 8 else IndexEntry16
        entries = [
            {"length": len(part.payload), "decoded_crc": part.decoded_crc * self.decoded_crcs}
            | self.entries.get(number, {})
            for number, part in enumerate(self.chunks)
        ]
        return IndexHeader.build(header | self.index) + b"".join(map(entry.build, entries))

    def build_sync(self) -> int:
        """PFX-9: derived from what the head says, so that equal input gives equal files."""
        digest = hashlib.sha256()
        for part in self.head:
            if part.type not in (b"INDX", b"pADd"):
                digest.update(part.type + part.payload)
        return int.from_bytes(digest.digest()[:4], "little") | 0x80


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """Return restricted JSON as writers should write it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def codec_entry(
    name: str,
    codec_id: int,
    params: Mapping[str, Any] | None = None,
    /,
    *,
    filters: Sequence[Mapping[str, Any]] = (),
    **fields: Any,
) -> dict[str, Any]:
    """Return the values of one `CodecEntry`; `fields` are its further ones."""
    text = {"encoder": {}, "filters": list(filters), "impl": "spec", "params": dict(params or {})}
    entry = {"codec_id": codec_id, "name": name.encode(), "params": json_bytes(text)}
    return entry | fields


def build_codec_table(entries: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the payload of CODC."""
    sized = [
        {"name_size": len(entry["name"]), "params_size": len(entry["params"])} | entry
        for entry in entries
    ]
    return CodecTable.build({"count": len(sized), "entries": sized})


def roi_record(geom: Mapping[str, Any]) -> bytes:
    """Return the payload of rOIB that says what the values of a `Geom` say."""
    bounds = [
        bound
        for start, stop in zip(geom["roi_start"], geom["roi_stop"], strict=True)
        for bound in (start, stop - 1)
    ]
    affine = geom["affine"]
    matrix = [_to_f32(affine[4 * row + column]) for row in range(3) for column in range(3)]
    return RoiRecord.build({"bounds": bounds, "shape": geom["shape"][:3], "matrix": matrix})


def _to_f32(value: float) -> float:
    try:
        struct.pack("<f", value)
    except OverflowError:
        return math.copysign(math.inf, value)
    return value


def build_file(
    geom: Mapping[str, Any],
    codecs: Iterable[Mapping[str, Any]],
    chunks: Iterable[Part],
    *,
    head: Iterable[Part] = (),
    preface: Iterable[Part] = (),
    tail: Iterable[Part] = (),
    index: Literal["head", "tail"] = "head",
    fault: Callable[[Draft], None] | None = None,
    **options: Any,
) -> bytes:
    """Return a whole file.

    Parameters
    ----------
    geom : mapping
        Values of `Geom`.
    codecs : iterable of mapping
        Values of each `CodecEntry`, as `codec_entry` gives them.
    chunks : iterable of Part
        The CHNK frames.
    head, preface, tail : iterable of Part
        Further frames of the head (after CODC) and of the tail; those of the preface.
    index : str
        Where INDX goes.
    fault : callable, optional
        Changes the draft before its bytes are made; CRCs, sizes and offsets follow its changes.
    **options
        Further attributes of `Draft`.
    """
    # Copies: a fault must not reach the parts of the caller.
    head, preface, chunks, tail = (
        [part.copy() for part in parts] for parts in (head, preface, chunks, tail)
    )
    incompat = any(part.flags & 4 for part in chunks) | 2 * (geom["background"] in (2, 3))
    draft = Draft(
        [Part(b"GEOM", Geom.build(geom)), Part(b"CODC", build_codec_table(codecs)), *head],
        chunks,
        [*tail, Part(b"FOOT")],
        preface,
        **options,
    )
    draft.prefix = {"incompat_flags": incompat} | draft.prefix
    if max(geom["shape"][:3]) <= 32767:
        draft.head.insert(0, Part(b"rOIB", roi_record(geom)))
    if index == "head":
        draft.head.append(Part(b"INDX"))
    else:
        draft.tail.insert(0, Part(b"INDX"))
    if fault:
        fault(draft)
    return draft.build()
