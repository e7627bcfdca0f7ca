"""Check that the rules of the specification, their vectors and the library fit together.

    python tools/spec_rules.py            # list the rules, with the number of their vectors
    python tools/spec_rules.py --check    # fail if

* an id is used twice, or the numbers of a section have a hole (codec pages and registry included);
* a rule has neither an invalid vector nor a test named in `BY_TEST`, or such a test is not there;
* the library names a rule that the specification does not have.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SPEC = ROOT / "spec"

OURS = ("calv", "ebb")
"""Codecs whose pages have rules with vectors."""

_DEFINED = re.compile(r"^\* \*\*`([A-Z][A-Z0-9]{2})-(\d+)`\*\*", re.MULTILINE)
_ID = re.compile(r"[A-Z][A-Z0-9]{2}-\d+")
_NOT_RULES = {"CRC-32", "SHA-256", "UTF-8"}
_FOLDER = "tests/conformance"

BY_TEST = {
    # Rules about what programs do: no bytes break them.
    "BKG-1": f"{_FOLDER}/test_behaviour.py::test_omitted_background_has_no_value",
    "CDC-5": f"{_FOLDER}/test_behaviour.py::test_a_lossy_pipeline_is_declared_lossy",
    "CHK-10": f"{_FOLDER}/test_behaviour.py::test_missing_chunks_have_no_value",
    "WRI-1": f"{_FOLDER}/test_behaviour.py::test_a_writer_that_stops_leaves_nothing",
    "OPN-1": f"{_FOLDER}/test_vectors.py::test_every_truncation_is_refused",
    "OPN-2": f"{_FOLDER}/test_behaviour.py::test_a_missing_codec_is_named",
    "STR-1": f"{_FOLDER}/test_behaviour.py::test_a_stream_that_ends_early_is_an_error",
    "SAL-1": f"{_FOLDER}/test_vectors.py::test_what_is_whole_is_saved",
    "VER-1": f"{_FOLDER}/test_behaviour.py::test_what_is_not_known_is_ignored",
    # Reported as the rules that it asks for, JSN-1 to JSN-4.
    "MET-5": f"{_FOLDER}/test_vectors.py::test_the_broken_rule_is_named",
}
"""Rules without a vector, and the tests that hold programs to them."""


def rules(page: Path) -> list[tuple[str, int]]:
    """Return prefix and number of every rule that a page defines, in order."""
    found = _DEFINED.findall(page.read_text(encoding="utf-8"))
    return [(prefix, int(number)) for prefix, number in found]


def known_rules() -> list[str]:
    """Return the rules that need a vector: those of the format, and of our own codecs."""
    pages = (SPEC / "mroi-1.md", *(SPEC / "codecs" / f"{name}.md" for name in OURS))
    return [f"{prefix}-{number}" for page in pages for prefix, number in rules(page)]


def vectors() -> Counter[str]:
    """Return how many vectors each rule has."""
    vectors = SPEC / "vectors"
    folders = (vectors / "invalid", *(vectors / name / "invalid" for name in OURS))
    expectations = (path for folder in folders for path in folder.glob("*.json"))
    return Counter(json.loads(path.read_text(encoding="utf-8"))["rule"] for path in expectations)


def named() -> Iterator[tuple[Path, str]]:
    """Yield every rule that the library names, and where."""
    for path in sorted((ROOT / "mroi").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
                if _ID.fullmatch(text) and text not in _NOT_RULES:
                    yield path.relative_to(ROOT), text


def has_test(target: str) -> bool:
    """Whether a test function is there."""
    path, _, name = target.partition("::")
    file = ROOT / path
    if not file.is_file():
        return False
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body)


def problems() -> Iterator[str]:
    """Yield what does not fit."""
    pages = [*sorted(SPEC.glob("*.md")), *sorted((SPEC / "codecs").glob("*.md"))]
    everywhere = [rule for page in pages for rule in rules(page)]
    for prefix in dict.fromkeys(prefix for prefix, _ in everywhere):
        numbers = sorted(number for p, number in everywhere if p == prefix)
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"{prefix}: the rules are numbered {numbers}"
    known = set(known_rules())
    counts = vectors()
    for rule in sorted(known):
        if rule not in counts and rule not in BY_TEST:
            yield f"{rule}: no vector and no test"
        elif rule in counts and rule in BY_TEST:
            yield f"{rule}: has a vector, so its entry in BY_TEST can go"
    for rule in sorted({*counts, *BY_TEST} - known):
        yield f"{rule}: has a vector or a test, but is no rule"
    for rule, target in BY_TEST.items():
        if not has_test(target):
            yield f"{rule}: {target} is not there"
    for path, rule in named():
        if rule not in {f"{prefix}-{number}" for prefix, number in everywhere}:
            yield f"{path}: names {rule}, which is no rule"


def main(arguments: list[str]) -> int:
    """List the rules, or check them."""
    if arguments == ["--check"]:
        found = list(problems())
        for problem in found:
            print(f"tools/spec_rules.py: {problem}")
        return int(bool(found))
    counts = vectors()
    for rule in known_rules():
        print(f"{rule:<8}{counts[rule] or BY_TEST.get(rule, '-')}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
