"""GEOM, the geometry of a volume, and rOIB, the 54 bytes that say part of it again."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, fields
from enum import IntEnum, IntFlag
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mroi.errors import FormatError, SourceError
from mroi.format.datatypes import DATATYPES, Datatype
from mroi.geometry import Box, ChunkGrid

__all__ = [
    "GEOM_SIZE",
    "Background",
    "Geom",
    "Layout",
    "SourceFlags",
    "SourceKind",
    "VolumeGeometry",
    "build_geom",
    "build_roi_record",
    "check_roi_record",
    "has_roi_record",
    "parse_geom",
]

_GEOM = struct.Struct("<HBBHBB7Q3Q3Q4IBBBBh2sdd7d12d32sII")
GEOM_SIZE = _GEOM.size
_ROI = struct.Struct("<9h9f")
_MAX_EXTENT = 1 << 40
_MAX_ROI_EXTENT = 32767


class Background(IntEnum):
    """What became of the voxels outside the ROI (section "Background")."""

    OMIT = 0
    FILL_VERIFIED = 1
    RESIDUE_EXACT = 2
    RESIDUE_LOSSY = 3
    FILL_LOSSY = 4

    @property
    def is_stored(self) -> bool:
        """Whether there are background chunks."""
        return self in (Background.RESIDUE_EXACT, Background.RESIDUE_LOSSY)

    @property
    def is_filled(self) -> bool:
        """Whether one value stands for all voxels outside the ROI."""
        return self in (Background.FILL_VERIFIED, Background.FILL_LOSSY)

    @property
    def is_exact(self) -> bool:
        """Whether every voxel outside the ROI comes back bit for bit."""
        return self in (Background.FILL_VERIFIED, Background.RESIDUE_EXACT)

    @property
    def is_dropped(self) -> bool:
        """Whether the values outside the ROI are lost."""
        return self in (Background.OMIT, Background.FILL_LOSSY)


class SourceKind(IntEnum):
    """What the volume was made from."""

    ARRAY = 0
    NIFTI1 = 1
    NIFTI2 = 2
    NIFTI1_PAIR = 3
    NIFTI2_PAIR = 4
    DICOM = 5
    OTHER = 255


class SourceFlags(IntFlag):
    """How the source was stored."""

    BIG_ENDIAN = 1
    GZIPPED = 2


@dataclass(frozen=True, eq=False, kw_only=True)  # arrays have no single truth value
class VolumeGeometry:
    """Shape, type, place and scaling of a volume, as its source says them.

    Attributes
    ----------
    ndim : int
        Number of dimensions of the source, 1 to 7.
    shape : tuple of int
        Extents of all axes, x fastest; at least three entries (1 beyond `ndim`), without
        trailing ones beyond the third and `ndim`.
    datatype : Datatype
        Type of the elements.
    bits_stored : int
        Significant bits of a sample.
    affine : (4, 4) ndarray of float64
        Voxel index to world position of the voxel centre, mm, RAS+.
    spacing : tuple of float
        Distance of neighbours along each axis of `shape`, in the units of the source; 0 if not
        known.
    slope, inter : float
        A stored value v means ``slope * v + inter``.
    xform_code : int
        NIfTI code of the space that the affine leads to.
    xyzt_units : int
        NIfTI byte of units.
    source_kind : SourceKind
        What the volume was made from.
    source_flags : SourceFlags
        How that was stored.

    Raises
    ------
    SourceError
        If an axis is empty.
    """

    ndim: int
    shape: tuple[int, ...]
    datatype: Datatype
    bits_stored: int
    affine: NDArray[np.float64]
    spacing: tuple[float, ...]
    slope: float = 1.0
    inter: float = 0.0
    xform_code: int = 0
    xyzt_units: int = 0
    source_kind: SourceKind = SourceKind.ARRAY
    source_flags: SourceFlags = SourceFlags(0)  # noqa: RUF009 (a value)

    def __post_init__(self) -> None:
        if not all(self.shape):
            raise SourceError(f"the volume is empty: its shape is {self.shape}")

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.datatype.itemsize

    @property
    def size(self) -> int:
        """Bytes of the decoded volume."""
        return math.prod(self.shape) * self.itemsize


@dataclass(frozen=True, eq=False, kw_only=True)
class Layout:
    """How a file lays a volume out.

    Attributes
    ----------
    roi : Box
        Region of interest, voxels.
    chunk_shape : tuple of 4 int
        Voxels of a chunk along x, y, z and axis 3.
    slice_axis : int
        0, 1 or 2.
    background : Background
        Policy for the voxels outside the ROI.
    fill : bytes
        One element for the voxels that the policy leaves out; zeros where it leaves out none.
    """

    roi: Box
    chunk_shape: tuple[int, int, int, int]
    slice_axis: int
    background: Background
    fill: bytes


@dataclass(frozen=True, eq=False, kw_only=True)
class Geom(VolumeGeometry, Layout):
    """Geometry of a volume and of its chunks; see the table "Geom" of the specification.

    It is both of what it is made of, rather than having them: the record in a file is one flat
    table, readers take shape and ROI from one object, and whatever takes the geometry of a volume
    (a header to be built, a codec to be fitted) takes that of a file as it is.
    """

    @classmethod
    def of(cls, volume: VolumeGeometry, layout: Layout) -> Self:
        """Return the geometry of a file that lays a volume out in this way."""
        return cls(**_fields(VolumeGeometry, volume), **_fields(Layout, layout))

    @property
    def volume(self) -> VolumeGeometry:
        """The geometry of the volume alone."""
        return VolumeGeometry(**_fields(VolumeGeometry, self))

    @cached_property
    def grid(self) -> ChunkGrid:
        """The chunks that this geometry makes."""
        return ChunkGrid(
            self.shape, self.roi, self.chunk_shape, self.slice_axis, self.background.is_stored
        )

    @property
    def slice_count(self) -> int:
        """Slices of the whole extent, over all volumes."""
        return self.shape[self.slice_axis] * math.prod(self.shape[3:])

    @property
    def fill_samples(self) -> NDArray[Any]:
        """The fill as an array of ``datatype.sample_shape``, which any block of voxels takes."""
        samples = np.frombuffer(self.fill, dtype=self.datatype.sample)
        return samples.reshape(self.datatype.sample_shape)

    def decoded_size(self, ordinal: int) -> int:
        """Bytes of a decoded chunk."""
        return self.grid.voxels(ordinal) * self.itemsize


def _fields(kind: type[VolumeGeometry | Layout], value: VolumeGeometry | Layout) -> dict[str, Any]:
    """Return the fields of a value that one of its classes has."""
    return {field.name: getattr(value, field.name) for field in fields(kind)}


def parse_geom(data: bytes, *, offset: int) -> Geom:  # noqa: C901, PLR0912 (a branch a rule)
    """Parse the payload of GEOM, which stands at `offset`."""
    if len(data) < GEOM_SIZE or int.from_bytes(data[:2], "little") != len(data):
        raise FormatError(f"GEOM has {len(data)} bytes", "GEO-1", offset)
    fields = _GEOM.unpack_from(data)
    _size, ndim, slice_axis, code, itemsize, bits = fields[:6]
    shape, start, stop, chunk = fields[6:13], fields[13:16], fields[16:19], fields[19:23]
    background, kind, flags, units, xform, reserved, slope, inter = fields[23:31]
    spacing, affine, fill = fields[31:38], fields[38:50], fields[50]
    roi_chunks, background_chunks = fields[51:]

    def refuse(message: str, rule: str, at: int) -> FormatError:
        return FormatError(f"GEOM: {message}", rule, offset + at)

    if not 1 <= ndim <= 7 or any(n != 1 for n in shape[ndim:]):
        raise refuse(f"{ndim} dimensions with shape {shape}", "GEO-2", 2)
    if not all(1 <= n <= _MAX_EXTENT for n in shape):
        raise refuse(f"shape {shape}", "GEO-2", 8)
    if slice_axis > 2:
        raise refuse(f"slice axis {slice_axis}", "GEO-3", 3)
    datatype = DATATYPES.get(code)
    if datatype is None or datatype.itemsize != itemsize:
        raise refuse(f"datatype {code} with {itemsize} bytes", "GEO-4", 4)
    if math.prod(shape) * itemsize >= 1 << 62:
        raise refuse(f"shape {shape} is beyond 2^62 bytes", "GEO-2", 8)
    if not 1 <= bits <= 8 * datatype.sample.itemsize:
        raise refuse(f"{bits} bits stored in {datatype.name}", "GEO-5", 7)
    if not all(lo < hi <= n for lo, hi, n in zip(start, stop, shape[:3], strict=True)):
        raise refuse(f"ROI {start} to {stop} in shape {shape[:3]}", "GEO-6", 64)
    roi = Box(start, stop)
    if not all(1 <= c <= n for c, n in zip(chunk, (*roi.shape, shape[3]), strict=True)):
        raise refuse(f"chunks of {chunk} in a ROI of {roi.shape} x {shape[3]}", "GEO-7", 112)
    if background > 4 or (roi.shape == shape[:3] and background != Background.FILL_VERIFIED):
        raise refuse(f"background policy {background}", "GEO-8", 128)
    if kind not in SourceKind.__members__.values():
        raise refuse(f"source kind {kind}", "GEO-9", 129)
    if flags > 3 or not 0 <= xform <= 5:
        raise refuse(f"source flags {flags}, xform code {xform}", "GEO-9", 130)
    if any(reserved):
        raise refuse("reserved bytes are set", "GEO-14", 134)
    if not (math.isfinite(slope) and math.isfinite(inter) and slope):
        raise refuse(f"slope {slope}, inter {inter}", "GEO-10", 136)
    if not all(map(math.isfinite, affine)):
        raise refuse("affine is not finite", "GEO-11", 208)
    if not all(math.isfinite(d) and d >= 0 for d in spacing) or any(spacing[max(ndim, 3) :]):
        raise refuse(f"spacing {spacing}", "GEO-11", 152)
    policy = Background(background)
    if any(fill[itemsize:] if policy.is_filled else fill):
        raise refuse("fill value is longer than an element, or not used", "GEO-12", 304)
    axes = max(ndim, 3)
    geom = Geom(
        ndim=ndim,
        shape=shape[:axes],
        datatype=datatype,
        bits_stored=bits,
        roi=roi,
        chunk_shape=chunk,
        slice_axis=slice_axis,
        background=policy,
        fill=fill[:itemsize],
        slope=slope,
        inter=inter,
        affine=np.array([*affine, 0, 0, 0, 1], dtype=np.float64).reshape(4, 4),
        spacing=spacing[:axes],
        xform_code=xform,
        xyzt_units=units,
        source_kind=SourceKind(kind),
        source_flags=SourceFlags(flags),
    )
    if (geom.grid.roi_chunks, geom.grid.background_chunks) != (roi_chunks, background_chunks):
        raise refuse(
            f"{roi_chunks} + {background_chunks} chunks, the grid has "
            f"{geom.grid.roi_chunks} + {geom.grid.background_chunks}",
            "GEO-13",
            336,
        )
    return geom


def build_geom(geom: Geom) -> bytes:
    """Return the payload of GEOM; raises `FormatError` for what the format cannot hold."""
    if geom.grid.chunks >= 1 << 32:
        raise FormatError(f"{geom.grid.chunks} chunks; at most 2^32 - 1 are allowed", "GEO-13")
    pad = 7 - len(geom.shape)
    fields = (
        GEOM_SIZE,
        geom.ndim,
        geom.slice_axis,
        geom.datatype.code,
        geom.itemsize,
        geom.bits_stored,
        *geom.shape,
        *[1] * pad,
        *geom.roi.start,
        *geom.roi.stop,
        *geom.chunk_shape,
        geom.background,
        geom.source_kind,
        geom.source_flags,
        geom.xyzt_units,
        geom.xform_code,
        bytes(2),
        geom.slope,
        geom.inter,
        *geom.spacing,
        *[0.0] * pad,
        *geom.affine[:3].ravel().tolist(),
        geom.fill,
        geom.grid.roi_chunks,
        geom.grid.background_chunks,
    )
    try:
        data = _GEOM.pack(*fields)
    except struct.error as exc:  # a number too large for its field
        raise FormatError(f"GEOM: {exc}", "GEO-2") from exc
    parse_geom(data, offset=0)  # a writer keeps the rules that a reader checks
    return data


def has_roi_record(geom: Geom) -> bool:
    """Whether the file has a rOIB frame (ROI-1)."""
    return all(n <= _MAX_ROI_EXTENT for n in geom.shape[:3])


def build_roi_record(geom: Geom) -> bytes:
    """Return the 54 bytes of MedROI for this geometry."""
    bounds = [
        bound
        for lo, hi in zip(geom.roi.start, geom.roi.stop, strict=True)
        for bound in (lo, hi - 1)
    ]
    with np.errstate(over="ignore"):
        matrix = geom.affine[:3, :3].astype("<f4")
    return _ROI.pack(*bounds, *geom.shape[:3], *[0.0] * 9)[:18] + matrix.tobytes()


def check_roi_record(data: bytes | None, geom: Geom, *, offset: int) -> None:
    """Check the payload of rOIB, None if there is none, against GEOM.

    Parameters
    ----------
    data : bytes or None
        The payload.
    geom : Geom
        What it has to agree with.
    offset : int
        Where it stands in the file, for messages.

    Raises
    ------
    FormatError
        If it does not (ROI-1 to ROI-3).
    """
    if (data is not None) != has_roi_record(geom):
        raise FormatError(
            "rOIB is missing, or present though the volume does not fit it", "ROI-1", offset
        )
    if data is None:
        return
    expected = build_roi_record(geom)
    if data[:18] != expected[:18] or len(data) != len(expected):
        raise FormatError("rOIB and GEOM state different bounds or shapes", "ROI-2", offset)
    if data != expected:
        raise FormatError("rOIB and GEOM state different matrices", "ROI-3", offset + 18)
