"""Axes by name."""

from __future__ import annotations

import operator
from typing import Literal, SupportsIndex, cast

from mroi.errors import UsageError

__all__ = ["AXES", "Axis", "AxisName", "axis_number"]

AXES = "xyz"

AxisName = Literal["x", "y", "z"]
Axis = SupportsIndex | AxisName
"""A spatial axis as callers name it: 0, 1, 2, or ``"x"``, ``"y"``, ``"z"``."""


def axis_number(axis: Axis) -> int:
    """Return the number of a spatial axis.

    Examples
    --------
    >>> axis_number("y"), axis_number(2)
    (1, 2)

    Raises
    ------
    UsageError
        If there is no such axis.
    """
    if axis in ("x", "y", "z"):
        return AXES.index(axis)
    try:
        number = -1 if isinstance(axis, bool) else operator.index(cast("SupportsIndex", axis))
    except TypeError:
        number = -1
    if number not in (0, 1, 2):
        raise UsageError(f"axis {axis!r}: expected 0, 1, 2, 'x', 'y' or 'z'")
    return number
