"""What a notebook shows of a volume: what it is, and planes that are read within a second.

The text is complete in itself, inherits colours of text, and so fits light and dark pages; all that
comes from the file is escaped.
"""

from __future__ import annotations

import io
import math
import time
from base64 import b64encode
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING

from mroi.codecs import Pipeline
from mroi.container import name_of
from mroi.errors import MroiError
from mroi.format.codec_table import Role
from mroi.pictures.planes import (
    Plane,
    View,
    has_place,
    read_coarse,
    read_values,
    step_for,
)
from mroi.pictures.preview import panels_of
from mroi.pictures.sheet import Panel, draw_row
from mroi.text import counted, shape_text, size_text, spacing_text, units_of

if TYPE_CHECKING:
    from mroi.volume.model import Volume

__all__ = ["volume_html"]

_SECONDS = 1.0
_MOST = 1 << 22  # voxels of the chunks of a first plane
_WIDTH, _HEIGHT = 450, 150  # pixels


def volume_html(volume: Volume, drawn: Volume | None) -> str:
    """Return a table of facts beside pictures of up to three planes, as HTML of a few kB.

    Planes are drawn from the overview of a file, if it has one. Without, that across the slice axis
    is read, or the first one of its chunk where a codec is slow, and the two others if that
    promises to take no second; of files on servers none.

    Parameters
    ----------
    volume : Volume
        What is described: perhaps a part.
    drawn : Volume, optional
        What is drawn: the whole of it, best opened with ``missing="fill"``. None draws nothing.

    Returns
    -------
    str
        One element, ``<div>``. What cannot be read is said in it, not raised.
    """
    rows = _facts(volume)
    picture = ""
    try:
        panels = [] if drawn is None else _panels(drawn)
        picture = _image(panels) if panels else ""
    except (MroiError, OSError) as exc:
        rows.append(("not drawn", str(exc)))
    cells = "".join(
        f'<tr><td style="text-align:left;padding:1px 1em 1px 0;opacity:.65">{escape(name)}</td>'
        f'<td style="text-align:left;padding:1px 0">{escape(text)}</td></tr>'
        for name, text in rows
    )
    title = escape(name_of(volume.reader.source.name))
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:1em;align-items:center">'
        f'{picture}<div><div style="font-weight:bold">{title}</div>'
        f'<table style="border-collapse:collapse;margin:0">{cells}</table></div></div>'
    )


def _facts(volume: Volume) -> list[tuple[str, str]]:
    geom, reader = volume.geom, volume.reader
    share = geom.roi.count / math.prod(geom.shape[:3])
    codec = reader.head.codecs[0].name
    found = [
        ("volume", f"{shape_text(volume.shape)}, {geom.datatype.name}"),
        ("spacing", spacing_text(volume.spacing, units_of(geom.xyzt_units), digits=4)),
        ("orientation", volume.orientation if has_place(geom) else "not known"),
        ("ROI", f"{geom.roi} ({share:.0%} of the voxels)"),
        ("codec", f"{codec}, {'lossless' if volume.is_lossless else 'not lossless'}"),
        ("size", f"{size_text(reader.size)} for {size_text(geom.size)} of voxels"),
    ]
    if reader.size < geom.size:
        name, text = found.pop()
        found.append((name, f"{text}, ratio {geom.size / reader.size:.2f}"))
    if missing := len(reader.find_missing()):
        found.append(("missing", f"{missing} of {counted(reader.head.chunk_count, 'chunk')}"))
    return found


def _panels(volume: Volume) -> list[Panel]:
    """Return the planes that are quick to read, as they are drawn."""
    planes = View(volume).centre()
    step = step_for(volume, planes)
    if volume.overview is not None:
        return panels_of(volume, planes, [read_coarse(volume, p, step) for p in planes], step)
    grid = volume.geom.grid
    first = next((plane for plane in planes if plane.axis == volume.geom.slice_axis), planes[0])
    voxels = math.prod(volume.geom.shape[:3]) // volume.geom.shape[first.axis]
    if volume.reader.source.is_remote or voxels * grid.chunk_shape[first.axis] > _MOST:
        return []
    pipeline = _pipeline_of(volume)
    chunk = volume.regions.decoder.spec(grid.extent(0))
    if pipeline.encode_seconds(chunk) * math.prod(grid.counts[1:]) > _SECONDS:
        return []
    begin = _begin_of_chunk(volume, first) if pipeline.supports_prefix else first
    if begin != first and _seconds(volume, begin, step) * (first.index - begin.index) > _SECONDS:
        return panels_of(volume, [begin], [read_values(volume, begin, step)], step)
    start = time.monotonic()
    values = {first: read_values(volume, first, step)}
    # The others take all chunks along the axis of the first, several at once.
    chunks = math.ceil(volume.geom.shape[first.axis] / grid.chunk_shape[first.axis])
    left = (time.monotonic() - start) * math.ceil(chunks / volume.regions.jobs)
    if left <= _SECONDS:
        for plane in planes:
            if plane not in values:
                values[plane] = read_values(volume, plane, step)
    shown = [plane for plane in planes if plane in values]
    return panels_of(volume, shown, [values[plane] for plane in shown], step)


def _pipeline_of(volume: Volume) -> Pipeline:
    """Return what decodes the chunks of the ROI."""
    slots = volume.reader.head.codecs
    return volume.regions.decoder.pipeline([slot.role for slot in slots].index(Role.ROI))


def _begin_of_chunk(volume: Volume, plane: Plane) -> Plane:
    """Return the plane before it that is first in a chunk: the quickest to read."""
    axis, roi = plane.axis, volume.geom.roi
    if axis != volume.slice_axis or not roi.start[axis] <= plane.index < roi.stop[axis]:
        return plane
    behind = (plane.index - roi.start[axis]) % volume.geom.grid.slab
    return replace(plane, index=plane.index - behind)


def _seconds(volume: Volume, plane: Plane, step: int) -> float:
    """Return how long a plane takes, but for what is done once in a process."""
    seconds = math.inf
    for _ in range(2):
        start = time.monotonic()
        read_values(volume, plane, step)
        seconds = min(seconds, time.monotonic() - start)
        if seconds < _SECONDS / 64:
            break
    return seconds


def _image(panels: list[Panel]) -> str:
    """Return panels as an element."""
    row = draw_row(panels, width=_WIDTH, height=_HEIGHT)
    file = io.BytesIO()
    row.save(file, "JPEG", quality=60, optimize=True)
    data = b64encode(file.getvalue()).decode("ascii")
    text = escape("; ".join(" ".join(panel.caption.split()) for panel in panels))
    return (
        f'<img width="{row.width}" height="{row.height}" alt="{text}" title="{text}" '
        f'style="border-radius:4px;margin:0" src="data:image/jpeg;base64,{data}">'
    )
