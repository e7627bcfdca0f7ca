"""What a JPEG 2000 or HTJ2K codestream is about to make its decoder do, read before it does it.

Native decoders allocate what the headers ask for, and trust what they say. `check` walks all
headers and refuses what is not one plane of the kind expected, in one tile, with nothing that
multiplies work. The only markers allowed are those that encoders of plain images write, and of
these every field is checked. (ITU-T T.800 annex A, T.814 annex A)
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mroi.codecs.base import ChunkSpec
from mroi.errors import DecodeError

__all__ = ["Decoder", "check", "decode"]

Decoder = Callable[[memoryview, ChunkSpec, int], NDArray[Any]]
"""Gives (rows, columns, samples) of a codestream that was checked, halved so many times."""

_START = b"\xff\x4f\xff\x51"  # SOC, SIZ
_SOD, _EOC = b"\xff\x93", b"\xff\xd9"
_CAP, _COD, _TLM, _QCD, _QCC, _COM, _SOT = 0xFF50, 0xFF52, 0xFF55, 0xFF5C, 0xFF5D, 0xFF64, 0xFF90

_MARKER = struct.Struct(">HH")
_TILE_PART = struct.Struct(">HIBB")
_SIZE = struct.Struct(">H8IH")
_STYLE = struct.Struct(">BBHBBBBBB")
_CAPABILITIES = struct.Struct(">IH")

_HT = 0x4000  # bit of Rsiz, and the code-block style 0x40: the block coder of part 15
_PART_15 = 0x00020000  # bit of Pcap
_MOST_LEVELS = 15  # precincts of 2**15 samples at the lowest resolution stay below 2**31
_MOST_BITS = {0: 30, 1: 37}  # magnitude bits of a coefficient: 9/7 in 32 bits, 5/3 of 38 bits


def decode(
    payload: memoryview,
    spec: ChunkSpec,
    level: int,
    decoder: Decoder,
    *,
    bits: int | None = None,
    high_throughput: bool = False,
) -> NDArray[Any]:
    """Check a codestream, decode it, and make it a chunk.

    Parameters
    ----------
    payload : memoryview of bytes
        The whole codestream.
    spec : ChunkSpec
        The plane at full resolution: a chunk of one slice.
    level : int
        Rows and columns are divided by ``2 ** level``, rounded up. Where the codestream has fewer
        resolutions, every second voxel is left out until `level` is reached.
    decoder : callable
        What decodes a codestream that has been checked.
    bits, high_throughput
        As for `check`.

    Returns
    -------
    ndarray of ``(1, rows, columns[, samples])`` and ``spec.dtype``

    Raises
    ------
    DecodeError
        If it is not exactly one plane of `spec` (rule CHK-8).
    """
    stored = check(payload, spec, bits=bits, high_throughput=high_throughput)
    skip = min(level, stored)
    return _fit(decoder(payload, spec, skip), spec, level=level, reduced=skip)


def check(
    payload: memoryview, spec: ChunkSpec, *, bits: int | None = None, high_throughput: bool = False
) -> int:
    """Refuse a codestream that is not exactly one plane of `spec`.

    Parameters
    ----------
    payload : memoryview of bytes
        The whole codestream.
    spec : ChunkSpec
        A chunk of one slice.
    bits : int, optional
        Largest precision allowed; by default that of the type.
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
    if bits is None:
        bits = 8 * spec.dtype.itemsize
    try:
        return _check(payload, spec, bits=bits, high_throughput=high_throughput)
    except struct.error as exc:
        raise DecodeError("codestream is cut short", "CHK-8") from exc


def _fit(plane: NDArray[Any], spec: ChunkSpec, *, level: int, reduced: int) -> NDArray[Any]:
    """Return a plane that was decoded with rows and columns halved `reduced` times as a chunk."""
    stride = 2 ** (level - reduced)
    plane = plane[::stride, ::stride]
    _, rows, columns, *samples = spec.shape
    shape = (-(-rows // 2**level), -(-columns // 2**level), spec.samples)
    if plane.shape != shape:
        raise DecodeError(f"codestream: {plane.shape} came out, not {shape}", "CHK-8")
    chunk: NDArray[Any] = plane.astype(spec.dtype, order="C", copy=False)
    return chunk.reshape(1, *shape[:2], *samples)


@dataclass(frozen=True, slots=True)
class _Style:
    """What COD says that other segments depend on."""

    levels: int
    wavelet: int


def _check(payload: memoryview, spec: ChunkSpec, *, bits: int, high_throughput: bool) -> int:
    if bytes(payload[:4]) != _START:
        raise DecodeError("codestream: does not begin with SOC and SIZ", "CHK-8")
    marker, segment, at = _segment(payload, 2)
    _check_size(segment, spec, bits=bits, high_throughput=high_throughput)
    found: dict[int, list[memoryview]] = {
        marker: [] for marker in (_CAP, _COD, _TLM, _QCD, _QCC, _COM)
    }
    while True:
        marker, segment, at = _segment(payload, at)
        if marker == _SOT:
            break
        if marker not in found:
            raise DecodeError(f"codestream: marker {marker:#06x} is not allowed here", "CHK-8")
        found[marker].append(segment)
    counts = len(found[_CAP]), len(found[_COD]), len(found[_QCD])
    if counts != (high_throughput, 1, 1):
        raise DecodeError("codestream: CAP, COD or QCD is missing, or there are two", "CHK-8")
    for segment in found[_CAP]:
        _check_capabilities(segment)
    style = _check_style(found[_COD][0], spec.samples, high_throughput=high_throughput)
    _check_quantisation(found[_QCD][0], style)
    components = [segment[0] for segment in found[_QCC] if len(segment)]
    if sorted(set(components)) != sorted(components) or max(components, default=0) >= spec.samples:
        raise DecodeError("codestream: QCC of no component, or two of one", "CHK-8")
    for segment in found[_QCC]:
        _check_quantisation(segment[1:], style)
    _check_lengths(found[_TLM], _check_tile_parts(payload, at - 12))
    return style.levels


def _segment(payload: memoryview, at: int) -> tuple[int, memoryview, int]:
    """Return the marker at an offset, the content of its segment, and the offset after it."""
    marker, length = _MARKER.unpack_from(payload, at)
    segment = payload[at + 4 : at + 2 + length]
    if length < 2 or len(segment) != length - 2:
        raise DecodeError("codestream: a marker segment is cut short", "CHK-8")
    return marker, segment, at + 2 + length


def _check_tile_parts(payload: memoryview, at: int) -> list[int]:
    """Check the parts of tile 0, the first of which begins at an offset; they end with EOC.

    Return their lengths.
    """
    lengths: list[int] = []
    announced = set()
    while True:
        start = at
        marker, segment, at = _segment(payload, at)
        if marker != _SOT or len(segment) != 8:
            raise DecodeError("codestream: a tile-part begins at the wrong place", "CHK-8")
        tile, size, part, parts = _TILE_PART.unpack(segment)
        if tile or part != len(lengths):
            raise DecodeError("codestream: more than one tile, or parts out of order", "CHK-8")
        while payload[at : at + 2] != _SOD:
            marker, _, at = _segment(payload, at)
            if marker != _COM:
                raise DecodeError(f"codestream: marker {marker:#06x} in a tile", "CHK-8")
        if start + size < at + 2:
            raise DecodeError("codestream: a tile-part is shorter than its header", "CHK-8")
        lengths.append(size)
        announced.add(parts)
        at = start + size
        if payload[at : at + 2] == _EOC:
            break
    if at + 2 != len(payload):
        raise DecodeError("codestream: bytes follow its end", "CHK-8")
    if not announced <= {0, len(lengths)}:
        raise DecodeError(f"codestream: {len(lengths)} tile-parts, not as many as said", "CHK-8")
    return lengths


def _check_lengths(segments: list[memoryview], lengths: list[int]) -> None:
    """Check TLM: segments in order, which together list the tile-parts."""
    listed: list[int] = []
    for number, segment in enumerate(segments):
        index, sizes = struct.unpack_from("BB", segment)
        tile, wide = sizes >> 4 & 3, sizes >> 6 & 1
        entry = struct.Struct(">" + ("", "B", "H", "-")[tile] + "HI"[wide]) if tile < 3 else None
        if index != number or sizes & 0x8F or entry is None or (len(segment) - 2) % entry.size:
            raise DecodeError("codestream: TLM is broken", "CHK-8")
        for *tiles, length in entry.iter_unpack(segment[2:]):
            if any(tiles):
                raise DecodeError("codestream: TLM lists more than one tile", "CHK-8")
            listed.append(length)
    if segments and listed != lengths:
        raise DecodeError("codestream: TLM does not list the tile-parts", "CHK-8")


def _check_size(segment: memoryview, spec: ChunkSpec, *, bits: int, high_throughput: bool) -> None:
    """Check SIZ: one tile, no offsets, no subsampling, the shape and the precision expected."""
    _, rows, columns, *_ = spec.shape
    count, signed = spec.samples, spec.dtype.kind == "i"
    if len(segment) != 36 + 3 * count:
        raise DecodeError(f"codestream: SIZ is not that of {count} components", "CHK-8")
    rsiz, x1, y1, x0, y0, tile_x, tile_y, tile_x0, tile_y0, components = _SIZE.unpack_from(segment)
    # Part 1 has profiles (below 0x4000); of part 2, nothing is allowed.
    if rsiz != _HT if high_throughput else rsiz >= _HT:
        raise DecodeError(f"codestream: capabilities {rsiz:#06x} are not of this codec", "CHK-8")
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


def _check_capabilities(segment: memoryview) -> None:
    """Check CAP: part 15 alone; all code-blocks are of it, the same for all tiles."""
    if len(segment) != _CAPABILITIES.size:
        raise DecodeError("codestream: CAP is not that of part 15 alone", "CHK-8")
    parts, features = _CAPABILITIES.unpack(segment)
    if parts != _PART_15 or features >> 11:
        raise DecodeError("codestream: CAP asks for more than part 15", "CHK-8")


def _check_style(segment: memoryview, samples: int, *, high_throughput: bool) -> _Style:
    """Check COD: no precincts, so that their number is that of the resolutions."""
    if len(segment) != _STYLE.size:
        raise DecodeError("codestream: COD with precincts is not allowed", "CHK-8")
    style, order, layers, colour, levels, width, height, blocks, wavelet = _STYLE.unpack(segment)
    if style & ~0x06 or levels > _MOST_LEVELS or not 1 <= layers <= 64:
        raise DecodeError("codestream: COD asks for too much", "CHK-8")
    # Exponents less 2: code-blocks of 32 to 128 samples a side, at most 4096 in all. For
    # blocks of 4 samples a side, OpenJPH takes 376 MB for any plane, and OpenJPEG 400 bytes each.
    if order > 4 or wavelet > 1 or min(width, height) < 3 or width + height > 8:
        raise DecodeError("codestream: a value of COD is out of range", "CHK-8")
    if colour > 1 or (colour and samples < 3):
        raise DecodeError("codestream: no samples for the colour transform", "CHK-8")
    # Part 15 leaves one choice, the vertically causal context; part 1 has six.
    if blocks not in {0x40, 0x48} if high_throughput else blocks > 0x3F:
        raise DecodeError("codestream: block coder is not the one of this codec", "CHK-8")
    return _Style(levels, wavelet)


def _check_quantisation(segment: memoryview, style: _Style) -> None:
    """Check QCD, or QCC after its component: a step for each band, no wider than decoders are."""
    (first,) = struct.unpack_from("B", segment)
    guard, kind = first >> 5, first & 31
    steps = {0: (">B", 3), 1: (">H", 11), 2: (">H", 11)}
    if kind not in ({1, 2}, {0})[style.wavelet]:
        raise DecodeError(f"codestream: quantisation {kind} is not of its wavelet", "CHK-8")
    layout, shift = steps[kind]
    count = 1 if kind == 1 else 3 * style.levels + 1
    if len(segment) != 1 + count * struct.calcsize(layout):
        raise DecodeError(f"codestream: quantisation is not that of {count} bands", "CHK-8")
    for (step,) in struct.iter_unpack(layout, segment[1:]):
        exponent = step >> shift
        if not exponent or guard + exponent - 1 > _MOST_BITS[style.wavelet]:
            raise DecodeError(
                f"codestream: exponent {exponent} and {guard} guard bits are out of range", "CHK-8"
            )
