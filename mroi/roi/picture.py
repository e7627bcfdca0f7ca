"""The picture of a region of interest that was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mroi.format.geom import Geom
from mroi.geometry import axis_codes
from mroi.pictures.planes import View, Window, drawn_spacing, find_window, to_pixels
from mroi.pictures.sheet import Panel, draw_sheet
from mroi.roi.find import FoundRoi

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["draw_roi"]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a view needs to know of a source with a box found in it."""

    geom: Geom
    orientation: str


def draw_roi(
    found: FoundRoi, title: str, *, window: Window | None = None, width: int = 1280
) -> Image:
    """Draw the box on three planes through its centre; on the image, if it is one.

    Parameters
    ----------
    found : FoundRoi
        The box, and the voxels.
    title : str
        The first line.
    window : Window, optional
        What is drawn black and white; by default `find_window` says.
    width : int
        Pixels of the picture.
    """
    panels = _image_panels(found, window) if found.is_image else _volume_panels(found, window)
    shape = " x ".join(map(str, found.shape))
    lines = [f"{shape} voxels", f"ROI {found.box} ({found.share:.0%} of the voxels), as MedROI"]
    return draw_sheet(panels, columns=len(panels), title=title, lines=lines, width=width)


def _image_panels(found: FoundRoi, window: Window | None) -> list[Panel]:
    pixels = found.pixels()
    rows, columns = pixels.shape
    across, down, _ = drawn_spacing(found.to_geom())
    (x0, y0, _), (x1, y1, _) = found.box.start, found.box.stop
    return [
        Panel(
            to_pixels(pixels.astype(float), window or find_window([pixels])),
            (columns * across, rows * down),
            (x0, y0, x1, y1),
            "    ",  # as stored: which way a detector looked is not known
            f"columns {x0}:{x1}, rows {y0}:{y1}",
        )
    ]


def _volume_panels(found: FoundRoi, window: Window | None) -> list[Panel]:
    geom = found.to_geom()
    view = View(_Seen(geom, axis_codes(geom.affine)))
    planes = view.centre()
    values = [
        found.stored.take(plane.index, plane.axis).astype(np.float64) * found.slope + found.inter
        for plane in planes
    ]
    window = window or find_window(values)
    return [
        view.panel(to_pixels(pixels, window), plane)
        for pixels, plane in zip(values, planes, strict=True)
    ]
