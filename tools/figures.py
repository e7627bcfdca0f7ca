"""Draw the pictures of the manual, as SVG, and write its tables of codecs.

    python tools/figures.py            # write docs/pictures/*.svg, tables of two pages
    python tools/figures.py --check    # fail if one is not what this writes

Colours are variables: a file by itself has those of the light or the dark scheme of its viewer, and
in a page of the manual ``docs/style.css`` gives it those of the theme. ``codecs.svg`` and
the tables are made from the one that ``benchmarks/codecs.py`` writes into ``benchmarks/codecs.md``,
docs/headline.md and its pictures (`headline_page`) from what ``benchmarks/headline.py`` wrote.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "pictures"
PAGE = ROOT / "docs" / "codecs.md"
LIGHT = (
    "--ink:#1f2428;--faint:#57606a;--line:#8c959f;--one:#00796b;--two:#b45309;--three:#3949ab;"
    "--one-fill:#c8e6e1;--two-fill:#fde3c4;--three-fill:#d6dbf5;--plain-fill:#eceff1"
)
DARK = (
    "--ink:#e6e9ed;--faint:#a3adb8;--line:#77828e;--one:#4db6ac;--two:#f0a95b;--three:#9fa8da;"
    "--one-fill:#1f4d47;--two-fill:#5a3c17;--three-fill:#343d73;--plain-fill:#323842"
)
SANS = "font-family:system-ui,sans-serif"
Point = tuple[float, float]


def main() -> int:
    """Write or check all pictures; return the exit code."""
    made = {FOLDER / f"{name}.svg": draw() for name, draw in PICTURES.items()}
    made[PAGE] = with_tables(PAGE.read_text("utf-8"))
    made |= headline()
    stale = []
    for path, content in made.items():
        if "--check" not in sys.argv[1:]:
            path.write_text(content, "utf-8")
        elif not path.exists() or path.read_text("utf-8") != content:
            stale.append(path.name)
    if stale:
        print(f"stale: {', '.join(stale)}; run tools/figures.py")
    return 1 if stale else 0


# -- strokes -----------------------------------------------------------------------------------


def page(width: int, height: int, parts: Iterator[str]) -> str:
    """Return a drawing of these parts."""
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    dark = f"@media(prefers-color-scheme:dark){{svg.drawing{{{DARK}}}}}"
    return "\n".join(
        [
            f'<svg class="drawing" xmlns="http://www.w3.org/2000/svg" {size} style="{SANS}">',
            f"<style>svg.drawing{{{LIGHT}}}{dark}</style>",
            *parts,
            "</svg>\n",
        ]
    )


def text(
    x: float, y: float, words: str, *, size: float = 13, anchor: str = "start", ink: str = "ink",
    bold: bool = False, code: bool = False,
) -> str:  # fmt: skip
    """Return a line of text whose baseline begins, has its middle, or ends at a point."""
    style = f"fill:var(--{ink})" + (";font-weight:600" if bold else "")
    style += ";font-family:ui-monospace,monospace" if code else ""
    words = words.replace("&", "&amp;").replace("<", "&lt;")
    place = f'x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}"'
    return f'<text {place} style="{style}">{words}</text>'


def box(
    x: float, y: float, width: float, height: float, fill: str = "plain", line: str = "line"
) -> str:
    """Return a rectangle."""
    style = f"fill:var(--{fill}-fill);stroke:var(--{line})"
    place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
    return f'<rect {place} rx="3" style="{style}"/>'


def path(points: Sequence[Point], *, fill: str = "none", line: str = "line", more: str = "") -> str:
    """Return lines from point to point, closed and filled unless `fill` is none."""
    data = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + ("" if fill == "none" else "Z")
    paint = "none" if fill == "none" else f"var(--{fill}-fill)"
    stroke = "none" if line == "none" else f"var(--{line})"
    style = f"fill:{paint};stroke:{stroke};stroke-linejoin:round{more}"
    return f'<path d="{data}" style="{style}"/>'


def arrow(x: float, y: float, to_x: float, to_y: float, line: str = "faint") -> str:
    """Return an arrow."""
    angle = math.atan2(to_y - y, to_x - x)
    tips = [
        (to_x - 7 * math.cos(angle + side), to_y - 7 * math.sin(angle + side))
        for side in (0.45, -0.45)
    ]
    head = path([tips[0], (to_x, to_y), tips[1]], line=line)
    return path([(x, y), (to_x, to_y)], line=line) + head


# -- boxes in space ----------------------------------------------------------------------------


def project(x: float, y: float, z: float) -> Point:
    """Return where a point of space is drawn: x to the right and down, y to the left, z up."""
    return (x - y) * 0.866, (x + y) * 0.42 - z


def cuboid(
    origin: Point, low: Sequence[float], high: Sequence[float], fill: str, line: str
) -> Iterator[str]:
    """Yield the three faces of a box that one sees."""
    (x, y, z), (a, b, c) = low, high
    faces = [
        [(x, y, c), (a, y, c), (a, b, c), (x, b, c)],
        [(x, b, z), (a, b, z), (a, b, c), (x, b, c)],
        [(a, y, z), (a, b, z), (a, b, c), (a, y, c)],
    ]
    for shade, face in zip((0, 0.06, 0.12), faces, strict=True):
        points = [project(*corner) for corner in face]
        moved = [(origin[0] + u, origin[1] + v) for u, v in points]
        yield path(moved, fill=fill, line=line)
        if shade:
            yield path(moved, fill=fill, line="none", more=f";fill:#000;fill-opacity:{shade}")


def blocks(
    origin: Point, side: float, counts: tuple[int, int, int],
    read: Callable[[int, int, int], bool], gap: float = 2,
) -> Iterator[str]:  # fmt: skip
    """Yield a cube cut into chunks; those that are read are coloured."""
    steps = [side / n for n in counts]
    last = [n - 1 for n in counts]
    for k, j, i in product(*(range(n) for n in reversed(counts))):
        if not any(n == end for n, end in zip((i, j, k), last, strict=True)):
            continue  # behind others
        low = [n * step for n, step in zip((i, j, k), steps, strict=True)]
        high = [n + step - gap for n, step in zip(low, steps, strict=True)]
        fill, line = ("two", "two") if read(i, j, k) else ("plain", "line")
        yield from cuboid(origin, low, high, fill, line)


# -- pictures ----------------------------------------------------------------------------------


def chunks() -> str:
    """Draw how each purpose cuts a volume, and what one read of it takes."""
    return page(800, 236, _chunks())


def _chunks() -> Iterator[str]:
    panels = (
        ("slices", "whole slices", "one slice: 1 slab", (1, 1, 6), lambda _i, _j, k: k == 3),
        ("patches", "bricks", "one patch: its bricks", (3, 3, 4),
         lambda i, j, k: i > 0 and j > 0 and k > 1),
        ("planes", "small bricks", "any plane: one layer", (5, 5, 5), lambda i, _j, _k: i == 4),
    )  # fmt: skip
    for number, (name, what, cost, counts, read) in enumerate(panels):
        middle = 80 + 160 * number
        yield from blocks((middle, 92), 78, counts, read)
        yield from _caption(middle, name, what, cost)
    for volume in range(3):
        origin = (507 + 53 * volume, 104)
        yield from blocks(origin, 30, (1, 1, 3), lambda _i, _j, k: k == 1)
    yield from _caption(560, "series", "chunks over time", "one voxel over time: 1")
    yield from blocks((720, 92), 78, (1, 1, 6), lambda *_: True)
    yield from _caption(720, "archive", "slabs, smaller codec", "everything, once")


def _caption(x: float, name: str, what: str, cost: str) -> Iterator[str]:
    yield text(x, 192, f"--for {name}", anchor="middle", bold=True, code=True)
    yield text(x, 210, what, anchor="middle", ink="faint")
    yield text(x, 228, cost, anchor="middle", ink="two")


def roi() -> str:
    """Draw a volume, its ROI, and the chunks in it."""
    return page(720, 262, _roi())


def _roi() -> Iterator[str]:
    origin = (160.0, 142.0)
    outer, start, stop = 130, (30, 30, 15), (112, 112, 115)
    shell = [(0, 0, 0), (outer, 0, 0), (outer, outer, 0), (0, outer, 0)]
    for level in (0, outer):
        corners = [project(x, y, level) for x, y, _ in shell]
        moved = [(origin[0] + u, origin[1] + v) for u, v in corners]
        yield path([*moved, moved[0]], line="faint", more=";stroke-dasharray:4 3")
    for x, y, _ in shell:
        ends = [project(x, y, level) for level in (0, outer)]
        moved = [(origin[0] + u, origin[1] + v) for u, v in ends]
        yield path(moved, line="faint", more=";stroke-dasharray:4 3")
    step = (stop[2] - start[2]) / 5
    for k in range(5):
        low = (start[0], start[1], start[2] + k * step)
        high = (stop[0], stop[1], start[2] + (k + 1) * step - 2)
        yield from cuboid(origin, low, high, "one", "one")
    words = (
        ("The volume", "ink", "its full field of view is what readers see"),
        ("Background", "faint", "equal everywhere (checked), kept, or dropped if you ask"),
        ("ROI", "one", "a box: only what is inside is cut into chunks"),
        ("Chunk", "one", "encoded, checked and read as a whole"),
    )
    for number, (name, ink, meaning) in enumerate(words):
        y = 80 + 44 * number
        yield text(310, y, name, ink=ink, bold=True, size=15)
        yield text(310, y + 18, meaning, ink="faint")


def layout() -> str:
    """Draw the parts of a file in their order, and what a reader takes of them."""
    return page(800, 250, _layout())


def _layout() -> Iterator[str]:
    parts = (
        ("prefix", 84, "plain", ["64 bytes:", "magic, sizes,", "flags"]),
        ("head", 268, "one", []),
        ("preface", 72, "three", ["overview,", "if there", "is one"]),
        ("chunks", 250, "two", []),
        ("tail", 94, "plain", ["metadata,", "digests,", "FOOT"]),
    )
    x = 10.0
    for name, width, fill, notes in parts:
        line = "line" if fill == "plain" else fill
        yield box(x, 50, width, 92, fill, line)
        yield text(x + width / 2, 40, name, anchor="middle", bold=True)
        for number, note in enumerate(notes):
            y = 82 + 17 * number
            yield text(x + width / 2, y, note, anchor="middle", size=11.5, ink="ink")
        x += width + 2.5
    for number, (name, meaning) in enumerate(
        (("GEOM", "geometry"), ("CODC", "codecs"), ("INDX", "index"))
    ):
        left = 104 + 86 * number
        yield box(left, 62, 82, 68, "plain", "one")
        yield text(left + 41, 92, name, anchor="middle", code=True, bold=True)
        yield text(left + 41, 112, meaning, anchor="middle", size=11.5)
    for number, name in enumerate(("0", "1", "2", "3", "...", "n")):
        left = 441 + 40 * number
        yield box(left, 62, 37, 68, "plain", "two")
        yield text(left + 18.5, 100, name, anchor="middle", code=True)
    yield from _bracket(10, 364, 158, "1. open: one request of 16 KiB", "one")
    yield from _bracket(441, 478, 158, "2. one slice: one request", "two")
    yield text(10, 232, "On a pipe the index cannot be in front: it stands in the tail, and FOOT, "
               "the last 64 bytes, says where.", ink="faint")  # fmt: skip


def _bracket(left: float, right: float, y: float, words: str, line: str) -> Iterator[str]:
    yield path([(left, y - 8), (left, y), (right, y), (right, y - 8)], line=line)
    yield text(left, y + 20, words, ink=line, bold=True)


def frame() -> str:
    """Draw the header of a frame, byte by byte, and what follows it."""
    return page(800, 210, _frame())


def _frame() -> Iterator[str]:
    fields = (
        ("sync", 4, "this file's"), ("type", 4, "CHNK"), ("length", 8, "bytes of payload"),
        ("ordinal", 4, "number"), ("slot", 1, ""), ("flags", 1, ""), ("0", 2, ""),
        ("payload_crc", 4, ""), ("header_crc", 4, ""),
    )  # fmt: skip
    yield text(10, 22, "Header of a frame: 32 bytes", bold=True)
    x, unit = 10.0, 24.3
    offset = 0
    for name, size, note in fields:
        width = size * unit
        is_check = name.endswith("crc")
        yield box(x, 46, width, 52, "two" if is_check else "one", "two" if is_check else "one")
        if size == 1:
            yield text(x + width / 2, 76, name, anchor="middle", size=9)
        else:
            yield text(x + width / 2, 70, name, anchor="middle", size=12.5, code=True)
            yield text(x + width / 2, 88, note, anchor="middle", size=11, ink="faint")
        yield text(x, 112, str(offset), size=10, ink="faint")
        x += width
        offset += size
    yield box(10, 132, 560, 40, "plain")
    yield text(290, 157, "payload: length bytes, the bare bitstream of the codec", anchor="middle")
    yield box(572, 132, 60, 40, "plain")
    yield text(602, 157, "zeros", anchor="middle", ink="faint")
    yield text(642, 150, "to a multiple", size=11.5, ink="faint")
    yield text(642, 165, "of 8 bytes", size=11.5, ink="faint")
    yield text(10, 196, "header_crc is checked before length is believed, payload_crc before the "
               "payload is decoded.", ink="faint")  # fmt: skip


def pipeline() -> str:
    """Draw how a chunk becomes a frame, and what checks each step."""
    return page(800, 150, _pipeline())


def _pipeline() -> Iterator[str]:
    steps = (
        ("chunk", "voxels, in scan order", "two"), ("filters", "array to array", "three"),
        ("codec", "array to bytes", "three"), ("payload", "bare bitstream", "two"),
        ("frame", "header and CRCs", "one"),
    )  # fmt: skip
    for number, (name, note, fill) in enumerate(steps):
        x = 8 + 160 * number
        yield box(x, 26, 136, 62, fill, fill)
        yield text(x + 68, 52, name, anchor="middle", bold=True)
        yield text(x + 68, 72, note, anchor="middle", size=11.5)
        if number:
            yield arrow(x - 21, 57, x - 4, 57)
    yield path([(76, 88), (76, 112)], line="faint", more=";stroke-dasharray:3 3")
    yield text(8, 130, "decoded CRC, in the index", ink="faint")
    yield path([(556, 88), (556, 112)], line="faint", more=";stroke-dasharray:3 3")
    yield text(556, 130, "payload CRC, in the frame", anchor="middle", ink="faint")


# -- measured ----------------------------------------------------------------------------------

_LABELS = {  # where a name stands beside its mark, so that none covers another
    "gzip": (8, 16, "start"), "zstd": (9, 0, "start"), "zstd:shuffle=false": (0, -10, "middle"),
    "zstd:level=19": (-9, 4, "end"), "zstd:delta=true": (-9, 4, "end"), "deflate": (-9, 3, "end"),
    "pcodec": (9, 9, "start"), "zfp": (9, 4, "start"), "jpeg2000": (-2, -9, "middle"),
    "htj2k": (9, 4, "start"), "jpegls": (9, 4, "start"), "jpegxl": (9, 3, "start"),
    "jpegxl:effort=7": (-9, 4, "end"), "heif": (9, 4, "start"), "jpeg2000-3d": (-9, 8, "end"),
    "calv": (9, 4, "start"), "calv:level=small": (8, 16, "start"),
    "calv:level=max": (2, 18, "middle"),
}  # fmt: skip
_NAMES = {
    "zstd:shuffle=false": "zstd, no shuffle", "zstd:delta=true": "zstd, delta",
    "zstd:level=19": "zstd 19", "jpegxl:effort=7": "jpegxl 7", "calv": "calv (the default)",
    "calv:level=small": "calv small", "calv:level=max": "calv max", "gzip": ".nii.gz",
}  # fmt: skip
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 780, 40, 380


def codecs() -> str:
    """Draw bytes against speed of reading, of all lossless codecs."""
    found = {row.name: (row.bytes, row.read) for row in measured() if not row.psnr}
    return page(800, 440, _codecs(found))


class Row(NamedTuple):
    """What was measured of one setting of a codec, relative to gzip; the slice in ms."""

    name: str
    volumes: int
    bytes: float
    write: float
    read: float
    slice: float
    psnr: str


def measured() -> list[Row]:
    """Return the rows of the table of all codecs."""
    rows = []
    table = (ROOT / "benchmarks" / "codecs.md").read_text("utf-8").partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        ratio, write, read, slice_ms = (float(cell) for cell in cells[3:7])
        name = cells[0].strip("`")
        rows.append(Row(name, int(cells[1]), 1 / ratio, write, read, slice_ms, cells[8]))
    return rows


def _codecs(points: dict[str, tuple[float, float]]) -> Iterator[str]:
    def at(size: float, speed: float) -> Point:
        across = (math.log10(speed) + 2.15) / (0.75 + 2.15)
        up = (size - 0.45) / (1.25 - 0.45)
        return _LEFT + across * (_RIGHT - _LEFT), _BOTTOM - up * (_BOTTOM - _TOP)

    yield text(_LEFT, 24, "Bytes of the chunks, .nii.gz = 1 (lower is better)", bold=True)
    for size in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2):
        y = at(size, 1)[1]
        yield path([(_LEFT, y), (_RIGHT, y)], line="line", more=";stroke-opacity:.3")
        yield text(_LEFT - 8, y + 4, f"{size:.1f}", anchor="end", ink="faint", size=12)
    for speed, words in ((0.01, "1/100"), (0.1, "1/10"), (1, "as gzip"), (3, "3 x")):
        x = at(1, speed)[0]
        yield path([(x, _TOP), (x, _BOTTOM)], line="line", more=";stroke-opacity:.3")
        yield text(x, _BOTTOM + 20, words, anchor="middle", ink="faint", size=12)
    yield text(_RIGHT, _BOTTOM + 44, "Speed of reading on one thread (right is better)",
               anchor="end", bold=True)  # fmt: skip
    for name, (size, speed) in points.items():
        ink = "one" if name.startswith("calv") else "two" if name == "gzip" else "three"
        x, y = at(size, speed)
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" style="fill:var(--{ink})"/>'
        dx, dy, anchor = _LABELS.get(name, (9, 4, "start"))
        yield text(x + dx, y + dy, _NAMES.get(name, name), anchor=anchor, size=12)


_FOR = {
    "calv": "the default: volumes of integers, and floats that hold integers",
    "calv:level=small": "archives; `--small`",
    "calv:level=max": "archives where a per cent is worth minutes",
    "zstd": "readers that have only what the format requires; the quickest slices",
    "zstd:delta=true": "the same for noisy voxels of 8 bits",
    "zstd:level=19": "the same, written once and read often",
    "deflate": "the smallest readers: every language has zlib",
    "pcodec": "float maps, numbers of any type, quickly",
    "zfp": "floats; with `tolerance`, a bound on the error of each",
    "htj2k": "viewers: quick, reduced resolutions, DICOM and browsers have decoders",
    "jpeg2000": "the same where only JPEG 2000 is known",
    "jpegls": "planes of integers, DICOM decoders; with `near`, a bound on the error",
    "jpegxl": "the smallest of the standards, plane by plane",
    "jpegxl:effort=7": "the same, slower",
    "heif": "planes of up to 12 bits, for what phones and browsers show",
    "jpeg2000-3d": "JPEG 2000 behind a wavelet across slices",
    "jpegls:near=2": "a bound on the error of each voxel, here 2",
    "htj2k:step=8": "viewers, quickly",
    "jpeg2000:psnr=50": "viewers, a PSNR for each slice",
    "jpegxl:distance=1": "pictures to look at",
    "heif:quality=60": "pictures to look at, as small as can be",
    "jpeg2000-3d:psnr=50": "volumes: what neighbouring slices share is coded once",
    "wavelet3d:step=8": "volumes of any type; the 3-D wavelet of the MedROI paper",
    "zfp:tolerance=4": "floats, a bound on the error of each (one volume of floats)",
}


def with_tables(markdown: str) -> str:
    """Return the page about codecs with its tables made anew."""
    rows = {row.name: row for row in measured()}
    for title, with_loss in (("lossless", False), ("lossy", True)):
        head = "| codec | what for | bytes | read | write | slice, ms |"
        lines = [head + " PSNR, dB |" * with_loss, "| --- | --- |" + " ---: |" * (4 + with_loss)]
        for name, purpose in _FOR.items():
            row = rows[name]
            if bool(row.psnr) == with_loss:
                page_of = f"../spec/codecs/{name.partition(':')[0]}.md"
                figures = map(short, (row.bytes, row.read, row.write, row.slice))
                cells = [f"[`{name}`]({page_of})", purpose, *figures]
                lines.append(f"| {' | '.join(cells + [row.psnr] * with_loss)} |")
        before, _, rest = markdown.partition(f"<!-- table: {title} -->\n")
        after = rest.partition("<!-- /table -->")[2]
        table = "\n".join(lines)
        markdown = f"{before}<!-- table: {title} -->\n{table}\n<!-- /table -->{after}"
    return markdown


def headline() -> dict[Path, str]:
    """Return the pictures and the page of the headline, by their paths."""
    import headline_page as found  # it draws with what is here

    made = {
        FOLDER / f"{name}.svg": page(width, height, parts)
        for name, width, height, parts in found.pictures()
    }
    return made | {found.PAGE: found.with_tables(found.PAGE.read_text("utf-8"))}


def short(figure: float) -> str:
    """Return a figure with as many digits as say something."""
    return f"{figure:.2f}" if figure < 1 else f"{figure:.1f}" if figure < 10 else f"{figure:.0f}"


PICTURES = {
    "chunks": chunks, "codecs": codecs, "frame": frame, "layout": layout, "pipeline": pipeline,
    "roi": roi,
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
