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

_SOC, _SOT, _SOD, _EOC = 0xFF4F, 0xFF90, 0xFF93, 0xFFD9
_SIZ, _COD = 0xFF51, 0xFF52
_MAIN = {
    0xFF50,  # CAP: needs part 15
    0xFF55,  # TLM: lengths of tile-parts
    0xFF59,  # CPF: corresponding profile
    0xFF5C,  # QCD: quantisation
    0xFF5D,  # QCC: quantisation of one component
    0xFF64,  # COM: comment
}
_TILE = {0xFF58, 0xFF64}  # PLT: lengths of packets; COM


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
    walk = _Walk(payload)
    walk.expect(_SOC)
    walk.expect(_SIZ)
    _check_size(walk.segment(), spec, bits=bits, signed=signed)
    levels = None
    while (marker := walk.marker()) != _SOT:
        segment = walk.segment()
        if marker == _COD and levels is None:
            levels = _check_style(segment, high_throughput=high_throughput)
        elif marker not in _MAIN:
            raise DecodeError(f"codestream: marker {marker:#06x} is not allowed", "CHK-8")
    if levels is None:
        raise DecodeError("codestream: COD is missing", "CHK-8")
    walk.tile_parts()
    return levels


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


class _Walk:
    """A position in a codestream; every step is bounded by its end."""

    def __init__(self, payload: memoryview) -> None:
        self._payload = payload
        self._at = 0

    def marker(self) -> int:
        return self._unpack(">H")[0]

    def expect(self, marker: int) -> None:
        if (found := self.marker()) != marker:
            raise DecodeError(f"codestream: marker {found:#06x}, not {marker:#06x}", "CHK-8")

    def segment(self) -> memoryview:
        (length,) = self._unpack(">H")
        if length < 2:
            raise DecodeError("codestream: marker segment is too short", "CHK-8")
        return self._take(length - 2)

    def tile_parts(self) -> None:
        """Walk the parts of tile 0, the first SOT marker being read; they end with EOC."""
        while True:
            start = self._at - 2
            segment = self.segment()
            if len(segment) != 8:
                raise DecodeError("codestream: SOT is not 10 bytes", "CHK-8")
            tile, size, _part, _parts = struct.unpack(">HIBB", segment)
            if tile:
                raise DecodeError("codestream: more than one tile", "CHK-8")
            while (marker := self.marker()) != _SOD:
                if marker not in _TILE:
                    raise DecodeError(f"codestream: marker {marker:#06x} in a tile", "CHK-8")
                self.segment()
            self._take(start + size - self._at)
            if (marker := self.marker()) == _EOC:
                break
            if marker != _SOT:
                raise DecodeError("codestream: a tile-part ends at the wrong place", "CHK-8")
        if self._at != len(self._payload):
            raise DecodeError("codestream: bytes follow its end", "CHK-8")

    def _take(self, count: int) -> memoryview:
        stop = self._at + count
        if count < 0 or stop > len(self._payload):
            raise DecodeError("codestream is cut short", "CHK-8")
        part = self._payload[self._at : stop]
        self._at = stop
        return part

    def _unpack(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))


def _check_size(segment: memoryview, spec: ChunkSpec, *, bits: int, signed: bool) -> None:
    """Check SIZ: one tile, no offsets, no subsampling, the shape and the precision expected."""
    _, rows, columns, *_ = spec.shape
    count = spec.samples
    if len(segment) != 36 + 3 * count:
        raise DecodeError(f"codestream: SIZ is not that of {count} components", "CHK-8")
    _rsiz, x1, y1, x0, y0, tile_x, tile_y, tile_x0, tile_y0, components = struct.unpack_from(
        ">H8IH", segment
    )
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
    style, _order, layers, _transform, levels, _w, _h, blocks, _wavelet = struct.unpack(
        ">BBHBBBBBB", segment
    )
    levels = int(levels)
    if style & 1 or levels > 32 or not 1 <= layers <= 64:
        raise DecodeError("codestream: COD asks for too much", "CHK-8")
    if bool(blocks & 0x40) != high_throughput:
        raise DecodeError("codestream: block coder is not the one of this codec", "CHK-8")
    return levels
