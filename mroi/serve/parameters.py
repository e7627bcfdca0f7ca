"""Parameters of a query, checked once."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mroi.errors import UsageError
from mroi.pictures.planes import Window, parse_window
from mroi.serve.faults import RefusedError

__all__ = ["Parameters", "parse_index"]

_INTEGER = re.compile(r"-?[0-9]{1,9}", re.ASCII)
_FLAGS = {"": True, "1": True, "true": True, "0": False, "false": False}


class Parameters:
    """What stands behind the ``?`` of a URL.

    Parameters
    ----------
    pairs : iterable of (str, str)
        Names and values.
    known : str
        Names there may be, separated by spaces.

    Raises
    ------
    RefusedError
        With status 400: for a name that is not known, or given twice. So do all methods, for
        values that are not what they should be.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]], known: str) -> None:
        self._values: dict[str, str] = {}
        for name, value in pairs:
            if name not in known.split():
                takes = ", ".join(known.split()) or "none"
                raise RefusedError(400, f"unknown parameter {name[:40]!r}: there are {takes}")
            if name in self._values:
                raise RefusedError(400, f"parameter {name} is given twice")
            self._values[name] = value

    def text(self, name: str) -> str | None:
        """Return a value as it is."""
        return self._values.get(name)

    def flag(self, name: str) -> bool:
        """Return whether something is wanted; a name without a value says so."""
        value = self._values.get(name, "0").lower()
        if value not in _FLAGS:
            raise RefusedError(400, f"{name}={value[:40]!r}: expected 1 or 0")
        return _FLAGS[value]

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`."""
        value = self._values.get(name)
        if value is None:
            return default
        if not _INTEGER.fullmatch(value) or not low <= int(value) <= high:
            raise RefusedError(400, f"{name}={value[:40]!r}: expected {low} to {high}")
        return int(value)

    def integers(self, name: str, what: str) -> list[int]:
        """Return whole numbers; `what` names them, separated by commas."""
        value = self._values.get(name)
        if value is None:
            raise RefusedError(400, f"the parameter {name}={what} is missing")
        parts = value.split(",")
        if len(parts) != len(what.split(",")) or not all(map(_INTEGER.fullmatch, parts)):
            raise RefusedError(400, f"{name}={value[:60]!r}: expected {what}")
        return [int(part) for part in parts]

    def window(self) -> Window | None:
        """Return what ``window=LOW,HIGH``, or ``window=WIDTH&level=CENTRE``, says."""
        window, level = self._values.get("window"), self._values.get("level")
        if level is None:
            try:
                return parse_window(window)
            except UsageError as exc:
                raise RefusedError(400, f"{exc.message}, or WIDTH with level=CENTRE") from exc
        try:
            half, middle = float(window or "") / 2, float(level)
            return parse_window(f"{middle - half!r},{middle + half!r}")
        except (ValueError, UsageError) as exc:
            raise RefusedError(
                400, f"window={(window or '')[:40]!r}, level={level[:40]!r}: expected two numbers"
            ) from exc


def parse_index(text: str) -> int:
    """Return the number of a slice.

    Raises
    ------
    RefusedError
        With status 404, if it is none.
    """
    if not _INTEGER.fullmatch(text):
        raise RefusedError(404, f"no slice {text[:40]!r}: expected a whole number")
    return int(text)
