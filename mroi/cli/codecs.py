"""``mroi codecs``: which codecs there are, what they take, and what they need."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mroi.cli.options import Json
from mroi.cli.report import Report, columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mroi.codecs import ChunkSpec, Codec, Entry

EXAMPLES = """\
  mroi codecs                     every codec, and whether it works here
  mroi codecs -v                  with their settings: default, range and meaning
  mroi codecs zfp:tolerance=1     what one takes with a setting
  mroi pack scan.nii.gz --codec zstd:level=19
"""

_TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "c8", "c16")
_WIDTH = 100  # columns of text
_NAMES = ("uint", "int", "float", "complex")


def run(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME[:K=V,...]",
            help="Only these, with these settings. Default: all, with their defaults.",
            show_default=False,
        ),
    ] = None,
    *,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", help="List the settings of each: default, range and meaning."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """List the codecs, what they take, and what is missing.

    What they take is asked of the codecs themselves, with their settings and the exact filters
    that packing puts before them: a lossy setting may take less than the default. Volumes of wider
    types whose values fit a narrower one are taken as such.
    """
    report = Report("codecs", json=json)
    records = [_record(entry, codec) | {"name": name} for name, entry, codec in _wanted(names)]
    if json:
        for record in records:
            report.answer(record, "")
        return
    head = ("CODEC", "VOXELS", "CHUNKS", "TAKES", "HERE")
    text = columns([head, *map(_row, records)])
    for record in records:
        text += f"\n\n{record['name']}: {record['notice']}" if record["notice"] else ""
    if verbose:
        text += "".join(map(_explained, records))
    report.answer({}, text)


def _wanted(names: Sequence[str] | None) -> list[tuple[str, Entry, Codec | None]]:
    """Return the codecs that are meant, and with which settings; None for the defaults.

    Raises
    ------
    typer.BadParameter
        If there is no such codec, or it has no such setting.
    """
    from mroi.codecs import available, parse
    from mroi.errors import CodecError

    entries = {entry.name: entry for entry in available()}
    if not names:
        return [(name, entry, None) for name, entry in entries.items()]
    wanted: list[tuple[str, Entry, Codec | None]] = []
    for text in names:
        name, _, settings = text.partition(":")
        try:
            codec = parse(text) if settings or name not in entries else None
        except CodecError as exc:
            raise typer.BadParameter(exc.message) from exc
        wanted.append((text, entries[name.strip()], codec))
    return wanted


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    return (
        record["name"],
        str(record["fidelity"] or ""),
        str(record["chunks"] or ""),
        " ".join(record["takes"]),
        str(record["problem"] or record["implementation"]),
    )


def _explained(record: dict[str, Any]) -> str:
    """Return the settings of a codec for people, after an empty line; nothing if it has none."""
    import json
    import textwrap

    settings = {k: f"{k}={json.dumps(v)}" for k, v in record["settings"].items()}
    if not settings:
        return ""
    width = max(map(len, settings.values())) + 4
    lines = [
        textwrap.fill(
            re.sub(r"\bNone\b", "null", record["meanings"].get(name, "")),  # as users write it
            _WIDTH,
            initial_indent=f"  {setting}".ljust(width),
            subsequent_indent=" " * width,
        )
        or f"  {setting}"
        for name, setting in settings.items()
    ]
    return "\n\n" + "\n".join((record["name"], *lines))


def _record(entry: Entry, codec: Codec | None) -> dict[str, Any]:
    """Return what a codec says of itself; of one that fails at that, what it failed with."""
    from mroi.codecs.guard import guarded
    from mroi.errors import CodecError

    record: dict[str, Any] = {
        "name": entry.name,
        "id": entry.id,
        "provider": entry.provider,
        "works": entry.problem is None,
        "problem": entry.problem,
        "fidelity": None,
        "chunks": None,
        "takes": [],
        "settings": {},
        "meanings": {},
        "implementation": None,
        "notice": str(entry.codec.notice) if entry.codec else "",
    }
    if entry.codec is not None:
        try:
            with guarded(entry.name):
                record |= _details(codec or entry.codec(), works=entry.problem is None)
        except CodecError as exc:
            record |= {"works": False, "problem": entry.problem or exc.message}
    return record


def _details(codec: Codec, *, works: bool) -> dict[str, Any]:
    from mroi.codecs.registry import check_declarations

    cls = type(codec)
    if works:  # what it raises is said, where `_takes` takes it for a refusal
        check_declarations(codec, _spec("u1"))
    return {
        "fidelity": codec.fidelity.name.lower(),
        "chunks": "any" if cls.max_slices is None else f"{cls.max_slices} slice",
        "takes": _takes(codec),
        "settings": {f.name: _as_json(getattr(codec, f.name)) for f in dataclasses.fields(cls)},
        "meanings": meanings_of(cls),
        "implementation": str(cls.implementation()) if works else None,
    }


def meanings_of(cls: type[Codec]) -> dict[str, str]:
    """Return what the docstring of a codec says of each of its settings."""
    import inspect

    text = inspect.cleandoc(str(cls.__doc__ or ""))
    section = text.partition("\nParameters\n----------\n")[2]
    section = re.split(r"\n\n\w[^\n]*\n-{3,}\n", section)[0]
    parts = re.split(r"^(\w+) : .*$", section, flags=re.MULTILINE)
    return {
        name: " ".join(meaning.split()).replace("`", "")
        for name, meaning in zip(parts[1::2], parts[2::2], strict=True)
    }


def _as_json(default: object) -> object:
    import json

    return json.loads(json.dumps(default, default=repr))


def _takes(codec: Codec) -> list[str]:
    """Return the types of voxels that `mroi pack` takes with a codec, whatever their values."""
    import numpy as np

    from mroi.codecs import Pipeline, Values
    from mroi.errors import CodecError

    def takes(kind: str, *samples: int) -> bool:
        spec = _spec(kind, *samples)
        dtype, values = spec.dtype, None
        if dtype.kind in "iu":
            info = np.iinfo(dtype)
            values = Values(float(info.min), float(info.max), whole=True)
        elif dtype.kind == "f":
            values = Values(-1.0, 1.0, whole=False)
        try:
            Pipeline.fitting(codec, spec, values)
        except CodecError:
            return False
        return True

    found = []
    for kind, name in zip("uifc", _NAMES, strict=True):
        sizes = [8 * int(t[1:]) for t in _TYPES if t[0] == kind and takes(t)]
        if sizes:
            found.append(name + "/".join(map(str, sizes)))
    found += [name for name, samples in (("rgb", 3), ("rgba", 4)) if takes("u1", samples)]
    found += ["opaque"] if takes("V16") else []
    return ["everything"] if len(found) == len(_NAMES) + 3 else found


def _spec(kind: str, *samples: int) -> ChunkSpec:
    import numpy as np

    from mroi.codecs import ChunkSpec

    dtype = np.dtype(f"<{kind}")
    return ChunkSpec((1, 64, 64, *samples), dtype, 8 * dtype.itemsize)
