"""Decodes compressed pixels: pydicom reads the fragments, imagecodecs decodes them.

The decoder is named in every call, so what else is installed for pydicom is never asked. This
module is such a plug-in for pydicom: `is_available`, `DECODER_DEPENDENCIES` and `decode_frame`.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mroi.adapters.dicom.part10 import parse_stream
from mroi.codecs.jpeg.jpegxl import jpegxl_size
from mroi.errors import SourceError

__all__ = ["DECODER_DEPENDENCIES", "decode_frame", "is_available", "iter_frames"]

LABEL = "mroi-imagecodecs"
_JPEG = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"}
_JPEG_LOSSLESS = {"1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"}
_JPEG_LS = {"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"}
_JPEG_2000 = {f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203)}
_JPEG_XL = {f"1.2.840.10008.1.2.4.{n}" for n in (110, 111, 112)}
_RLE = "1.2.840.10008.1.2.5"

DECODER_DEPENDENCIES = dict.fromkeys(
    (*_JPEG, *_JPEG_LOSSLESS, *_JPEG_LS, *_JPEG_2000), ("numpy", "imagecodecs")
)


def is_available(uid: str) -> bool:
    """Whether imagecodecs is there to decode a transfer syntax."""
    try:
        import imagecodecs
    except ImportError:
        return False
    if uid in _JPEG_2000:
        return bool(imagecodecs.JPEG2K.available)
    if uid in _JPEG_LS:
        return bool(imagecodecs.JPEGLS.available)
    if uid in _JPEG_XL:
        return bool(imagecodecs.JPEGXL.available)
    return uid in DECODER_DEPENDENCIES and bool(imagecodecs.JPEG.available)


def _register(uid: str) -> None:
    from pydicom.pixels.decoders.base import get_decoder

    decoder = get_decoder(uid)
    if LABEL not in decoder.available_plugins:
        decoder.add_plugin(LABEL, (__name__, "decode_frame"))


def iter_frames(
    stream: BinaryIO, syntax: str, numbers: Sequence[int], name: str
) -> Generator[NDArray[Any]]:
    """Yield frames of an encapsulated file, colours as RGB.

    Parameters
    ----------
    stream : binary file
        The file, seekable.
    syntax : str
        Transfer syntax UID.
    numbers : sequence of int
        Of the frames, from 0.
    name : str
        For messages.

    Raises
    ------
    SourceError
        If there is no decoder, or the frames cannot be decoded.
    """
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import as_pixel_options

    if syntax != _RLE:
        if syntax not in DECODER_DEPENDENCIES and syntax not in _JPEG_XL:
            raise SourceError(f"{name}: transfer syntax {syntax} is not supported")
        if not is_available(syntax):
            raise SourceError(f"{name}: transfer syntax {syntax} needs imagecodecs (mroi[dicom])")
    # The header is read here, not by pydicom's iter_pixels: that takes it for explicit VR, which
    # it has to be in these syntaxes, but is not always.
    dataset, element = parse_stream(stream)
    assert element is not None
    options = as_pixel_options(dataset, pixel_keyword=element.keyword)
    stream.seek(element.start)
    if syntax in _JPEG_XL:
        yield from _jpeg_xl_frames(stream, numbers, options)
        return
    if syntax != _RLE:
        _register(syntax)
    decoder = get_decoder(syntax)
    yield from (
        frame
        for frame, _ in decoder.iter_array(
            stream,
            indices=list(numbers),
            decoding_plugin="pydicom" if syntax == _RLE else LABEL,
            correct_unused_bits=syntax != _RLE,  # which alone keeps what is above Bits Stored
            **options,
        )
    )


def _jpeg_xl_frames(
    stream: BinaryIO, numbers: Sequence[int], options: dict[str, Any]
) -> Iterator[NDArray[Any]]:
    """Yield frames in JPEG XL, which pydicom has no decoder for."""
    import imagecodecs
    from pydicom.encaps import get_frame

    start = stream.tell()
    size = int(options["columns"]), int(options["rows"])
    for number in numbers:
        stream.seek(start)
        src = get_frame(
            stream,
            number,
            number_of_frames=options["number_of_frames"],
            extended_offsets=options.get("extended_offsets"),
        )
        found = jpegxl_size(src)
        if found != size:  # a codestream may promise more than memory can hold
            raise SourceError(f"codestream has {found} pixels; the header states {size}")
        yield imagecodecs.jpegxl_decode(src, numthreads=1)


def decode_frame(src: bytes, runner: Any) -> bytearray:
    """Return the samples of one frame; pydicom calls this.

    Parameters
    ----------
    src : bytes
        A codestream.
    runner : pydicom.pixels.decoders.base.DecodeRunner
        Knows the shape, and is told how the result is laid out.
    """
    import imagecodecs

    uid = str(runner.transfer_syntax)
    size = _size(src)
    expected = runner.columns, runner.rows
    if size is None or size != expected:  # a codestream may promise more than memory can hold
        raise SourceError(f"codestream has {size} pixels; the header states {expected}")
    if uid in _JPEG_2000:
        image = imagecodecs.jpeg2k_decode(src)
    elif uid in _JPEG_LS:
        image = imagecodecs.jpegls_decode(src)
    elif uid in _JPEG_LOSSLESS and runner.samples_per_pixel == 1:
        image = imagecodecs.ljpeg_decode(src)
    else:
        # Without Adobe's marker a decoder takes three components for YCbCr; the header knows.
        as_is = runner.photometric_interpretation == "RGB" and not _has_adobe_marker(src)
        image = imagecodecs.jpeg8_decode(src, colorspace="RGB" if as_is else None)
    if image.ndim == 3:
        runner.set_option("planar_configuration", 0)
        if uid in _JPEG or uid in _JPEG_2000:
            runner.set_option("photometric_interpretation", "RGB")
    bits = image.dtype.itemsize * 8
    runner.set_option("bits_allocated", bits)
    return bytearray(np.ascontiguousarray(image, image.dtype.newbyteorder("<")).data.cast("B"))


def _has_adobe_marker(src: bytes) -> bool:
    """Whether there is Adobe's marker, whole: libjpeg does not look at one that is cut short."""
    return any(
        marker == 0xEE
        and src[at + 4 : at + 9] == b"Adobe"
        and int.from_bytes(src[at + 2 : at + 4], "big") >= 14
        for marker, at in _markers(src)
    )


def _markers(src: bytes) -> Iterator[tuple[int, int]]:
    """Yield the markers of a JPEG or JPEG-LS codestream and their offsets, up to its frame."""
    offset = 2
    while offset + 9 <= len(src) and src[offset] == 0xFF:
        yield src[offset + 1], offset
        length = int.from_bytes(src[offset + 2 : offset + 4], "big")
        offset += 1 if src[offset + 1] == 0xFF else 2 + length


def _size(src: bytes) -> tuple[int, int] | None:
    """Return the columns and rows that a codestream promises, or None."""
    at = src.find(b"\xff\x4f\xff\x51")  # JPEG 2000: SOC and SIZ, perhaps in a box
    if at >= 0 and not src.startswith(b"\xff\xd8"):
        fields = src[at + 8 : at + 24]
        if len(fields) < 16:
            return None
        x1, y1, x0, y0 = struct.unpack(">4I", fields)
        return x1 - x0, y1 - y0
    for marker, offset in _markers(src):
        if marker in {0xC0, 0xC1, 0xC2, 0xC3, 0xF7}:
            rows, columns = struct.unpack_from(">2H", src, offset + 5)
            return columns, rows
    return None
