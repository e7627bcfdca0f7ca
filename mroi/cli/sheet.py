"""A contact sheet: pictures of planes side by side, to scale, with letters, box and captions.

Only drawing happens here: what is on a plane, and which way it is turned, is the caller's.
Colours are RGB; x runs to the right and y downwards, in pixels of the sheet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

__all__ = ["Panel", "draw_sheet"]

_GROUND = (13, 17, 22)
_FRAME = (44, 53, 63)
_TEXT = (232, 236, 240)
_QUIET = (148, 160, 172)
_LETTER = (110, 195, 255)
_ROI = (255, 176, 32)

_GAP = 24  # around and between panels
_CAPTION = 34  # below a panel
_LETTERS = 20  # beside a panel
_HEADER = 84
_SMALLEST = 24  # no side of a panel is drawn smaller, however thin the plane is


@dataclass(frozen=True, slots=True)
class Panel:
    """One plane as it is seen.

    Attributes
    ----------
    pixels : ndarray of uint8
        Shape (rows, columns) or (rows, columns, 3); row 0 is at the top.
    size : tuple of 2 float
        Width and height in mm.
    box : tuple of 4 int or None
        Left, top, right, bottom of the ROI: edges between pixels of `pixels`.
    letters : str
        Directions that lie to the left, right, top and bottom; blank where unknown.
    caption : str
        Shown below.
    """

    pixels: NDArray[Any]
    size: tuple[float, float]
    box: tuple[int, int, int, int] | None
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

    rows = [panels[at : at + columns] for at in range(0, len(panels), columns)]
    scale = _scale(rows, width)
    sizes = [[_pixel_size(panel, scale) for panel in row] for row in rows]
    widths = [max(w for w, _ in column) for column in _transposed(sizes)]
    heights = [max(h for _, h in row) for row in sizes]
    sheet_width = max(sum(widths) + len(widths) * 2 * _LETTERS + (len(widths) + 1) * _GAP, 560)
    sheet_height = _HEADER + sum(heights) + len(heights) * (_CAPTION + 2 * _LETTERS) + _GAP
    sheet = Image.new("RGB", (sheet_width, sheet_height), _GROUND)
    draw = ImageDraw.Draw(sheet)
    _header(draw, title, lines, sheet_width)
    top = _HEADER
    for row, height in zip(rows, heights, strict=True):
        left = _GAP + (sheet_width - _row_width(widths)) // 2
        for panel, column in zip(row, widths, strict=False):
            w, h = _pixel_size(panel, scale)
            x = left + _LETTERS + (column - w) // 2
            y = top + _LETTERS + (height - h) // 2
            _panel(sheet, draw, panel, (x, y, w, h))
            _text(draw, (x + w / 2, top + 2 * _LETTERS + height + 2), panel.caption, 14, _QUIET)
            left += column + 2 * _LETTERS + _GAP
        top += height + _CAPTION + 2 * _LETTERS
    return sheet


def _row_width(widths: Sequence[int]) -> int:
    return sum(widths) + len(widths) * 2 * _LETTERS + (len(widths) + 1) * _GAP


def _transposed(sizes: Sequence[Sequence[tuple[int, int]]]) -> list[list[tuple[int, int]]]:
    return [[row[at] for row in sizes if at < len(row)] for at in range(len(sizes[0]))]


def _scale(rows: Sequence[Sequence[Panel]], width: int) -> float:
    """Return pixels per mm so that the rows fit the width, and the height is within bounds."""
    columns = max(len(row) for row in rows)
    wide = max(sum(panel.size[0] for panel in row) for row in rows)
    high = sum(max(panel.size[1] for panel in row) for row in rows)
    free = width - columns * 2 * _LETTERS - (columns + 1) * _GAP
    tall = 1.5 * width - _HEADER - len(rows) * (_CAPTION + 2 * _LETTERS)
    return max(min(free / wide, tall / high), 1e-6)


def _pixel_size(panel: Panel, scale: float) -> tuple[int, int]:
    width, height = (max(_SMALLEST, round(scale * side)) for side in panel.size)
    return width, height


def _panel(sheet: Image, draw: ImageDraw, panel: Panel, place: tuple[int, int, int, int]) -> None:
    from PIL import Image

    x, y, w, h = place
    rows, columns = panel.pixels.shape[:2]
    enlarged = w * h > rows * columns
    method = Image.Resampling.BICUBIC if enlarged else Image.Resampling.LANCZOS
    sheet.paste(Image.fromarray(panel.pixels).resize((w, h), method), (x, y))
    draw.rectangle((x - 1, y - 1, x + w, y + h), outline=_FRAME)
    if panel.box is not None:
        left, top, right, bottom = panel.box
        edges = (
            x + round(left / columns * w),
            y + round(top / rows * h),
            x + round(right / columns * w) - 1,
            y + round(bottom / rows * h) - 1,
        )
        draw.rectangle(edges, outline=_ROI, width=2)
    centre_x, centre_y = x + w / 2, y + h / 2
    for letter, at in zip(
        panel.letters,
        [(x - 12, centre_y), (x + w + 12, centre_y), (centre_x, y - 12), (centre_x, y + h + 12)],
        strict=True,
    ):
        _text(draw, at, letter, 15, _LETTER, anchor="mm")


def _header(draw: ImageDraw, title: str, lines: Sequence[str], width: int) -> None:
    _text(draw, (_GAP, 14), _fitted(draw, title, 22, width - 2 * _GAP), 22, _TEXT, anchor="la")
    for number, line in enumerate(lines):
        text = _fitted(draw, line, 14, width - 2 * _GAP)
        _text(draw, (_GAP, 44 + 19 * number), text, 14, _QUIET, anchor="la")


def _fitted(draw: ImageDraw, text: str, size: int, width: int) -> str:
    """Cut text in the middle until it fits."""
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    kept = text
    while draw.textlength(kept, font) > width and len(text) > 8:
        middle = len(text) // 2
        text = text[: middle - 1] + text[middle + 1 :]
        kept = f"{text[: middle - 1]}...{text[middle - 1 :]}"
    return kept


def _text(
    draw: ImageDraw,
    at: tuple[float, float],
    text: str,
    size: int,
    colour: tuple[int, int, int],
    *,
    anchor: str = "ma",
) -> None:
    from PIL import ImageFont

    draw.text(at, text, fill=colour, font=ImageFont.load_default(size), anchor=anchor)
