"""Damaged files, and what can be saved from them (section 11.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cases.faults import change, flip
from cases.payloads import deflate
from cases.sample import RAW_BACKGROUND, Sample, voxels
from reference import layout
from reference.layout import FRAME_HEADER_SIZE, Part, SliceRescale


@dataclass(frozen=True)
class Case:
    """One damaged file; `rule` is set if nothing can be saved."""

    name: str
    description: str
    data: bytes
    sample: Sample
    missing: Sequence[int]
    rule: str | None = None


def damaged(index: str = "tail") -> Sample:
    """Return the sample that is damaged: 4 chunks of the ROI, 4 of the background, metadata."""
    return Sample(
        voxels((4, 3, 4), 4),
        4,
        [(1, 4), (0, 2), (0, 4)],
        background=2,
        codecs=(deflate(shuffle=True), RAW_BACKGROUND),
        states={2: "stored"},
        tail=[Part(b"jSOn", b'{"tool":"spec"}')],
        digests=(2,),
        options={"index": index},
    )


def place(data: bytes, kind: bytes, ordinal: int = 0) -> tuple[int, int]:
    """Return where a frame starts and stops."""
    for frame in layout.File.parse(data).frames:
        if (frame.header.type, frame.header.ordinal) == (kind, ordinal):
            size = FRAME_HEADER_SIZE + frame.header.length + len(frame.padding)
            return frame.offset, frame.offset + size
    raise LookupError(kind)


def cases() -> Iterator[Case]:
    """Yield all damaged files."""
    yield from index_at_the_tail()
    yield from index_in_the_head()
    yield from nothing_to_save()


def index_at_the_tail() -> Iterator[Case]:
    """Yield damage to chunks and to the tail."""
    tail = damaged()
    data = tail.build()
    start, stop = place(data, b"CHNK", 1)

    def case(name: str, text: str, new: bytes, missing: Sequence[int] = ()) -> Case:
        return Case(name, text, new, tail, missing)

    yield case("whole", "nothing is damaged", data)
    yield case("payload", "the payload of chunk 1", flip(data, b"CHNK", 40, 1), [1])
    yield case("header", "the header of chunk 1", flip(data, b"CHNK", 16, 1), [1])
    yield case("length", "the length of chunk 1", change(data, start + 8, b"\xff" * 8), [1])
    yield case("sync", "the sync word of chunk 1", flip(data, b"CHNK", 0, 1), [1])
    yield case("padding", "a chunk whose padding is not zero is whole", _padding(data, tail), [])
    yield case("zeroed", "two chunks are zeros", _zeroed(data, 1, 2), [1, 2])
    yield case("cut-in-chunk", "the file ends in chunk 1", data[: stop - 8], [1, 2, 3, 4, 5, 6, 7])
    yield case("cut-after-chunk", "the file ends after chunk 1", data[:stop], [2, 3, 4, 5, 6, 7])
    cut = place(data, b"INDX")[0]
    yield case("no-tail", "index and footer are lost", data[:cut])
    yield case("index", "the index is damaged", flip(data, b"INDX", 40))
    yield case("footer", "the footer is damaged", flip(data, b"FOOT", 40))
    yield case("metadata", "jSOn is damaged", flip(data, b"jSOn", 33))
    yield case("lost", "chunk 1 is cut out", data[:start] + data[stop:], [1])
    yield case("inserted", "16 bytes were put in", data[:start] + bytes(16) + data[start:])
    yield case(
        "misaligned",
        "4 bytes were put in: later frames do not start at a multiple of 8",
        data[:start] + bytes(4) + data[start:],
    )
    yield case(
        "lost-bytes", "5 bytes of chunk 1 are lost", data[: start + 40] + data[start + 45 :], [1]
    )
    first, second = place(data, b"CHNK", 0), place(data, b"CHNK", 2)
    swapped = data[: first[0]] + data[slice(*second)] + data[first[1] : second[0]]
    swapped += data[slice(*first)] + data[second[1] :]
    yield case("swapped", "chunks 0 and 2 have changed places", swapped)
    twice = flip(data, b"CHNK", 40, 1)
    yield case("twice", "chunk 1 is there twice, damaged first", _again(twice, data, start, stop))
    yield case("trailing", "bytes after the end", data + b"and more" * 5)
    other = Sample(voxels((4, 4, 2), 4), 4, options={"index": "tail"})
    yield case("other-file", "frames of another file follow", data + other.build()[64:])
    beyond = tail.build(lambda d: d.chunks.append(Part(b"CHNK", b"12", 8)))
    yield case("beyond", "a chunk with an ordinal that the grid does not have", beyond)
    wrong = tail.build(lambda d: d.entries.update({1: {"decoded_crc": 7}}))
    yield case("decoded-crc", "the decoded CRC of chunk 1 is another", wrong, [1])
    partial = damaged()
    partial.states = {1: "missing", 5: "missing"}
    text = "a file that was salvaged before, damaged again"
    yield Case("again", text, flip(partial.build(), b"CHNK", 33, 3), partial, [1, 3, 5])


def index_in_the_head() -> Iterator[Case]:
    """Yield damage to files with their index in the head."""
    head = damaged("head")
    front = head.build()
    yield Case("front", "chunk 3, index in the head", flip(front, b"CHNK", 33, 3), head, [3])
    yield Case(
        "front-cut", "cut, index in the head", front[: place(front, b"CHNK", 4)[1]], head, [5, 6, 7]
    )
    yield Case(
        "front-index",
        "the index in the head is damaged: the chunks do not need it",
        flip(front, b"INDX", 40),
        head,
        [],
    )
    yield Case(
        "front-index-header",
        "the header of the index in the head is damaged",
        flip(front, b"INDX", 9),
        head,
        [],
    )
    note = Part(b"jSOn", b'{"tool":"spec"}')
    noted = damaged("head")
    noted.tail, noted.head = (), (note,)
    text = "jSOn in the head is damaged"
    yield Case("front-metadata", text, flip(noted.build(), b"jSOn", 33), noted, [])


def nothing_to_save() -> Iterator[Case]:
    """Yield damage to what gives the voxels their meaning."""
    tail = damaged()
    data = tail.build()
    scale = Part(b"SLSC", SliceRescale.build([{"slope": 0.5 + z, "inter": 1.0} for z in range(4)]))
    scaled = damaged("head")
    scaled.head = (scale,)
    text = "SLSC is damaged: the values of the voxels are not known"
    broken = flip(scaled.build(), b"SLSC", 40)
    yield Case("rescale", text, broken, scaled, range(8), "FRM-6")
    for name, text, offset, rule in (
        ("prefix", "the prefix is damaged: nothing can be saved", 20, "PFX-4"),
        ("geom", "GEOM is damaged: nothing can be saved", 64 + 88 + 100, "FRM-6"),
    ):
        broken = change(data, offset, bytes([data[offset] ^ 1]))
        yield Case(name, text, broken, tail, range(8), rule)
    yield Case(
        "cut-head", "the head is cut: nothing can be saved", data[:300], tail, range(8), "LAY-4"
    )


def _padding(data: bytes, sample: Sample) -> bytes:
    """Return the file with a padding byte of a chunk changed; there is one to change."""
    number = next(p.ordinal for p in sample.parts() if len(p.payload) % 8)
    stop = place(data, b"CHNK", number)[1]
    return change(data, stop - 1, b"\1")


def _zeroed(data: bytes, first: int, last: int) -> bytes:
    start, stop = place(data, b"CHNK", first)[0], place(data, b"CHNK", last)[1]
    return data[:start] + bytes(stop - start) + data[stop:]


def _again(damaged_data: bytes, data: bytes, start: int, stop: int) -> bytes:
    return damaged_data[:stop] + data[start:]
