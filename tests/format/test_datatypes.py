"""Element types: the codes are those of NIfTI-1, and so is what is in them."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from mroi.format.datatypes import DATATYPES, Datatype, datatype_of
from tests.format.geometries import ELEMENTS

KINDS = pytest.mark.parametrize("kind", DATATYPES.values(), ids=lambda kind: kind.name)

# Code, name, type of a sample, samples, bytes that a change of byte order reverses together.
TABLE = [
    (2, "uint8", "|u1", 1, 1),
    (4, "int16", "<i2", 1, 2),
    (8, "int32", "<i4", 1, 4),
    (16, "float32", "<f4", 1, 4),
    (32, "complex64", "<c8", 1, 4),
    (64, "float64", "<f8", 1, 8),
    (128, "RGB24", "|u1", 3, 1),
    (256, "int8", "|i1", 1, 1),
    (512, "uint16", "<u2", 1, 2),
    (768, "uint32", "<u4", 1, 4),
    (1024, "int64", "<i8", 1, 8),
    (1280, "uint64", "<u8", 1, 8),
    (1536, "float128", "|V16", 1, 16),
    (1792, "complex128", "<c16", 1, 8),
    (2048, "complex256", "|V32", 1, 16),
    (2304, "RGBA32", "|u1", 4, 1),
]


def test_the_types_of_the_format() -> None:
    found = [(k.code, k.name, k.sample.str, k.samples, k.swap) for k in DATATYPES.values()]
    assert found == TABLE
    assert {code: (k.itemsize, k.samples) for code, k in DATATYPES.items()} == ELEMENTS


@KINDS
def test_a_type_is_what_nibabel_makes_of_its_code(kind: Datatype) -> None:
    codes = nib.nifti1.data_type_codes
    assert codes.niistring[kind.code] == f"NIFTI_TYPE_{kind.name.upper()}"
    theirs = codes.dtype[kind.code]
    if theirs.itemsize:  # 0 where this platform has no such float
        assert kind.itemsize == theirs.itemsize
        assert kind.element == theirs.newbyteorder("<")


@KINDS
def test_a_type_is_found_by_its_samples_in_any_byte_order(kind: Datatype) -> None:
    assert datatype_of(kind.sample, kind.samples) is kind
    assert datatype_of(kind.sample.newbyteorder(">"), kind.samples) is kind
    assert datatype_of(kind.sample, 2) is None


@pytest.mark.parametrize("dtype", ["f2", "?", "U1", "S1", "M8[s]", "V3", "O"])
def test_what_the_format_has_no_type_for(dtype: str) -> None:
    assert datatype_of(np.dtype(dtype)) is None


@KINDS
def test_sizes_fit(kind: Datatype) -> None:
    assert kind.element.itemsize == kind.itemsize
    assert kind.sample.itemsize % kind.swap == 0
    assert kind.bits == min(255, 8 * kind.sample.itemsize)


@KINDS
def test_swapping_reverses_the_bytes_of_each_number(kind: Datatype) -> None:
    """What `swap` says is what numpy does, for the types that numpy has."""
    data = np.arange(kind.itemsize, dtype="u1")
    reversed_parts = data.reshape(-1, kind.swap)[:, ::-1].tobytes()
    if kind.sample.kind != "V":
        assert reversed_parts == data.view(kind.sample).byteswap().tobytes()
