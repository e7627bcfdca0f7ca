"""What benchmarks share: a packed file in memory, and the median time of some work."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mroi


def packed(path: Path, **options: Any) -> bytes:
    """Return the file that `mroi.pack` makes of a volume."""
    file = io.BytesIO()
    mroi.pack(path, file, **options)
    return file.getvalue()


def milliseconds(work: Callable[[], object], repeat: int = 5) -> float:
    """Return the median time of some work."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)
