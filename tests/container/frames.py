"""Sections of files, put together frame by frame: each checksum is right, whatever the order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mroi.container.sections import Head, parse_head
from mroi.errors import FormatError
from mroi.format.codec_table import CodecEntry, Role, build_codec_table
from mroi.format.geom import build_geom, build_roi_record
from mroi.format.records import Incompat, Prefix, build_frame
from mroi.limits import DEFAULT_LIMITS, Limits
from tests.format.geometries import geom_of

SYNC = 0x1234_56F0
UNBOUNDED = 1 << 62

WHOLE = geom_of()
"""Two chunks of one slice, 24 bytes each."""
KEPT = geom_of(
    roi_stop=(4, 3, 1), background=2, roi_chunks=1, background_chunks=2, chunk_shape=(4, 3, 1, 1)
)
"""A chunk of the ROI, the first slice; of its background in slabs none of the first, 24 bytes."""


def slot(role: Role = Role.ROI, fidelity: int = 1) -> CodecEntry:
    """Return a codec slot."""
    parameters: dict[str, object] = {"encoder": {}, "filters": [], "impl": "test", "params": {}}
    return CodecEntry("raw", 1, fidelity, role, 1, is_deterministic=True, parameters=parameters)


def frame(kind: bytes, payload: bytes = b"", **fields: Any) -> bytes:
    """Return a frame of the files of these tests."""
    return build_frame(kind, payload, sync=SYNC, **fields)


ROIB = frame(b"rOIB", build_roi_record(WHOLE))
GEOM = frame(b"GEOM", build_geom(WHOLE))
CODC = frame(b"CODC", build_codec_table([slot()]))
BASIC = (ROIB, GEOM, CODC)
"""The least that a head has."""

KEPT_HEAD = (
    frame(b"rOIB", build_roi_record(KEPT)),
    frame(b"GEOM", build_geom(KEPT)),
    frame(b"CODC", build_codec_table([slot(), slot(Role.BACKGROUND)])),
)


def head_of(
    frames: Sequence[bytes] = BASIC,
    *,
    stop: int = UNBOUNDED,
    limits: Limits = DEFAULT_LIMITS,
    **prefix: Any,
) -> Head:
    """Parse a head of these frames, behind a prefix of 64 bytes with these fields."""
    data = b"".join(frames)
    fields = {"head_size": 64 + len(data), "sync": SYNC, **prefix}
    return parse_head(Prefix(**fields), data, stop=stop, limits=limits)


def kept_head() -> Head:
    """Return the head of a file that keeps its background."""
    return head_of(KEPT_HEAD, incompat=Incompat.BACKGROUND_PLANE)


def rule_of(error: FormatError) -> tuple[str, int | None]:
    """Return what an error names: the rule and the place."""
    return error.rule, error.offset
