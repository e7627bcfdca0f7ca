"""NIfTI-1 and NIfTI-2, single files and pairs, gzipped or not: to a `VoxelSource`, and back.

The bytes around the voxels are kept as they are on disk, so that unpacking gives the very bytes of
the uncompressed source. nibabel reads the meaning of the header; it is never used to write it back
(it replaces fields when it does).
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import math
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from mroi.container.builder import Metadata
from mroi.errors import FormatError, SourceError, UsageError
from mroi.format.datatypes import DATATYPES, Datatype
from mroi.format.geom import Geom, SourceFlags, SourceKind
from mroi.format.metadata import Digest, DigestScope, build_digest, deflate_payload
from mroi.volume.model import Volume
from mroi.volume.source import SourceGeometry, to_samples

__all__ = [
    "KeptHeader",
    "NiftiHeader",
    "NiftiSource",
    "build_header",
    "gzip_writer",
    "kept_header",
    "parse_header",
    "restore",
    "synthesize_header",
]

_SIZES = {348: 1, 540: 2}
_MAGICS = {b"n+1\0": False, b"ni1\0": True, b"n+2\0": False, b"ni2\0": True}
_BLOCK = 1 << 22
_QUIET = logging.Logger("mroi", logging.CRITICAL + 1)  # noqa: LOG001 (takes what nobody reads)
_SINGLE = (2.0**-126, 2.0**127)  # what single precision holds without loss of digits
_MAX_INFLATION = 1040  # deflate makes at most 1032 bytes of one
_MAX_AROUND = 1 << 26  # bytes before and after the voxels that are kept; the limit of readers


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """What the header of a source says."""

    version: int
    is_pair: bool
    is_big_endian: bool
    vox_offset: int
    geometry: SourceGeometry
    warnings: tuple[str, ...] = field(default=())


def parse_header(data: bytes, *, name: str) -> NiftiHeader:
    """Parse the first 540 bytes of a header (348 are enough for NIfTI-1).

    Raises
    ------
    SourceError
        If they are no NIfTI header, or one whose voxels have no defined meaning.
    """
    little, big = (int.from_bytes(data[:4], order) for order in ("little", "big"))
    is_big_endian = little not in _SIZES
    size = big if is_big_endian else little
    if size not in _SIZES or len(data) < size:
        raise SourceError(f"{name}: no NIfTI image: it starts with {data[:8].hex(' ')}")
    version = _SIZES[size]
    magic = data[344:348] if version == 1 else data[4:8]
    if magic not in _MAGICS:
        raise SourceError(
            f"{name}: header without the NIfTI magic (found {magic!r}); convert ANALYZE 7.5 first"
        )
    return _interpret(data[:size], version, is_big_endian, _MAGICS[magic], name)


def _interpret(
    data: bytes,
    version: int,
    is_big_endian: bool,  # noqa: FBT001
    is_pair: bool,  # noqa: FBT001
    name: str,
) -> NiftiHeader:
    from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
    from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader

    single, pair = ((Nifti1Header, Nifti1PairHeader), (Nifti2Header, Nifti2PairHeader))[version - 1]
    kind_of_header: Any = pair if is_pair else single
    header = kind_of_header(data, ">" if is_big_endian else "<", check=False)
    warnings: list[str] = []
    ndim = int(header["dim"][0])
    if not 1 <= ndim <= 7:
        raise SourceError(f"{name}: header with {ndim} dimensions")
    datatype = DATATYPES.get(int(header["datatype"]))
    if datatype is None:
        raise SourceError(f"{name}: NIfTI datatype {int(header['datatype'])} cannot be packed")
    shape = _shape(header, name)
    slope, inter = _scaling(header, datatype, warnings)
    affine, code = _affine(header, warnings)
    zooms = [abs(float(z)) for z in header["pixdim"][1 : ndim + 1]]
    missing = max(0, 3 - ndim)
    least = 0 if is_pair else len(data)
    offset = int(header["vox_offset"]) if math.isfinite(float(header["vox_offset"])) else 0
    if offset > _MAX_AROUND:
        raise SourceError(f"{name}: voxel offset {offset:,} is beyond {_MAX_AROUND:,}")
    if offset < least:
        usual = len(data) + 4
        warnings.append(f"voxel offset {offset} lies in the header; {usual} is used")
        offset = usual
    kind = SourceKind(version + 2 * is_pair)
    geometry = SourceGeometry(
        ndim=ndim,
        shape=shape + (1,) * missing,
        datatype=datatype,
        affine=affine,
        spacing=(*(z if math.isfinite(z) else 0.0 for z in zooms), *[0.0] * missing),
        bits_stored=datatype.bits,
        slope=slope,
        inter=inter,
        xform_code=code,
        xyzt_units=int(header["xyzt_units"]) & 0xFF,
        kind=kind,
        flags=SourceFlags.BIG_ENDIAN if is_big_endian else SourceFlags(0),
    )
    return NiftiHeader(version, is_pair, is_big_endian, offset, geometry, tuple(warnings))


def _shape(header: Any, name: str) -> tuple[int, ...]:
    from nibabel.spatialimages import HeaderDataError

    try:
        shape = tuple(int(n) for n in header.get_data_shape())
    except HeaderDataError as exc:
        raise SourceError(f"{name}: {exc}") from exc
    if not all(n > 0 for n in shape):
        raise SourceError(f"{name}: the volume is empty: its shape is {shape}")
    return shape


def _scaling(header: Any, datatype: Datatype, warnings: list[str]) -> tuple[float, float]:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not math.isfinite(slope) or datatype.samples > 1:
        return 1.0, 0.0
    if not math.isfinite(inter):
        warnings.append(f"intercept {inter} is not finite; values are taken as not scaled")
        return 1.0, 0.0
    return slope, inter


def _affine(header: Any, warnings: list[str]) -> tuple[NDArray[np.float64], int]:
    """Return the affine that nibabel would use and its code; else one from the voxel sizes."""
    affine: NDArray[np.float64] | None = None
    fixed = header.copy()
    with suppress(Exception), np.errstate(all="ignore"):  # a broken quaternion, say
        # What nibabel mends when it loads: voxel sizes and qfac of 0, codes that do not exist.
        fixed.check_fix(_QUIET, error_level=100)
        affine = np.asarray(fixed.get_best_affine(), dtype=np.float64)
    code = int(fixed["sform_code"]) or int(fixed["qform_code"])
    if affine is None or not np.isfinite(affine).all():
        warnings.append("the affine is not valid; one is made from the voxel sizes")
        sizes = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
        affine = np.diag([*np.where(np.isfinite(sizes) & (sizes > 0), sizes, 1.0), 1.0])
        code = 0
    return affine, code if 0 <= code <= 5 else 0


class NiftiSource:
    """A NIfTI image on disk, read from front to end with bounded memory.

    Parameters
    ----------
    path : path
        ``.nii``, ``.nii.gz``, or either file of a pair ``.hdr``/``.img`` (each may be gzipped).

    Raises
    ------
    SourceError
        If it is no NIfTI image, or is cut short.
    OSError
        If it cannot be read.
    """

    rescale: bytes | None = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.name = str(path)
        self._header_path, self._image_path = self.path, self.path
        first = self._read_start(self.path)
        if _is_other_half(self.path):
            self._header_path = _sibling(self.path, "hdr")
            first = self._read_start(self._header_path)
        self._is_gzipped = _is_gzip(self._image_path)
        header = parse_header(first, name=str(self._header_path))
        if header.is_pair:
            self._image_path = _sibling(self._header_path, "img")
            self._is_gzipped = _is_gzip(self._image_path)
        elif self._header_path != self.path:
            raise SourceError(f"{self._header_path}: a single file, but {self.path} is beside it")
        self.header = header
        self.warnings: Sequence[str] = header.warnings
        geometry = header.geometry
        flags = geometry.flags | (SourceFlags.GZIPPED if self._is_gzipped else SourceFlags(0))
        self.geometry = replace(geometry, flags=flags)
        self.paths: Sequence[Path] = (self._header_path, self._image_path)
        self.stored_size = sum(p.stat().st_size for p in set(self.paths))
        self._check_size()
        self._kept: list[Metadata] = []

    def _check_size(self) -> None:
        """Refuse a header that promises more than the file can hold, before memory is taken."""
        needed = (
            self.header.vox_offset
            + math.prod(self.geometry.shape) * self.geometry.datatype.itemsize
        )
        size = self._image_path.stat().st_size
        most = size * _MAX_INFLATION if self._is_gzipped else size
        if needed > most:
            raise SourceError(
                f"{self.name}: the image is cut short: {size:,} bytes on disk cannot hold the "
                f"{needed:,} that its header promises"
            )

    def _read_start(self, path: Path) -> bytes:
        with _opened(path) as file:
            return _read(file, 540, str(path))

    def planes(self, axis: int) -> Iterator[NDArray[Any]]:
        """Yield the slices across `axis`; see `VoxelSource`.

        Across z, memory is bounded by one block of a few MB and one slice; across x and y, by one
        3-D volume.
        """
        geometry = self.geometry
        # Once is enough: a source that changes between two passes shows when it is restored.
        sha256 = None if self._kept else hashlib.sha256()
        with _opened(self._image_path) as file:
            if self.header.is_pair:
                with _opened(self._header_path) as header_file:
                    whole = _read_all(header_file, str(self._header_path))
                if sha256 is not None:
                    sha256.update(whole)
                kept = [Metadata(b"nIFt", whole)]
            else:
                kept = []
            before = self._take(file, self.header.vox_offset, sha256)
            if before or not self.header.is_pair:
                kept.append(Metadata(b"nIFt", before, ordinal=2 if self.header.is_pair else 0))
            depth = 1 if axis == 2 else geometry.shape[2]
            plane_size = math.prod(geometry.shape[:2]) * geometry.datatype.itemsize
            blocks = math.prod(geometry.shape[2:]) // depth
            for _ in range(blocks):
                yield from self._slices(self._take(file, plane_size * depth, sha256), axis, depth)
            after = _read_all(file, self.name)
        if sha256 is None:
            return
        if after:
            sha256.update(after)
            kept.append(Metadata(b"nIFt", after, ordinal=1))
        digest = Digest(DigestScope.SOURCE, sha256.digest())
        self._kept = [_compressed(frame) for frame in kept]
        self._kept.append(Metadata(b"dIGE", build_digest(digest), DigestScope.SOURCE))

    def _take(self, file: BinaryIO, size: int, sha256: Any) -> bytes:
        """Read exactly `size` bytes of the image."""
        data = _read(file, size, self.name)
        if len(data) != size:
            raise SourceError(
                f"{self.name}: the image is cut short: {size - len(data):,} bytes of a part of "
                f"{size:,} are missing"
            )
        if sha256 is not None:
            sha256.update(data)
        return data

    def _slices(self, data: bytes, axis: int, depth: int) -> Iterator[NDArray[Any]]:
        """Cut a block of `depth` z slices across `axis`."""
        datatype = self.geometry.datatype
        samples = np.frombuffer(data, dtype=np.uint8)
        if self.header.is_big_endian and datatype.swap > 1:
            samples = swap_bytes(samples, datatype)
        shape = (depth, *self.geometry.shape[1::-1])
        extra = (datatype.samples,) if datatype.samples > 1 else ()
        block = samples.view(datatype.sample).reshape(*shape, *extra)
        fast, slow = (a for a in range(3) if a != axis)
        rest = range(3, block.ndim)
        for plane in block.transpose(2 - axis, 2 - slow, 2 - fast, *rest):
            yield np.ascontiguousarray(plane)

    def metadata(self) -> list[Metadata]:
        """Return what stood around the voxels, and the digest of the source."""
        return list(self._kept)


def swap_bytes(data: NDArray[np.uint8], datatype: Datatype) -> NDArray[np.uint8]:
    """Reverse the bytes of each number (of each half of a complex one)."""
    return np.ascontiguousarray(data.reshape(-1, datatype.swap)[:, ::-1]).reshape(-1)


def _compressed(frame: Metadata) -> Metadata:
    """Return the frame compressed where that helps."""
    payload = deflate_payload(frame.payload) if len(frame.payload) > 256 else frame.payload
    if len(payload) >= len(frame.payload):
        return frame
    return Metadata(frame.type, payload, frame.ordinal, flags=1)


# -- files -----------------------------------------------------------------------------------


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _opened(path: Path) -> BinaryIO:
    """Open a file for reading, inflating it if it is gzipped."""
    if not _is_gzip(path):
        return path.open("rb")
    try:
        from isal import igzip
    except ImportError:
        return cast("BinaryIO", gzip.open(path, "rb"))
    return cast("BinaryIO", igzip.open(path, "rb"))


def gzip_writer(raw: BinaryIO) -> BinaryIO:
    """Return a gzip file over `raw` that does not name the moment it was made."""
    try:
        from isal import igzip

        return cast("BinaryIO", igzip.IGzipFile("", "wb", compresslevel=2, fileobj=raw, mtime=0))
    except ImportError:
        return cast("BinaryIO", gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0))


def _read(file: BinaryIO, size: int, name: str) -> bytes:
    """Read up to `size` bytes; what is wrong with a gzip stream is a fault of the source."""
    parts = []
    left = size
    try:
        while left and (data := file.read(min(left, _BLOCK))):
            parts.append(data)
            left -= len(data)
    except _gzip_errors() as exc:
        raise SourceError(f"{name}: damaged gzip file: {exc}") from exc
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _gzip_errors() -> tuple[type[Exception], ...]:
    """Return what reading a damaged gzip file may raise."""
    errors: tuple[type[Exception], ...] = (EOFError, zlib.error, gzip.BadGzipFile)
    with suppress(ImportError):
        from isal import isal_zlib

        errors += (cast("type[Exception]", isal_zlib.error),)
    return errors


def _read_all(file: BinaryIO, name: str) -> bytes:
    """Read to the end, which also checks the checksum of a gzip stream."""
    data = _read(file, _MAX_AROUND + 1, name)
    if len(data) > _MAX_AROUND:
        raise SourceError(f"{name}: more than {_MAX_AROUND:,} bytes around the voxels")
    return data


def _is_other_half(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(".img")


def _sibling(path: Path, ending: str) -> Path:
    """Return the other file of a pair."""
    name = path.name
    gz = ".gz" if name.lower().endswith(".gz") else ""
    stem = name[: len(name) - len(gz)].rpartition(".")[0]
    upper = ending.upper() if path.suffix.isupper() else ending
    for suffix in (gz, "", ".gz"):
        found = path.with_name(f"{stem}.{upper}{suffix}")
        if found.exists():
            return found
    raise SourceError(f"{path}: the other file of the pair, {stem}.{upper}, is missing")


# -- back to NIfTI ---------------------------------------------------------------------------


def restore(volume: Volume) -> Iterator[tuple[str, bytes]]:
    """Yield the bytes of the NIfTI image that `volume` holds, as (part, bytes).

    The part is ``"header"`` for the header file of a pair, else ``"image"``. Bytes are those of
    the source if it was NIfTI and its header is there; otherwise, and for a cropped volume, a
    header is made from the geometry.

    Raises
    ------
    FormatError
        If the header in the file does not agree with its geometry (MET-1).
    """
    geom = volume.geom
    reader = volume.reader
    kept = kept_header(volume)
    is_nifti = kept is not None
    if kept is not None and kept.is_pair:
        yield "header", kept.header
        if kept.gap:
            yield "image", kept.gap
    else:
        yield "image", kept.header if kept is not None else synthesize_header(volume)
    big_endian = is_nifti and bool(geom.source_flags & SourceFlags.BIG_ENDIAN)
    for plane in volume.unscaled.planes(axis=2):
        samples = to_samples(plane, geom.datatype).reshape(-1).view(np.uint8)
        if big_endian and geom.datatype.swap > 1:
            samples = swap_bytes(samples, geom.datatype)
        yield "image", samples.tobytes()
    if is_nifti and (after := reader.find_metadata(b"nIFt", 1)) is not None:
        yield "image", after


_NIFTI_KINDS = frozenset(
    {
        SourceKind.NIFTI1,
        SourceKind.NIFTI2,
        SourceKind.NIFTI1_PAIR,
        SourceKind.NIFTI2_PAIR,
    }
)


@dataclass(frozen=True, slots=True)
class KeptHeader:
    """What stood before the voxels of a source; `gap` is that of the image file of a pair."""

    header: bytes
    gap: bytes
    is_pair: bool


def kept_header(volume: Volume) -> KeptHeader | None:
    """Return the header of the NIfTI image that `volume` was made from, None if it is not there.

    A part of a volume has none: the header is that of the whole.

    Raises
    ------
    FormatError
        If it does not agree with the geometry (MET-1).
    """
    geom = volume.geom
    is_whole = volume.shape == geom.shape[: geom.ndim]
    if geom.source_kind not in _NIFTI_KINDS or not is_whole:
        return None
    header = volume.reader.find_metadata(b"nIFt", 0)
    if header is None:
        return None
    is_pair = geom.source_kind in (SourceKind.NIFTI1_PAIR, SourceKind.NIFTI2_PAIR)
    gap = (volume.reader.find_metadata(b"nIFt", 2) or b"") if is_pair else b""
    check_header(header, geom, gap=gap)
    return KeptHeader(header, gap, is_pair)


def check_header(data: bytes, geom: Geom, *, gap: bytes) -> None:
    """Check that the header kept in a file describes the volume of its geometry (MET-1).

    `gap` is what stood before the voxels of the image file of a pair.
    """
    try:
        header = parse_header(data, name="nIFt")
    except SourceError as exc:
        raise FormatError(f"nIFt: {exc.message}", "MET-1") from exc
    found = header.geometry
    expected_offset = len(gap) if header.is_pair else len(data)
    agrees = (
        found.kind == geom.source_kind
        and found.shape == geom.shape
        and found.ndim == geom.ndim
        and found.datatype == geom.datatype
        and bool(found.flags & SourceFlags.BIG_ENDIAN)
        == bool(geom.source_flags & SourceFlags.BIG_ENDIAN)
        and header.vox_offset == expected_offset
    )
    if not agrees:
        raise FormatError("the NIfTI header in the file is not that of its volume", "MET-1")


def synthesize_header(volume: Volume) -> bytes:
    """Return the first bytes of a NIfTI image for a volume that did not come from one.

    Raises
    ------
    UsageError
        If slices have rescale factors of their own: NIfTI has no place for them.
    """
    geom = volume.geom
    if volume.reader.head.rescale is not None:
        raise UsageError("slices have rescale factors of their own, which NIfTI cannot hold")
    return build_header(
        SourceGeometry(
            ndim=geom.ndim,
            shape=volume.shape,
            datatype=geom.datatype,
            affine=volume.affine,
            spacing=geom.spacing,
            bits_stored=geom.bits_stored,
            slope=geom.slope,
            inter=geom.inter,
            xform_code=geom.xform_code,
            xyzt_units=geom.xyzt_units,
        )
    )


def build_header(g: SourceGeometry) -> bytes:
    """Return a header and its extension flag, little-endian: what stands before the voxels.

    NIfTI-1, or NIfTI-2 if an axis is too long or a number too large. The affine becomes the sform.
    """
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    numbers = (g.slope, g.inter, *g.spacing, *g.affine.ravel().tolist())
    fits = all(n <= 32767 for n in g.shape) and all(
        number == 0 or _SINGLE[0] < abs(number) < _SINGLE[1] for number in numbers
    )
    kind_of_header: Any = Nifti1Header if fits else Nifti2Header
    header = kind_of_header(endianness="<")
    header.set_data_shape(g.shape[: g.ndim])
    header["datatype"] = g.datatype.code
    header["bitpix"] = 8 * g.datatype.itemsize
    header["pixdim"][1 : len(g.spacing) + 1] = g.spacing
    header.set_sform(g.affine, g.xform_code or 2)
    header["qform_code"] = 0
    header["xyzt_units"] = g.xyzt_units
    header["scl_slope"], header["scl_inter"] = g.slope, g.inter
    header["vox_offset"] = len(header.binaryblock) + 4
    return bytes(header.binaryblock) + bytes(4)
