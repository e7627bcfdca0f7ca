"""Numbers for people."""

from __future__ import annotations

__all__ = ["size_text"]


def size_text(size: float) -> str:
    """Return a number of bytes for people, in powers of 1000 with three digits.

    Examples
    --------
    >>> size_text(0), size_text(999), size_text(1234), size_text(56_789_012)
    ('0 B', '999 B', '1.23 kB', '56.8 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} B" if unit == "B" else f"{size:#.3g} {unit}".replace(". ", " ")
        size /= 1000
    return f"{size:.3g} TB"
