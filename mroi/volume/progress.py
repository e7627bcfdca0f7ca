"""How long work says how far it is."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress"]

Progress = Callable[[str, int, int], object]
"""Called as ``progress(step, done, total)`` with slices done, in the thread of the caller."""
