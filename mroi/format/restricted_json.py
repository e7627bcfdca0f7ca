"""Restricted JSON: one text has one meaning, and parsing it is bounded (JSN-1 to JSN-4)."""

from __future__ import annotations

import json
import math
import re
from typing import NoReturn

from mroi.errors import FormatError

__all__ = ["MAX_JSON_SIZE", "MAX_PARAMS_SIZE", "build_json", "parse_json"]

MAX_PARAMS_SIZE = 1 << 16
MAX_JSON_SIZE = 1 << 20
_MAX_DEPTH = 8
_MAX_INT = (1 << 53) - 1
# A string, or what is left of the text if it is not closed: each byte is looked at once, so that
# a text of many quotes costs no more than any other.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[{\]}]")


class _RefusedError(ValueError):
    """What the hooks of the parser raise; the second argument is the rule."""


def parse_json(data: bytes, *, max_size: int, offset: int | None = None) -> dict[str, object]:
    """Parse one object; raises `FormatError` with the broken rule.

    Parameters
    ----------
    data : bytes
        UTF-8.
    max_size : int
        Bytes that are accepted.
    offset : int, optional
        Where they stand in the file, for messages.

    Raises
    ------
    FormatError
        With the broken rule (JSN).
    """
    try:
        return _parse(data, max_size)
    except _RefusedError as exc:
        message, rule = exc.args
        raise FormatError(f"JSON: {message}", rule, offset) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as exc:
        raise FormatError(f"JSON: {exc}", "JSN-1", offset) from exc


def _parse(data: bytes, max_size: int) -> dict[str, object]:
    if len(data) > max_size:
        raise _RefusedError(f"{len(data)} bytes exceed the limit of {max_size}", "JSN-4")
    if data.startswith(b"\xef\xbb\xbf"):
        raise _RefusedError("starts with a byte order mark", "JSN-1")
    if _depth(data) > _MAX_DEPTH:  # before the recursive parser sees it
        raise _RefusedError(f"nested deeper than {_MAX_DEPTH}", "JSN-4")
    value = _DECODER.decode(data.decode("utf-8"))
    if not isinstance(value, dict):
        raise _RefusedError("the top level is not an object", "JSN-1")
    if b"\\" in data:  # UTF-8 has no surrogates, but escapes have
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise _RefusedError("unpaired surrogate", "JSN-2") from None
    return value


def _depth(data: bytes) -> int:
    depth = deepest = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _members(items: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(items)
    if len(found) != len(items):
        raise _RefusedError("duplicate member", "JSN-2")
    return found


def _integer(text: str) -> int:
    # The length is checked first: int() of a long text is slow.
    if len(text) > 17 or abs(int(text)) > _MAX_INT:
        raise _RefusedError(f"integer {text[:20]} exceeds 2^53 - 1", "JSN-3")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _RefusedError(f"number {text[:20]} is not finite", "JSN-3")
    return value


def _constant(text: str) -> NoReturn:
    raise _RefusedError(f"{text} is not JSON", "JSN-3")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_members,
    parse_int=_integer,
    parse_float=_number,
    parse_constant=_constant,
)


def build_json(value: dict[str, object]) -> bytes:
    """Return the one text that writers use for `value`: sorted members, no white space."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()
