"""Checks of codec parameters: each returns nothing or raises `CodecError` (rule CDC-6).

A parameter comes from a caller, from a command line or from a file: its type is not to be trusted.
"""

from __future__ import annotations

import math

from mroi.errors import CodecError

__all__ = ["boolean", "integer", "number"]


def boolean(name: str, value: object) -> None:
    """Refuse anything but True and False; raises `CodecError` (rule CDC-6)."""
    if not isinstance(value, bool):
        raise CodecError(f"{name} must be true or false, not {value!r}", "CDC-6")


def integer(name: str, value: object, low: int, high: int) -> None:
    """Refuse anything but an integer within bounds.

    Parameters
    ----------
    name : str
        What the message calls it: codec and field, like ``zstd: level``.
    value : object
        What was given.
    low, high : int
        Least and greatest value allowed.

    Raises
    ------
    CodecError
        If it is of another type, or out of range (rule CDC-6).
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise CodecError(f"{name} must be an integer from {low} to {high}, not {value!r}", "CDC-6")


def number(name: str, value: object, low: float, high: float) -> None:
    """Refuse anything but a finite number within bounds; as `integer`, but for any number.

    Parameters
    ----------
    name : str
        What the message calls it.
    value : object
        What was given.
    low, high : float
        Least and greatest value allowed.

    Raises
    ------
    CodecError
        If it is of another type, not finite, or out of range (rule CDC-6).
    """
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or not low <= value <= high:  # type: ignore[operator]  # `fits` made it a number
        raise CodecError(
            f"{name} must be a number from {low:g} to {high:g}, not {value!r}", "CDC-6"
        )
