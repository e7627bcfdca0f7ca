"""What a JPEG 2000 or HTJ2K codestream is about to make its decoder do, read before it does it.

Native decoders allocate what the headers ask for. `check` walks all headers and refuses what is
not one plane of the kind expected, in one tile, with nothing that multiplies work: the only
markers allowed are those that encoders of plain images write. (ITU-T T.800 annex A)
"""

from __future__ import annotations

import struct
from typing import Any

from numpy.typing import NDArray

from mroi.codecs.base import ChunkSpec
from mroi.errors import DecodeError

__all__ = ["check", "fit"]

_START = b"\xff\x4f\xff\x51"  # SOC, SIZ
_SOD, _EOC = b"\xff\x93", b"\xff\xd9"
_COD, _SOT = 0xFF52, 0xFF90
_MAIN = {
    0xFF50,  # CAP: needs part 15
    0xFF55,  # TLM: lengths of tile-parts
    0xFF59,  # CPF: corresponding profile
    0xFF5C,  # QCD: quantisation
    0xFF5D,  # QCC: quantisation of one component
    0xFF64,  # COM: comment
}
_TILE = {0xFF58, 0xFF64}  # PLT: lengths of packets; COM

_MARKER = struct.Struct(">HH")
_TILE_PART = struct.Struct(">HIBB")
_SIZE = struct.Struct(">H8IH")
_STYLE = struct.Struct(">BBHBBBBBB")


def check(
    payload: memoryview, spec: ChunkSpec, *, bits: int, signed: bool, high_throughput: bool
) -> int:
    """Refuse a codestream that is not exactly one plane of `spec`.

    Parameters
    ----------
    payload : memoryview of bytes
        The whole codestream.
    spec : ChunkSpec
        A chunk of one slice.
    bits : int
        Largest precision allowed.
    signed : bool
        Whether samples are signed.
    high_throughput : bool
        Whether the block coder is that of part 15.

    Returns
    -------
    int
        How often the plane can be halved while it is decoded.

    Raises
    ------
    DecodeError
        If it is anything else (rule CHK-8).
    """
    try:
        return _check(payload, spec, bits=bits, signed=signed, high_throughput=high_throughput)
    except struct.error as exc:
        raise DecodeError("codestream is cut short", "CHK-8") from exc


def fit(plane: NDArray[Any], spec: ChunkSpec, *, level: int, reduced: int) -> NDArray[Any]:
    """Return a plane that was decoded with rows and columns halved `reduced` times as a chunk.

    Where the codestream has fewer resolutions than asked for, every second voxel is left out
    until `level` is reached.
    """
    stride = 2 ** (level - reduced)
    plane = plane[::stride, ::stride]
    _, rows, columns, *samples = spec.shape
    shape = (-(-rows // 2**level), -(-columns // 2**level), spec.samples)
    if plane.shape != shape:
        raise DecodeError(f"codestream: {plane.shape} came out, not {shape}", "CHK-8")
    chunk: NDArray[Any] = plane.astype(spec.dtype, order="C", copy=False)
    return chunk.reshape(1, *shape[:2], *samples)


def _check(
    payload: memoryview, spec: ChunkSpec, *, bits: int, signed: bool, high_throughput: bool
) -> int:
    if bytes(payload[:4]) != _START:
        raise DecodeError("codestream: does not begin with SOC and SIZ", "CHK-8")
    levels = None
    marker, segment, at = _segment(payload, 2)
    _check_size(segment, spec, bits=bits, signed=signed)
    while True:
        marker, segment, at = _segment(payload, at)
        if marker == _COD and levels is None:
            levels = _check_style(segment, high_throughput=high_throughput)
        elif marker == _SOT and levels is not None:
            _check_tile_parts(payload, at - 12)
            return levels
        elif marker not in _MAIN:
            raise DecodeError(f"codestream: marker {marker:#06x} is not allowed here", "CHK-8")


def _segment(payload: memoryview, at: int) -> tuple[int, memoryview, int]:
    """Return the marker at an offset, the content of its segment, and the offset after it."""
    marker, length = _MARKER.unpack_from(payload, at)
    segment = payload[at + 4 : at + 2 + length]
    if length < 2 or len(segment) != length - 2:
        raise DecodeError("codestream: a marker segment is cut short", "CHK-8")
    return marker, segment, at + 2 + length


def _check_tile_parts(payload: memoryview, at: int) -> None:
    """Check the parts of tile 0, the first of which begins at an offset; they end with EOC."""
    while True:
        start = at
        marker, segment, at = _segment(payload, at)
        if marker != _SOT or len(segment) != 8:
            raise DecodeError("codestream: a tile-part begins at the wrong place", "CHK-8")
        tile, size, _part, _parts = _TILE_PART.unpack(segment)
        if tile:
            raise DecodeError("codestream: more than one tile", "CHK-8")
        while payload[at : at + 2] != _SOD:
            marker, _, at = _segment(payload, at)
            if marker not in _TILE:
                raise DecodeError(f"codestream: marker {marker:#06x} in a tile", "CHK-8")
        if start + size < at + 2:
            raise DecodeError("codestream: a tile-part is shorter than its header", "CHK-8")
        at = start + size
        if payload[at : at + 2] == _EOC:
            break
    if at + 2 != len(payload):
        raise DecodeError("codestream: bytes follow its end", "CHK-8")


def _check_size(segment: memoryview, spec: ChunkSpec, *, bits: int, signed: bool) -> None:
    """Check SIZ: one tile, no offsets, no subsampling, the shape and the precision expected."""
    _, rows, columns, *_ = spec.shape
    count = spec.samples
    if len(segment) != 36 + 3 * count:
        raise DecodeError(f"codestream: SIZ is not that of {count} components", "CHK-8")
    _rsiz, x1, y1, x0, y0, tile_x, tile_y, tile_x0, tile_y0, components = _SIZE.unpack_from(segment)
    if (x1, y1, components) != (columns, rows, count) or x0 or y0:
        raise DecodeError(
            f"codestream: {y1 - y0} x {x1 - x0} x {components}, not {rows} x {columns} x {count}",
            "CHK-8",
        )
    if tile_x < columns or tile_y < rows or tile_x0 or tile_y0:
        raise DecodeError("codestream: more than one tile", "CHK-8")
    for k in range(count):
        precision, dx, dy = segment[36 + 3 * k : 39 + 3 * k]
        if (precision >> 7, dx, dy) != (signed, 1, 1) or (precision & 127) + 1 > bits:
            raise DecodeError("codestream: samples are not those of the chunk", "CHK-8")


def _check_style(segment: memoryview, *, high_throughput: bool) -> int:
    """Check COD: no precincts, so that their number is that of the resolutions; return levels."""
    if len(segment) != 10:
        raise DecodeError("codestream: COD with precincts is not allowed", "CHK-8")
    levels: int
    style, _order, layers, _transform, levels, _w, _h, blocks, _wavelet = _STYLE.unpack(segment)
    if style & 1 or levels > 32 or not 1 <= layers <= 64:
        raise DecodeError("codestream: COD asks for too much", "CHK-8")
    if bool(blocks & 0x40) != high_throughput:
        raise DecodeError("codestream: block coder is not the one of this codec", "CHK-8")
    return levels
