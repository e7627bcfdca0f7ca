"""Run the examples of README.md and of the manual, and write what they really print below them.

    python tools/examples.py [FILE ...]            # write the outputs into the pages
    python tools/examples.py --check [FILE ...]    # fail if a block fails, or prints something else

Each page runs in a temporary folder of its own, from top to bottom. Its blocks are

``console``         lines that start with ``$``, and what they print
``python``          lines that start with ``>>>``, and what they print; or a silent script
``title="FILE"``    the text of a file that later blocks use

and any other has a comment above it: ``<!-- not run: WHY -->``. Numbers may differ a little: they
depend on the versions of libraries. `INPUTS` are there for a page that names them.

``mroi`` is started once for all commands, and forked by `warm`; a server, and what follows the
installation of a plug-in, are processes of their own.
"""

from __future__ import annotations

import argparse
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
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import warm

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
INPUTS = {
    "scan.nii.gz": "nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
    "grey.nii.gz": "nilearn/datasets/data/mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz",
    "bold.nii": "nibabel/tests/data/functional.nii",
    "head.nii": "nibabel/tests/data/anatomical.nii",
    "moved.nii": "nibabel/tests/data/reoriented_anat_moved.nii",
    "ct": "pydicom/data/test_files/dicomdirtests/98892001/CT5N",
}
_BLOCK = re.compile(
    r"(?P<skipped>^<!-- not run: [^\n]+ -->\n)?"
    r'^```(?P<kind>\w*)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
_SHELL = re.compile(r"[|<>;&*$]")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_HEX = re.compile(r"[0-9a-f]{64}")
_TOLERANCE = 0.2
_MROI = [sys.executable, "-c", "from mroi.cli import main; main()"]
_PROGRAMS = {
    "mroi": _MROI,
    "pip": [sys.executable, "-m", "pip", "--no-input"],
    "pytest": [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"],
    "python": [sys.executable],
}


def main() -> int:
    """Write or check pages; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("pages", nargs="*", type=Path, default=PAGES)
    args = parser.parse_args()
    if warm.SOCKET in os.environ:
        return write(args.pages, check=args.check)
    with warm.waiting():
        return write(args.pages, check=args.check)


def write(pages: Sequence[Path], *, check: bool) -> int:
    """Write or check these pages; return the exit code."""
    code = 0
    for path in pages:
        old = path.read_text("utf-8")
        new = rendered(path)
        if not check:
            path.write_text(new, "utf-8")
        elif not are_alike(old, new):
            code = 1
            lines = (text.splitlines(keepends=True) for text in (old, new))
            sys.stdout.writelines(difflib.unified_diff(*lines, path.name, "printed"))
    return code


def blocks(path: Path) -> Iterator[tuple[str, re.Match[str]]]:
    """Yield the blocks of code of a page: whether they are run, written, skipped or unmarked."""
    for found in _BLOCK.finditer(path.read_text("utf-8")):
        if found["skipped"]:
            yield "skipped", found
        elif found["title"]:
            yield "written", found
        else:
            yield ("run" if found["kind"] in ("console", "python") else "unmarked"), found


def needs_shell(path: Path) -> bool:
    """Whether a page has commands that only a shell can run."""
    lines = "\n".join(found["text"] for kind, found in blocks(path) if kind == "run").splitlines()
    return any(line.startswith("$ ") and not is_plain(line[2:]) for line in lines)


def rendered(path: Path) -> str:
    """Return the text of a page with the outputs of all its blocks made anew."""
    text = path.read_text("utf-8")
    names: dict[str, object] = {"__name__": "__main__"}

    def replaced(found: re.Match[str]) -> str:
        kind = found["kind"]
        if found["skipped"]:
            return found[0]
        if found["title"]:
            file = Path(found["title"])
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(found["text"], "utf-8")
            return found[0]
        return f"```{kind}\n{''.join(outputs(kind, found['text'], names))}```"

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        prepare(Path(folder), text)
        return _BLOCK.sub(replaced, text)


def prepare(folder: Path, text: str) -> None:
    """Put into a folder the inputs that a page names, and the programs that it may call."""
    for name, place in INPUTS.items():
        if re.search(rf"(?<![\w./]){re.escape(name)}(?![\w])", text):
            package, _, rest = place.partition("/")
            source = Path(find_spec(package).submodule_search_locations[0]) / rest  # type: ignore[union-attr, index]
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, name)
    programs = folder / ".programs"
    programs.mkdir()
    first = {"pip": '[ "$1" = uninstall ] && exec rm -r .installed\n'}  # it cannot, with a target
    if socket := os.environ.get(warm.SOCKET):
        quick = shlex.join(warm.command(socket, "mroi"))
        first["mroi"] = f'[ "$1" = serve ] || [ -e .installed ] || exec {quick} "$@"\n'
    for name, command in _PROGRAMS.items():
        script = programs / name
        lines = f'#!/bin/sh\n{first.get(name, "")}exec {shlex.join(command)} "$@"\n'
        script.write_text(lines, "utf-8")
        script.chmod(0o755)


def outputs(kind: str, source: str, names: dict[str, object]) -> Iterator[str]:
    """Yield the inputs of a block, each with what it prints below it."""
    if kind == "console":
        for line in source.splitlines():
            if line.startswith("$ "):
                yield f"{line}\n{printed_by_command(line[2:])}"
        return
    if ">>> " not in source:
        yield source
        if printed := printed_by_python(source, names, "exec"):
            raise RuntimeError(f"a script of a page prints nothing, this one:\n{printed}")
        return
    for example in doctest.DocTestParser().get_examples(source):
        lines = example.source.splitlines()
        yield "".join(f"{'...' if number else '>>>'} {line}\n" for number, line in enumerate(lines))
        yield printed_by_python(example.source, names, "single")


def is_plain(command: str) -> bool:
    """Whether a command is ``mroi`` with arguments, which needs no shell."""
    return command.startswith("mroi ") and not _SHELL.search(command)


def printed_by_command(command: str) -> str:
    """Run a command and return what it prints; raises if it fails."""
    here = Path.cwd()
    env = {
        **os.environ,
        "COLUMNS": "100",
        "PATH": f"{here / '.programs'}{os.pathsep}{os.environ['PATH']}",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it as "no isolation"
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_QUIET": "1",
        "PIP_TARGET": str(here / ".installed"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(here / ".installed")]),
        "PYTHONUTF8": "1",
    }
    is_quick = warm.SOCKET in os.environ  # then the script in .programs knows what to do
    is_direct = is_plain(command) and not is_quick
    shell = [*_MROI, *shlex.split(command)[1:]] if is_direct else ["sh", "-c", command]
    done = subprocess.run(  # a shell runs what stands in our own pages
        shell, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
    )
    if done.returncode:
        raise RuntimeError(f"$ {command}\n{done.stdout}")
    return done.stdout


def printed_by_python(source: str, names: dict[str, object], mode: str) -> str:
    """Run a piece of Python, like a prompt does if the mode is ``single``."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(source, "<page>", mode), names)  # noqa: S102  (our own pages)
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
