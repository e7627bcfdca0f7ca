"""JPEG XL (ISO/IEC 18181-1): the smallest planes that a standard offers, floats included."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs import fields, native
from mroi.codecs.base import ChunkSpec, Fidelity, Values
from mroi.codecs.jpeg.precision import significant_bits
from mroi.errors import CodecError, DecodeError

__all__ = ["JpegXl"]


@dataclass(frozen=True, slots=True)
class JpegXl(native.ImagecodecsCodec):
    """One bare codestream: uint8, uint16 and float32; gray and RGB.

    Parameters
    ----------
    distance : float
        0 is lossless. Otherwise the distance that libjxl aims at, in just noticeable differences
        on a display that shows the type's whole range, up to 25; integers only.
    effort : int
        1 (fast) to 9 (small).
    """

    name: ClassVar[str] = "jpegxl"
    id: ClassVar[int] = 8
    feature: ClassVar[str] = "JPEGXL"
    max_slices: ClassVar[int | None] = 1
    encoder_only: ClassVar[tuple[str, ...]] = ("effort",)

    distance: float = 0.0
    effort: int = 5

    def __post_init__(self) -> None:
        fields.number("jpegxl: distance", self.distance, 0, 25)
        fields.integer("jpegxl: effort", self.effort, 1, 9)

    @property
    @override
    def fidelity(self) -> Fidelity:
        return Fidelity.LOSSY if self.distance else Fidelity.LOSSLESS

    @property
    @override
    def loss_is_relative(self) -> bool:
        return self.distance > 0

    @classmethod
    def ladder(cls, _: Values, /) -> list[Self]:
        """Return distances from 0.05 to 23.4, each a twentieth larger than the one before."""
        return [cls(0.05 * 1.05**k) for k in range(127)]

    @override
    def refuses(self, spec: ChunkSpec) -> str | None:
        if spec.dtype not in _TYPES or spec.samples == 4:
            return f"jpegxl takes uint8, uint16 and float32, gray or RGB, not {spec.voxel}"
        if self.distance and spec.dtype.kind == "f":
            return "jpegxl takes uint8 and uint16 with a distance, not float32"
        return None

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        library = native.imagecodecs(self.feature)
        image: bytes = library.jpegxl_encode(
            chunk[0],
            effort=self.effort,
            distance=self.distance or None,
            lossless=not self.distance,
            bitspersample=significant_bits(chunk, spec) if spec.dtype.kind == "u" else None,
            photometric="rgb" if spec.samples == 3 else "gray",
            usecontainer=False,
            numthreads=1,
        )
        payload = _bare(image)
        try:
            _check(memoryview(payload), spec)
        except DecodeError as exc:
            raise CodecError(f"{exc.message}; try another effort") from exc
        return payload

    @override
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        library = native.imagecodecs(self.feature)
        view = memoryview(payload).cast("B")
        _check(view, spec)
        try:
            plane: NDArray[Any] = library.jpegxl_decode(view, keeporientation=True, numthreads=1)
        except (library.JpegxlError, ValueError, RuntimeError) as exc:
            raise DecodeError(f"jpegxl: {exc}", "CHK-8") from exc
        return native.as_chunk(plane, spec, self.name)


_TYPES = (np.dtype("u1"), np.dtype("<u2"), np.dtype("<f4"))


def _bare(image: bytes) -> bytes:
    """Return the codestream of a file; libjxl adds a container where more than 12 bits are used."""
    if image[:2] == b"\xff\x0a":
        return image
    at = 0
    while at < len(image):
        size, kind = struct.unpack_from(">I4s", image, at)
        if kind == b"jxlc":
            return image[at + 8 : at + size] if size else image[at + 8 :]
        at += size
    raise CodecError("jpegxl: libjxl wrote a container without exactly one codestream")


def jpegxl_size(image: bytes) -> tuple[int, int] | None:
    """Return the columns and rows of a JPEG XL file or codestream, None if it is none."""
    at = 0
    while image[at : at + 2] != b"\xff\x0a":
        if at + 8 > len(image):
            return None
        size, kind = struct.unpack_from(">I4s", image, at)
        if kind in (b"jxlc", b"jxlp"):  # a part of one starts with its number
            at += 8 + 4 * (kind == b"jxlp")
        elif size < 8:
            return None
        else:
            at += size
    try:
        rows, columns = _size(_Bits(memoryview(image)[at + 2 :]))
    except DecodeError:
        return None
    return columns, rows


class _Bits:
    """Reads the fields of headers, lowest bit first."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = 0

    def u(self, count: int) -> int:
        start, stop = self._at, self._at + count
        if stop > 8 * len(self._view):
            raise DecodeError("jpegxl: headers are cut short", "CHK-8")
        self._at = stop
        value = int.from_bytes(self._view[start // 8 : (stop + 7) // 8], "little")
        return value >> start % 8 & (1 << count) - 1

    def u32(self, *choices: tuple[int, int]) -> int:
        """One of four (offset, bits) chosen by two bits."""
        offset, bits = choices[self.u(2)]
        return offset + self.u(bits)

    def enum(self) -> int:
        return self.u32((0, 0), (1, 0), (2, 4), (18, 6))

    def u64(self) -> int:
        match self.u(2):
            case 0:
                return 0
            case 1:
                return 1 + self.u(4)
            case 2:
                return 17 + self.u(8)
            case _:
                raise DecodeError("jpegxl: a header field is out of range", "CHK-8")

    def pad(self) -> None:
        self.u(-self._at % 8)

    @property
    def rest(self) -> int:
        """Whole bytes that were not read yet."""
        return len(self._view) - (self._at + 7) // 8


def _check(view: memoryview, spec: ChunkSpec) -> None:
    """Refuse a codestream that is not one frame of exactly one plane of `spec`.

    Frames may be larger than the image and reference others, so the header of the first frame
    is read too: it must be the only one, and cover the image.
    """
    if bytes(view[:2]) != b"\xff\x0a":
        raise DecodeError("jpegxl: payload is not a bare codestream", "CHK-8")
    bits = _Bits(view[2:])
    rows, columns = _size(bits)
    if (rows, columns) != spec.shape[1:3]:
        raise DecodeError(f"jpegxl: image of {rows} x {columns}, not {spec.shape[1:3]}", "CHK-8")
    xyb = _check_metadata(bits, spec)
    default_transform = bits.u(1)
    if not default_transform:
        raise DecodeError("jpegxl: custom transforms are not allowed", "CHK-8")
    bits.pad()
    group = _check_frame(bits, xyb=xyb)
    _check_sections(bits, rows, columns, group)


def _size(bits: _Bits) -> tuple[int, int]:
    extents = ((1, 9), (1, 13), (1, 18), (1, 30))
    small = bits.u(1)
    rows = 8 * (bits.u(5) + 1) if small else bits.u32(*extents)
    ratio = bits.u(3)
    if ratio:
        top, bottom = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
        return rows, rows * top // bottom
    return rows, 8 * (bits.u(5) + 1) if small else bits.u32(*extents)


def _check_metadata(bits: _Bits, spec: ChunkSpec) -> bool:
    """Check the image metadata; return whether voxels went through the XYB colour space."""
    if bits.u(1):  # all default: 8-bit RGB through XYB
        if spec.dtype.itemsize != 1 or spec.samples != 3:
            raise DecodeError("jpegxl: samples are not those of the chunk", "CHK-8")
        return True
    extra = bits.u(1)
    if extra and bits.u(6):  # orientation, intrinsic size, preview, animation
        raise DecodeError("jpegxl: preview, animation or orientation", "CHK-8")
    _check_depth(bits, spec)
    _modular_16bit = bits.u(1)
    if bits.u32((0, 0), (1, 0), (2, 4), (1, 12)):
        raise DecodeError("jpegxl: extra channels are not allowed", "CHK-8")
    xyb = bits.u(1)
    _check_colour(bits, spec)
    if extra and not bits.u(1):  # tone mapping
        bits.u(16 + 16 + 1 + 16)
    if bits.u64():
        raise DecodeError("jpegxl: extensions are not allowed", "CHK-8")
    return bool(xyb)


def _check_depth(bits: _Bits, spec: ChunkSpec) -> None:
    floats = bits.u(1)
    depth = bits.u32((32, 0), (16, 0), (24, 0), (1, 6)) if floats else _integer_depth(bits)
    exponent = bits.u(4) + 1 if floats else 0
    width = 8 * spec.dtype.itemsize
    expected = (depth, exponent) == (32, 8) if floats else width - 8 < depth <= width
    if bool(floats) != (spec.dtype.kind == "f") or not expected:
        raise DecodeError("jpegxl: samples are not those of the chunk", "CHK-8")


def _integer_depth(bits: _Bits) -> int:
    return bits.u32((8, 0), (10, 0), (12, 0), (1, 6))


def _check_colour(bits: _Bits, spec: ChunkSpec) -> None:
    """Check the colour encoding: gray or RGB as the chunk is, without an ICC profile."""
    space = 0
    if not bits.u(1):
        if bits.u(1):
            raise DecodeError("jpegxl: ICC profiles are not allowed", "CHK-8")
        space = bits.enum()
        if space not in {0, 1} or bits.enum() == 2:  # white point
            raise DecodeError("jpegxl: colour space is not gray or RGB", "CHK-8")
        if space == 0 and bits.enum() == 2:  # primaries
            raise DecodeError("jpegxl: custom primaries are not allowed", "CHK-8")
        if bits.u(1):
            bits.u(24)  # gamma
        else:
            bits.enum()  # transfer function
        bits.enum()  # rendering intent
    if (space == 1) != (spec.samples == 1):
        raise DecodeError("jpegxl: colour space is not that of the chunk", "CHK-8")


def _check_frame(bits: _Bits, *, xyb: bool) -> int:
    """Check the frame header: a regular frame, the last one, that covers the image.

    Return rows and columns of a group, in pixels of the image.
    """
    if bits.u(1):  # all default
        return 256
    kind, modular, flags = bits.u(2), bits.u(1), bits.u64()
    if kind or flags & ~0x81:  # but for noise and the smoothing of DC: patches, splines, DC frames
        raise DecodeError("jpegxl: only a regular frame is allowed", "CHK-8")
    if not xyb and bits.u(1):
        raise DecodeError("jpegxl: YCbCr is not allowed", "CHK-8")
    upsampling = 1 << bits.u(2)
    group = 128 << bits.u(2) if modular else 256
    if xyb and not modular:
        bits.u(6)
    if bits.u32((1, 0), (2, 0), (3, 0), (4, 3)) > 1:  # all coefficients would wait for the last
        raise DecodeError("jpegxl: more than one pass", "CHK-8")
    crop, blending = bits.u(1), bits.u(2)
    last = bits.u(1)
    if crop or blending or not last:
        raise DecodeError("jpegxl: more than one frame, or one of another size", "CHK-8")
    if bits.u(2):
        raise DecodeError("jpegxl: a frame with a name", "CHK-8")
    _check_filter(bits, modular=bool(modular))
    if bits.u64():
        raise DecodeError("jpegxl: extensions are not allowed", "CHK-8")
    return group * upsampling


def _check_filter(bits: _Bits, *, modular: bool) -> None:
    """Check the parameters of the restoration filter: any but extensions."""
    if bits.u(1):  # all default
        return
    if bits.u(1) and bits.u(1):  # Gabor-like, its weights
        bits.u(6 * 16)
    if bits.u(2):  # edge-preserving
        if not modular and bits.u(1):
            bits.u(8 * 16)
        if bits.u(1):
            bits.u(5 * 16)
        if bits.u(1):
            bits.u((3 if modular else 4) * 16)
        if modular:
            bits.u(16)
    if bits.u64():
        raise DecodeError("jpegxl: extensions are not allowed", "CHK-8")


def _check_sections(bits: _Bits, rows: int, columns: int, group: int) -> None:
    """Check that the sections of the frame, which it lists, end where the payload does.

    Where they are listed in another order, that order is coded before their sizes, and only a
    decoder can tell.
    """
    groups = -(-rows // group) * -(-columns // group)
    slow = -(-rows // (8 * group)) * -(-columns // (8 * group))  # groups of DC
    if bits.u(1):
        return
    bits.pad()
    sizes = ((0, 10), (1024, 14), (17408, 22), (4211712, 30))
    total = sum(bits.u32(*sizes) for _ in range(1 if groups == 1 else 2 + slow + groups))
    bits.pad()
    if total != bits.rest:
        raise DecodeError(f"jpegxl: sections of {total} bytes, not {bits.rest}", "CHK-8")
