"""INDX: the length and the decoded CRC of every chunk."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mroi.errors import FormatError
from mroi.format.records import ALIGNMENT, FRAME_HEADER_SIZE

__all__ = ["INDEX_HEADER_SIZE", "Index", "build_index", "index_size", "parse_index"]

_HEADER = struct.Struct("<IBBHQQQ")
INDEX_HEADER_SIZE = _HEADER.size
_ENTRY_8 = np.dtype([("length", "<u4"), ("crc", "<u4")])
_ENTRY_16 = np.dtype([("length", "<u8"), ("crc", "<u4"), ("zero", "<u4")])


@dataclass(frozen=True, eq=False)
class Index:
    """Where the chunks are.

    Attributes
    ----------
    first : int
        Offset of the first chunk.
    lengths : (n,) ndarray of int64
        Bytes of each payload.
    decoded_crcs : (n,) ndarray of uint32, or None
        CRC of each decoded chunk.
    """

    first: int
    lengths: NDArray[np.int64]
    decoded_crcs: NDArray[np.uint32] | None

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Offset of the frame of each chunk, and of the byte after the last: (n + 1,) int64."""
        offsets = np.empty(len(self.lengths) + 1, dtype=np.int64)
        offsets[0] = self.first
        np.cumsum((self.lengths + (FRAME_HEADER_SIZE + 7)) & -8, out=offsets[1:])
        offsets[1:] += self.first
        return offsets

    @property
    def stop(self) -> int:
        """Offset of the first byte after the last chunk."""
        return int(self.offsets[-1])

    @property
    def stored_size(self) -> int:
        """Bytes of all payloads."""
        return int(self.lengths.sum())


def index_size(count: int, entry_size: int) -> int:
    """Return the size of the payload of INDX."""
    return INDEX_HEADER_SIZE + count * entry_size


def parse_index(data: bytes, *, count: int, start: int, stop: int, offset: int) -> Index:
    """Parse the payload of INDX, which stands at `offset`.

    Parameters
    ----------
    count : int
        Number of chunks, from GEOM.
    start, stop : int
        Where the first chunk may be at the earliest, `head_size`, and a bound (the size of the
        file) that no sum may pass.
    """
    if len(data) < INDEX_HEADER_SIZE:
        raise FormatError(f"INDX has {len(data)} bytes", "IDX-1", offset)
    found, entry_size, flags, reserved, first, stated_stop, reserved2 = _HEADER.unpack_from(data)
    if (
        found != count
        or entry_size not in (8, 16)
        or flags > 1
        or reserved
        or reserved2
        or len(data) != index_size(count, entry_size)
    ):
        raise FormatError(
            f"INDX has {found} entries of {entry_size} bytes ({len(data)} bytes in all); "
            f"expected {count}",
            "IDX-1",
            offset,
        )
    dtype = _ENTRY_8 if entry_size == 8 else _ENTRY_16
    table = np.frombuffer(data, dtype=dtype, offset=INDEX_HEADER_SIZE)
    if entry_size == 16 and table["zero"].any():
        raise FormatError("INDX: reserved bytes of an entry are set", "IDX-1", offset)
    if not flags and table["crc"].any():
        raise FormatError("INDX has decoded CRCs but its flags state none", "IDX-4", offset)
    lengths = table["length"]
    # The sum is bounded before it is taken in integers, so that it cannot wrap.
    total = float(lengths.sum(dtype=np.float64))
    if not start <= first <= stated_stop <= stop or first % ALIGNMENT or total > stop:
        raise FormatError(
            f"INDX states chunks from {first} to {stated_stop}, outside the file", "IDX-2", offset
        )
    crcs = table["crc"].astype(np.uint32) if flags else None
    index = Index(first, lengths.astype(np.int64), crcs)
    if index.stop != stated_stop:
        raise FormatError(
            f"INDX states that chunks end at {stated_stop}; their lengths add up to {index.stop}",
            "IDX-2",
            offset,
        )
    return index


def build_index(index: Index, *, entry_size: int) -> bytes:
    """Return the payload of INDX."""
    header = _HEADER.pack(
        len(index.lengths),
        entry_size,
        int(index.decoded_crcs is not None),
        0,
        index.first,
        index.stop,
        0,
    )
    table = np.zeros(len(index.lengths), dtype=_ENTRY_8 if entry_size == 8 else _ENTRY_16)
    table["length"] = index.lengths
    if index.decoded_crcs is not None:
        table["crc"] = index.decoded_crcs
    return header + table.tobytes()
