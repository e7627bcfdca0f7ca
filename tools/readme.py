"""Run the commands and the Python of README.md, and write what they really print below them.

    python tools/readme.py            # write the outputs into README.md
    python tools/readme.py --check    # fail if a block fails, or prints something else

Blocks marked ``console`` have lines that start with ``$``, those marked ``python`` lines that start
with ``>>>``. All run in one temporary folder, in which ``scan.nii.gz`` is the T1w brain that
nilearn ships. Numbers may differ a little: they depend on the versions of libraries.
"""

from __future__ import annotations

import contextlib
import difflib
import doctest
import io
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
_BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_HEX = re.compile(r"[0-9a-f]{64}")
_TOLERANCE = 0.2


def main() -> int:
    """Write or check README.md; return the exit code."""
    old = README.read_text("utf-8")
    new = rendered(old)
    if "--check" not in sys.argv[1:]:
        README.write_text(new, "utf-8")
        return 0
    if are_alike(old, new):
        return 0
    sys.stdout.writelines(
        difflib.unified_diff(
            old.splitlines(keepends=True), new.splitlines(keepends=True), "README.md", "printed"
        )
    )
    return 1


def rendered(text: str) -> str:
    """Return the text with the outputs of all its blocks made anew."""
    names: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        shutil.copyfile(brain(), "scan.nii.gz")
        return _BLOCK.sub(
            lambda block: "".join([f"```{block[1]}\n", *outputs(block[1], block[2], names), "```"]),
            text,
        )


def brain() -> Path:
    """Return the path of the volume."""
    package = find_spec("nilearn")
    assert package is not None
    assert package.origin is not None
    data = Path(package.origin).parent / "datasets" / "data"
    return data / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"


def outputs(kind: str, source: str, names: dict[str, object]) -> Iterator[str]:
    """Yield the inputs of a block, each with what it prints below it."""
    if kind == "console":
        for line in source.splitlines():
            if line.startswith("$ "):
                yield f"{line}\n{printed_by_command(line[2:])}"
        return
    for example in doctest.DocTestParser().get_examples(source):
        lines = example.source.splitlines()
        yield "".join(f"{'...' if number else '>>>'} {line}\n" for number, line in enumerate(lines))
        yield printed_by_python(example.source, names)


def printed_by_command(command: str) -> str:
    """Run ``mroi ...`` and return what it prints; raises if it fails."""
    program, *arguments = shlex.split(command)
    if program != "mroi":
        raise ValueError(f"README.md runs only mroi, not {program}")
    shell = [sys.executable, "-c", "from mroi.cli import main; main()", *arguments]
    done = subprocess.run(
        shell,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    if done.returncode:
        raise RuntimeError(f"$ {command}\n{done.stdout}")
    return done.stdout


def printed_by_python(source: str, names: dict[str, object]) -> str:
    """Run a piece of Python like a prompt does."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(source, "README.md", "single"), names)  # noqa: S102  (our own README)
    return printed.getvalue()


def are_alike(old: str, new: str) -> bool:
    """Whether two texts are equal but for versions, digests, and small differences of numbers."""
    texts = [_HEX.sub("#", _VERSION.sub("#", text)) for text in (old, new)]
    if _NUMBER.sub("0", texts[0]).split() != _NUMBER.sub("0", texts[1]).split():
        return False
    numbers = [[float(n.replace(",", "")) for n in _NUMBER.findall(text)] for text in texts]
    return all(math.isclose(a, b, rel_tol=_TOLERANCE) for a, b in zip(*numbers, strict=True))


if __name__ == "__main__":
    sys.exit(main())
