"""What is written is read back: every type, shape, box, grid and policy, however it is read."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import mroi
from mroi.format.datatypes import DATATYPES
from mroi.format.geom import Background
from mroi.volume.jobs import default_jobs

PLAIN = tuple(kind for kind in DATATYPES.values() if kind.sample.kind != "V")
COMPLETE = tuple(policy for policy in Background if policy is not Background.OMIT)


def same_bits(a, b) -> bool:
    """Equal shape, type and bytes; views of opaque bytes where numpy would compare numbers."""
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


@settings(max_examples=60)
@given(data=st.data())
def test_indexing_is_that_of_numpy(case_strategy, data):
    case = data.draw(case_strategy(policies=COMPLETE, scaling=False))
    volume = mroi.open(case.to_bytes())
    assert volume.shape == case.array.shape
    assert volume.dtype == case.array.dtype
    assert same_bits(np.asarray(volume), case.array)
    for _ in range(3):
        index = data.draw(hnp.basic_indices(case.array.shape, allow_newaxis=False))
        assert same_bits(volume[index], case.array[index]), index


@settings(max_examples=60)
@given(data=st.data())
def test_slices_and_planes_are_those_of_the_array(case_strategy, data):
    case = data.draw(case_strategy(policies=COMPLETE, scaling=False))
    volume = mroi.open(case.to_bytes())
    geom = case.geom
    full = case.array.reshape(geom.shape)
    stacked = full.reshape(*geom.shape[:3], -1, order="F")  # volumes, axis 3 fastest
    for axis in range(min(3, geom.ndim)):
        for k in (0, geom.shape[axis] - 1, -1):
            assert same_bits(volume.slice(k, axis), case.array.take(k, axis=axis))
    for axis in (None, 0, 1, 2):
        along = geom.slice_axis if axis is None else axis
        expected = [
            np.moveaxis(stacked[..., v], along, 0)[k].T
            for v in range(stacked.shape[3])
            for k in range(geom.shape[along])
        ]
        planes = list(volume.planes(axis))
        assert all(map(same_bits, planes, expected))
        assert len(planes) == len(expected)
    images = list(volume.slices())
    assert all(map(same_bits, images, case.images()))
    assert len(images) == geom.slice_count


@settings(max_examples=60)
@given(data=st.data())
def test_the_cropped_volume_is_the_box(case_strategy, data):
    case = data.draw(case_strategy(scaling=False))
    volume = mroi.open(case.to_bytes())
    cropped = volume.cropped
    full = case.array.reshape(case.geom.shape)
    box = full[case.geom.roi.slices]
    assert same_bits(cropped[...], box.reshape(cropped.shape))
    index = data.draw(hnp.basic_indices(cropped.shape, allow_newaxis=False))
    assert same_bits(cropped[index], box.reshape(cropped.shape)[index])
    corner = case.geom.affine @ [*case.geom.roi.start, 1]
    assert np.array_equal(cropped.affine[:, 3], corner)
    assert cropped.cropped.shape == cropped.shape
    mask = cropped.missing_mask()
    assert mask.shape == cropped.shape
    assert not mask.any()


@settings(max_examples=60)
@given(data=st.data())
def test_omitted_voxels_have_no_value_unless_asked(case_strategy, data):
    case = data.draw(case_strategy(policies=(Background.OMIT,), scaling=False))
    written = case.to_bytes()
    volume, filled = mroi.open(written), mroi.open(written, missing="fill")
    mask = volume.missing_mask()
    inside = np.zeros(case.geom.shape[:3], bool)
    inside[case.geom.roi.slices] = True
    everywhere = np.broadcast_to(
        inside.reshape(*inside.shape, *[1] * (len(case.geom.shape) - 3)), case.geom.shape
    )
    assert np.array_equal(mask, ~everywhere.reshape(mask.shape))
    assert same_bits(filled[...], case.array)  # zeros outside, as drawn
    index = data.draw(hnp.basic_indices(case.array.shape, allow_newaxis=False))
    if mask[index].any():
        with pytest.raises(mroi.MissingVoxelsError) as caught:
            volume[index]
        assert caught.value.rule == "BKG-1"
        assert not volume.is_lossless


@settings(max_examples=60)
@given(data=st.data())
def test_scaled_values_are_slope_times_stored_plus_intercept(case_strategy, data):
    case = data.draw(case_strategy(datatypes=PLAIN, policies=COMPLETE))
    volume = mroi.open(case.to_bytes())
    with np.errstate(all="ignore"):
        expected = case.scaled
        found = volume[...]
        assert found.dtype == volume.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
        assert same_bits(volume.unscaled[...], case.array)
        index = data.draw(hnp.basic_indices(case.array.shape, allow_newaxis=False))
        np.testing.assert_array_equal(volume[index], expected[index])
        full = expected.reshape(case.geom.shape)
        box = full[case.geom.roi.slices].reshape(volume.cropped.shape)
        np.testing.assert_array_equal(volume.cropped[...], box)
        axis = case.geom.slice_axis
        images = [
            image
            for outer in np.ndindex(*full.shape[:2:-1])
            for image in np.moveaxis(full[(..., *outer[::-1])], axis, 0)
        ]
        for ours, image in zip(volume.slices(), images, strict=True):
            np.testing.assert_array_equal(ours, image)


@settings(max_examples=60)
@given(data=st.data())
def test_streams_give_the_slices_that_random_access_gives(case_strategy, data):
    case = data.draw(case_strategy(scaling=False))
    written = case.to_bytes()
    stream = mroi.stream(io.BytesIO(written))
    volume = mroi.open(written).unscaled
    volume = volume if stream.box == mroi.Box.whole(case.geom.shape) else volume.cropped
    assert np.array_equal(stream.affine, volume.affine)
    got = list(stream)
    axis = case.geom.slice_axis
    per_volume = stream.box.shape[axis]
    first = stream.box.start[axis]
    assert [(s.volume, s.index - first) for s in got] == [
        divmod(n, per_volume) for n in range(len(got))
    ]
    expected = list(volume.slices())
    assert len(got) == len(expected)
    assert all(same_bits(a.array, b) for a, b in zip(got, expected, strict=True))


@settings(max_examples=40)
@given(data=st.data())
def test_files_say_that_they_are_whole(case_strategy, data):
    case = data.draw(case_strategy())
    written = case.to_bytes()
    report = mroi.verify(written, jobs=2)
    comparison = report.comparison
    assert report.ok
    assert comparison is None
    assert report.missing == 0
    volume = mroi.open(written)
    exact = case.geom.background in (Background.FILL_VERIFIED, Background.RESIDUE_EXACT)
    assert volume.is_lossless == exact
    has_digest = exact and case.geom.slice_axis == 2
    assert report.digests == (("volume",) if has_digest else ())
    assert volume.roi == case.geom.roi
    copy = pickle.loads(pickle.dumps(volume))
    assert same_bits(copy.cropped.unscaled[...], volume.cropped.unscaled[...])


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize != 16, reason="no such type here")
@pytest.mark.parametrize("dtype", [np.longdouble, np.clongdouble])
@pytest.mark.parametrize("order", ["<", ">"])
def test_long_doubles_are_scaled_and_turned(dtype, order):
    values = (np.arange(24, dtype=dtype) / 7).reshape(2, 3, 4)
    file = io.BytesIO()
    swapped = values.astype(np.dtype(dtype).newbyteorder(order))
    with mroi.create(file, (2, 3, 4), swapped.dtype, slope=0.5, inter=3) as writer:
        for k in range(4):
            writer.write(swapped[:, :, k])
    volume = mroi.open(file)
    assert volume.dtype == dtype
    assert np.array_equal(volume.unscaled, values)
    assert np.array_equal(volume, values * 0.5 + 3)


def test_what_can_be_pickled_says_so(tmp_path):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    data = packed(array)
    path = tmp_path / "x.mroi"
    path.write_bytes(data)
    for target in (path, str(path), data, io.BytesIO(data)):
        assert np.array_equal(pickle.loads(pickle.dumps(mroi.open(target))), array)
    with path.open("rb") as file:
        volume = mroi.open(file)
        with pytest.raises(mroi.UsageError, match="its path, its URL or its bytes"):
            pickle.dumps(volume)


def test_axes_have_names():
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    volume = mroi.open(packed(array))
    for number, name in enumerate("xyz"):
        assert np.array_equal(volume.slice(2, axis=name), array.take(2, number))
        assert np.array_equal(volume.slice(2, np.int64(number)), array.take(2, number))
        planes = zip(volume.planes(name), volume.planes(number), strict=True)
        assert all(np.array_equal(one, other) for one, other in planes)
        assert mroi.open(packed(array, slice_axis=name)).slice_axis == number
    with pytest.raises(mroi.UsageError, match="expected 0, 1, 2, 'x', 'y' or 'z'"):
        packed(array, slice_axis="k")


@pytest.mark.parametrize("jobs", [-1, "2", 1.5, True])
def test_a_number_of_threads_that_is_none(tmp_path, jobs):
    data = packed(np.zeros((3, 4, 5), np.uint8))
    calls = [
        lambda: mroi.pack(np.zeros((3, 4, 5), np.uint8), tmp_path / "x.mroi", jobs=jobs),
        lambda: mroi.create(tmp_path / "x.mroi", (3, 4, 5), np.uint8, jobs=jobs),
        lambda: mroi.open(data, jobs=jobs),
        lambda: mroi.verify(data, jobs=jobs),
    ]
    for call in calls:
        with pytest.raises(mroi.UsageError, match="jobs"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_all_processors_are_taken_for_none_and_0():
    data = packed(np.zeros((3, 4, 5), np.uint8))
    counts = [mroi.open(data, jobs=jobs).regions.jobs for jobs in (None, 0, np.int64(3))]
    assert counts == [default_jobs(), default_jobs(), 3]


def test_masked_voxels_are_refused():
    array = np.ma.array(np.arange(24).reshape(2, 3, 4), mask=False)
    assert np.array_equal(mroi.open(packed(array)), array.data)
    array[1, 2, 3] = np.ma.masked
    with pytest.raises(mroi.SourceError, match=r"masked.*filled"):
        packed(array)
    file = io.BytesIO()
    with mroi.create(file, (2, 3, 4), array.dtype) as writer:
        for k in range(3):
            writer.write(array[:, :, k])
        with pytest.raises(mroi.SourceError, match="masked"):
            writer.write(array[:, :, 3])
        writer.write(array.filled(-1)[:, :, 3])
    assert mroi.open(file)[1, 2, 3] == -1


def test_an_affine_without_places_is_said(tmp_path):
    array = np.zeros((2, 3, 4), np.uint8)
    flat = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    for affine in (np.diag([0, 0, 0, 1.0]), np.diag([1.0, 1, 0, 1]), flat):
        result = mroi.pack(array, tmp_path / "x.mroi", affine=affine, overwrite=True)
        assert result.warnings == ("the affine is singular: it does not say where voxels are",)
    sheared = [[1, 0.9, 0, 0], [0, 1e-3, 0, 0], [0, 0, 1e-200, 0], [0, 0, 0, 1]]
    for affine in (np.eye(4), np.diag([-1e-3, 1e3, 2, 1]), sheared, None):
        result = mroi.pack(array, tmp_path / "x.mroi", affine=affine, overwrite=True)
        assert result.warnings == ()


def test_wrong_indices_are_index_errors():
    volume = mroi.open(packed(np.zeros((3, 4, 5), np.uint8)))
    wrong = [
        3,
        (0, 0, 0, 0),
        (..., ...),
        1.0,
        "x",
        [0, 1],
        None,
        (0, 4),
        np.array([1, 2]),
        True,
        np.True_,
    ]
    for index in (*wrong, -4, (slice(None), slice(None), -6)):
        with pytest.raises(IndexError):
            volume[index]
    for call in ((5,), (-6,), (3, 0), (True,)):
        with pytest.raises(IndexError):
            volume.slice(*call)
    for axis in (3, -1, "w", "", 1.0, True):
        with pytest.raises(mroi.UsageError, match="expected 0, 1, 2, 'x', 'y' or 'z'"):
            volume.slice(0, axis)
    flat = mroi.open(packed(np.zeros((3, 4), np.uint8)))
    assert flat.slice(0).shape == (3, 4)
    with pytest.raises(IndexError):
        flat.slice(1)
    assert volume[np.int64(1), np.uint8(2), 1].shape == ()
    with pytest.raises(ValueError, match="copy"):
        np.asarray(volume, copy=False)
    with pytest.raises(mroi.UsageError):
        mroi.open(packed(np.zeros(3, np.uint8)), missing="zero")


def packed(array, **options) -> bytes:
    file = io.BytesIO()
    mroi.pack(array, file, codec="zstd", **options)
    return file.getvalue()


def arrays_of_every_make():
    """The same numbers as arrays that lie in memory in every way."""
    base = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    yield "C", base, base
    yield "Fortran", np.asfortranarray(base), base
    yield "big-endian", base.astype(">i2"), base
    yield "reversed", base[::-1, ::-1, ::-1], base[::-1, ::-1, ::-1]
    yield "strided", np.repeat(base, 2, axis=1)[:, ::2], base
    yield "broadcast", np.broadcast_to(base[:, :1], base.shape), np.repeat(base[:, :1], 3, axis=1)
    frozen = base.copy()
    frozen.flags.writeable = False
    yield "read-only", frozen, base
    yield "bytes", np.frombuffer(base.tobytes(), "<i2").reshape(base.shape), base
    yield "list", base.tolist(), base.astype(np.int64)
    yield "bool", base % 3 == 0, (base % 3 == 0).astype(np.uint8)
    yield "big floats", (base / 3).astype(">f8"), base / 3
    yield "big complex", (base * 1j).astype(">c8"), (base * 1j).astype(np.complex64)
    rgb = np.zeros(base.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["R"], rgb["B"] = base, 255 - base
    yield "RGB", rgb, rgb
    apart = np.zeros(
        base.shape, {"names": list("RGB"), "formats": ["u1"] * 3, "offsets": [6, 4, 1]}
    )
    for name in "RGB":
        apart[name] = rgb[name]
    yield "RGB apart", apart, rgb
    yield "RGB reversed", rgb[..., ::-1], rgb[..., ::-1]


@pytest.mark.parametrize(
    ("array", "expected"),
    [pytest.param(array, expected, id=name) for name, array, expected in arrays_of_every_make()],
)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_arrays_of_every_make_are_packed(array, expected, axis):
    volume = mroi.open(packed(array, slice_axis=axis))
    assert volume.dtype == expected.dtype
    assert np.array_equal(volume[...], expected)
    file = io.BytesIO()
    array = np.asarray(array)
    with mroi.create(file, array.shape, array.dtype, slice_axis=axis) as writer:
        for image in np.moveaxis(array, axis, 0):
            writer.write(image)
    assert np.array_equal(mroi.open(file)[...], expected)


@pytest.mark.parametrize(
    "array",
    [
        np.float64(3),
        np.zeros((3, 0, 2)),
        np.zeros((1,) * 8),
        np.zeros(3, np.float16),
        np.zeros(3, "U4"),
        np.zeros(3, "S4"),
        np.zeros(3, "M8[s]"),
        np.zeros(3, "V5"),
        np.array([None, 1]),
        np.zeros(3, [("x", "u1"), ("y", "u1"), ("z", "u1")]),
        np.zeros(3, [("R", "u1"), ("G", "u1")]),
        np.zeros(3, [("R", "<u2"), ("G", "<u2"), ("B", "<u2")]),
        np.zeros(3, [("R", "u1", 2), ("G", "u1"), ("B", "u1")]),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_arrays_without_a_place_in_the_format_are_refused(array, tmp_path):
    with pytest.raises(mroi.SourceError):
        mroi.pack(array, tmp_path / "out.mroi", codec="zstd")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "affine",
    [np.zeros((3, 3)), np.full((4, 4), np.nan), np.diag([1, 1, 1, 2]), np.ones((4, 4))],
)
def test_bad_affines_are_refused(affine, tmp_path):
    for call in (
        lambda: mroi.pack(np.zeros((2, 2, 2)), tmp_path / "a.mroi", affine=affine),
        lambda: mroi.create(tmp_path / "a.mroi", (2, 2, 2), "u1", affine=affine),
    ):
        with pytest.raises(mroi.SourceError, match="affine"):
            call()
    assert not list(tmp_path.iterdir())
