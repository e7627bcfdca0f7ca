"""oVRW: the volume at a reduced resolution, encoded by a codec of the table."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from mroi.errors import FormatError
from mroi.format.codec_table import CodecEntry, Role
from mroi.format.geom import Geom

__all__ = [
    "OVERVIEW_FACTORS",
    "OverviewMethod",
    "OverviewRecord",
    "build_overview",
    "parse_overview",
]

_HEADER = struct.Struct("<3BBB3sII")
OVERVIEW_FACTORS = (1, 2, 4, 8, 16)


class OverviewMethod(IntEnum):
    """What a voxel of the overview is of those that it stands for."""

    NEAREST = 0
    """The one in their middle: for labels."""
    MEAN = 1
    """Their mean, rounded: for intensities."""


@dataclass(frozen=True, slots=True)
class OverviewRecord:
    """The payload of oVRW.

    Attributes
    ----------
    factor : tuple of 3 int
        Voxels of the volume for one of the overview along x, y, z.
    method : OverviewMethod
        How they were reduced.
    slot : int
        Codec slot, of role `Role.OVERVIEW`.
    volumes : int
        3-D volumes that it has, from the first on.
    decoded_crc : int
        CRC of the decoded array.
    payload : bytes
        The bitstream of the codec.
    """

    factor: tuple[int, int, int]
    method: OverviewMethod
    slot: int
    volumes: int
    decoded_crc: int
    payload: bytes

    def extent(self, geom: Geom) -> tuple[int, int, int]:
        """Return the voxels of the overview along x, y, z."""
        x, y, z = (-(-n // f) for n, f in zip(geom.shape[:3], self.factor, strict=True))
        return x, y, z


class _Head(Protocol):
    """What of a head an overview depends on."""

    @property
    def geom(self) -> Geom: ...

    @property
    def codecs(self) -> Sequence[CodecEntry]: ...

    @property
    def rescale(self) -> object: ...


def parse_overview(data: bytes, head: _Head, *, offset: int) -> OverviewRecord:
    """Parse the payload of oVRW, which stands at `offset`; the bitstream is not looked at.

    Parameters
    ----------
    head : Head
        Geometry, slots and rescale factors of the file.
    """
    geom, codecs = head.geom, head.codecs
    if head.rescale is not None:
        raise FormatError("oVRW is not allowed in a file with SLSC", "OVR-1", offset)
    if len(data) < _HEADER.size:
        raise FormatError(f"oVRW has {len(data)} bytes", "OVR-1", offset)
    fx, fy, fz, method, slot, reserved, volumes, crc = _HEADER.unpack_from(data)
    factor = (fx, fy, fz)
    if any(f not in OVERVIEW_FACTORS for f in factor) or method > 1 or any(reserved):
        raise FormatError(f"oVRW states factors {factor}, method {method}", "OVR-1", offset)
    if not 1 <= volumes <= geom.grid.volumes:
        raise FormatError(
            f"oVRW states {volumes} volumes; the file has {geom.grid.volumes}", "OVR-1", offset
        )
    if slot >= len(codecs) or codecs[slot].role is not Role.OVERVIEW:
        raise FormatError(f"oVRW uses slot {slot}, which is not for overviews", "OVR-2", offset)
    return OverviewRecord(factor, OverviewMethod(method), slot, volumes, crc, data[_HEADER.size :])


def build_overview(record: OverviewRecord) -> bytes:
    """Return the payload of oVRW."""
    header = _HEADER.pack(
        *record.factor, record.method, record.slot, bytes(3), record.volumes, record.decoded_crc
    )
    return header + record.payload
