"""Charts as SVG, drawn with the colours of the page that they stand in.

Colours, and what is dark on light or light on dark, are classes: see the style of `report`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["COLOURS", "Point", "Series", "draw_chart"]

COLOURS = 8
"""Classes ``c0`` to ``c7``; then they come again, with another mark."""

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 16, 16, 48
_BAND = 26  # for points without a finite y
_LEGEND_LINE = 20
_CHARACTER = 7.2  # width of one of the legend, about
_TICKS = 6
_DIGITS = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(n / 10 for n in range(10, 100)))
"""First digits of round values on a logarithmic axis: the coarsest that make enough ticks."""
_SHAPES = {
    1: ((-4, -4), (4, -4), (4, 4), (-4, 4)),
    2: ((0, -5), (5, 4), (-5, 4)),
    3: ((0, -5), (5, 0), (0, 5), (-5, 0)),
}


@dataclass(frozen=True, slots=True)
class Point:
    """A measurement.

    Attributes
    ----------
    x, y : float
        `y` may be infinite: such points stand in a band of their own at the top.
    text : str
        Shown when the pointer rests on it.
    is_whole : bool
        Drawn full; what is not comparable with its neighbours is drawn hollow.
    """

    x: float
    y: float
    text: str
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one kind, joined by a line in the order of x."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values to pixels: linear, or by their logarithm."""

    low: float
    high: float
    start: float
    stop: float
    is_log: bool

    def at(self, value: float) -> float:
        low, high, value = (
            (math.log10(v) if self.is_log else v) for v in (self.low, self.high, value)
        )
        return self.start + (self.stop - self.start) * (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """Return round values within."""
        if self.is_log:
            exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)))
            inside: list[float] = []
            for digits in _DIGITS:
                every = (m * 10.0**e for e in exponents for m in digits)
                inside = [value for value in every if self.low <= value <= self.high]
                if len(inside) >= _TICKS // 2:
                    break
            return inside
        rough = (self.high - self.low) / _TICKS
        size = 10.0 ** math.floor(math.log10(rough))
        step = next(m * size for m in (1, 2, 5, 10) if m * size >= rough)
        first = math.ceil(self.low / step)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def draw_chart(
    series: Sequence[Series], x_label: str, y_label: str, *, log_y: bool = False, band: str = ""
) -> str:
    """Return a chart as an SVG element; the x axis is logarithmic.

    Parameters
    ----------
    series : sequence of Series
        Values of x, and of y where its axis is logarithmic, are positive.
    x_label, y_label : str
        Of the axes, with units.
    log_y : bool
        Whether the y axis is logarithmic, too.
    band : str
        What points with an infinite y are called.
    """
    points = [point for one in series for point in one.points]
    if not points:
        return ""
    rows = _legend_rows(series)
    top = _TOP + (_BAND if any(math.isinf(point.y) for point in points) else 0)
    height = _HEIGHT + _LEGEND_LINE * len(rows)
    x = _scale([point.x for point in points], _LEFT, _WIDTH - _RIGHT, is_log=True)
    finite = [point.y for point in points if math.isfinite(point.y)]
    y = _scale(finite or [1.0], _HEIGHT - _BOTTOM, top, is_log=log_y)
    label = f"{escape(y_label)} against {escape(x_label)}"
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{label}">',
        *_axes(x, y, x_label, y_label),
    ]
    if top != _TOP:
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{top}" y2="{top}"/>'
            f'<text x="{_LEFT - 6}" y="{_TOP + 16}" class="end">{escape(band)}</text>'
        )
    for number, one in enumerate(series):
        parts += _drawn(one, number, x, y)
    for row, names in enumerate(rows):
        parts += _legend(names, _HEIGHT + _LEGEND_LINE * row)
    return "".join([*parts, "</svg>"])


def _scale(values: Sequence[float], start: float, stop: float, *, is_log: bool) -> _Scale:
    """Return a scale with a margin around values."""
    low, high = min(values), max(values)
    if is_log:
        margin = max((high / low) ** 0.05, 1.1)
        return _Scale(low / margin, high * margin, start, stop, is_log)
    margin = max((high - low) * 0.05, abs(high) * 1e-3, 0.5)
    return _Scale(low - margin, high + margin, start, stop, is_log)


def _axes(x: _Scale, y: _Scale, x_label: str, y_label: str) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for tick in x.ticks():
        at = x.at(tick)
        parts.append(
            f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{bottom}"/>'
            f'<text x="{at:.1f}" y="{bottom + 16}" class="mid">{tick:g}</text>'
        )
    for tick in y.ticks():
        at = y.at(tick)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" class="end">{tick:g}</text>'
        )
    parts.append(
        f'<rect class="frame" x="{_LEFT}" y="{_TOP}" width="{right - _LEFT}" '
        f'height="{bottom - _TOP}"/>'
        f'<text x="{(_LEFT + right) / 2}" y="{bottom + 36}" class="mid label">{escape(x_label)}'
        f'</text><text transform="translate(14 {(_TOP + bottom) / 2}) rotate(-90)" '
        f'class="mid label">{escape(y_label)}</text>'
    )
    return parts


def _drawn(series: Series, number: int, x: _Scale, y: _Scale) -> list[str]:
    """Return the line and the marks of a series."""
    points = sorted(series.points, key=lambda point: point.x)
    finite = [point for point in points if math.isfinite(point.y)]
    path = " ".join(f"{x.at(point.x):.1f},{y.at(point.y):.1f}" for point in finite)
    parts = [f'<polyline class="line c{number % COLOURS}" points="{path}"/>'] if finite else []
    for point in points:
        across = y.at(point.y) if math.isfinite(point.y) else _TOP + _BAND / 2
        parts.append(_mark(number, x.at(point.x), across, point.text, is_whole=point.is_whole))
    return parts


def _mark(number: int, x: float, y: float, text: str, *, is_whole: bool = True) -> str:
    """Return the mark of a series: colour and shape tell it from the others."""
    classes = f"mark c{number % COLOURS}{'' if is_whole else ' hollow'}"
    title = f"<title>{escape(text)}</title>" if text else ""
    shape = (number + number // COLOURS) % 4
    if shape not in _SHAPES:
        return f'<circle class="{classes}" cx="{x:.1f}" cy="{y:.1f}" r="4">{title}</circle>'
    corners = " ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in _SHAPES[shape])
    return f'<polygon class="{classes}" points="{corners}">{title}</polygon>'


def _legend_rows(series: Sequence[Series]) -> list[list[tuple[int, str, float]]]:
    """Return the names of series in rows: number, name, and where it begins."""
    rows: list[list[tuple[int, str, float]]] = []
    at = math.inf
    for number, one in enumerate(series):
        width = 26 + _CHARACTER * len(one.name)
        if at + width > _WIDTH - _RIGHT:
            rows.append([])
            at = float(_LEFT)
        rows[-1].append((number, one.name, at))
        at += width
    return rows


def _legend(names: Sequence[tuple[int, str, float]], y: float) -> list[str]:
    return [
        _mark(number, x + 6, y + 4, "")
        + f'<text x="{x + 16:.1f}" y="{y + 8}">{escape(name)}</text>'
        for number, name, x in names
    ]
