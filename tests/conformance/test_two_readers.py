"""The reader that was written from the text alone, against every vector.

Where it and the library agree with the vectors, the text says enough.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SPEC = Path(__file__).resolve().parents[2] / "spec"


def load() -> ModuleType:
    path = SPEC / "reference" / "decode.py"
    spec = importlib.util.spec_from_file_location("second_reader", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


decode = load()
HAS_ZSTD = sys.version_info >= (3, 14)  # the standard library does not have it before


def vectors(section: str) -> list[Any]:
    paths = sorted((SPEC / "vectors" / section).glob("*.mroi"))
    assert paths
    return [pytest.param(path, id=path.stem) for path in paths]


def expected(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return value


def skip_without_zstd(error: Exception) -> None:
    if not HAS_ZSTD and "zstd" in str(error):
        pytest.skip("needs zstd of Python 3.14")


@pytest.mark.parametrize("path", vectors("valid"))
def test_valid_files_are_read(path: Path) -> None:
    want, data = expected(path), path.read_bytes()
    geometry = decode.open_bytes(data).head.geometry
    for name, value in want["geometry"].items():
        if name not in {"size", "shape", "fill"}:
            found = getattr(geometry, name)
            assert (list(found) if isinstance(found, tuple) else found) == value, name
    try:
        file = decode.verify(data)
    except decode.Unavailable as error:
        skip_without_zstd(error)
        has_filters = any(slot.json["filters"] for slot in decode.open_bytes(data).head.slots)
        assert has_filters or not want["decodable"]
        return
    assert want["decodable"]
    chunks = [file.chunk(number)[1] for number in range(len(want["chunks"]))]
    assert [number for number, data in enumerate(chunks) if data is None] == want["missing"]
    if want["roi_sha256"]:
        roi = b"".join(chunks[: geometry.roi_chunks])
        assert hashlib.sha256(roi).hexdigest() == want["roi_sha256"]
    if want["volume_sha256"]:
        assert hashlib.sha256(file.volume()).hexdigest() == want["volume_sha256"]


@pytest.mark.parametrize("path", vectors("invalid"))
def test_invalid_files_are_refused(path: Path) -> None:
    want, data = expected(path), path.read_bytes()
    with pytest.raises((decode.Refused, decode.Unavailable)) as caught:
        (decode.open_bytes if want["when"] == "open" else decode.verify)(data)
    if isinstance(caught.value, decode.Unavailable):
        skip_without_zstd(caught.value)
    assert caught.value.rule in {want["rule"], *want["also"]}


@pytest.mark.parametrize("path", vectors("salvage"))
def test_the_same_is_saved(path: Path) -> None:
    want, data = expected(path), path.read_bytes()
    if want["rule"]:
        with pytest.raises(decode.Refused) as caught:
            decode.salvage(data)
        assert caught.value.rule == want["rule"]
        return
    try:
        _, chunks = decode.salvage(data)
    except decode.Unavailable as error:
        skip_without_zstd(error)
        raise
    found = {
        str(number): hashlib.sha256(chunk).hexdigest()
        for number, chunk in enumerate(chunks)
        if chunk is not None
    }
    assert found == want["sha256"]
