"""Print the generated parts of the specification from its declarations.

    python tools/spec_tables.py            # rewrite them in spec/mroi-1.md
    python tools/spec_tables.py --check    # fail if they differ

The byte tables come from ``spec/reference/layout.py``, the annotated dump of Annex A from
``spec/vectors/valid/001-minimal.mroi``, read by the same declarations.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from construct import (
    Array,
    Bytes,
    Construct,
    FormatField,
    SizeofError,
    Struct,
    Subconstruct,
    Switch,
)

ROOT = Path(__file__).resolve().parent.parent
SPEC = ROOT / "spec" / "mroi-1.md"
MINIMAL = ROOT / "spec" / "vectors" / "valid" / "001-minimal.mroi"

sys.path.insert(0, str(ROOT / "spec" / "reference"))
import layout  # noqa: E402  # stands beside the text, not in a package

_GENERATED = re.compile(r"(<!-- (table|dump): (\w+) -->\n)(.*?)(<!-- /\2 -->)", re.DOTALL)
_NAMES = {
    "B": "u8",
    "H": "u16",
    "L": "u32",
    "I": "u32",
    "Q": "u64",
    "h": "i16",
    "f": "f32",
    "d": "f64",
}


def bare(field: Construct) -> Construct:
    """Return what is declared, without names, defaults and checks around it."""
    while isinstance(field, Subconstruct) and not isinstance(field, Array | layout.GreedyRange):
        field = field.subcon
    return field


def type_name(field: Construct) -> str:
    """Return the type of a field as the tables write it."""
    field = bare(field)
    if isinstance(field, FormatField):
        return _NAMES[field.fmtstr[1]]
    if isinstance(field, Array):
        return f"{type_name(field.subcon)} × {field.count}"  # noqa: RUF001
    if isinstance(field, Bytes):
        return f"{field.length} bytes"
    raise TypeError(f"no name for {field!r}")


def table(name: str) -> str:
    """Return the Markdown table of a structure: its fields of fixed size, in order."""
    lines = ["| offset | type | field | meaning |", "| ---: | --- | --- | --- |"]
    offset = 0
    for field in bare(getattr(layout, name)).subcons:
        try:
            size = field.sizeof()
        except SizeofError:  # its size depends on other fields: the text says where it is
            continue
        meaning = f"{field.docs} " if field.docs else ""
        lines.append(f"| {offset} | {type_name(field)} | `{field.name}` | {meaning}|")
        offset += size
    return "".join(f"{line}\n" for line in lines)


def fields(
    declared: Construct, value: Any, name: str = "", parent: Any = None
) -> Iterator[tuple[int, str, Any]]:
    """Yield the size, name and value of every field of a structure, in order."""
    kind = bare(declared)
    if isinstance(kind, Struct):
        for part in kind.subcons:
            if part.name:
                yield from fields(part, value[part.name], part.name, value)
    elif isinstance(kind, Switch):
        yield from fields(kind.cases[kind.keyfunc(parent)], value, name, parent)
    elif isinstance(kind, Array) and isinstance(bare(kind.subcon), Struct | Switch):
        for item in value:
            yield from fields(kind.subcon, item, name, parent)
    else:
        yield (len(value) if isinstance(value, bytes) else kind.sizeof()), name, value


def label(name: str, value: Any) -> str:
    """Return what the dump says of a field."""
    if isinstance(value, bytes):
        printable = value.isascii() and value.decode("ascii").isprintable()
        return f"{name} {value.decode()}" if printable and value else name
    if isinstance(value, list):
        return f"{name} {' '.join(f'{item:g}' for item in value)}"
    if name in {"sync", "payload_crc", "header_crc", "prefix_crc", "decoded_crc"}:
        return f"{name} {value:08x}"
    if name in {"head_size", "index_offset", "file_size", "first", "end"}:
        return f"{name} {value:#x}"
    return f"{name} {value:g}"


def rows(data: bytes, at: int, items: list[tuple[int, str, Any]]) -> Iterator[str]:
    """Yield the lines of one structure: offset, 16 bytes, the fields that begin in them."""
    starts: list[tuple[int, str]] = []
    offset = at
    for size, name, value in items:
        if size and not name.startswith(("reserved", "extra")):
            starts.append((offset, label(name, value)))
        offset += size
    for line in range(at, offset, 16):
        stop = min(line + 16, offset)
        notes = " | ".join(note for start, note in starts if line <= start < stop)
        yield f"{line:08x}  {data[line:stop].hex(' '):<47}  {notes}".rstrip()


def dump(data: bytes) -> str:
    """Return the annotated dump of a whole file."""
    file = layout.File.parse(data)
    lines = ["prefix", *rows(data, 0, list(fields(layout.Prefix, file.prefix)))]
    for frame in file.frames:
        kind, payload = frame.header.type, frame.payload
        title = f"{kind.decode()} {frame.header.ordinal}" if kind == b"CHNK" else kind.decode()
        body = layout.parse_payload(kind, payload)
        items = (
            list(fields(layout.PAYLOADS[kind], body))
            if kind in layout.PAYLOADS
            else [(len(payload), "voxels", list(payload))]
        )
        at = frame.offset + layout.FRAME_HEADER_SIZE
        lines += ["", title]
        lines += rows(data, frame.offset, list(fields(layout.FrameHeader, frame.header)))
        lines += rows(data, at, [*items, (len(frame.padding), "padding", b"")])
    return "```text\n" + "".join(f"{line}\n" for line in lines) + "```\n"


def generate(text: str) -> str:
    """Return the specification with its generated parts as they must be."""

    def replace(match: re.Match[str]) -> str:
        start, kind, name, _old, stop = match.groups()
        return start + (table(name) if kind == "table" else dump(MINIMAL.read_bytes())) + stop

    return _GENERATED.sub(replace, text)


def main(arguments: list[str]) -> int:
    """Rewrite the specification, or check it."""
    text = SPEC.read_text(encoding="utf-8")
    wanted = generate(text)
    if arguments == ["--check"]:
        if text != wanted:
            print("spec/mroi-1.md: generated parts are stale; run tools/spec_tables.py")
            return 1
        return 0
    SPEC.write_text(wanted, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
