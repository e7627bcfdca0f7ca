"""Overviews, right and wrong (section "Overview"), and the preface that they stand in."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from cases.faults import OPEN, TAIL, VERIFY, Case, base, draft_end, payload, put
from cases.payloads import zstd
from cases.sample import ITEMSIZES, RAW, RAW_BACKGROUND, SAMPLES, Sample, Slot, voxels
from reference.layout import Draft, Overview, Part, SliceRescale

RAW_OVERVIEW = Slot("raw", 1, role=2)
SIGNED = {4, 8, 256, 1024}


def overview(sample: Sample, factor: Sequence[int], method: int = 1, **fields: Any) -> Part:
    """Return the oVRW frame of a sample, encoded by its slot of role 2."""
    count = fields.get("volumes", 1)
    slot = [s.role for s in sample.codecs].index(2)
    data = b"".join(_reduced(sample, factor, method, count))
    size = sample.itemsize // SAMPLES.get(sample.datatype, 1)
    header = {"factor": factor, "method": method, "codec_slot": slot, "volumes": count}
    header |= {"decoded_crc": zlib.crc32(data)} | fields
    return Part(b"oVRW", Overview.build(header) + sample.codecs[slot].encode(data, size))


def _reduced(sample: Sample, factor: Sequence[int], method: int, count: int) -> Iterator[bytes]:
    """Yield the elements of the array."""
    boxes = [
        [range(i, min(i + f, n)) for i in range(0, n, f)]
        for f, n in zip(factor, sample.shape[:3], strict=True)
    ]
    s, w, f = sample.scan
    volumes = sample.voxels.reshape(*sample.shape[:3], -1, order="F")
    for number, a, b, c in itertools.product(range(count), boxes[s], boxes[w], boxes[f]):
        box = [range(0)] * 3
        box[s], box[w], box[f] = a, b, c
        if method == 0:
            x, y, z = (
                side[min(step // 2, len(side) - 1)] for side, step in zip(box, factor, strict=True)
            )
            yield volumes[x, y, z, number].tobytes()
            continue
        elements = [volumes[x, y, z, number].tobytes() for x, y, z in itertools.product(*box)]
        yield _mean(elements, sample.datatype)


def _mean(elements: list[bytes], datatype: int) -> bytes:
    size = ITEMSIZES[datatype] // SAMPLES.get(datatype, 1)
    out, signed, n = b"", datatype in SIGNED, len(elements)
    for at in range(0, ITEMSIZES[datatype], size):
        values = [int.from_bytes(e[at : at + size], "little", signed=signed) for e in elements]
        out += ((2 * sum(values) + n) // (2 * n)).to_bytes(size, "little", signed=signed)
    return out


def seen(place: str = "preface", **fields: Any) -> Sample:
    """Return a sample with an overview by means of 2 x 2 x 2 voxels."""
    sample = base(**{"codecs": (RAW, RAW_OVERVIEW)} | fields)
    setattr(sample, place, [*getattr(sample, place), overview(sample, (2, 2, 2))])
    return sample


def valid() -> Iterator[tuple[str, str, Sample]]:
    """Yield overviews of both methods, several types, and in all places."""
    yield "overview", "means of 2 x 2 x 2 int8 in the preface, cut boxes at the far end", seen()
    yield "overview-tail", "an overview in the tail, the index too", seen("tail", options=TAIL)
    for code, name in ((4, "int16"), (1280, "uint64"), (128, "RGB24")):
        sample = Sample(voxels((5, 3, 4), code), code, codecs=(RAW, RAW_OVERVIEW))
        sample.preface = [overview(sample, (4, 2, 1))]
        yield f"overview-{name}", f"means of 4 x 2 x 1 of {name}", sample
    labels = Sample(voxels((7, 5, 3, 2), 512), 512, codecs=(zstd(), zstd(role=2)), slice_axis=0)
    labels.preface = [overview(labels, (4, 4, 2), 0, volumes=2)]
    yield "overview-nearest", "nearest voxels of two volumes, slice axis x, zstd", labels
    codecs = (RAW, RAW_BACKGROUND, RAW_OVERVIEW)
    residue = base(background=2, codecs=codecs, options=TAIL)
    residue.preface = [overview(residue, (2, 2, 2)), Part(b"xXTr", b"skipped"), Part(b"pADd", b"")]
    yield "overview-background", "the background counts; other frames in the preface", residue
    yield (
        "preface-unknown",
        "a preface of one frame that nobody knows",
        base(preface=[Part(b"xXTr", b"skipped")]),
    )


def invalid() -> Iterator[Case]:
    """Yield faults of overviews and of the preface."""

    def edit(
        rule: str, name: str, text: str, *also: str, when: str = VERIFY, **fields: Any
    ) -> Case:
        sample = seen()
        sample.preface = [overview(sample, (2, 2, 2), **fields)]
        return Case(rule, name, when, text, sample.build(), also)

    short = payload(b"oVRW", lambda data: data[:15])
    yield Case("OVR-1", "short", VERIFY, "oVRW of 15 bytes", seen().build(short))
    for at, value, name in ((0, 3, "factor-3"), (1, 0, "factor-0"), (2, 32, "factor-32")):
        yield Case("OVR-1", name, VERIFY, f"a factor of {value}", seen().build(_byte(at, value)))
    yield Case("OVR-1", "method", VERIFY, "method 2", seen().build(_byte(3, 2)))
    yield Case("OVR-1", "reserved", VERIFY, "a reserved byte is 1", seen().build(_byte(6, 1)))
    yield Case("OVR-1", "no-volume", VERIFY, "no volume", seen().build(_byte(8, 0)), ("OVR-3",))
    yield Case("OVR-1", "volumes", VERIFY, "2 volumes of 1", seen().build(_byte(8, 2)), ("OVR-3",))
    rescale = Part(b"SLSC", SliceRescale.build([{"slope": 1.0, "inter": 0.0}] * 3))
    yield Case("OVR-1", "rescaled", VERIFY, "beside SLSC", seen(head=[rescale]).build())
    yield edit("OVR-2", "role", "a slot of role 0", codec_slot=0)
    yield edit("OVR-2", "slot", "a slot that is not there", codec_slot=2)
    yield edit("OVR-4", "crc", "another CRC", decoded_crc=1)
    longer = payload(b"oVRW", lambda data: data + b"\0")
    yield Case("OVR-3", "long", VERIFY, "one byte too many", seen().build(longer))
    less = payload(b"oVRW", lambda data: data[:-1])
    yield Case("OVR-3", "cut", VERIFY, "one byte too few", seen().build(less))

    def other(data: bytes) -> bytes:
        values = bytes([data[16] ^ 1]) + data[17:]
        return data[:12] + zlib.crc32(values).to_bytes(4, "little") + values

    yield Case(
        "OVR-5", "mean", VERIFY, "a value that is no mean", seen().build(payload(b"oVRW", other))
    )
    nearest = base(codecs=(RAW, RAW_OVERVIEW))
    nearest.preface = [overview(nearest, (2, 2, 2), 0)]
    yield Case(
        "OVR-5",
        "nearest",
        VERIFY,
        "a value that is not the nearest",
        nearest.build(payload(b"oVRW", other)),
    )
    twice = seen("tail", preface=seen().preface)
    yield Case("FRM-10", "preface-and-tail", VERIFY, "an overview twice", twice.build())
    part = Part(b"xXTr", b"data")
    both = base(head=[part], preface=[part]).build()
    yield Case("FRM-10", "head-and-preface", VERIFY, "a frame in head and preface", both)
    second = seen().build(put("preface", 0, Part(b"oVRW", b"", 1)))
    yield Case("FRM-10", "overview-1", VERIFY, "oVRW with ordinal 1", second)
    flagged = seen()
    flagged.preface[0].flags = 1
    yield Case("FRM-5", "overview", VERIFY, "oVRW with flag 1", flagged.build())
    for kind, rule in ((b"SLSC", "LAY-3"), (b"XYZw", "FRM-9"), (b"rOIB", "HED-1")):
        data = base().build(put("preface", 0, Part(kind, bytes(8))))
        yield Case(
            rule, f"preface-{kind.decode().lower()}", VERIFY, f"{kind!r} in the preface", data
        )

    def early(draft: Draft) -> None:
        first = 64 + sum(p.size for p in draft.head)
        draft.index["first"] = first
        draft.index["end"] = draft_end(draft) - draft.preface[0].size

    yield Case(
        "IDX-2",
        "first-in-preface",
        VERIFY,
        "the index says that chunks begin where the preface does",
        seen(options=TAIL).build(early),
        ("IDX-5", "LAY-3"),
    )

    def gap(draft: Draft) -> None:
        draft.preface[0].padding = bytes(8 + -len(draft.preface[0].payload) % 8)

    yield Case(
        "FRM-1",
        "gap-in-preface",
        VERIFY,
        "8 zero bytes after the overview",
        seen().build(gap),
        ("LAY-1", "FRM-8", "LAY-3", "FRM-2"),
    )
    two = base(codecs=(RAW, RAW_OVERVIEW, RAW_OVERVIEW)).build()
    yield Case("CDC-2", "two-overview-slots", OPEN, "two slots of role 2", two)


def _byte(at: int, value: int) -> Any:
    return payload(b"oVRW", lambda data: data[:at] + bytes([value]) + data[at + 1 :])
