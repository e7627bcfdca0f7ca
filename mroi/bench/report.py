"""The results of a benchmark as one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

import base64
import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from mroi.bench.charts import Point, Series, draw_chart
from mroi.bench.rows import Row
from mroi.text import counted, size_text

__all__ = ["Mean", "build_report", "mean_rows"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
_HEAD = """<!doctype html>
<html lang=en><head><meta charset=utf-8>
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name=viewport content="width=device-width, initial-scale=1">
<title>mroi bench</title><style>{style}</style></head><body>"""


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of a table: what it is called, what that means, and what stands in it."""

    name: str
    hint: str
    value: Callable[[Row], float | str | None]
    show: Callable[[float], str] = "{:.3g}".format
    best: Callable[[Iterable[float]], float] | None = None


def _db(value: float) -> str:
    return "lossless" if math.isinf(value) else f"{value:.2f}"


def _ms(value: float) -> str:
    return f"{1000 * value:,.3g}"


_RESULTS = (
    _Column("bytes", "of the file, metadata included", lambda r: r.bytes, "{:,.0f}".format),
    _Column("of raw", "ratio of the raw voxels of the original to the file", lambda r: r.ratio_raw,
            "{:.2f}".format, max),
    _Column("of 8-bit", "ratio of a byte for each voxel of the whole volume, as MedROI counts, to "
            "the file", lambda r: r.ratio_8bit, "{:.2f}".format, max),
    _Column("of .nii.gz", "ratio of the .nii.gz (the source, or zlib 6) to the file",
            lambda r: r.ratio_nii_gz, "{:.2f}".format, max),
    _Column("bits", "a voxel of the whole volume", lambda r: r.bits_per_voxel, "{:.3f}".format,
            min),
    _Column("PSNR, dB", "in the ROI; the peak is its range", lambda r: r.psnr, _db),
    _Column("PSNR 8-bit", "in the ROI, on MedROI's 8-bit scale; the peak is 255",
            lambda r: r.psnr_8bit, _db),
    _Column("SSIM 3-D", "in the ROI, windows of 7 x 7 x 7", lambda r: r.ssim_3d, "{:.4f}".format),
    _Column("SSIM slices", "mean over slices, windows of 7 x 7", lambda r: r.ssim_slices,
            "{:.4f}".format),
    _Column("max error", "in the ROI, in units of the volume", lambda r: r.max_error),
    _Column("mean error", "in the ROI, in units of the volume", lambda r: r.mean_error),
    _Column("max 8-bit", "largest error in the ROI on MedROI's 8-bit scale",
            lambda r: r.max_error_8bit),
    _Column("ROI, s", "to find the ROI, reading the source included", lambda r: r.crop_seconds),
    _Column("encode, s", "from the source to the file", lambda r: r.encode_seconds, best=min),
    _Column("decode, s", "to open the file and decode all voxels", lambda r: r.decode_seconds,
            best=min),
    _Column("slice, ms", "to open the file and decode the middle slice", lambda r: r.slice_seconds,
            _ms, min),
    _Column("encode, memory", "peak of the process that plans and encodes",
            lambda r: r.encode_memory, size_text),
    _Column("decode, memory", "peak of the process that decodes", lambda r: r.decode_memory,
            size_text),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mean:
    """One codec with one ROI and one target over all volumes.

    Attributes
    ----------
    name : str
        Codec and ROI.
    target : str
        What a lossy codec was to reach; empty for none.
    rows : tuple of Row
        Those that were measured.
    volumes : int
        How many there should be.
    """

    name: str
    target: str
    rows: tuple[Row, ...]
    volumes: int

    @property
    def is_whole(self) -> bool:
        """Whether it was measured on all volumes."""
        return len(self.rows) == self.volumes

    def geometric(self, name: str) -> float | None:
        """Return the geometric mean of a field that is positive, None without values."""
        values = [value for row in self.rows if (value := getattr(row, name))]
        return statistics.geometric_mean(values) if values else None

    def arithmetic(self, name: str) -> float | None:
        """Return the mean of a field, None without values."""
        values = [value for row in self.rows if (value := getattr(row, name)) is not None]
        return statistics.fmean(values) if values else None

    def seconds_per_megavoxel(self, name: str) -> float | None:
        """Return the mean time for a million voxels of the volume."""
        values = [1e6 * value / row.full_8bit_bytes for row in self.rows
                  if row.full_8bit_bytes and (value := getattr(row, name)) is not None]  # fmt: skip
        return statistics.fmean(values) if values else None


def mean_rows(rows: Sequence[Row]) -> list[Mean]:
    """Return what is compared across volumes, in the order of the rows."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.series, row.target), []).append(row)
    volumes = len({row.volume for row in rows})
    return [
        Mean(name, target, tuple(row for row in found if row.is_ok), volumes)
        for (name, target), found in groups.items()
    ]


def build_report(record: Mapping[str, object], rows: Sequence[Row], pictures: Path) -> str:
    """Return the report.

    Parameters
    ----------
    record : mapping
        What ``results.json`` holds: machine, plan, and when.
    rows : sequence of Row
        All of them, in order.
    pictures : Path
        Folder of the pictures that rows name.
    """
    good = [row for row in rows if row.is_ok]
    failed = [row for row in rows if not row.is_ok]
    volumes = list(dict.fromkeys(row.volume for row in good))
    machine = record["machine"]
    assert isinstance(machine, Mapping)
    settings = {name: value for name, value in record.items() if name != "rows"}
    about = ", ".join(_text(machine[name]) for name in ("processor", "system"))
    parts = [
        _HEAD.format(policy=_POLICY, style=_asset("report.css")),
        f"<h1>mroi bench</h1><p>{_text(record['ended'])}, mroi {_text(machine['mroi'])}, {about}.",
        ", ".join((counted(len(volumes), "volume"), *_counts(good, failed, record))) + ".</p>",
        *_failed(failed),
        *_overview(mean_rows(rows)),
        *_by_volume(good, volumes),
        "<h2>All measurements</h2>",
        _table(good),
        *_worst(good, pictures),
        "<h2>How it was measured</h2>",
        _notes(),
        f"<pre>{_text(json.dumps(settings, indent=1))}</pre>",
        f"<script>{_asset('report.js')}</script></body></html>\n",
    ]
    return "\n".join(parts)


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")


def _text(value: object) -> str:
    return escape(str(value))


def _counts(good: Sequence[Row], failed: Sequence[Row], record: Mapping[str, object]) -> list[str]:
    """Return how many measurements there are, as HTML."""
    texts = [counted(len(good), "measurement")]
    texts.append(f"<span class=bad>{len(failed)} failed</span>" if failed else "none failed")
    if missing := record.get("missing"):
        texts.append(f"<span class=bad>{_text(missing)} not yet done</span>")
    return texts


def _failed(failed: Sequence[Row]) -> list[str]:
    if not failed:
        return []
    lines = "".join(
        f"<tr><td class=t>{_text(row.volume)}<td class=t>{_text(row.codec)}"
        f"<td class=t>{_text(row.roi)}<td class=t>{_text(row.target)}"
        f"<td class='t bad'>{_text(row.error)}"
        for row in failed
    )
    heads = "".join(f"<th class=t>{name}" for name in ("volume", "codec", "ROI", "target", "why"))
    return ["<h2>Failed</h2>", _sortable(heads, lines)]


def _sortable(heads: str, lines: str) -> str:
    """Return a table that the script of the page can sort."""
    return (
        f"<div class=wide><table class=sorts><thead><tr>{heads}</thead>"
        f"<tbody>{lines}</tbody></table></div>"
    )


def _overview(means: Sequence[Mean]) -> list[str]:
    """Return the part about all volumes: a table, rate against distortion, time against size."""
    parts = ["<h2>Mean over the volumes</h2>", _mean_table(means)]
    if any(row.psnr is not None and not row.lossless for mean in means for row in mean.rows):
        parts.append("<h3>Rate against distortion</h3>" + _mean_rate(means))
    parts.append("<h3>Time against size</h3>")
    return [*parts, _mean_times(means, "decode"), _mean_times(means, "encode")]


def _series(
    means: Sequence[Mean], where: Callable[[Mean], tuple[float | None, float | None]]
) -> list[Series]:
    """Return a series for each codec and ROI, with a point for each target."""
    found: dict[str, list[Point]] = {}
    for mean in means:
        x, y = where(mean)
        points = found.setdefault(mean.name, [])
        if x and y:
            shown = "lossless" if math.isinf(y) else f"{y:.4g}"
            text = f"{_called(mean.name, mean.target)}: {shown} at {x:.3g} bits"
            text += "" if mean.is_whole else f" ({len(mean.rows)} of {mean.volumes} volumes)"
            points.append(Point(x, y, text, is_whole=mean.is_whole))
    return [Series(name, tuple(points)) for name, points in found.items()]


def _called(name: str, target: str) -> str:
    return f"{name}, {target}" if target else name


def _mean_rate(means: Sequence[Mean]) -> str:
    return draw_chart(
        _series(means, lambda m: (m.arithmetic("bits_per_voxel"), m.arithmetic("psnr"))),
        "bits a voxel of the whole volume, mean",
        "PSNR in the ROI, dB, mean",
        band="lossless",
    )


def _mean_times(means: Sequence[Mean], step: str) -> str:
    return draw_chart(
        _series(
            means,
            lambda m: (m.arithmetic("bits_per_voxel"), m.seconds_per_megavoxel(f"{step}_seconds")),
        ),
        "bits a voxel of the whole volume, mean",
        f"seconds to {step} a million voxels, mean",
        log_y=True,
    )


def _mean_table(means: Sequence[Mean]) -> str:
    names = ("codec, ROI", "target", "volumes", "of raw", "of 8-bit", "of .nii.gz", "bits",
             "PSNR, dB", "SSIM 3-D", "encode, s", "decode, s", "slice, ms")  # fmt: skip
    heads = "".join(f"<th{' class=t' if n < 2 else ''}>{name}" for n, name in enumerate(names))
    lines = []
    for mean in means:
        cells = [
            _cell(len(mean.rows), f"{len(mean.rows)} of {mean.volumes}"),
            *(
                _number(mean.geometric(name), "{:.2f}".format)
                for name in ("ratio_raw", "ratio_8bit", "ratio_nii_gz")
            ),
            _number(mean.arithmetic("bits_per_voxel"), "{:.3f}".format),
            _number(mean.arithmetic("psnr"), _db),
            _number(mean.arithmetic("ssim_3d"), "{:.4f}".format),
            _number(mean.arithmetic("encode_seconds"), "{:.3g}".format),
            _number(mean.arithmetic("decode_seconds"), "{:.3g}".format),
            _number(mean.arithmetic("slice_seconds"), _ms),
        ]
        lines.append(
            f"<tr><td class=t>{_text(mean.name)}<td class=t>{_text(mean.target)}{''.join(cells)}"
        )
    return (
        "<p>Ratios are geometric means, the rest arithmetic ones. Where a codec failed on some "
        "volumes, its means are of others than those of its neighbours; its marks are hollow.</p>"
        + _sortable(heads, "".join(lines))
    )


def _number(value: float | None, show: Callable[[float], str], classes: str = "") -> str:
    return _cell(value, "" if value is None else show(value), classes)


def _cell(value: float | None, shown: str, classes: str = "") -> str:
    """Return a cell with the number that it is sorted by."""
    number = "" if value is None else repr(value).replace("inf", "Infinity")
    return f'<td data-v="{number}"{f" class={classes}" if classes else ""}>{_text(shown)}'


def _by_volume(rows: Sequence[Row], volumes: Sequence[str]) -> list[str]:
    """Return rate against distortion for each volume, folded where there are several."""
    if not any(row.psnr is not None and not row.lossless for row in rows):
        return []
    parts = ["<h2>Rate against distortion, volume by volume</h2>"]
    for volume in volumes:
        found: dict[str, list[Point]] = {}
        for row in rows:
            if row.volume == volume and row.bits_per_voxel and row.psnr is not None:
                text = f"{_called(row.series, row.target)}: {_db(row.psnr)} at "
                text += f"{row.bits_per_voxel:.3g} bits"
                point = Point(row.bits_per_voxel, row.psnr, text)
                found.setdefault(row.series, []).append(point)
        chart = draw_chart(
            [Series(name, tuple(points)) for name, points in found.items()],
            "bits a voxel of the whole volume",
            "PSNR in the ROI, dB",
            band="lossless",
        )
        opened = " open" if len(volumes) == 1 else ""
        parts.append(f"<details{opened}><summary>{_text(volume)}</summary>{chart}</details>")
    return parts


def _table(rows: Sequence[Row]) -> str:
    """Return the table of all rows; the best of each volume without loss is bold."""
    heads = "".join(
        f"<th class=t>{name}" for name in ("volume", "codec", "ROI", "background", "target")
    ) + "".join(f'<th title="{_text(column.hint)}">{_text(column.name)}' for column in _RESULTS)
    best = {
        (row.volume, column.name): _best(rows, row.volume, column)
        for row in rows
        for column in _RESULTS
        if column.best is not None
    }
    lines = []
    for row in rows:
        first = (row.volume, row.setting or row.codec, row.roi, row.background, row.target)
        cells = [f'<td class=t title="{_text(text)}">{_text(text)}' for text in first]
        for column in _RESULTS:
            value = column.value(row)
            is_best = value is not None and value == best.get((row.volume, column.name))
            assert not isinstance(value, str)
            cells.append(_number(value, column.show, "best" if is_best and row.lossless else ""))
        lines.append(f"<tr>{''.join(cells)}")
    return (
        "<p>Bold is the best lossless one of each volume. Rest the pointer on a heading to see "
        "what it means; click to sort.</p><div class=wide><table class=sorts>"
        f"<thead><tr>{heads}</thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _best(rows: Sequence[Row], volume: str, column: _Column) -> float | None:
    values = [column.value(row) for row in rows if row.volume == volume and row.lossless]
    known = [value for value in values if isinstance(value, int | float)]
    return column.best(known) if known and column.best is not None else None


def _worst(rows: Sequence[Row], pictures: Path) -> list[str]:
    """Return the worst slice of each codec, ROI and target."""
    worst: dict[tuple[str, str], Row] = {}
    for row in rows:
        if row.picture and row.psnr is not None and (pictures / row.picture).is_file():
            key = (row.series, row.target)
            if key not in worst or row.psnr < (worst[key].psnr or 0):
                worst[key] = row
    if not worst:
        return []
    figures = [
        f'<figure><img alt="original, decoded, difference" src="data:image/png;base64,'
        f'{base64.b64encode((pictures / row.picture).read_bytes()).decode()}"><figcaption>'
        f"<b>{_text(_called(name, target))}</b>: {_text(row.volume)}, slice {row.worst_slice}. "
        f"PSNR of the volume {_db(row.psnr or 0)} dB, largest error "
        f"{row.max_error:.4g}, {row.bits_per_voxel:.3g} bits a voxel</figcaption></figure>"
        for (name, target), row in worst.items()
    ]
    text = (
        "<h2>The worst slices</h2><p>For each codec and target, of the volume with the least PSNR, "
        "the slice with the largest mean square error in the ROI: original, decoded, and the "
        "difference, the largest of the slice in white.</p>"
    )
    return [text, *figures]


def _notes() -> str:
    return (
        "<p>Each measurement has a process of its own for encoding and one for decoding. Times "
        "are of warm processes, in which the codec is imported and compiled; work of less than "
        "a second is done three times, and the median counts. Memory is the peak of the process, "
        "with the interpreter and all libraries. SSIM is scikit-image's. Lossless means that "
        "every voxel of the whole volume came back.</p>"
    )
