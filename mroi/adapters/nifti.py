"""NIfTI-1 and NIfTI-2, single files and pairs, gzipped or not: to a `VoxelSource`, and back.

The bytes around the voxels are kept as they are on disk, so that unpacking gives the very bytes of
the uncompressed source. nibabel reads the meaning of the header; it is never used to write it back
(it replaces fields when it does).
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mroi.adapters.analyze import TEXTS as ANALYZE_TEXTS
from mroi.adapters.analyze import (
    analyze_affine,
    analyze_header,
    analyze_scaling,
    clean_origin,
    read_mat,
)
from mroi.adapters.gz import MAX_INFLATION, GzipReader, is_gzip, open_inflated
from mroi.adapters.kinds import describe_start
from mroi.adapters.policy import KEEP, MetadataPolicy
from mroi.container.builder import Metadata
from mroi.errors import FormatError, SourceError, UsageError
from mroi.format.datatypes import DATATYPES, Datatype
from mroi.format.geom import Geom, SourceFlags, SourceKind, VolumeGeometry
from mroi.format.metadata import Digest, DigestScope, NiftiPart, build_digest, deflate_payload
from mroi.format.records import FrameType
from mroi.geometry import in_plane_axes
from mroi.volume.model import Volume
from mroi.volume.source import affine_warnings

__all__ = [
    "KeptHeader",
    "NiftiHeader",
    "NiftiSource",
    "build_header",
    "kept_header",
    "parse_header",
    "restore",
    "synthesize_header",
]

_SIZES = {348: 1, 540: 2}
_MAGICS = {b"n+1\0": False, b"ni1\0": True, b"n+2\0": False, b"ni2\0": True}
_BLOCK = 1 << 22
_START = 540  # bytes of the longest header
_QUIET = logging.Logger("mroi", logging.CRITICAL + 1)  # noqa: LOG001 (takes what nobody reads)
_SINGLE = (2.0**-126, 2.0**127)  # what single precision holds without loss of digits
_MAX_AROUND = 1 << 26  # bytes before and after the voxels that are kept; the limit of readers


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """What the header of a source says."""

    version: int
    is_pair: bool
    is_big_endian: bool
    vox_offset: int
    geometry: VolumeGeometry
    warnings: tuple[str, ...] = field(default=())
    is_analyze: bool = False


def parse_header(data: bytes, *, name: str, in_pair: bool = False) -> NiftiHeader:
    """Parse the first 540 bytes of a header (348 are enough for NIfTI-1).

    Parameters
    ----------
    data : bytes
        Its first bytes.
    name : str
        For messages.
    in_pair : bool
        It is a file of its own; then it may be ANALYZE 7.5, which is taken for a NIfTI-1 pair.

    Raises
    ------
    SourceError
        If they are no NIfTI header, or one whose voxels have no defined meaning.
    """
    little, big = (int.from_bytes(data[:4], order) for order in ("little", "big"))
    is_big_endian = little not in _SIZES
    size = big if is_big_endian else little
    if size not in _SIZES or len(data) < size:
        raise SourceError(f"{name}: not a NIfTI or DICOM image: it {describe_start(data)}")
    version = _SIZES[size]
    magic = data[344:348] if version == 1 else data[4:8]
    is_pair = _MAGICS.get(magic, in_pair and version == 1)
    if magic in _MAGICS:
        header = _nifti_header(data[:size], version, is_big_endian=is_big_endian, is_pair=is_pair)
    elif is_pair:
        header = analyze_header(data, is_big_endian=is_big_endian)
    else:
        raise SourceError(f"{name}: not a NIfTI header (magic {magic!r})")
    return _interpret(header, version, is_big_endian=is_big_endian, is_pair=is_pair, name=name)


def _nifti_header(data: bytes, version: int, *, is_big_endian: bool, is_pair: bool) -> Any:
    from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
    from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader

    single, pair = ((Nifti1Header, Nifti1PairHeader), (Nifti2Header, Nifti2PairHeader))[version - 1]
    kind_of_header: Any = pair if is_pair else single
    return kind_of_header(data, ">" if is_big_endian else "<", check=False)


def _interpret(
    header: Any, version: int, *, is_big_endian: bool, is_pair: bool, name: str
) -> NiftiHeader:
    is_analyze = "scl_inter" not in header or "magic" not in header
    warnings: list[str] = []
    ndim = int(header["dim"][0])
    if not 1 <= ndim <= 7:
        raise SourceError(f"{name}: the header states {ndim} dimensions")
    datatype = DATATYPES.get(int(header["datatype"]))
    if datatype is None:
        raise SourceError(f"{name}: NIfTI datatype {int(header['datatype'])} cannot be packed")
    shape = _shape(header, name)
    if is_analyze:
        slope, inter = analyze_scaling(header) if datatype.samples == 1 else (1.0, 0.0)
        affine, code = analyze_affine(header), 0
        if affine is None:
            affine = _affine_of_sizes(header, warnings)
        warnings.append("ANALYZE 7.5 does not say which side is left; taken as nibabel does")
    else:
        slope, inter = _scaling(header, datatype, warnings)
        affine, code = _affine(header, warnings)
    zooms = [abs(float(z)) for z in header["pixdim"][1 : ndim + 1]]
    missing = max(0, 3 - ndim)
    size = len(header.binaryblock)
    least = 0 if is_pair else size
    offset = int(header["vox_offset"]) if math.isfinite(float(header["vox_offset"])) else 0
    if offset > _MAX_AROUND:
        raise SourceError(f"{name}: voxel offset {offset:,} is beyond {_MAX_AROUND:,}")
    if offset < least:
        usual = size + 4
        warnings.append(f"voxel offset {offset} lies in the header; {usual} is used")
        offset = usual
    kind = SourceKind(version + 2 * is_pair)
    geometry = VolumeGeometry(
        ndim=ndim,
        shape=shape + (1,) * missing,
        datatype=datatype,
        affine=affine,
        spacing=(*(z if math.isfinite(z) else 0.0 for z in zooms), *[0.0] * missing),
        bits_stored=datatype.bits,
        slope=slope,
        inter=inter,
        xform_code=code,
        xyzt_units=0 if is_analyze else int(header["xyzt_units"]) & 0xFF,
        source_kind=kind,
        source_flags=SourceFlags.BIG_ENDIAN if is_big_endian else SourceFlags(0),
    )
    return NiftiHeader(
        version, is_pair, is_big_endian, offset, geometry, tuple(warnings), is_analyze
    )


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
        affine, code = _affine_of_sizes(header, warnings), 0
    warnings += affine_warnings(affine)
    return affine, code if 0 <= code <= 5 else 0


def _affine_of_sizes(header: Any, warnings: list[str]) -> NDArray[np.float64]:
    warnings.append("the affine is not valid; one is made from the voxel sizes")
    sizes = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
    return np.diag([*np.where(np.isfinite(sizes) & (sizes > 0), sizes, 1.0), 1.0])


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

    def __init__(self, path: str | os.PathLike[str], metadata: MetadataPolicy = KEEP) -> None:
        self._policy = metadata
        self.provenance = metadata.to_json()
        self.path = Path(path)
        self.name = str(path)
        self._header_path, self._image_path = self.path, self.path
        first = self._read_start(self.path)
        if _is_half(self.path, ".img"):
            self._header_path = _sibling(self.path, "hdr")
            first = self._read_start(self._header_path)
        self._is_gzipped = is_gzip(self._image_path)
        in_pair = _is_half(self._header_path, ".hdr")
        header = parse_header(first, name=str(self._header_path), in_pair=in_pair)
        if header.is_analyze and (affine := read_mat(self._header_path)) is not None:
            text = "the affine is that of the .mat file, which is not kept"
            header = replace(
                header,
                geometry=replace(header.geometry, affine=affine),
                warnings=(*header.warnings, text),
            )
        if header.is_pair:
            self._image_path = _sibling(self._header_path, "img")
            self._is_gzipped = is_gzip(self._image_path)
        elif self._header_path != self.path:
            raise SourceError(f"{self._header_path}: a single file, but {self.path} is beside it")
        self.header = header
        self._first = first
        self.geometry = geometry = header.geometry
        if self._is_gzipped:
            flags = geometry.source_flags | SourceFlags.GZIPPED
            self.geometry = replace(geometry, source_flags=flags)
        self.paths: Sequence[Path] = (self._header_path, self._image_path)
        self.stored_size = sum(p.stat().st_size for p in set(self.paths))
        self._check_size()
        self._around: _Around | None = None

    @property
    def warnings(self) -> Sequence[str]:
        """What was odd; of what stands behind the voxels, once they were read."""
        warnings = list(self.header.warnings)
        trailing = self._around.trailing if self._around is not None else 0
        if trailing:
            kept = "kept" if self._policy.keeps else "left out"
            warnings.append(f"{trailing:,} bytes after the gzip stream are {kept}")
        return warnings

    def _check_size(self) -> None:
        """Refuse a header that promises more than the file can hold, before memory is taken."""
        needed = self.header.vox_offset + self.geometry.size
        size = self._image_path.stat().st_size
        most = size * MAX_INFLATION if self._is_gzipped else size
        if needed > most:
            raise SourceError(
                f"{self.name}: the image is truncated: {size:,} bytes on disk cannot hold the "
                f"{needed:,} that its header promises"
            )

    def _read_start(self, path: Path) -> bytes:
        with open_inflated(path) as file:
            return _read(file, _START)

    def planes(self, axis: int) -> Iterator[NDArray[Any]]:
        """Yield the slices across `axis`; see `VoxelSource`.

        Across z, memory is bounded by one block of a few MB and one slice; across x and y, by one
        3-D volume. The end of every pass says whether the file is still what it was: what was
        planned by one pass holds for the next, and the digest is of what was read last.

        Raises
        ------
        SourceError
            If the file is damaged, or was changed since it was opened or read.
        """
        geometry = self.geometry
        around = _Around(self.header, self._policy)
        with open_inflated(self._image_path) as file:
            if self.header.is_pair:
                with open_inflated(self._header_path) as header_file:
                    header = _read_all(header_file, str(self._header_path))
                    around.add_header(header)
                    around.add_trailing(header_file, NiftiPart.HEADER_AFTER_GZIP)
                before = self._take(file, self.header.vox_offset)
            else:
                header = before = self._take(file, self.header.vox_offset)
            around.add_before(before)
            if header[:_START] != self._first[: len(header)]:
                raise self._changed()
            depth = 1 if axis == 2 else geometry.shape[2]
            plane_size = math.prod(geometry.shape[:2]) * geometry.datatype.itemsize
            blocks = math.prod(geometry.shape[2:]) // depth
            for _ in range(blocks):
                data = self._take(file, plane_size * depth)
                around.sha256.update(data)
                yield from self._slices(data, axis, depth)
            around.add_after(_read_all(file, self.name))
            around.add_trailing(file, NiftiPart.AFTER_GZIP)
        if self._around is not None and not around.is_like(self._around):
            raise self._changed()
        self._around = around

    def _changed(self) -> SourceError:
        return SourceError(f"{self.name}: the file changed while it was read: try again")

    def _take(self, file: BinaryIO, size: int) -> bytes:
        """Read exactly `size` bytes of the image."""
        data = _read(file, size)
        if len(data) != size:
            raise SourceError(
                f"{self.name}: the image is truncated: {size - len(data):,} bytes of a part of "
                f"{size:,} are missing"
            )
        return data

    def _slices(self, data: bytes, axis: int, depth: int) -> Iterator[NDArray[Any]]:
        """Cut a block of `depth` z slices across `axis`."""
        datatype = self.geometry.datatype
        samples = np.frombuffer(data, dtype=np.uint8)
        if self.header.is_big_endian and datatype.swap > 1:
            samples = swap_bytes(samples, datatype)
        shape = (depth, *self.geometry.shape[1::-1])
        block = samples.view(datatype.sample).reshape(*shape, *datatype.sample_shape)
        fast, slow = in_plane_axes(axis)
        rest = range(3, block.ndim)
        for plane in block.transpose(2 - axis, 2 - slow, 2 - fast, *rest):
            yield np.ascontiguousarray(plane)

    def metadata(self) -> list[Metadata]:
        """Return what stood around the voxels, and the digest of what will be restored."""
        return [] if self._around is None else self._around.frames()


class _Around:
    """Takes what stands around the voxels as it is read, and gives what is kept of it."""

    def __init__(self, header: NiftiHeader, policy: MetadataPolicy) -> None:
        self._header = header
        self._policy = policy
        self._frames: list[Metadata] = []
        self.sha256 = hashlib.sha256()
        self.trailing = 0

    def add_header(self, data: bytes) -> None:
        """Take the header file of a pair, or what stands before the voxels of a single file."""
        if self._policy.name == "clean":
            data = clean_header(data, self._header)
        self._add(data, NiftiPart.HEADER)

    def add_before(self, data: bytes) -> None:
        """Take what stands before the voxels."""
        if not self._header.is_pair:
            self.add_header(data)
        elif data and self._policy.keeps:
            self._add(data, NiftiPart.GAP)

    def add_after(self, data: bytes) -> None:
        """Take what stands behind the voxels."""
        if data and self._policy.keeps:
            self._add(data, NiftiPart.REST)

    def add_trailing(self, file: BinaryIO, part: NiftiPart) -> None:
        """Take what stands behind a gzip stream, which is no part of what is restored."""
        data = file.trailing if isinstance(file, GzipReader) else b""
        self.trailing += len(data)
        if data and self._policy.keeps:
            self._frames.append(Metadata(FrameType.NIFTI, data, part))

    def _add(self, data: bytes, part: NiftiPart) -> None:
        self.sha256.update(data)
        self._frames.append(Metadata(FrameType.NIFTI, data, part))

    def is_like(self, other: _Around) -> bool:
        """Whether another pass read the same bytes."""
        same_digest = self.sha256.digest() == other.sha256.digest()
        return same_digest and self._frames == other._frames

    def frames(self) -> list[Metadata]:
        """Return the frames for a packed file."""
        if self._policy.name == "strip":
            return []
        digest = build_digest(Digest(DigestScope.SOURCE, self.sha256.digest()))
        return [
            *map(_compressed, self._frames),
            Metadata(FrameType.DIGEST, digest, DigestScope.SOURCE),
        ]


_TEXTS = ("data_type", "db_name", "extents", "session_error", "glmax", "glmin", "descrip",
          "aux_file", "intent_name", "unused_str")  # fmt: skip
"""Fields of a header that hold free text, or what somebody left where NIfTI uses nothing."""


def clean_header(data: bytes, header: NiftiHeader) -> bytes:
    """Return the header of a source without free text and extensions.

    Parameters
    ----------
    data : bytes
        What stands before the voxels; for a pair, the header file.
    header : NiftiHeader
        What it says.
    """
    import nibabel as nib

    kind: Any = nib.Nifti1Header if header.version == 1 else nib.Nifti2Header
    size = kind.sizeof_hdr
    if header.is_analyze:
        found: Any = analyze_header(data, is_big_endian=header.is_big_endian)
        clean_origin(found)
    else:
        found = kind(data[:size], ">" if header.is_big_endian else "<", check=False)
    for name in (*_TEXTS, *ANALYZE_TEXTS):
        if name in found:
            found[name] = 0 if found[name].dtype.kind == "i" else b""
    found["vox_offset"] = 0 if header.is_pair else size + 4
    return bytes(found.binaryblock) + bytes(4)


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


def _read(file: BinaryIO, size: int) -> bytes:
    """Read up to `size` bytes."""
    parts = []
    left = size
    while left and (data := file.read(min(left, _BLOCK))):
        parts.append(data)
        left -= len(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _read_all(file: BinaryIO, name: str) -> bytes:
    """Read to the end, which also checks the checksum of a gzip stream."""
    data = _read(file, _MAX_AROUND + 1)
    if len(data) > _MAX_AROUND:
        raise SourceError(f"{name}: more than {_MAX_AROUND:,} bytes around the voxels")
    return data


def _is_half(path: Path, ending: str) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(ending)


def _sibling(path: Path, ending: str) -> Path:
    """Return the other file of a pair; its ending may be in another case."""
    name = path.name
    gz = ".gz" if name.lower().endswith(".gz") else ""
    stem = name[: len(name) - len(gz)].rpartition(".")[0]
    is_upper = name[len(stem) : len(name) - len(gz)].isupper()
    upper = ending.upper() if is_upper else ending
    places = [f"{stem}.{upper}{suffix}" for suffix in (gz, "", ".gz")]
    for place in places:
        if (found := path.with_name(place)).exists():
            return found
    others = {other.name.lower(): other for other in sorted(path.parent.iterdir())}
    for place in places:  # p.hdr and p.IMG, or p.Img
        other = others.get(place.lower())
        if other is not None and other.name.startswith(stem):
            return other
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
        samples = geom.datatype.to_samples(plane).reshape(-1).view(np.uint8)
        if big_endian and geom.datatype.swap > 1:
            samples = swap_bytes(samples, geom.datatype)
        yield "image", samples.tobytes()
    if is_nifti and (after := reader.find_metadata(FrameType.NIFTI, NiftiPart.REST)) is not None:
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
    header = volume.reader.find_metadata(FrameType.NIFTI, NiftiPart.HEADER)
    if header is None:
        return None
    is_pair = geom.source_kind in (SourceKind.NIFTI1_PAIR, SourceKind.NIFTI2_PAIR)
    gap = (volume.reader.find_metadata(FrameType.NIFTI, NiftiPart.GAP) or b"") if is_pair else b""
    check_header(header, geom, gap=gap)
    return KeptHeader(header, gap, is_pair)


def check_header(data: bytes, geom: Geom, *, gap: bytes) -> None:
    """Check that the header kept in a file describes the volume of its geometry (MET-1).

    `gap` is what stood before the voxels of the image file of a pair.

    Parameters
    ----------
    data : bytes
        The header.
    geom : Geom
        Geometry of the file.
    gap : bytes
        What stood before the voxels of the image file of a pair.

    Raises
    ------
    FormatError
        If they do not agree.
    """
    try:
        in_pair = geom.source_kind is SourceKind.NIFTI1_PAIR
        header = parse_header(data, name="nIFt", in_pair=in_pair)
    except SourceError as exc:
        raise FormatError(f"nIFt: {exc.message}", "MET-1") from exc
    found = header.geometry
    expected_offset = len(gap) if header.is_pair else len(data)
    agrees = (
        found.source_kind == geom.source_kind
        and found.shape == geom.shape
        and found.ndim == geom.ndim
        and found.datatype == geom.datatype
        and bool(found.source_flags & SourceFlags.BIG_ENDIAN)
        == bool(geom.source_flags & SourceFlags.BIG_ENDIAN)
        and header.vox_offset == expected_offset
    )
    if not agrees:
        raise FormatError("the NIfTI header in the file contradicts its geometry", "MET-1")


def synthesize_header(volume: Volume) -> bytes:
    """Return the first bytes of a NIfTI image for a volume that did not come from one.

    Raises
    ------
    UsageError
        If slices have rescale factors of their own: NIfTI has no place for them.
    """
    if volume.reader.head.rescale is not None:
        raise UsageError("slices have different rescale factors, which NIfTI cannot hold")
    return build_header(replace(volume.geom.volume, shape=volume.shape, affine=volume.affine))


def build_header(g: VolumeGeometry) -> bytes:
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
