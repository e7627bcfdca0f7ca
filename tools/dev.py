#!/usr/bin/env python3
"""Set up this repository and run what it has; needs Python 3.11 or newer and nothing else.

python3 tools/dev.py demo [FILE]    pack, look at, restore and prove a volume (yours or a real one)
python3 tools/dev.py test           everything that CI checks
python3 tools/dev.py check          the same without the tests: lint, types, layers, spec, manual
python3 tools/dev.py docs           build the manual into site/ and show it at http://127.0.0.1:8000
python3 tools/dev.py package        build wheel and source into dist/, install the wheel and use it
python3 tools/dev.py fuzz SECONDS   so long with each target in fuzz/
python3 tools/dev.py bench [NAME]   a measurement of benchmarks/, with its own arguments after it

Each command first makes the virtual environment .venv, or brings it up to date if pyproject.toml
has changed. That needs a network; the rest does not.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
DEMO = ROOT / "demo"


class Step(NamedTuple):
    """One thing to run, and what to call it in the summary."""

    name: str
    command: Sequence[str | Path]


def main() -> int:
    """Run the command that the user names and return the exit code."""
    if sys.version_info < (3, 11):  # noqa: UP036  (says what is wrong to those who have an old one)
        sys.exit(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in ("test", "check"):
        commands.add_parser(name)
    commands.add_parser("demo").add_argument("file", nargs="?", type=Path)
    commands.add_parser("fuzz").add_argument("seconds", type=int)
    commands.add_parser("bench").add_argument("arguments", nargs=argparse.REMAINDER)
    manual = commands.add_parser("docs")
    manual.add_argument("--build", action="store_true", help="write site/ and end")
    commands.add_parser("package")
    args = parser.parse_args()
    if args.command == "demo":
        return demo(args.file)
    if args.command == "fuzz":
        return fuzz(args.seconds)
    if args.command == "bench":
        return bench(args.arguments)
    if args.command == "package":
        return package()
    set_up("dev", "docs")
    if args.command == "docs":
        action = "build" if args.build else "serve"
        return run_all([Step("manual", [BIN / "mkdocs", action, "--strict"])])
    return run_all(checks(), tests() if args.command == "test" else [])


# -- the virtual environment -------------------------------------------------------------------


def set_up(*groups: str) -> None:
    """Make .venv if it does not run, and install the project with these dependency groups."""
    stamp = VENV / "mroi-dev.stamp"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    runs = PYTHON.exists() and call([PYTHON, "-c", "import pip"], quiet=True) == 0
    done = stamp.read_text().split() if runs and stamp.exists() else []
    if done[:1] != [wanted]:
        done = [wanted]
    missing = [group for group in groups if group not in done]
    if not missing:
        return
    print(f"Setting up {shown(VENV)}: a few minutes and about 1 GB the first time.", flush=True)
    if not runs:
        make_venv()
    pip_install("pip>=25.1")  # the first one that knows dependency groups
    pip_install("-e", ".[all]", *(f"--group={group}" for group in missing))
    stamp.write_text("\n".join([*done, *missing]))


def make_venv() -> None:
    """Make .venv with the Python that runs this."""
    command = [sys.executable, "-m", "venv", "--clear", VENV]
    say(command)
    if call(command) == 0:
        return
    # Some systems split pip's part of venv into a package of its own.
    say([*command, "--without-pip"])
    if call([*command, "--without-pip"]) or call(
        [sys.executable, "-m", "pip", "--python", PYTHON, "install", "-q", "pip"]
    ):
        sys.exit(
            f"{sys.executable} cannot make virtual environments. "
            "Install its venv module (Debian and Ubuntu: apt install python3-venv) and try again."
        )


def pip_install(*arguments: str) -> None:
    """Install into .venv; networks fail now and then, so try three times."""
    command = [PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    command += ["--prefer-binary", *arguments]
    say(command)
    for attempt in range(3):
        if call(command) == 0:
            return
        time.sleep(5 * attempt)
    sys.exit("pip could not install what is needed; see above.")


# -- what CI checks ----------------------------------------------------------------------------


def checks() -> list[Step]:
    """Return everything but the tests: seconds, not minutes."""
    vectors = ("vectors", "codec_vectors", "calv_vectors", "ebb_vectors")
    generators = ("spec_tables", "spec_rules", *vectors)
    return [
        Step("mypy", [PYTHON, "-m", "mypy"]),  # the longest first
        Step("ruff check", [PYTHON, "-m", "ruff", "check", "."]),
        Step("ruff format", [PYTHON, "-m", "ruff", "format", "--check", "."]),
        Step("layers", [BIN / "lint-imports"]),
        *(Step(name, [PYTHON, ROOT / "tools" / f"{name}.py", "--check"]) for name in generators),
        Step("figures", [PYTHON, ROOT / "tools" / "figures.py", "--check"]),
        Step("manual", [BIN / "mkdocs", "build", "--strict"]),
        Step("share", [PYTHON, ROOT / "tools" / "shell.py", "--check"]),
        *project_checks(),
    ]


def tests() -> list[Step]:
    """Return the test suite, on several cores if there are."""
    parallel = ["-n", str(min(cores(), 8)), "--dist", "worksteal"] if cores() > 1 else []
    return [Step("pytest", [PYTHON, "-m", "pytest", "-q", *parallel])]


def cores() -> int:
    """Return how many processors this may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def project_checks() -> list[Step]:
    """Return the checks of what services read: workflows, forms, the citation, the Dockerfile."""
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    config = [path for path in forms if path.name == "config.yml"]
    schemas = {
        "github-workflows": sorted((ROOT / ".github" / "workflows").glob("*.yml")),
        "github-actions": [ROOT / "action.yml"],
        "github-issue-forms": [path for path in forms if path not in config],
        "github-issue-config": config,
        "dependabot": [ROOT / ".github" / "dependabot.yml"],
        "citation-file-format": [ROOT / "CITATION.cff"],
    }
    check = [BIN / "check-jsonschema", "--builtin-schema"]
    steps = [Step(name, [*check, f"vendor.{name}", *files]) for name, files in schemas.items()]
    steps.append(Step("zizmor", [BIN / "zizmor", "--offline", "--no-progress", "--quiet", "."]))
    if sys.platform == "linux":  # hadolint is not packaged for all systems
        steps.append(Step("hadolint", [BIN / "hadolint", ROOT / "Dockerfile"]))
    return steps


def package() -> int:
    """Build the wheel and the source, look into them, install the wheel alone and use it."""
    set_up("dev", "package")
    return run_all([Step("package", [PYTHON, ROOT / "tools" / "package.py", "build"])])


def run_all(together: Sequence[Step], alone: Sequence[Step] = ()) -> int:
    """Run every step, also after one has failed; say how each went; return 1 if any failed.

    Parameters
    ----------
    together : sequence of Step
        As many at a time as there are cores; what each prints is shown when it has ended. One by
        itself is shown as it prints.
    alone : sequence of Step
        Run after the others, one by one.
    """
    summary = []
    if len(together) > 1:
        print(f"{len(together)} checks, {cores()} at a time", flush=True)
        with ThreadPoolExecutor(cores()) as pool:
            for step, (code, seconds, printed) in zip(
                together, pool.map(run, together), strict=True
            ):
                say(step.command)
                print(printed, end="", flush=True)
                summary.append((step.name, code, seconds))
    else:
        alone = [*together, *alone]
    for step in alone:
        say(step.command)
        start = time.monotonic()
        code = call(step.command)
        summary.append((step.name, code, time.monotonic() - start))
    print()
    for name, code, seconds in summary:
        print(f"{name:<22}{'ok' if code == 0 else f'FAILED ({code})':<14}{seconds:7.1f} s")
    failed = [name for name, code, _ in summary if code]
    print(f"failed: {', '.join(failed)}" if failed else f"all {len(summary)} passed")
    return 1 if failed else 0


def run(step: Step) -> tuple[int, float, str]:
    """Run a step, and return its exit code, its seconds, and what it printed."""
    start = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        code = call(step.command, output=output)
        output.seek(0)
        return code, time.monotonic() - start, output.read()


def fuzz(seconds: int) -> int:
    """Look for inputs that break the invariant each target states in its first line."""
    set_up("dev", "fuzz")
    steps = []
    for path in sorted((ROOT / "fuzz").glob("fuzz_*.py")):
        corpus = ROOT / "fuzz" / "corpus" / path.stem
        corpus.mkdir(parents=True, exist_ok=True)
        steps.append(Step(path.stem, [PYTHON, path, f"-max_total_time={seconds}", corpus]))
    return run_all([], steps)


def bench(arguments: Sequence[str]) -> int:
    """Run the measurement that the first argument names; by default, NIfTI on the demo's volume."""
    set_up("dev", "bench")
    if not arguments:
        arguments = ["nifti", str(template().parent)]
    name, *options = arguments
    return run_all([Step(name, [PYTHON, ROOT / "benchmarks" / f"{name}.py", *options])])


# -- the main job ------------------------------------------------------------------------------


def demo(source: Path | None) -> int:
    """Pack, look at, restore and prove one volume, with the commands a user would type."""
    set_up("dev")
    source = template() if source is None else source.resolve()
    name = source.name.removesuffix(".gz").rpartition(".")[0] or source.name
    DEMO.mkdir(exist_ok=True)
    ending = "img" if source.name.removesuffix(".gz").endswith((".hdr", ".img")) else "nii"
    packed, restored = DEMO / f"{name}.mroi", DEMO / f"{name}.restored.{ending}"
    sheet, plane = DEMO / f"{name}.png", DEMO / f"{name}.slice.png"
    print(f"\nmroi is {shown(BIN / 'mroi')}; everything is written to {shown(DEMO)}/.")
    overwrite = ["--exists", "overwrite"]
    opened = f'mroi.open("{packed.relative_to(ROOT).as_posix()}")'
    look = f"import mroi; v = {opened}; print(v); print(v.slice(0).shape)"
    steps: list[tuple[str, list[str | Path]]] = [
        ("Pack it", ["mroi", "pack", source, "-o", packed, *overwrite]),
        ("What is in it, and what reading costs", ["mroi", "info", packed]),
        ("A picture of it", ["mroi", "preview", packed, "-o", sheet, *overwrite]),
        ("One slice, without reading the rest", ["mroi", "slice", packed, "-o", plane, *overwrite]),
        ("The same in Python", ["python", "-c", look]),
        ("Give the source back", ["mroi", "unpack", packed, "-o", restored, *overwrite]),
        ("Prove it: checksums, and voxels against the source",
         ["mroi", "verify", packed, "--against", source]),
    ]  # fmt: skip
    for title, (program, *arguments) in steps:
        print(f"\n# {title}")
        say([program, *arguments])
        if code := call([BIN / str(program), *map(shown, arguments)]):
            return code
    if source.name.endswith((".nii", ".nii.gz")):
        print("\n# And independently of mroi: the same bytes as the uncompressed source")
        digests = [digest(source), digest(restored)]
        for path, value in zip((source, restored), digests, strict=True):
            print(f"sha256 {value}  {shown(path)}")
        if digests[0] != digests[1]:
            print("the restored file differs from its source", file=sys.stderr)
            return 1
    print(f"\nPictures: {shown(sheet)} and {shown(plane)}")
    return 0


def template() -> Path:
    """Copy the T1w brain that nilearn ships into the demo folder."""
    find = "import nilearn, pathlib; print(pathlib.Path(nilearn.__file__).parent / 'datasets/data')"
    found = subprocess.run([PYTHON, "-c", find], check=True, capture_output=True, text=True)
    folder = Path(found.stdout.strip())
    DEMO.mkdir(exist_ok=True)
    copy = DEMO / "mni152_t1.nii.gz"
    shutil.copyfile(folder / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz", copy)
    return copy


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, inflated if it is gzipped."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -- running things ----------------------------------------------------------------------------


def call(
    command: Sequence[str | Path], *, quiet: bool = False, output: IO[str] | None = None
) -> int:
    """Run a command from the root of the repository and return its exit code.

    What it prints goes to `output`; shown as it comes if there is none, unless `quiet`.
    """
    into = subprocess.DEVNULL if quiet else output
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # an appeal of the theme's, not of the build
    try:
        return subprocess.run(
            list(map(str, command)), cwd=ROOT, check=False, stdout=into, stderr=into, env=env
        ).returncode
    except OSError as exc:
        print(f"{command[0]}: {exc.strerror}", file=output or sys.stderr)
        return 127


def say(command: Sequence[str | Path]) -> None:
    """Print a command as one would type it in the root of the repository."""
    print("$", shlex.join(map(shown, command)), flush=True)


def shown(part: str | Path) -> str:
    """Return a path as seen from the root of the repository, and anything else as it is."""
    if isinstance(part, Path) and part.is_relative_to(ROOT):
        return str(part.relative_to(ROOT))
    return str(part)


if __name__ == "__main__":
    sys.exit(main())
