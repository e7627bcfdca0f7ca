"""Incremental parser for a file that arrives as a stream of bytes.

No IO happens here. Push bytes with `ContainerParser.receive_data` and pull events with
`ContainerParser.next_event`; the caller owns the pipe or socket.

Each ``_read_*`` method handles one state and either

1. consumes bytes, picks the next state and returns an event,
2. raises an `MroiError`, which is final, or
3. returns None, consuming nothing: more bytes are needed.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

import numpy as np

from mroi.container.sections import (
    Head,
    MetadataFrame,
    Tail,
    check_chunk_header,
    check_preface_header,
    head_size_of,
    parse_head,
    parse_preface,
    parse_tail,
    preface_bound,
    tail_bound,
)
from mroi.errors import FormatError, LimitError, MroiError, TruncatedError
from mroi.format.records import (
    FRAME_HEADER_SIZE,
    ChunkState,
    FrameHeader,
    FrameType,
    Prefix,
    check_payload,
    parse_frame_header,
    parse_prefix,
    prefix_size_of,
)
from mroi.limits import DEFAULT_LIMITS, Limits

__all__ = ["NEED_DATA", "ChunkEvent", "ContainerParser", "EndEvent", "HeadEvent"]

_UNBOUNDED = 1 << 62


class Signal(Enum):
    """What `next_event` gives when it has no event."""

    NEED_DATA = auto()


NEED_DATA = Signal.NEED_DATA


@dataclass(frozen=True, slots=True)
class HeadEvent:
    """The head is complete."""

    head: Head


@dataclass(frozen=True, slots=True)
class ChunkEvent:
    """A chunk is complete; provisional until `EndEvent` (STR-1)."""

    header: FrameHeader
    state: ChunkState
    payload: memoryview
    size: int
    """Bytes of the decoded chunk."""


@dataclass(frozen=True, slots=True)
class EndEvent:
    """The file is complete, and its index agrees with the chunks that were seen."""

    tail: Tail


Event = HeadEvent | ChunkEvent | EndEvent


class ContainerParser:
    """Bytes in, events out: one `HeadEvent`, a `ChunkEvent` for each chunk, one `EndEvent`."""

    def __init__(self, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._offset = 0  # of the first byte of the buffer in the file
        self._closed = False
        self._read = self._read_prefix
        self._prefix: Prefix | None = None
        self._head: Head | None = None
        self._header: FrameHeader | None = None
        self._preface = bytearray()
        self._frames: tuple[MetadataFrame, ...] = ()  # of the preface
        self._first = 0  # offset of the first chunk
        self._lengths = array("q")
        self._missing: list[int] = []

    def receive_data(self, data: bytes) -> None:
        """Take more bytes; empty bytes say that there are no more."""
        if data:
            self._buffer += data
        else:
            self._closed = True

    @property
    def wanted(self) -> int:
        """Bytes worth reading at once before the next event."""
        if self._header is not None:
            return max(self._header.size - len(self._buffer), 1)
        if self._prefix is not None and self._head is None:
            return max(self._prefix.head_size - self._offset - len(self._buffer), 1)
        return 1 << 16

    def next_event(self) -> Event | Literal[Signal.NEED_DATA]:
        """Return the next event, or NEED_DATA.

        Raises
        ------
        MroiError
            The bytes break a rule. It is raised again by every later call; any other exception
            would be a bug.
        """
        try:
            event = self._read()
            if event is None and self._closed:
                raise TruncatedError(
                    f"the file ends early, {self._where()}",
                    "LAY-4",
                    self._offset + len(self._buffer),
                )
        except MroiError as exc:
            self._failure = exc
            self._read = self._refuse
            raise
        return NEED_DATA if event is None else event

    # -- states ----------------------------------------------------------------------------

    def _read_prefix(self) -> Event | None:
        if len(self._buffer) < 12:
            return None
        size = prefix_size_of(bytes(self._buffer[:12]))
        if len(self._buffer) < size:
            return None
        self._prefix = parse_prefix(self._take(size))
        head_size_of(self._prefix, self._limits)
        self._read = self._read_head
        return self._read()

    def _read_head(self) -> Event | None:
        assert self._prefix is not None
        size = self._prefix.head_size - self._prefix.prefix_size
        if len(self._buffer) < size:
            return None
        stop = self._prefix.file_size or _UNBOUNDED
        self._head = parse_head(self._prefix, self._take(size), stop=stop, limits=self._limits)
        self._read = self._read_preface
        return HeadEvent(self._head)

    def _read_preface(self) -> Event | None:
        assert self._head is not None
        while True:
            if self._header is None:
                if len(self._buffer) < FRAME_HEADER_SIZE:
                    return None
                header = parse_frame_header(
                    self._buffer[:FRAME_HEADER_SIZE],
                    sync=self._head.prefix.sync,
                    offset=self._offset,
                )
                if header.type == FrameType.CHUNK:
                    break
                check_preface_header(header)
                if len(self._preface) + header.size > preface_bound(self._limits):
                    raise LimitError(
                        f"{header} has {header.length:,} bytes, more than the limit",
                        "LIM-1",
                        self._offset,
                    )
                self._header = header
            if len(self._buffer) < self._header.size:
                return None
            self._preface += self._take(self._header.size)
            self._header = None
        self._first = self._offset
        base = self._head.prefix.head_size
        self._frames = parse_preface(
            bytes(self._preface), self._head, base=base, limits=self._limits
        )
        self._read = self._read_chunk
        return self._read()

    def _read_chunk(self) -> Event | None:
        assert self._head is not None
        if len(self._lengths) == self._head.chunk_count:
            self._read = self._read_tail
            return self._read()
        if self._header is None:
            if len(self._buffer) < FRAME_HEADER_SIZE:
                return None
            header = parse_frame_header(
                self._buffer[:FRAME_HEADER_SIZE], sync=self._head.prefix.sync, offset=self._offset
            )
            self._decoded_size = check_chunk_header(
                header, self._head, len(self._lengths), self._limits
            )
            self._header = header
        if len(self._buffer) < self._header.size:
            return None
        header, self._header = self._header, None
        frame = memoryview(self._take(header.size))
        payload = frame[FRAME_HEADER_SIZE : FRAME_HEADER_SIZE + header.length]
        check_payload(header, payload, frame[FRAME_HEADER_SIZE + header.length :])
        self._lengths.append(header.length)
        state = ChunkState(header.flags)
        if state is ChunkState.MISSING:
            self._missing.append(header.ordinal)
        return ChunkEvent(header, state, payload, self._decoded_size)

    def _read_tail(self) -> Event | None:
        assert self._head is not None
        # The tail is metadata and an index: it is taken whole, within the limits of both.
        bound = tail_bound(self._head, self._limits)
        if len(self._buffer) > bound:
            raise LimitError(f"the tail exceeds {bound:,} bytes", "LIM-1", self._offset)
        if not self._closed:
            return None
        base = self._offset
        tail = parse_tail(
            self._take(len(self._buffer)),
            self._head,
            base=base,
            limits=self._limits,
            preface=self._frames,
        )
        if tail.index.first != self._first:
            raise FormatError(
                f"INDX states the first chunk at {tail.index.first}; it is at {self._first}",
                "IDX-2",
            )
        different = np.flatnonzero(tail.index.lengths != np.frombuffer(self._lengths, np.int64))
        if len(different):
            raise FormatError(
                f"INDX and the frame of chunk {different[0]} state different lengths", "IDX-3"
            )
        crcs = tail.index.decoded_crcs
        if crcs is not None and crcs[self._missing].any():
            raise FormatError("INDX: a missing chunk has a decoded CRC", "IDX-4")
        self._read = self._read_nothing
        return EndEvent(tail)

    def _read_nothing(self) -> Event | None:
        if self._buffer:
            raise FormatError("data after the end of the file", "LAY-1", self._offset)
        raise FormatError("data after the end of the file", "LAY-1", self._offset)

    def _refuse(self) -> Event | None:
        raise self._failure

    def _take(self, size: int) -> bytes:
        data = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        self._offset += size
        return data

    def _where(self) -> str:
        if self._header is not None:
            have = max(len(self._buffer) - FRAME_HEADER_SIZE, 0)
            return f"in {self._header}: need {self._header.length:,} bytes, have {have:,}"
        if self._head is None:
            return "in its head"
        if len(self._lengths) < self._head.chunk_count:
            return f"before chunk {len(self._lengths)} of {self._head.chunk_count}"
        return "in its tail"
