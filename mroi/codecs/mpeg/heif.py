"""HEIF with HEVC (ISO/IEC 23008-12): what cameras and phones use, up to 12 bits."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs import fields, native
from mroi.codecs.base import ChunkSpec, Codec, Fidelity
from mroi.errors import CodecError, DecodeError

__all__ = ["Heif"]

# Types of units (ITU-T H.265, table 7-1).
_VPS, _SPS, _PPS = 32, 33, 34
_INTRA = range(16, 22)
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

    @override
    @classmethod
    def probe(cls) -> str | None:
        return native.find_missing("pillow_heif", "heif")

    @override
    @classmethod
    def implementation(cls) -> str:
        library = native.load("pillow_heif", "heif")
        return f"pillow-heif {library.__version__}"

    @override
    def refuses(self, spec: ChunkSpec) -> str | None:
        if spec.dtype not in {np.dtype("u1"), np.dtype("<u2")} or spec.samples == 4:
            return (
                f"heif takes uint8 and uint16; gray, RGB; "
                f"not {spec.dtype} with {spec.samples} samples a voxel"
            )
        if _depth(spec) is None:
            return f"heif takes up to 12 significant bits, not {spec.bits}: window them first"
        return Codec.refuses(self, spec)

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        library = native.load("pillow_heif", "heif")
        depth = _depth(spec)
        if depth is None or int(chunk.max()) >> depth:  # the library would round in silence
            raise CodecError(f"heif: a voxel has more than the {spec.bits} bits it should have")
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
        if plane.shape != spec.shape[1:] or plane.dtype != spec.dtype:
            raise DecodeError(f"heif: {plane.dtype} {plane.shape} came out", "CHK-8")
        return plane[None]


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
    if bytes(properties[b"colr"][:4]) != b"nclx":
        raise DecodeError("heif: ICC profiles are not allowed", "CHK-8")
    _check_parameters(properties[b"hvcC"], rows, columns, spec)
    _check_data(top[b"mdat"])
    location = _location(meta[b"iloc"])
    if location != (len(view) - len(top[b"mdat"]), len(top[b"mdat"])):
        raise DecodeError("heif: the image is not the media data", "CHK-8")


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


def _check_parameters(hvcc: memoryview, rows: int, columns: int, spec: ChunkSpec) -> None:
    """Check that there is one set of each kind, and that the sequence is that of the image."""
    if len(hvcc) < 23:
        raise DecodeError("heif: parameter sets are cut short", "CHK-8")
    at, kinds = 23, []
    for _ in range(hvcc[22]):
        _kind, count, size = struct.unpack_from(">BHH", hvcc, at)
        unit = hvcc[at + 5 : at + 5 + size]
        at += 5 + size
        if count != 1 or len(unit) != size or size < 2:
            raise DecodeError("heif: not one parameter set of each kind", "CHK-8")
        kinds.append(_kind_of(unit))
        if kinds[-1] == _SPS:
            _check_sequence(bytes(unit[2:]), rows, columns, spec)
    if sorted(kinds) != [_VPS, _SPS, _PPS] or at != len(hvcc):
        raise DecodeError(f"heif: parameter sets are of the types {kinds}", "CHK-8")


def _kind_of(unit: memoryview) -> int:
    """Return the type of a unit, which must be of the only layer there is."""
    if unit[0] & 0x81 or unit[1] != 1:
        raise DecodeError("heif: more than one layer", "CHK-8")
    return unit[0] >> 1


def _check_sequence(unit: bytes, rows: int, columns: int, spec: ChunkSpec) -> None:
    """Check a sequence parameter set (ITU-T H.265, 7.3.2.2) as far as memory depends on it."""
    bits = _bits(unit.replace(b"\0\0\3", b"\0\0"))

    def u(count: int) -> int:
        value = 0
        for _ in range(count):
            value = 2 * value + next(bits, 0)
        return value

    def ue() -> int:
        zeros = 0
        while zeros < 32 and not u(1):
            zeros += 1
        return (1 << zeros) - 1 + u(zeros)

    u(4)  # VPS
    if u(3):
        raise DecodeError("heif: temporal layers are not allowed", "CHK-8")
    u(1 + 88 + 8)  # nesting, general profile, level
    ue()  # SPS
    chroma = ue()
    if chroma == 3:
        u(1)  # planes coded as pictures of their own
    width, height = ue(), ue()
    if u(1):
        for _ in range(4):
            ue()  # conformance window
    depths = ue() + 8, ue() + 8
    if not (columns <= width < columns + 64 and rows <= height < rows + 64):
        raise DecodeError(f"heif: codes {height} x {width} samples", "CHK-8")
    if chroma != (0 if spec.samples == 1 else 3) or set(depths) != {_depth(spec)}:
        raise DecodeError(f"heif: codes samples of {depths} bits, chroma {chroma}", "CHK-8")


def _bits(data: bytes) -> Iterator[int]:
    return (byte >> shift & 1 for byte in data for shift in range(7, -1, -1))


def _check_data(mdat: memoryview) -> None:
    """Check that the data are the slices of one picture, and messages."""
    at = 0
    picture: int | None = None
    while at < len(mdat):
        (size,) = struct.unpack_from(">I", mdat, at)
        unit = mdat[at + 4 : at + 4 + size]
        if len(unit) != size or size < 3:
            raise DecodeError("heif: the image data are cut short", "CHK-8")
        at += 4 + size
        kind = _kind_of(unit)
        if kind in _MESSAGES:
            continue
        if kind not in _INTRA:
            raise DecodeError("heif: more than slices among the image data", "CHK-8")
        is_first = unit[2] >> 7
        if is_first != (picture is None) or kind != (picture or kind):
            raise DecodeError("heif: not the slices of one picture", "CHK-8")
        picture = kind
    if picture is None:
        raise DecodeError("heif: no picture in the image data", "CHK-8")
