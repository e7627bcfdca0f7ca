"""Prefix, frame header and footer: the records that hold a file together."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import Enum, IntEnum, IntFlag

import numpy as np
from typing_extensions import Buffer, override

from mroi.errors import ChecksumError, FormatError
from mroi.format.checksum import crc32

__all__ = [
    "ALIGNMENT",
    "FOOTER_SIZE",
    "FRAME_HEADER_SIZE",
    "MAGIC",
    "PREFIX_SIZE",
    "SLOT_OFFSET",
    "TAIL_MAGIC",
    "ChunkState",
    "Footer",
    "FrameHeader",
    "FrameType",
    "Incompat",
    "Prefix",
    "align",
    "build_empty_chunks",
    "build_footer",
    "build_frame",
    "build_prefix",
    "check_payload",
    "frame_header",
    "parse_footer",
    "parse_frame_header",
    "parse_prefix",
    "prefix_size_of",
]

MAGIC = b"\x89MROI\r\n\n"
TAIL_MAGIC = MAGIC[::-1]
ALIGNMENT = 8

_PREFIX = struct.Struct("<8sBBHIQQIIQQB3s")
_FRAME = struct.Struct("<I4sQIBBHI")
_FOOTER = struct.Struct("<QQ8s8s")
_U32 = struct.Struct("<I")

PREFIX_SIZE = _PREFIX.size + 4
FRAME_HEADER_SIZE = _FRAME.size + 4
SLOT_OFFSET = 20  # in a frame header
FOOTER_SIZE = FRAME_HEADER_SIZE + _FOOTER.size
_MAX_PREFIX_SIZE = 4096
_ORDINAL_WORD = 4  # of a frame header, in words of 4 bytes


class FrameType(bytes, Enum):
    """Types of the frames that this version gives a meaning (FRM-3, FRM-9).

    An unknown type is plain `bytes`: the capital of its first letter says whether it may be
    skipped.
    """

    GEOMETRY = b"GEOM"
    CODECS = b"CODC"
    RESCALE = b"SLSC"
    CHUNK = b"CHNK"
    INDEX = b"INDX"
    FOOTER = b"FOOT"
    ROI_RECORD = b"rOIB"
    OVERVIEW = b"oVRW"
    POSITIONS = b"sLPo"
    NIFTI = b"nIFt"
    DICOM = b"dCMh"
    JSON = b"jSOn"
    DIGEST = b"dIGE"
    PADDING = b"pADd"


_NEVER_COMPRESSED = frozenset(
    {
        FrameType.ROI_RECORD,
        FrameType.DIGEST,
        FrameType.POSITIONS,
        FrameType.OVERVIEW,
        FrameType.PADDING,
    }
)


class Incompat(IntFlag):
    """Bits that a reader must know (section "Versions and flags")."""

    PARTIAL = 1
    BACKGROUND_PLANE = 2


class ChunkState(IntEnum):
    """The flags of a CHNK frame: how the payload stands for the voxels."""

    ENCODED = 0
    CONST = 1
    STORED = 2
    MISSING = 4


def align(size: int) -> int:
    """Return `size` rounded up to a multiple of 8."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, slots=True)
class Prefix:
    """The first 64 bytes; see the table "Prefix" of the specification."""

    head_size: int
    sync: int
    incompat: Incompat = Incompat(0)  # noqa: RUF009 (a value)
    index_offset: int = 0
    file_size: int = 0
    prefix_size: int = PREFIX_SIZE
    version_minor: int = 0


def prefix_size_of(data: bytes) -> int:
    """Check the first 12 bytes and return the size of the whole prefix (PFX-1 to PFX-3)."""
    if data[:8] != MAGIC:
        raise FormatError(f"not an mroi file (first bytes {data[:8].hex(' ')})", "PFX-1", 0)
    if data[8] != 1:
        raise FormatError(
            f"format version {data[8]}.{data[9]} is not supported: this program reads 1.x",
            "PFX-2",
            8,
        )
    size = int.from_bytes(data[10:12], "little")
    if size % ALIGNMENT or not PREFIX_SIZE <= size <= _MAX_PREFIX_SIZE:
        raise FormatError(
            f"prefix_size is {size}; expected a multiple of 8, {PREFIX_SIZE} to {_MAX_PREFIX_SIZE}",
            "PFX-3",
            10,
        )
    return size


def parse_prefix(data: bytes) -> Prefix:
    """Parse a whole prefix, of the size that `prefix_size_of` gives."""
    size = prefix_size_of(data)
    (crc,) = _U32.unpack_from(data, size - 4)
    if crc != crc32(memoryview(data)[: size - 4]):
        raise ChecksumError("prefix CRC mismatch", "PFX-4", size - 4)
    (
        _magic,
        _major,
        minor,
        _size,
        head_size,
        incompat,
        _compat,
        _autoclear,
        sync,
        index_offset,
        file_size,
        checksum_id,
        reserved,
    ) = _PREFIX.unpack_from(data)
    if checksum_id != 1:
        raise FormatError(f"checksum_id is {checksum_id}; expected 1 (CRC-32)", "PFX-5", 56)
    if any(reserved):
        raise FormatError(f"reserved bytes of the prefix are set ({reserved.hex()})", "PFX-6", 57)
    if unknown := incompat & ~int(Incompat.PARTIAL | Incompat.BACKGROUND_PLANE):
        bits = [bit for bit in range(64) if unknown >> bit & 1]
        raise FormatError(
            f"the file uses features {bits} that this version does not know: update mroi",
            "PFX-7",
            16,
        )
    if head_size % ALIGNMENT or head_size <= size:
        raise FormatError(
            f"head_size is {head_size}; expected a multiple of 8 above {size}", "PFX-8", 12
        )
    if not sync & 0x80:
        raise FormatError(f"sync word {sync:#010x} lacks its high bit", "PFX-9", 36)
    if index_offset and not size <= index_offset < head_size:
        raise FormatError(f"index_offset is {index_offset}, outside the head", "PFX-10", 40)
    if index_offset and not file_size:
        raise FormatError("index_offset is set but file_size is not", "PFX-11", 48)
    return Prefix(head_size, sync, Incompat(incompat), index_offset, file_size, size, minor)


def build_prefix(prefix: Prefix) -> bytes:
    """Return the 64 bytes of a prefix of this version."""
    body = _PREFIX.pack(
        MAGIC,
        1,
        0,
        PREFIX_SIZE,
        prefix.head_size,
        prefix.incompat,
        0,
        0,
        prefix.sync,
        prefix.index_offset,
        prefix.file_size,
        1,
        bytes(3),
    )
    return body + _U32.pack(crc32(body))


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """The 32 bytes before a payload; see the table "FrameHeader".

    `payload_crc` is that of the stored payload, `offset` where the header stands in the file.
    """

    type: bytes
    length: int
    payload_crc: int
    ordinal: int = 0
    codec_slot: int = 0
    flags: int = 0
    offset: int = field(default=0, compare=False)

    @property
    def size(self) -> int:
        """Bytes of the frame: header, payload and padding."""
        return align(FRAME_HEADER_SIZE + self.length)

    @property
    def stop(self) -> int:
        """Offset of the first byte after the frame."""
        return self.offset + self.size

    @property
    def is_critical(self) -> bool:
        """Whether a reader that does not know the type must refuse the file."""
        return not self.type[0] & 0x20

    @override
    def __str__(self) -> str:
        number = f" {self.ordinal}" if self.type == FrameType.CHUNK or self.ordinal else ""
        return f"{self.type.decode('ascii', 'replace')}{number}"


def parse_frame_header(data: Buffer, *, sync: int, offset: int) -> FrameHeader:
    """Parse 32 bytes; `offset` is where they stand in the file, `sync` that of the prefix.

    Parameters
    ----------
    data : bytes-like
        The header.
    sync : int
        Sync word of the file.
    offset : int
        Where it stands in the file, for messages.

    Raises
    ------
    FormatError, ChecksumError
        If it breaks FRM-1 to FRM-5.
    """
    found_sync, kind, length, ordinal, slot, flags, reserved, payload_crc = _FRAME.unpack_from(data)
    (crc,) = _U32.unpack_from(data, _FRAME.size)
    if crc != crc32(memoryview(data)[: _FRAME.size]):
        raise ChecksumError("frame header CRC mismatch", "FRM-1", offset)
    if found_sync != sync:
        raise FormatError(
            f"frame belongs to another file: sync {found_sync:#010x} instead of {sync:#010x}",
            "FRM-2",
            offset,
        )
    if not kind.isalpha() or kind[2] & 0x20:
        raise FormatError(f"invalid frame type {kind!r}", "FRM-3", offset + 4)
    if reserved or (slot and kind != FrameType.CHUNK):
        raise FormatError(f"reserved bytes of frame {kind!r} are set", "FRM-4", offset + 20)
    if flags not in _legal_flags(kind):
        raise FormatError(f"invalid flags {flags} of frame {kind!r}", "FRM-5", offset + 21)
    return FrameHeader(kind, length, payload_crc, ordinal, slot, flags, offset)


def _legal_flags(kind: bytes) -> tuple[int, ...]:
    if kind == FrameType.CHUNK:
        return (0, 1, 2, 4)
    is_ancillary = bool(kind[0] & 0x20)
    return (0, 1) if is_ancillary and kind not in _NEVER_COMPRESSED else (0,)


def check_payload(header: FrameHeader, payload: Buffer, padding: Buffer) -> None:
    """Check what follows a header: the CRC of the payload (FRM-6) and the padding (FRM-7).

    Parameters
    ----------
    header : FrameHeader
        The header.
    payload, padding : bytes-like
        What follows it.

    Raises
    ------
    FormatError, ChecksumError
        If one of them is not what it has to be.
    """
    if crc32(payload) != header.payload_crc:
        raise ChecksumError(
            f"payload CRC mismatch in {header}",
            "FRM-6",
            header.offset + FRAME_HEADER_SIZE,
        )
    if any(memoryview(padding)):
        raise FormatError(
            f"padding of {header} is not zero",
            "FRM-7",
            header.offset + FRAME_HEADER_SIZE + header.length,
        )


def build_frame(
    kind: bytes, payload: Buffer, *, sync: int, ordinal: int = 0, slot: int = 0, flags: int = 0
) -> bytes:
    """Return a whole frame: header, payload, padding.

    Parameters
    ----------
    kind : bytes
        Type of the frame.
    payload : bytes-like
        Its payload.
    sync : int
        Sync word of the file.
    ordinal, slot, flags : int
        Fields of the header.
    """
    view = memoryview(payload).cast("B")
    header = frame_header(kind, view, sync=sync, ordinal=ordinal, slot=slot, flags=flags)
    size = FRAME_HEADER_SIZE + view.nbytes
    return b"".join((header, view, bytes(align(size) - size)))


def build_empty_chunks(first: int, count: int, *, sync: int, slot: int, flags: int) -> bytes:
    """Return `count` CHNK frames without payload, of the ordinals from `first`.

    Their headers differ in the ordinal alone, and a CRC is linear: what each bit of the ordinal
    does to it is found once.

    Parameters
    ----------
    first, count : int
        Which ordinals.
    sync : int
        Sync word of the file.
    slot, flags : int
        Fields of the headers.
    """
    body = _FRAME.pack(sync, FrameType.CHUNK, 0, 0, slot, flags, 0, crc32(b""))
    frames = np.empty((count, FRAME_HEADER_SIZE // 4), dtype="<u4")
    frames[:, :-1] = np.frombuffer(body, dtype="<u4")
    ordinals = frames[:, _ORDINAL_WORD] = np.arange(first, first + count, dtype="<u4")
    crcs = np.full(count, crc32(body), dtype=np.uint32)
    for bit in range((first + count).bit_length()):
        changed = bytearray(body)
        changed[4 * _ORDINAL_WORD : 4 * _ORDINAL_WORD + 4] = _U32.pack(1 << bit)
        effect = np.uint32(crc32(body) ^ crc32(changed))
        crcs ^= (ordinals >> np.uint32(bit) & np.uint32(1)) * effect
    frames[:, -1] = crcs
    return frames.tobytes()


def frame_header(
    kind: bytes, payload: memoryview, *, sync: int, ordinal: int = 0, slot: int = 0, flags: int = 0
) -> bytes:
    """Return the header of the frame of a payload.

    Parameters
    ----------
    kind : bytes
        Type of the frame.
    payload : memoryview
        Its payload.
    sync : int
        Sync word of the file.
    ordinal, slot, flags : int
        Fields of the header.
    """
    body = _FRAME.pack(sync, kind, payload.nbytes, ordinal, slot, flags, 0, crc32(payload))
    return body + _U32.pack(crc32(body))


@dataclass(frozen=True, slots=True)
class Footer:
    """The payload of FOOT; `head_digest` is the start of the SHA-256 of the head."""

    index_offset: int
    file_size: int
    head_digest: bytes


def parse_footer(payload: Buffer, *, offset: int) -> Footer:
    """Parse the payload of FOOT, which stands at `offset`."""
    data = bytes(payload)
    if len(data) != _FOOTER.size or data[-8:] != TAIL_MAGIC:
        raise FormatError("FOOT does not end with the tail magic", "FOT-1", offset)
    index_offset, file_size, digest, _magic = _FOOTER.unpack(data)
    return Footer(index_offset, file_size, digest)


def build_footer(footer: Footer) -> bytes:
    """Return the payload of FOOT."""
    return _FOOTER.pack(footer.index_offset, footer.file_size, footer.head_digest, TAIL_MAGIC)
