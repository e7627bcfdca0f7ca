"""Only files of the folder are found, each is open once, and one that changes is opened anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mroi.errors import UsageError
from mroi.serve import folder as module
from mroi.serve.faults import RefusedError
from mroi.serve.folder import Folder

PARTS = st.sampled_from(
    [
        "..",
        ".",
        "",
        "a.mroi",
        "sub 1",
        "b.mroi",
        "secret.mroi",
        ".hidden",
        "d.mroi",
        "e.nii",
        "link",
    ]
)


def test_what_is_listed_is_what_is_found(study: Path) -> None:
    found = Folder(study)
    listed = found.list("", 100)
    assert [entry.name for entry in listed] == ["a.mroi", "sub 1/b.mroi"]
    assert all(found.find(entry.name).size == entry.size for entry in listed)


def test_a_list_goes_on_after_a_name(study: Path) -> None:
    found = Folder(study)
    for name in ("sub 1.mroi", "sub/z.mroi", "zz.mroi"):
        (study / name).parent.mkdir(exist_ok=True)
        (study / name).write_bytes(b"")
    names = [entry.name for entry in found.list("", 100)]
    assert len(names) == 5
    assert [entry.name for entry in found.list("", 2)] == names[:2]
    for at, name in enumerate(names):
        assert [entry.name for entry in found.list(name, 100)] == names[at + 1 :]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(["..", "secret.mroi"])
@example(["sub 1", "..", "a.mroi"])
@example(["e.nii"])
@given(st.lists(PARTS | st.text(max_size=5), max_size=5))
def test_no_name_leads_out_of_the_folder(study: Path, parts: list[str]) -> None:
    name = "/".join(parts)
    if name in ("a.mroi", "sub 1/b.mroi"):
        assert Folder(study).find(name).size
        return
    with pytest.raises(RefusedError) as caught:
        Folder(study).find(name)
    assert caught.value.status == 404


@pytest.mark.skipif(os.name == "nt", reason="links need rights here")
def test_links_lead_to_files_of_the_folder_only(study: Path) -> None:
    (study / "out.mroi").symlink_to(study.parent / "secret.mroi")
    (study / "up").symlink_to(study.parent)
    (study / "circle.mroi").symlink_to("circle.mroi")
    (study / "other.mroi").symlink_to(study / "e.nii")
    (study / "hidden.mroi").symlink_to(study / ".c.mroi")
    (study / "in.mroi").symlink_to(study / "sub 1" / "b.mroi")
    found = Folder(study)
    for name in ("out.mroi", "up/secret.mroi", "circle.mroi", "other.mroi", "hidden.mroi"):
        with pytest.raises(RefusedError):
            found.find(name)
    assert found.find("in.mroi") is found.find("sub 1/b.mroi")
    listed = [entry.name for entry in found.list("", 100)]
    assert listed == ["a.mroi", "in.mroi", "sub 1/b.mroi"]


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="no such flag here")
def test_a_link_that_appears_after_the_check_is_not_followed(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the check and the opening, somebody puts a link in the place of a folder."""

    def swap(root: Path, path: Path) -> int:
        if (study / "sub 1").is_symlink():
            return real(root, path)
        (study / "sub 1").rename(study / "old")
        (study.parent / "b.mroi").write_bytes(b"secret")
        (study / "sub 1").symlink_to(study.parent)
        return real(root, path)

    real = module._open_below
    monkeypatch.setattr(module, "_open_below", swap)
    with pytest.raises((OSError, RefusedError)):
        Folder(study).find("sub 1/b.mroi")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_what_is_no_file_is_not_opened(study: Path) -> None:
    os.mkfifo(study / "pipe.mroi")
    (study / "folder.mroi").mkdir()
    for name in ("pipe.mroi", "folder.mroi", "folder.mroi/x.mroi", "a.mroi/b.mroi"):
        with pytest.raises(RefusedError):
            Folder(study).find(name)


def test_a_file_is_opened_once_until_it_changes(study: Path) -> None:
    found = Folder(study)
    first = found.find("a.mroi")
    assert found.find("a.mroi") is first
    assert first.volume is first.volume
    data = (study / "a.mroi").read_bytes()
    replaced = study / "new"
    replaced.write_bytes(data + b"!")
    replaced.replace(study / "a.mroi")
    second = found.find("a.mroi")
    assert second is not first
    assert second.validators.tag != first.validators.tag
    assert second.size == first.size + 1
    assert first.source.read(0, first.size) == data  # what began with it ends with it
    (study / "a.mroi").unlink()
    with pytest.raises(RefusedError):
        found.find("a.mroi")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors")
def test_not_all_files_stay_open(study: Path) -> None:
    data = (study / "a.mroi").read_bytes()
    for number in range(module._MOST_OPEN + 20):
        (study / f"{number}.mroi").write_bytes(data)
    found = Folder(study)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(module._MOST_OPEN + 20):
        assert found.find(f"{number}.mroi").volume.shape
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + module._MOST_OPEN


def test_what_is_no_folder_is_refused(study: Path) -> None:
    for path in (study / "a.mroi", study / "none", "a\0b"):
        with pytest.raises(UsageError):
            Folder(path)
