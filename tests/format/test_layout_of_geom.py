"""A geometry is that of a volume and the layout of a file; policies for what is outside the ROI."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from mroi.errors import SourceError
from mroi.format.datatypes import DATATYPES
from mroi.format.geom import Background, Geom, Layout, SourceKind, VolumeGeometry
from mroi.geometry import Box

VOLUME = VolumeGeometry(
    ndim=4,
    shape=(6, 5, 4, 3),
    datatype=DATATYPES[128],
    bits_stored=8,
    affine=np.diag([2.0, 3.0, 4.0, 1.0]),
    spacing=(2.0, 3.0, 4.0, 1.5),
    slope=2.0,
    inter=-1.0,
    xform_code=1,
    xyzt_units=10,
    source_kind=SourceKind.NIFTI1,
)
LAYOUT = Layout(
    roi=Box((1, 1, 1), (4, 4, 4)),
    chunk_shape=(3, 3, 1, 1),
    slice_axis=2,
    background=Background.FILL_VERIFIED,
    fill=b"\x01\x02\x03",
)


def test_a_geometry_has_every_field_of_its_parts() -> None:
    geom = Geom.of(VOLUME, LAYOUT)
    assert geom.grid.roi_chunks == 9  # what is computed once is no field
    for part in (VOLUME, LAYOUT):
        for field in fields(part):
            assert getattr(geom, field.name) is getattr(part, field.name)
    assert len(fields(Geom)) == len(fields(VOLUME)) + len(fields(LAYOUT))
    assert type(geom.volume) is VolumeGeometry
    assert vars(geom.volume) == vars(VOLUME)


def test_a_geometry_can_be_laid_out_again() -> None:
    again = Geom.of(Geom.of(VOLUME, LAYOUT), replace(LAYOUT, slice_axis=0))
    assert (again.slice_axis, again.grid.axes, again.shape) == (0, (0, 2, 1), VOLUME.shape)


def test_an_empty_axis_is_refused() -> None:
    with pytest.raises(SourceError, match="empty"):
        replace(VOLUME, shape=(6, 0, 4, 3))


def test_the_fill_goes_into_any_block() -> None:
    geom = Geom.of(VOLUME, LAYOUT)
    assert np.full((2, 2, 3), geom.fill_samples, "u1")[1, 0].tolist() == [1, 2, 3]
    grey = replace(geom, datatype=DATATYPES[4], fill=b"\x02\x01")
    assert np.full((2, 2), grey.fill_samples, "i2").tolist() == [[258, 258]] * 2


@pytest.mark.parametrize(
    ("policy", "stored", "filled", "exact", "dropped"),
    [
        (Background.OMIT, False, False, False, True),
        (Background.FILL_VERIFIED, False, True, True, False),
        (Background.RESIDUE_EXACT, True, False, True, False),
        (Background.RESIDUE_LOSSY, True, False, False, False),
        (Background.FILL_LOSSY, False, True, False, True),
    ],
    ids=lambda value: value.name if isinstance(value, Background) else "",
)
def test_policies(
    policy: Background, *, stored: bool, filled: bool, exact: bool, dropped: bool
) -> None:
    found = (policy.is_stored, policy.is_filled, policy.is_exact, policy.is_dropped)
    assert found == (stored, filled, exact, dropped)
