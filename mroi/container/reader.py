"""Random access to a file: open it with one small read, then read chunks by number.

The reader is immutable after opening and may be shared between threads; it can be pickled and
used after a fork if its source can.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from mroi.container.sections import (
    Head,
    MetadataFrame,
    Tail,
    check_chunk_header,
    check_footer,
    check_unique,
    head_size_of,
    most_stored,
    parse_head,
    parse_preface,
    parse_tail,
    preface_bound,
    tail_bound,
)
from mroi.container.source import Source
from mroi.errors import FormatError, LimitError, MroiError, TruncatedError
from mroi.format.index import Index
from mroi.format.records import (
    FOOTER_SIZE,
    FRAME_HEADER_SIZE,
    PREFIX_SIZE,
    SLOT_OFFSET,
    ChunkState,
    FrameHeader,
    FrameType,
    Incompat,
    Prefix,
    check_payload,
    frame_header,
    parse_footer,
    parse_frame_header,
    parse_prefix,
    prefix_size_of,
)
from mroi.limits import DEFAULT_LIMITS, Limits

__all__ = ["Chunk", "ContainerReader", "Run", "StoredChunk"]

_FIRST_READ = 1 << 14  # holds the head of a file with up to about 1,800 chunks
# Adjacent chunks are read together up to so many bytes.
_FAR_RUN = 1 << 23
_NEAR_RUN = 96 << 10  # memory below the size that allocators ask the system for each time
_FAR_GAP = 1 << 17  # bytes between chunks that cost less than another round trip


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk as stored, checked but not decoded.

    Attributes
    ----------
    ordinal : int
        Number of the chunk.
    state : ChunkState
        How the payload stands for the voxels.
    slot : int
        Codec slot.
    payload : memoryview
        The payload.
    size : int
        Bytes of the decoded chunk.
    decoded_crc : int or None
        CRC of the decoded chunk, if the index has it.
    """

    ordinal: int
    state: ChunkState
    slot: int
    payload: memoryview
    size: int
    decoded_crc: int | None


class StoredChunk(NamedTuple):
    """One chunk as stored, not checked.

    Attributes
    ----------
    ordinal : int
        Number of the chunk.
    offset : int
        Where its frame begins.
    length : int
        Bytes of its payload, as the index says.
    frame : memoryview
        Its frame.
    """

    ordinal: int
    offset: int
    length: int
    frame: memoryview


class Run(NamedTuple):
    """Chunks that are read at once.

    Attributes
    ----------
    ordinals : sequence of int
        Ascending.
    starts, stops : list of int
        Where the frame of each begins and ends in the file; there may be others between them.
    lengths : list of int
        Bytes of their payloads, as the index says.
    """

    ordinals: Sequence[int]
    starts: list[int]
    stops: list[int]
    lengths: list[int]


class ContainerReader:
    """A file, opened.

    Attributes
    ----------
    source : Source
        Where its bytes come from.
    head : Head
        Geometry, codecs, metadata of the head.
    index : Index
        Where its chunks are.
    size : int
        Bytes of the file.
    """

    def __init__(self, source: Source, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self.source = source
        self.limits = limits
        self.size = source.size()
        first = source.read(0, min(_FIRST_READ, self.size))
        prefix = _parse_prefix(first)
        head_size_of(prefix, limits)
        self._check_size(prefix)
        if len(first) < prefix.head_size:
            first += source.read(len(first), prefix.head_size - len(first))
        self.head: Head = parse_head(
            prefix, first[prefix.prefix_size : prefix.head_size], stop=self.size, limits=limits
        )
        # What was read beyond the head of a remote source may hold all of the preface.
        self._beyond = first[prefix.head_size :] if source.is_remote else b""
        self._tail: Tail | None = None
        self._preface: tuple[MetadataFrame, ...] | None = None
        if self.head.index is None:
            self.index: Index = self._read_tail().index
        else:
            self.index = self.head.index
            if not source.is_remote:  # OPN-1: for others the size was checked
                self._check_footer()

    def _check_size(self, prefix: Prefix) -> None:
        """Check the size in the prefix, if it has one, against that of the file."""
        if self.size < prefix.head_size + FOOTER_SIZE:
            raise TruncatedError(
                f"the file ends early: it has {self.size:,} bytes; head and footer alone need "
                f"{prefix.head_size + FOOTER_SIZE:,}",
                "LAY-4",
                self.size,
            )
        if prefix.file_size in (0, self.size):
            return
        if self._ends_with_footer(prefix):
            raise FormatError(
                f"prefix states {prefix.file_size:,} bytes; the file has {self.size:,}",
                "PFX-11",
                48,
            )
        if self.size < prefix.file_size:
            raise TruncatedError(
                f"the file ends early: {self.size:,} of {prefix.file_size:,} bytes are there",
                "LAY-4",
                self.size,
            )
        raise FormatError(
            f"{self.size - prefix.file_size:,} bytes follow the end of the file",
            "LAY-1",
            prefix.file_size,
        )

    def _ends_with_footer(self, prefix: Prefix) -> bool:
        try:
            header, payload = self._read_frame(self.size - FOOTER_SIZE, FOOTER_SIZE, prefix)
            return (
                header.type == FrameType.FOOTER
                and parse_footer(payload, offset=0).file_size == self.size
            )
        except MroiError:
            return False

    def _read_frame(self, offset: int, size: int, prefix: Prefix) -> tuple[FrameHeader, memoryview]:
        """Read and check the frame that takes the `size` bytes at `offset`."""
        frame = memoryview(self.source.read(offset, size))
        header = parse_frame_header(frame[:FRAME_HEADER_SIZE], sync=prefix.sync, offset=offset)
        if header.size != size:
            raise FormatError(
                f"{header} has {header.size:,} bytes instead of {size:,}", "FRM-8", offset
            )
        stop = FRAME_HEADER_SIZE + header.length
        payload = frame[FRAME_HEADER_SIZE:stop]
        check_payload(header, payload, frame[stop:])
        return header, payload

    def _check_footer(self) -> None:
        offset = self.size - FOOTER_SIZE
        header, payload = self._read_footer(offset)
        footer = parse_footer(payload, offset=offset + FRAME_HEADER_SIZE)
        check_footer(
            footer,
            self.head,
            index_offset=self.head.prefix.index_offset,
            size=self.size,
            offset=header.offset,
        )
        if self.index.stop > offset:
            raise FormatError("INDX places chunks inside the footer", "IDX-5", offset)

    def _read_footer(self, offset: int) -> tuple[FrameHeader, memoryview]:
        """Read the last frame; if there is none, say that the file is cut, not what is there."""
        try:
            header, payload = self._read_frame(offset, FOOTER_SIZE, self.head.prefix)
        except FormatError as exc:
            if self.head.prefix.file_size:
                raise
            raise TruncatedError(
                f"the file has no footer, so its end is missing ({exc.message})", "LAY-4", self.size
            ) from exc
        if header.type != FrameType.FOOTER:
            raise TruncatedError(f"the file ends with {header}, not FOOT", "LAY-4", self.size)
        return header, payload

    def _read_tail(self) -> Tail:
        """Read and check everything after the chunks, and keep it."""
        # No lock: threads that come here at once read the same tail twice, and a process that was
        # forked meanwhile finds no lock that nobody will open.
        if self._tail is None:
            if self.head.index is None:
                offset = self.size - FOOTER_SIZE
                _header, payload = self._read_footer(offset)
                start = parse_footer(payload, offset=offset + FRAME_HEADER_SIZE).index_offset
                if not self.head.prefix.head_size <= start < offset:
                    raise FormatError(
                        f"FOOT states an index at {start}, outside the tail", "FOT-2", offset
                    )
            else:
                start = self.head.index.stop
            if self.size - start > tail_bound(self.head, self.limits):
                raise LimitError(
                    f"the tail has {self.size - start:,} bytes, more than the limit", "LIM-1", start
                )
            data = self.source.read(start, self.size - start)
            self._tail = parse_tail(data, self.head, base=start, limits=self.limits)
        return self._tail

    def _read_preface(self) -> tuple[MetadataFrame, ...]:
        """Read and check what stands between the head and the first chunk, and keep it."""
        if self._preface is None:
            start, stop = self.head.prefix.head_size, self.index.first
            if stop - start > preface_bound(self.limits):
                raise LimitError(
                    f"the preface has {stop - start:,} bytes, more than the limit", "LIM-1", start
                )
            data = self._beyond[: stop - start]
            if len(data) < stop - start:
                data += self.source.read(start + len(data), stop - start - len(data))
            self._preface = parse_preface(data, self.head, base=start, limits=self.limits)
        return self._preface

    # -- metadata --------------------------------------------------------------------------

    @property
    def frames(self) -> tuple[MetadataFrame, ...]:
        """All ancillary frames: of the head, of the preface and of the tail."""
        frames = self.head.frames + self._read_preface() + self._read_tail().frames
        seen: set[tuple[bytes, int]] = set()
        for frame in frames:
            check_unique(frame.header, seen)
        return frames

    def find_frame(self, kind: bytes, ordinal: int = 0) -> MetadataFrame | None:
        """Return an ancillary frame, or None if there is none."""
        for frame in self._frames_likely_first(kind):
            if frame.key == (kind, ordinal):
                if frame.header.length > self.limits.metadata_stored:
                    raise LimitError(
                        f"{frame.header} has {frame.header.length:,} bytes, more than the limit",
                        "LIM-1",
                        frame.header.offset,
                    )
                return frame
        return None

    def find_metadata(self, kind: bytes, ordinal: int = 0) -> bytes | None:
        """Return the payload of an ancillary frame, inflated, or None if there is none."""
        frame = self.find_frame(kind, ordinal)
        return None if frame is None else frame.content(self.limits)

    def _frames_likely_first(self, kind: bytes) -> Iterator[MetadataFrame]:
        """Yield all ancillary frames; what is seldom in the preface is looked for there last."""
        yield from self.head.frames
        if kind == FrameType.OVERVIEW:
            yield from self._read_preface()
        yield from self._read_tail().frames
        if kind != FrameType.OVERVIEW:
            yield from self._read_preface()

    # -- chunks ----------------------------------------------------------------------------

    def read_chunk(self, ordinal: int) -> Chunk:
        """Read one chunk with one read of the source, and check it."""
        (run,) = self.find_runs([ordinal])
        (stored,) = self.read_run(run)
        return self.parse_chunk(stored)

    def find_runs(self, ordinals: Sequence[int]) -> list[Run]:
        """Return runs of adjacent chunks of the ascending `ordinals`; of a remote file, near ones.

        Runs of a file on disk are short, so that threads can share the work of parsing them.
        """
        most, gap = (_FAR_RUN, _FAR_GAP) if self.source.is_remote else (_NEAR_RUN, 0)
        numbers = np.asarray(ordinals, np.int64)
        starts = self.index.offsets[numbers].tolist()
        stops = self.index.offsets[numbers + 1].tolist()
        lengths = self.index.lengths[numbers].tolist()
        runs, first = [], 0
        for last, stop in enumerate(stops):
            ahead = last + 1
            is_near = ahead < len(stops) and starts[ahead] - stop <= gap
            if is_near and stops[ahead] - starts[first] <= most:
                continue
            part = slice(first, ahead)
            runs.append(Run(ordinals[part], starts[part], stops[part], lengths[part]))
            first = ahead
        return runs

    def read_run(self, run: Run) -> list[StoredChunk]:
        """Read the chunks of a run with one read of the source."""
        base = run.starts[0]
        data = memoryview(self.source.read(base, run.stops[-1] - base))
        return [
            StoredChunk(number, start, length, data[start - base : stop - base])
            for number, start, stop, length in zip(*run, strict=True)
        ]

    def parse_chunk(self, stored: StoredChunk, size: int | None = None) -> Chunk:
        """Check the frame of a chunk.

        Parameters
        ----------
        stored : StoredChunk
            The chunk.
        size : int, optional
            Bytes of the decoded chunk, if the caller has them at hand.

        Raises
        ------
        FormatError, ChecksumError
            If the frame breaks a rule.
        LimitError
            If the chunk decodes to more bytes than the limits allow.
        """
        ordinal, offset, length, frame = stored
        crcs = self.index.decoded_crcs
        crc = None if crcs is None else int(crcs[ordinal])
        size = self.head.geom.decoded_size(ordinal) if size is None else size
        if self._is_usual(stored, size):
            slot = frame[SLOT_OFFSET]
            payload = frame[FRAME_HEADER_SIZE : FRAME_HEADER_SIZE + length]
            return Chunk(ordinal, ChunkState.ENCODED, slot, payload, size, crc)
        header = parse_frame_header(
            frame[:FRAME_HEADER_SIZE], sync=self.head.prefix.sync, offset=offset
        )
        size = check_chunk_header(header, self.head, ordinal, self.limits)
        if header.length != length:
            raise FormatError(
                f"{header} has {header.length:,} bytes; INDX states {length:,}", "IDX-3", offset
            )
        stop = FRAME_HEADER_SIZE + length
        payload = frame[FRAME_HEADER_SIZE:stop]
        check_payload(header, payload, frame[stop:])
        state = ChunkState(header.flags)
        if state is ChunkState.MISSING and crc:
            raise FormatError(f"{header} is marked missing but has a decoded CRC", "IDX-4", offset)
        return Chunk(ordinal, state, header.codec_slot, payload, size, crc)

    def _is_usual(self, stored: StoredChunk, size: int) -> bool:
        """Whether a chunk that decodes to `size` bytes is encoded, and sound in every respect.

        All others go the long way, which says what is wrong: most chunks are spared it, as it takes
        as long as decoding a small one.
        """
        ordinal, _, length, frame = stored
        head, stop = self.head, FRAME_HEADER_SIZE + length
        slot = frame[SLOT_OFFSET]
        usual = frame_header(
            FrameType.CHUNK,
            frame[FRAME_HEADER_SIZE:stop],
            sync=head.prefix.sync,
            ordinal=ordinal,
            slot=slot,
        )
        if frame[:FRAME_HEADER_SIZE] != usual or any(frame[stop:]) or slot >= len(head.codecs):
            return False
        is_for_it = head.codecs[slot].role is head.role_of(ordinal)
        return is_for_it and 0 < size <= self.limits.chunk_size and length <= most_stored(size)

    def find_missing(self) -> list[int]:
        """Return the ordinals of the chunks that the file says it does not have."""
        if not self.head.prefix.incompat & Incompat.PARTIAL:
            return []
        # Missing chunks are empty (CHK-4): only the headers of empty ones are read.
        empty: NDArray[np.intp] = np.flatnonzero(self.index.lengths == 0)
        return [i for i in empty.tolist() if self.state_of(i) is ChunkState.MISSING]

    def state_of(self, ordinal: int) -> ChunkState:
        """Read the state of a chunk from its header alone."""
        offset = int(self.index.offsets[ordinal])
        header = parse_frame_header(
            self.source.read(offset, FRAME_HEADER_SIZE), sync=self.head.prefix.sync, offset=offset
        )
        check_chunk_header(header, self.head, ordinal, self.limits)
        return ChunkState(header.flags)

    def close(self) -> None:
        """Close the source."""
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _parse_prefix(first: bytes) -> Prefix:
    if len(first) < 12:
        raise TruncatedError(
            f"not an mroi file: it has only {len(first)} bytes", "LAY-4", len(first)
        )
    size = prefix_size_of(first)
    if len(first) < max(size, PREFIX_SIZE):
        raise TruncatedError("the file ends inside its prefix", "LAY-4", len(first))
    return parse_prefix(first[:size])
