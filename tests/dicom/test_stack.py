"""Order and geometry: every pixel is where its header says, whatever the order of the files."""

from __future__ import annotations

import dicom_phantoms as phantoms
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mroi.adapters.dicom import to_dcm2niix_orientation
from mroi.adapters.dicom.stack import Frame, Plane, arrange
from mroi.errors import SourceError
from mroi.geometry.affine import spacing_of

COLUMNS, ROWS = 7, 5


def frames_at(positions, rng, *, spacing=(0.8, 1.3), keys=None, orientation=None, thickness=2.0):
    row, column = np.split(np.array(orientation or phantoms.oblique(rng)), 2)
    return [
        Frame(
            instance=i,
            number=0,
            name=f"file{i}",
            plane=Plane(row, column, position),
            spacing=spacing,
            thickness=thickness,
            rescale=(1.0, 0.0),
            keys=keys[i] if keys else {"InstanceNumber": float(i)},
        )
        for i, position in enumerate(positions(np.cross(row, column), row))
    ]


def world(frame, column, row):
    """Position of a pixel from its own header, RAS+."""
    plane = frame.plane
    lps = (
        plane.position
        + plane.along_row * frame.spacing[0] * column
        + plane.along_column * frame.spacing[1] * row
    )
    return lps * [-1, -1, 1]


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 12),
    volumes=st.integers(1, 3),
    distance=st.floats(0.3, 9),
    shear=st.floats(-0.5, 0.5),
)
def test_every_pixel_keeps_its_world_position(seed, count, volumes, distance, shear):
    rng = np.random.default_rng(seed)
    origin = rng.uniform(-200, 200, 3)

    def positions(normal, row):
        step = normal * distance + row * shear * distance
        return [origin + step * k for _ in range(volumes) for k in range(count)]

    keys = [{"TemporalPositionIdentifier": float(t)} for t in range(volumes) for _ in range(count)]
    frames = frames_at(positions, rng, keys=keys, thickness=distance)
    mixed = [frames[i] for i in rng.permutation(len(frames))]
    stack = arrange(mixed, (COLUMNS, ROWS))

    assert (stack.slice_count, stack.volume_count) == (count, volumes)
    assert [frame.instance for frame in stack.frames] == list(range(count * volumes))
    assert np.linalg.det(stack.affine[:3, :3]) > 0
    for index, frame in enumerate(stack.frames):
        for column, row in ((0, 0), (COLUMNS - 1, 0), (3, ROWS - 1)):
            found = stack.affine @ [column, row, index % count, 1]
            np.testing.assert_allclose(found[:3], world(frame, column, row), atol=1e-9)
    np.testing.assert_allclose(spacing_of(stack.affine)[:2], (0.8, 1.3))
    assert len(stack.warnings) == (abs(np.degrees(np.arctan(shear))) > 0.5 and count > 1)


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_orientation_of_dcm2niix_keeps_world_positions(seed, turned):
    rng = np.random.default_rng(seed)
    shape = (*rng.integers(1, 5, 3), 2)
    array = rng.permutation(np.prod(shape)).reshape(shape)  # every voxel once
    affine = np.eye(4)
    affine[:3] = rng.normal(size=(3, 4))
    before = {}
    for index in np.ndindex(shape):
        before[array[index]] = (affine @ [*index[:3], 1], index[3])
    result, moved = to_dcm2niix_orientation(array, affine, turned=turned)
    for index in np.ndindex(result.shape):
        place, volume = before.pop(result[index])
        np.testing.assert_allclose(moved @ [*index[:3], 1], place, atol=1e-12)
        assert index[3] == volume
    assert not before
    if not turned:
        assert np.array_equal(result, array[:, ::-1])


def line(places):
    return lambda normal, _: [normal * place for place in places]


def test_missing_slices_are_named():
    frames = frames_at(line([0, 2, 4, 8, 10]), np.random.default_rng(0))
    with pytest.raises(SourceError, match=r"1 missing .*4 mm between file2 and file3"):
        arrange(frames, (COLUMNS, ROWS))
    stack = arrange(frames, (COLUMNS, ROWS), allow_irregular=True)
    assert "1 missing" in stack.warnings[0]
    np.testing.assert_allclose(
        np.linalg.norm(np.diff(stack.positions, axis=0), axis=1), [2, 2, 4, 2]
    )
    np.testing.assert_allclose(spacing_of(stack.affine)[2], 2.5)


@pytest.mark.parametrize("gap", range(1, 8))
def test_a_missing_slice_is_found_wherever_it_is(gap):
    places = [2.5 * k for k in range(9) if k != gap]
    with pytest.raises(SourceError, match="1 missing"):
        arrange(frames_at(line(places), np.random.default_rng(gap)), (COLUMNS, ROWS))


def test_irregular_slices_are_named():
    frames = frames_at(line([0, 2, 4.7, 6, 8]), np.random.default_rng(0))
    with pytest.raises(SourceError, match=r"irregular .*2.7 mm between file1 and file2"):
        arrange(frames, (COLUMNS, ROWS))
    assert "irregular" in arrange(frames, (COLUMNS, ROWS), allow_irregular=True).warnings[0]


def test_rounded_positions_are_regular():
    places = [round(0.625 * k, 1) for k in range(60)]
    assert arrange(frames_at(line(places), np.random.default_rng(0)), (7, 5)).warnings == ()
    # header positions that wander sideways do not lie on a line
    frames = frames_at(
        lambda n, r: [n * k + r * (k == 2) for k in range(5)], np.random.default_rng(1)
    )
    with pytest.raises(SourceError, match="irregular"):
        arrange(frames, (7, 5))


def test_doubled_slices_are_named():
    frames = frames_at(line([0, 2, 2, 4, 6]), np.random.default_rng(0))
    with pytest.raises(SourceError, match=r"duplicate .*file1, file2"):
        arrange(frames, (COLUMNS, ROWS))
    same = [{"InstanceNumber": 1.0}] * 6
    frames = frames_at(line([0, 0, 2, 2, 4, 4]), np.random.default_rng(0), keys=same)
    with pytest.raises(SourceError, match="duplicate"):
        arrange(frames, (COLUMNS, ROWS), allow_irregular=True)


def test_incomplete_volumes_are_named():
    frames = frames_at(line([0, 2, 4, 6, 0, 2, 4]), np.random.default_rng(0))
    with pytest.raises(SourceError, match=r"missing slices: 1 of 4 positions .*file3"):
        arrange(frames, (COLUMNS, ROWS))


@pytest.mark.parametrize(
    ("keys", "expected", "order"),
    [
        # the same values at each place are surer than an order of times
        ([{"EchoTime": e, "AcquisitionTime": f"{t}"} for t, e in enumerate((9.0, 9.0, 4.0, 4.0))],
         "EchoTime", [2, 3, 0, 1]),
        ([{"TriggerTime": t} for t in (5.0, 8.0, 1.0, 2.0)], "TriggerTime", [2, 3, 0, 1]),
        ([{"AcquisitionNumber": 1.0, "ContentTime": t} for t in "7812"],
         "ContentTime", [2, 3, 0, 1]),
        # indices of dimensions are surer than numbers of frames
        ([{"DimensionIndexValues": (t,), "FrameNumber": n} for n, t in enumerate((2, 2, 1, 1))],
         "DimensionIndexValues", [2, 3, 0, 1]),
        ([{"DimensionIndexValues": (t,), "TriggerTime": n} for n, t in enumerate((2, 2, 1, 1))],
         "DimensionIndexValues", [2, 3, 0, 1]),
        ([{"InstanceNumber": n, "EchoTime": 3.0} for n in (1.0, 3.0, 2.0, 4.0)],
         "InstanceNumber", [0, 1, 2, 3]),
    ],
)  # fmt: skip
def test_volumes_are_told_apart(keys, expected, order):
    frames = frames_at(line([0, 2, 0, 2]), np.random.default_rng(0), keys=keys)
    stack = arrange(frames, (COLUMNS, ROWS))
    assert (stack.volume_key, stack.volume_count) == (expected, 2)
    assert [frame.instance for frame in stack.frames] == order
    assert len(stack.warnings) == (expected == "InstanceNumber")
    assert stack.volume_values == tuple(keys[order[i]][expected] for i in (0, 2))


def test_mixed_directions_and_spacings_are_named():
    rng = np.random.default_rng(0)
    axial = frames_at(line([0, 2, 4]), rng, orientation=phantoms.AXIAL)
    sagittal = frames_at(line([0, 2]), rng, orientation=(0, 1, 0, 0, 0, -1))
    with pytest.raises(SourceError, match="orientations"):
        arrange([*axial, *sagittal], (COLUMNS, ROWS))
    coarse = frames_at(line([6, 8]), rng, orientation=phantoms.AXIAL, spacing=(2, 2))
    with pytest.raises(SourceError, match="pixel spacings"):
        arrange([*axial, *coarse], (COLUMNS, ROWS))


def test_frames_without_a_position():
    bare = [Frame(0, n, f"f{n}", None, (0.5, 2.0), None, (1.0, 0.0)) for n in range(3)]
    stack = arrange(bare, (COLUMNS, ROWS))
    assert stack.positions is None
    centre = stack.affine @ [(COLUMNS - 1) / 2, (ROWS - 1) / 2, 0, 1]
    np.testing.assert_allclose(centre[:3], 0, atol=1e-12)
    several = [Frame(n, 0, f"f{n}", None, (1.0, 1.0), None, (1.0, 0.0)) for n in range(3)]
    with pytest.raises(SourceError, match="without a position"):
        arrange(several, (COLUMNS, ROWS))
    placed = frames_at(line([0]), np.random.default_rng(0))
    with pytest.raises(SourceError, match="no position and orientation in f1"):
        arrange([placed[0], several[1]], (COLUMNS, ROWS))


def test_positions_without_orientations_give_an_order():
    rng = np.random.default_rng(3)
    positions = [np.array([1.0, 2, 3]) + np.array([0.0, 0.6, 0.8]) * 2.5 * k for k in range(5)]
    order = rng.permutation(5).tolist()
    frames = [
        Frame(n, 0, f"f{n}", None, (0.5, 2.0), 2.5, (1.0, 0.0), place=positions[k])
        for n, k in enumerate(order)
    ]
    stack = arrange(frames, (COLUMNS, ROWS))
    assert [order[frame.instance] for frame in stack.frames] == [0, 1, 2, 3, 4]
    assert (stack.positions, stack.slice_count) == (None, 5)  # which way it looks is not known
    np.testing.assert_allclose(np.linalg.norm(stack.affine[:3, :3], axis=0), [0.5, 2, 2.5])
    centre = stack.affine @ [(COLUMNS - 1) / 2, (ROWS - 1) / 2, 0, 1]
    np.testing.assert_allclose(centre[:3], 0, atol=1e-12)
    assert "without orientations" in stack.warnings[-1]
    with pytest.raises(SourceError, match="missing slices"):
        arrange([frame for frame in frames if order[frame.instance] != 2], (COLUMNS, ROWS))
