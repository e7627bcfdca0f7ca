"""JPEG-LS (ITU-T T.87): lossless, or near-lossless with an error that is never exceeded."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from numpy.typing import NDArray
from typing_extensions import Buffer, override

from mroi.codecs import fields, native
from mroi.codecs.base import ChunkSpec, Fidelity, Values
from mroi.errors import DecodeError

__all__ = ["JpegLs"]

_MOST_NEAR = 127

_SOI, _SOS = 0xFFD8, 0xFFDA
_SOF55, _LSE, _COM = 0xFFF7, 0xFFF8, 0xFFFE
_PRESETS = struct.Struct(">B5H")


@dataclass(frozen=True, slots=True)
class JpegLs(native.ImagecodecsCodec):
    """One image: unsigned integers of 8 and 16 bits, gray, RGB and RGBA.

    Parameters
    ----------
    near : int
        Largest difference, in units of the voxels, of any voxel from what was encoded;
        0 is lossless.
    """

    name: ClassVar[str] = "jpegls"
    id: ClassVar[int] = 6
    feature: ClassVar[str] = "JPEGLS"
    max_slices: ClassVar[int | None] = 1

    near: int = 0

    def __post_init__(self) -> None:
        fields.integer("jpegls: near", self.near, 0, _MOST_NEAR)

    @property
    @override
    def fidelity(self) -> Fidelity:
        return Fidelity.BOUNDED if self.near else Fidelity.LOSSLESS

    @classmethod
    def ladder(cls, _: Values, /) -> list[Self]:
        """Return all errors, from none."""
        return [cls(near) for near in range(_MOST_NEAR + 1)]

    @override
    def refuses(self, spec: ChunkSpec) -> str | None:
        if spec.dtype.kind != "u" or spec.dtype.itemsize > 2:
            return f"jpegls takes unsigned integers of 8 and 16 bits, not {spec.dtype}"
        if max(spec.shape[1:3]) > 0xFFFF:
            return f"jpegls takes up to 65535 rows and columns, not {spec.shape[1:3]}"
        return None

    @override
    def encode(self, chunk: NDArray[Any], spec: ChunkSpec, /) -> bytes:
        library = native.imagecodecs(self.feature)
        # The default buffer is too small for noise; a code word has up to 4 times the bits.
        image: bytes = library.jpegls_encode(chunk[0], self.near, out=4 * spec.size + 4096)
        start = 2
        while image[start : start + 2] == b"\xff\xe8":  # SPIFF: says nothing, takes 44 bytes
            start += 2 + int.from_bytes(image[start + 2 : start + 4], "big")
        return image[:2] + image[start:]

    @override
    def decode(self, payload: Buffer, spec: ChunkSpec, /) -> NDArray[Any]:
        library = native.imagecodecs(self.feature)
        view = memoryview(payload).cast("B")
        self._check(view, spec)
        try:
            plane: NDArray[Any] = library.jpegls_decode(view)
        except (library.JpeglsError, ValueError) as exc:
            raise DecodeError(f"jpegls: {exc}", "CHK-8") from exc
        return native.as_chunk(plane, spec, self.name)

    def _check(self, view: memoryview, spec: ChunkSpec) -> None:
        """Refuse an image whose headers are not those of one plane of `spec` in one scan."""
        try:
            found, at = _segments(view)
            frame, scan = found[_SOF55], found[_SOS]
            _check_frame(frame, spec)
            near = self._check_scan(scan, frame)
            if _LSE in found:
                _check_presets(found[_LSE], precision=frame[0], near=near)
        except (struct.error, IndexError) as exc:
            raise DecodeError("jpegls: headers are cut short", "CHK-8") from exc
        except KeyError as exc:
            raise DecodeError("jpegls: the frame header is missing", "CHK-8") from exc
        # In the scan, a byte after 0xFF is below 0x80: the first of these is the end.
        if bytes(view).find(b"\xff\xd9", at) != len(view) - 2:
            raise DecodeError("jpegls: the image does not end where the payload does", "CHK-8")

    def _check_scan(self, scan: memoryview, frame: memoryview) -> int:
        """Check SOS: all components at once, in order, and no more loss than was promised.

        Return its NEAR.
        """
        components = frame[5]
        near: int
        near, interleave, transform = struct.unpack_from("BBB", scan, 1 + 2 * components)
        ids = (frame[6 + 3 * k] for k in range(components))
        expected = bytes([components, *(byte for name in ids for byte in (name, 0))])
        if scan[:-3] != expected or near > self.near or transform:
            raise DecodeError("jpegls: the scan is not the one of this chunk", "CHK-8")
        if interleave not in ({0} if components == 1 else {1, 2}):
            raise DecodeError(f"jpegls: interleave mode {interleave} is not allowed", "CHK-8")
        return near


def _segments(view: memoryview) -> tuple[dict[int, memoryview], int]:
    """Return the segments before the scan, but for comments, and the offset of the scan."""
    found: dict[int, memoryview] = {}
    (marker,), at = struct.unpack_from(">H", view), 2
    if marker != _SOI:
        raise DecodeError("jpegls: not a JPEG-LS image", "CHK-8")
    while marker != _SOS:
        marker, length = struct.unpack_from(">HH", view, at)
        segment = view[at + 4 : at + 2 + length]
        if length < 2 or len(segment) != length - 2:
            raise DecodeError("jpegls: a marker segment is cut short", "CHK-8")
        at += 2 + length
        if marker == _COM:
            continue
        if marker not in {_SOF55, _LSE, _SOS} or marker in found:
            raise DecodeError(f"jpegls: marker {marker:#06x} is not allowed here", "CHK-8")
        found[marker] = segment
    return found, at


def _check_presets(segment: memoryview, *, precision: int, near: int) -> None:
    """Check LSE: coding parameters in the ranges of T.87, C.2.4.1.1; 0 is the default value."""
    if len(segment) != _PRESETS.size or segment[0] != 1:
        raise DecodeError("jpegls: LSE holds no coding parameters", "CHK-8")
    _, largest, *thresholds, reset = _PRESETS.unpack(segment)
    largest = largest or 2**precision - 1
    least = near + 1
    for threshold in thresholds:
        if threshold and not least <= threshold <= largest:
            raise DecodeError(f"jpegls: threshold {threshold} is out of range", "CHK-8")
        least = max(least, threshold)
    if largest >= 2**precision or 2 * near > largest:
        raise DecodeError(f"jpegls: MAXVAL of {largest} is out of range", "CHK-8")
    if reset and not 3 <= reset <= max(255, largest):
        raise DecodeError(f"jpegls: RESET of {reset} is out of range", "CHK-8")


def _check_frame(segment: memoryview, spec: ChunkSpec) -> None:
    """Check SOF55: the shape and the precision of the plane, no subsampling."""
    precision, rows, columns, components = struct.unpack_from(">BHHB", segment)
    width = 8 * spec.dtype.itemsize
    if (rows, columns, components) != (*spec.shape[1:3], spec.samples):
        raise DecodeError(f"jpegls: the frame is {rows} x {columns} x {components}", "CHK-8")
    if not width - 8 < precision <= width or len(segment) != 6 + 3 * components:
        raise DecodeError(f"jpegls: {precision} bits, not up to {width}", "CHK-8")
    if any(segment[7 + 3 * k] != 0x11 for k in range(components)):
        raise DecodeError("jpegls: components are subsampled", "CHK-8")
