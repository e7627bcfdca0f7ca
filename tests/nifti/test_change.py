"""A source that changes while it is packed gives an error, never a file that is wrong."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import mroi
from mroi.adapters.nifti import NiftiSource

SHAPE = (9, 8, 7)
OTHER_AFFINE = np.diag([2.0, 3, 4, 1])


def image(seed: int, affine: np.ndarray = np.eye(4)) -> nib.Nifti1Image:  # noqa: B008
    voxels = np.zeros(SHAPE, np.int16)
    voxels[2:7, 2:6, 1:6] = np.random.default_rng(seed).integers(1, 900, (5, 4, 5))
    return nib.Nifti1Image(voxels, affine)


def replace_file(path: Path, found: nib.Nifti1Image) -> None:
    """Another file takes the name."""
    new = path.with_name(f"new-{path.name}")
    nib.save(found, new)
    new.replace(path)


def write_over(path: Path, found: nib.Nifti1Image) -> None:
    """Other bytes are written into the file."""
    file = io.BytesIO()
    found.to_stream(file)
    data = file.getvalue()
    with path.open("r+b") as opened:
        opened.write(gzip.compress(data) if path.suffix == ".gz" else data)


class Changing:
    """Changes a source when it was read a number of times, or as far as a slice."""

    def __init__(self, source: NiftiSource, change: Callable[[], None], passes: int, at: int):
        self._source, self._change, self._passes, self._at = source, change, passes, at

    def __getattr__(self, name: str) -> object:
        return getattr(self._source, name)

    def planes(self, axis: int):
        for number, plane in enumerate(self._source.planes(axis)):
            if self._passes == 0 and number == self._at:
                self._change()
            yield plane
        self._passes -= 1
        if self._passes == 0 and self._at < 0:
            self._change()


HOW = pytest.mark.parametrize("how", [replace_file, write_over])


@HOW
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize("codec", ["zstd", "auto"])
@pytest.mark.parametrize("background", ["exact", "drop"])
def test_a_source_that_changes_between_two_passes(tmp_path, how, name, codec, background) -> None:
    path, target = tmp_path / name, tmp_path / "x.mroi"
    nib.save(image(1), path)
    source = Changing(NiftiSource(path), lambda: how(path, image(2)), passes=1, at=-1)
    with pytest.raises(mroi.SourceError, match=r"changed while it was read|gzip"):
        mroi.pack(source, target, codec=codec, background=background)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert mroi.pack(path, target, codec=codec)
    assert mroi.verify(target, against=path).comparison.equal


@HOW
@pytest.mark.parametrize("changed", [1, OTHER_AFFINE], ids=["voxels", "affine"])
@pytest.mark.parametrize("passes", [0, 1])
@pytest.mark.parametrize("at", range(-1, SHAPE[2]))
def test_a_file_that_is_written_is_whole_wherever_its_source_changed(
    tmp_path, how, changed, passes, at
) -> None:
    """Either an error, or a file that verifies and has the digest of what is in it."""
    path, target = tmp_path / "x.nii", tmp_path / "x.mroi"
    nib.save(image(1), path)
    other = image(2) if isinstance(changed, int) else image(1, OTHER_AFFINE)
    source = Changing(NiftiSource(path), lambda: how(path, other), passes=passes, at=at)
    said = ""
    try:
        mroi.pack(source, target, codec="zstd", roi="tight" if passes else "full")
    except mroi.SourceError as exc:
        said = str(exc)
    if not target.exists():
        assert "changed while it was read" in said
        return
    report = mroi.verify(target)
    assert report.ok
    assert "source" in report.digests
    restored = io.BytesIO()
    assert mroi.unpack(target, restored).proven
    header = nib.Nifti1Image.from_bytes(restored.getvalue())
    assert np.array_equal(header.affine, mroi.open(target).affine)


@HOW
def test_a_header_that_changes_before_the_first_pass(tmp_path, how) -> None:
    path = tmp_path / "x.nii"
    nib.save(image(1), path)
    source = NiftiSource(path)
    how(path, image(1, OTHER_AFFINE))
    with pytest.raises(mroi.SourceError, match="changed while it was read"):
        mroi.pack(source, tmp_path / "x.mroi", codec="zstd", roi="full")
    assert [p.name for p in tmp_path.iterdir()] == ["x.nii"]


def test_a_header_file_of_a_pair_that_changes(tmp_path) -> None:
    path = tmp_path / "x.img"
    nib.save(nib.Nifti1Pair.from_image(image(1)), path)
    source = NiftiSource(path)
    nib.save(nib.Nifti1Pair.from_image(image(1, OTHER_AFFINE)), path)
    with pytest.raises(mroi.SourceError, match="changed while it was read"):
        mroi.pack(source, tmp_path / "x.mroi", codec="zstd", roi="full")


def test_what_stands_behind_the_voxels_counts(tmp_path) -> None:
    path = tmp_path / "x.nii"
    nib.save(image(1), path)

    def change() -> None:
        with path.open("ab") as file:
            file.write(b"more")

    source = Changing(NiftiSource(path), change, passes=1, at=-1)
    with pytest.raises(mroi.SourceError, match="changed while it was read"):
        mroi.pack(source, tmp_path / "x.mroi", codec="zstd", roi="tight")


def test_a_source_that_does_not_change_may_be_read_often(tmp_path) -> None:
    path = tmp_path / "x.nii.gz"
    nib.save(image(1), path)
    source = NiftiSource(path)
    for axis in (0, 1, 2, 2):
        assert len(list(source.planes(axis))) == SHAPE[axis]
    os.utime(path, (0, 0))
    mroi.pack(source, tmp_path / "x.mroi", codec="zstd")
    assert mroi.verify(tmp_path / "x.mroi", against=path).comparison.equal
