"""What a reader agrees to take on; overridden by the caller, never by a file (section "Limits")."""

from __future__ import annotations

import os
from dataclasses import dataclass

__all__ = ["DEFAULT_LIMITS", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what is read before memory is taken for it; sizes in bytes.

    Attributes
    ----------
    head_size : int
        Prefix and head frames.
    frames : int
        Frames of the head, of the preface, and of the tail, each.
    metadata_stored, metadata_size : int
        One metadata frame as stored, and once inflated.
    volume_size : int
        The decoded volume.
    chunk_size : int
        One decoded chunk.
    chunks : int
        Chunks of a file; a reader keeps 8 bytes for each.
    isolate : bool or None
        Whether payloads of native codecs are decoded in a process of its own, which may crash and
        not take this one along. None: as the environment variable ``MROI_ISOLATE`` says, 1 or 0;
        without it, only where files are checked and saved (`mroi.verify`, `mroi.recover`).
    """

    head_size: int = 1 << 28
    frames: int = 4096
    metadata_stored: int = 1 << 26
    metadata_size: int = 1 << 28
    volume_size: int = 1 << 36
    chunk_size: int = 1 << 31
    chunks: int = 1 << 24
    isolate: bool | None = None

    def isolates(self, *, default: bool) -> bool:
        """Return what `isolate` says, or the environment, or else `default`."""
        if self.isolate is not None:
            return self.isolate
        return {"1": True, "0": False}.get(os.environ.get("MROI_ISOLATE", ""), default)


DEFAULT_LIMITS = Limits()
