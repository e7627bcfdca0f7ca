"""Series in and out: arrays, geometry and attributes of generated files of every kind."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import dicom_phantoms as phantoms
import imagecodecs
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.pixels import pixel_array

from mroi.adapters.dicom import (
    build_heads,
    build_instance,
    clean_head,
    find_identifiers,
    list_series,
    parse_heads,
    read_series,
    write_series,
)
from mroi.errors import SourceError, UsageError


def array_of(series):
    """Voxels (columns, rows, slices[, volumes]); indices of planes have to count up."""
    planes = list(series.planes())
    assert [index for index, _ in planes] == list(range(series.plane_count))
    stacked = np.stack([plane for _, plane in planes])
    return stacked.reshape(series.shape[::-1]).T


def voxels_of(series):
    """Voxels (volumes * slices, rows, columns)."""
    return np.stack([plane for _, plane in series.planes()])


def there_and_back(series, folder):
    """Write heads and planes: returns the files, in the order of the instances."""
    heads = parse_heads(build_heads(series.heads()), series.plane_count)
    return write_series(folder, heads, series.planes())


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(["u1", "u2", "i2"]),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6)),
    backwards=st.booleans(),
)
def test_classic_series(tmp_path_factory, seed, dtype, shape, backwards):
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("classic")
    voxels = phantoms.noise(shape, dtype, seed % 1000)
    orientation = phantoms.oblique(rng)
    spacing = (*rng.uniform(0.3, 3, 2), rng.uniform(0.5, 6) * (-1 if backwards else 1))
    datasets = phantoms.series(voxels, orientation, rng.uniform(-200, 200, 3), spacing)
    for i, ds in enumerate(datasets):  # neither file names nor numbers say where a slice is
        ds.InstanceNumber = int(rng.integers(1000))
        ds.PatientComments = f"slice {i}"
    names = [f"{n:03d}.dcm" for n in rng.permutation(len(datasets))]
    paths = phantoms.write(folder / "in", datasets, names)

    series = read_series(folder / "in")
    assert (series.kind, series.warnings) == ("classic", ())
    assert series.shape == shape[::-1]
    array = array_of(series)
    in_order = voxels[::-1] if backwards else voxels
    assert np.array_equal(array, in_order.T)
    assert array.dtype == np.dtype(dtype).newbyteorder("<")
    for k, instance in enumerate(series.instances):
        ds = pydicom.dcmread(instance.path)
        assert instance.slices == (k,)
        at = np.array(ds.ImagePositionPatient, float)
        far = (
            at
            + np.array(ds.ImageOrientationPatient[:3], float) * ds.PixelSpacing[1] * (shape[2] - 1)
            + np.array(ds.ImageOrientationPatient[3:], float) * ds.PixelSpacing[0] * (shape[1] - 1)
        )
        np.testing.assert_allclose(series.affine @ [0, 0, k, 1], [*at * [-1, -1, 1], 1], atol=1e-6)
        corner = series.affine @ [shape[2] - 1, shape[1] - 1, k, 1]
        np.testing.assert_allclose(corner, [*far * [-1, -1, 1], 1], atol=1e-6)
    out = there_and_back(series, folder / "out")
    assert sorted(p.read_bytes() for p in out) == sorted(p.read_bytes() for p in paths)
    assert [p.read_bytes() for p in out] == [i.path.read_bytes() for i in series.instances]


@pytest.mark.parametrize("against", [False, True])
@pytest.mark.parametrize("csa", [phantoms.csa1, phantoms.csa2])
@pytest.mark.parametrize("count", [1, 4, 7])
def test_mosaics(tmp_path, against, csa, count):
    rng = np.random.default_rng(count)
    orientation = phantoms.oblique(rng)
    origin = np.array([-30.0, 12.5, 7.0])
    volumes = [phantoms.noise((count, 4, 6), "u2", t) for t in range(3)]
    datasets = [
        phantoms.mosaic(v, orientation, origin, (2.0, 1.5, 4.0), t, against=against, csa=csa)
        for t, v in enumerate(volumes)
    ]
    phantoms.write(tmp_path / "in", datasets, ["c.dcm", "a.dcm", "b.dcm"])
    series = read_series(tmp_path / "in")
    assert (series.kind, series.shape) == ("mosaic", (6, 4, count, 3))
    assert (series.volume_key, series.volume_values) == ("AcquisitionNumber", (1.0, 2.0, 3.0))
    assert np.array_equal(array_of(series), np.stack([v.T for v in volumes], axis=3))
    # the first tile is where the header puts it, after the mosaic's centring is undone
    np.testing.assert_allclose((series.affine @ [0, 0, 0, 1])[:3], origin * [-1, -1, 1], atol=1e-6)
    normal = np.cross(orientation[:3], orientation[3:]) * [-1, -1, 1]
    step = normal * (-4 if against else 4)
    np.testing.assert_allclose(series.affine[:3, 2], step, atol=1e-6)
    out = there_and_back(series, tmp_path / "out")
    assert [p.read_bytes() for p in out] == [i.path.read_bytes() for i in series.instances]


def test_mosaic_of_unknown_slices_is_refused(tmp_path):
    ds = phantoms.mosaic(phantoms.noise((4, 4, 4), "u2"))
    del ds[0x0029, 0x1010]
    path = tmp_path / "a.dcm"
    path.write_bytes(phantoms.to_bytes(ds))
    with pytest.raises(SourceError, match="how many slices"):
        read_series(path)
    ds.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 4)
    path.write_bytes(phantoms.to_bytes(ds))
    assert read_series(path).shape == (4, 4, 4)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), times=st.integers(1, 3), slices=st.integers(1, 4))
def test_multi_frame_files(tmp_path_factory, seed, times, slices):
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("enhanced")
    total = times * slices
    voxels = phantoms.noise((total, 3, 5), "u2", seed)
    rescale = np.column_stack([rng.uniform(0.5, 2, total).round(3), rng.integers(-50, 50, total)])
    ds = phantoms.enhanced(
        voxels, phantoms.oblique(rng), order=rng.permutation(total).tolist(),
        rescale=rescale, times=times,
    )  # fmt: skip
    (path,) = phantoms.write(folder / "in", [ds])
    series = read_series(path)
    assert series.kind == "enhanced"
    assert series.shape == (5, 3, slices, times)[: 3 if times == 1 else 4]
    assert np.array_equal(voxels_of(series), voxels)
    np.testing.assert_array_equal(series.rescale, rescale)
    assert (series.uniform_rescale is None) == (total > 1)
    (out,) = there_and_back(series, folder / "out")
    assert out.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])  # the sequence that says is not trusted
@pytest.mark.parametrize("backwards", [False, True])
def test_dimension_indices_come_before_frame_numbers(tmp_path, order, backwards):
    voxels = phantoms.noise((12, 3, 5), "u2")  # 4 times, 3 slices
    frames = [t * 3 + k for k in range(3) for t in range(4)]  # frames of one place in a row
    ds = phantoms.enhanced(voxels, order=frames, times=4)
    indices = [(1, k + 1, 4 - t if backwards else t + 1) for k in range(3) for t in range(4)]
    indices = [tuple(values[i] for i in order) for values in indices]
    phantoms.tell_apart_by_dimensions(ds, indices)
    (path,) = phantoms.write(tmp_path / "in", [ds])
    series = read_series(path)
    assert (series.volume_key, series.warnings) == ("DimensionIndexValues", ())
    assert series.volume_values == ((1,), (2,), (3,), (4,))
    by_time = voxels.reshape(4, 3, 3, 5)[:: -1 if backwards else 1]
    assert np.array_equal(voxels_of(series).reshape(4, 3, 3, 5), by_time)
    assert series.period == 2.0  # of the repetition time
    (out,) = there_and_back(series, tmp_path / "out")
    assert out.read_bytes() == path.read_bytes()


def test_two_dimensions_beside_space(tmp_path):
    voxels = phantoms.noise((12, 3, 5), "u2")  # 2 echoes, 2 times, 3 slices
    ds = phantoms.enhanced(voxels, times=4)
    indices = [(echo, 1, k + 1, t) for echo in (1, 2) for t in (1, 2) for k in range(3)]
    pointers = (0x00189082, 0x00209056, 0x00209057, 0x00209128)
    phantoms.tell_apart_by_dimensions(ds, indices, pointers)
    series = read_series(phantoms.write(tmp_path, [ds]))
    assert series.volume_values == ((1, 1), (1, 2), (2, 1), (2, 2))
    assert np.array_equal(voxels_of(series), voxels)
    assert series.period == 0  # volumes differ in more than time


def test_rescale_of_each_slice(tmp_path):
    datasets = phantoms.series(phantoms.noise((4, 3, 3), "u2"))
    for k, ds in enumerate(datasets):
        ds.Modality = "PT"
        ds.RescaleSlope, ds.RescaleIntercept = f"{0.5 + k}", "-3"
    series = read_series(phantoms.write(tmp_path, datasets))
    assert series.uniform_rescale is None
    np.testing.assert_array_equal(series.rescale, [[0.5 + k, -3] for k in range(4)])
    assert series.modality == "PT"
    for ds in datasets:
        ds.RescaleSlope = "2"
    assert read_series(phantoms.write(tmp_path, datasets)).uniform_rescale == (2.0, -3.0)


def test_series_of_volumes(tmp_path):
    volumes = phantoms.noise((3, 4, 5, 6), "i2")
    datasets = []
    for t, volume in enumerate(volumes):
        for k, ds in enumerate(phantoms.series(volume)):
            number = k * 3 + t  # files of one place follow each other
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = phantoms.uid(number)
            ds.InstanceNumber = number + 1
            ds.TemporalPositionIdentifier = t + 1
            datasets.append(ds)
    series = read_series(phantoms.write(tmp_path / "in", datasets[::-1]))
    assert series.shape == (6, 5, 4, 3)
    assert series.volume_key == "TemporalPositionIdentifier"
    assert np.array_equal(array_of(series), volumes.transpose(3, 2, 1, 0))
    out = there_and_back(series, tmp_path / "out")
    assert [p.read_bytes() for p in out] == [i.path.read_bytes() for i in series.instances]


def test_gantry_tilt_is_kept_as_shear(tmp_path):
    voxels = phantoms.noise((5, 4, 4), "i2")
    datasets = phantoms.series(voxels, shear=(0, 0.8, 0))
    series = read_series(phantoms.write(tmp_path, datasets))
    assert "gantry tilt" in series.warnings[0]
    for k, ds in enumerate(datasets):
        at = np.array(ds.ImagePositionPatient, float) * [-1, -1, 1]
        np.testing.assert_allclose((series.affine @ [0, 0, k, 1])[:3], at, atol=1e-9)


def test_image_without_a_position(tmp_path):
    pixels = phantoms.noise((9, 7), "u2")
    ds = phantoms.image(pixels)
    ds.ImagerPixelSpacing = [0.1, 0.2]
    (path,) = phantoms.write(tmp_path, [ds])
    series = read_series(path)
    assert (series.kind, series.has_position, series.positions) == ("image", False, None)
    assert series.spacing == pytest.approx((0.2, 0.1, 1))
    assert np.array_equal(array_of(series)[..., 0], pixels.T)


ENCODERS = {
    "1.2.840.10008.1.2.5": None,
    "1.2.840.10008.1.2.4.57": ("ljpeg_encode", {}),
    "1.2.840.10008.1.2.4.70": ("ljpeg_encode", {}),
    "1.2.840.10008.1.2.4.80": ("jpegls_encode", {}),
    "1.2.840.10008.1.2.4.90": ("jpeg2k_encode", {"codecformat": "j2k", "reversible": True}),
    "1.2.840.10008.1.2.4.201": ("htj2k_encode", {}),
}


@pytest.mark.parametrize("syntax", ENCODERS)
@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("frames", [1, 3])
def test_compressed_files(tmp_path, syntax, dtype, frames):
    voxels = phantoms.noise((frames, 16, 24), dtype, high=200)
    ds = phantoms.enhanced(voxels) if frames > 1 else phantoms.series(voxels)[0]
    if ENCODERS[syntax] is None:
        ds.compress(syntax, encoding_plugin="pydicom", generate_instance_uid=False)
    else:
        name, options = ENCODERS[syntax]
        try:
            phantoms.compress(ds, syntax, lambda f: getattr(imagecodecs, name)(f, **options))
        except (imagecodecs.DelayedImportError, AttributeError) as error:
            pytest.skip(str(error))
    ds.add_new(0xFFFCFFFC, "OB", b"\1\2")
    (path,) = phantoms.write(tmp_path / "in", [ds])
    series = read_series(path)
    assert series.dtype == np.dtype(dtype)
    assert np.array_equal(voxels_of(series), voxels)
    (out,) = there_and_back(series, tmp_path / "out")
    before, after = pydicom.dcmread(path), pydicom.dcmread(out)
    assert after.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert np.array_equal(after.pixel_array.reshape(voxels.shape), voxels)
    del before.PixelData, after.PixelData
    assert before == after
    assert (0xFFFCFFFC) in after


def test_compressed_signed_values(tmp_path):
    voxels = phantoms.noise((1, 16, 24), "i2")
    assert voxels.min() < 0
    ds = phantoms.series(voxels)[0]
    phantoms.compress(
        ds, "1.2.840.10008.1.2.4.90",
        lambda f: imagecodecs.jpeg2k_encode(f, codecformat="j2k", reversible=True),
    )  # fmt: skip
    assert np.array_equal(voxels_of(read_series(phantoms.write(tmp_path, [ds]))), voxels)


def test_compressed_colours_become_rgb(tmp_path):
    smooth = np.add.outer(np.arange(32), np.arange(40))[..., np.newaxis] * [1, 2, 3]
    pixels = smooth.astype("u1")
    ds = phantoms.blank()
    phantoms.set_pixels(ds, pixels, colour=True)
    phantoms.compress(ds, "1.2.840.10008.1.2.4.50", lambda f: imagecodecs.jpeg_encode(f, level=95))
    ds.PhotometricInterpretation = "YBR_FULL_422"
    (path,) = phantoms.write(tmp_path / "in", [ds])
    series = read_series(path)
    ((_, plane),) = series.planes()
    assert plane.shape == (32, 40, 3)
    assert np.abs(plane.astype(int) - pixels).max() < 40  # lossy, but these colours
    (out,) = there_and_back(series, tmp_path / "out")
    after = pydicom.dcmread(out)
    assert after.PhotometricInterpretation == "RGB"
    assert np.array_equal(after.pixel_array, plane)


def test_every_readable_file_that_pydicom_ships_has_its_pixels():
    """Same pixels as pydicom reads, and heads that can be listed, cleaned and filled again."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    count = 0
    for path in sorted(folder.glob("*.dcm")):
        try:
            series = read_series(path)
            planes = dict(series.planes())
        except SourceError:
            continue
        (head,) = series.heads()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = pydicom.dcmread(path, force=True)
            is_native = not ds.file_meta.TransferSyntaxUID.is_compressed
            is_ycc = is_native and str(ds.PhotometricInterpretation).startswith("YBR")
            expected = pixel_array(ds, raw=True) if is_ycc else ds.pixel_array
        found = np.stack([planes[number] for number in head.slices])
        if series.is_split:
            found = np.moveaxis(found.reshape(-1, 3, *found.shape[1:]), 1, 3)
        assert np.array_equal(found.reshape(expected.shape), expected), path.name
        find_identifiers(head.part10)
        if series.is_split:
            continue  # the planes, not the pixels, are what makes an instance
        cleaned = clean_head(head.part10, b"salt")
        again = phantoms.reread(build_instance(cleaned, list(found)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert np.array_equal(pixel_array(again, raw=is_ycc), expected), path.name
        count += 1
    assert count > 45


def test_codestream_larger_than_its_header_is_refused(tmp_path):
    for syntax, encode in (
        ("1.2.840.10008.1.2.4.80", imagecodecs.jpegls_encode),
        ("1.2.840.10008.1.2.4.90", lambda f: imagecodecs.jpeg2k_encode(f, codecformat="j2k")),
    ):
        ds = phantoms.series(phantoms.noise((1, 8, 8), "u1"))[0]
        phantoms.compress(ds, syntax, lambda _, encode=encode: encode(np.zeros((80, 8), "u1")))
        series = read_series(phantoms.write(tmp_path, [ds]))
        with pytest.raises(SourceError, match=r"\(8, 80\)"):
            list(series.planes())


def test_series_are_chosen_not_guessed(tmp_path):
    first = phantoms.series(phantoms.noise((3, 4, 4), seed=1))
    second = phantoms.series(phantoms.noise((2, 4, 4), seed=2))
    other = "1.2.3.4"
    for k, ds in enumerate(second):
        ds.SeriesInstanceUID = other
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{other}.{k}"
    phantoms.write(tmp_path / "a", first)
    phantoms.write(tmp_path / "b", second)
    (tmp_path / "notes.txt").write_text("not an image")
    report = phantoms.blank(7)
    report.SeriesInstanceUID = "1.9"
    phantoms.write(tmp_path / "c", [report])
    with pytest.raises(
        SourceError,
        match=f"2 series.*\n +{phantoms.SERIES}  3 files like a.im0000.*\n +{other}  2 files",
    ):
        read_series(tmp_path)
    found = list_series(tmp_path)
    assert {uid: len(paths) for uid, paths in found.items()} == {phantoms.SERIES: 3, other: 2}
    assert read_series(found[phantoms.SERIES]).shape == (4, 4, 3)
    series = read_series(tmp_path, series=other)
    assert series.shape == (4, 4, 2)
    assert len(series.warnings) == 2
    assert all("left out" in warning for warning in series.warnings)
    with pytest.raises(UsageError, match=r"no series 1\.1"):
        read_series(tmp_path, series="1.1")


def test_what_does_not_make_one_stack_is_named(tmp_path):
    datasets = phantoms.series(phantoms.noise((5, 4, 4)))
    paths = phantoms.write(tmp_path, datasets)
    with pytest.raises(SourceError, match=r"missing.*im0001.dcm and im0003.dcm"):
        read_series([p for p in paths if "2" not in p.name])
    irregular = read_series([p for p in paths if "2" not in p.name], allow_irregular=True)
    assert irregular.shape == (4, 4, 4)
    assert "missing" in irregular.warnings[0]
    copy = tmp_path / "copy.dcm"
    copy.write_bytes(paths[3].read_bytes())
    with pytest.raises(SourceError, match=r"occurs twice: im0003\.dcm and copy\.dcm"):
        read_series([*paths, copy])
    datasets[3].SOPInstanceUID = "1.2.3"
    phantoms.write(tmp_path, [datasets[3]], ["copy.dcm"])
    with pytest.raises(SourceError, match=r"duplicate.*im0003.dcm, copy.dcm"):
        read_series([*paths, copy])
    phantoms.write(tmp_path, phantoms.series(phantoms.noise((1, 8, 8))), ["im0000.dcm"])
    with pytest.raises(SourceError, match=r"mixed series, different images.*im0000.dcm"):
        read_series(paths)


def broken(ds, **changes):
    for keyword, value in changes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return phantoms.to_bytes(ds)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Rows": None}, "Rows is missing"),
        ({"Rows": 9}, "header promises"),
        ({"BitsAllocated": 12}, "12 bits"),
        ({"BitsStored": 17}, "17 of 16 bits"),
        ({"PixelData": None}, "no pixels"),
        ({"ImagePositionPatient": [1, 2]}, "position"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "orthonormal"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 2, 0]}, "orthonormal"),
        ({"PixelSpacing": [0, 1]}, "PixelSpacing"),
        ({"RescaleSlope": 0}, "RescaleSlope"),
        ({"SamplesPerPixel": 2}, "2 samples"),
        ({"NumberOfFrames": 0, "Columns": 0}, "pixels"),
        ({"PhotometricInterpretation": "YBR_PARTIAL_420"}, "subsampled"),
        ({"SamplesPerPixel": 4}, "4 samples"),
    ],
)  # fmt: skip
def test_headers_that_cannot_be_used(tmp_path, changes, message):
    path = tmp_path / "a.dcm"
    path.write_bytes(broken(phantoms.series(phantoms.noise((1, 4, 4)))[0], **changes))
    with pytest.raises(SourceError, match=message):
        read_series(path)


def test_what_is_no_dicom(tmp_path):
    for name, data in (("a", b""), ("b", b"x" * 500), ("c", bytes(128) + b"DICM")):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(SourceError):
            read_series(path)
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(SourceError):
            read_series(path)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_damaged_files_give_a_series_or_an_error(tmp_path_factory, data):
    kind = data.draw(st.sampled_from(["classic", "mosaic", "enhanced", "jpegls"]))
    voxels = phantoms.noise((4, 6, 6), "u2")
    if kind == "classic":
        ds = phantoms.series(voxels)[0]
    elif kind == "mosaic":
        ds = phantoms.mosaic(voxels)
    else:
        ds = phantoms.enhanced(voxels)
    if kind == "jpegls":
        phantoms.compress(ds, "1.2.840.10008.1.2.4.80", imagecodecs.jpegls_encode)
    content = bytearray(phantoms.to_bytes(ds))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(132, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    path = tmp_path_factory.mktemp("damaged") / "a.dcm"
    path.write_bytes(content[:cut])
    try:
        series = read_series(path)
        heads = list(series.heads())
        planes = dict(series.planes())
        for head in heads:
            build_instance(head.part10, [planes[number] for number in head.slices])
            find_identifiers(head.part10)
            clean_head(head.part10, b"")
    except SourceError:
        pass


def test_writing_is_all_or_nothing(tmp_path):
    voxels = phantoms.noise((3, 4, 4))
    series = read_series(phantoms.write(tmp_path / "in", phantoms.series(voxels)))
    heads = list(series.heads())
    planes = list(series.planes())
    bad = [
        planes[:2],
        [*planes, planes[0]],
        [planes[0], *planes],
        [*planes[:2], (7, planes[2][1])],
        [*planes[:2], (2, planes[2][1][:3])],
    ]
    for choice in bad:
        with pytest.raises(SourceError):
            write_series(tmp_path / "out", heads, choice)
        assert [p.name for p in tmp_path.iterdir()] == ["in"]
    written = write_series(tmp_path / "new" / "out", heads, reversed(planes))
    assert [p.name for p in written] == ["00001.dcm", "00002.dcm", "00003.dcm"]
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["out"]
    with pytest.raises(SourceError, match="exists"):
        write_series(tmp_path / "new" / "out", heads, planes)


def personal(ds):
    """Give a data set what identifies, at several depths."""
    ds.InstitutionName = "Hospital"
    ds.PatientComments = "SECRET-1"
    ds.StudyDescription = "SECRET-2"
    item = pydicom.Dataset()
    item.ReferencedSOPClassUID = pydicom.uid.MRImageStorage
    item.ReferencedSOPInstanceUID = "1.2.3.4.5.6.7"
    item.TextComments = "SECRET-3"
    inner = pydicom.Dataset()
    inner.OperatorsName = "SECRET^4"
    item.PurposeOfReferenceCodeSequence = [inner]
    ds.ReferencedImageSequence = [item]
    block = ds.private_block(0x0011, "SECRET-5", create=True)
    block.add_new(0x01, "LO", "SECRET-6")
    ds.add_new(0x60000010, "US", 4)
    ds.add_new(0x60003000, "OW", b"SECRET-7")
    ds.add_new(0x50000010, "US", 4)
    return ds


def test_identifying_elements_are_listed(tmp_path):
    ds = personal(phantoms.series(phantoms.noise((1, 4, 4)))[0])
    ds.PatientAge = ""
    (head,) = read_series(phantoms.write(tmp_path, [ds])).heads()
    found = {item.tag: (item.keyword, item.value) for item in find_identifiers(head.part10)}
    assert found["(0010,0010)"] == ("PatientName", "Doe^Jane")
    assert found["(0010,4000)"] == ("PatientComments", "SECRET-1")
    assert found["(0008,1140)/(4000,4000)"] == ("TextComments", "SECRET-3")
    assert found["(0008,1140)/(0040,A170)/(0008,1070)"] == ("OperatorsName", "SECRET^4")
    assert found["(0011,1001)"] == ("private", "SECRET-6")
    assert found["(6000,3000)"][1] == "8 bytes"
    assert "(5000,0010)" in found
    assert "(0010,1010)" not in found  # there, but empty
    keywords = {keyword for keyword, _ in found.values()}
    assert {"SOPInstanceUID", "StudyDate", "AcquisitionTime", "ProtocolName"} <= keywords
    assert not keywords & {"Rows", "SOPClassUID", "ImagePositionPatient", "Modality", "EchoTime"}


@pytest.mark.parametrize("compressed", [False, True])
def test_clean_heads_still_make_a_series(tmp_path, compressed):
    voxels = phantoms.noise((3, 6, 6), "u2")
    datasets = [personal(ds) for ds in phantoms.series(voxels)]
    if compressed:
        for ds in datasets:
            phantoms.compress(ds, "1.2.840.10008.1.2.4.80", imagecodecs.jpegls_encode)
    series = read_series(phantoms.write(tmp_path / "in", datasets))
    heads = [type(head)(head.slices, clean_head(head.part10, b"salt")) for head in series.heads()]
    for head in heads:
        left = {item.keyword for item in find_identifiers(head.part10)}
        assert all(keyword.endswith("UID") for keyword in left)
        assert b"SECRET" not in head.part10
        assert b"Hospital" not in head.part10
        assert phantoms.SERIES.encode() not in head.part10
    written = write_series(tmp_path / "out", heads, series.planes())
    again = read_series(written)
    assert np.array_equal(voxels_of(again), voxels)
    np.testing.assert_array_equal(again.affine, series.affine)
    names = {pydicom.dcmread(p).SOPInstanceUID for p in written}
    assert len(names) == 3
    other = clean_head(next(iter(series.heads())).part10, b"pepper")
    assert pydicom.dcmread(io.BytesIO(other), stop_before_pixels=True).SOPInstanceUID not in names
