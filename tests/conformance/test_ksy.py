"""The Kaitai Struct description reads every valid vector as the executable specification does.

Kaitai's compiler is no Python package, so the description is interpreted here: the few constructs
that it uses, with expressions evaluated as the Python that they also are.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
import yaml
from construct import Array, Bytes, FormatField
from reference import layout

SPEC = Path(__file__).resolve().parents[2] / "spec"
KSY = yaml.safe_load((SPEC / "mroi.ksy").read_text(encoding="utf-8"))
VALID = sorted((SPEC / "vectors" / "valid").glob("*.mroi"))
NUMBERS = {"u1": "B", "u2": "H", "u4": "I", "u8": "Q", "s2": "h", "f4": "f", "f8": "d"}


class Value(dict[str, Any]):
    """A parsed type; fields can also be had as attributes, for expressions."""

    __getattr__ = dict.__getitem__


class Reader:
    """Interprets `KSY` on some bytes."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        assert self.at + size <= len(self.data)
        self.at += size
        return self.data[self.at - size : self.at]

    def sequence(self, fields: list[dict[str, Any]]) -> Value:
        value = Value()
        for field in fields:
            value[field["id"]] = self.repeated(field, value)
        return value

    def repeated(self, field: dict[str, Any], parent: Value) -> Any:
        match field.get("repeat"):
            case None:
                return self.single(field, parent)
            case "expr":
                count = evaluate(field["repeat-expr"], parent)
                return [self.single(field, parent) for _ in range(count)]
            case "eos":
                found = []
                while self.at < len(self.data):
                    found.append(self.single(field, parent))
                return found
            case "until":
                found = [self.single(field, parent)]
                while not evaluate(field["repeat-until"], Value(_=found[-1])):
                    found.append(self.single(field, parent))
                return found
            case other:
                raise NotImplementedError(other)

    def single(self, field: dict[str, Any], parent: Value) -> Any:
        known = {
            "id", "type", "size", "contents", "valid", "encoding",
            "repeat", "repeat-expr", "repeat-until", "size-eos",
        }  # fmt: skip
        assert set(field) <= known
        if "contents" in field:
            found = self.take(len(field["contents"]))
            assert found == bytes(field["contents"])
            return found
        if field.get("size-eos"):
            return self.take(len(self.data) - self.at)
        kind = field.get("type")
        if isinstance(kind, dict):
            cases = {evaluate(str(key), parent): name for key, name in kind["cases"].items()}
            kind = cases.get(evaluate(kind["switch-on"], parent))
        if "size" not in field:
            return self.typed(kind, field)
        data = self.take(evaluate(field["size"], parent))
        if kind is None:
            return data
        if kind == "str":
            return data.decode(field["encoding"])
        inner = Reader(data)
        value = inner.typed(kind, field)
        assert inner.at == len(data)
        return value

    def typed(self, kind: str, field: dict[str, Any]) -> Any:
        if kind in NUMBERS:
            (value,) = struct.unpack("<" + NUMBERS[kind], self.take(struct.calcsize(NUMBERS[kind])))
            assert value == field.get("valid", value)
            return value
        return self.sequence(KSY["types"][kind]["seq"])


def evaluate(expression: Any, names: Value) -> Any:
    if not isinstance(expression, str):
        return expression
    return eval(expression, {"__builtins__": {}}, names)


def plain(value: Any) -> Any:
    """Return what construct found as the description names it."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if not key.startswith("_")}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def declared(kind: bytes, payload: bytes) -> Any:
    """Return the payload as construct has it, in the shape of the description."""
    if kind == b"dCMh":  # may be compressed: stays bytes
        return payload
    value = plain(layout.parse_payload(kind, payload))
    if kind == b"SLSC":
        return {"pairs": value}
    if kind == b"sLPo":
        return {"positions": [{"xyz": row} for row in value]}
    return value


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in VALID])
def test_both_descriptions_read_the_same(path: Path) -> None:
    data = path.read_bytes()
    reader = Reader(data)
    found = reader.sequence(KSY["seq"])
    assert reader.at == len(data)
    file = layout.File.parse(data)
    assert found["prefix"] == plain(file.prefix)
    for ours, theirs in zip(found["frames"], file.frames, strict=True):
        assert ours["header"] == plain(theirs.header) | {"type": theirs.header.type.decode()}
        assert ours["payload"] == declared(theirs.header.type, theirs.payload)
        assert ours["padding"] == theirs.padding


TYPES = {
    "prefix": layout.Prefix,
    "frame_header": layout.FrameHeader,
    "roi_record": layout.RoiRecord,
    "geom": layout.Geom,
    "codec_table": layout.CodecTable,
    "codec_entry": layout.CodecEntry,
    "overview_header": layout.Overview,
    "index_header": layout.IndexHeader,
    "index_entry_8": layout.IndexEntry8,
    "index_entry_16": layout.IndexEntry16,
    "footer": layout.Footer,
    "digest": layout.Digest,
}


@pytest.mark.parametrize("name", sorted(TYPES))
def test_fields_have_the_same_names_and_sizes(name: str) -> None:
    def bare(field: Any) -> Any:
        while hasattr(field, "subcon") and not isinstance(field, Array):
            field = field.subcon
        return field

    def size_of(field: dict[str, Any]) -> Any:
        count = field.get("repeat-expr", 1)
        if "contents" in field:
            return len(field["contents"])
        if "size" in field:
            return field["size"] if isinstance(field["size"], int) else None
        if field["type"] not in NUMBERS or isinstance(count, str):
            return None
        return count * struct.calcsize(NUMBERS[field["type"]])

    def fixed_size(field: Any) -> Any:
        if isinstance(field, FormatField):
            return field.sizeof()
        if isinstance(field, Bytes):
            return None if callable(field.length) else field.length
        if isinstance(field, Array) and not callable(field.count):
            return field.sizeof()
        return None

    ours = [(field["id"], size_of(field)) for field in KSY["types"][name]["seq"]]
    theirs = [(field.name, fixed_size(bare(field))) for field in bare(TYPES[name]).subcons]
    assert ours == theirs


def test_every_structured_payload_is_described() -> None:
    field = next(f for f in KSY["types"]["frame"]["seq"] if f["id"] == "payload")
    described = {key.strip('"').encode() for key in field["type"]["cases"]}
    assert described == set(layout.PAYLOADS) - {b"dCMh"}
