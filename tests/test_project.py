"""What the project shows to services and strangers: it parses, agrees, and is up to date."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import mroi
from mroi.cli import app

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SHARE = ROOT / "share"
MAN = SHARE / "man" / "man1" / "mroi.1"
COMPLETIONS = {
    "bash": SHARE / "bash-completion" / "completions" / "mroi",
    "zsh": SHARE / "zsh" / "site-functions" / "_mroi",
    "fish": SHARE / "fish" / "vendor_completions.d" / "mroi.fish",
}
COMMANDS = [command.name for command in app.registered_commands]


def script(name: str) -> Any:
    """Return a tool of the repository as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


package = script("package")


def parsed(path: Path) -> Any:
    """Return what a YAML file says; `on` stays a word, as GitHub reads it."""
    return yaml.load(path.read_text("utf-8"), yaml.BaseLoader)


def steps(workflow: Path) -> Iterator[dict[str, Any]]:
    """Yield the steps of all jobs of a workflow."""
    for job in parsed(workflow)["jobs"].values():
        yield from job.get("steps", [])


def commands_of(name: str) -> list[str]:
    """Return what the steps of a workflow run."""
    return [step["run"] for step in steps(ROOT / ".github/workflows" / name) if "run" in step]


# -- who and which version ---------------------------------------------------------------------


def test_the_citation_names_this_version_and_the_paper() -> None:
    citation = parsed(ROOT / "CITATION.cff")
    assert citation["version"] == mroi.__version__
    assert citation["license"] == "MIT"
    (paper,) = citation["references"]
    assert paper["title"].startswith("MedROI: Codec-Agnostic")
    assert [author["family-names"] for author in paper["authors"]] == ["Kim", "Jang"]


def test_every_file_that_states_a_version_states_this_one() -> None:
    assert package.version_of() == mroi.__version__
    found = package.stated_versions()
    assert len(found) == 3
    assert set(found.values()) == {mroi.__version__}


def test_one_address_everywhere() -> None:
    names = ["CITATION.cff", "docs/install.md", "pyproject.toml", "recipe/recipe.yaml"]
    names += [".github/ISSUE_TEMPLATE/config.yml"]
    texts = [(ROOT / name).read_text("utf-8") for name in names]
    found = [set(re.findall(r"https://github\.com/([\w.-]+/mroi)\b", text)) for text in texts]
    assert all(len(addresses) == 1 for addresses in found), found
    assert len(set.union(*found)) == 1
    (address,) = found[0]
    assert f"uses: {address}@v{mroi.__version__}" in (ROOT / "docs/install.md").read_text("utf-8")


def test_the_recipe_needs_what_the_package_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    recipe = parsed(ROOT / "recipe" / "recipe.yaml")
    needed = {text.replace("isal>", "python-isal>") for text in project["dependencies"]}
    stated = {text.replace(" ", "") for text in recipe["requirements"]["run"]}
    assert stated == needed | {"python>=${{python_min}}"}
    assert project["requires-python"] == f">={recipe['context']['python_min']}"


# -- releasing ---------------------------------------------------------------------------------


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of what states the version, with an address and a changelog."""
    stating = ["CITATION.cff", "recipe/recipe.yaml", package.SHARED[0]]
    for name in [*stating, "mroi/_version.py", "pyproject.toml"]:
        text = (ROOT / name).read_text("utf-8")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text.replace(package.PLACEHOLDER, "somebody"), "utf-8")
    version = mroi.__version__
    log = f"## [Unreleased]\n\n## [{version}] - 2026-01-31\n\n- New.\n\n## [0.0.1]\n\n- Old.\n"
    (tmp_path / "CHANGELOG.md").write_text(log, "utf-8")
    monkeypatch.setattr(package, "ROOT", tmp_path)
    return tmp_path


def test_a_release_that_is_ready_has_no_problems(ready: Path) -> None:
    assert package.notes(mroi.__version__) == "- New."
    assert package.release_problems(f"v{mroi.__version__}") == []


def test_tag_version_and_changelog_agree(ready: Path) -> None:
    version = mroi.__version__
    (ready / "CITATION.cff").write_text("version: 0.0.1\n", "utf-8")
    (ready / "CHANGELOG.md").write_text("## [Unreleased]\n", "utf-8")
    assert package.release_problems("v9.9.9") == [
        f"the tag is v9.9.9, the version v{version}",
        f"CITATION.cff says 0.0.1, mroi/_version.py {version}",
        f"CHANGELOG.md has no section [{version}]",
    ]


def test_nothing_is_released_with_a_placeholder_for_its_address(ready: Path) -> None:
    path = ready / "pyproject.toml"
    text = re.sub(r"(github\.com)/[\w.-]+/", rf"\1/{package.PLACEHOLDER}/", path.read_text("utf-8"))
    path.write_text(text, "utf-8")
    problems = package.release_problems(f"v{mroi.__version__}")
    assert len(problems) == 3
    assert all("placeholder" in problem for problem in problems)


# -- workflows ---------------------------------------------------------------------------------


def test_workflows_run_what_people_run() -> None:
    assert len(WORKFLOWS) == 4
    command = "python3 tools/dev.py test"
    for text in ("README.md", "CONTRIBUTING.md", ".ci/run"):
        assert command in (ROOT / text).read_text("utf-8")
    assert command in commands_of("test.yml")
    assert "python3 tools/dev.py package" in commands_of("package.yml")
    assert "python3 tools/dev.py docs --build" in commands_of("docs.yml")


def test_every_python_that_the_package_names_is_tested_on_three_systems() -> None:
    matrix = parsed(ROOT / ".github/workflows/test.yml")["jobs"]["test"]["strategy"]["matrix"]
    classifiers = (ROOT / "pyproject.toml").read_text("utf-8")
    assert matrix["python"] == re.findall(r'Python :: (3\.\d+)"', classifiers)
    assert {name.partition("-")[0] for name in matrix["system"]} == {"ubuntu", "macos", "windows"}


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_starts_with_no_rights_and_keeps_no_credentials(workflow: Path) -> None:
    assert parsed(workflow)["permissions"] == {}
    for step in steps(workflow):
        uses = step.get("uses", "")
        assert uses == "./" or not uses or "@" in uses
        if uses.startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false"
        assert "${{" not in step.get("run", ""), "values reach a script through its environment"


def test_only_a_tag_that_passed_everything_reaches_pypi() -> None:
    release = parsed(ROOT / ".github/workflows/release.yml")
    assert release["on"] == {"push": {"tags": ["v*"]}}
    pypi = release["jobs"]["pypi"]
    assert set(pypi["needs"]) == {"test", "package", "ready"}
    assert pypi["environment"]["name"] == "pypi"
    assert pypi["permissions"] == {"id-token": "write"}
    (step,) = [step for step in pypi["steps"] if "pypi-publish" in step["uses"]]
    assert step["with"]["attestations"] == "true"
    assert "password" not in step["with"]


def test_the_action_passes_inputs_through_the_environment() -> None:
    action = parsed(ROOT / "action.yml")
    scripts = [step["run"] for step in action["runs"]["steps"] if "run" in step]
    assert len(scripts) == 2
    assert not any("${{" in script for script in scripts)
    assert 'mroi" verify -- "${files[@]}"' in scripts[-1]


def test_the_image_runs_as_nobody_in_particular() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    last = text[text.rindex("FROM ") :]
    (user,) = re.findall(r"^USER (\d+):\d+$", last, re.MULTILINE)
    assert int(user) > 0
    assert 'ENTRYPOINT ["mroi"]' in last


# -- the man page and completions --------------------------------------------------------------


def test_man_page_and_completions_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "shell.py", "--check"],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", [MAN, *COMPLETIONS.values()], ids=["man", *COMPLETIONS])
def test_every_command_and_its_options_are_named(path: Path) -> None:
    text = path.read_text("utf-8").replace("\\-", "-")
    assert len(COMMANDS) > 8
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", text, re.IGNORECASE), command
    for option in ("max-error", "against", "install-completion", "overview"):
        assert option in text
    assert "zstd" in text


@pytest.mark.parametrize("shell", COMPLETIONS)
def test_a_shell_accepts_its_completion(shell: str) -> None:
    program = shutil.which(shell)
    if program is None or sys.platform == "win32":
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run(
        [program, "-n", COMPLETIONS[shell]], capture_output=True, check=False, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ver", {"verify"}),
        ("pack --backg", {"--background"}),
        ("pack --background ", {"exact", "drop"}),
        ("pack --codec jpeg2", {"jpeg2000", "jpeg2000-3d"}),
        ("info ", {"a.mroi", "folder"}),
        ("pack ", {"a.mroi", "b.nii", "folder"}),
    ],
)
def test_bash_completes(line: str, expected: set[str], tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None or sys.platform == "win32":
        pytest.skip("bash is not installed")
    for name in ("a.mroi", "b.nii"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    words = ["mroi", *line.split(" ")]
    script = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_mroi; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [bash, "--norc", "-c", script, "bash", COMPLETIONS["bash"], *words],
        capture_output=True,
        check=True,
        cwd=tmp_path,
        text=True,
        timeout=60,
    )
    assert set(done.stdout.split()) == expected


def test_the_man_page_is_valid() -> None:
    mandoc = shutil.which("mandoc")
    if mandoc is None:
        pytest.skip("mandoc is not installed")
    done = subprocess.run(
        [mandoc, "-Tlint", "-W", "warning", MAN],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    said = [line for line in done.stdout.splitlines() if 'missing date, using ""' not in line]
    assert said == []


# -- the wheel ---------------------------------------------------------------------------------


def test_the_wheel_has_all_that_it_should_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        check=True,
        capture_output=True,
        cwd=ROOT,
        timeout=120,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert package.wheel_problems(wheel) == []
    spoilt = tmp_path / wheel.name.replace("none", "spoilt")
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(spoilt, "w") as copy:
        for name in whole.namelist():
            if not name.endswith(("LICENSE", "_mroi")):
                copy.writestr(name, whole.read(name))
        copy.writestr("tests/test_mroi.py", "")
        copy.writestr("mroi/__pycache__/limits.cpython-313.pyc", "")
    assert [problem.partition(" ")[2] for problem in package.wheel_problems(spoilt)] == [
        "has mroi/__pycache__/limits.cpython-313.pyc",
        "has tests/test_mroi.py",
        f"lacks mroi-{mroi.__version__}.data/data/share/zsh/site-functions/_mroi",
        f"lacks mroi-{mroi.__version__}.dist-info/licenses/LICENSE",
    ]
