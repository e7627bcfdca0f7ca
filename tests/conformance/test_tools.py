"""The checks of ``tools/`` pass here, and fail when something does not fit."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.extras import needs_tools

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    *(pytest.param(name, marks=needs_tools) for name in ("spec_tables", "vectors")),
    *("spec_rules", "calv_vectors", "ebb_vectors"),
)


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_the_check_passes(name: str) -> None:
    command = [sys.executable, str(ROOT / "tools" / f"{name}.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A copy of the specification that a test may spoil."""
    copy = tmp_path / "spec"
    shutil.copytree(ROOT / "spec", copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@needs_tools
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("| 12 | u32 | `head_size` |", "| 12 | u64 | `head_size` |"),
        ("| 0 | u32 | `sync` | that of the prefix |\n", ""),
        ("head_size 0x280", "head_size 0x288"),
    ],
)
def test_a_stale_table_is_found(
    spec: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    module = tool("spec_tables")
    page = spec / "mroi-1.md"
    text = page.read_text(encoding="utf-8")
    assert text.count(old) == 1
    page.write_text(text.replace(old, new), encoding="utf-8", newline="\n")
    monkeypatch.setattr(module, "SPEC", page)
    assert module.main(["--check"]) == 1
    assert module.main([]) == 0
    assert page.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("**`FRM-3`**", "**`FRM-2`**", "FRM: the rules are numbered"),
        ("* **`FRM-11`**", "* **`FRM-12`**", "FRM-12: no vector and no test"),
        ("* **`CHK-8`**", "* `CHK-8`", "which is no rule"),
    ],
)
def test_a_rule_that_does_not_fit_is_found(
    spec: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, problem: str
) -> None:
    module = tool("spec_rules")
    page = spec / "mroi-1.md"
    text = page.read_text(encoding="utf-8")
    assert old in text
    page.write_text(text.replace(old, new), encoding="utf-8", newline="\n")
    monkeypatch.setattr(module, "SPEC", spec)
    assert any(problem in found for found in module.problems())


def test_a_rule_without_vectors_is_found(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tool("spec_rules")
    for path in (spec / "vectors" / "invalid").glob("*-roi-3-*"):
        path.unlink()
    monkeypatch.setattr(module, "SPEC", spec)
    assert list(module.problems()) == ["ROI-3: no vector and no test"]


def test_a_test_that_is_gone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    module = tool("spec_rules")
    monkeypatch.setitem(module.BY_TEST, "WRI-1", "tests/conformance/test_tools.py::test_gone")
    assert list(module.problems()) == [
        "WRI-1: tests/conformance/test_tools.py::test_gone is not there"
    ]


@needs_tools
def test_a_changed_vector_is_found(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tool("vectors")
    monkeypatch.setattr(module, "VECTORS", spec / "vectors")
    assert module.main(["--check"]) == 0
    changed = next((spec / "vectors" / "valid").glob("*.mroi"))
    changed.write_bytes(changed.read_bytes() + b"\0")
    (spec / "vectors" / "invalid" / "999-extra.mroi").write_bytes(b"")
    assert module.main(["--check"]) == 1
    assert module.main([]) == 0
    assert module.main(["--check"]) == 0
