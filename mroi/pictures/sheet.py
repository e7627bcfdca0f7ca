"""A contact sheet: pictures of planes side by side, to scale, with letters, box and captions.

Only drawing happens here: what is on a plane, and which way it is turned, is the caller's.
Colours are RGB; x runs to the right and y downwards, in pixels of the sheet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = ["Panel", "draw_row", "draw_sheet"]

_GROUND = (13, 17, 22)
_FRAME = (44, 53, 63)
_TEXT = (232, 236, 240)
_QUIET = (148, 160, 172)
_LETTER = (110, 195, 255)
_ROI = (255, 176, 32)

_MARGIN = 24  # around the sheet
_HEADER = 92
_CAPTION = 30  # below a panel
_SMALLEST = 24  # no side of a panel is drawn smaller, however thin the plane is
_SMALLEST_BOX = 5  # nor one of a box
_BLOCK = 64  # pixels of a voxel from which on it is seen as a block, not smoothed into others


@dataclass(frozen=True, slots=True)
class Panel:
    """One plane as it is seen.

    Attributes
    ----------
    pixels : ndarray of uint8
        Shape (rows, columns) or (rows, columns, 3); row 0 is at the top.
    size : tuple of 2 float
        Width and height: finite, positive, in one unit for all panels.
    box : tuple of 4 float or None
        Left, top, right, bottom of the ROI: edges between pixels of `pixels`.
    letters : str
        Directions that lie to the left, right, top and bottom; blank where unknown.
    caption : str
        Shown below.
    """

    pixels: NDArray[Any]
    size: tuple[float, float]
    box: tuple[float, float, float, float] | None
    letters: str
    caption: str


def draw_sheet(
    panels: Sequence[Panel], *, columns: int, title: str, lines: Sequence[str], width: int
) -> Image:
    """Return the sheet, panels in rows of `columns`, all on one scale.

    Parameters
    ----------
    panels : sequence of Panel
        At least one.
    columns : int
        Panels in a row.
    title : str
        First line, large.
    lines : sequence of str
        One or two lines below it.
    width : int
        The sheet is about this many pixels wide, and at most 1.5 times as high.
    """
    from PIL import Image, ImageDraw

    gap = 28 if len(panels) <= 3 else 12
    rows = [panels[at : at + columns] for at in range(0, len(panels), columns)]
    scale = _scale(rows, width, gap)
    sizes = [[_pixel_size(panel, scale) for panel in row] for row in rows]
    widths = [max(row[at][0] for row in sizes if at < len(row)) for at in range(len(rows[0]))]
    heights = [max(h for _, h in row) for row in sizes]
    used = sum(widths) + (len(widths) - 1) * gap
    sheet_width = max(used + 2 * _MARGIN, 560)
    sheet_height = _HEADER + sum(heights) + len(rows) * (_CAPTION + gap) - gap + _MARGIN // 2
    sheet = Image.new("RGB", (sheet_width, sheet_height), _GROUND)
    draw = ImageDraw.Draw(sheet)
    _header(draw, title, lines, sheet_width)
    top = _HEADER
    for row, places, height in zip(rows, sizes, heights, strict=True):
        left = (sheet_width - used) // 2
        for panel, (w, h), column in zip(row, places, widths, strict=False):
            place = (left + (column - w) // 2, top + (height - h) // 2, w, h)
            _panel(sheet, draw, panel, place)
            _text(draw, (left + column / 2, top + height + 7), panel.caption, 14, _QUIET)
            left += column + gap
        top += height + _CAPTION + gap
    return sheet


def draw_row(panels: Sequence[Panel], *, width: int, height: int) -> Image:
    """Return panels side by side on one scale, without any text but their letters.

    Parameters
    ----------
    panels : sequence of Panel
        At least one.
    width, height : int
        The picture is at most about so large.
    """
    from PIL import Image, ImageDraw

    gap = 6
    free = width - (len(panels) + 1) * gap
    scale = min(
        free / sum(panel.size[0] for panel in panels),
        (height - 2 * gap) / max(panel.size[1] for panel in panels),
    )
    sizes = [_pixel_size(panel, scale) for panel in panels]
    high = max(h for _, h in sizes)
    row = Image.new(
        "RGB", (sum(w for w, _ in sizes) + (len(sizes) + 1) * gap, high + 2 * gap), _GROUND
    )
    draw = ImageDraw.Draw(row)
    left = gap
    for panel, (w, h) in zip(panels, sizes, strict=True):
        _panel(row, draw, panel, (left, gap + (high - h) // 2, w, h), letters=11)
        left += w + gap
    return row


def _scale(rows: Sequence[Sequence[Panel]], width: int, gap: int) -> float:
    """Return pixels per mm so that the columns fit the width, and the height is within bounds."""
    columns = [[row[at] for row in rows if at < len(row)] for at in range(len(rows[0]))]
    wide = sum(max(panel.size[0] for panel in column) for column in columns)
    high = sum(max(panel.size[1] for panel in row) for row in rows)
    free = width - 2 * _MARGIN - (len(columns) - 1) * gap
    tall = 1.5 * width - _HEADER - len(rows) * (_CAPTION + gap)
    return max(min(free / wide, tall / high), 0)


def _pixel_size(panel: Panel, scale: float) -> tuple[int, int]:
    width, height = (max(_SMALLEST, round(scale * side)) for side in panel.size)
    return width, height


def _panel(
    sheet: Image,
    draw: ImageDraw,
    panel: Panel,
    place: tuple[int, int, int, int],
    *,
    letters: int = 16,
) -> None:
    from PIL import Image

    x, y, w, h = place
    rows, columns = panel.pixels.shape[:2]
    area = w * h / (rows * columns)  # of a voxel, in pixels
    method = Image.Resampling.BICUBIC if area > 1 else Image.Resampling.LANCZOS
    if area >= _BLOCK:
        method = Image.Resampling.NEAREST
    sheet.paste(Image.fromarray(panel.pixels).resize((w, h), method), (x, y))
    draw.rectangle((x - 1, y - 1, x + w, y + h), outline=_FRAME)
    if panel.box is not None:
        left, top, right, bottom = panel.box
        x0, x1 = _edges(left / columns, right / columns, w)
        y0, y1 = _edges(top / rows, bottom / rows, h)
        draw.rectangle(
            (x + x0, y + y0, x + x1, y + y1), outline=_ROI, width=2 if letters > 12 else 1
        )
    middle, inset = (x + w / 2, y + h / 2), letters - 3
    spots = [
        (x + inset - 1, middle[1]),
        (x + w - inset + 1, middle[1]),
        (middle[0], y + inset),
        (middle[0], y + h - inset),
    ]
    for letter, spot in zip(panel.letters, spots, strict=True):
        draw.text(spot, letter, _LETTER, _font(letters), "mm", stroke_width=2, stroke_fill=_GROUND)


def _edges(start: float, stop: float, size: int) -> tuple[int, int]:
    """Return the first and last pixel of a part of a side; a small part is drawn larger."""
    first = min(round(start * size), size - _SMALLEST_BOX)
    return first, max(round(stop * size) - 1, first + _SMALLEST_BOX - 1)


def _header(draw: ImageDraw, title: str, lines: Sequence[str], width: int) -> None:
    _text(
        draw, (_MARGIN, 14), _fitted(draw, title, 22, width - 2 * _MARGIN), 22, _TEXT, anchor="la"
    )
    for number, line in enumerate(lines):
        text = _fitted(draw, line, 14, width - 2 * _MARGIN)
        _text(draw, (_MARGIN, 44 + 19 * number), text, 14, _QUIET, anchor="la")


def _fitted(draw: ImageDraw, text: str, size: int, width: int) -> str:
    """Leave out the middle of a text that is too long."""
    shown, kept = text, len(text)
    while (length := draw.textlength(shown, _font(size))) > width and kept > 4:
        kept = min(kept - 1, int(kept * width / length))
        shown = f"{text[: kept // 2]}...{text[len(text) - kept // 2 :]}"
    return shown


def _text(
    draw: ImageDraw,
    at: tuple[float, float],
    text: str,
    size: int,
    colour: tuple[int, int, int],
    *,
    anchor: str = "ma",
) -> None:
    draw.text(at, text, fill=colour, font=_font(size), anchor=anchor)


@cache
def _font(size: int) -> FreeTypeFont | ImageFont:
    """Return the font that comes with Pillow."""
    from PIL import ImageFont

    return ImageFont.load_default(size)
