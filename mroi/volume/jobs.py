"""How many threads work."""

from __future__ import annotations

import operator
import os
from typing import SupportsIndex

from mroi.errors import UsageError

__all__ = ["default_jobs", "threads_of"]


def default_jobs() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_of(jobs: SupportsIndex | None) -> int:
    """Return the number of threads that a caller means: the processors for None or 0.

    Raises
    ------
    UsageError
        If it is no number of threads.
    """
    try:
        number = -1 if isinstance(jobs, bool) else operator.index(0 if jobs is None else jobs)
    except TypeError:
        number = -1
    if number < 0:
        raise UsageError(
            f"jobs {jobs!r}: expected a number of threads, None or 0 for all processors"
        )
    return number or default_jobs()
