"""The pictures and the tables of docs/headline.md, from what benchmarks/headline.py measured.

``tools/figures.py`` writes and checks them.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from figures import path, text

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "headline.md"
MEASURED = {"8 bits": "headline.json", "as stored": "headline-stored.json"}

_SHOWN = 1.0  # dB above a target: there is no coarser setting
_STYLES = {
    "ebb": ("one", 3, ""), "ebb, one chunk": ("one", 1.6, "2 3"), "wavelet3d": ("one", 1.6, "7 3"),
    "x265": ("two", 2, ""), "SVT-AV1": ("two", 1.6, "7 3"),
    "SPERR": ("three", 2, ""), "SZ3": ("three", 1.6, "7 3"),
    "jpeg2000-3d": ("ink", 1.4, ""), "jpeg2000": ("faint", 1.4, "7 3"),
    "htj2k": ("faint", 1.4, "2 3"), "jpegxl": ("faint", 1.4, "8 3 2 3"), "heif": ("faint", 1.4, ""),
}  # fmt: skip
_LEFT, _RIGHT, _TOP, _BOTTOM = 150, 690, 44, 340
_LINE = 15  # pixels between names


def measured(name: str) -> dict[str, Any]:
    """Return what a file of `MEASURED` has."""
    found: dict[str, Any] = json.loads((ROOT / "benchmarks" / MEASURED[name]).read_text("utf-8"))
    return found


# -- tables ------------------------------------------------------------------------------------


def ratio(point: dict[str, float] | None, target: float, base: int) -> str:
    """Return a ratio; with its PSNR where a codec has no coarser setting."""
    if point is None:
        return ""
    value = base / point["bytes"]
    shown = f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    above = point["psnr"] > target + _SHOWN
    return f"{shown} ({point['psnr']:.1f} dB)" if above else shown


def tables(found: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield tables, each with its name: the mean, and each volume."""
    targets = found["psnr"]
    heads = " | ".join(f"{target:g} dB" for target in targets)
    rule = " ---: |" * len(targets)
    yield "mean", [f"| codec | {heads} |", f"| --- |{rule}", *means(found)]
    for name, volume in found["volumes"].items():
        base = math.prod(volume["shape"]) * found["bytes_a_voxel"]
        lines = [f"| codec | ROI | {heads} |", f"| --- | --- |{rule}"]
        for roi, codecs in volume["codecs"].items():
            for codec, points in in_order(codecs):
                cells = (ratio(points.get(f"{target:g}"), target, base) for target in targets)
                shown = f"**{codec}**" if codec == "ebb" else codec
                lines.append(f"| {shown} | {roi} | {' | '.join(cells)} |")
        yield name, lines


def means(found: dict[str, Any]) -> Iterator[str]:
    """Yield rows: bytes with tight ROI, those of `ebb` as 1, where both are at the PSNR."""
    shares: dict[str, dict[float, list[float]]] = {}
    for volume in found["volumes"].values():
        codecs = volume["codecs"].get("tight", {})
        for codec, points in codecs.items():
            for target in found["psnr"]:
                pair = [one.get(f"{target:g}") for one in (points, codecs.get("ebb", {}))]
                if all(point and point["psnr"] <= target + _SHOWN for point in pair):
                    by_target = shares.setdefault(codec, {})
                    by_target.setdefault(target, []).append(pair[0]["bytes"] / pair[1]["bytes"])
    for codec, by_target in in_order(shares):
        cells = []
        for target in found["psnr"]:
            some = by_target.get(target)
            cells.append(f"{statistics.geometric_mean(some):.2f} ({len(some)})" if some else "")
        shown = f"**{codec}**" if codec == "ebb" else codec
        yield f"| {shown} | {' | '.join(cells)} |"


def in_order(codecs: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return codecs in the order of the legend."""
    return sorted(codecs.items(), key=lambda item: list(_STYLES).index(item[0]))


def with_tables(markdown: str) -> str:
    """Return the page with its tables made anew."""
    for kind in MEASURED:
        for name, lines in tables(measured(kind)):
            mark = f"<!-- table: {kind}, {name} -->\n"
            if mark in markdown:
                before, _, rest = markdown.partition(mark)
                after = rest.partition("<!-- /table -->")[2]
                markdown = f"{before}{mark}{chr(10).join(lines)}\n<!-- /table -->{after}"
    return markdown


# -- pictures ----------------------------------------------------------------------------------


def pictures() -> Iterator[tuple[str, int, int, Iterator[str]]]:
    """Yield drawings: name, width, height, parts."""
    found = measured("8 bits")
    for name, volume in found["volumes"].items():
        yield f"headline-{name}", 720, 400, chart(name, volume, found["psnr"])


def chart(name: str, volume: dict[str, Any], targets: list[float]) -> Iterator[str]:
    """Yield the curves of a volume: ratio against PSNR."""
    base = math.prod(volume["shape"])
    curves = {
        codec: [(point["psnr"], base / point["bytes"]) for point in points.values()]
        for codec, points in in_order(volume["codecs"]["tight"])
    }
    ratios = [value for curve in curves.values() for _, value in curve]
    low, high = min(ratios) / 1.1, max(ratios) * 1.1

    def at(psnr: float, value: float) -> tuple[float, float]:
        across = (psnr - targets[0]) / (targets[-1] - targets[0])
        up = math.log(value / low) / math.log(high / low)
        return _LEFT + across * (_RIGHT - _LEFT), _BOTTOM - up * (_BOTTOM - _TOP)

    sides = " x ".join(map(str, volume["shape"]))
    yield text(_LEFT, 24, f"{name}, {sides}: times smaller than 8 bits a voxel", bold=True)
    yield from grid(at, targets, low, high)
    ends = {codec: at(*curve[0]) for codec, curve in curves.items()}
    rows = spread({codec: end[1] for codec, end in ends.items()})
    for codec, curve in curves.items():
        ink, width, dashes = _STYLES[codec]
        more = f";stroke-width:{width}" + (f";stroke-dasharray:{dashes}" if dashes else "")
        x, y = _LEFT - 12, rows[codec]
        points = [at(*point) for point in curve]
        yield path([(x, y), *points[:1]], line=ink, more=";stroke-opacity:.45;stroke-width:.8")
        yield path(points, line=ink, more=more)
        yield text(x - 4, y + 4, codec, anchor="end", ink=ink, size=12, bold=codec == "ebb")


def grid(at: Any, targets: list[float], low: float, high: float) -> Iterator[str]:
    """Yield lines at round ratios and at each PSNR."""
    for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high))):
        for digit in (1, 2, 5):
            value = digit * 10.0**exponent
            if low <= value <= high:
                y = at(targets[0], value)[1]
                yield path([(_LEFT, y), (_RIGHT, y)], line="line", more=";stroke-opacity:.3")
                yield text(_RIGHT + 6, y + 4, f"{value:g}", ink="faint", size=12)
    for target in targets:
        x = at(target, low)[0]
        yield path([(x, _TOP), (x, _BOTTOM)], line="line", more=";stroke-opacity:.3")
        yield text(x, _BOTTOM + 20, f"{target:g} dB", anchor="middle", ink="faint", size=12)
    yield text(_RIGHT, _BOTTOM + 44, "PSNR in the tight ROI", anchor="end", bold=True)


def spread(wanted: dict[str, float]) -> dict[str, float]:
    """Return where names stand: near what they name, none on another."""
    names = sorted(wanted, key=lambda name: wanted[name])
    places = [wanted[name] for name in names]
    for _ in range(200):
        for n in range(len(places) - 1):
            overlap = _LINE - (places[n + 1] - places[n])
            if overlap > 0:
                places[n] -= overlap / 2
                places[n + 1] += overlap / 2
    return dict(zip(names, places, strict=True))
