"""Find what is whole in a damaged or cut file (section "Salvage"). Only used when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from mroi.container.reader import Chunk
from mroi.container.sections import (
    Head,
    MetadataFrame,
    add_metadata,
    check_chunk_header,
    check_unique,
    head_size_of,
    parse_head,
)
from mroi.container.source import Source
from mroi.errors import FormatError, LimitError, MroiError
from mroi.format.index import Index, parse_index
from mroi.format.records import (
    FRAME_HEADER_SIZE,
    ChunkState,
    FrameHeader,
    FrameType,
    Prefix,
    align,
    build_frame,
    check_payload,
    parse_frame_header,
    parse_prefix,
    prefix_size_of,
)
from mroi.limits import DEFAULT_LIMITS, Limits

__all__ = ["Salvaged", "salvage"]

_WINDOW = 1 << 16
_UNBOUNDED = 1 << 62
_MAX_WORK = 16
_VITAL = frozenset({FrameType.ROI_RECORD, FrameType.GEOMETRY, FrameType.CODECS, FrameType.RESCALE})

Frame = tuple[FrameHeader, bytes]


@dataclass(frozen=True)
class Salvaged:
    """What was found.

    Attributes
    ----------
    source : Source
        The damaged file.
    head : Head
        What its head says of geometry, codecs and rescale; these were whole.
    found : dict
        Header of each chunk whose header and payload are right, by ordinal.
    frames : tuple of MetadataFrame
        Whole metadata frames of head and tail that hold whatever became of the voxels: no digests.
    index : Index or None
        The index, if it was whole.
    has_overview : bool
        Whether a whole frame has an overview.
    """

    source: Source
    head: Head
    found: dict[int, FrameHeader]
    frames: tuple[MetadataFrame, ...]
    index: Index | None
    has_overview: bool = False

    @property
    def missing(self) -> list[int]:
        """Ordinals of the chunks that were not found."""
        return [i for i in range(self.head.chunk_count) if i not in self.found]

    def read_chunk(self, ordinal: int) -> Chunk:
        """Return a chunk; one that was not found is `ChunkState.MISSING`."""
        size = self.head.geom.decoded_size(ordinal)
        header = self.found.get(ordinal)
        if header is None:
            return Chunk(ordinal, ChunkState.MISSING, 0, memoryview(b""), size, None)
        payload = self.source.read(header.offset + FRAME_HEADER_SIZE, header.length)
        crcs = None if self.index is None else self.index.decoded_crcs
        crc = None if crcs is None else int(crcs[ordinal])
        state = ChunkState(header.flags)
        return Chunk(ordinal, state, header.codec_slot, memoryview(payload), size, crc)


def salvage(source: Source, *, limits: Limits = DEFAULT_LIMITS) -> Salvaged:
    """Search `source` for whole chunks; memory is bounded by the head, one window and one chunk.

    Raises
    ------
    FormatError
        If the prefix, or what the head says of geometry, codecs or rescale, is damaged: without
        them the voxels have no meaning.
    """
    size = source.size()
    prefix = parse_prefix(source.read(0, prefix_size_of(source.read(0, min(size, 12)).ljust(12))))
    head_size_of(prefix, limits)
    search = _Search(source, prefix.sync, size)
    first = list(search.frames(prefix.prefix_size, min(prefix.head_size, size), _accept))
    head = _find_head(source, prefix, first, limits)

    def check(header: FrameHeader) -> None:
        if header.type == FrameType.CHUNK:
            if header.ordinal >= head.chunk_count:
                raise FormatError(
                    f"{header}: the file has only {head.chunk_count} chunks", "CHK-1", header.offset
                )
            check_chunk_header(header, head, header.ordinal, limits)
        elif header.length > limits.metadata_stored + limits.head_size:
            raise LimitError(
                f"{header} has {header.length:,} bytes, more than the limit", "LIM-1", header.offset
            )

    found: dict[int, FrameHeader] = {}
    index: Index | None = None
    frames: list[MetadataFrame] = []
    seen: set[tuple[bytes, int]] = set()
    has_overview = False
    for header, payload in (*first, *search.frames(prefix.head_size, size, check)):
        if header.type == FrameType.CHUNK:
            found.setdefault(header.ordinal, header)
        elif header.type == FrameType.INDEX:
            index = index or _find_index(payload, head, header)
        elif header.type == FrameType.OVERVIEW:
            has_overview = True
        elif header.type[3] & 0x20:  # the frame holds whatever became of the voxels
            with suppress(FormatError):
                check_unique(header, seen)
                add_metadata(MetadataFrame(header, payload), head.geom, frames)
    return Salvaged(source, head, found, tuple(frames), index, has_overview)


def _accept(_header: FrameHeader) -> None:
    """Check nothing: the frames of a head are bounded by its size."""


def _find_head(source: Source, prefix: Prefix, found: list[Frame], limits: Limits) -> Head:
    """Return the head that the whole frames `found` in it make, without metadata and index."""
    vital = b"".join(
        build_frame(header.type, payload, sync=prefix.sync, ordinal=header.ordinal)
        for header, payload in found
        if header.type in _VITAL
    )
    try:
        head = parse_head(replace(prefix, index_offset=0), vital, stop=_UNBOUNDED, limits=limits)
        if head.rescale is None:
            _check_no_rescale(source, prefix, found, head)
    except FormatError:
        # What is wrong with the head as it stands says more than what is wrong with the rest.
        data = source.read(prefix.prefix_size, prefix.head_size - prefix.prefix_size)
        parse_head(prefix, data, stop=_UNBOUNDED, limits=limits)
        raise
    return head


def _check_no_rescale(source: Source, prefix: Prefix, found: list[Frame], head: Head) -> None:
    """Refuse a head in which SLSC may be what is damaged: values would lose their scale."""
    size = align(FRAME_HEADER_SIZE + 16 * head.geom.slice_count)
    at = prefix.prefix_size
    stop = prefix.index_offset or prefix.head_size
    for start, after in (*((h.offset, h.stop) for h, _payload in found), (stop, stop)):
        if start - at >= size and _kind_at(source, prefix, at, start) in (None, FrameType.RESCALE):
            raise FormatError("the rescale factors of the slices may be damaged", "SLS-1", at)
        at = max(at, after)


def _kind_at(source: Source, prefix: Prefix, at: int, stop: int) -> bytes | None:
    """Return the type of the damaged frame from `at` to `stop`, if its header is whole."""
    try:
        header = parse_frame_header(source.read(at, FRAME_HEADER_SIZE), sync=prefix.sync, offset=at)
    except MroiError:
        return None
    return header.type if header.stop == stop else None


def _find_index(payload: bytes, head: Head, header: FrameHeader) -> Index | None:
    try:
        return parse_index(
            payload,
            count=head.chunk_count,
            start=head.prefix.head_size,
            stop=_UNBOUNDED,
            offset=header.offset,
        )
    except FormatError:
        return None


class _Search:
    """Finds whole frames, resuming at the next sync word after damage.

    Frames with right headers and wrong payloads may overlap, so a small file could ask for any
    amount of work: all payloads that are looked at together have at most 16 times the bytes of
    the file. What lies behind that is lost.
    """

    def __init__(self, source: Source, sync: int, size: int) -> None:
        self._source = source
        self._sync = sync
        self._word = sync.to_bytes(4, "little")
        self._work = _MAX_WORK * size
        self._base = 0  # of the window
        self._window = b""

    def frames(
        self, start: int, stop: int, check: Callable[[FrameHeader], None]
    ) -> Iterator[Frame]:
        """Yield the whole frames from `start` to `stop` whose headers pass `check`."""
        at = start
        while (at := self._find_sync(at, stop)) + FRAME_HEADER_SIZE <= stop:
            frame = self._read_frame(at, stop, check)
            if frame is None:
                at += 1
            else:
                yield frame
                at = frame[0].stop

    def _find_sync(self, at: int, stop: int) -> int:
        """Return the next offset from `at` that has the sync word, with its header in the window.

        Every offset is tried, not only multiples of 8: bytes may have been lost or added.
        """
        while at + FRAME_HEADER_SIZE <= stop:
            last = self._base + len(self._window) - FRAME_HEADER_SIZE
            if not self._base <= at <= last:
                self._base, self._window = at, self._source.read(at, min(_WINDOW, stop - at))
                last = at + len(self._window) - FRAME_HEADER_SIZE
            found = self._window.find(self._word, at - self._base)
            if found < 0:
                at = self._base + len(self._window) - len(self._word) + 1
            else:
                at = self._base + found
                if at <= last:
                    return at
        return stop

    def _read_frame(self, at: int, stop: int, check: Callable[[FrameHeader], None]) -> Frame | None:
        begin = at - self._base
        try:
            header = parse_frame_header(
                self._window[begin : begin + FRAME_HEADER_SIZE], sync=self._sync, offset=at
            )
            check(header)
            payload_start = at + FRAME_HEADER_SIZE
            if payload_start + header.length > stop or header.length > self._work:
                return None
            self._work -= header.length
            payload = self._source.read(payload_start, header.length)
            check_payload(header, payload, b"")
        except MroiError:
            return None
        return header, payload
