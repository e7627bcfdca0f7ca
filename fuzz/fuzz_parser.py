"""Property fuzzed: any bytes give a volume or an `MroiError`, the same one however they are split.

Read at random, a file gives what it gives as a stream; salvage finds every chunk that a stream
delivers before it fails.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness import repaired, run, vectors

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
from mroi.errors import MroiError
from mroi.limits import Limits

LIMITS = Limits(
    head_size=1 << 20,
    frames=64,
    metadata_stored=1 << 18,
    metadata_size=1 << 20,
    volume_size=1 << 24,
    chunk_size=1 << 20,
    chunks=1 << 12,
)

Result = list[tuple[object, ...]]


def stream(pieces: Iterable[bytes]) -> Result:
    """Return what the parser says of a stream that arrives in these pieces."""
    parser, told = ContainerParser(limits=LIMITS), Result()
    try:
        for piece in [*pieces, b""]:
            parser.receive_data(piece)
            while (event := parser.next_event()) is not NEED_DATA:
                match event:
                    case HeadEvent(head):
                        told.append(("head", head.digest))
                    case ChunkEvent(header, state, payload):
                        told.append(("chunk", header.ordinal, int(state), bytes(payload)))
                    case EndEvent(tail):
                        told.append(("end", tail.footer.file_size))
                        return told
    except MroiError as exc:  # anything else escapes, and is a bug
        told.append(("error", type(exc).__name__, exc.rule))
    return told


def chunks(told: Result) -> Result:
    """Return the chunks of a result."""
    return [event for event in told if event[0] == "chunk"]


def at_random(data: bytes) -> Result:
    """Return what the reader says of a file."""
    told = Result()
    try:
        with ContainerReader(MemorySource(data), limits=LIMITS) as reader:
            told.append(("head", reader.head.digest))
            for ordinal in range(reader.head.chunk_count):
                chunk = reader.read_chunk(ordinal)
                told.append(("chunk", ordinal, int(chunk.state), bytes(chunk.payload)))
            for frame in reader.frames:
                frame.content(LIMITS)
            told.append(("end", reader.size))
    except MroiError as exc:
        told.append(("error", type(exc).__name__, exc.rule))
    return told


def saved(data: bytes) -> set[object]:
    """Return the ordinals of the chunks that salvage finds."""
    try:
        return set(salvage(MemorySource(data), limits=LIMITS).found)
    except MroiError:
        return set()


def check(data: bytes) -> None:
    """One input, whole, split, at random, salvaged."""
    whole = stream([data])
    assert stream([data[:100], data[100:101], data[101:]]) == whole
    assert stream(data[at : at + 13] for at in range(0, len(data), 13)) == whole
    found = at_random(data)
    if whole[-1][0] == "end":
        assert found[: len(whole)] == whole or found[-1][0] == "error"
        assert chunks(found) == chunks(whole)
    if found[-1][0] == "end":
        assert whole == found
    assert {event[1] for event in chunks(whole)} <= saved(data) or whole[0][0] == "error"


def fuzz(data: bytes) -> None:
    """One input as it is, and with its checksums put right."""
    check(data)
    check(repaired(data))


if __name__ == "__main__":
    run(fuzz, vectors())
