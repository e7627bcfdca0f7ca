"""Laws of the repository as a whole: what importing costs, what is exported, what is written."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mroi
from tests.extras import require

ROOT = Path(__file__).resolve().parent.parent

HEAVY = {
    "PIL", "anyio", "asyncio", "fsspec", "glymur", "hypothesis", "imagecodecs", "isal", "llvmlite",
    "multiprocessing", "nibabel", "numba", "pcodec", "pillow_heif", "pydicom", "pytest", "pywt",
    "safetensors", "scipy", "skimage", "starlette", "torch", "uvicorn", "zstandard",
}  # fmt: skip

BEHIND = {
    "mroi/codecs/neural/bcm_model.py": "neural",
    "mroi/codecs/neural/bcm_network.py": "neural",
    "mroi/codecs/neural/bcm_objective.py": "neural",
    "mroi/codecs/neural/checkpoint.py": "neural",
    "mroi/codecs/neural/fitting.py": "neural",
    "mroi/codecs/neural/latent.py": "neural",
    "mroi/codecs/neural/network.py": "neural",
    "mroi/codecs/neural/objective.py": "neural",
    "mroi/codecs/neural/one_thread.py": "neural",
    "mroi/monai.py": "monai",
    "mroi/nnunet/__init__.py": "nnunet",
    "mroi/nnunet/__main__.py": "nnunet",
    "mroi/nnunet/trainers/__init__.py": "nnunet",
    "mroi/nnunet/trainers/mroi_trainer.py": "nnunet",
    "mroi/serve/app.py": "serve",
    "mroi/serve/server.py": "serve",
    "mroi/torch.py": "torch",
    "mroi/torchio.py": "torchio",
    "mroi/training/prepare.py": "neural",
    "mroi/training/run.py": "neural",
    "mroi/training/state.py": "neural",
    "mroi/xarray.py": "xarray",
    "mroi/zarr.py": "zarr",
}
"""Modules that import what an extra brings; nothing else imports them."""

MODULES = sorted((ROOT / "mroi").rglob("*.py"))

TEXT = {".cfg", ".json", ".ksy", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml", ""}
OWN_FOLDERS = (
    "benchmarks", "docs", "examples", "fuzz", "mroi", "spec", "tests", "tools", ".ci",
    ".github", "recipe", "share",
)  # fmt: skip
ONE_MACHINE = re.compile(r"(?<![\w.:/])/(work|tmp|home|root|mnt|opt|Users|etc/xdg)/\w", re.ASCII)
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")


def modules_after(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after running `code`."""
    tell = "import sys; print(*sys.modules, file=sys.stderr)"
    script = f"try:\n    {code}\nexcept SystemExit:\n    pass\n{tell}"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return {name.partition(".")[0] for name in done.stderr.split()}


def test_importing_mroi_loads_nothing_heavy() -> None:
    loaded = modules_after("import mroi")
    assert "mroi" in loaded
    assert loaded & (HEAVY | {"rich", "typer"}) == set()


def test_help_loads_nothing_heavy() -> None:
    loaded = modules_after("import mroi.cli, sys; sys.argv = ['mroi', '--help']; mroi.cli.main()")
    assert "typer" in loaded
    assert loaded & (HEAVY | {"rich"}) == set()


def test_help_loads_nothing_that_does_the_work() -> None:
    tell = "import mroi.cli, sys; print([name for name in sys.modules if 'mroi.batch.' in name])"
    done = subprocess.run([sys.executable, "-c", tell], capture_output=True, text=True, check=True)
    assert "mroi.batch.tasks" in done.stdout
    assert "mroi.batch.engine" not in done.stdout


def test_the_probe_sees_what_is_loaded() -> None:
    assert "PIL" in modules_after("import PIL.Image")


def test_public_names_exist() -> None:
    assert mroi.__all__
    assert set(mroi.__all__) <= set(dir(mroi))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_module_says_what_it_is_and_exports_what_it_has(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), "a module needs a docstring"
    if (extra := BEHIND.get(path.relative_to(ROOT).as_posix())) is not None:
        require(extra)
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(dotted)
    exported = getattr(module, "__all__", [])
    assert len(exported) == len(set(exported))
    assert [name for name in exported if not hasattr(module, name)] == []


def texts() -> list[Path]:
    """Return the files of the repository that people read."""
    found = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    for folder in OWN_FOLDERS:
        found += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    made = {"__pycache__", "corpus"}
    return sorted(path for path in found if path.suffix in TEXT and not made & set(path.parts))


@pytest.mark.parametrize("rule", [ONE_MACHINE, UNFINISHED], ids=["one-machine", "unfinished"])
def test_nothing_unfinished_and_no_path_of_one_machine(rule: re.Pattern[str]) -> None:
    checked = [path for path in texts() if path != Path(__file__)]
    assert len(checked) > 50
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in checked
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if rule.search(line)
    ]
    assert found == []
