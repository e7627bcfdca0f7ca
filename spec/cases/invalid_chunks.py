"""Faults of chunks, index and footer (sections 7 to 9)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from cases.faults import (
    DECODE,
    OPEN,
    TAIL,
    VERIFY,
    Case,
    Fault,
    base,
    draft_end,
    residue,
)
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
from reference.layout import Draft, Part


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
    large = bytes(2 * 4 + (1 << 16) + 1)
    yield state("CHK-6", "large", "a payload of 2^16 + 9 bytes for 4 voxels", 0, large)
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
    for code, name in ((16, "float"), (32, "complex")):
        sample = Sample(voxels((4, 4, 2), code), code, codecs=(deflate(delta=True),))
        text = f"deflate: differences of {name} numbers"
        yield Case("CHK-8", f"deflate-delta-{name}", DECODE, text, sample.build())
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
