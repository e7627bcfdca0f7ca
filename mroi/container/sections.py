"""The head and the tail of a file as checked values. No IO: whole sections in, values out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mroi.errors import ChecksumError, FormatError, LimitError, TruncatedError
from mroi.format.codec_table import CodecEntry, Role, parse_codec_table
from mroi.format.geom import Background, Geom, check_roi_record, parse_geom
from mroi.format.index import Index, index_size, parse_index
from mroi.format.metadata import (
    NiftiPart,
    inflate_payload,
    parse_digest,
    parse_positions,
    parse_rescale,
)
from mroi.format.records import (
    FRAME_HEADER_SIZE,
    ChunkState,
    Footer,
    FrameHeader,
    FrameType,
    Incompat,
    Prefix,
    check_payload,
    parse_footer,
    parse_frame_header,
)
from mroi.format.restricted_json import MAX_JSON_SIZE, parse_json
from mroi.limits import Limits

__all__ = [
    "Head",
    "MetadataFrame",
    "Tail",
    "add_metadata",
    "check_chunk_header",
    "check_footer",
    "check_preface_header",
    "check_unique",
    "head_size_of",
    "iter_frames",
    "most_stored",
    "parse_head",
    "parse_preface",
    "parse_tail",
    "preface_bound",
    "tail_bound",
]

_CRITICAL = frozenset(kind for kind in FrameType if kind.value[:1].isupper())
_ONE_PART = frozenset(
    {
        FrameType.RESCALE,
        FrameType.INDEX,
        FrameType.FOOTER,
        FrameType.JSON,
        FrameType.POSITIONS,
        FrameType.OVERVIEW,
    }
)


@dataclass(frozen=True, slots=True)
class MetadataFrame:
    """An ancillary frame as stored; `payload` is compressed if bit 1 of the flags is set."""

    header: FrameHeader
    payload: bytes

    @property
    def key(self) -> tuple[bytes, int]:
        """Type and ordinal: what a file has at most once."""
        return self.header.type, self.header.ordinal

    def content(self, limits: Limits) -> bytes:
        """Return the payload, inflated if it is stored so."""
        if not self.header.flags:
            return self.payload
        return inflate_payload(self.payload, limits, offset=self.header.offset)


@dataclass(frozen=True)
class Head:
    """Everything before the first chunk.

    Attributes
    ----------
    geom : Geom
        Geometry of the volume and its chunks.
    codecs : tuple of CodecEntry
        The slots.
    rescale : (slices, 2) ndarray of float64, or None
        Slope and inter of each slice, if they differ between slices.
    frames : tuple of MetadataFrame
        Ancillary frames of the head, without rOIB and padding.
    index : Index or None
        The index, if it is in the head.
    digest : bytes
        First 8 bytes of the SHA-256 of the head.
    """

    prefix: Prefix
    geom: Geom
    codecs: tuple[CodecEntry, ...]
    rescale: NDArray[np.float64] | None
    frames: tuple[MetadataFrame, ...]
    index: Index | None
    digest: bytes

    @cached_property
    def chunk_count(self) -> int:
        """Number of all chunks."""
        return self.geom.grid.chunks

    def role_of(self, ordinal: int) -> Role:
        """Return what the codec of a chunk is for."""
        return Role.ROI if ordinal < self.geom.grid.roi_chunks else Role.BACKGROUND


@dataclass(frozen=True)
class Tail:
    """Everything after the last chunk."""

    index: Index
    frames: tuple[MetadataFrame, ...]
    footer: Footer


def iter_frames(
    data: bytes, *, base: int, sync: int, limits: Limits, ends_file: bool = False
) -> Iterator[tuple[FrameHeader, bytes]]:
    """Yield the frames of a section that stands at `base` and is all of `data`, checked.

    A frame that does not fit breaks FRM-8, or LAY-4 where the section `ends_file`.

    Parameters
    ----------
    data : bytes
        The section.
    base : int
        Where it stands in the file.
    sync : int
        Sync word of the file.
    limits : Limits
        What a file may make the reader take.
    ends_file : bool
        Whether nothing follows.

    Raises
    ------
    FormatError, ChecksumError
        If a frame breaks a rule (FRM).
    LimitError
        If there are more frames than the limits allow.
    """
    at = 0
    view = memoryview(data)
    for _ in range(limits.frames):
        if at == len(data):
            return
        if at + FRAME_HEADER_SIZE > len(data):
            raise _does_not_fit(
                f"{len(data) - at} bytes remain, too few for a frame", base + at, ends_file
            )
        header = parse_frame_header(view[at : at + FRAME_HEADER_SIZE], sync=sync, offset=base + at)
        stop = at + header.size
        if stop > len(data):
            message = f"{header} needs {header.size:,} bytes, {len(data) - at:,} are left"
            raise _does_not_fit(message, base + at, ends_file)
        start = at + FRAME_HEADER_SIZE
        payload = view[start : start + header.length]
        check_payload(header, payload, view[start + header.length : stop])
        yield header, bytes(payload)
        at = stop
    if at != len(data):
        raise LimitError(f"more frames than the limit of {limits.frames}", "LIM-1", base + at)


def _does_not_fit(message: str, offset: int, ends_file: bool) -> FormatError:  # noqa: FBT001
    if ends_file:
        return TruncatedError(message, "LAY-4", offset)
    return FormatError(message, "FRM-8", offset)


def parse_head(prefix: Prefix, data: bytes, *, stop: int, limits: Limits) -> Head:
    """Parse the head.

    Parameters
    ----------
    data : bytes
        From the end of the prefix to `head_size`.
    stop : int
        Size of the file, or a bound on it.
    """
    frames = iter_frames(data, base=prefix.prefix_size, sync=prefix.sync, limits=limits)
    header, payload = _next(frames, prefix)
    roi_record: bytes | None = None
    if header.type == FrameType.ROI_RECORD:
        _expect(header, FrameType.ROI_RECORD)
        roi_record, roi_offset = payload, header.offset + FRAME_HEADER_SIZE
        header, payload = _next(frames, prefix)
    else:
        roi_offset = header.offset
    _expect(header, FrameType.GEOMETRY)
    geom = parse_geom(payload, offset=header.offset + FRAME_HEADER_SIZE)
    _check_limits(geom, limits, offset=header.offset)
    check_roi_record(roi_record, geom, offset=roi_offset)
    header, payload = _next(frames, prefix)
    _expect(header, FrameType.CODECS)
    codecs = parse_codec_table(payload, offset=header.offset + FRAME_HEADER_SIZE)
    _check_flags(prefix, geom, codecs)
    rescale: NDArray[np.float64] | None = None
    index: Index | None = None
    metadata: list[MetadataFrame] = []
    seen: set[tuple[bytes, int]] = {(FrameType.GEOMETRY, 0), (FrameType.CODECS, 0)}
    for header, payload in frames:
        if index is not None:
            raise FormatError(f"{header} follows INDX in the head", "HED-2", header.offset)
        check_unique(header, seen)
        if header.type == FrameType.RESCALE:
            rescale = parse_rescale(payload, geom, offset=header.offset)
        elif header.type == FrameType.INDEX:
            if header.offset != prefix.index_offset:
                rule = "PFX-10" if prefix.index_offset else "LAY-2"
                raise FormatError("INDX is not where the prefix states", rule, header.offset)
            index = parse_index(
                payload,
                count=geom.grid.chunks,
                start=prefix.head_size,
                stop=stop,
                offset=header.offset + FRAME_HEADER_SIZE,
            )
        else:
            add_metadata(MetadataFrame(header, payload), geom, metadata)
    if prefix.index_offset and index is None:
        raise FormatError(
            "the prefix states an INDX in the head; there is none", "PFX-10", prefix.index_offset
        )
    digest = hashlib.sha256(data).digest()[:8]
    return Head(prefix, geom, codecs, rescale, tuple(metadata), index, digest)


def check_preface_header(header: FrameHeader) -> None:
    """Check that a frame may stand between the head and the first chunk (LAY-3)."""
    if header.is_critical:
        rule = "LAY-3" if header.type in _CRITICAL else "FRM-9"
        raise FormatError(f"{header} is not allowed between head and chunks", rule, header.offset)


def parse_preface(
    data: bytes, head: Head, *, base: int, limits: Limits
) -> tuple[MetadataFrame, ...]:
    """Parse the frames between the head and the first chunk, which stand at `base`.

    Parameters
    ----------
    data : bytes
        All of them.
    head : Head
        Head of the same file.
    base : int
        Where they stand in the file.
    limits : Limits
        What a file may make the reader take.

    Raises
    ------
    FormatError
        If a frame may not stand there (LAY-3), or breaks another rule.
    """
    seen = {frame.key for frame in head.frames}
    metadata: list[MetadataFrame] = []
    for header, payload in iter_frames(data, base=base, sync=head.prefix.sync, limits=limits):
        check_preface_header(header)
        check_unique(header, seen)
        add_metadata(MetadataFrame(header, payload), head.geom, metadata)
    return tuple(metadata)


def parse_tail(
    data: bytes,
    head: Head,
    *,
    base: int,
    limits: Limits,
    preface: Sequence[MetadataFrame] = (),
) -> Tail:
    """Parse the tail, which stands at `base` and ends the file.

    Parameters
    ----------
    data : bytes
        The tail.
    head : Head
        Head of the same file.
    base : int
        Where it stands in the file.
    limits : Limits
        What a file may make the reader take.
    preface : sequence of MetadataFrame
        Frames before the chunks: a type and ordinal occur once in a file.

    Raises
    ------
    FormatError
        If it breaks a rule; `TruncatedError` if it ends early.
    """
    prefix, size = head.prefix, base + len(data)
    seen = {frame.key for frame in (*head.frames, *preface)}
    index, footer = head.index, None
    index_offset = prefix.index_offset
    metadata: list[MetadataFrame] = []
    for header, payload in iter_frames(
        data, base=base, sync=prefix.sync, limits=limits, ends_file=True
    ):
        if footer is not None:
            raise FormatError(f"{header} follows FOOT", "LAY-1", header.offset)
        check_unique(header, seen)
        if header.type == FrameType.INDEX:
            if index is not None:
                raise FormatError("second INDX", "LAY-2", header.offset)
            if header.offset != base:
                raise FormatError("INDX is not the first frame of the tail", "FOT-5", header.offset)
            index_offset = base
            index = parse_index(
                payload,
                count=head.chunk_count,
                start=prefix.head_size,
                stop=size,
                offset=header.offset + FRAME_HEADER_SIZE,
            )
        elif header.type == FrameType.FOOTER:
            footer = parse_footer(payload, offset=header.offset + FRAME_HEADER_SIZE)
            check_footer(
                footer, head, index_offset=index_offset, size=header.stop, offset=header.offset
            )
        else:
            add_metadata(MetadataFrame(header, payload), head.geom, metadata)
    if footer is None:
        raise TruncatedError("the file ends before its footer", "LAY-4", size)
    if index is None:
        raise FormatError("the file has no INDX", "LAY-2", base)
    if index.stop != base:
        raise FormatError(f"chunks end at {base}; INDX states {index.stop}", "IDX-5", index_offset)
    return Tail(index, tuple(metadata), footer)


def check_footer(footer: Footer, head: Head, *, index_offset: int, size: int, offset: int) -> None:
    """Check what FOOT, which stands at `offset`, says of the file (FOT-2 to FOT-4, PFX-11).

    Parameters
    ----------
    footer : Footer
        What it says.
    head : Head
        Head of the same file.
    index_offset, size : int
        Where the index stands, and bytes of the file.
    offset : int
        Where it stands in the file, for messages.

    Raises
    ------
    FormatError, ChecksumError
        If it does not agree with the file.
    """
    if footer.index_offset != index_offset:
        raise FormatError(
            f"FOOT states the index at {footer.index_offset}; it is at {index_offset}",
            "FOT-2",
            offset,
        )
    if footer.file_size != size:
        raise FormatError(
            f"FOOT states {footer.file_size} bytes; the file has {size}", "FOT-3", offset
        )
    if footer.head_digest != head.digest:
        raise ChecksumError("head and footer belong to different files", "FOT-4", offset)
    if head.prefix.file_size not in (0, size):
        raise FormatError(
            f"prefix states {head.prefix.file_size} bytes; the file has {size}", "PFX-11", 48
        )


def check_chunk_header(header: FrameHeader, head: Head, ordinal: int, limits: Limits) -> int:
    """Check the header of chunk `ordinal` (CHK-1 to CHK-7); return the decoded size in bytes.

    Parameters
    ----------
    header : FrameHeader
        Of the chunk.
    head : Head
        Head of the same file.
    ordinal : int
        Which chunk is expected.
    limits : Limits
        What a file may make the reader take.

    Raises
    ------
    FormatError
        If the header breaks a rule.
    LimitError
        If the chunk decodes to more bytes than the limits allow.
    """
    if header.type != FrameType.CHUNK:
        rule = "LAY-3" if header.type in _CRITICAL or not header.is_critical else "FRM-9"
        raise FormatError(f"expected chunk {ordinal}, found {header}", rule, header.offset)
    if header.ordinal != ordinal:
        raise FormatError(f"expected chunk {ordinal}, found {header}", "CHK-1", header.offset)
    size = head.geom.decoded_size(ordinal)
    if size > limits.chunk_size:
        raise LimitError(
            f"{header} decodes to {size:,} bytes, more than the limit", "LIM-1", header.offset
        )
    slot = header.codec_slot
    if slot >= len(head.codecs) or head.codecs[slot].role is not head.role_of(ordinal):
        raise FormatError(
            f"{header} uses slot {slot}, which is not for such chunks", "CHK-5", header.offset
        )
    state = ChunkState(header.flags)
    _check_state(header, head, state, size)
    if header.length > most_stored(size):
        raise FormatError(
            f"{header} has {header.length:,} bytes for {size:,} decoded ones",
            "CHK-6",
            header.offset,
        )
    return size


def most_stored(size: int) -> int:
    """Return the bytes that the payload of a chunk may have (CHK-6)."""
    return 2 * size + (1 << 16)


def _check_state(header: FrameHeader, head: Head, state: ChunkState, size: int) -> None:
    if size == 0 and state not in (ChunkState.STORED, ChunkState.MISSING):
        raise FormatError(f"{header} has no voxels but is not STORED", "CHK-7", header.offset)
    if state is ChunkState.STORED and header.length != size:
        raise FormatError(
            f"{header} is STORED with {header.length:,} bytes instead of {size:,}",
            "CHK-2",
            header.offset,
        )
    if state is ChunkState.CONST and header.length != head.geom.itemsize:
        raise FormatError(
            f"{header} is CONST with {header.length} bytes, not one element", "CHK-3", header.offset
        )
    if state is ChunkState.MISSING and (
        header.length or not head.prefix.incompat & Incompat.PARTIAL
    ):
        raise FormatError(
            f"{header} is MISSING in a file that is not partial", "CHK-4", header.offset
        )


def _next(frames: Iterator[tuple[FrameHeader, bytes]], prefix: Prefix) -> tuple[FrameHeader, bytes]:
    try:
        return next(frames)
    except StopIteration:
        raise FormatError("the head ends before CODC", "HED-1", prefix.head_size) from None


def _expect(header: FrameHeader, kind: bytes) -> None:
    if header.type != kind:
        known = not header.is_critical or header.type in _CRITICAL
        rule = "HED-1" if known else "FRM-9"
        raise FormatError(f"expected {kind.decode()}, found {header}", rule, header.offset)
    if header.ordinal:
        raise FormatError(f"{header}: ordinal is not 0", "FRM-10", header.offset)


def check_unique(header: FrameHeader, seen: set[tuple[bytes, int]]) -> None:
    """Check that a frame may stand after CODC, and that it is the only one of its kind."""
    if header.type == FrameType.ROI_RECORD:
        raise FormatError("rOIB is not the first frame", "HED-1", header.offset)
    key = header.type, header.ordinal
    if key in seen:
        raise FormatError(f"{header} occurs twice", "FRM-10", header.offset)
    if header.is_critical and header.type not in (
        FrameType.RESCALE,
        FrameType.INDEX,
        FrameType.FOOTER,
    ):
        raise FormatError(
            f"critical frame {header} is unknown or not allowed here", "FRM-9", header.offset
        )
    if header.ordinal and header.type in _ONE_PART:
        raise FormatError(f"{header}: ordinal is not 0", "FRM-10", header.offset)
    seen.add(key)


def add_metadata(frame: MetadataFrame, geom: Geom, into: list[MetadataFrame]) -> None:
    """Check an ancillary frame and add it to those that were found.

    Parameters
    ----------
    frame : MetadataFrame
        The frame.
    geom : Geom
        Geometry of the file.
    into : list of MetadataFrame
        Those that were found; padding is checked, and left out.

    Raises
    ------
    FormatError
        If its payload breaks a rule, or its type is critical and not known.
    """
    kind, offset = frame.header.type, frame.header.offset
    if frame.header.is_critical:
        raise FormatError(f"critical frame {frame.header} is not allowed here", "FRM-9", offset)
    if kind == FrameType.PADDING:
        if frame.payload.count(0) != len(frame.payload):
            raise FormatError("pADd is not zero", "MET-4", offset)
        return
    if kind == FrameType.DIGEST:
        parse_digest(frame.payload, ordinal=frame.header.ordinal, offset=offset)
    elif kind == FrameType.POSITIONS:
        parse_positions(frame.payload, geom, offset=offset)
    elif kind == FrameType.NIFTI and frame.header.ordinal >= len(NiftiPart):
        raise FormatError(f"{frame.header}: a NIfTI source has no such part", "FRM-10", offset)
    elif kind == FrameType.JSON and not frame.header.flags:
        parse_json(frame.payload, max_size=MAX_JSON_SIZE, offset=offset + FRAME_HEADER_SIZE)
    into.append(frame)


def _check_limits(geom: Geom, limits: Limits, *, offset: int) -> None:
    """Refuse a volume that the caller did not agree to, before memory is taken for it (LIM-1)."""
    if geom.size > limits.volume_size:
        raise LimitError(
            f"the volume has {geom.size:,} bytes; the limit is {limits.volume_size:,}",
            "LIM-1",
            offset,
        )
    if geom.grid.chunks > limits.chunks:
        raise LimitError(
            f"the file has {geom.grid.chunks:,} chunks; the limit is {limits.chunks:,}",
            "LIM-1",
            offset,
        )


def _check_flags(prefix: Prefix, geom: Geom, codecs: tuple[CodecEntry, ...]) -> None:
    """Check that prefix, geometry and slots agree about the background (BKG-2, CDC-2)."""
    stored = geom.background.is_stored
    if bool(prefix.incompat & Incompat.BACKGROUND_PLANE) != stored:
        raise FormatError(
            f"background policy {geom.background.name} contradicts incompat bit 1", "BKG-2", 16
        )
    roles = [entry.role for entry in codecs]
    wrong = Role.ROI not in roles or (Role.BACKGROUND in roles) != stored
    if wrong or roles.count(Role.OVERVIEW) > 1:
        raise FormatError(f"CODC: slots have the roles {[int(r) for r in roles]}", "CDC-2")
    lossy = [e.name for e in codecs if e.role is Role.BACKGROUND and e.fidelity != 1]
    if geom.background is Background.RESIDUE_EXACT and lossy:
        raise FormatError(f"exact background, but codec {lossy[0]} is lossy", "BKG-2")


def preface_bound(limits: Limits) -> int:
    """Return how many bytes of a preface a reader takes: as much metadata as of a tail."""
    return limits.metadata_stored + limits.head_size


def tail_bound(head: Head, limits: Limits) -> int:
    """Return how many bytes of a tail a reader takes: an index and as much metadata as a head."""
    return index_size(head.chunk_count, 16) + preface_bound(limits)


def head_size_of(prefix: Prefix, limits: Limits) -> int:
    """Return the bytes of the head after the prefix; raises `LimitError` if they are too many."""
    if prefix.head_size > limits.head_size:
        raise LimitError(
            f"the head has {prefix.head_size:,} bytes, more than the limit", "LIM-1", 12
        )
    return prefix.head_size - prefix.prefix_size
