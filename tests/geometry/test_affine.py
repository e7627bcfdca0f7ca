"""Cropping keeps every voxel where it is in the world; codes and spacing are nibabel's."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mroi.geometry import axis_codes, corners_apart, crop_affine, spacing_of

NUMBERS = st.floats(-100, 100, allow_nan=False, width=32)
MATRICES = hnp.arrays(np.float64, (3, 4), elements=NUMBERS).map(
    lambda rows: np.vstack([rows, [0, 0, 0, 1]])
)


@given(MATRICES, st.tuples(*[st.integers(0, 500)] * 3), st.tuples(*[st.integers(0, 500)] * 3))
def test_cropping_keeps_world_positions(affine, start, voxel):
    before = affine.copy()
    cropped = crop_affine(affine, start)
    whole = affine @ [*np.add(start, voxel), 1]
    scale = np.abs(affine).max() * 1500 + 1
    np.testing.assert_allclose(cropped @ [*voxel, 1], whole, atol=1e-12 * scale, rtol=0)
    assert np.array_equal(affine, before)


@given(
    st.permutations(range(3)),
    st.lists(st.sampled_from([-1, 1]), min_size=3, max_size=3),
    st.lists(st.floats(0.1, 10), min_size=3, max_size=3),
    hnp.arrays(np.float64, (3, 3), elements=st.floats(-0.2, 0.2)),
)
def test_codes_are_those_of_nibabel(order, signs, zooms, tilt):
    """Oblique axes up to where two are equally close to one direction of the world."""
    matrix = np.zeros((3, 3))
    for voxel, world in enumerate(order):
        matrix[world, voxel] = signs[voxel]
    affine = np.eye(4)
    affine[:3, :3] = (matrix + tilt) * zooms
    assert axis_codes(affine) == "".join(nib.aff2axcodes(affine))
    np.testing.assert_allclose(spacing_of(affine), nib.affines.voxel_sizes(affine))


@given(MATRICES)
def test_any_matrix_has_codes(affine):
    assume(np.isfinite(affine).all())
    codes = axis_codes(affine)
    pairs = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
    used = [pairs[c] for c in codes if c != "?"]
    assert len(codes) == 3
    assert len(used) == len(set(used))


@pytest.mark.parametrize("axis", range(3))
def test_an_axis_without_extent_has_no_direction(axis):
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[:, axis] = 0
    assert axis_codes(affine)[axis] == "?"
    assert spacing_of(affine)[axis] == 0


def test_corners_move_as_far_as_the_affine_says() -> None:
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    moved = affine.copy()
    moved[1, 3] += 5
    assert corners_apart(affine, affine, (4, 5, 6, 7)) == 0
    assert corners_apart(affine, moved, (4, 5, 6)) == 5
    flipped = affine.copy()
    flipped[:, 0] *= -1
    flipped[0, 3] = 6
    assert corners_apart(affine, flipped, (4, 5, 6)) == 6
    assert not corners_apart(affine, np.full((4, 4), np.nan), (4, 5, 6)) <= 1
