"""Payloads of calv that break one rule: the reference names it, and the library refuses them."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mroi.codecs.base import ChunkSpec
from mroi.codecs.calv import Calv
from mroi.errors import DecodeError
from tests.codecs.broken_payloads import load
from tests.codecs.test_calv_vectors import SPEC, VECTORS, reference, reference_decode
from tests.conformance.test_tools import tool

PATHS = sorted((VECTORS / "invalid").glob("*.calv"))
CASES = tool("calv_vectors").calv_cases


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_reference_names_the_rule(path: Path) -> None:
    payload, spec, rule = load(path)
    with pytest.raises(reference.BrokenError, match=f"^{rule}$"):
        reference_decode(payload, spec.shape, spec.dtype)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_library_refuses_it(path: Path) -> None:
    payload, spec, _ = load(path)
    with pytest.raises(DecodeError) as caught:
        Calv().decode(payload, spec)
    assert caught.value.rule == "CHK-8"


def test_every_rule_has_one() -> None:
    page = (SPEC / "codecs" / "calv.md").read_text("utf-8")
    rules = set(re.findall(r"^\* \*\*`(CLV-\d+)`", page, re.MULTILINE))
    assert {load(path)[2] for path in PATHS} == rules


@pytest.mark.parametrize("payload", CASES.SOUND, ids=lambda payload: f"kind {payload.kind}")
def test_nothing_else_is_broken(payload: Any) -> None:
    """What the broken payloads were made from is decoded by both."""
    dtype = np.dtype(payload.dtype)
    zeros = np.zeros(payload.shape, dtype)
    assert reference_decode(payload.build(), payload.shape, dtype) == zeros.tobytes()
    found = Calv().decode(payload.build(), ChunkSpec(payload.shape, dtype, 8))
    assert found.tobytes() == zeros.tobytes()
