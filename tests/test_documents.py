"""Everything that README.md and the manual run works, and prints what they say."""

import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.extras import needs, require

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
NOT_RUN = 27  # blocks that nothing runs: each has its reason above it

sys.path.insert(0, str(ROOT / "tools"))
examples = importlib.import_module("examples")
warm = importlib.import_module("warm")
sys.path.pop(0)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def kinds(page: Path) -> list[str]:
    return [kind for kind, _ in examples.blocks(page)]


@pytest.fixture(scope="module")
def checker() -> Iterator[list[str]]:
    """What checks a page; all of them are forked from one process that has loaded mroi."""
    with warm.waiting() as socket:
        plain = [sys.executable, str(ROOT / "tools" / "examples.py")]
        yield [*(warm.command(socket, "examples") if socket else plain), "--check"]


@pytest.mark.slow
@needs("codecs")
@pytest.mark.parametrize("page", [page for page in PAGES if "run" in kinds(page)], ids=name)
def test_commands_and_python_print_what_the_page_shows(page: Path, checker: list[str]) -> None:
    if examples.needs_shell(page) and not shutil.which("sh"):
        pytest.skip("the commands of this page need a shell")
    others = ("remote", "sitk", "xarray", "zarr")
    needed = {
        "bench.md": ("bench",),
        "libraries.md": others,
        "training.md": ("torch", "torchio"),
        "viewers.md": others,
    }
    for extra in needed.get(page.name, ()):
        require(extra)
    done = subprocess.run(
        [*checker, page],
        capture_output=True,
        check=False,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_block_is_run_or_says_why_not() -> None:
    assert [name(page) for page in PAGES if "unmarked" in kinds(page)] == []
    fences = [len(re.findall(r"^ *```", page.read_text("utf-8"), re.MULTILINE)) for page in PAGES]
    assert [2 * len(kinds(page)) for page in PAGES] == fences
    assert sum(kinds(page).count("skipped") for page in PAGES) == NOT_RUN


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
    files = [link for link in links if "://" not in link]
    assert [link for link in files if not (page.parent / link).exists()] == []


def test_the_two_commands_are_there() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    for command in ("demo", "test"):
        assert f"python3 tools/dev.py {command}" in text


def test_the_reference_has_every_public_name() -> None:
    for page, module in (("python", "mroi"), ("testing", "mroi.testing")):
        text = (ROOT / "docs" / "reference" / f"{page}.md").read_text("utf-8")
        named = set(re.findall(rf"^::: {re.escape(module)}\.(\w+)$", text, re.MULTILINE))
        assert named == set(importlib.import_module(module).__all__) - {"__version__"}
