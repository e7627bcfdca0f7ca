"""DICOM Part 10 files without their pixels, and the pixels put back.

A *head* is a Part 10 file from which the bytes of the pixels were cut: everything else, the
header of the PixelData element and what follows its value included, is kept bit for bit. For
uncompressed transfer syntaxes a head and its frames give the very same file back.

Records of heads are what the frame ``dCMh`` holds: for every instance one record with the number
of the slice that its first frame became, and for every further frame of it, in the order of the
frames, an empty record with the number of that slice. Slices are numbered along the stack, and
volume after volume where there are several.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from mroi.adapters.dicom.stored import Form, form_of
from mroi.errors import FormatError, SourceError
from mroi.format.metadata import build_records, parse_records

__all__ = [
    "DEFLATED",
    "Head",
    "PixelElement",
    "build_head",
    "build_heads",
    "build_instance",
    "byte_order",
    "deflated",
    "deflated_from",
    "inflated",
    "join_tiles",
    "parse_head",
    "parse_heads",
    "parse_stream",
    "read_header",
    "refusing",
    "split_tiles",
    "strip_pixels",
]

DEFLATED = "1.2.840.10008.1.2.1.99"

_PIXEL_TAGS = {
    0x7FE00010: "PixelData",
    0x7FE00008: "FloatPixelData",
    0x7FE00009: "DoubleFloatPixelData",
}
_LONG_VRS = {b"OB", b"OW", b"OF", b"SQ", b"UT", b"UN"}
META_SIZE = 1 << 16
"""Bytes of meta information that are looked at."""
_ITEM = 0xFFFEE000
_DELIMITER = 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class PixelElement:
    """Where the value of the pixel data element lies in a file.

    Attributes
    ----------
    keyword : str
        ``PixelData``, ``FloatPixelData`` or ``DoubleFloatPixelData``.
    vr : str or None
        None in implicit transfer syntaxes.
    start, stop : int
        Offsets of the first byte of the value and of the first byte after it; the delimiter of
        encapsulated pixels belongs to the value.
    encapsulated : bool
        The value is a sequence of compressed fragments.
    """

    keyword: str
    vr: str | None
    start: int
    stop: int
    encapsulated: bool


@dataclass(frozen=True, slots=True)
class Head:
    """One source instance without its pixels.

    Attributes
    ----------
    slices : tuple of int
        For each frame of the instance, the slice that it became.
    part10 : bytes
        The file without the bytes of the pixels.
    """

    slices: tuple[int, ...]
    part10: bytes


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """Turn what pydicom raises on damaged data, which can be anything, into `SourceError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except SourceError:
        raise
    except ImportError as exc:
        raise SourceError(f"DICOM needs {exc.name}: pip install mroi[dicom]") from exc
    except Exception as exc:
        raise SourceError(f"{name}: damaged DICOM: {exc}") from exc


def read_header(stream: BinaryIO, name: str) -> tuple[Any, PixelElement | None]:
    """Read a file up to its pixels.

    Parameters
    ----------
    stream : binary file
        At its first byte, seekable; a memory map is best, because a length that lies then cannot
        ask for memory.
    name : str
        For messages.

    Returns
    -------
    dataset : pydicom.dataset.FileDataset
        Elements before the pixels.
    element : PixelElement or None
        None if there are no pixels.

    Raises
    ------
    SourceError
        If the stream is not DICOM, or damaged.
    """
    with refusing(name):
        dataset, element, end = _parse(stream)
        stream.seek(0, io.SEEK_END)  # of a map, it returns nothing
        size = stream.tell()
        if element is None:
            if end not in (None, size):
                raise SourceError(
                    f"{name}: truncated: the file ends inside its header, at byte {size:,}"
                )
            return dataset, None
        stop = _end_of_fragments(stream, element.start) if element.encapsulated else element.stop
        if stop > size:
            raise SourceError(
                f"{name}: truncated: pixels end at byte {stop:,}, the file at {size:,}"
            )
        return dataset, replace(element, stop=stop)


def _parse(stream: BinaryIO) -> tuple[Any, PixelElement | None, int | None]:
    """Read up to the pixels; the end of encapsulated ones is not looked for.

    The third is where the last element says that it ends, for a file without pixels: a reader
    does not notice that it was cut. 0 if there is none, None if its length is not defined.
    """
    from pydicom.filereader import read_partial
    from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

    found: list[tuple[int, str | None, int]] = []
    end: int | None = 0

    def is_pixels(tag: Any, vr: str | None, length: int) -> bool:
        nonlocal end
        end = None if length == _UNDEFINED else stream.tell() + length
        if tag in _PIXEL_TAGS:
            found.append((int(tag), vr, length))
        return bool(found)

    start = deflated_from(stream)
    if start:
        dataset = _read_inflated(stream, start, is_pixels)
    else:  # whoever calls knows that it is DICOM, also if it has no preamble
        dataset = read_partial(stream, stop_when=is_pixels, force=True)
    if not found:
        return dataset, None, end
    tag, vr, length = found[0]
    value = stream.tell() + (12 if vr in EXPLICIT_VR_LENGTH_32 else 8)
    encapsulated = length == _UNDEFINED
    stop = value if encapsulated else value + length
    return dataset, PixelElement(_PIXEL_TAGS[tag], vr, value, stop, encapsulated), end


def deflated_from(stream: BinaryIO) -> int:
    """Return where the data set of a file starts whose syntax is the deflated one, else 0.

    The stream ends at its start. Everything here deals with such files in their inflated form: the
    meta information as it is, and behind it the data set.
    """
    start = stream.read(META_SIZE)
    stream.seek(0)
    at = 132 if start[128:132] == b"DICM" else 0
    is_deflated = False
    while len(start) - at >= 12 and start[at : at + 2] == b"\2\0":
        is_long = start[at + 4 : at + 6] in _LONG_VRS
        size = struct.unpack_from("<I" if is_long else "<H", start, at + 8 if is_long else at + 6)[
            0
        ]
        value = at + (12 if is_long else 8)
        if start[at + 2 : at + 4] == b"\x10\0":
            is_deflated = start[value : value + size].rstrip(b"\0 ") == DEFLATED.encode()
        at = value + size
    return at if is_deflated else 0


def _read_inflated(stream: BinaryIO, start: int, stop_when: Any) -> Any:
    """Read a deflated file in its inflated form up to the pixels."""
    import pydicom
    from pydicom.dataset import FileDataset
    from pydicom.filereader import read_dataset

    meta = pydicom.dcmread(io.BytesIO(stream.read(start)), force=True)
    stream.seek(start)
    found = read_dataset(stream, False, True, stop_when=stop_when)  # noqa: FBT003 (explicit, little)
    dataset = FileDataset(stream, found, meta.preamble, meta.file_meta, False, True)  # noqa: FBT003
    dataset.set_original_encoding(False, True, found._character_set)  # noqa: FBT003, SLF001
    return dataset


def inflated(data: bytes, start: int) -> bytes:
    """Return a deflated file, whose data set starts at `start`, in its inflated form."""
    return data[:start] + zlib.decompress(data[start:], -zlib.MAX_WBITS)


def deflated(data: bytes) -> bytes:
    """Return a file that is in its inflated form as it has to be on disk; any other as it is."""
    start = deflated_from(io.BytesIO(data))
    if not start:
        return data
    return data[:start] + _deflate(data[start:])


def _deflate(data: bytes) -> bytes:
    """Return data as nearly every program deflates them: by zlib, with its default level."""
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    stored = deflater.compress(data) + deflater.flush()
    return stored + b"\0" * (len(stored) % 2)


def _end_of_fragments(stream: BinaryIO, start: int) -> int:
    """Return the offset after the delimiter of encapsulated pixels."""
    offset = start
    while True:
        stream.seek(offset)
        item = stream.read(8)
        if len(item) < 8:
            raise SourceError("encapsulated pixels have no end marker")
        group, element, length = struct.unpack("<HHI", item)
        tag = group << 16 | element
        offset += 8
        if tag == _DELIMITER:
            return offset
        if tag != _ITEM or length == _UNDEFINED:
            raise SourceError(f"encapsulated pixels have no item at byte {offset - 8:,}")
        offset += length


def strip_pixels(file: BinaryIO, element: PixelElement, form: Form, samples: int) -> bytes:
    """Return a file without its pixels.

    Parameters
    ----------
    file : binary file
        Seekable; only what is returned is read, and the value where its bytes are swapped.
    element : PixelElement
        As `read_header` found it.
    form : Form
        How samples are stored.
    samples : int
        Samples of the uncompressed frames; what follows them in the value, such as a byte of
        padding, is kept. Encapsulated pixels are cut with all their items.
    """
    file.seek(0)
    before = file.read(element.start)
    if element.encapsulated:
        file.seek(element.stop)
        return before + file.read()
    if form.is_swapped or form.bits == 1:
        tail = form.tail(file.read(element.stop - element.start), samples)
        return before + tail + file.read()
    file.seek(element.start + form.size(samples))
    return before + file.read()


def build_instance(part10: bytes, frames: Sequence[NDArray[Any]], name: str = "head") -> bytes:
    """Put frames into a head.

    Parameters
    ----------
    part10 : bytes
        The file without its pixels.
    frames : sequence of (rows, columns) or (rows, columns, samples) ndarray
        Stored pixels, in the order of the frames; the tiles of a mosaic are frames.

    Returns
    -------
    bytes
        The source file, bit for bit, if its pixels were not compressed; else a file with the same
        attributes and pixels in Explicit VR Little Endian.

    Raises
    ------
    SourceError
        If the head is damaged or does not fit the frames.
    """
    with refusing(name):
        dataset, element = parse_head(part10)
        pixels = _assembled(dataset, frames, name)
        if element is None or element.encapsulated:
            return _rewritten(part10, element, pixels)
        form = form_of(dataset, element.vr, byte_order(dataset))
        samples = pixels.size
        length = element.stop - element.start  # of the value with its padding
        left = max(length - (samples // 8 if form.bits == 1 else form.size(samples)), 0)
        tail = part10[element.start : element.start + left]
        value = form.value(pixels, tail)
        return part10[: element.start] + value + part10[element.start + len(tail) :]


def byte_order(dataset: Any) -> Literal["<", ">"]:
    """Return ``<`` or ``>`` for the uncompressed pixels of a dataset."""
    original = dataset.original_encoding[1]
    return "<" if original is None or original else ">"


def _assembled(dataset: Any, frames: Sequence[NDArray[Any]], name: str) -> NDArray[Any]:
    """Return (frames, rows, columns[, samples]) as the header wants them, a mosaic put together."""
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    pixels = np.stack([*frames])
    if pixels.dtype.fields:  # colours as structures of R, G and B
        pixels = pixels.view(np.uint8).reshape(*pixels.shape, -1)
    samples = int(dataset.get("SamplesPerPixel", 1) or 1)
    if samples > 1 and pixels.ndim == 3 and len(frames) == count * samples:
        # each sample came as a plane of its own
        pixels = np.moveaxis(pixels.reshape(count, samples, *pixels.shape[1:]), 1, 3)
    elif count == 1 and len(frames) > 1:
        pixels = join_tiles(pixels, rows, columns)[np.newaxis]
    bits = max(int(dataset.BitsAllocated), 8)
    if pixels.shape[:3] != (count, rows, columns) or pixels.dtype.itemsize * 8 != bits:
        raise SourceError(
            f"{name} needs {count} frames of {rows} x {columns} pixels of {bits} bits, "
            f"not {pixels.shape} of {pixels.dtype}"
        )
    return pixels


def split_tiles(mosaic: NDArray[Any], count: int) -> NDArray[Any]:
    """Cut a mosaic, tiles in rows of a square, into (count, rows, columns)."""
    side = math.isqrt(count - 1) + 1
    rows, columns = mosaic.shape[0] // side, mosaic.shape[1] // side
    tiles = mosaic.reshape(side, rows, side, columns).swapaxes(1, 2).reshape(-1, rows, columns)
    if tiles[count:].any():
        raise SourceError("the unused tiles of a mosaic are not empty")
    return tiles[:count]


def join_tiles(tiles: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """Undo `split_tiles`; unused tiles are zero.

    Parameters
    ----------
    tiles : (n, height, width) ndarray
        Slices.
    rows, columns : int
        Of the mosaic, in pixels.

    Raises
    ------
    SourceError
        If the mosaic is not filled by whole tiles.
    """
    side = math.isqrt(len(tiles) - 1) + 1
    if tiles.shape[1:] != (rows // side, columns // side) or rows % side or columns % side:
        raise SourceError(f"{tiles.shape} does not fill a mosaic of {rows} x {columns} pixels")
    square = np.zeros((side * side, *tiles.shape[1:]), tiles.dtype)
    square[: len(tiles)] = tiles
    square = square.reshape(side, side, *tiles.shape[1:]).swapaxes(1, 2)
    return square.reshape(rows, columns)


def _rewritten(part10: bytes, element: PixelElement | None, pixels: NDArray[Any]) -> bytes:
    """Return the file, written anew."""
    import pydicom

    if element is not None:
        end = struct.pack("<HHI", _DELIMITER >> 16, _DELIMITER & 0xFFFF, 0)
        part10 = part10[: element.start] + end + part10[element.start :]
    if start := deflated_from(io.BytesIO(part10)):
        part10 = part10[:start] + _deflate(part10[start:])
    dataset = pydicom.dcmread(io.BytesIO(part10), force=True)
    for _ in dataset.iterall():  # elements get their VR, which those read as implicit lack
        pass
    bits = int(dataset.BitsAllocated)
    order = byte_order(dataset)
    is_shared = element is None and form_of(dataset, None, order).is_shared  # else it is RGB now
    form = Form(bits, order, is_planar=False, is_shared=is_shared, is_swapped=False)
    value = form.value(pixels, b"\0" * (bits == 1))
    keyword = {"f4": "FloatPixelData", "f8": "DoubleFloatPixelData"}.get(
        pixels.dtype.str[1:], "PixelData"
    )
    setattr(dataset, keyword, value + b"\0" * (len(value) % 2))
    if keyword == "PixelData":
        dataset["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
        dataset["PixelData"].is_undefined_length = False
    return build_head(dataset, decoded=element is not None)


def parse_head(part10: bytes) -> tuple[Any, PixelElement | None]:
    """Read a head: the elements before the pixels, and where those were."""
    return parse_stream(io.BytesIO(part10))


def parse_stream(stream: BinaryIO) -> tuple[Any, PixelElement | None]:
    """Read a file up to its pixels as `read_header` does, but check nothing.

    The end of encapsulated pixels is not looked for.
    """
    stream.seek(0)
    return _parse(stream)[:2]


def build_head(dataset: Any, *, decoded: bool) -> bytes:
    """Return a dataset as a file, in its own transfer syntax if that leaves pixels as they are.

    Parameters
    ----------
    dataset : pydicom.dataset.FileDataset
        Changed.
    decoded : bool
        The source was compressed: the file is in Explicit VR Little Endian, colours are RGB.
    """
    from pydicom.uid import ExplicitVRLittleEndian

    implicit, little = dataset.original_encoding
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            delattr(dataset, keyword)
    if int(dataset.get("SamplesPerPixel", 1) or 1) > 1:
        dataset.PlanarConfiguration = 0
        if decoded:
            dataset.PhotometricInterpretation = "RGB"
    if decoded or dataset.file_meta.get("TransferSyntaxUID") == DEFLATED:
        implicit, little = False, True
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    dataset.save_as(buffer, implicit_vr=implicit, little_endian=little)
    return buffer.getvalue()


def build_heads(heads: Iterable[Head]) -> bytes:
    """Return the records of heads, the payload of ``dCMh``."""
    records: list[tuple[int, bytes]] = []
    for head in heads:
        records.append((head.slices[0], head.part10))
        records += [(number, b"") for number in head.slices[1:]]
    return build_records(records)


def parse_heads(payload: bytes, count: int) -> list[Head]:
    """Read the records of heads.

    Parameters
    ----------
    payload : bytes
        Of ``dCMh``, inflated.
    count : int
        Number of slices of the file.

    Raises
    ------
    FormatError
        If the records do not fill the payload, or their slices are not 0 to `count` - 1, each
        once (rule DCM-1).
    """
    heads: list[Head] = []
    seen: set[int] = set()
    for number, part10 in parse_records(payload, count, offset=0):
        if number in seen or not (part10 or heads):
            raise FormatError(f"DICOM record of slice {number} of {count}", "DCM-1")
        seen.add(number)
        if part10:
            heads.append(Head((number,), part10))
        else:
            heads[-1] = replace(heads[-1], slices=(*heads[-1].slices, number))
    if len(seen) != count:
        raise FormatError(f"DICOM records hold {len(seen)} of {count} slices", "DCM-1")
    return heads
