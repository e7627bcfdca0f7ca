"""How samples lie in an uncompressed PixelData value, and back.

Frames follow each other without gaps: bits too, where one bit is a sample. A value of 8-bit samples
in big-endian words has its bytes swapped in pairs, across frames. In YBR_FULL_422 two pixels of a
row share Cb and Cr: both get them, and the value is made from the first of the two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from mroi.errors import SourceError

__all__ = ["Form", "form_of"]

_SHARED = {"YBR_FULL_422", "YBR_PARTIAL_422"}


@dataclass(frozen=True, slots=True)
class Form:
    """How the samples of a value are stored.

    Attributes
    ----------
    bits : int
        Bits Allocated.
    order : str
        Byte order, ``<`` or ``>``.
    is_planar : bool
        Colours are stored plane by plane.
    is_shared : bool
        Two pixels share Cb and Cr.
    is_swapped : bool
        Bytes are swapped in pairs.
    """

    bits: int
    order: Literal["<", ">"]
    is_planar: bool
    is_shared: bool
    is_swapped: bool

    def size(self, samples: int, *, shared: bool = True) -> int:
        """Bytes of a number of samples; those of pixels that share some count as 3 for each."""
        stored = samples * 2 // 3 if self.is_shared and shared else samples
        return -(-stored * self.bits // 8)

    def read(
        self, file: BinaryIO, start: int, first: int, shape: tuple[int, ...], dtype: str
    ) -> NDArray[Any]:
        """Read samples.

        Parameters
        ----------
        file : binary file
            Seekable.
        start : int
            Offset of the value.
        first : int
            Samples before those wanted.
        shape : tuple of int
            (rows, columns) or (rows, columns, 3).
        dtype : str
            Of a sample, without byte order.
        """
        count = math.prod(shape)
        if self.bits == 1:
            skipped = first % 8
            data = self._bytes(file, start + first // 8, -(-(skipped + count) // 8))
            bits = np.unpackbits(np.frombuffer(data, "u1"), bitorder="little")
            return bits[skipped : skipped + count].reshape(shape)
        offset, size = self.size(first), self.size(count)
        if self.is_swapped:
            odd = offset % 2
            data = self._bytes(file, start + offset - odd, odd + size + (odd + size) % 2)
            data = swap_pairs(data)[odd : odd + size]
        else:
            data = self._bytes(file, start + offset, size)
        values = np.frombuffer(data, self.order + dtype)
        if self.is_shared:
            y1, y2, cb, cr = values.reshape(-1, 4).T
            return np.stack([y1, cb, cr, y2, cb, cr], axis=-1).reshape(shape)
        if self.is_planar:
            return values.reshape(shape[2], *shape[:2]).transpose(1, 2, 0)
        return values.reshape(shape)

    @staticmethod
    def _bytes(file: BinaryIO, offset: int, size: int) -> bytes:
        file.seek(offset)
        data = file.read(size)
        if len(data) != size:
            raise SourceError("the file became shorter while it was read")
        return data

    def tail(self, value: bytes, samples: int) -> bytes:
        """Return what is left of a value without its samples: padding, in the order of samples."""
        if self.bits == 1 and samples % 8:
            kept = value[samples // 8] & (0xFF << samples % 8) & 0xFF
            return bytes([kept]) + value[samples // 8 + 1 :]
        if self.is_swapped:
            value = swap_pairs(value)
        return value[self.size(samples) :]

    def value(self, frames: NDArray[Any], tail: bytes) -> bytes:
        """Return the value of (frames, rows, columns[, samples]) and the tail: undo the above."""
        if self.bits == 1:
            packed = bytearray(np.packbits(frames.reshape(-1), bitorder="little").tobytes())
            if frames.size % 8:
                if not tail:
                    raise SourceError("the head lacks the last bits of its pixels")
                packed[-1] |= tail[0]
                tail = tail[1:]
            return bytes(packed) + tail
        if self.is_shared:
            pairs = frames.reshape(-1, 2, 3)
            frames = np.stack([pairs[:, 0, 0], pairs[:, 1, 0], pairs[:, 0, 1], pairs[:, 0, 2]], -1)
        elif self.is_planar:
            frames = frames.transpose(0, 3, 1, 2)
        data = frames.astype(frames.dtype.newbyteorder(self.order), copy=False).tobytes() + tail
        return swap_pairs(data) if self.is_swapped else data


def swap_pairs(data: bytes) -> bytes:
    """Swap the bytes of each pair; a single last byte stays."""
    even = len(data) & ~1
    return np.frombuffer(data[:even], "u2").byteswap().tobytes() + data[even:]


def form_of(dataset: Any, vr: str | None, order: Literal["<", ">"]) -> Form:
    """Return how the samples of a data set are stored.

    Parameters
    ----------
    dataset : pydicom.Dataset
        The instance.
    vr : str or None
        Value representation of the pixel data; None if there are none.
    order : {"<", ">"}
        Byte order of the transfer syntax.
    """
    bits = int(dataset.get("BitsAllocated") or 0)
    samples = int(dataset.get("SamplesPerPixel") or 1)
    is_shared = samples == 3 and str(dataset.get("PhotometricInterpretation", "")) in _SHARED
    return Form(
        bits=bits,
        order=order,
        is_planar=samples > 1 and not is_shared and bool(dataset.get("PlanarConfiguration") or 0),
        is_shared=is_shared,
        is_swapped=bits == 8 and order == ">" and vr == "OW",
    )
