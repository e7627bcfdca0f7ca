"""A Modality LUT is applied where it is a line, and never passed over without a word."""

from __future__ import annotations

import dicom_phantoms as phantoms
import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.pixels import apply_modality_lut

import mroi
from mroi.adapters.dicom import read_series
from mroi.adapters.dicom.modality import line_of_table

SQUARES = [(63 - i) ** 2 for i in range(64)]


def with_tables(folder, tables, dtype="u2", bits=None):
    """Write a series, each slice with its own table: (values, first stored value)."""
    voxels = phantoms.noise((len(tables), 6, 7), dtype, high=70)
    datasets = phantoms.series(voxels)
    for ds, (values, first) in zip(datasets, tables, strict=True):
        if bits is not None:
            ds.BitsStored, ds.HighBit = bits, bits - 1
        phantoms.add_table(ds, values, first)
    return phantoms.write(folder, datasets)


def expected(paths):
    """What pydicom gives, (x, y, z)."""
    datasets = [pydicom.dcmread(path) for path in paths]
    return np.stack([apply_modality_lut(ds.pixel_array, ds).T for ds in datasets], axis=2)


@pytest.mark.parametrize(
    ("values", "first", "line"),
    [
        ([3 * i + 7 for i in range(256)], 0, (3.0, 7.0)),
        ([900 - 2 * i for i in range(256)], 0, (-2.0, 900.0)),
    ],
)
def test_a_table_that_is_a_line_is_slope_and_intercept(tmp_path, values, first, line):
    paths = with_tables(tmp_path / "in", [(values, first)] * 3, "u1")
    assert read_series(tmp_path / "in").uniform_rescale == line
    result = mroi.pack(tmp_path / "in", tmp_path / "a.mroi")
    assert "values" not in result.provenance
    assert result.warnings == ()
    with mroi.open(tmp_path / "a.mroi") as volume:
        np.testing.assert_array_equal(volume[...], expected(paths))


@given(
    st.integers(-20, 20), st.integers(0, 5000), st.integers(0, 300), st.integers(1, 40),
    st.integers(1, 8), st.booleans(),
)  # fmt: skip
def test_a_line_says_what_the_table_says_everywhere(slope, inter, first, count, bits, signed):
    first -= 128 if signed else 0
    values = [(slope * i + inter) % 65536 for i in range(count)]
    ds = phantoms.add_table(phantoms.blank(), values, first)
    line = line_of_table(ds, bits, signed=signed)
    low = -(1 << bits - 1) if signed else 0
    stored = np.arange(low, low + (1 << bits))
    meant = np.array(values)[np.clip(stored - first, 0, count - 1)]
    if line is not None:
        np.testing.assert_array_equal(stored * line[0] + line[1], meant)
    else:
        steps = np.diff(meant)
        assert (steps != steps[0]).any() or steps[0] == 0


def test_any_other_table_is_not_applied_and_that_is_said(tmp_path):
    paths = with_tables(tmp_path / "in", [(SQUARES, 0)] * 3)
    result = mroi.pack(tmp_path / "in", tmp_path / "a.mroi")
    assert result.provenance["values"] == "stored"
    assert "Modality LUT" in result.warnings[0]
    assert "stored" in result.warnings[0]
    with mroi.open(tmp_path / "a.mroi") as volume:
        stored = np.stack([pydicom.dcmread(p).pixel_array.T for p in paths], axis=2)
        np.testing.assert_array_equal(volume[...], stored)
        assert volume.provenance["values"] == "stored"
    out = mroi.unpack(tmp_path / "a.mroi", tmp_path / "out").paths
    assert [p.read_bytes() for p in out] == [p.read_bytes() for p in paths]


def test_an_image_of_the_series_has_the_values_of_its_tables(tmp_path):
    tables = [(SQUARES, 0), ([5, 6, 9], 3), (SQUARES[::-1], 1)]
    paths = with_tables(tmp_path / "in", tables)
    mroi.pack(tmp_path / "in", tmp_path / "a.mroi")
    mroi.unpack(tmp_path / "a.mroi", tmp_path / "a.nii")
    values = np.asanyarray(nib.load(tmp_path / "a.nii").dataobj)
    np.testing.assert_array_equal(values, expected(paths)[:, ::-1])  # rows upwards, as dcm2niix


def test_a_table_that_is_damaged_is_not_applied(tmp_path):
    paths = with_tables(tmp_path / "in", [(SQUARES, 0)])
    ds = pydicom.dcmread(paths[0])
    del ds.ModalityLUTSequence[0].LUTData
    ds.save_as(paths[0])
    assert read_series(paths[0]).has_table
