"""A folder with files to serve: a series that is scaled, oblique, and not in RAS order."""

from pathlib import Path

import nibabel as nib
import pytest

import mroi
from tests.cli.runner import AFFINE, phantom


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of ``a.mroi``."""
    made = nib.Nifti1Image(phantom((12, 15, 10, 3)), AFFINE)
    made.header.set_slope_inter(0.5, -3)
    path = tmp_path_factory.mktemp("source") / "a.nii"
    nib.save(made, path)
    return path


@pytest.fixture(scope="session")
def packed(image: Path) -> Path:
    """The file itself; tests that change it take a copy."""
    path = image.with_name("a.mroi")
    mroi.pack(image, path, codec="zstd", chunk=2)
    return path


@pytest.fixture
def study(tmp_path: Path, packed: Path) -> Path:
    """A folder with two files, and with what is not for clients."""
    folder = tmp_path / "study"
    (folder / "sub 1").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    data = packed.read_bytes()
    for name in ("a.mroi", "sub 1/b.mroi", ".c.mroi", ".hidden/d.mroi", "e.nii"):
        (folder / name).write_bytes(data)
    (tmp_path / "secret.mroi").write_bytes(data)
    return folder
