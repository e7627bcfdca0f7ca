"""Numbers for people, and for JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from json import dumps

__all__ = [
    "codec_text",
    "counted",
    "duration",
    "json_value",
    "parse_size",
    "shape_text",
    "size_text",
    "spacing_text",
    "units_of",
]

_SPACE = {1: "m", 2: "mm", 3: "um"}
_TIME = {8: "s", 16: "ms", 24: "us", 32: "Hz", 40: "ppm", 48: "rad/s"}


def codec_text(name: str, record: Mapping[str, object]) -> str:
    """Return a codec with its settings, as users name it.

    Parameters
    ----------
    name : str
        Of the codec.
    record : mapping
        What a file says of it, `mroi.codecs.Pipeline.to_json`.

    Examples
    --------
    >>> codec_text("zstd", {"params": {}, "encoder": {"level": 3}}), codec_text("raw", {})
    ('zstd:level=3', 'raw')
    """
    parts = (record.get(key) for key in ("params", "encoder"))
    settings = [
        f"{key}={dumps(value)}"
        for part in parts
        if isinstance(part, dict)
        for key, value in part.items()
    ]
    return f"{name}:{','.join(settings)}" if settings else name


def counted(count: int, noun: str) -> str:
    """Return a number of things for people.

    Examples
    --------
    >>> counted(1, "voxel"), counted(12345, "voxel")
    ('1 voxel', '12,345 voxels')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"


def duration(seconds: float) -> str:
    """Return a time for people, to the precision of an estimate.

    Examples
    --------
    >>> duration(8.7), duration(95), duration(5400)
    ('9 s', '2 min', '1.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def shape_text(shape: Sequence[int]) -> str:
    """Return how many voxels there are along each axis, for people.

    Examples
    --------
    >>> shape_text((4, 5, 6)), shape_text((1, 1, 1))
    ('4 x 5 x 6 voxels', '1 x 1 x 1 voxel')
    """
    return f"{' x '.join(map(str, shape))} voxel{'s' * any(n != 1 for n in shape)}"


def units_of(xyzt_units: int) -> tuple[str | None, str | None]:
    """Return the units of the first three axes and of the fourth, None where not known.

    Parameters
    ----------
    xyzt_units : int
        As in NIfTI-1.

    Examples
    --------
    >>> units_of(2 + 8), units_of(0)
    (('mm', 's'), (None, None))
    """
    return _SPACE.get(xyzt_units & 7), _TIME.get(xyzt_units & 56)


def spacing_text(spacing: Sequence[float], units: Sequence[str | None], digits: int = 6) -> str:
    """Return the distances of neighbours along each axis for people.

    Parameters
    ----------
    spacing : sequence of float
        Along x, y, z and further axes.
    units : (str or None, str or None)
        Of the first three axes and of the fourth, see `units_of`.
    digits : int
        Significant ones.

    Examples
    --------
    >>> spacing_text((1, 1, 2.5, 2), ("mm", "s")), spacing_text((1, 1, 2.5, 2), ("mm", None))
    ('1 x 1 x 2.5 mm, 2 s', '1 x 1 x 2.5 mm, 2 (unit not known)')
    >>> spacing_text((1, 1, 1), (None, None)), spacing_text((1, 1, 1, 2), (None, None))
    ('1 x 1 x 1 (unit not known)', '1 x 1 x 1, 2 (units not known)')
    """
    values = [f"{value:.{digits}g}" for value in spacing]
    space, time = units
    spatial, further = " x ".join(values[:3]), values[3:]
    if further and space is None and time is None:
        return ", ".join((spatial, *further)) + " (units not known)"
    spatial += f" {space}" if space else " (unit not known)"
    if further:
        further[0] += f" {time}" if time else " (unit not known)"
    return ", ".join((spatial, *further))


def size_text(size: float) -> str:
    """Return a number of bytes for people, in powers of 1000 with three digits.

    Examples
    --------
    >>> size_text(0), size_text(999), size_text(1234), size_text(56_789_012)
    ('0 B', '999 B', '1.23 kB', '56.8 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} B" if unit == "B" else f"{size:#.3g} {unit}".replace(". ", " ")
        size /= 1000
    return f"{size:.3g} TB"


def json_value(value: object) -> object:
    """Return a value for JSON, which has no NaN and no infinity: they become texts."""
    match value:
        case float() if not math.isfinite(value):
            return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
        case dict():
            return {key: json_value(item) for key, item in value.items()}
        case list() | tuple():
            return [json_value(item) for item in value]
        case _:
            return value


def parse_size(text: str) -> int:
    """Return a number of bytes that a person wrote: see `size_text`.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> parse_size("2GB"), parse_size("1.5 kB"), parse_size("0")
    (2000000000, 1500, 0)
    """
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([kmgt]?)b?", text.strip().lower())
    if found is None:
        raise ValueError(f"{text!r} is not a number of bytes")
    return int(float(found[1]) * 1000 ** " kmgt".index(found[2] or " "))
