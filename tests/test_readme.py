"""Everything that README.md runs works, and prints what it says there."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"


def test_commands_and_python_print_what_the_readme_shows() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "readme.py", "--check"],
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)", README.read_text("utf-8"))
    files = [link for link in links if "://" not in link]
    assert files
    assert [link for link in files if not (ROOT / link).exists()] == []


def test_the_two_commands_are_there() -> None:
    text = README.read_text("utf-8")
    for command in ("demo", "test"):
        assert f"python3 tools/dev.py {command}" in text
