#!/usr/bin/env python3
"""Build what is released, look into it, and use it as a stranger would; Python 3.11 or newer.

python3 tools/package.py build         wheel and source into dist/, then smoke; needs build, twine
python3 tools/package.py smoke         install the wheel of dist/ alone, pack and restore an image
python3 tools/package.py ready v1.2.3  fail unless this commit may be released under that tag
python3 tools/package.py notes v1.2.3  print what CHANGELOG.md says of it
"""

from __future__ import annotations

import gzip
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
SHARED = (
    "share/man/man1/mroi.1",
    "share/bash-completion/completions/mroi",
    "share/zsh/site-functions/_mroi",
    "share/fish/vendor_completions.d/mroi.fish",
)
PLACEHOLDER = "OWNER"
_JUNK = re.compile(r"(^|/)(__pycache__|\.\w+_cache|\.hypothesis|\.venv|\.git|site|demo)/|\.py[co]$")


def main(arguments: Sequence[str]) -> int:
    """Do what the first argument says; return the exit code."""
    match arguments:
        case ["build"]:
            build()
            problems = [*wheel_problems(one("*.whl")), *sdist_problems(one("*.tar.gz"))]
            if not problems:
                smoke(one("*.whl"))
        case ["smoke"]:
            problems = []
            smoke(one("*.whl"))
        case ["ready", tag]:
            problems = release_problems(tag)
        case ["notes", tag]:
            problems = []
            print(notes(tag.removeprefix("v")))
        case _:
            sys.exit(str(__doc__))
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def run(*command: str | Path, env: dict[str, str] | None = None, cwd: Path = ROOT) -> str:
    """Run a command, show it, and return what it prints; ends the program if it fails."""
    print("$", shlex.join(map(str, command)), flush=True)
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=env, check=False, stdout=subprocess.PIPE, text=True
    )
    print(done.stdout, end="", flush=True)
    if done.returncode:
        sys.exit(f"{command[0]} failed with code {done.returncode}")
    return done.stdout


# -- build and look ----------------------------------------------------------------------------


def build() -> None:
    """Write the source and, from it, the wheel: so the source is known to be complete."""
    for path in DIST.glob("mroi-*"):
        path.unlink()
    run(sys.executable, "-m", "build", "--outdir", DIST)
    run(sys.executable, "-m", "twine", "check", "--strict", *sorted(DIST.glob("mroi-*")))


def one(pattern: str) -> Path:
    """Return the only file of dist/ that fits."""
    found = sorted(DIST.glob(pattern))
    if len(found) != 1:
        sys.exit(f"dist/ has {len(found)} files {pattern}: run `python3 tools/dev.py package`")
    return found[0]


def wheel_problems(wheel: Path) -> list[str]:
    """Return what is wrong with the files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    distribution = "-".join(wheel.name.split("-")[:2])
    info, data = f"{distribution}.dist-info", f"{distribution}.data/data"
    wanted = {f"{data}/{path}" for path in SHARED}
    wanted |= {f"{info}/licenses/LICENSE", f"{info}/entry_points.txt"}
    wanted |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "mroi").rglob("*.py")}
    wanted |= {"mroi/py.typed"}
    allowed = ("mroi/", f"{info}/", f"{data}/share/")
    strange = [name for name in names if not name.startswith(allowed)]
    return file_problems(wheel, names, wanted, strange)


def sdist_problems(sdist: Path) -> list[str]:
    """Return what is wrong with the files of the source."""
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    wanted = {
        *SHARED, "CHANGELOG.md", "CITATION.cff", "LICENSE", "PKG-INFO", "README.md", "SECURITY.md",
        "pyproject.toml", "spec/mroi-1.md", "tests/conftest.py", "tools/dev.py",
    }  # fmt: skip
    return file_problems(sdist, names, wanted, [])


def file_problems(
    path: Path, names: Iterable[str], wanted: Iterable[str], strange: Iterable[str]
) -> list[str]:
    """Return what lacks and what should not be there."""
    junk = [name for name in names if _JUNK.search(name)]
    problems = [f"{path.name} has {name}" for name in sorted({*strange, *junk})]
    return problems + [f"{path.name} lacks {name}" for name in sorted(set(wanted) - set(names))]


# -- use ---------------------------------------------------------------------------------------


def smoke(wheel: Path) -> None:
    """Install a wheel without extras into an empty environment, and use it.

    The image is one that nibabel ships, which the wheel needs anyway.
    """
    with tempfile.TemporaryDirectory(prefix="mroi-") as folder:
        here = Path(folder)
        venv.create(here / "venv", with_pip=True)
        scripts = here / "venv" / ("Scripts" if os.name == "nt" else "bin")
        python, mroi = scripts / "python", scripts / "mroi"
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        env["PYTHONUTF8"] = "1"
        run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel, env=env)
        find = "import nibabel, pathlib; print(pathlib.Path(nibabel.__file__).parent)"
        data = Path(run(python, "-c", find, env=env).strip()) / "tests" / "data"
        image, packed, restored = data / "example4d.nii.gz", here / "s.mroi", here / "s.nii"
        for command in (
            ["--version"],
            ["--help"],
            ["codecs"],
            ["pack", image, "-o", packed],
            ["info", packed],
            ["verify", packed, "--against", image],
            ["unpack", packed, "-o", restored],
        ):
            run(mroi, *command, env=env, cwd=here)
        if gzip.decompress(image.read_bytes()) != restored.read_bytes():
            sys.exit("the restored image differs from its source")
        missing = [path for path in SHARED if not (here / "venv" / path).exists()]
        if missing:
            sys.exit(f"not installed: {', '.join(missing)}")
        print(f"{wheel.name} works on {sysconfig.get_platform()}, Python {sys.version.split()[0]}")


# -- release -----------------------------------------------------------------------------------


def release_problems(tag: str) -> list[str]:
    """Return why this commit may not be released under a tag."""
    version = version_of()
    problems = []
    if tag != f"v{version}":
        problems.append(f"the tag is {tag}, the version v{version}")
    for name, found in stated_versions().items():
        if found != version:
            problems.append(f"{name} says {found}, mroi/_version.py {version}")
    if not notes(version):
        problems.append(f"CHANGELOG.md has no section [{version}]")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    urls = [url for url in project["urls"].values() if f"/{PLACEHOLDER}/" in url]
    return problems + [f"pyproject.toml: {url} is a placeholder" for url in urls]


def version_of() -> str:
    """Return the version in the code."""
    return find(r'__version__ = "([^"]+)"', "mroi/_version.py")


def stated_versions() -> dict[str, str]:
    """Return the version that other files state, by file."""
    return {
        "CITATION.cff": find(r"^version: (\S+)$", "CITATION.cff"),
        "recipe/recipe.yaml": find(r'^  version: "([^"]+)"$', "recipe/recipe.yaml"),
        SHARED[0]: find(r'"mroi ([^"]+)"', SHARED[0]),
    }


def find(pattern: str, name: str) -> str:
    """Return what the group of a pattern matches in a file."""
    found = re.search(pattern, (ROOT / name).read_text("utf-8"), re.MULTILINE)
    return found[1] if found else "nothing"


def notes(version: str) -> str:
    """Return the section of the changelog about a version, empty if there is none."""
    heading = rf"^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## |\Z)"
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    found = re.search(heading, text, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
