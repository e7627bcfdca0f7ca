"""Ways to break a file in one place, and what an invalid vector is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cases.sample import RAW, RAW_BACKGROUND, Sample, voxels
from reference import layout
from reference.layout import Draft, Part

Fault = Callable[[Draft], None]

ROI = [(1, 3)] * 3
TAIL = {"index": "tail"}
OPEN, DECODE, VERIFY = "open", "decode", "verify"


@dataclass(frozen=True)
class Case:
    """One invalid file."""

    rule: str
    name: str
    when: str
    description: str
    data: bytes
    also: Sequence[str] = ()


def base(**fields: Any) -> Sample:
    """Return the sample that most faults are made in: two chunks of four voxels."""
    return Sample(voxels((4, 4, 3), 2), **{"roi": ROI} | fields)


def residue(**fields: Any) -> Sample:
    """Return a sample with background chunks: 2 of the ROI, 3 behind them."""
    return base(background=2, **{"codecs": (RAW, RAW_BACKGROUND)} | fields)


def header(kind: bytes, ordinal: int = 0, /, **values: Any) -> Fault:
    """Return the fault that a frame header has these values."""
    return lambda draft: draft.find(kind, ordinal).header.update(values)


def payload(kind: bytes, edit: Callable[[bytes], bytes], ordinal: int = 0) -> Fault:
    """Return the fault that the payload of a frame is edited."""

    def fault(draft: Draft) -> None:
        part = draft.find(kind, ordinal)
        part.payload = edit(part.payload)

    return fault


def put(where: str, position: int, *parts: Part) -> Fault:
    """Return the fault that frames stand where they should not."""

    def fault(draft: Draft) -> None:
        target = getattr(draft, where)
        target[position:position] = [part.copy() for part in parts]

    return fault


def drop(where: str, kind: bytes) -> Fault:
    """Return the fault that a frame is not there."""

    def fault(draft: Draft) -> None:
        getattr(draft, where).remove(draft.find(kind))

    return fault


def change(data: bytes, offset: int, new: bytes) -> bytes:
    """Return the file with some bytes changed, and no CRC recomputed."""
    assert data[offset : offset + len(new)] != new
    return data[:offset] + new + data[offset + len(new) :]


def flip(data: bytes, kind: bytes, offset: int, ordinal: int = 0) -> bytes:
    """Return the file with one bit changed, `offset` bytes into a frame."""
    at = offset + next(
        frame.offset
        for frame in layout.File.parse(data).frames
        if (frame.header.type, frame.header.ordinal) == (kind, ordinal)
    )
    return change(data, at, bytes([data[at] ^ 1]))


def draft_end(draft: Draft) -> int:
    """Return the offset after the last chunk of a draft with its index at the tail."""
    return 64 + sum(part.size for part in (*draft.head, *draft.preface, *draft.chunks))
