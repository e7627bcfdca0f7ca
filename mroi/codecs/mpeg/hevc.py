"""What the parameter sets and the slice of an HEVC picture make their decoder do (ITU-T H.265).

Decoders of HEVC are large, and most of what they do is for video. `check` reads every field up to
the coded voxels, and refuses what one plane has no use for: other pictures to predict from, layers,
tiles, scaling lists, extensions.
"""

from __future__ import annotations

from dataclasses import dataclass

from mroi.errors import DecodeError

__all__ = ["Picture", "check"]

IDR = (19, 20)
"""Types of the units with slices of a picture that needs no other."""

_I_SLICE = 2
_EXTENDED_SAR = 255


@dataclass(frozen=True, slots=True)
class Picture:
    """What the picture must be: at least so many rows and columns, and less than 64 more."""

    rows: int
    columns: int
    samples: int
    depth: int


@dataclass(frozen=True, slots=True)
class _Sequence:
    """What a sequence parameter set says that the slice depends on."""

    is_gray: bool
    has_offsets: bool
    block_rows: int


@dataclass(frozen=True, slots=True)
class _Coding:
    """What a picture parameter set says that the slice depends on."""

    chroma_offsets: bool
    across_slices: bool
    can_override: bool
    is_smoothed: bool
    in_rows: bool


def check(video: bytes, sequence: bytes, picture: bytes, slice_: bytes, wanted: Picture) -> None:
    """Refuse a picture that is not one intra picture of the kind wanted.

    Parameters
    ----------
    video, sequence, picture : bytes
        The parameter sets, without the two bytes that say so.
    slice_ : bytes
        The only slice, of a type in `IDR`, likewise.
    wanted : Picture
        What it must be.

    Raises
    ------
    DecodeError
        If it is anything else (rule CHK-8).
    """
    _check_video(_Bits(video))
    coding = _check_coding(_Bits(picture))
    _check_slice(_Bits(slice_), _check_sequence(_Bits(sequence), wanted), coding)


class _Bits:
    """Reads the fields of a unit of `size` bytes, highest bit first."""

    def __init__(self, unit: bytes) -> None:
        self.size = len(unit)
        self._data = unit.replace(b"\0\0\3", b"\0\0")
        self._at = 0

    def u(self, count: int) -> int:
        start, stop = self._at, self._at + count
        if stop > 8 * len(self._data):
            raise DecodeError("heif: a parameter set is cut short", "CHK-8")
        self._at = stop
        value = int.from_bytes(self._data[start // 8 : (stop + 7) // 8], "big")
        return value >> -stop % 8 & (1 << count) - 1

    def ue(self, most: int = 2**32 - 2) -> int:
        """Exp-Golomb code of a number that must not exceed `most`."""
        zeros = 0
        while zeros < 32 and not self.u(1):
            zeros += 1
        value = (1 << zeros) - 1 + self.u(zeros)
        if value > most:
            raise DecodeError(f"heif: {value} in a parameter set, not up to {most}", "CHK-8")
        return value

    def none(self, count: int, what: str) -> None:
        """Read `count` flags that must be 0."""
        if self.u(count):
            raise DecodeError(f"heif: {what} are not allowed", "CHK-8")

    def finish(self) -> None:
        """Read the 1 and the zeros at the end of a set."""
        left = 8 * len(self._data) - self._at
        if not 1 <= left <= 8 or self.u(left) != 1 << (left - 1):
            raise DecodeError("heif: a parameter set does not end where it should", "CHK-8")


def _skip_codes(bits: _Bits, count: int) -> None:
    for _ in range(count):
        bits.ue()


def _check_video(bits: _Bits) -> None:
    """Check a video parameter set (7.3.2.1): one layer."""
    bits.u(4 + 2)
    bits.none(6 + 3, "layers")
    bits.u(1 + 16 + 96)  # nesting, reserved, profile and level
    bits.u(1)
    _skip_codes(bits, 3)  # pictures kept
    bits.none(6, "layers")
    bits.ue(0)
    if bits.u(1):  # timing
        bits.u(64)
        if bits.u(1):
            bits.ue()
        bits.ue(0)  # HRD
    bits.none(1, "extensions")
    bits.finish()


def _check_sequence(bits: _Bits, wanted: Picture) -> _Sequence:
    """Check a sequence parameter set (7.3.2.2)."""
    bits.u(4)
    bits.none(3, "temporal layers")
    bits.u(1 + 96)  # nesting, profile and level
    bits.ue(0)  # its number
    chroma = bits.ue(3)
    if chroma != (0 if wanted.samples == 1 else 3):
        raise DecodeError(f"heif: chroma format {chroma} is not of the samples", "CHK-8")
    if chroma:
        bits.none(1, "planes coded as pictures of their own")
    columns, rows = bits.ue(), bits.ue()
    near = 0 <= columns - wanted.columns < 64 and 0 <= rows - wanted.rows < 64
    if not near:
        raise DecodeError(f"heif: codes {rows} x {columns} samples", "CHK-8")
    if bits.u(1):
        _skip_codes(bits, 4)  # conformance window
    depths = {bits.ue() + 8, bits.ue() + 8}
    if depths != {wanted.depth}:
        raise DecodeError(f"heif: codes samples of {sorted(depths)} bits", "CHK-8")
    bits.ue(12)  # bits of picture numbers
    bits.u(1)
    _skip_codes(bits, 3)  # pictures kept
    block = _check_blocks(bits)
    bits.none(1, "scaling lists")
    bits.u(1)
    has_offsets = bool(bits.u(1))
    bits.none(1, "uncoded blocks")
    bits.ue(0)  # sets of reference pictures
    bits.none(1, "reference pictures")
    bits.u(2)
    if bits.u(1):
        _check_usability(bits)
    bits.none(1, "extensions")
    bits.finish()
    return _Sequence(chroma == 0, has_offsets, -(-rows // block))


def _check_blocks(bits: _Bits) -> int:
    """Check the sizes of blocks; return rows and columns of the largest."""
    least = 3 + bits.ue(3)
    largest = least + bits.ue(3)
    least_transform = 2 + bits.ue(3)
    largest_transform = least_transform + bits.ue(3)
    _skip_codes(bits, 2)  # depths of the trees, which sizes bound
    if not 4 <= largest <= 6 or least_transform >= least or largest_transform > min(largest, 5):
        raise DecodeError("heif: sizes of blocks are out of range", "CHK-8")
    return 1 << largest


def _check_usability(bits: _Bits) -> None:
    """Check the video usability information (E.2.1)."""
    if bits.u(1) and bits.u(8) == _EXTENDED_SAR:
        bits.u(32)
    if bits.u(1):
        bits.u(1)  # overscan
    if bits.u(1):
        bits.u(4)
        if bits.u(1):
            bits.u(24)  # colour
    if bits.u(1):
        _skip_codes(bits, 2)  # places of chroma samples
    bits.u(1)
    bits.none(2, "fields")
    if bits.u(1):
        _skip_codes(bits, 4)  # display window
    if bits.u(1):  # timing
        bits.u(64)
        if bits.u(1):
            bits.ue()
        bits.none(1, "HRD parameters")
    if bits.u(1):
        bits.u(3)
        _skip_codes(bits, 5)


def _check_coding(bits: _Bits) -> _Coding:
    """Check a picture parameter set (7.3.2.3)."""
    bits.ue(0)  # its number, that of the sequence
    bits.ue(0)
    bits.none(1 + 1 + 3, "dependent slices, or more fields of them,")
    bits.u(2)
    bits.ue(14)
    bits.ue(14)
    bits.ue()  # QP
    bits.u(2)
    if bits.u(1):
        bits.ue(3)  # depth of QP groups
    _skip_codes(bits, 2)
    chroma_offsets = bits.u(1)
    bits.u(3)
    bits.none(1, "tiles")
    in_rows, across_slices = bits.u(1), bits.u(1)
    can_override, is_smoothed = 0, 1
    if bits.u(1):  # deblocking
        can_override, is_smoothed = bits.u(1), 1 - bits.u(1)
        if is_smoothed:
            _skip_codes(bits, 2)
    bits.none(2, "scaling lists and lists of pictures")
    bits.ue(4)
    bits.none(2, "extensions")
    bits.finish()
    flags = (chroma_offsets, across_slices, can_override, is_smoothed, in_rows)
    return _Coding(*map(bool, flags))


def _check_slice(bits: _Bits, sequence: _Sequence, coding: _Coding) -> None:
    """Check the header of the only slice (7.3.6.1): an I slice, its entry points in the data."""
    first = bits.u(1)
    bits.u(1)
    bits.ue(0)
    if not first or bits.ue() != _I_SLICE:
        raise DecodeError("heif: not the only slice of an intra picture", "CHK-8")
    filters = coding.is_smoothed
    if sequence.has_offsets:
        filters |= any([bits.u(1), not sequence.is_gray and bits.u(1)])
    bits.ue()  # QP
    if coding.chroma_offsets:
        _skip_codes(bits, 2)
    if coding.can_override and bits.u(1):
        is_smoothed = not bits.u(1)
        if is_smoothed:
            _skip_codes(bits, 2)
        filters |= is_smoothed
    if coding.across_slices and filters:
        bits.u(1)
    if coding.in_rows and (count := bits.ue(sequence.block_rows - 1)):
        size = bits.ue(31) + 1
        if sum(bits.u(size) + 1 for _ in range(count)) >= bits.size:
            raise DecodeError("heif: entry points beyond the slice", "CHK-8")
