"""``mroi codecs``: which codecs there are, what they take, and what they need."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from mroi.cli.options import Json, Verbose
from mroi.cli.report import Report, columns

if TYPE_CHECKING:
    from mroi.codecs import Codec, Entry

EXAMPLES = """\
  mroi codecs                     every codec, and whether it works here
  mroi codecs -v                  with their settings and defaults
  mroi pack scan.nii.gz --codec zstd:level=19
"""

_TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "c8", "c16")
_NAMES = ("uint", "int", "float", "complex")


def run(*, verbose: Verbose = False, json: Json = False) -> None:
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
                " ".join(record["takes"]),  # type: ignore[arg-type]
                entry.problem or str(record["implementation"]),
            )
        )
        if verbose and entry.codec is not None:
            rows += [("", f"  {setting}", "", "", "") for setting in _settings(entry.codec)]
    if not json:
        report.answer({}, columns(rows))


def _record(entry: Entry) -> dict[str, object]:
    record: dict[str, object] = {
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
    cls = entry.codec
    if cls is not None:
        codec = cls()
        record["fidelity"] = codec.fidelity.name.lower()
        record["chunks"] = "any" if cls.max_slices is None else f"{cls.max_slices} slice"
        record["takes"] = _takes(codec)
        record["settings"] = {field.name: field.default for field in dataclasses.fields(cls)}
        if entry.problem is None:
            record["implementation"] = cls.implementation()
    return record


def _takes(codec: Codec) -> list[str]:
    """Return the types of voxels that `mroi pack` takes with a codec, whatever their values."""
    import numpy as np

    from mroi.codecs import ChunkSpec, Pipeline, Values
    from mroi.errors import CodecError

    def takes(kind: str, *samples: int) -> bool:
        dtype = np.dtype(f"<{kind}")
        spec = ChunkSpec((1, 64, 64, *samples), dtype, 8 * dtype.itemsize)
        values = None
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


def _settings(cls: type[Codec]) -> list[str]:
    import json

    return [f"{field.name}={json.dumps(field.default)}" for field in dataclasses.fields(cls)]
