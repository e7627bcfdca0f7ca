"""HEIF with HEVC (ISO/IEC 23008-12): what cameras and phones use, up to 12 bits."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs import fields, native
from mroi.codecs.base import ChunkSpec, Codec, Fidelity, Values
from mroi.codecs.mpeg import hevc
from mroi.errors import CodecError, DecodeError

__all__ = ["Heif"]

# Types of units (ITU-T H.265, table 7-1).
_VPS, _SPS, _PPS = 32, 33, 34
_MESSAGES = (39, 40)


@dataclass(frozen=True, slots=True)
class Heif(Codec):
    """One image: uint8, and uint16 of at most 12 significant bits; gray and RGB.

    Parameters
    ----------
    quality : int or None
        0 (small) to 100, as x265 understands it; lossy. None is lossless.
    """

    name: ClassVar[str] = "heif"
    id: ClassVar[int] = 7
    max_slices: ClassVar[int | None] = 1

    quality: int | None = None

    def __post_init__(self) -> None:
        if self.quality is not None:
            fields.integer("heif: quality", self.quality, 0, 100)

    @property
    @override
    def fidelity(self) -> Fidelity:
        return Fidelity.LOSSLESS if self.quality is None else Fidelity.LOSSY

    @property
    @override
    def loss_is_relative(self) -> bool:
        return self.quality is not None

    @property
    @override
    def deterministic(self) -> bool:
        return True  # HEVC decodes in integers

    @override
    @classmethod
    def probe(cls) -> str | None:
        return native.find_missing("pillow_heif", "heif")

    @override
    @classmethod
    def implementation(cls) -> str:
        library = native.load("pillow_heif", "heif")
        return f"pillow-heif {library.__version__}"

    @classmethod
    def ladder(cls, _: Values, /) -> list[Self]:
        """Return all qualities, from 100."""
        return [cls(quality) for quality in range(100, -1, -1)]

    @override
    def refuses(self, spec: ChunkSpec) -> str | None:
        if spec.dtype not in {np.dtype("u1"), np.dtype("<u2")} or spec.samples == 4:
            return f"heif takes uint8 and uint16, gray or RGB, not {spec.voxel}"
        if _depth(spec) is None:
            return f"heif takes up to 12 significant bits, not {spec.bits}: window them first"
        return None

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        library = native.load("pillow_heif", "heif")
        depth = _depth(spec)
        if depth is None or int(chunk.max()) >> depth:  # the library would round in silence
            raise CodecError(f"heif: voxels exceed the {spec.bits} significant bits of the source")
        gray = spec.samples == 1
        image = io.BytesIO()
        library.encode(
            ("L" if gray else "RGB") + ("" if depth == 8 else f";{depth}"),
            (spec.shape[2], spec.shape[1]),
            chunk.tobytes(),
            image,
            quality=-1 if self.quality is None else self.quality,
            chroma=444,
            bit_depth=depth,
            **({} if gray else {"matrix_coefficients": 0}),  # RGB stays RGB
        )
        return image.getvalue()

    @override
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        library = native.load("pillow_heif", "heif")
        view = memoryview(payload).cast("B")
        try:
            _check(view, spec)
        except struct.error as exc:
            raise DecodeError("heif: the file is cut short", "CHK-8") from exc
        try:
            image = library.open_heif(bytes(view), convert_hdr_to_8bit=False, hdr_to_16bit=False)
            plane: NDArray[Any] = np.asarray(image)
        except (ValueError, EOFError, LookupError, SyntaxError, RuntimeError, OSError) as exc:
            raise DecodeError(f"heif: {exc}", "CHK-8") from exc
        return native.as_chunk(plane, spec, self.name)


def _depth(spec: ChunkSpec) -> int | None:
    """Return the precision that holds the significant bits, if HEVC has one."""
    if spec.dtype.itemsize == 1:
        return 8
    return next((depth for depth in (10, 12) if spec.bits <= depth), None)


def _check(view: memoryview, spec: ChunkSpec) -> None:
    """Refuse a file that is not one coded image of the size and depth of `spec`.

    Boxes are those that libheif writes for such an image, each once. The size that counts for
    the decoder is that in the HEVC sequence parameters, which must come before the data alone.
    """
    top = _boxes(view, {b"ftyp", b"meta", b"mdat"})
    meta = _boxes(top[b"meta"][4:], {b"hdlr", b"iloc", b"iinf", b"pitm", b"iprp"})
    if bytes(meta[b"iinf"][:6]) != b"\0\0\0\0\0\1" or bytes(meta[b"iinf"][22:26]) != b"hvc1":
        raise DecodeError("heif: not one HEVC image", "CHK-8")
    iprp = _boxes(meta[b"iprp"], {b"ipco", b"ipma"})
    properties = _boxes(iprp[b"ipco"], {b"hvcC", b"colr", b"ispe", b"pixi"}, optional=b"clap")
    rows, columns = _check_size(properties, spec)
    if bytes(properties[b"pixi"][4:]) != bytes([spec.samples] + [_depth(spec) or 0] * spec.samples):
        raise DecodeError("heif: samples are not those of the chunk", "CHK-8")
    _check_colour(properties[b"colr"], spec)
    _check_item(meta, iprp[b"ipma"], len(properties))
    sets = _parameter_sets(properties[b"hvcC"])
    picture = hevc.Picture(rows, columns, spec.samples, _depth(spec) or 0)
    hevc.check(*sets, _slice(top[b"mdat"]), picture)
    location = _location(meta[b"iloc"])
    if location != (len(view) - len(top[b"mdat"]), len(top[b"mdat"])):
        raise DecodeError("heif: the image is not the media data", "CHK-8")


def _check_colour(colr: memoryview, spec: ChunkSpec) -> None:
    """Check that samples are those of the voxels: of full range, RGB as it is."""
    kind, _, _, matrix, span = struct.unpack_from(">4sHHHB", colr)
    if kind != b"nclx" or span >> 7 != 1 or (spec.samples == 3 and matrix):
        raise DecodeError("heif: samples are not those of the voxels, or have a profile", "CHK-8")


def _check_item(meta: dict[bytes, memoryview], ipma: memoryview, properties: int) -> None:
    """Check that all boxes are of the one item, and that it has every property once."""
    (item,) = struct.unpack_from(">H", meta[b"pitm"], 4)
    (listed,) = struct.unpack_from(">H", meta[b"iinf"], 18)
    (placed,) = struct.unpack_from(">H", meta[b"iloc"], 8)
    count, owner, has = struct.unpack_from(">IHB", ipma, 4)
    if bytes(ipma[:4]) != bytes(4) or count != 1 or {listed, placed, owner} != {item}:
        raise DecodeError("heif: boxes are not of one item", "CHK-8")
    numbers = sorted(byte & 127 for byte in ipma[11:])
    if has != properties or numbers != list(range(1, properties + 1)):
        raise DecodeError("heif: the item has not the properties that there are", "CHK-8")


def _check_size(properties: dict[bytes, memoryview], spec: ChunkSpec) -> tuple[int, int]:
    """Check that the image has the size of `spec`, and return the rows and columns it codes.

    An image of less than 64 rows or columns is coded larger, and cropped to its first ones.
    """
    _, columns, rows = struct.unpack_from(">III", properties[b"ispe"])
    size = rows, columns
    if b"clap" in properties:
        *extents, x, x2, y, y2 = struct.unpack_from(">4I iI iI", properties[b"clap"])
        size = extents[2], extents[0]
        first = (x, x2, y, y2) == (size[1] - columns, 2, size[0] - rows, 2)
        if (extents[1], extents[3]) != (1, 1) or not first or max(rows, columns) > 2**31:
            raise DecodeError("heif: the image is not cropped to its first voxels", "CHK-8")
    if size != spec.shape[1:3] or rows >= size[0] + 64 or columns >= size[1] + 64:
        raise DecodeError(f"heif: image of {size}, not {spec.shape[1:3]}", "CHK-8")
    return rows, columns


def _boxes(
    view: memoryview, kinds: set[bytes], *, optional: bytes = b""
) -> dict[bytes, memoryview]:
    """Return the contents of the boxes in `view`: those of `kinds`, each once."""
    found: dict[bytes, memoryview] = {}
    at = 0
    while at < len(view):
        size, kind = struct.unpack_from(">I4s", view, at)
        if size < 8 or at + size > len(view) or kind not in ({*kinds, optional} - set(found)):
            raise DecodeError(f"heif: box {kind!r} of {size} bytes is not allowed", "CHK-8")
        found[kind] = view[at + 8 : at + size]
        at += size
    if not kinds <= set(found):
        raise DecodeError(f"heif: boxes are {sorted(found)}, not {sorted(kinds)}", "CHK-8")
    return found


def _location(iloc: memoryview) -> tuple[int, int]:
    """Return offset and size of the only extent of the only item."""
    version, sizes, bases, items = struct.unpack_from(">IBBH", iloc)
    if (version, sizes, bases, items) != (0, 0x44, 0x40, 1) or len(iloc) != 26:
        raise DecodeError("heif: the image is not in one place", "CHK-8")
    _item, _reference, base, extents, offset, size = struct.unpack_from(">HHIHII", iloc, 8)
    if extents != 1:
        raise DecodeError("heif: the image is not in one place", "CHK-8")
    return base + offset, size


def _parameter_sets(hvcc: memoryview) -> tuple[bytes, bytes, bytes]:
    """Return the video, the sequence and the picture parameter set, of which there is one each."""
    if len(hvcc) < 23:
        raise DecodeError("heif: parameter sets are cut short", "CHK-8")
    at, units = 23, {}
    for _ in range(hvcc[22]):
        _kind, count, size = struct.unpack_from(">BHH", hvcc, at)
        unit = hvcc[at + 5 : at + 5 + size]
        at += 5 + size
        if count != 1 or len(unit) != size or size < 2 or _kind_of(unit) in units:
            raise DecodeError("heif: not one parameter set of each kind", "CHK-8")
        units[_kind_of(unit)] = bytes(unit[2:])
    if sorted(units) != [_VPS, _SPS, _PPS] or at != len(hvcc):
        raise DecodeError(f"heif: parameter sets are of the types {sorted(units)}", "CHK-8")
    return units[_VPS], units[_SPS], units[_PPS]


def _kind_of(unit: memoryview) -> int:
    """Return the type of a unit, which must be of the only layer there is."""
    if unit[0] & 0x81 or unit[1] != 1:
        raise DecodeError("heif: more than one layer", "CHK-8")
    return unit[0] >> 1


def _slice(mdat: memoryview) -> bytes:
    """Return the slice that is the picture; beside it there may be messages."""
    at, found = 0, []
    while at < len(mdat):
        (size,) = struct.unpack_from(">I", mdat, at)
        unit = mdat[at + 4 : at + 4 + size]
        if len(unit) != size or size < 3:
            raise DecodeError("heif: the image data are cut short", "CHK-8")
        at += 4 + size
        kind = _kind_of(unit)
        if kind not in (*hevc.IDR, *_MESSAGES):
            raise DecodeError("heif: more than slices among the image data", "CHK-8")
        if kind in hevc.IDR:
            found.append(unit[2:])
    if len(found) != 1:
        raise DecodeError(f"heif: {len(found)} slices, not the one of a picture", "CHK-8")
    return bytes(found[0])
