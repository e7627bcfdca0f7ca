"""Payloads of GEOM, made from the table of the specification and not by what they test."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from mroi.format.geom import Geom, parse_geom

LAYOUT = np.dtype(
    [
        ("size", "<u2"),
        ("ndim", "u1"),
        ("slice_axis", "u1"),
        ("datatype", "<u2"),
        ("itemsize", "u1"),
        ("bits_stored", "u1"),
        ("shape", "<u8", 7),
        ("roi_start", "<u8", 3),
        ("roi_stop", "<u8", 3),
        ("chunk_shape", "<u4", 4),
        ("background", "u1"),
        ("source_kind", "u1"),
        ("source_flags", "u1"),
        ("xyzt_units", "u1"),
        ("xform_code", "<i2"),
        ("reserved", "S2"),
        ("slope", "<f8"),
        ("inter", "<f8"),
        ("spacing", "<f8", 7),
        ("affine", "<f8", 12),
        ("fill", "V32"),
        ("roi_chunks", "<u4"),
        ("background_chunks", "<u4"),
    ]
)
"""The table "Geom"."""

SMALL: dict[str, Any] = {
    "size": 344,
    "ndim": 3,
    "slice_axis": 2,
    "datatype": 512,
    "itemsize": 2,
    "bits_stored": 12,
    "shape": (4, 3, 2, 1, 1, 1, 1),
    "roi_start": (0, 0, 0),
    "roi_stop": (4, 3, 2),
    "chunk_shape": (4, 3, 1, 1),
    "background": 1,
    "slope": 1.0,
    "affine": (1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0),
    "roi_chunks": 2,
}
"""A whole volume of two slices of unsigned integers."""

# Bytes of an element and samples in it, by code (section "GEOM").
ELEMENTS = {
    2: (1, 1), 4: (2, 1), 8: (4, 1), 16: (4, 1), 32: (8, 1), 64: (8, 1), 128: (3, 3), 256: (1, 1),
    512: (2, 1), 768: (4, 1), 1024: (8, 1), 1280: (8, 1), 1536: (16, 1), 1792: (16, 1),
    2048: (32, 1), 2304: (4, 4),
}  # fmt: skip


def geom_bytes(**fields: Any) -> bytes:
    """Return the payload of GEOM of these fields; others are those of `SMALL`, or zero."""
    record = np.zeros((), LAYOUT)
    for name, value in {**SMALL, **fields}.items():
        record[name] = value.ljust(32, b"\0") if name == "fill" else value
    return record.tobytes()


def geom_of(**fields: Any) -> Geom:
    """Return the value of such a payload."""
    return parse_geom(geom_bytes(**fields), offset=0)


@st.composite
def geom_payloads(draw: st.DrawFn) -> bytes:
    """Return payloads of volumes of every number of axes, type and background."""
    ndim = draw(st.integers(1, 7))
    spatial = [draw(st.integers(1, 9) | st.integers(1, 40_000)) for _ in range(min(ndim, 3))]
    shape = [*spatial, *[1] * (3 - len(spatial))]
    shape += [draw(st.integers(1, 4)) if axis < ndim else 1 for axis in range(3, 7)]
    start = [draw(st.integers(0, n - 1)) for n in shape[:3]]
    stop = [draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=False)]
    sides = [b - a for a, b in zip(start, stop, strict=True)] + [shape[3]]
    chunk = [draw(st.integers(-(-n // 20), n)) for n in sides]
    slice_axis = draw(st.integers(0, 2))
    background = 1 if sides[:3] == shape[:3] else draw(st.integers(0, 4))
    code = draw(st.sampled_from(sorted(ELEMENTS)))
    itemsize, samples = ELEMENTS[code]
    groups = -(-shape[3] // chunk[3]) * math.prod(shape[4:])
    slabs = -(-shape[slice_axis] // chunk[slice_axis]) if background in (2, 3) else 0
    finite = st.floats(allow_nan=False, allow_infinity=False)
    axes = max(ndim, 3)
    distance = st.floats(0, allow_nan=False, allow_infinity=False)
    return geom_bytes(
        ndim=ndim,
        slice_axis=slice_axis,
        datatype=code,
        itemsize=itemsize,
        bits_stored=draw(st.integers(1, min(255, 8 * itemsize // samples))),
        shape=shape,
        roi_start=start,
        roi_stop=stop,
        chunk_shape=chunk,
        background=background,
        source_kind=draw(st.sampled_from([0, 1, 2, 3, 4, 5, 255])),
        source_flags=draw(st.integers(0, 3)),
        xyzt_units=draw(st.integers(0, 255)),
        xform_code=draw(st.integers(0, 5)),
        slope=draw(finite.filter(bool)),
        inter=draw(finite),
        spacing=[*[draw(distance) for _ in range(axes)], *[0] * (7 - axes)],
        affine=[draw(finite) for _ in range(12)],
        fill=draw(st.binary(min_size=itemsize, max_size=itemsize)) if background in (1, 4) else b"",
        roi_chunks=math.prod(-(-n // c) for n, c in zip(sides[:3], chunk, strict=False)) * groups,
        background_chunks=slabs * groups,
    )
