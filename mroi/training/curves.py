"""How training went: a table (CSV) and a picture (SVG) that needs nothing beside it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

from mroi.bench.charts import Point, Series, draw_chart

__all__ = ["Entry", "build_csv", "draw_curves"]

_STYLE = """\
svg{background:#fff;font-family:system-ui,sans-serif;font-size:12px}text{fill:#5b6570}.label{fill:#1b1f24}
.mid{text-anchor:middle}.end{text-anchor:end}.grid{stroke:#dfe3e7}.frame{fill:none;stroke:#5b6570}
.line{fill:none;stroke:currentColor;stroke-width:1.8}.mark{fill:currentColor;stroke:currentColor}
.c0{color:#0072b2}.c1{color:#c1440e}"""
_WIDTH, _HEIGHT = 720, 420  # of a panel, its legend included


@dataclass(frozen=True, slots=True)
class Entry:
    """Means over the steps since the entry before, and what was kept apart.

    Attributes
    ----------
    step : int
        Steps done.
    loss : float
        What is trained for.
    bpp : float
        Bits a pixel of the network's picture.
    psnr : float
        In dB, of voxels from 0 to 1; of the mean of squared errors.
    validation_loss, validation_bpp, validation_psnr : float or None
        The same of the patches that are kept apart, with everything rounded as in the codec.
    """

    step: int
    loss: float
    bpp: float
    psnr: float | None
    validation_loss: float | None = None
    validation_bpp: float | None = None
    validation_psnr: float | None = None


def build_csv(entries: Sequence[Entry]) -> str:
    """Return a table with a line for each entry; what there is none of is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Entry)])
    for entry in entries:
        writer.writerow(["" if v is None else f"{v:.6g}" for v in astuple(entry)])
    return text.getvalue()


def draw_curves(entries: Sequence[Entry]) -> str:
    """Return charts of loss, bits and PSNR over steps, below each other, as an SVG file."""
    panels = [
        chart
        for name, label in (("loss", "loss"), ("bpp", "bits a pixel"), ("psnr", "PSNR, dB"))
        if (chart := _panel(entries, name, label))
    ]
    height = _HEIGHT * len(panels)
    size = f'viewBox="0 0 {_WIDTH} {height}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style>']
    for number, panel in enumerate(panels):
        place = f'<svg x="0" y="{_HEIGHT * number}" width="{_WIDTH}" height="{_HEIGHT}"'
        parts.append(place + panel.removeprefix("<svg"))
    return "".join([*parts, "</svg>\n"])


def _panel(entries: Sequence[Entry], name: str, label: str) -> str:
    series, is_log = [], name != "psnr"
    for prefix, called in (("", "training"), ("validation_", "validation")):
        points = tuple(
            Point(float(entry.step), value, f"step {entry.step:,}: {value:.4g}")
            for entry in entries
            if (value := getattr(entry, prefix + name)) is not None and (value > 0 or not is_log)
        )
        if points:
            series.append(Series(called, points))
    return draw_chart(series, "steps", label, log_y=is_log)
