"""What differs between two runs of one benchmark."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from mroi.bench.rows import EXACT, Row
from mroi.bench.run import Plan
from mroi.errors import UsageError

__all__ = ["Changed", "Earlier", "compare", "read_results", "slowdown"]

TIMES = ("crop_seconds", "plan_seconds", "encode_seconds", "decode_seconds", "slice_seconds")
_DIGITS = 1e-9  # metrics differ in the last digits where sums run in another order


@dataclass(frozen=True, slots=True)
class Earlier:
    """What ``results.json`` holds: the plan, the machine that it ran on, and the rows."""

    plan: Plan
    machine: dict[str, object]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """A field of a row that is no longer what it was; the row is gone if `field` is empty."""

    row: Row
    field: str
    before: object
    now: object

    @override
    def __str__(self) -> str:
        aim = f" {self.row.target}" if self.row.target else ""
        name = f"{self.row.volume}: {self.row.codec}{aim}, ROI {self.row.roi}"
        if not self.field:
            return f"{name}: not measured this time"
        return f"{name}: {self.field} was {self.before}, is {self.now}"


def read_results(path: str | os.PathLike[str]) -> Earlier:
    """Read the results of an earlier run.

    Raises
    ------
    UsageError
        If they are none.
    OSError
        If the file cannot be read.
    """
    try:
        record = json.loads(Path(path).read_text("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"{path}: not the results of mroi bench (no JSON: {exc})") from exc
    if not isinstance(record, dict) or record.get("version") != 1:
        raise UsageError(f"{path}: not the results of mroi bench, or of a newer one")
    rows, machine = record.get("rows"), record.get("machine")
    if not isinstance(rows, list) or not isinstance(machine, dict):
        raise UsageError(f"{path}: results without rows or machine")
    return Earlier(Plan.from_json(record.get("plan")), machine, tuple(map(Row.from_json, rows)))


def compare(before: Sequence[Row], now: Sequence[Row]) -> list[Changed]:
    """Return what is not the same in rows that both should have, times and memory apart."""
    found = {row.key: row for row in now}
    changed = []
    for row in before:
        again = found.get(row.key)
        if again is None:
            changed.append(Changed(row, "", None, None))
            continue
        for name in EXACT:
            a, b = getattr(row, name), getattr(again, name)
            if not _is_same(a, b):
                changed.append(Changed(row, name, a, b))
    return changed


def _is_same(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=_DIGITS)
    return a == b


def slowdown(before: Sequence[Row], now: Sequence[Row]) -> dict[str, float]:
    """Return the median, over the rows that both have, of each time now over that before."""
    found = {row.key: row for row in now}
    ratios: dict[str, float] = {}
    for name in TIMES:
        pairs = [(getattr(row, name), getattr(found[row.key], name)) for row in before
                 if row.key in found]  # fmt: skip
        known = [b / a for a, b in pairs if a and b]
        if known:
            ratios[name] = statistics.median(known)
    return ratios
