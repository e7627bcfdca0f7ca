"""Faults of metadata, and files beyond the limits (sections 10 and 12)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cases.faults import (
    DECODE,
    OPEN,
    ROI,
    VERIFY,
    Case,
    base,
    payload,
)
from cases.invalid_head import ONE
from cases.nifti import with_nifti
from cases.payloads import (
    RAW_BLOCK,
    zstd_block,
    zstd_frame,
    zstd_header,
)
from cases.sample import Sample, voxels
from construct import Int32ul, Int64ul, Struct
from reference import layout
from reference.layout import Part, codec_entry


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
    record = Struct("slice" / Int32ul, "zero" / Int32ul, "size" / Int64ul)

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
    for name, text, parts, bits in (
        ("short", "15 samples of a slice of 16", [records(1, 0, 15, bytes(15))], 3),
        ("wide", "two bytes for 5 bits", [records(1, 0, 32, bytes(32))], 3),
        ("none", "all 8 bits are stored", [records(1, 0, 16, bytes(16))], 8),
        ("twice", "a slice twice, in two frames", [records(1, 0, 16, bytes(16))] * 2, 3),
    ):
        tail = [Part(b"dCMh", data, i + 1) for i, data in enumerate(parts)]
        sample = base(tail=tail, geom={"source_kind": 5, "bits_stored": bits})
        yield Case("DCM-2", name, VERIFY, f"dCMh 1: {text}", sample.build())
    stream = zstd_frame(records(3, 0, 4, b"1234"))
    sample = base(tail=[Part(b"dCMh", stream, flags=1)], geom={"source_kind": 5})
    yield Case("DCM-1", "compressed", VERIFY, "dCMh, compressed: slice 3 of 3", sample.build())


def limits() -> Iterator[Case]:
    """Yield files that are legal, but larger than a reader should take without being asked."""

    def huge(shape: list[int], roi: int, chunk: int, count: int, **fields: Any) -> bytes:
        values = {
            "shape": [*shape, *ONE],
            "roi_start": [0, 0, 0],
            "roi_stop": [roi, *shape[1:]],
            "chunk_shape": [chunk, 1, 1, 1],
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
                "chunk_shape": [1, 1, 1, 1],
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
