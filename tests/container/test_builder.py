"""Values to the bytes of a file: in order, complete, and the bytes that the specification gives."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mroi.container import ContainerBuilder, ContainerReader, MemorySource
from mroi.container.builder import Metadata
from mroi.container.parser import NEED_DATA, ChunkEvent, ContainerParser, EndEvent
from mroi.errors import FormatError, UsageError
from mroi.format.checksum import crc32
from mroi.format.codec_table import CodecEntry, Role
from mroi.format.records import ChunkState, Incompat, align, parse_prefix
from tests.container.frames import KEPT, WHOLE, slot
from tests.format.geometries import geom_of

VALID = Path(__file__).resolve().parents[2] / "spec" / "vectors" / "valid"
CHUNKS = (bytes(range(24)), b"\7\0")


def builder(**options: Any) -> ContainerBuilder:
    return ContainerBuilder(WHOLE, [slot()], **{"can_seek": False, **options})


def build(file: ContainerBuilder, preface: tuple[Metadata, ...] = ()) -> bytes:
    """Return a file of two chunks, one encoded and one constant, written the way its sink wants."""
    data = file.start() + file.preface(preface)
    data += file.chunk(ChunkState.ENCODED, CHUNKS[0], slot=0, decoded_crc=crc32(CHUNKS[0]))
    data += file.chunk(ChunkState.CONST, CHUNKS[1], slot=0, decoded_crc=crc32(CHUNKS[1] * 12))
    tail, head = file.finish((Metadata(b"jSOn", b"{}"),))
    return head + data[len(head) :] + tail


def test_the_minimal_file_of_the_specification() -> None:
    """Annex A, byte for byte."""
    geom = geom_of(
        datatype=2,
        itemsize=1,
        bits_stored=8,
        shape=(4, 4, 3, 1, 1, 1, 1),
        roi_start=(1, 1, 1),
        roi_stop=(3, 3, 3),
        chunk_shape=(2, 2, 1, 1),
        spacing=(2, 2.5, 3, 0, 0, 0, 0),
        affine=(2, 0, 0, -30, 0, 2.5, 0, -40, 0, 0, 3, -50),
    )
    parameters: dict[str, object] = {"encoder": {}, "filters": [], "impl": "spec", "params": {}}
    raw = CodecEntry("raw", 1, 1, Role.ROI, 1, is_deterministic=True, parameters=parameters)
    file = ContainerBuilder(geom, [raw], can_seek=False)
    data = file.start()
    for payload in (b"\x15\x16\x19\x1a", b"\x25\x26\x29\x2a"):
        data += file.chunk(ChunkState.ENCODED, payload, slot=0, decoded_crc=crc32(payload))
    tail, head = file.finish()
    assert head == b""
    assert data + tail == (VALID / "001-minimal.mroi").read_bytes()


@pytest.mark.parametrize("can_seek", [False, True], ids=["pipe", "file"])
@pytest.mark.parametrize("preface", [(), (Metadata(b"exAm", b"x" * 9),)], ids=["", "preface"])
def test_both_forms_hold_what_was_given(can_seek: bool, preface: tuple[Metadata, ...]) -> None:  # noqa: FBT001
    data = build(builder(can_seek=can_seek, metadata=[Metadata(b"abCd", b"private")]), preface)
    prefix = parse_prefix(data)
    assert prefix.file_size == (len(data) if can_seek else 0)
    assert bool(prefix.index_offset) == can_seek
    reader = ContainerReader(MemorySource(data))
    chunks = [reader.read_chunk(n) for n in range(2)]
    assert [(chunk.state, bytes(chunk.payload)) for chunk in chunks] == [
        (ChunkState.ENCODED, CHUNKS[0]),
        (ChunkState.CONST, CHUNKS[1]),
    ]
    assert [chunk.decoded_crc for chunk in chunks] == [crc32(CHUNKS[0]), crc32(CHUNKS[1] * 12)]
    kinds = [frame.header.type for frame in reader.frames]
    assert kinds == [b"abCd", *[frame.type for frame in preface], b"jSOn"]
    assert reader.index.stop == reader.index.offsets[-1] <= len(data)


def test_a_file_that_was_not_finished_is_refused() -> None:
    file = builder(can_seek=True)
    data = file.start() + file.preface(())
    data += file.chunk(ChunkState.ENCODED, CHUNKS[0], slot=0, decoded_crc=0)
    with pytest.raises(FormatError) as caught:
        ContainerReader(MemorySource(data))
    assert caught.value.rule == "LAY-4"


def test_the_head_has_as_many_bytes_before_and_after() -> None:
    """A sink that can seek writes the second one over the first."""
    file = builder(can_seek=True)
    first = file.start()
    for payload in CHUNKS:
        file.chunk(ChunkState.ENCODED, payload, slot=0, decoded_crc=0)
    _, second = file.finish()
    assert len(first) == len(second)
    assert first != second


def test_the_marker_of_frames_follows_from_the_head() -> None:
    """PFX-9: equal heads have the same, others another one, and its first byte is no ASCII."""
    heads = (
        (WHOLE, [slot()]),
        (WHOLE, [slot(fidelity=3)]),
        (KEPT, [slot(), slot(Role.BACKGROUND)]),
    )
    words = {
        parse_prefix(ContainerBuilder(geom, codecs, can_seek=can_seek).start()).sync
        for geom, codecs in heads
        for can_seek in (False, True)
    }
    assert len(words) == 3
    assert all(word & 0x80 for word in words)
    data = build(builder())
    content, at = b"", 64
    for kind in (b"rOIB", b"GEOM", b"CODC"):
        assert data[at + 4 : at + 8] == kind
        size = int.from_bytes(data[at + 8 : at + 16], "little")
        content += kind + data[at + 32 : at + 32 + size]
        at += 32 + align(size)
    digest = hashlib.sha256(content).digest()[:4]
    assert parse_prefix(data).sync == int.from_bytes(digest, "little") | 0x80


def test_flags_say_what_is_needed_to_read() -> None:
    background = [slot(), slot(Role.BACKGROUND)]
    for file, expected in (
        (builder(), Incompat(0)),
        (builder(partial=True), Incompat.PARTIAL),
        (ContainerBuilder(KEPT, background, can_seek=True), Incompat.BACKGROUND_PLANE),
    ):
        assert parse_prefix(file.start()).incompat == expected


def test_chunks_may_be_missing_in_a_partial_file() -> None:
    file = builder(partial=True)
    data = file.start() + file.missing(2, slot=0)
    data += file.finish()[0]
    reader = ContainerReader(MemorySource(data))
    assert [reader.read_chunk(n).state for n in range(2)] == [ChunkState.MISSING] * 2


def test_the_index_may_lack_the_crcs_of_voxels() -> None:
    reader = ContainerReader(MemorySource(build(builder(decoded_crcs=False))))
    assert reader.index.decoded_crcs is None


def test_pieces_come_in_their_order() -> None:
    file = builder()
    file.start()
    with pytest.raises(UsageError, match="0 of 2 chunks"):
        file.finish()
    file.chunk(ChunkState.ENCODED, b"1", slot=0, decoded_crc=0)
    with pytest.raises(UsageError, match="preface frames must be written before"):
        file.preface(())
    with pytest.raises(UsageError, match="has only 2 chunks"):
        file.missing(2, slot=0)
    file.chunk(ChunkState.ENCODED, b"2", slot=0, decoded_crc=0)
    with pytest.raises(UsageError, match="all 2 chunks"):
        file.chunk(ChunkState.ENCODED, b"3", slot=0, decoded_crc=0)


def test_a_builder_refuses_what_a_reader_would() -> None:
    with pytest.raises(FormatError) as caught:
        ContainerBuilder(WHOLE, [slot(fidelity=9)], can_seek=True)
    assert caught.value.rule == "CDC-1"


def test_lengths_have_the_room_that_chunks_may_need() -> None:
    """Entries of 16 bytes where a payload may have 4 GiB."""
    sides = (1 << 15, 1 << 14)
    for itemsize, code, wide in ((2, 512, False), (8, 1024, True)):
        geom = geom_of(
            datatype=code,
            itemsize=itemsize,
            shape=(*sides, 2, 1, 1, 1, 1),
            roi_stop=(*sides, 2),
            chunk_shape=(*sides, 1, 1),
        )
        size = len(ContainerBuilder(geom, [slot()], can_seek=True).start())
        least = len(ContainerBuilder(geom, [slot()], can_seek=False).start())
        assert size - least == 32 + 32 + 2 * (16 if wide else 8)


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=60), min_size=2, max_size=2), st.booleans(), st.data())
def test_a_stream_gives_the_chunks_that_were_built(
    payloads: list[bytes],
    can_seek: bool,  # noqa: FBT001
    data: st.DataObject,
) -> None:
    file = builder(can_seek=can_seek)
    body = file.start()
    for payload in payloads:
        crc = data.draw(st.integers(0, 2**32 - 1))
        body += file.chunk(ChunkState.ENCODED, payload, slot=0, decoded_crc=crc)
    tail, head = file.finish()
    written = head + body[len(head) :] + tail
    parser = ContainerParser()
    parser.receive_data(written)
    parser.receive_data(b"")
    events = []
    while not (events and isinstance(events[-1], EndEvent)):
        event = parser.next_event()
        assert event is not NEED_DATA
        events.append(event)
    chunks = [bytes(event.payload) for event in events if isinstance(event, ChunkEvent)]
    assert chunks == payloads
    assert np.array_equal(events[-1].tail.index.lengths, [len(payload) for payload in payloads])
