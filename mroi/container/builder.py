"""Values to bytes, in the order that a file has them. No IO: the caller owns the sink.

A `ContainerBuilder` gives the bytes of a file piece by piece. For a sink that can seek, room for
the index is reserved in the head; `finish` then gives a new head to write over the old one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from typing_extensions import Buffer

from mroi.container.sections import most_stored
from mroi.errors import FormatError, UsageError
from mroi.format.codec_table import CodecEntry, build_codec_table
from mroi.format.geom import Geom, build_geom, build_roi_record, has_roi_record
from mroi.format.index import Index, build_index, index_size
from mroi.format.records import (
    FOOTER_SIZE,
    FRAME_HEADER_SIZE,
    PREFIX_SIZE,
    ChunkState,
    Footer,
    FrameType,
    Incompat,
    Prefix,
    align,
    build_empty_chunks,
    build_footer,
    build_frame,
    build_prefix,
)

__all__ = ["ContainerBuilder", "Metadata"]


@dataclass(frozen=True, slots=True)
class Metadata:
    """A metadata frame to write; `flags` is 1 for a payload that is compressed already."""

    type: bytes
    payload: bytes
    ordinal: int = 0
    flags: int = 0


class ContainerBuilder:
    """Builds one file.

    Parameters
    ----------
    geom, codecs
        What the file holds and how.
    rescale : bytes, optional
        Payload of SLSC.
    metadata : sequence of Metadata
        Frames for the head; large ones belong to the tail.
    can_seek : bool
        Whether the head can be written again at the end.
    partial : bool
        Whether chunks may be missing.
    decoded_crcs : bool
        Whether the index has the CRCs of decoded chunks.
    """

    def __init__(
        self,
        geom: Geom,
        codecs: Sequence[CodecEntry],
        *,
        rescale: bytes | None = None,
        metadata: Sequence[Metadata] = (),
        can_seek: bool,
        partial: bool = False,
        decoded_crcs: bool = True,
    ) -> None:
        self.geom = geom
        self._count = geom.grid.chunks
        self._has_crcs = decoded_crcs
        self._next = 0
        self._incompat = (Incompat.PARTIAL if partial else Incompat(0)) | (
            Incompat.BACKGROUND_PLANE if geom.background.is_stored else Incompat(0)
        )
        frames = [
            Metadata(FrameType.GEOMETRY, build_geom(geom)),
            Metadata(FrameType.CODECS, build_codec_table(codecs)),
            *([Metadata(FrameType.RESCALE, rescale)] if rescale is not None else []),
            *metadata,
        ]
        if has_roi_record(geom):
            frames.insert(0, Metadata(FrameType.ROI_RECORD, build_roi_record(geom)))
        self._sync = _sync_word(frames)
        self._frames = b"".join(self._frame(frame) for frame in frames)
        largest = max((most_stored(geom.decoded_size(i)) for i in self._largest()), default=0)
        self._entry_size = 8 if largest < 1 << 32 else 16
        self._can_seek = can_seek
        room = FRAME_HEADER_SIZE + index_size(self._count, self._entry_size)
        self._head_size = PREFIX_SIZE + len(self._frames) + (align(room) if can_seek else 0)
        if self._head_size >= 1 << 32:
            raise FormatError(
                f"the head takes {self._head_size:,} bytes, more than the 2^32 - 8 allowed", "PFX-8"
            )
        self._first = self._offset = self._head_size
        self._lengths = np.zeros(self._count, dtype=np.int64)
        self._crcs = np.zeros(self._count, dtype=np.uint32)

    def _largest(self) -> list[int]:
        """Ordinals that include the largest chunk: the first of the ROI, and the background's."""
        grid = self.geom.grid
        return [0, *range(grid.roi_chunks, grid.roi_chunks + grid.background_slabs)]

    def _frame(self, frame: Metadata) -> bytes:
        return build_frame(
            frame.type, frame.payload, sync=self._sync, ordinal=frame.ordinal, flags=frame.flags
        )

    def _prefix(self, index_offset: int, file_size: int) -> bytes:
        return build_prefix(
            Prefix(self._head_size, self._sync, self._incompat, index_offset, file_size)
        )

    def start(self) -> bytes:
        """Return prefix and head; an unfinished file with them is refused by readers."""
        room = b""
        if self._can_seek:
            room = self._frame(
                Metadata(FrameType.PADDING, bytes(index_size(self._count, self._entry_size)))
            )
        return self._prefix(0, 0) + self._frames + room

    def preface(self, metadata: Sequence[Metadata]) -> bytes:
        """Return the frames between the head and the first chunk."""
        if self._next:
            raise UsageError("preface frames must be written before the first chunk")
        frames = b"".join(self._frame(frame) for frame in metadata)
        self._offset += len(frames)
        self._first = self._offset
        return frames

    def chunk(self, state: ChunkState, payload: Buffer, *, slot: int, decoded_crc: int) -> bytes:
        """Return the next chunk; they come in the order of their ordinals.

        Parameters
        ----------
        state : ChunkState
            How the payload stands for the voxels.
        payload : bytes-like
            What the codec made.
        slot : int
            Slot of the codec.
        decoded_crc : int
            CRC-32 of the decoded voxels.

        Raises
        ------
        UsageError
            If the file has all its chunks already.
        """
        if self._next == self._count:
            raise UsageError(f"all {self._count} chunks of the file are written")
        frame = build_frame(
            FrameType.CHUNK, payload, sync=self._sync, ordinal=self._next, slot=slot, flags=state
        )
        self._lengths[self._next] = memoryview(payload).nbytes
        self._crcs[self._next] = decoded_crc
        self._next += 1
        self._offset += len(frame)
        return frame

    def missing(self, count: int, *, slot: int) -> bytes:
        """Return the next chunks, which are missing."""
        if self._next + count > self._count:
            raise UsageError(f"the file has only {self._count} chunks")
        frames = build_empty_chunks(
            self._next, count, sync=self._sync, slot=slot, flags=ChunkState.MISSING
        )
        self._next += count
        self._offset += len(frames)
        return frames

    def finish(self, metadata: Sequence[Metadata] = ()) -> tuple[bytes, bytes]:
        """Return the tail, and the prefix and head to write over the first ones.

        The second is empty for a sink that cannot seek.
        """
        if self._next != self._count:
            raise UsageError(f"finished after {self._next} of {self._count} chunks")
        crcs = self._crcs if self._has_crcs else None
        index = Index(self._first, self._lengths, crcs)
        index_frame = self._frame(
            Metadata(FrameType.INDEX, build_index(index, entry_size=self._entry_size))
        )
        frames = b"".join(self._frame(frame) for frame in metadata)
        if self._can_seek:
            index_offset = self._head_size - len(index_frame)
            head, tail = self._frames + index_frame, frames
        else:
            index_offset = self._offset
            head, tail = self._frames, index_frame + frames
        file_size = self._offset + len(tail) + FOOTER_SIZE
        footer = Footer(index_offset, file_size, hashlib.sha256(head).digest()[:8])
        tail += self._frame(Metadata(FrameType.FOOTER, build_footer(footer)))
        return tail, self._prefix(index_offset, file_size) + head if self._can_seek else b""


def _sync_word(frames: Sequence[Metadata]) -> int:
    """Return the frame marker of a file with these head frames (PFX-9)."""
    digest = hashlib.sha256(b"".join(frame.type + frame.payload for frame in frames)).digest()
    return int.from_bytes(bytes([digest[0] | 0x80]) + digest[1:4], "little")
