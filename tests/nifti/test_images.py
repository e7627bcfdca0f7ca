"""Images of nibabel are packed: from their file if they are as it has them, else as they are."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import mroi as library
from tests.cli.runner import AFFINE, phantom


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A gzipped image that is scaled."""
    image = nib.Nifti1Image(phantom(), AFFINE)
    image.header.set_slope_inter(0.5, -3)
    nib.save(image, tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_an_image_that_was_loaded_is_packed_from_its_file(scan: Path) -> None:
    library.pack(nib.load(scan), scan.with_name("a.mroi"))
    result = library.unpack(scan.with_name("a.mroi"), scan.with_name("back.nii.gz"))
    assert result.proven
    assert np.array_equal(nib.load(scan).get_fdata(), nib.load(result.paths[0]).get_fdata())


def test_an_image_in_memory_is_packed_as_it_is(scan: Path) -> None:
    target = scan.with_name("a.mroi")
    loaded = nib.load(scan)
    moved = nib.load(scan)
    moved.set_sform(AFFINE @ np.diag([2.0, 1, 1, 1]))
    for image in (nib.Nifti1Image(phantom(), AFFINE), moved, nib.Nifti1Image(loaded.dataobj, None)):
        library.pack(image, target, overwrite=True)
        with library.open(target) as volume:
            assert np.array_equal(volume, np.asanyarray(image.dataobj))
            nib.save(image, scan.with_name("saved.nii"))
            assert np.allclose(volume.affine, nib.load(scan.with_name("saved.nii")).affine)
