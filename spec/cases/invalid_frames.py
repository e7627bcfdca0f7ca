"""Faults of the layout, the prefix and the frames (sections 3 to 5)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

from cases.faults import (
    DECODE,
    OPEN,
    TAIL,
    VERIFY,
    Case,
    base,
    change,
    draft_end,
    drop,
    flip,
    header,
    put,
)
from cases.payloads import (
    ZSTD_MAGIC,
    zstd_frame,
)
from cases.sample import Sample, voxels
from reference.layout import Draft, Part


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


def resealed(data: bytes, offset: int, new: bytes) -> bytes:
    """Return the file with bytes of its prefix changed, and the CRC of the 64 bytes recomputed."""
    changed = change(data, offset, new)[:60]
    return changed + struct.pack("<I", zlib.crc32(changed)) + data[64:]


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
    data = base(tail=[Part(b"nIFt", b"x", 5)]).build()
    yield Case("FRM-10", "nift-5", VERIFY, "nIFt with ordinal 5", data)
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
