"""Checks of codec parameters: each returns nothing or raises `CodecError` (rule CDC-6).

A parameter comes from a caller, from a command line or from a file: its type is not to be trusted.
"""

from __future__ import annotations

import math

from mroi.errors import CodecError

__all__ = ["boolean", "integer", "number"]


def boolean(name: str, value: object) -> None:
    """Refuse anything but True and False."""
    if not isinstance(value, bool):
        raise CodecError(f"{name} is true or false, not {value!r}", "CDC-6")


def integer(name: str, value: object, low: int, high: int) -> None:
    """Refuse anything but an integer of the closed interval from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise CodecError(f"{name} is an integer from {low} to {high}, not {value!r}", "CDC-6")


def number(name: str, value: object, low: float, high: float) -> None:
    """Refuse anything but a finite number of the closed interval from `low` to `high`."""
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or not low <= value <= high:  # type: ignore[operator]  # `fits` made it a number
        raise CodecError(f"{name} is a number from {low:g} to {high:g}, not {value!r}", "CDC-6")
