"""What an extra brings is known in one place, and tests are skipped for it and for nothing else."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests import extras

ROOT = Path(__file__).resolve().parent.parent


def test_each_extra_of_the_package_is_known() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = project["optional-dependencies"]
    assert set(extras.EXTRAS) == set(declared) - {"all", "testing"}
    here = packages_distributions()
    for extra, modules in extras.EXTRAS.items():
        distributions = {
            re.split(r"[\[>]", name)[0].lower().replace("_", "-") for name in declared[extra]
        }
        assert len(modules) == len(distributions)
        found = {here[module][0].lower().replace("_", "-") for module in modules if module in here}
        assert found <= distributions


def failure(folder: Path, code: str) -> ModuleNotFoundError:
    """Return what a module of this code, in that folder, is not imported for."""
    path = folder / "module_of_a_test.py"
    with pytest.raises(ModuleNotFoundError) as caught:
        exec(compile(code, path, "exec"), {})
    return caught.value


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an extra bring a module that nobody has."""
    monkeypatch.setitem(extras.EXTRAS, "extra", ("no_such_module",))
    monkeypatch.setattr(extras, "_MISSING", {"no_such_module"})


@pytest.mark.usefixtures("missing")
def test_a_module_that_imports_what_is_missing_is_skipped() -> None:
    for code in ("import no_such_module", "from no_such_module.part import name"):
        with pytest.raises(pytest.skip.Exception, match=r"needs mroi\[extra\]"):
            extras.require_import(failure(Path(__file__).parent, code))


@pytest.mark.usefixtures("missing")
def test_any_other_failure_is_none_to_skip_for() -> None:
    """An import in the package is one that a plain install must do without."""
    tests, package = Path(__file__).parent, ROOT / "mroi"
    for folder, code in ((package, "import no_such_module"), (tests, "import no_other_module")):
        extras.require_import(failure(folder, code))
    extras.require_import(ImportError("no name"))
    extras.require_import(None)


@pytest.mark.usefixtures("missing")
def test_what_needs_an_extra_says_so() -> None:
    assert extras.is_missing("extra")
    assert extras.needs("extra").kwargs["reason"] == "needs mroi[extra]"
    assert extras.needs("extra").args == (True,)
    with pytest.raises(pytest.skip.Exception, match=r"needs mroi\[extra\]"):
        extras.require("extra")


def test_what_a_plain_install_has_is_never_skipped() -> None:
    assert extras.needs_codec("zstd", "deflate", "raw", "calv").args == (False,)
