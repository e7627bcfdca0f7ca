"""However a file is written and however it is read, it gives the same content."""

from __future__ import annotations

import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mroi
from mroi.container import (
    NEED_DATA,
    ChunkEvent,
    ContainerParser,
    ContainerReader,
    EndEvent,
    HeadEvent,
    MemorySource,
    salvage,
)
from mroi.errors import FormatError, MroiError, TruncatedError
from mroi.format.checksum import crc32


def parse(pieces) -> list:
    """Feed a parser; return its events, each as soon as its bytes were there."""
    parser = ContainerParser()
    events = []
    for piece in (*pieces, b""):
        parser.receive_data(piece)
        while not (events and isinstance(events[-1], EndEvent)):
            event = parser.next_event()
            if event is NEED_DATA:
                break
            events.append(event)
    return events


def content(reader: ContainerReader) -> list:
    """Everything that a file says, without where it says it."""
    chunks = [reader.read_chunk(i) for i in range(reader.head.chunk_count)]
    return [
        [(c.ordinal, c.state, c.slot, bytes(c.payload), c.size, c.decoded_crc) for c in chunks],
        [(*f.key, f.header.flags, f.payload) for f in reader.frames],
        reader.head.codecs,
        reader.index.lengths.tolist(),
    ]


def chunks_of(events) -> list:
    return [
        (e.header.ordinal, e.state, e.header.codec_slot, bytes(e.payload), e.size)
        for e in events
        if isinstance(e, ChunkEvent)
    ]


def test_any_pieces_give_the_same_events(any_file):
    whole = parse([any_file])
    assert isinstance(whole[0], HeadEvent)
    assert isinstance(whole[-1], EndEvent)
    for size in (1, 7, 64, 1000):
        pieces = [any_file[i : i + size] for i in range(0, len(any_file), size)]
        events = parse(pieces)
        assert chunks_of(events) == chunks_of(whole)
        assert events[-1].tail.frames == whole[-1].tail.frames
        assert events[0].head.codecs == whole[0].head.codecs


def test_chunks_come_with_their_last_byte(any_file):
    """A parser holds nothing back: the slice is there before the byte after it."""
    reader = ContainerReader(MemorySource(any_file))
    stops = [int(offset) for offset in reader.index.offsets[1:]]
    parser = ContainerParser()
    seen = 0
    for at in range(len(any_file)):
        parser.receive_data(any_file[at : at + 1])
        while (event := parser.next_event()) is not NEED_DATA:
            if isinstance(event, ChunkEvent):
                assert at + 1 == stops[seen]
                seen += 1
    assert seen == len(stops)


def test_three_readers_agree(any_file):
    """Random access, the stream and the search of a whole file give the same chunks."""
    reader = ContainerReader(MemorySource(any_file))
    events = parse([any_file])
    found = salvage(MemorySource(any_file))
    assert not found.missing
    for number, (ordinal, state, slot, payload, size) in enumerate(chunks_of(events)):
        for chunk in (reader.read_chunk(number), found.read_chunk(number)):
            assert (chunk.ordinal, chunk.state, chunk.slot) == (ordinal, state, slot)
            assert (bytes(chunk.payload), chunk.size) == (payload, size)
            assert chunk.decoded_crc == int(reader.index.decoded_crcs[number])
    kept = [f for f in reader.frames if f.header.type[3] & 0x20]
    assert [f.key for f in found.frames] == [f.key for f in kept]
    assert [f.payload for f in found.frames] == [f.payload for f in kept]
    assert found.head.geom.shape == reader.head.geom.shape


def test_front_and_tail_index_give_one_content(both_forms):
    front, tail = (ContainerReader(MemorySource(data)) for data in both_forms)
    assert front.head.index is not None
    assert tail.head.index is None
    assert content(front) == content(tail)


def test_equal_input_gives_equal_files(array):
    files = []
    for _ in range(2):
        sink = io.BytesIO()
        mroi.pack(array, sink, codec="zstd", jobs=2)
        files.append(sink.getvalue())
    assert files[0] == files[1]


def test_runs_of_remote_chunks_are_those_of_single_reads(any_file):
    class Remote(MemorySource):
        is_remote = True

        def __init__(self, data: bytes) -> None:
            super().__init__(data)
            self.reads = 0

        def read(self, offset: int, size: int) -> bytes:
            self.reads += 1
            return super().read(offset, size)

    reader = ContainerReader(Remote(any_file))
    ordinals = range(reader.head.chunk_count)
    before = reader.source.reads
    runs = [reader.read_run(run) for run in reader.find_runs(ordinals)]
    together = [reader.parse_chunk(stored) for run in runs for stored in run]
    assert reader.source.reads == before + 1  # adjacent chunks are one request
    assert together == [reader.read_chunk(i) for i in ordinals]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_runs_of_some_chunks_are_those_of_single_reads(any_file, monkeypatch, data):
    """Whatever is between them is read, but for gaps that are too wide, and is not taken."""

    class Remote(MemorySource):
        is_remote = True

    reader = ContainerReader(Remote(any_file))
    ordinals = sorted(data.draw(st.sets(st.integers(0, reader.head.chunk_count - 1), min_size=1)))
    gap, most = data.draw(st.integers(0, 300)), data.draw(st.integers(1, 2000))
    monkeypatch.setattr("mroi.container.reader._FAR_GAP", gap)
    monkeypatch.setattr("mroi.container.reader._FAR_RUN", most)
    runs = reader.find_runs(ordinals)
    together = [reader.parse_chunk(stored) for run in runs for stored in reader.read_run(run)]
    assert together == [reader.read_chunk(ordinal) for ordinal in ordinals]
    for run in runs:
        assert len(run.ordinals) == 1 or run.stops[-1] - run.starts[0] <= most
        assert all(b - a <= gap for a, b in zip(run.stops, run.starts[1:], strict=False))


def problem(data: bytes) -> MroiError | None:
    """What opening and verifying, or else reading as a stream, finds wrong."""
    try:
        report = mroi.verify(data, jobs=1)
    except MroiError as exc:
        return exc
    return report.problems[0] if report.problems else None


def stream_problem(data: bytes) -> MroiError | None:
    try:
        for _ in mroi.stream(io.BytesIO(data)):
            pass
    except MroiError as exc:
        return exc
    return None


def test_whole_files_are_taken(any_file):
    assert problem(any_file) is None
    assert stream_problem(any_file) is None


def test_every_truncation_is_refused(any_file):
    for size in range(len(any_file)):
        with pytest.raises(FormatError) as caught:
            mroi.open(any_file[:size])
        assert caught.value.rule, size
        found = stream_problem(any_file[:size])
        assert isinstance(found, TruncatedError), size
        assert found.rule in {"LAY-4", "STR-1"}


def test_every_extension_is_refused(any_file):
    for more in (b"\0", bytes(8), bytes(64), any_file[-64:], any_file):
        assert problem(any_file + more) is not None
        assert stream_problem(any_file + more) is not None


def check_changed_bytes(data: bytes, offsets: range) -> None:
    changed = bytearray(data)
    for at in offsets:
        changed[at] ^= 1 << at % 8
        for found in (problem(bytes(changed)), stream_problem(bytes(changed))):
            assert found is not None, at
            assert found.rule, (at, found)
        changed[at] = data[at]


def test_every_changed_byte_is_refused(small_file):
    check_changed_bytes(small_file, range(len(small_file)))


def test_changed_bytes_are_refused_in_files_of_every_kind(any_file):
    check_changed_bytes(any_file, range(3, len(any_file), 13))


@settings(max_examples=100)
@given(data=st.data())
def test_damaged_files_give_an_error_of_ours(small_file, data):
    """Cut, doubled, swapped, overwritten: what is not a whole file is refused by name."""
    damaged = bytearray(small_file)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged)))
        size = data.draw(st.integers(0, 80))
        other = data.draw(st.integers(0, len(small_file)))
        new = data.draw(
            st.just(b"") | st.just(small_file[other : other + 80]) | st.binary(max_size=80)
        )
        damaged[at : at + size] = new
    for found in (problem(bytes(damaged)), stream_problem(bytes(damaged))):
        assert (found is None) == (damaged == small_file)
        assert found is None or found.rule


@settings(max_examples=150)
@given(data=st.data())
def test_the_short_way_through_a_chunk_takes_nothing_that_the_long_way_refuses(any_file, data):
    reader = ContainerReader(MemorySource(any_file))
    ordinals = range(reader.head.chunk_count)
    (run,) = reader.find_runs([data.draw(st.sampled_from(ordinals))])
    (stored,) = reader.read_run(run)
    header = bytearray(stored.frame[:32])
    for _ in range(data.draw(st.integers(0, 2))):
        header[data.draw(st.integers(0, 27))] ^= 1 << data.draw(st.integers(0, 7))
    if data.draw(st.booleans()):
        header[28:] = crc32(header[:28]).to_bytes(4, "little")
    rest = bytearray(stored.frame[32:])
    if rest and data.draw(st.booleans()):
        rest[data.draw(st.integers(0, len(rest) - 1))] ^= 1
    changed = stored._replace(frame=memoryview(bytes(header + rest)))

    def outcome() -> object:
        try:
            return reader.parse_chunk(changed)
        except MroiError as exc:
            return (type(exc), exc.rule, exc.message)

    short = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ContainerReader, "_is_usual", lambda *_: False)
        assert outcome() == short
