"""Arrays and affines of generated series are those that dcm2niix gives."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import dicom_phantoms as phantoms
import nibabel as nib
import numpy as np
import pytest

from mroi.adapters.dicom import read_series, to_dcm2niix_orientation

PROGRAM = shutil.which("dcm2niix", path=str(Path(sys.executable).parent)) or shutil.which(
    "dcm2niix"
)
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="dcm2niix is not installed")

SAGITTAL = (0, 1, 0, 0, 0, -1)
CORONAL = (1, 0, 0, 0, 0, -1)
TILTED = (0.8, 0.6, 0.0, -0.36, 0.48, -0.8)


def converted(folder, out):
    out.mkdir()
    subprocess.run(
        [PROGRAM, "-z", "n", "-b", "n", "-f", "a", "-o", str(out), str(folder)],
        check=True, capture_output=True,
    )  # fmt: skip
    (path,) = out.glob("*.nii")
    return nib.load(path)


def check(tmp_path, datasets):
    phantoms.write(tmp_path / "in", datasets)
    expected = converted(tmp_path / "in", tmp_path / "out")
    series = read_series(tmp_path / "in")
    planes = np.stack([plane for _, plane in series.planes()])
    array, affine = to_dcm2niix_orientation(
        planes.reshape(series.shape[::-1]).T, series.affine, turned=series.turned_by_dcm2niix
    )
    assert array.shape == expected.shape
    assert np.array_equal(array, expected.dataobj.get_unscaled())
    np.testing.assert_allclose(affine, expected.affine, atol=2e-3)


@pytest.mark.parametrize("orientation", [phantoms.AXIAL, SAGITTAL, CORONAL, TILTED])
@pytest.mark.parametrize("distance", [3.0, -3.0])
@pytest.mark.parametrize(("acquired", "sequence"), [("2D", "GR"), ("3D", "GR"), ("3D", "EP")])
def test_classic_series(tmp_path, orientation, distance, acquired, sequence):
    voxels = phantoms.noise((6, 16, 20), "i2")
    datasets = phantoms.series(voxels, orientation, spacing=(1.5, 1.25, distance))
    for ds in datasets:
        ds.MRAcquisitionType, ds.ScanningSequence = acquired, sequence
    check(tmp_path, datasets)


@pytest.mark.parametrize("seed", range(12))
def test_oblique_3d_acquisitions(tmp_path, seed):
    rng = np.random.default_rng(seed)
    voxels = phantoms.noise((4, 6, 8), "i2")
    origin, spacing = rng.uniform(-50, 50, 3), rng.uniform(0.5, 4, 3)
    datasets = phantoms.series(voxels, phantoms.oblique(rng), origin, spacing)
    for ds in datasets:
        ds.MRAcquisitionType = "3D"
    check(tmp_path, datasets)


@pytest.mark.parametrize("orientation", [phantoms.AXIAL, TILTED])
@pytest.mark.parametrize("against", [False, True])
def test_mosaics(tmp_path, orientation, against):
    datasets = [
        phantoms.mosaic(
            phantoms.noise((7, 16, 16), "u2", t), orientation, number=t, against=against
        )
        for t in range(2)
    ]
    check(tmp_path, datasets)


@pytest.mark.parametrize("distance", [3.0, -3.0])
def test_multi_frame_files(tmp_path, distance):
    voxels = phantoms.noise((6, 16, 20), "u2")
    check(tmp_path, [phantoms.enhanced(voxels, TILTED, spacing=(1.5, 1.25, distance))])


def test_series_of_volumes(tmp_path):
    datasets = []
    for t in range(3):
        for k, ds in enumerate(phantoms.series(phantoms.noise((5, 16, 20), "i2", t), TILTED)):
            number = 5 * t + k
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = phantoms.uid(number)
            ds.InstanceNumber = number + 1
            ds.TemporalPositionIdentifier = t + 1
            ds.NumberOfTemporalPositions = 3
            ds.AcquisitionTime = f"1011{12 + t}"
            datasets.append(ds)
    check(tmp_path, datasets)


def test_image_without_a_position(tmp_path):
    check(tmp_path, [phantoms.image(phantoms.noise((30, 20), "u2"))])
