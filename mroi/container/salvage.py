"""Find what is whole in a damaged or cut file (section "Salvage"). Only used when asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mroi.container.reader import Chunk
from mroi.container.sections import (
    Head,
    MetadataFrame,
    check_chunk_header,
    head_size_of,
    parse_head,
)
from mroi.container.source import Source
from mroi.errors import FormatError, MroiError
from mroi.format.index import Index, parse_index
from mroi.format.records import (
    FRAME_HEADER_SIZE,
    ChunkState,
    FrameHeader,
    check_payload,
    parse_frame_header,
    parse_prefix,
    prefix_size_of,
)
from mroi.limits import DEFAULT_LIMITS, Limits

__all__ = ["Salvaged", "salvage"]

_WINDOW = 1 << 20
_UNBOUNDED = 1 << 62


@dataclass(frozen=True)
class Salvaged:
    """What was found.

    Attributes
    ----------
    source : Source
        The damaged file.
    head : Head
        Its head, which was whole.
    found : dict
        Header of each chunk whose header and payload are right, by ordinal.
    frames : tuple of MetadataFrame
        Whole metadata frames of head and tail, without digests.
    index : Index or None
        The index, if it was whole.
    """

    source: Source
    head: Head
    found: dict[int, FrameHeader]
    frames: tuple[MetadataFrame, ...]
    index: Index | None

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
        has_crc = self.index is not None and self.index.decoded_crcs is not None
        crc = int(self.index.decoded_crcs[ordinal]) if has_crc else None  # type: ignore[union-attr, index]
        state = ChunkState(header.flags)
        return Chunk(ordinal, state, header.codec_slot, memoryview(payload), size, crc)


def salvage(source: Source, *, limits: Limits = DEFAULT_LIMITS) -> Salvaged:
    """Search `source` for whole chunks; memory is bounded by one window and one chunk.

    Raises
    ------
    FormatError
        If the prefix or the head is damaged: without them the voxels have no meaning.
    """
    size = source.size()
    prefix = parse_prefix(source.read(0, prefix_size_of(source.read(0, min(size, 12)).ljust(12))))
    data = source.read(prefix.prefix_size, head_size_of(prefix, limits))
    head = parse_head(prefix, data, stop=prefix.file_size or _UNBOUNDED, limits=limits)
    found: dict[int, FrameHeader] = {}
    frames = [frame for frame in head.frames if frame.header.type != b"dIGE"]
    index = head.index
    for header, payload in _walk(source, head, size, limits):
        if header.type == b"CHNK":
            # Each found chunk was checked by _walk; the first of two with one number is kept.
            found.setdefault(header.ordinal, header)
        elif header.type == b"INDX" and index is None:
            index = _find_index(payload, head, header, size)
        elif not header.is_critical and header.type not in (b"dIGE", b"pADd", b"rOIB"):
            frames.append(MetadataFrame(header, payload))
    return Salvaged(source, head, found, tuple(frames), index)


def _find_index(payload: bytes, head: Head, header: FrameHeader, size: int) -> Index | None:
    try:
        return parse_index(
            payload,
            count=head.chunk_count,
            first=head.prefix.head_size,
            stop=size,
            offset=header.offset,
        )
    except FormatError:
        return None


def _walk(
    source: Source, head: Head, size: int, limits: Limits
) -> Iterator[tuple[FrameHeader, bytes]]:
    """Yield every whole frame after the head, resuming at the next sync word after damage."""
    at = head.prefix.head_size
    while at + FRAME_HEADER_SIZE <= size:
        frame = _find_frame(source, head, at, size, limits)
        if frame is not None:
            yield frame
            at = frame[0].stop
        else:
            at = _find_sync(source, head.prefix.sync, at + 1, size)


def _find_frame(
    source: Source, head: Head, at: int, size: int, limits: Limits
) -> tuple[FrameHeader, bytes] | None:
    try:
        header = parse_frame_header(
            source.read(at, FRAME_HEADER_SIZE), sync=head.prefix.sync, offset=at
        )
        if header.offset + FRAME_HEADER_SIZE + header.length > size:
            return None
        if header.type == b"CHNK":
            if header.ordinal >= head.chunk_count:
                return None
            check_chunk_header(header, head, header.ordinal, limits)
        elif header.length > limits.metadata_stored + limits.head_size:
            return None
        payload = source.read(at + FRAME_HEADER_SIZE, header.length)
        check_payload(header, payload, b"")
    except MroiError:
        return None
    return header, payload


def _find_sync(source: Source, sync: int, at: int, size: int) -> int:
    """Return the next offset from `at` that has the sync word, or the end of the file.

    Every offset is tried, not only multiples of 8: bytes may have been lost or added.
    """
    word = sync.to_bytes(4, "little")
    while at + FRAME_HEADER_SIZE <= size:
        window = source.read(at, min(_WINDOW, size - at))
        found = window.find(word)
        if found >= 0:
            return at + found
        at += max(len(window) - len(word) + 1, 1)
    return size
