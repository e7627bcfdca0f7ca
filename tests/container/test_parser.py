"""A file that arrives in pieces: what is wanted, what is said, and what is final."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mroi.container.builder import Metadata
from mroi.container.parser import (
    NEED_DATA,
    ChunkEvent,
    ContainerParser,
    EndEvent,
    HeadEvent,
)
from mroi.errors import FormatError, LimitError, MroiError, TruncatedError
from mroi.format.index import Index, build_index
from mroi.format.records import ChunkState, Footer, build_footer, build_frame, parse_prefix
from mroi.limits import DEFAULT_LIMITS, Limits
from tests.container.test_builder import CHUNKS, build, builder

FILE = build(builder(), (Metadata(b"exAm", b"preface"),))
SYNC = parse_prefix(FILE).sync
HEAD = parse_prefix(FILE).head_size
PREFACE = HEAD + 40
SECOND = PREFACE + 56
TAIL = SECOND + 40


def fed(data: bytes, *, end: bool = True, **options: Any) -> ContainerParser:
    """Return a parser that has these bytes."""
    parser = ContainerParser(**options)
    if data:
        parser.receive_data(data)
    if end:
        parser.receive_data(b"")
    return parser


def events_of(parser: ContainerParser) -> list[Any]:
    """Return the events to the end of the file, or to the end of what is there."""
    events: list[Any] = []
    while not (events and isinstance(events[-1], EndEvent)):
        event = parser.next_event()
        if event is NEED_DATA:
            break
        events.append(event)
    return events


def refusal(data: bytes, limits: Limits = DEFAULT_LIMITS) -> MroiError:
    with pytest.raises(MroiError) as caught:
        events_of(fed(data, limits=limits))
    return caught.value


def test_events_of_a_file() -> None:
    head, first, second, end = events_of(fed(FILE))
    assert isinstance(head, HeadEvent)
    assert head.head.chunk_count == 2
    assert isinstance(first, ChunkEvent)
    assert (first.header.ordinal, first.state, first.size) == (0, ChunkState.ENCODED, 24)
    assert (bytes(first.payload), first.header.offset) == (CHUNKS[0], PREFACE)
    assert (second.state, bytes(second.payload)) == (ChunkState.CONST, CHUNKS[1])
    assert isinstance(end, EndEvent)
    assert end.tail.footer.file_size == len(FILE)


def test_events_come_whatever_the_pieces_are() -> None:
    parser, found = ContainerParser(), []
    for at in range(len(FILE)):
        parser.receive_data(FILE[at : at + 1])
        while (event := parser.next_event()) is not NEED_DATA:
            found.append((at + 1, event))
    parser.receive_data(b"")
    assert isinstance(parser.next_event(), EndEvent)
    assert [at for at, _ in found] == [HEAD, SECOND, TAIL]  # each with its last byte
    assert [bytes(event.payload) for _, event in found[1:]] == list(CHUNKS)


def test_a_file_without_crcs_of_voxels() -> None:
    end = events_of(fed(build(builder(decoded_crcs=False))))[-1]
    assert end.tail.index.decoded_crcs is None


@pytest.mark.parametrize(
    ("have", "wanted"),
    [
        (0, 1 << 16),
        (11, 1 << 16),
        (64, HEAD - 64),
        (HEAD - 1, 1),
        (HEAD, 1 << 16),
        (PREFACE + 31, 1 << 16),
        (PREFACE + 32, 24),
        (SECOND - 1, 1),
        (TAIL, 1 << 16),
    ],
)
def test_how_many_bytes_are_wanted(have: int, wanted: int) -> None:
    """As many as the next event needs, where that is known."""
    parser = fed(FILE[:have], end=False)
    events_of(parser)
    assert parser.wanted == wanted


@pytest.mark.parametrize(
    ("have", "where"),
    [
        (0, "in its head"),
        (70, "in its head"),
        (HEAD - 1, "in its head"),
        (HEAD, "before chunk 0 of 2"),
        (PREFACE + 40, "in CHNK 0: need 24 bytes, have 8"),
        (SECOND, "before chunk 1 of 2"),
    ],
)
def test_where_a_file_ends_early(have: int, where: str) -> None:
    found = refusal(FILE[:have])
    assert isinstance(found, TruncatedError)
    assert (found.rule, found.offset) == ("LAY-4", have)
    assert where in found.message


def test_what_was_refused_stays_refused() -> None:
    changed = FILE[:SECOND] + b"\0" + FILE[SECOND + 1 :]
    parser = fed(changed, end=False)
    assert isinstance(parser.next_event(), HeadEvent)
    assert isinstance(parser.next_event(), ChunkEvent)
    found = []
    for _ in range(3):
        with pytest.raises(FormatError) as caught:
            parser.next_event()
        found.append(caught.value)
        parser.receive_data(FILE)
    assert found[0] is found[1] is found[2]
    assert (found[0].rule, found[0].offset) == ("FRM-1", SECOND)


def test_nothing_comes_after_the_end() -> None:
    parser = fed(FILE)
    events_of(parser)
    with pytest.raises(FormatError) as caught:
        parser.next_event()
    assert caught.value.rule == "LAY-1"
    parser = fed(FILE)
    events_of(parser)
    parser.receive_data(b"more")
    with pytest.raises(FormatError) as caught:
        parser.next_event()
    assert (caught.value.rule, caught.value.offset) == ("LAY-1", len(FILE))


def test_a_magic_of_another_format_is_refused_at_once() -> None:
    parser = fed(b"\x1f\x8b" + bytes(10), end=False)
    with pytest.raises(FormatError) as caught:
        parser.next_event()
    assert caught.value.rule == "PFX-1"


def with_index(**changed: Any) -> bytes:
    """Return the file with another index, and a footer that agrees."""
    index = Index(PREFACE, np.array([24, 2], np.int64), np.array([1, 2], np.uint32))
    data = FILE[:TAIL]
    data += build_frame(b"INDX", build_index(replace(index, **changed), entry_size=8), sync=SYNC)
    (head, *_) = events_of(fed(FILE))
    footer = Footer(TAIL, len(data) + 64, head.head.digest)
    return data + build_frame(b"FOOT", build_footer(footer), sync=SYNC)


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"first": PREFACE + 8}, "IDX-5"),
        ({"first": PREFACE - 8, "lengths": np.array([24 + 8, 2], np.int64)}, "IDX-2"),
        ({"lengths": np.array([23, 2], np.int64)}, "IDX-3"),
        ({"lengths": np.array([24, 0], np.int64)}, "IDX-5"),
        ({"lengths": np.array([2, 24], np.int64)}, "IDX-3"),
    ],
    ids=str,
)
def test_an_index_that_is_not_of_these_chunks(changed: dict[str, Any], rule: str) -> None:
    assert len(events_of(fed(with_index()))) == 4
    assert refusal(with_index(**changed)).rule == rule


def test_a_missing_chunk_has_no_crc() -> None:
    file = builder(partial=True)
    data = file.start() + file.missing(1, slot=0)
    data += file.chunk(ChunkState.MISSING, b"", slot=0, decoded_crc=5)
    assert refusal(data + file.finish()[0]).rule == "IDX-4"


@pytest.mark.parametrize(
    ("limit", "value", "place"),
    [
        ("head_size", HEAD - 1, 12),
        ("volume_size", 47, None),
        ("chunks", 1, None),
        ("chunk_size", 23, PREFACE),
        ("frames", 2, None),
    ],
)
def test_limits(limit: str, value: int, place: int | None) -> None:
    found = refusal(FILE, replace(DEFAULT_LIMITS, **{limit: value}))
    assert isinstance(found, LimitError)
    assert found.rule == "LIM-1"
    assert place in (None, found.offset)


def test_limits_of_what_a_parser_keeps() -> None:
    """Preface and tail are kept until they are whole, so they are bounded before."""
    limits = replace(DEFAULT_LIMITS, metadata_stored=100, head_size=HEAD)
    large = build(builder(), (Metadata(b"exAm", bytes(HEAD + 100)),))
    parser = fed(large[: HEAD + 32], end=False, limits=limits)
    assert isinstance(parser.next_event(), HeadEvent)
    with pytest.raises(LimitError) as caught:
        parser.next_event()  # the header of the frame is enough
    assert (caught.value.rule, caught.value.offset) == ("LIM-1", HEAD)
    endless = fed(FILE + bytes(32 + 2 * 16 + HEAD + 100), end=False, limits=limits)
    with pytest.raises(LimitError) as caught:
        events_of(endless)
    assert (caught.value.rule, caught.value.offset) == ("LIM-1", TAIL)
