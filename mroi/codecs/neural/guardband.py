"""From numbers that machines compute a little differently to integers that they all agree about.

Two machines that compute in binary64 differ in the last digits, and that matters only where a
number lies next to the border between two integers. There the encoder says which it was: an
exception. The bands are some ten thousand times wider than any difference that was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["NONE", "Exceptions", "indexes_of", "rounded"]

_RELATIVE = 1e-9
_ABSOLUTE = 1e-6
_BELIEVED = 1e-5  # how near to a border a decoder finds what an encoder found nearer


@dataclass(frozen=True, slots=True, eq=False)
class Exceptions:
    """Numbers next to a border, and the integers they became.

    Attributes
    ----------
    places : (n,) ndarray of uint32
        Ascending.
    values : (n,) ndarray of uint8
        For an index itself, for a rounded number 1 if it was rounded up.
    """

    places: NDArray[np.uint32]
    values: NDArray[np.uint8]

    @classmethod
    def parse(cls, data: memoryview, count: int) -> tuple[Self, memoryview]:
        """Return what `to_bytes` put in front of `data`, and the rest; raises ValueError."""
        if len(data) < 5 * count:
            raise ValueError("exceptions are cut short")
        places = np.frombuffer(data, "<u4", count).astype(np.uint32)
        return cls(places, np.frombuffer(data, np.uint8, count, 4 * count)), data[5 * count :]

    def to_bytes(self) -> bytes:
        """Return all places, then all values."""
        return self.places.astype("<u4").tobytes() + self.values.tobytes()

    def check(self, count: int) -> None:
        """Raise ValueError if there is a place beyond `count` numbers, or they are not in order."""
        if self.places.size and int(self.places[-1]) >= count:
            raise ValueError("an exception is of no number that there is")
        if (np.diff(self.places.astype(np.int64)) <= 0).any():
            raise ValueError("exceptions are not in order")

    def within(self, start: int, stop: int) -> Exceptions:
        """Return those of some places, counted from `start`."""
        inside = slice(*np.searchsorted(self.places, (start, stop)))
        return Exceptions(self.places[inside] - np.uint32(start), self.values[inside])

    def and_then(self, others: Exceptions, start: int) -> Exceptions:
        """Return these, and others whose places are counted from `start`."""
        places = np.concatenate([self.places, others.places + np.uint32(start)])
        return Exceptions(places, np.concatenate([self.values, others.values]))


NONE = Exceptions(np.empty(0, np.uint32), np.empty(0, np.uint8))
"""No exceptions."""


def indexes_of(
    numbers: NDArray[np.float64], borders: NDArray[np.float64], known: Exceptions | None = None
) -> tuple[NDArray[np.int32], Exceptions]:
    """Return for each number how many borders are below it.

    Parameters
    ----------
    numbers : ndarray
        Flat.
    borders : ndarray
        Positive, ascending.
    known : Exceptions or None
        What an encoder found: given to a decoder.

    Returns
    -------
    indexes : ndarray of int32
        A number that equals a border is not above it.
    near : Exceptions
        The numbers within 1e-9 of a border, relative to it.
    """
    indexes = np.searchsorted(borders, numbers, side="left").astype(np.int32)
    above = borders[np.minimum(indexes, borders.size - 1)]
    below = borders[np.maximum(indexes - 1, 0)]
    near = (np.abs(numbers - above) <= _RELATIVE * above) | (
        np.abs(numbers - below) <= _RELATIVE * below
    )
    if known is not None:
        indexes[known.places] = known.values
    places = np.flatnonzero(near)
    return indexes, Exceptions(places.astype(np.uint32), indexes[places].astype(np.uint8))


def rounded(
    numbers: NDArray[np.float64], known: Exceptions | None = None
) -> tuple[NDArray[np.float64], Exceptions]:
    """Return numbers rounded to integers, half up.

    Parameters
    ----------
    numbers : ndarray
        Flat.
    known : Exceptions or None
        What an encoder found: given to a decoder.

    Returns
    -------
    integers : ndarray of float64
        The integers.
    near : Exceptions
        The numbers within 1e-6 of the middle between two.

    Raises
    ------
    ValueError
        If an exception is none.
    """
    low = np.floor(numbers)
    fraction = numbers - low
    up = fraction >= 0.5
    away = np.abs(fraction - 0.5)
    if known is not None:
        if (known.values > 1).any() or (away[known.places] > _BELIEVED).any():
            raise ValueError("an exception is of a number that lies next to no border")
        up[known.places] = known.values != 0
    places = np.flatnonzero(away <= _ABSOLUTE)
    return low + up, Exceptions(places.astype(np.uint32), up[places].astype(np.uint8))
