"""What cases of codecs share: payloads that break one rule of a page, and the files of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Case:
    """A payload that breaks a rule; it has a `shape`, a `dtype` and `build`."""

    rule: str
    name: str
    description: str
    payload: Any


def line(value: object) -> str:
    """Return JSON in one line."""
    return json.dumps(value, separators=(",", ":"))


def files(folder: Path, cases: Iterable[Case]) -> Iterator[tuple[Path, bytes]]:
    """Yield the path and the content of the files of a codec, whose name the folder has."""
    for case in cases:
        stem = folder / "invalid" / f"{case.rule.lower()}-{case.name}"
        about = {
            "description": case.description,
            "rule": case.rule,
            "shape": case.payload.shape,
            "dtype": case.payload.dtype,
        }
        yield stem.with_suffix(f".{folder.name}"), case.payload.build()
        yield stem.with_suffix(".json"), f"{line(about)}\n".encode()
