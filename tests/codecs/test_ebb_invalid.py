"""Payloads of ebb that break one rule: the reference names it, and the library refuses them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mroi.codecs.base import ChunkSpec
from mroi.codecs.ebb import Ebb
from mroi.errors import DecodeError
from tests.codecs.broken_payloads import load
from tests.codecs.test_ebb import SPEC, by_reference, reference
from tests.conformance.test_tools import tool

FOLDER = SPEC / "vectors" / "ebb"
PATHS = sorted((FOLDER / "invalid").glob("*.ebb"))
CASES = tool("ebb_vectors").ebb_cases


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_reference_names_the_rule(path: Path) -> None:
    payload, spec, rule = load(path)
    with pytest.raises(reference.BrokenError, match=f"^{rule}$"):
        by_reference(payload, spec)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_library_refuses_it(path: Path) -> None:
    payload, spec, _ = load(path)
    with pytest.raises(DecodeError) as caught:
        Ebb().decode(payload, spec)
    assert caught.value.rule == "CHK-8"


def test_no_bytes_are_no_payload() -> None:
    spec = ChunkSpec(CASES.SHAPE, np.dtype("u1"), 8)
    with pytest.raises(DecodeError):
        Ebb().decode(b"", spec)
    with pytest.raises(reference.BrokenError, match="EBB-1"):
        by_reference(b"", spec)


def test_every_rule_has_one() -> None:
    page = (SPEC / "codecs" / "ebb.md").read_text("utf-8")
    rules = set(re.findall(r"^\* \*\*`(EBB-\d+)`", page, re.MULTILINE))
    assert {load(path)[2] for path in PATHS} == rules


@pytest.mark.parametrize("payload", [CASES.SOUND, CASES.FLOATS], ids=["bytes", "floats"])
def test_nothing_else_is_broken(payload: Any) -> None:
    """What the broken payloads were made from is decoded by both, to the same voxels."""
    dtype = np.dtype(payload.dtype)
    spec = ChunkSpec(payload.shape, dtype, 8 * dtype.itemsize)
    found = Ebb().decode(payload.build(), spec)
    assert found.tobytes() == by_reference(payload.build(), spec)


def test_an_encoder_does_not_make_what_is_too_large_for_a_decoder() -> None:
    """Rows so short that margins weigh more than voxels (EBB-8)."""
    chunk = (np.arange(1_500_000) % 7).astype("u1").reshape(1, -1, 1)
    assert Ebb().encode(chunk, ChunkSpec(chunk.shape, chunk.dtype, 8))[0] == 0


def test_the_trace_is_of_the_payload() -> None:
    """Its coefficients are as many as voxels; each decision was likely, or cost what it cost."""
    steps = json.loads((FOLDER / "003.trace.json").read_text("utf-8"))
    about = json.loads((SPEC / "vectors" / "codecs" / "ebb" / "003.json").read_text("utf-8"))
    kinds = [step["step"] for step in steps]
    assert kinds[0] == "head"
    assert kinds.count("lowest") + kinds.count("coefficient") == np.prod(about["shape"])
    read = [one for step in steps for one in step.get("read", [])]
    chances = [p if bit else 65536 - p for what, p, bit in read if what == "decision"]
    bits = -np.log2(np.array(chances) / 65536).sum()
    bits += sum(count for what, count, _ in read if what == "uniform")
    assert bits / 16 == pytest.approx(sum(steps[0]["head"]["sizes"]), abs=3 * 4)
