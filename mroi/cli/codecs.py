"""``mroi codecs``: which codecs there are, what they take, and what they need."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mroi.cli.options import Json
from mroi.cli.report import Report, columns

if TYPE_CHECKING:
    from mroi.codecs import ChunkSpec, Codec, Entry

EXAMPLES = """\
  mroi codecs                     every codec, and whether it works here
  mroi codecs -v                  with their settings and defaults
  mroi pack scan.nii.gz --codec zstd:level=19
"""

_TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "c8", "c16")
_NAMES = ("uint", "int", "float", "complex")


def run(
    *,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="List the settings of each with their defaults.")
    ] = False,
    json: Json = False,
) -> None:
    """List the codecs, what they take, and what is missing.

    What they take is asked of the codecs themselves, with their default settings and the exact
    filters that packing puts before them. Volumes of wider types whose values fit a narrower one
    are taken as such.
    """
    from mroi.codecs import available

    report = Report("codecs", json=json)
    rows = [("CODEC", "VOXELS", "CHUNKS", "TAKES", "HERE")]
    for entry in available():
        record = _record(entry)
        if json:
            report.answer(record, "")
        rows.append(
            (
                entry.name,
                str(record["fidelity"] or ""),
                str(record["chunks"] or ""),
                " ".join(record["takes"]),
                str(record["problem"] or record["implementation"]),
            )
        )
        if verbose and record["settings"]:
            rows += [("", f"  {setting}", "", "", "") for setting in _settings(record["settings"])]
    if not json:
        report.answer({}, columns(rows))


def _record(entry: Entry) -> dict[str, Any]:
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
        "implementation": None,
    }
    if entry.codec is not None:
        try:
            with guarded(entry.name):
                record |= _details(entry.codec, works=entry.problem is None)
        except CodecError as exc:
            record |= {"works": False, "problem": entry.problem or exc.message}
    return record


def _details(cls: type[Codec], *, works: bool) -> dict[str, Any]:
    from mroi.codecs.registry import check_declarations

    codec = cls()
    if works:  # what it raises is said, where `_takes` takes it for a refusal
        check_declarations(codec, _spec("u1"))
    return {
        "fidelity": codec.fidelity.name.lower(),
        "chunks": "any" if cls.max_slices is None else f"{cls.max_slices} slice",
        "takes": _takes(codec),
        "settings": {f.name: _as_json(f.default) for f in dataclasses.fields(cls)},
        "implementation": str(cls.implementation()) if works else None,
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


def _settings(settings: dict[str, object]) -> list[str]:
    import json

    return [f"{name}={json.dumps(default)}" for name, default in settings.items()]
