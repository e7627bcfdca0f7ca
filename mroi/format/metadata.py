"""Payloads of the smaller metadata frames: SLSC, sLPo, dIGE, pADd, and compressed ones."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mroi.errors import FormatError, LimitError
from mroi.format.geom import Geom
from mroi.limits import Limits

__all__ = [
    "Digest",
    "DigestScope",
    "NiftiPart",
    "build_digest",
    "build_records",
    "deflate_payload",
    "inflate_payload",
    "parse_digest",
    "parse_positions",
    "parse_records",
    "parse_rescale",
    "parse_upper_bits",
    "upper_bits_type",
]

_DIGEST = struct.Struct("<BB6s32s")
_RECORD = struct.Struct("<IIQ")
_MAX_RATIO = 200


class DigestScope(IntEnum):
    """What a digest is of."""

    ROI = 1
    VOLUME = 2
    SOURCE = 3


class NiftiPart(IntEnum):
    """Ordinals of nIFt: which bytes of a NIfTI source a frame holds."""

    HEADER = 0  # before the voxels; of a pair, the header file
    REST = 1  # after the voxels
    GAP = 2  # of a pair: before the voxels in the image file
    AFTER_GZIP = 3  # on disk, after the gzip stream
    HEADER_AFTER_GZIP = 4  # of a pair: the same of the header file


@dataclass(frozen=True, slots=True)
class Digest:
    """A SHA-256 of what `scope` says."""

    scope: DigestScope
    sha256: bytes


def parse_digest(data: bytes, *, ordinal: int, offset: int) -> Digest:
    """Parse the payload of dIGE (MET-2).

    Parameters
    ----------
    data : bytes
        The payload.
    ordinal : int
        Of the frame; it is the scope, too.
    offset : int
        Where it stands in the file, for messages.

    Raises
    ------
    FormatError
        If it breaks MET-2.
    """
    if len(data) != _DIGEST.size:
        raise FormatError(f"dIGE has {len(data)} bytes", "MET-2", offset)
    algorithm, scope, reserved, sha256 = _DIGEST.unpack(data)
    if algorithm != 1 or scope not in (1, 2, 3) or scope != ordinal or any(reserved):
        raise FormatError(
            f"dIGE {ordinal} states algorithm {algorithm}, scope {scope}", "MET-2", offset
        )
    return Digest(DigestScope(scope), sha256)


def build_digest(digest: Digest) -> bytes:
    """Return the payload of dIGE."""
    return _DIGEST.pack(1, digest.scope, bytes(6), digest.sha256)


def parse_rescale(data: bytes, geom: Geom, *, offset: int) -> NDArray[np.float64]:
    """Parse the payload of SLSC: (slices, 2) pairs of slope and inter.

    Parameters
    ----------
    data : bytes
        The payload.
    geom : Geom
        Geometry of the file.
    offset : int
        Where it stands in the file, for messages.

    Raises
    ------
    FormatError
        If it breaks SLS-1.
    """
    if len(data) != 16 * geom.slice_count or (geom.slope, geom.inter) != (1.0, 0.0):
        raise FormatError(
            f"SLSC has {len(data)} bytes for {geom.slice_count} slices", "SLS-1", offset
        )
    pairs = np.frombuffer(data, dtype="<f8").reshape(-1, 2)
    if not np.isfinite(pairs).all():
        raise FormatError("SLSC: numbers are not finite", "SLS-1", offset)
    return pairs


def parse_positions(data: bytes, geom: Geom, *, offset: int) -> NDArray[np.float64]:
    """Parse the payload of sLPo: (slices, 3) positions, mm, LPS+.

    Parameters
    ----------
    data : bytes
        The payload.
    geom : Geom
        Geometry of the file.
    offset : int
        Where it stands in the file, for messages.

    Raises
    ------
    FormatError
        If it breaks MET-3.
    """
    if len(data) != 24 * geom.slice_count:
        raise FormatError(
            f"sLPo has {len(data)} bytes for {geom.slice_count} slices", "MET-3", offset
        )
    positions = np.frombuffer(data, dtype="<f8").reshape(-1, 3)
    if not np.isfinite(positions).all():
        raise FormatError("sLPo: numbers are not finite", "MET-3", offset)
    return positions


def parse_records(data: bytes, count: int, *, offset: int) -> list[tuple[int, bytes]]:
    """Parse the payload of dCMh, inflated: number of the slice and bytes of each record (DCM-1).

    Parameters
    ----------
    count : int
        Number of slices of the file.
    """
    records = []
    at = 0
    while at < len(data):
        if len(data) - at < _RECORD.size:
            raise FormatError("dCMh: a record is cut short", "DCM-1", offset)
        number, reserved, size = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        if reserved or number >= count or size > len(data) - at:
            raise FormatError(
                f"dCMh: record of {size:,} bytes for slice {number} of {count}", "DCM-1", offset
            )
        records.append((number, data[at : at + size]))
        at += size
    return records


def build_records(records: Iterable[tuple[int, bytes]]) -> bytes:
    """Return the payload of dCMh."""
    return b"".join(_RECORD.pack(number, 0, len(data)) + data for number, data in records)


def upper_bits_type(geom: Geom) -> np.dtype[np.unsignedinteger]:
    """Return what holds the bits of a sample above ``bits_stored``, moved down to bit 0 (DCM-2)."""
    above = 8 * geom.datatype.sample.itemsize - geom.bits_stored
    width = next((n for n in (1, 2, 4, 8) if 0 < above <= 8 * n), None)
    if width is None:
        raise FormatError(f"dCMh: samples have no bits above {geom.bits_stored}", "DCM-2")
    return np.dtype(f"<u{width}")


def parse_upper_bits(data: bytes, geom: Geom, *, offset: int) -> dict[int, NDArray[Any]]:
    """Parse the payload of dCMh 1 and up: the bits above ``bits_stored`` of slices (DCM-2).

    Parameters
    ----------
    data : bytes
        The payload.
    geom : Geom
        Geometry of the file.
    offset : int
        Where it stands in the file, for messages.

    Returns
    -------
    dict
        Number of the slice to its samples, in scan order.
    """
    kind = upper_bits_type(geom)
    plane = math.prod(geom.shape[:3]) // geom.shape[geom.slice_axis]
    samples = plane * geom.datatype.samples
    found: dict[int, NDArray[Any]] = {}
    for number, record in parse_records(data, geom.slice_count, offset=offset):
        if len(record) != samples * kind.itemsize or number in found:
            raise FormatError(
                f"dCMh: record of {len(record):,} bytes for slice {number}", "DCM-2", offset
            )
        found[number] = np.frombuffer(record, kind)
    return found


def inflate_payload(data: bytes, limits: Limits, *, offset: int) -> bytes:
    """Undo flag 1 of a metadata frame (FRM-11), within `limits`.

    Parameters
    ----------
    data : bytes
        The payload.
    limits : Limits
        What a file may make the reader take.
    offset : int
        Where it stands in the file, for messages.

    Raises
    ------
    FormatError
        If it is not one Zstandard frame of the size that it states.
    LimitError
        If it inflates to more than the limits allow.
    """
    import zstandard

    try:
        frame = zstandard.get_frame_parameters(data)
    except zstandard.ZstdError as exc:
        raise FormatError(f"metadata is not a Zstandard frame: {exc}", "FRM-11", offset) from exc
    size = frame.content_size
    if size == zstandard.CONTENTSIZE_UNKNOWN or frame.dict_id:
        raise FormatError("compressed metadata does not state its size", "FRM-11", offset)
    # What could be stored as it is may be compressed however well: headers end in long zeros.
    likely = max(limits.metadata_stored, len(data) * _MAX_RATIO)
    if size > min(limits.metadata_size, likely):
        raise LimitError(
            f"metadata inflates to {size:,} bytes, more than the limit", "LIM-1", offset
        )
    try:
        if not size:  # the call below looks at nothing then
            stream = zstandard.ZstdDecompressor().decompressobj()
            if stream.decompress(data) or not stream.eof or stream.unused_data:
                raise FormatError("metadata is not exactly one Zstandard frame", "FRM-11", offset)
            return b""
        content = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompress(
            data, allow_extra_data=False
        )
    except zstandard.ZstdError as exc:
        raise FormatError(f"metadata cannot be inflated: {exc}", "FRM-11", offset) from exc
    if len(content) != size:
        raise FormatError(
            f"metadata inflates to {len(content)} bytes but states {size}", "FRM-11", offset
        )
    return content


def deflate_payload(data: bytes) -> bytes:
    """Return `data` as one Zstandard frame with its content size."""
    import zstandard

    return zstandard.ZstdCompressor(level=9, write_checksum=False).compress(data)
