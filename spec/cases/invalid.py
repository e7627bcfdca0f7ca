"""Invalid files: one fault each, everything around it right, so that the deeper checks are reached.

`when` is the step by which a reader has refused: ``open``, ``decode`` (all voxels) or ``verify``
(everything). A fault that breaks several rules at once names in `also` those that a reader may
meet first.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cases.nifti import with_nifti
from cases.payloads import (
    RAW_BLOCK,
    ZSTD_MAGIC,
    deflate,
    zlib_stream,
    zstd,
    zstd_block,
    zstd_frame,
    zstd_header,
)
from cases.sample import RAW, RAW_BACKGROUND, Sample, Slot, voxels
from reference import layout
from reference.layout import Draft, Part, codec_entry

Fault = Callable[[Draft], None]

ROI = [(1, 3)] * 3
TAIL = {"index": "tail"}
OPEN, DECODE, VERIFY = "open", "decode", "verify"


@dataclass(frozen=True)
class Case:
    """One invalid file."""

    rule: str
    name: str
    when: str
    description: str
    data: bytes
    also: Sequence[str] = ()


def base(**fields: Any) -> Sample:
    """Return the sample that most faults are made in: two chunks of four voxels."""
    return Sample(voxels((4, 4, 3), 2), **{"roi": ROI} | fields)


def residue(**fields: Any) -> Sample:
    """Return a sample with background chunks: 2 of the ROI, 3 behind them."""
    return base(background=2, **{"codecs": (RAW, RAW_BACKGROUND)} | fields)


def cases() -> Iterator[Case]:
    """Yield all invalid files, in the order of the rules in the text."""
    yield from file_layout()
    yield from prefix()
    yield from frame_headers()
    yield from frame_payloads()
    yield from frame_order()
    yield from compressed_payloads()
    yield from head()
    yield from roi_record()
    yield from geometry()
    yield from geometry_values()
    yield from codec_table()
    yield from rescale()
    yield from background()
    yield from chunks()
    yield from payloads()
    yield from index()
    yield from footer()
    yield from metadata()
    yield from restricted_json()
    yield from dicom()
    yield from limits()


# -- ways to break a file ----------------------------------------------------------------------


def header(kind: bytes, ordinal: int = 0, /, **values: Any) -> Fault:
    """Return the fault that a frame header has these values."""
    return lambda draft: draft.find(kind, ordinal).header.update(values)


def payload(kind: bytes, edit: Callable[[bytes], bytes], ordinal: int = 0) -> Fault:
    """Return the fault that the payload of a frame is edited."""

    def fault(draft: Draft) -> None:
        part = draft.find(kind, ordinal)
        part.payload = edit(part.payload)

    return fault


def put(where: str, position: int, *parts: Part) -> Fault:
    """Return the fault that frames stand where they should not."""

    def fault(draft: Draft) -> None:
        target = getattr(draft, where)
        target[position:position] = [part.copy() for part in parts]

    return fault


def drop(where: str, kind: bytes) -> Fault:
    """Return the fault that a frame is not there."""

    def fault(draft: Draft) -> None:
        getattr(draft, where).remove(draft.find(kind))

    return fault


def change(data: bytes, offset: int, new: bytes) -> bytes:
    """Return the file with some bytes changed, and no CRC recomputed."""
    assert data[offset : offset + len(new)] != new
    return data[:offset] + new + data[offset + len(new) :]


def flip(data: bytes, kind: bytes, offset: int, ordinal: int = 0) -> bytes:
    """Return the file with one bit changed, `offset` bytes into a frame."""
    at = offset + next(
        frame.offset
        for frame in layout.File.parse(data).frames
        if (frame.header.type, frame.header.ordinal) == (kind, ordinal)
    )
    return change(data, at, bytes([data[at] ^ 1]))


def resealed(data: bytes, offset: int, new: bytes) -> bytes:
    """Return the file with bytes of its prefix changed, and the CRC of the 64 bytes recomputed."""
    changed = change(data, offset, new)[:60]
    return changed + struct.pack("<I", layout.zlib.crc32(changed)) + data[64:]


# -- sections of the text ----------------------------------------------------------------------


def file_layout() -> Iterator[Case]:
    """Yield faults of section 3."""
    front, tail = base().build(), base(options=TAIL).build()
    end = ("LAY-4", "FRM-1", "FRM-2", "FOT-3")
    yield Case("LAY-1", "trailing", OPEN, "8 bytes after FOOT", front + bytes(8), ("PFX-11",))
    yield Case(
        "LAY-1", "trailing-tail-index", OPEN, "8 bytes after FOOT, tail index", tail + bytes(8), end
    )
    yield Case(
        "LAY-1", "concatenated", OPEN, "two files, one after the other", front * 2, ("PFX-11",)
    )
    yield Case(
        "LAY-1",
        "concatenated-tail-index",
        OPEN,
        "two files, one after the other",
        tail * 2,
        ("FOT-2", "FOT-3", "IDX-5", "FRM-1"),
    )
    old = Sample(voxels((6, 5, 4), 2), roi=[(0, 6), (0, 5), (0, 4)], options=TAIL).build()
    yield Case(
        "LAY-1",
        "stale-tail",
        OPEN,
        "a file written over a longer one that was not cut",
        tail + old[len(tail) :],
        end,
    )

    def gap(draft: Draft) -> None:
        draft.chunks[-1].padding = bytes(4 + 8)  # 4 bytes of padding belong there
        draft.index["end"] = draft_end(draft) - 8

    yield Case(
        "LAY-1",
        "gap-before-tail",
        OPEN,
        "8 zero bytes between the last chunk and the tail",
        base(options=TAIL).build(gap),
        ("IDX-5",),
    )
    yield Case(
        "LAY-2",
        "two-indices",
        VERIFY,
        "INDX in the head and in the tail",
        base().build(put("tail", 0, Part(b"INDX"))),
        ("FRM-10",),
    )

    def no_index(draft: Draft) -> None:
        drop("tail", b"INDX")(draft)
        draft.tail.insert(0, Part(b"jSOn", b"{}"))
        draft.footer["index_offset"] = draft_end(draft)

    yield Case(
        "LAY-2",
        "no-index",
        OPEN,
        "no INDX at all",
        base(options=TAIL).build(no_index),
        ("FOT-2",),
    )
    yield Case(
        "LAY-2",
        "index-in-head-not-announced",
        OPEN,
        "INDX in the head, index_offset 0",
        base().build(lambda d: d.prefix.update(index_offset=0, file_size=0)),
    )

    def other_frame(draft: Draft) -> None:
        draft.chunks[1].type = b"exAm"

    yield Case(
        "LAY-3",
        "other-frame-between-chunks",
        DECODE,
        "an ancillary frame in the place of chunk 1",
        base().build(other_frame),
        ("CHK-1", "IDX-3"),
    )
    yield Case(
        "LAY-3",
        "critical-between-chunks",
        DECODE,
        "an SLSC in the place of chunk 1",
        base().build(lambda d: setattr(d.chunks[1], "type", b"SLSC")),
        ("CHK-1", "IDX-3", "FRM-9", "FRM-10"),
    )
    yield Case("LAY-4", "no-footer", OPEN, "the file ends before FOOT", front[:-64])
    yield Case("LAY-4", "no-footer-tail-index", OPEN, "the file ends before FOOT", tail[:-64])
    yield Case("LAY-4", "empty", OPEN, "a file of no bytes", b"")
    yield Case("LAY-4", "prefix-only", OPEN, "a file that ends after its prefix", front[:64])


def draft_end(draft: Draft) -> int:
    """Return the offset after the last chunk of a draft with its index at the tail."""
    return 64 + sum(part.size for part in (*draft.head, *draft.chunks))


def prefix() -> Iterator[Case]:
    """Yield faults of section 4."""

    def with_prefix(**values: Any) -> bytes:
        return base().build(lambda d: d.prefix.update(values))

    front = base().build()
    yield Case(
        "PFX-1",
        "magic",
        OPEN,
        "line ends converted to LF",
        with_prefix(magic=b"\x89MROI\n\n\n"),
    )
    yield Case("PFX-1", "other-format", OPEN, "a gzip file", b"\x1f\x8b" + front[2:])
    yield Case("PFX-2", "major-2", OPEN, "version 2.0", with_prefix(version_major=2))
    for size in (56, 68, 4104):
        data = resealed(front, 10, struct.pack("<H", size))
        yield Case("PFX-3", f"prefix-size-{size}", OPEN, f"prefix_size is {size}", data)
    data = change(front, 9, b"\x01")
    yield Case("PFX-4", "prefix-crc", OPEN, "a changed byte in the prefix", data)
    yield Case("PFX-5", "checksum-id", OPEN, "checksum_id is 2", with_prefix(checksum_id=2))
    yield Case("PFX-6", "reserved", OPEN, "a reserved byte is 1", with_prefix(reserved=b"\0\0\1"))
    for bit in (2, 63):
        data = with_prefix(incompat_flags=1 << bit)
        yield Case("PFX-7", f"incompat-{bit}", OPEN, f"unknown incompat bit {bit}", data)
    size = int.from_bytes(front[12:16], "little")
    for value, name in ((size + 4, "odd"), (64, "empty")):
        data = with_prefix(head_size=value)
        yield Case("PFX-8", f"head-size-{name}", OPEN, f"head_size is {value}", data)
    data = with_prefix(sync=0xFFFFFF7F)
    yield Case("PFX-9", "sync", OPEN, "first byte of sync is 0x7F", data)
    yield Case(
        "PFX-10",
        "index-offset-of-geom",
        OPEN,
        "index_offset is that of GEOM",
        with_prefix(index_offset=152),
    )
    tail = base(options=TAIL).build()
    place = int.from_bytes(tail[-32:-24], "little")
    yield Case(
        "PFX-10",
        "index-offset-in-tail",
        OPEN,
        "index_offset is that of an INDX in the tail",
        base(options=TAIL).build(
            lambda d: d.prefix.update(index_offset=place, file_size=len(tail))
        ),
    )
    data = with_prefix(file_size=0)
    yield Case("PFX-11", "no-size", OPEN, "index in the head, file_size 0", data)
    for step in (-8, 8):
        data = with_prefix(file_size=len(front) + step)
        name = "small" if step < 0 else "large"
        yield Case(
            "PFX-11", f"size-{name}", OPEN, f"file_size is off by {step}", data, ("LAY-1", "LAY-4")
        )
    yield Case(
        "PFX-11",
        "size-tail-index",
        OPEN,
        "index at the tail, file_size wrong",
        base(options=TAIL).build(lambda d: d.prefix.update(file_size=len(tail) + 8)),
        ("LAY-4",),
    )


NOTE = Part(b"jSOn", b'{"a":1}')


def frame_headers() -> Iterator[Case]:
    """Yield faults of section 5 in headers."""
    sample, front = base(tail=[NOTE]), base(tail=[NOTE]).build()
    yield Case("FRM-1", "geom", OPEN, "a changed header of GEOM", flip(front, b"GEOM", 9))
    yield Case("FRM-1", "chunk", DECODE, "a changed header of a chunk", flip(front, b"CHNK", 9, 1))
    yield Case("FRM-1", "tail", VERIFY, "a changed header in the tail", flip(front, b"jSOn", 9))
    yield Case("FRM-1", "foot", VERIFY, "a changed header of FOOT", flip(front, b"FOOT", 9))
    other = header(b"CODC", sync=0x80)
    yield Case("FRM-2", "head", OPEN, "CODC of another file", sample.build(other))
    data = sample.build(header(b"CHNK", 1, sync=0x80))
    yield Case("FRM-2", "chunk", DECODE, "a chunk of another file", data)
    for name, kind in (("digit", b"jS1n"), ("third-lower", b"exam"), ("not-ascii", b"ex\xc4m")):
        data = sample.build(put("head", 3, Part(kind)))
        yield Case("FRM-3", name, OPEN, f"frame type {kind!r}", data)
    data = sample.build(header(b"GEOM", reserved=1))
    yield Case("FRM-4", "reserved", OPEN, "reserved bytes of a header are not zero", data)
    data = sample.build(header(b"CHNK", 0, reserved=0x8000))
    yield Case("FRM-4", "reserved-chunk", DECODE, "the same in a chunk", data)
    data = sample.build(header(b"CODC", codec_slot=1))
    yield Case("FRM-4", "slot", OPEN, "codec_slot of a frame that is no chunk", data)
    for kind, flags in ((b"GEOM", 1), (b"INDX", 1)):
        data = sample.build(header(kind, flags=flags))
        name = kind.decode().lower()
        yield Case("FRM-5", name, OPEN, f"{kind.decode()} with flags {flags}", data)
    for kind, flags in ((b"jSOn", 2), (b"sLPo", 1), (b"exAm", 3), (b"nEWt", 2)):
        data = base(tail=[Part(kind, bytes(72), flags=flags)]).build()
        name = kind.decode().lower()
        yield Case("FRM-5", name, VERIFY, f"{kind.decode()} with flags {flags}", data)
    for flags in (3, 8, 128):
        data = sample.build(header(b"CHNK", 0, flags=flags))
        yield Case("FRM-5", f"chunk-{flags}", DECODE, f"a chunk with flags {flags}", data)


def frame_payloads() -> Iterator[Case]:
    """Yield faults of section 5 in payloads and padding."""
    sample, front = base(tail=[NOTE]), base(tail=[NOTE]).build()
    yield Case("FRM-6", "geom", OPEN, "a changed payload of GEOM", flip(front, b"GEOM", 150))
    yield Case("FRM-6", "roib", OPEN, "a changed payload of rOIB", flip(front, b"rOIB", 60))
    yield Case("FRM-6", "index", OPEN, "a changed payload of INDX", flip(front, b"INDX", 70))
    yield Case("FRM-6", "chunk", DECODE, "a changed payload of a chunk", flip(front, b"CHNK", 33))
    yield Case("FRM-6", "tail", VERIFY, "a changed payload in the tail", flip(front, b"jSOn", 37))
    yield Case("FRM-6", "foot", VERIFY, "a changed payload of FOOT", flip(front, b"FOOT", 50))
    unknown = base(head=[Part(b"exAm", b"12345678")]).build()
    data = flip(unknown, b"exAm", 33)
    yield Case("FRM-6", "unknown", OPEN, "a changed payload of a frame that nobody knows", data)
    yield Case("FRM-7", "roib", OPEN, "padding of rOIB is not zero", flip(front, b"rOIB", 87))
    yield Case("FRM-7", "chunk", DECODE, "padding of a chunk", flip(front, b"CHNK", 36, 1))
    yield Case("FRM-7", "tail", VERIFY, "padding in the tail", flip(front, b"jSOn", 39))
    for length, name in ((1 << 30, "large"), ((1 << 64) - 64, "wraps")):
        data = sample.build(header(b"CODC", length=length))
        yield Case("FRM-8", name, OPEN, f"CODC says that it has {length} bytes", data)
    data = sample.build(header(b"jSOn", length=1 << 20))
    yield Case("FRM-8", "tail", VERIFY, "a frame reaches beyond the file", data, ("LAY-4",))


def frame_order() -> Iterator[Case]:
    """Yield frames that are not known, or stand where they may not."""
    sample = base(tail=[NOTE])
    new = Part(b"NEWt", b"critical")
    yield Case(
        "FRM-9", "critical", OPEN, "an unknown critical frame", sample.build(put("head", 3, new))
    )
    private = Part(b"ExAm", b"critical")
    data = sample.build(put("tail", 1, private))
    yield Case("FRM-9", "critical-private", VERIFY, "an unknown private critical frame", data)
    first = Part(b"CHNK", b"1234", 2)
    data = sample.build(put("head", 3, first))
    yield Case("FRM-9", "chunk-in-head", OPEN, "CHNK in the head", data)
    data = sample.build(put("head", 3, Part(b"FOOT", bytes(32))))
    yield Case("FRM-9", "foot-in-head", OPEN, "FOOT in the head", data)
    scale = Part(b"SLSC", struct.pack("<6d", *[1, 0] * 3))
    data = sample.build(put("tail", 0, scale))
    yield Case("FRM-9", "slsc-in-tail", VERIFY, "SLSC in the tail", data)
    double = put("head", 3, NOTE, Part(b"jSOn", b"{}"))
    yield Case("FRM-10", "head", OPEN, "two jSOn in the head", base().build(double))
    data = sample.build(put("head", 3, NOTE))
    yield Case("FRM-10", "head-and-tail", VERIFY, "jSOn in the head and in the tail", data)
    data = sample.build(header(b"GEOM", ordinal=1))
    yield Case("FRM-10", "geom-1", OPEN, "GEOM with ordinal 1", data)
    data = sample.build(header(b"rOIB", ordinal=1))
    yield Case("FRM-10", "roib-1", OPEN, "rOIB with ordinal 1", data)
    data = sample.build(header(b"FOOT", ordinal=1))
    yield Case("FRM-10", "foot-1", VERIFY, "FOOT with ordinal 1", data)
    data = base(tail=[Part(b"nIFt", b"x", 3)]).build()
    yield Case("FRM-10", "nift-3", VERIFY, "nIFt with ordinal 3", data)
    data = base(tail=[Part(b"exAm", b"", 5), Part(b"exAm", b"1", 5)]).build()
    yield Case("FRM-10", "unknown", VERIFY, "two unknown frames with the same ordinal", data)


def compressed_payloads() -> Iterator[Case]:
    """Yield payloads that are said to be compressed."""
    for name, text, stream in compressed():
        data = base(tail=[Part(b"jSOn", stream, flags=1)]).build()
        yield Case("FRM-11", name, VERIFY, text, data)


def compressed() -> Iterator[tuple[str, str, bytes]]:
    """Yield payloads with flag 1 that are not exactly one frame of `{"a":1}`."""
    good = zstd_frame(b'{"a":1}')
    unsized = ZSTD_MAGIC + b"\x00\x58" + good[6:]  # a window instead of a size
    dictionary = ZSTD_MAGIC + b"\x21\x07" + good[5:]  # single segment, dictionary 7
    yield "plain", "flag 1, but not compressed", b'{"a":1}'
    yield "no-size", "the frame does not declare its size", unsized
    yield "dictionary", "the frame wants a dictionary", dictionary
    yield "trailing", "a byte after the frame", good + b"\0"
    yield "two-frames", "two frames", good + good
    yield "cut", "the frame is cut", good[:-1]
    yield "lies", "the frame declares 9 bytes and has 7", zstd_frame(b'{"a":1}', declared=9)
    skippable = struct.pack("<II", 0x184D2A50, 7) + b'{"a":1}'
    yield "skippable", "a skippable frame", skippable


def head() -> Iterator[Case]:
    """Yield faults of section 6."""
    yield Case("HED-1", "no-geom", OPEN, "no GEOM", base().build(drop("head", b"GEOM")))
    yield Case("HED-1", "no-codc", OPEN, "no CODC", base().build(drop("head", b"CODC")))

    def swap(first: int, second: int) -> Fault:
        def fault(draft: Draft) -> None:
            parts = draft.head
            parts[first], parts[second] = parts[second], parts[first]

        return fault

    yield Case("HED-1", "codc-first", OPEN, "CODC before GEOM", base().build(swap(1, 2)))
    yield Case(
        "HED-1", "roib-second", OPEN, "rOIB after GEOM", base().build(swap(0, 1)), ("ROI-1",)
    )
    data = base(tail=[]).build(put("head", 0, Part(b"jSOn", b"{}")))
    yield Case("HED-1", "ancillary-first", OPEN, "jSOn before rOIB", data, ("ROI-1",))
    data = base().build(put("head", 2, Part(b"jSOn", b"{}")))
    yield Case("HED-1", "ancillary-second", OPEN, "jSOn between GEOM and CODC", data)
    data = base().build(put("head", 4, Part(b"pADd", bytes(8))))
    yield Case("HED-2", "after-index", OPEN, "pADd after INDX in the head", data)

    def leftover(draft: Draft) -> None:
        draft.head[-1].padding = bytes(8)

    yield Case(
        "HED-2",
        "leftover",
        OPEN,
        "8 bytes of the head belong to no frame",
        base().build(leftover),
        ("LAY-1", "FRM-8"),
    )


def roi_record() -> Iterator[Case]:
    """Yield faults of section 6.1."""
    yield Case("ROI-1", "absent", OPEN, "no rOIB", base().build(drop("head", b"rOIB")))
    long = Sample(voxels((32768, 1, 1), 2), roi=[(0, 2), (0, 1), (0, 1)])
    record = layout.RoiRecord.build(
        {
            "bounds": [0, 1, 0, 0, 0, 0],
            "shape": [-32768, 1, 1],
            "matrix": [2, 0, 0, 0, 2.5, 0, 0, 0, 3],
        }
    )
    data = long.build(put("head", 0, Part(b"rOIB", record)))
    yield Case("ROI-1", "long-axis", OPEN, "rOIB with an extent of 32768, wrapped", data)
    for name, offset, new in (("bounds", 2, b"\x03\0"), ("shape", 12, b"\x05\0")):
        data = base().build(
            payload(b"rOIB", lambda p, o=offset, n=new: p[:o] + n + p[o + len(n) :])
        )
        yield Case("ROI-2", name, OPEN, f"{name} of rOIB are not those of GEOM", data)
    data = base().build(payload(b"rOIB", lambda p: p + b"\0\0"))
    yield Case("ROI-2", "long", OPEN, "rOIB of 56 bytes", data)
    data = base().build(payload(b"rOIB", lambda p: p[:18]))
    yield Case("ROI-2", "short", OPEN, "rOIB of 18 bytes", data)
    data = base().build(payload(b"rOIB", lambda p: p[:18] + struct.pack("<f", 2.25) + p[22:]))
    yield Case("ROI-3", "matrix", OPEN, "the matrix of rOIB is not that of GEOM", data)


def geom(rule: str, name: str, text: str, also: Sequence[str] = (), **values: Any) -> Case:
    """Return a fault of GEOM."""
    return Case(rule, name, OPEN, text, base(geom=values).build(), also)


ONE = [1] * 4  # extents of the axes beyond the third


def geometry() -> Iterator[Case]:
    """Yield faults of section 6.2 in the grid."""
    data = base().build(payload(b"GEOM", lambda p: struct.pack("<H", 336) + p[2:336]))
    yield Case("GEO-1", "short", OPEN, "GEOM of 336 bytes", data)
    data = base().build(payload(b"GEOM", lambda p: p[:1]))
    yield Case("GEO-1", "one-byte", OPEN, "GEOM of one byte", data)
    data = base().build(payload(b"GEOM", lambda p: p + bytes(8)))
    yield Case("GEO-1", "longer-than-size", OPEN, "GEOM of 352 bytes says 344", data)
    yield geom("GEO-2", "ndim-0", "no dimension", ndim=0)
    yield geom("GEO-2", "ndim-8", "8 dimensions", ndim=8)
    yield geom("GEO-2", "extent-0", "an extent of 0", shape=[4, 4, 0, *ONE])
    yield geom("GEO-2", "beyond-ndim", "an extent of 2 beyond ndim", shape=[4, 4, 3, 1, 2, 1, 1])
    limit = (1 << 40) + 1
    yield geom("GEO-2", "extent", "an extent of 2^40 + 1", shape=[limit, 4, 3, *ONE])
    shape = [1 << 40, 1 << 20, 4, *ONE]
    yield geom("GEO-2", "size", "2^62 bytes", shape=shape)
    yield geom("GEO-3", "slice-axis", "slice axis 3", slice_axis=3)
    for code in (0, 1):
        yield geom("GEO-4", f"datatype-{code}", f"datatype {code}", datatype=code)
    yield geom("GEO-4", "itemsize", "uint8 of 2 bytes", itemsize=2)
    yield geom("GEO-5", "bits-0", "no significant bits", bits_stored=0)
    yield geom("GEO-5", "bits-9", "9 bits of uint8", bits_stored=9)
    rgb = Sample(voxels((2, 2, 1), 128), 128, geom={"bits_stored": 24}).build()
    yield Case("GEO-5", "bits-rgb", OPEN, "24 bits of a sample of RGB24", rgb)
    yield geom("GEO-6", "empty-roi", "an empty ROI", roi_stop=[1, 3, 3])
    yield geom(
        "GEO-6", "reversed-roi", "stop before start", roi_start=[3, 1, 1], roi_stop=[1, 3, 3]
    )
    yield geom("GEO-6", "roi-outside", "the ROI leaves the volume", roi_stop=[3, 5, 3])
    yield geom("GEO-7", "chunk-0", "chunks of no voxels", chunk_shape=[2, 0, 1])
    yield geom("GEO-7", "chunk-large", "chunks larger than the ROI", chunk_shape=[3, 2, 1])


def geometry_values() -> Iterator[Case]:
    """Yield faults of section 6.2 in what is not the grid."""
    yield geom("GEO-8", "policy-5", "background 5", background=5)
    for policy in (0, 4):
        data = Sample(voxels((2, 2, 1), 2), geom={"background": policy}).build()
        text = f"policy {policy} with the whole volume as ROI"
        yield Case("GEO-8", f"whole-{policy}", OPEN, text, data)
    yield geom("GEO-9", "source-kind", "source kind 6", source_kind=6)
    yield geom("GEO-9", "source-flags", "source flags 4", source_flags=4)
    yield geom("GEO-9", "xform-6", "xform code 6", xform_code=6)
    yield geom("GEO-9", "xform-negative", "xform code -1", xform_code=-1)
    nan, inf = float("nan"), float("inf")
    yield geom("GEO-10", "slope-0", "slope 0", slope=0.0)
    yield geom("GEO-10", "slope-nan", "slope NaN", slope=nan)
    yield geom("GEO-10", "inter-infinite", "inter infinite", inter=-inf)
    affine = [2.0, 0, 0, -30, 0, 2.5, 0, -40, 0, 0, 3, -50]
    yield geom("GEO-11", "affine-nan", "NaN in the affine", affine=[*affine[:11], nan])
    yield geom("GEO-11", "spacing-negative", "negative spacing", spacing=[2.0, -1, 3, 0, 0, 0, 0])
    yield geom(
        "GEO-11", "spacing-nan", "NaN spacing beyond ndim", spacing=[2.0, 2.5, 3, 0, 0, 0, nan]
    )
    yield geom("GEO-12", "fill-tail", "fill beyond the element", fill=bytes(1) + b"\1" + bytes(30))
    for policy, sample in ((0, base(background=0)), (2, residue())):
        sample.geom = {"fill": b"\x01" + bytes(31)}
        text = f"a fill with policy {policy}"
        yield Case("GEO-12", f"fill-{policy}", OPEN, text, sample.build())
    yield geom("GEO-13", "roi-chunks", "one chunk too many", roi_chunks=3)
    yield geom("GEO-13", "background-chunks", "background chunks, policy 1", background_chunks=3)
    whole = {
        "shape": [65537, 65537, 1, *ONE],
        "roi_start": [0, 0, 0],
        "roi_stop": [65537, 65537, 1],
        "chunk_shape": [1, 1, 1],
        "roi_chunks": (65537 * 65537) % 2**32,
    }
    yield geom("GEO-13", "wraps", "2^32 + 2^17 + 1 chunks, modulo 2^32", ("LIM-1",), **whole)
    yield geom("GEO-14", "reserved", "a reserved byte is 1", reserved=b"\0\0\0\0\0\1")


def codec_table() -> Iterator[Case]:
    """Yield faults of section 6.3."""

    def table(
        rule: str, name: str, text: str, *entries: Any, also: Sequence[str] = (), when: str = OPEN
    ) -> Case:
        data = layout.build_codec_table(entries)
        return Case(rule, name, when, text, base().build(payload(b"CODC", lambda _: data)), also)

    def edited(name: str, text: str, edit: Callable[[bytes], bytes]) -> Case:
        return Case("CDC-1", name, OPEN, text, base().build(payload(b"CODC", edit)))

    raw = codec_entry("raw", 1)
    yield table("CDC-1", "count-0", "no slots", also=("CDC-2",))
    yield table("CDC-1", "count-17", "17 slots", *[raw] * 17)
    yield edited("empty", "CODC of no bytes", lambda _: b"")
    yield edited("count-2", "2 slots announced, 1 there", lambda p: b"\2" + p[1:])
    yield edited("trailing", "bytes after the last slot", lambda p: p + bytes(8))
    yield edited("cut", "the last slot is cut", lambda p: p[:-8])
    yield edited("reserved-1", "u16 after count is 1", lambda p: p[:2] + b"\1" + p[3:])
    yield edited("reserved-2", "u32 after it is 1", lambda p: p[:4] + b"\1" + p[5:])
    yield table("CDC-1", "reserved-entry", "reserved bytes of a slot", raw | {"reserved": 1})
    padded = codec_entry("org.example.codec", 0)
    size = -(len(padded["name"]) + len(padded["params"])) % 8
    assert size
    padded["padding"] = bytes(size - 1) + b"\1"
    yield table("CDC-1", "padding", "padding of a slot is not zero", padded)
    for fidelity in (0, 4):
        slot = codec_entry("raw", 1, fidelity=fidelity)
        yield table("CDC-1", f"fidelity-{fidelity}", f"fidelity {fidelity}", slot)
    yield table("CDC-1", "flags", "flags 2", codec_entry("raw", 1, flags=2))
    yield table("CDC-1", "role", "a slot of role 2", raw, codec_entry("raw", 1, role=2))
    yield edited("params-size", "parameters that do not fit", lambda p: p[:16] + b"\x60" + p[17:])
    yield edited(
        "params-huge", "2^32 - 1 bytes of parameters", lambda p: p[:16] + b"\xff" * 4 + p[20:]
    )
    yield table("CDC-2", "no-roi-slot", "no slot of role 0", codec_entry("raw", 1, role=1))
    yield table(
        "CDC-2", "background-slot", "a slot of role 1 without background chunks", raw,
        codec_entry("raw", 1, role=1),
    )  # fmt: skip
    data = residue(slots={2: 0, 3: 0, 4: 0}).build(
        payload(b"CODC", lambda _: layout.build_codec_table([raw]))
    )
    yield Case("CDC-2", "no-background-slot", OPEN, "background chunks, no slot of role 1", data)
    for name, text in (
        ("Raw", "upper case"),
        ("", "no name"),
        ("1raw", "starts with a digit"),
        ("org.example codec", "a space"),
        ("org.exämple", "not ASCII"),
        ("org." + "x" * 60, "64 bytes"),
        ("org.example.codec\n", "a line end"),
    ):
        slug = text.replace(" ", "-")
        yield table("CDC-3", slug, f"name of a codec: {text}", codec_entry(name, 0))
    yield table("CDC-3", "no-dot", "a name without number and without dot", codec_entry("later", 0))
    for name, number, slug in (
        ("zstd", 1, "wrong-number"),
        ("later", 3, "wrong-name"),
        ("raw", 9999, "known-name"),
    ):
        params = {"delta": False, "shuffle": False} if name == "zstd" else {}
        slot = codec_entry(name, number, params)
        yield table("CDC-4", slug, f"codec {name} with number {number}", slot, when=DECODE)
    yield from codec_parameters()


def codec_parameters() -> Iterator[Case]:
    """Yield faults of the parameters of a codec."""

    def slot(params: Any, **fields: Any) -> bytes:
        entry = codec_entry(fields.pop("name", "raw"), fields.pop("id", 1), params, **fields)
        table = layout.build_codec_table([entry])
        return base().build(payload(b"CODC", lambda _: table))

    members = {"encoder": {}, "filters": [], "impl": "spec", "params": {}}
    for name, text, value in (
        ("missing-member", "no member impl", {k: v for k, v in members.items() if k != "impl"}),
        ("further-member", "a further member", members | {"level": 3}),
        ("filters-object", "filters is an object", members | {"filters": {}}),
        ("encoder-null", "encoder is null", members | {"encoder": None}),
        ("impl-number", "impl is a number", members | {"impl": 1}),
        ("filter-string", "a filter is a string", members | {"filters": ["bias"]}),
        ("filter-members", "a filter without params", members | {"filters": [{"name": "bias"}]}),
    ):
        entry = codec_entry("raw", 1) | {"params": layout.json_bytes(value)}
        table = layout.build_codec_table([entry])
        data = base().build(payload(b"CODC", lambda _, t=table: t))
        yield Case("CDC-6", name, OPEN, text, data)
    yield Case("CDC-6", "raw-params", DECODE, "raw with a parameter", slot({"level": 3}))
    for name, text, params in (
        (
            "unknown",
            "a parameter that zstd does not have",
            {"delta": False, "shuffle": False, "x": 1},
        ),
        ("missing", "zstd without the parameter delta", {"shuffle": False}),
        ("type", "shuffle is 1 instead of true", {"delta": False, "shuffle": 1}),
    ):
        data = slot(params, name="zstd", id=2)
        yield Case("CDC-6", f"zstd-{name}", DECODE, text, data)


def rescale() -> Iterator[Case]:
    """Yield faults of section 6.4."""
    pairs = struct.pack("<6d", *[0.5, 0] * 3)
    for name, text, data in (
        ("short", "one slice too few", pairs[:-16]),
        ("long", "one slice too many", pairs + pairs[:16]),
        ("nan", "a slope is NaN", struct.pack("<d", float("nan")) + pairs[8:]),
        ("infinite", "an inter is infinite", pairs[:-8] + struct.pack("<d", float("inf"))),
    ):
        yield Case("SLS-1", name, OPEN, text, base(head=[Part(b"SLSC", data)]).build())
    both = base(head=[Part(b"SLSC", pairs)], geom={"slope": 2.0})
    yield Case("SLS-1", "slope", OPEN, "SLSC, and a slope in GEOM", both.build())


def background() -> Iterator[Case]:
    """Yield faults of section 7.2."""
    data = base().build(lambda d: d.prefix.update(incompat_flags=2))
    yield Case("BKG-2", "bit-without-chunks", OPEN, "incompat bit 1 with policy 1", data)
    data = residue().build(lambda d: d.prefix.update(incompat_flags=0))
    yield Case("BKG-2", "chunks-without-bit", OPEN, "policy 2 without incompat bit 1", data)
    lossy = residue(codecs=(RAW, replace(RAW_BACKGROUND, fidelity=2))).build()
    yield Case("BKG-2", "lossy-exact", OPEN, "policy 2 with a codec that is not lossless", lossy)


def chunks() -> Iterator[Case]:
    """Yield faults of section 7.3 that show in the header of a chunk."""

    def swap(draft: Draft) -> None:
        first, second = draft.chunks
        first.ordinal, second.ordinal = 1, 0

    yield Case(
        "CHK-1", "swapped", DECODE, "chunks 0 and 1 have each other's ordinal", base().build(swap),
        ("IDX-3", "LAY-3"),
    )  # fmt: skip
    data = base().build(lambda d: setattr(d.chunks[1], "ordinal", 0))
    yield Case("CHK-1", "twice", DECODE, "chunk 0 twice", data, ("IDX-3", "LAY-3", "FRM-10"))

    def state(
        rule: str, name: str, text: str, flags: int, data: bytes, sample: Sample | None = None
    ) -> Case:
        def fault(draft: Draft) -> None:
            draft.chunks[1].flags, draft.chunks[1].payload = flags, data

        return Case(rule, name, DECODE, text, (sample or base()).build(fault))

    yield state("CHK-2", "short", "a stored chunk of 3 bytes instead of 4", 2, b"123")
    yield state("CHK-2", "long", "a stored chunk of 5 bytes instead of 4", 2, b"12345")
    yield state("CHK-2", "empty", "a stored chunk of no bytes", 2, b"")
    yield state("CHK-3", "empty", "a constant of no bytes", 1, b"")
    yield state("CHK-3", "two", "a constant of two elements", 1, b"11")
    partial = base(options={"prefix": {"incompat_flags": 1}})
    yield state("CHK-4", "payload", "a missing chunk with a payload", 4, b"1", partial)
    yield state("CHK-4", "whole-file", "a missing chunk, incompat bit 0 not set", 4, b"")
    data = base(slots={}).build(lambda d: setattr(d.chunks[1], "slot", 1))
    yield Case("CHK-5", "no-such-slot", DECODE, "slot 1 of 1", data)
    data = residue().build(lambda d: setattr(d.chunks[1], "slot", 1))
    yield Case(
        "CHK-5", "background-slot", DECODE, "a chunk of the ROI with a background slot", data
    )
    stored = residue(states={4: "stored"}).build(lambda d: setattr(d.chunks[4], "slot", 0))
    text = "a stored background chunk with a slot of the ROI"
    yield Case("CHK-5", "roi-slot", DECODE, text, stored)
    empty = Sample(
        voxels((2, 2, 3), 2),
        roi=[(0, 2), (0, 2), (1, 3)],
        background=2,
        codecs=(RAW, RAW_BACKGROUND),
    )
    for name, text, flags, data in (
        ("const", "a constant chunk of no voxels", 1, b"\0"),
        ("encoded", "an encoded chunk of no voxels", 0, b""),
    ):
        fault = _empty_chunk(flags, data)
        yield Case("CHK-7", name, VERIFY, text, empty.build(fault))
    yield from missing_crc()


def _empty_chunk(flags: int, data: bytes) -> Fault:
    def fault(draft: Draft) -> None:
        draft.chunks[4].flags, draft.chunks[4].payload = flags, data

    return fault


def missing_crc() -> Iterator[Case]:
    """Yield a missing chunk that has a decoded CRC, and a chunk that has a wrong one."""
    lost = base(states={1: "missing"}).build(lambda d: d.entries.update({1: {"decoded_crc": 7}}))
    text = "a decoded CRC for a missing chunk"
    yield Case("IDX-4", "missing", DECODE, text, lost)
    wrong = base().build(lambda d: d.entries.update({1: {"decoded_crc": 7}}))
    yield Case("CHK-9", "encoded", DECODE, "the decoded CRC of a chunk is another", wrong)
    for state in ("const", "stored"):
        flat = base(states={1: state})
        flat.voxels[1:3, 1:3, 2] = flat.voxels[1, 1, 2]
        data = flat.build(lambda d: d.entries.update({1: {"decoded_crc": 7}}))
        yield Case("CHK-9", state, DECODE, f"the decoded CRC of a {state} chunk is another", data)


def payloads() -> Iterator[Case]:
    """Yield payloads that are not exactly one bitstream of their codec."""

    def with_payload(slot: Slot, name: str, text: str, data: bytes) -> Case:
        sample = base(codecs=(slot,), payloads={1: data})
        return Case("CHK-8", f"{slot.name}-{name}", DECODE, f"{slot.name}: {text}", sample.build())

    good = b"1234"
    for name, text, data in (("short", "3 bytes", b"123"), ("long", "5 bytes", b"12345")):
        yield with_payload(RAW, name, text, data)
    frame = zstd_frame(good)
    window = ZSTD_MAGIC + b"\x00\x58" + zstd_block(RAW_BLOCK, good, 4, last=True)
    wide = ZSTD_MAGIC + b"\x80\xb0" + struct.pack("<I", 4) + frame[6:]
    for name, text, data in (
        ("empty", "no bytes", b""),
        ("cut", "the frame is cut", frame[:-1]),
        ("trailing", "a byte after the frame", frame + b"\0"),
        ("two-frames", "two frames", frame + zstd_frame(b"")),
        ("declares-less", "the frame declares and has 3 bytes", zstd_frame(b"123")),
        ("declares-more", "the frame declares and has 5 bytes", zstd_frame(b"12345")),
        ("lies-less", "the frame declares 4 bytes and has 3", zstd_frame(b"123", declared=4)),
        ("lies-more", "the frame declares 4 bytes and has 5", zstd_frame(b"12345", declared=4)),
        ("bomb-run", "declares 4 bytes and has a run of 2^17", _run(4)),
        ("bomb-declared", "declares 2^40 bytes", zstd_header(1 << 40) + _run(4)[6:]),
        ("no-size", "the frame does not declare its size", window),
        ("window", "the frame wants a window of 4 GiB", wide),
        ("reserved-block", "a block of the reserved type", frame[:6] + b"\x27\0\0" + good),
        ("skippable", "a skippable frame before it", struct.pack("<II", 0x184D2A50, 0) + frame),
        ("dictionary", "the frame wants a dictionary", ZSTD_MAGIC + b"\x21\x07" + frame[5:]),
    ):
        yield with_payload(zstd(), name, text, data)
    stream = zlib_stream(good)
    for name, text, data in (
        ("empty", "no bytes", b""),
        ("cut", "the checksum of the stream is cut", stream[:-1]),
        ("trailing", "a byte after the stream", stream + b"\0"),
        ("adler", "the checksum of the stream is wrong", stream[:-1] + b"\0"),
        ("short", "the stream has 3 bytes", zlib_stream(b"123")),
        ("long", "the stream has 5 bytes", zlib_stream(b"12345")),
        ("raw", "a stream without header", stream[2:-4]),
    ):
        yield with_payload(deflate(), name, text, data)


def _run(declared: int) -> bytes:
    block = zstd_block(1, b"\0", 1 << 17, last=True)
    return zstd_header(declared) + block


def index() -> Iterator[Case]:
    """Yield faults of section 8."""

    def with_index(
        rule: str, name: str, text: str, also: Sequence[str] = (), **values: Any
    ) -> Case:
        return Case(rule, name, OPEN, text, base().build(lambda d: d.index.update(values)), also)

    yield with_index("IDX-1", "count", "count is 3 instead of 2", count=3)
    yield with_index("IDX-1", "count-huge", "count is 2^32 - 1", count=2**32 - 1)
    yield with_index("IDX-1", "entry-size-12", "entries of 12 bytes", entry_size=12)
    yield with_index("IDX-1", "entry-size-16", "entries of 8 bytes, said to be 16", entry_size=16)
    yield with_index("IDX-1", "flags", "flags 3", flags=3)
    yield with_index("IDX-1", "reserved", "reserved is 1", reserved=1)
    yield with_index("IDX-1", "reserved-2", "reserved2 is 1", reserved2=1)

    def entry(number: int, **values: Any) -> Fault:
        return lambda draft: draft.entries.update({number: values})

    wide = base(options={"entry_size": 16})
    data = wide.build(entry(0, reserved=1))
    yield Case("IDX-1", "entry-reserved", OPEN, "reserved bytes of an entry are not zero", data)
    one = base(options={"entry_size": 16, "prefix": {}}).build(_one_entry_more)
    yield Case("IDX-1", "long", OPEN, "an entry too many, count right", one)
    front = base().build()
    first = int.from_bytes(front[12:16], "little")
    yield with_index("IDX-2", "first", "first is not head_size", first=first + 8)
    yield with_index("IDX-2", "end", "end is not the sum", ("IDX-5",), end=first + 80 + 8)
    data = base().build(entry(1, length=12))
    yield Case("IDX-2", "length", OPEN, "a length that changes the sum", data)
    data = wide.build(entry(1, length=1 << 62))
    yield Case("IDX-2", "length-huge", OPEN, "a length of 2^62", data)

    def wraps(draft: Draft) -> None:
        draft.entries.update({0: {"length": (1 << 64) - 32}, 1: {"length": 48}})
        draft.index["end"] = first + 16 + 80  # what 64-bit sums would make of it

    yield Case("IDX-2", "wraps", OPEN, "lengths whose sum wraps in 64 bits", wide.build(wraps))
    uneven = base(chunk_shape=(2, 2, 1), codecs=(zstd(),))
    uneven.payloads = {0: zstd_frame(b"1111"), 1: zstd_frame(b"1234")}
    swapped = uneven.build()
    lengths = [len(part.payload) for part in uneven.parts()]
    assert lengths[0] != lengths[1]
    swapped = uneven.build(
        lambda d: d.entries.update({0: {"length": lengths[1]}, 1: {"length": lengths[0]}})
    )
    yield Case("IDX-3", "swapped", DECODE, "lengths of chunks 0 and 1 swapped", swapped)
    data = base(options={"decoded_crcs": False}).build(entry(0, decoded_crc=1))
    yield Case("IDX-4", "no-flag", OPEN, "a decoded CRC, but the flag says none", data)

    def beyond(draft: Draft) -> None:
        draft.entries[1] = {"length": 12}
        draft.index["end"] = draft_end(draft) + 8

    data = base(options=TAIL).build(beyond)
    yield Case(
        "IDX-5", "beyond-tail-index", OPEN, "the last chunk is said to reach into the tail", data
    )
    longer = first + 80 + 8
    data = base(tail=[Part(b"jSOn", b"{}")]).build(
        lambda d: (d.entries.update({1: {"length": 12}}), d.index.update(end=longer))
    )
    text = "the last chunk is said to reach into the tail"
    yield Case("IDX-5", "beyond", DECODE, text, data, ("IDX-3", "FRM-1"))


def _one_entry_more(draft: Draft) -> None:
    payload = layout.IndexHeader.build(
        {"count": 2, "entry_size": 8, "flags": 0, "first": 0, "end": 0}
    )
    draft.find(b"INDX").payload = payload + bytes(24)


def footer() -> Iterator[Case]:
    """Yield faults of section 9."""

    def with_footer(
        rule: str, name: str, text: str, sample: Sample | None = None, **values: Any
    ) -> Case:
        data = (sample or base()).build(lambda d: d.footer.update(values))
        return Case(rule, name, VERIFY if sample is None else OPEN, text, data)

    tail = base(options=TAIL)
    yield with_footer("FOT-1", "magic", "the magic is not reversed", magic=layout.MAGIC)
    yield with_footer("FOT-1", "magic-tail-index", "the magic is 0", tail, magic=bytes(8))
    long = base().build(
        lambda d: setattr(d.find(b"FOOT"), "payload", bytes(31) + b"\x89" + bytes(8))
    )
    yield Case(
        "FOT-1", "long", VERIFY, "FOOT of 40 bytes", long, ("LAY-4", "FRM-1", "FRM-2", "FRM-8")
    )
    yield with_footer("FOT-2", "zero", "index_offset 0", index_offset=0)
    yield with_footer("FOT-2", "zero-tail-index", "index_offset 0", tail, index_offset=0)
    yield with_footer("FOT-2", "huge-tail-index", "2^64 - 1", tail, index_offset=2**64 - 1)
    yield with_footer("FOT-3", "size", "file_size 8 too small", file_size=len(base().build()) - 8)
    yield with_footer("FOT-3", "size-tail-index", "file_size 0", tail, file_size=0)
    yield with_footer("FOT-4", "digest", "digest of another head", head_digest=bytes(8))
    other = tail.build(lambda d: d.footer.update(head_digest=bytes(8)))
    yield Case("FOT-4", "digest-tail-index", OPEN, "digest of another head", other)
    # A CRC over frames that carry CRCs is blind; the digest is not.
    mixed = base(geom={"xform_code": 2}, options={"prefix": {"sync": 0x81}})
    source = base(options={"prefix": {"sync": 0x81}}).build()
    spliced = source[:64] + mixed.build()[64 : int.from_bytes(source[12:16], "little")]
    spliced += source[len(spliced) :]
    yield Case("FOT-4", "spliced", VERIFY, "the head of another file with the same sync", spliced)

    def late_index(draft: Draft) -> None:
        draft.tail.insert(0, Part(b"jSOn", b"{}"))

    data = base(options=TAIL).build(late_index)
    yield Case("FOT-5", "index-second", OPEN, "INDX after jSOn in the tail", data, ("IDX-5",))


def metadata() -> Iterator[Case]:
    """Yield faults of section 10."""
    yield from nifti_header()
    digest = {"scope": 1, "sha256": bytes(32)}
    for name, text, data, ordinal in (
        ("short", "39 bytes", layout.Digest.build(digest)[:-1], 1),
        ("algorithm", "algorithm 2", layout.Digest.build(digest | {"algorithm": 2}), 1),
        ("scope-4", "scope 4", layout.Digest.build(digest | {"scope": 4}), 4),
        ("ordinal", "scope 1, ordinal 2", layout.Digest.build(digest), 2),
        ("reserved", "a reserved byte is 1",
         layout.Digest.build(digest | {"reserved": b"\0\0\0\0\0\1"}), 1),
    ):  # fmt: skip
        part = Part(b"dIGE", data, ordinal)
        yield Case("MET-2", name, VERIFY, f"dIGE: {text}", base(tail=[part]).build())
    for scope, what in ((1, "ROI"), (2, "volume"), (3, "source")):
        sample = with_nifti(base()) if scope == 3 else base()
        sample.digests = ()
        part = Part(b"dIGE", layout.Digest.build(digest | {"scope": scope}), scope)
        sample.tail = [*sample.tail, part]
        yield Case("MET-2", f"wrong-{scope}", VERIFY, f"digest of another {what}", sample.build())
    positions = struct.pack("<9d", *range(9))
    for name, text, data in (
        ("short", "one slice too few", positions[:-24]),
        ("long", "one slice too many", positions + positions[:24]),
        ("odd", "a byte too many", positions + b"\0"),
        ("nan", "a number is NaN", positions[:-8] + struct.pack("<d", float("nan"))),
    ):
        file = base(tail=[Part(b"sLPo", data)]).build()
        yield Case("MET-3", name, VERIFY, f"sLPo: {text}", file)
    for where in ("head", "tail"):
        data = base(**{where: [Part(b"pADd", bytes(15) + b"\1")]}).build()
        yield Case("MET-4", where, VERIFY, f"pADd in the {where} is not zero", data)


def nifti_header() -> Iterator[Case]:
    """Yield source headers that do not agree with GEOM."""

    def edit(change: Callable[[bytes], bytes], **values: Any) -> bytes:
        sample = with_nifti(base(), **values)
        sample.digests = ()
        return sample.build(payload(b"nIFt", change))

    for name, text, offset, new in (
        ("ndim", "4 dimensions instead of 3", 40, b"\4\0"),
        ("dim", "an extent of 5 instead of 4", 42, b"\5\0"),
        ("datatype", "int8 instead of uint8", 70, b"\0\1"),
        ("vox-offset", "voxels at 360 instead of 352", 108, struct.pack("<f", 360)),
        ("sizeof-hdr", "a header of 349 bytes", 0, b"\x5d\x01\0\0"),
    ):
        data = edit(lambda p, o=offset, n=new: p[:o] + n + p[o + len(n) :])
        yield Case("MET-1", name, VERIFY, text, data)
    yield Case("MET-1", "cut", VERIFY, "a header of 100 bytes", edit(lambda p: p[:100]))
    wide = with_nifti(Sample(voxels((4, 4, 3), 4), 4, ROI, geom={"source_flags": 1}))
    wide.digests = ()
    text = "a little-endian header, the source is said to be big-endian"
    yield Case("MET-1", "byte-order", VERIFY, text, wide.build())
    data = edit(lambda p: p[:16] + struct.pack("<q", 4) + p[24:], version=2)
    yield Case("MET-1", "nifti2-ndim", VERIFY, "NIfTI-2: 4 dimensions instead of 3", data)


def restricted_json() -> Iterator[Case]:
    """Yield texts that are not restricted JSON, as `jSOn` and as the parameters of a codec."""
    frame = '{"encoder":{"a":%s},"filters":[],"impl":"","params":{}}'
    values: list[tuple[str, str, str, bytes, Sequence[str]]] = [
        ("JSN-1", "syntax", "no value", b"", ()),
        ("JSN-1", "single-quotes", "single quotes", b"'a'", ()),
        ("JSN-1", "comma", "a comma at the end", b"[1,]", ()),
        ("JSN-1", "utf-8", "not UTF-8", b'"\xff"', ()),
        ("JSN-1", "overlong", "an overlong form in UTF-8", b'"\xc0\xaf"', ()),
        ("JSN-1", "control", "a control character in a string", b'"\x01"', ()),
        ("JSN-1", "zero", "a number with a zero before it", b"01", ()),
        ("JSN-2", "twice", "two members of the same name", b'{"x":1,"x":1}', ()),
        ("JSN-2", "twice-escaped", "the same name, escaped", b'{"x":1,"\\u0078":1}', ()),
        ("JSN-2", "surrogate", "an unpaired surrogate", b'"\\ud800"', ()),
        ("JSN-2", "surrogate-name", "an unpaired surrogate in a name", b'{"\\udc00":1}', ()),
        ("JSN-3", "integer", "2^53", b"9007199254740992", ()),
        ("JSN-3", "negative", "-2^53", b"-9007199254740992", ()),
        ("JSN-3", "digits", "an integer of 5000 digits", b"9" * 5000, ()),
        ("JSN-3", "infinite", "1e999", b"1e999", ()),
        ("JSN-3", "nan", "NaN", b"NaN", ("JSN-1",)),
        ("JSN-3", "infinity", "-Infinity", b"-Infinity", ("JSN-1",)),
        ("JSN-4", "deep", "nested 10 deep", b"[" * 8 + b"]" * 8, ()),
        ("JSN-4", "bomb", "nested 10000 deep", b"[" * 9998 + b"]" * 9998, ()),
    ]
    for rule, name, text, value, also in values:
        params = frame.encode().replace(b"%s", value)
        table = layout.build_codec_table([codec_entry("raw", 1) | {"params": params}])
        data = base().build(payload(b"CODC", lambda _, t=table: t))
        yield Case(rule, f"params-{name}", OPEN, f"parameters of a codec: {text}", data, also)
    for rule, name, text, value, also in values:
        if name not in {"syntax", "utf-8", "twice", "surrogate", "integer", "nan", "deep"}:
            continue  # the others are in the parameters alone, to keep the vectors small
        data = base(tail=[Part(b"jSOn", b'{"a":{"b":' + value + b"}}")]).build()
        yield Case(rule, f"json-{name}", VERIFY, f"jSOn: {text}", data, also)
    for name, text, value in (
        ("bom", "a byte order mark", b"\xef\xbb\xbf{}"),
        ("array", "an array at the top", b"[]"),
        ("empty", "no text", b""),
        ("trailing", "a value after the object", b"{}{}"),
        ("utf-16", "UTF-16", "{}".encode("utf-16-le")),
    ):
        data = base(tail=[Part(b"jSOn", value)]).build()
        yield Case("JSN-1", f"json-{name}", VERIFY, f"jSOn: {text}", data)
    data = base(tail=[Part(b"jSOn", zstd_frame(b"[]"), flags=1)]).build()
    yield Case("JSN-1", "json-compressed", VERIFY, "jSOn, compressed: an array at the top", data)


def dicom() -> Iterator[Case]:
    """Yield faults of the DICOM records."""
    record = layout.Struct(
        "slice" / layout.Int32ul, "zero" / layout.Int32ul, "size" / layout.Int64ul
    )

    def records(slice_: int, zero: int, size: int, data: bytes) -> bytes:
        return record.build({"slice": slice_, "zero": zero, "size": size}) + data

    for name, text, data in (
        ("cut", "the last record is cut", records(0, 0, 9, b"12345678")),
        ("header-cut", "the header of a record is cut", records(0, 0, 4, b"1234") + bytes(15)),
        ("huge", "a record of 2^64 - 1 bytes", records(0, 0, 2**64 - 1, b"1234")),
        ("reserved", "reserved bytes are not zero", records(0, 1, 4, b"1234")),
        ("slice", "the first slice it holds is 3 of 3", records(3, 0, 4, b"1234")),
    ):
        sample = base(tail=[Part(b"dCMh", data)], geom={"source_kind": 5})
        yield Case("DCM-1", name, VERIFY, f"dCMh: {text}", sample.build())
    sample = base(tail=[Part(b"dCMh", zstd_frame(records(3, 0, 4, b"1234")), flags=1)])
    yield Case("DCM-1", "compressed", VERIFY, "dCMh, compressed: slice 3 of 3", sample.build())


def limits() -> Iterator[Case]:
    """Yield files that are legal, but larger than a reader should take without being asked."""

    def huge(shape: list[int], roi: int, chunk: int, count: int, **fields: Any) -> bytes:
        values = {
            "shape": [*shape, *ONE],
            "roi_start": [0, 0, 0],
            "roi_stop": [roi, *shape[1:]],
            "chunk_shape": [chunk, 1, 1],
            "roi_chunks": count,
        }
        sample = Sample(voxels((4, 1, 1), 2), **fields)
        sample.geom = values
        return sample.build()

    yield Case(
        "LIM-1",
        "volume",
        DECODE,
        "a volume of 2^40 bytes, nearly all of it fill",
        huge([1 << 40, 1, 1], 4, 4, 1),
    )
    yield Case(
        "LIM-1",
        "chunk",
        DECODE,
        "a constant chunk of 2^31 + 1 voxels",
        huge([2**31 + 1, 1, 1], 2**31 + 1, 2**31 + 1, 1, states={0: "const"}),
        ("CHK-9",),
    )
    yield Case(
        "LIM-1",
        "chunks",
        OPEN,
        "2^32 - 1 chunks, as GEOM and INDX agree",
        Sample(
            voxels((4, 1, 1), 2),
            geom={
                "shape": [65537, 65535, 1, *ONE],
                "roi_stop": [65537, 65535, 1],
                "chunk_shape": [1, 1, 1],
                "roi_chunks": 2**32 - 1,
            },
        ).build(lambda d: d.index.update(count=2**32 - 1)),
        ("IDX-1",),
    )
    head = base().build(lambda d: d.prefix.update(head_size=2**32 - 8))
    yield Case("LAY-4", "head-size", OPEN, "head_size is 2^32 - 8", head, ("LIM-1", "PFX-11"))
    blocks = (1 << 11) + 1
    bomb = zstd_header(blocks << 17) + b"".join(
        zstd_block(1, b" ", 1 << 17, last=number == blocks - 1) for number in range(blocks)
    )
    data = base(tail=[Part(b"jSOn", bomb, flags=1)]).build()
    text = "8 KiB of jSOn that inflate to more than 2^28 bytes"
    yield Case("LIM-1", "metadata", VERIFY, text, data, ("JSN-4",))
    lying = zstd_header(1 << 40) + zstd_block(RAW_BLOCK, b"{}", 2, last=True)
    data = base(tail=[Part(b"nIFt", lying, flags=1)]).build()
    yield Case(
        "LIM-1", "metadata-declared", VERIFY, "nIFt that declares 2^40 bytes", data, ("FRM-11",)
    )
