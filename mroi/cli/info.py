"""``mroi info``: what a file holds, how, and what reading it costs."""

from __future__ import annotations

from json import dumps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mroi.batch.streams import open_volume
from mroi.batch.tasks import Task, find_inputs
from mroi.batch.told import Context, Outcome
from mroi.cli import batch
from mroi.cli.options import FailFast, Inputs, Json
from mroi.cli.report import Report, columns
from mroi.text import counted, shape_text, size_text, spacing_text

if TYPE_CHECKING:
    from mroi.volume.model import Volume

EXAMPLES = """\
  mroi info scan.mroi
  mroi info --chunks scan.mroi            with a line for each chunk
  mroi info --phi scan.mroi               what in its metadata may identify a person
  mroi info --json study/ | jq .ratio     one JSON object for each file
"""

_BACKGROUND = {
    "OMIT": "omitted: the voxels outside are not in the file",
    "FILL_VERIFIED": "all equal to {fill}, checked: nothing lost",
    "RESIDUE_EXACT": "stored exactly",
    "RESIDUE_LOSSY": "stored with loss",
    "FILL_LOSSY": "replaced by {fill}",
}
_SPACES = {
    "unknown space": "space not known",
    "scanner": "in the space of the scanner",
    "aligned": "in the space of another scan",
    "Talairach": "in Talairach space",
    "MNI": "in MNI space",
    "template": "in the space of a template",
}
_OBLIQUE = 0.5  # degrees; what rounding makes of straight axes is far below
_LABELS = {
    "purpose": "made for",
    "codec": "codec chosen by",
    "left_out": "left out",
    "metadata": "metadata policy",
    "roi": "roi found by",
    "tool": "made by",
    "volumes": "volumes chosen by",
}


def run(
    inputs: Inputs,
    *,
    chunks: Annotated[bool, typer.Option("--chunks", help="List every chunk.")] = False,
    phi: Annotated[
        bool,
        typer.Option("--phi", help="List what in the metadata may identify a person, only that."),
    ] = False,
    fail_fast: FailFast = False,
    json: Json = False,
) -> None:
    """Show what is in files, and what reading costs.

    Geometry, ROI and what became of the background, codec, sizes, chunks, digests, provenance.

    Codecs need not be installed: no voxel is decoded. So --phi sees no faces and no burned-in
    text, and a short list does not make a file anonymous.
    """
    from mroi.adapters.describe import chunk_table, describe

    report = Report("info", json=json)
    tasks = [Task.of(entry) for entry in find_inputs(inputs, [".mroi"])]

    def work(task: Task, _context: Context) -> Outcome:
        with open_volume(task.source) as volume:
            if phi:
                held = identifiers(volume)
                text = _identifiers_text(task.name, held)
                return Outcome({"source": task.source, "identifiers": held}, text, is_answer=True)
            record = {"source": task.source, **describe(volume)}
            if chunks:
                record["chunk_table"] = chunk_table(volume)
        return Outcome(record, "" if json else _text(task.name, record), is_answer=True)

    raise typer.Exit(batch.run_here("info", work, tasks, report, fail_fast=fail_fast))


def identifiers(volume: Volume) -> list[dict[str, object]]:
    """Return what in the metadata of a file may identify a person."""
    from dataclasses import asdict

    from mroi.adapters.identifiers import find_held_identifiers

    return [asdict(found) for found in find_held_identifiers(volume)]


def _identifiers_text(name: str, held: list[dict[str, object]]) -> str:
    groups: dict[tuple[str, str], list[str]] = {}
    for found in held:
        values = groups.setdefault((str(found["place"]), _printable(str(found["name"]))), [])
        values.append(_printable(str(found["value"])))
    rows = [
        (f"  {place}", keyword, values[0] + f"  and {len(values) - 1} others" * (len(values) > 1))
        for (place, keyword), values in groups.items()
    ]
    first = f"{name}: {counted(len(rows), 'kind')} of value that may identify a person"
    return "\n".join([f"{first}; voxels were not looked at", *([columns(rows)] if rows else [])])


def _printable(text: str) -> str:
    """Return a text that cannot move the cursor of a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def _text(name: str, record: dict[str, Any]) -> str:
    """Return the description for people."""
    lines = [
        ("file", f"{record['size']:,} bytes, {record['index']} index"),
        ("volume", f"{shape_text(record['shape'])}, {record['datatype']}{_bits(record)}"),
        ("spacing", spacing_text(record["spacing"], record["units"])),
        ("orientation", _orientation(record)),
        *zip(("affine", "", ""), map(_row, record["affine"]), strict=True),
        ("scaling", _scaling(record)),
        ("source", _format_text(record["format"])),
        ("roi", _roi_text(record["roi"])),
        ("background", _background_text(record)),
        *[("codec" if entry["role"] == "roi" else "", _codec_text(entry))
          for entry in record["codecs"]],
        ("size", _size_line(record)),
        ("lossless", "yes, every voxel" if record["lossless"] else "no" + _loss(record)),
        ("chunks", _chunks_text(record["chunks"])),
        *([("overview", _overview_text(record))] if record["overview"] else []),
        *_cost_lines(record["read_cost"]),
        *[(f"sha256 of {scope}", digest) for scope, digest in record["sha256"].items()],
        ("metadata", ", ".join(f"{key} ({size_text(n)})" for key, n in record["metadata"].items())),
        *[(_LABELS.get(key, key), value if isinstance(value, str) else dumps(value))
          for key, value in record["provenance"].items() if key not in ("loss", "values")],
    ]  # fmt: skip
    rows = [("  " + _printable(key), _printable(value)) for key, value in lines]
    text = f"{name}\n" + columns(rows)
    if table := record.get("chunk_table"):
        head = tuple(table[0])
        text += "\n" + columns([head, *(tuple(str(row[key]) for key in head) for row in table)])
    return text


def _overview_text(record: dict[str, Any]) -> str:
    overview = record["overview"]
    shape = shape_text(overview["shape"])
    share = overview["size"] / record["size"]
    return f"{shape}, {overview['method']}, {size_text(overview['size'])} ({share:.1%})"


def _cost_lines(costs: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a line for each kind of read; one volume of a 3-D file is all of it."""
    names = {f"slice_{axis}": f"slice along {axis}" for axis in "xyz"}
    names["patch"] = "patch " + "x".join(map(str, costs["patch"]["shape"][:3]))
    if "series" in costs:
        names |= {"volume": "one 3-D volume", "series": "one time series"}
    lines = []
    for key, name in names.items():
        cost = costs[key]
        chunks, voxels = counted(cost["chunks"], "chunk"), counted(cost["voxels"], "voxel")
        lines.append((name, f"{chunks}, {size_text(cost['bytes'])}, {voxels}"))
    return lines


def _bits(record: dict[str, Any]) -> str:
    stored = record["bits_stored"]
    return "" if stored == record["bits"] else f", {stored} bits used"


def _orientation(record: dict[str, Any]) -> str:
    if record["orientation"] is None:
        return "not known: the source has no position"
    text = f"{record['orientation']}, {_SPACES[record['space']]}"
    if record["oblique"] > _OBLIQUE:
        text += f", oblique {record['oblique']:.1f} degrees"
    return text


def _row(row: list[float]) -> str:
    return "  ".join(
        f"{value:10.4f}" if value == 0 or 1e-3 < abs(value) < 1e5 else f"{value:10.3e}"
        for value in row
    )


def _scaling(record: dict[str, Any]) -> str:
    if record["rescale_per_slice"]:
        return "slope and intercept of each slice"
    if record["provenance"].get("values") == "stored":
        return "none: values are stored ones, the table of the source is not applied"
    if (record["slope"], record["inter"]) == (1, 0):
        return "none"
    return f"{record['slope']:.9g} x stored + {record['inter']:.9g}"


def _format_text(form: dict[str, Any]) -> str:
    notes = [note for note in ("gzipped", "big_endian") if form[note]]
    return ", ".join([form["kind"], *notes]).replace("_", " ")


def _roi_text(roi: dict[str, Any]) -> str:
    box = ",".join(f"{a}:{b}" for a, b in zip(roi["start"], roi["stop"], strict=True))
    return f"{box} ({roi['share']:.1%} of the voxels)"


def _background_text(record: dict[str, Any]) -> str:
    if record["roi"]["share"] == 1:
        return "none: the ROI is the whole volume"
    fill = ", ".join(f"{value}" for value in record["fill"])
    return _BACKGROUND[record["background"]].format(fill=fill)


def _codec_text(entry: dict[str, Any]) -> str:
    parts = {**entry["params"], **entry["encoder"]}
    settings = ",".join(f"{key}={dumps(value)}" for key, value in parts.items())
    steps = "".join(f"{step['name']} + " for step in entry["filters"])
    role = "" if entry["role"] == "roi" else f" for the {entry['role']}"
    name = f"{entry['name']}:{settings}" if settings else entry["name"]
    return f"{steps}{name}, {entry['fidelity']}{role} ({entry['impl']})"


def _size_line(record: dict[str, Any]) -> str:
    decoded, size = record["decoded_size"], record["size"]
    text = f"{size_text(size)} for {size_text(decoded)} of voxels"
    if size > 10 * decoded:  # the file is all but headers
        return text
    return f"{text}: {size / decoded:.1%}, ratio {record['ratio']:.2f}"


def _loss(record: dict[str, Any]) -> str:
    loss = record["provenance"].get("loss")
    return f": {dumps(loss)}" if loss else ""


def _chunks_text(chunks: dict[str, Any]) -> str:
    *sides, volumes = chunks["shape"]
    of = f"{chunks['count']} of {shape_text(sides if volumes == 1 else chunks['shape'])}"
    if chunks["count"] == 1:
        return f"{of}, {size_text(chunks['smallest'])}"
    smallest, largest = size_text(chunks["smallest"]), size_text(chunks["largest"])
    return f"{of}, {smallest if smallest == largest else f'{smallest} to {largest}'} each"
