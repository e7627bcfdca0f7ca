"""The picture of a volume: planes to scale with letters, the ROI, and what the file is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from mroi.pictures.planes import (
    Drawable,
    Plane,
    View,
    Window,
    find_lost,
    find_window,
    has_place,
    mark,
    read_coarse,
    read_values,
    step_for,
    to_pixels,
)
from mroi.pictures.sheet import Panel, draw_sheet
from mroi.text import shape_text, size_text, spacing_text, units_of

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["draw_preview", "panels_of"]


def draw_preview(
    volume: Drawable,
    title: str,
    *,
    axis: int | None = None,
    count: int = 20,
    volume_index: int = 0,
    window: Window | None = None,
    coarse: bool = False,
    width: int = 1280,
) -> Image:
    """Draw a contact sheet of a volume.

    Parameters
    ----------
    volume : Volume
        Best opened with ``missing="fill"``: what the file lacks is then drawn in magenta.
    title : str
        The first line.
    axis : int, optional
        Draw `count` slices of the ROI across this axis, evenly spread. By default three planes
        through the centre of the ROI.
    count : int
        How many, with `axis`.
    volume_index : int
        Which 3-D volume of 4-D data.
    window : Window, optional
        What is drawn black and white; by default `find_window` says.
    coarse : bool
        Draw from the overview of the file, with one read.
    width : int
        Pixels of the picture.

    Raises
    ------
    UsageError
        If there is no such 3-D volume, or no overview.
    LimitError
        If a plane is so large that reading it would take minutes.
    SourceError
        If values of this type cannot be drawn.
    """
    view = View(volume)
    planes = (
        view.centre(volume_index) if axis is None else _spread(volume, axis, count, volume_index)
    )
    read = read_coarse if coarse else read_values
    step = step_for(volume, planes)
    values = [read(volume, plane, step) for plane in planes]
    panels = panels_of(volume, planes, values, step, window)
    if axis is not None:  # many of a kind: one set of letters is enough
        panels[1:] = [replace(panel, letters="    ") for panel in panels[1:]]
    columns = len(panels) if axis is None else _columns(len(panels), panels[0].size)
    lines = _lines(volume, volume_index, len(volume.reader.find_missing()))
    return draw_sheet(panels, columns=columns, title=title, lines=lines, width=width)


def panels_of(
    volume: Drawable,
    planes: Sequence[Plane],
    values: Sequence[NDArray[Any]],
    step: int = 1,
    window: Window | None = None,
) -> list[Panel]:
    """Return planes of a volume as they are drawn, all in one window; what is lost is marked.

    Parameters
    ----------
    volume : Volume
        What they are of.
    planes : sequence of Plane
        Which they are.
    values : sequence of ndarray
        What `read_values` or `read_coarse` returned for each.
    step : int
        Which voxels these took.
    window : Window, optional
        What is drawn black and white; by default `find_window` says.
    """
    view, missing = View(volume), volume.reader.find_missing()
    lost = [find_lost(volume, plane, missing, step) for plane in planes]
    window = window or find_window([v[~gone] for v, gone in zip(values, lost, strict=True)])
    return [
        view.panel(mark(to_pixels(v, window), gone), plane, step)
        for v, gone, plane in zip(values, lost, planes, strict=True)
    ]


def _spread(volume: Drawable, axis: int, count: int, volume_index: int) -> list[Plane]:
    """Return planes of the ROI along an axis, evenly spread."""
    start, stop = volume.geom.roi.start[axis], volume.geom.roi.stop[axis]
    shown = min(count, stop - start)
    apart = (stop - start) / shown
    return [Plane(axis, start + int((n + 0.5) * apart), volume_index) for n in range(shown)]


def _columns(count: int, size: tuple[float, float]) -> int:
    """Return how many panels in a row give a sheet about 1.6 times as wide as high, rows full."""
    wide, high = size

    def badness(columns: int) -> float:
        rows = -(-count // columns)
        shape = columns * wide / (rows * high)
        empty = rows * columns - count
        return abs(math.log(shape / 1.6)) + empty / count

    return min(range(1, count + 1), key=badness)


def _lines(volume: Drawable, volume_index: int, missing: int) -> list[str]:
    geom, reader = volume.geom, volume.reader
    spacing = spacing_text(volume.spacing[:3], units_of(geom.xyzt_units), digits=3)
    orientation = volume.orientation if has_place(geom) else "orientation not known"
    first = [f"{shape_text(volume.shape)} of {spacing}", geom.datatype.name, orientation]
    if missing:
        first.insert(0, f"{missing} of {reader.head.chunk_count} chunks are missing (magenta)")
    if geom.grid.volumes > 1:
        first.append(f"volume {volume_index} of {geom.grid.volumes}")
    share = geom.roi.count / math.prod(geom.shape[:3])
    second = [
        f"ROI {geom.roi} ({share:.0%} of the voxels)",
        reader.head.codecs[0].name,
        f"{size_text(reader.size)} for {size_text(geom.size)} of voxels",
    ]
    return ["   ".join(first), "   ".join(second)]
