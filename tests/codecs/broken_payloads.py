"""Payloads of `spec/vectors` that break one rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mroi.codecs.base import ChunkSpec


def load(path: Path) -> tuple[bytes, ChunkSpec, str]:
    """Return a payload, of what it is said to be, and the rule that it breaks."""
    about: dict[str, Any] = json.loads(path.with_suffix(".json").read_text("utf-8"))
    dtype = np.dtype(about["dtype"])
    spec = ChunkSpec(tuple(about["shape"]), dtype, 8 * dtype.itemsize)
    return path.read_bytes(), spec, about["rule"]
