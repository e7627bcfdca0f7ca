"""Faults of the head (section 6)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cases.faults import (
    DECODE,
    OPEN,
    Case,
    Fault,
    base,
    drop,
    payload,
    put,
    residue,
)
from cases.sample import Sample, voxels
from reference import layout
from reference.layout import Draft, Part, codec_entry


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
    yield geom("GEO-7", "chunk-0", "chunks of no voxels", chunk_shape=[2, 0, 1, 1])
    yield geom("GEO-7", "chunk-large", "chunks larger than the ROI", chunk_shape=[3, 2, 1, 1])
    yield geom("GEO-7", "chunk-no-volume", "chunks of no volume", chunk_shape=[2, 2, 1, 0])
    yield geom("GEO-7", "chunk-volumes", "chunks of two volumes of one", chunk_shape=[2, 2, 1, 2])


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
    yield geom(
        "GEO-11",
        "spacing-of-no-axis",
        "spacing of an axis beyond ndim",
        spacing=[2.0, 2.5, 3, 1, 0, 0, 0],
    )
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
        "chunk_shape": [1, 1, 1, 1],
        "roi_chunks": (65537 * 65537) % 2**32,
    }
    yield geom("GEO-13", "wraps", "2^32 + 2^17 + 1 chunks, modulo 2^32", ("LIM-1",), **whole)
    yield geom("GEO-14", "reserved", "a reserved byte is 1", reserved=b"\0\1")


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
    yield table("CDC-1", "role", "a slot of role 3", raw, codec_entry("raw", 1, role=3))
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
