"""Every form in which pixels are stored is taken bit for bit, with voxels as pydicom has them."""

from __future__ import annotations

import gzip
import warnings
import zlib

import dicom_phantoms as phantoms
import imagecodecs
import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array
from pydicom.sequence import Sequence

import mroi
from mroi.adapters.convert import open_input
from mroi.adapters.dicom import read_heads, read_series
from mroi.adapters.dicom.part10 import deflated, deflated_from
from mroi.errors import SourceError

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
BIG, DEFLATED, RLE = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"


def stored_of(volume):
    """Voxels of each instance in the order of its frames, (frames, rows, columns[, 3])."""
    planes = np.stack(list(volume.unscaled.planes()))
    if planes.dtype.names:
        planes = planes.view("u1").reshape(*planes.shape, -1)
    found = []
    for head in read_heads(volume):
        frames = planes[list(head.slices)]
        if volume.geom.ndim == 5:
            frames = np.moveaxis(frames.reshape(-1, 3, *frames.shape[1:]), 1, 3)
        found.append(frames)
    return found


def check(folder, paths, *, raw=False, same=True):
    """Pack files, and compare voxels with pydicom's and restored files with the sources."""
    mroi.pack(folder, folder.with_suffix(".mroi"), codec="zstd", overwrite=True)
    with mroi.open(folder.with_suffix(".mroi")) as volume:
        for path, found in zip(paths, stored_of(volume), strict=True):
            expected = pixel_array(pydicom.dcmread(path, force=True), raw=raw)
            assert np.array_equal(found.reshape(expected.shape), expected)
    out = mroi.unpack(folder.with_suffix(".mroi"), folder.with_name("out")).paths
    if same:
        assert [p.read_bytes() for p in out] == [p.read_bytes() for p in paths]
    report = mroi.verify(folder.with_suffix(".mroi"), against=folder)
    compared = report.comparison
    assert (report.ok, compared.equal) == (True, True)
    return out


def several(voxels, *, colour=False, **changes):
    """A series of single-frame data sets of voxels (slices, rows, columns[, 3])."""
    datasets = phantoms.series(voxels[..., 0] if colour else voxels)
    for ds, plane in zip(datasets, voxels, strict=True):
        if colour:
            phantoms.set_pixels(ds, plane, colour=True)
        for keyword, value in changes.items():
            setattr(ds, keyword, value)
    return datasets


# -- colours of more than 8 bits ---------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u2", "u4"])
@pytest.mark.parametrize("syntax", [EXPLICIT, BIG, RLE])
@pytest.mark.parametrize("planar", [0, 1])
def test_colours_of_many_bits(tmp_path, dtype, syntax, planar):
    if (dtype, syntax) == ("u4", RLE):
        pytest.skip("pydicom does not encode it; a file that it ships has it")
    voxels = phantoms.noise((4, 5, 6, 3), dtype, high=60000)
    datasets = several(voxels, colour=True)
    for ds, plane in zip(datasets, voxels, strict=True):
        ds.file_meta.TransferSyntaxUID = syntax
        if syntax == RLE:
            ds.file_meta.TransferSyntaxUID = EXPLICIT
            ds.compress(RLE, encoding_plugin="pydicom", generate_instance_uid=False)
        else:
            ds.PlanarConfiguration = planar
            stored = np.moveaxis(plane, 2, 0) if planar else plane
            order = ">" if syntax == BIG else "<"
            ds.PixelData = stored.astype(order + dtype).tobytes()
    paths = phantoms.write(tmp_path / "in", datasets)
    out = check(tmp_path / "in", paths, same=syntax != RLE)
    with mroi.open(tmp_path / "in.mroi") as volume:
        assert volume.shape == (6, 5, 4, 1, 3)
        np.testing.assert_array_equal(
            volume.unscaled[...][:, :, :, 0], voxels.transpose(2, 1, 0, 3)
        )
    for path, plane in zip(out, voxels, strict=True):
        assert np.array_equal(pydicom.dcmread(path).pixel_array, plane)
    mroi.unpack(tmp_path / "in.mroi", tmp_path / "a.nii")
    assert nib.load(tmp_path / "a.nii").shape == (6, 5, 4, 1, 3)


def test_colours_of_many_bits_in_many_frames(tmp_path):
    voxels = phantoms.noise((6, 5, 4, 3), "u2", high=60000)
    ds = phantoms.enhanced(voxels[..., 0], times=2, rescale=[[1 + k, k] for k in range(6)])
    phantoms.set_pixels(ds, voxels, colour=True)
    ds.NumberOfFrames = 6
    paths = phantoms.write(tmp_path / "in", [ds])
    check(tmp_path / "in", paths)
    with mroi.open(tmp_path / "in.mroi") as volume:
        assert volume.shape == (4, 5, 3, 2, 3)
        k, t, sample = 2, 1, 1
        expected = voxels[t * 3 + k, :, :, sample].T * (1.0 + t * 3 + k) + t * 3 + k
        np.testing.assert_array_equal(volume[:, :, k, t, sample], expected)


# -- 8 bits in big-endian words ----------------------------------------------------------------


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("shape", [(1, 3, 3), (1, 4, 4), (3, 3, 5), (2, 3, 3)])
@pytest.mark.parametrize("padding", [b"", b"\7"])
def test_bytes_in_big_endian_words(tmp_path, colour, shape, padding):
    voxels = phantoms.noise((*shape, 3) if colour else shape, "u1", high=255)
    ds = phantoms.enhanced(voxels[..., 0] if colour else voxels)
    phantoms.set_pixels(ds, voxels, colour=colour)
    ds.NumberOfFrames = shape[0]
    value = voxels.tobytes()
    value += (padding or b"\0") * (len(value) % 2)
    ds.PixelData = np.frombuffer(value, "u2").byteswap().tobytes()
    ds["PixelData"].VR = "OW"
    ds.file_meta.TransferSyntaxUID = BIG
    check(tmp_path / "in", phantoms.write(tmp_path / "in", [ds]))


# -- colours that share Cb and Cr --------------------------------------------------------------


@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "YBR_FULL"])
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("frames", [1, 2])
def test_luminance_and_chrominance(tmp_path, photometric, syntax, frames):
    shared = photometric == "YBR_FULL_422"
    data = phantoms.noise((frames, 5, 6, 2 if shared else 3), "u1", high=255)
    ds = phantoms.enhanced(data[..., 0])
    phantoms.set_pixels(ds, np.repeat(data[..., :1], 3, -1), colour=True)
    ds.NumberOfFrames = frames
    ds.PhotometricInterpretation, ds.PixelData = photometric, data.tobytes()
    ds.file_meta.TransferSyntaxUID = syntax
    (path,) = phantoms.write(tmp_path / "in", [ds])
    check(tmp_path / "in", [path], raw=True)
    assert any("Cb" in text for text in read_series(path).warnings)


def test_an_image_of_luminance_and_chrominance_is_rgb(tmp_path):
    data = phantoms.noise((1, 5, 6, 2), "u1", high=255)
    ds = phantoms.enhanced(data[..., 0])
    phantoms.set_pixels(ds, np.repeat(data[..., :1], 3, -1), colour=True)
    ds.NumberOfFrames, ds.PhotometricInterpretation = 1, "YBR_FULL_422"
    ds.PixelData = data.tobytes()
    (path,) = phantoms.write(tmp_path / "in", [ds])
    mroi.pack(path, tmp_path / "a.mroi")
    mroi.unpack(tmp_path / "a.mroi", tmp_path / "a.nii")
    found = np.asarray(nib.load(tmp_path / "a.nii").dataobj)[:, ::-1, 0]
    expected = pixel_array(path).transpose(1, 0, 2)
    assert np.array_equal(np.stack([found[c] for c in "RGB"], axis=-1), expected)


def test_rows_of_an_odd_number_cannot_share(tmp_path):
    ds = phantoms.blank()
    phantoms.set_pixels(ds, phantoms.noise((4, 5, 3), "u1"), colour=True)
    ds.PhotometricInterpretation = "YBR_FULL_422"
    with pytest.raises(SourceError, match="rows of 5 pixels"):
        read_series(phantoms.write(tmp_path, [ds]))


# -- bits --------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 7)),
    syntax=st.sampled_from([EXPLICIT, IMPLICIT, BIG]), padding=st.integers(0, 255),
)  # fmt: skip
def test_single_bits(tmp_path_factory, shape, syntax, padding):
    folder = tmp_path_factory.mktemp("bits")
    voxels = phantoms.noise(shape, "u1", high=2)
    ds = phantoms.enhanced(voxels)
    value = bytearray(np.packbits(voxels.reshape(-1), bitorder="little").tobytes())
    if voxels.size % 8:  # bits that are no pixel are anything
        value[-1] |= padding << voxels.size % 8 & 0xFF
    ds.PixelData = bytes(value) + bytes([padding]) * (len(value) % 2)
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = 0
    ds.NumberOfFrames = shape[0]
    ds.file_meta.TransferSyntaxUID = syntax
    paths = phantoms.write(folder / "in", [ds])
    check(folder / "in", paths)
    with mroi.open(folder / "in.mroi") as volume:
        assert volume.geom.bits_stored == 1
        np.testing.assert_array_equal(volume[...], voxels.T)


def test_segments_are_volumes(tmp_path):
    voxels = phantoms.noise((6, 5, 4), "u1", high=2)  # 2 segments, 3 slices
    ds = phantoms.enhanced(voxels)
    ds.PixelData = np.packbits(voxels.reshape(-1), bitorder="little").tobytes() + b"\0"
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit, ds.Modality = 0, "SEG"
    for n, group in enumerate(ds.PerFrameFunctionalGroupsSequence):
        segment, k = divmod(n, 3)
        group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 2.0 * k]
        group.SegmentIdentificationSequence = Sequence([Dataset()])
        group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = segment + 1
    phantoms.tell_apart_by_dimensions(
        ds, [(n // 3 + 1, n % 3 + 1) for n in range(6)], (0x0062000B, 0x00200032)
    )
    (path,) = phantoms.write(tmp_path, [ds])
    series = read_series(path)
    assert (series.shape, series.volume_key) == ((4, 5, 3, 2), "DimensionIndexValues")
    assert np.array_equal(np.stack([p for _, p in series.planes()]), voxels)


# -- deflated, gzipped, implicit ---------------------------------------------------------------


def write_deflated(folder, datasets):
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i}.dcm" for i in range(len(datasets))]
    for path, ds in zip(paths, datasets, strict=True):
        ds.file_meta.TransferSyntaxUID = DEFLATED
        ds.save_as(path, enforce_file_format=True)
    return paths


@pytest.mark.parametrize("preamble", [True, False])
def test_deflated_data_sets(tmp_path, preamble):
    datasets = several(phantoms.noise((3, 9, 8), "i2"))
    paths = write_deflated(tmp_path / "in", datasets)
    for path in paths:
        if not preamble:
            path.write_bytes(path.read_bytes()[132:])
    check(tmp_path / "in", paths)


@pytest.mark.parametrize("change", ["level", "trailer"])
def test_data_sets_that_come_back_deflated_anew(tmp_path, change):
    (path,) = write_deflated(tmp_path / "in", several(phantoms.noise((1, 9, 8), "i2")))
    data = path.read_bytes()
    with path.open("rb") as file:
        start = deflated_from(file)
    content = zlib.decompress(data[start:], -15)
    packer = zlib.compressobj(1, wbits=-15)
    stored = packer.compress(content) + packer.flush() if change == "level" else data[start:]
    path.write_bytes(data[:start] + stored + b"12345678" * (change == "trailer"))
    assert "deflated anew" in read_series(path).warnings[0]
    (out,) = check(tmp_path / "in", [path], same=False)
    assert out.read_bytes() == deflated(data[:start] + content)


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_damaged_deflated_data_sets_are_refused(tmp_path_factory, data):
    datasets = several(phantoms.noise((1, 9, 8), "i2"))
    (path,) = write_deflated(tmp_path_factory.mktemp("deflated"), datasets)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 2))
    path.write_bytes(whole[:cut])
    with pytest.raises(SourceError):
        read_series(path)


def test_gzipped_files_are_what_is_in_them(tmp_path):
    paths = phantoms.write(tmp_path / "in", several(phantoms.noise((3, 9, 8), "i2")))
    whole = [path.read_bytes() for path in paths]
    for path in paths:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    mroi.pack(tmp_path / "in", tmp_path / "a.mroi")
    out = mroi.unpack(tmp_path / "a.mroi", tmp_path / "out").paths
    assert [p.read_bytes() for p in out] == whole
    paths[0].with_name(paths[0].name + ".gz").write_bytes(gzip.compress(whole[0]) + b"more")
    with pytest.raises(SourceError, match="4 bytes after the gzip stream"):
        read_series(tmp_path / "in")


@pytest.mark.parametrize("syntax", [RLE, "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.50"])
def test_implicit_elements_in_a_syntax_that_has_none(tmp_path, syntax):
    voxels = phantoms.noise((2, 16, 24), "u1", high=200)
    paths = []
    (tmp_path / "in").mkdir()
    for number, ds in enumerate(several(voxels)):
        if syntax == RLE:
            ds.compress(syntax, encoding_plugin="pydicom", generate_instance_uid=False)
        else:
            encode = (
                imagecodecs.jpeg8_encode if syntax.endswith("50") else imagecodecs.jpegls_encode
            )
            phantoms.compress(ds, syntax, encode)
        items = ds.PixelData
        del ds.PixelData
        ds.file_meta.TransferSyntaxUID = IMPLICIT
        data = phantoms.to_bytes(ds)
        wrong = syntax.encode() + b"\0" * (len(syntax) % 2)
        field = b"\2\0\x10\0UI"
        right = field + bytes([18, 0]) + IMPLICIT.encode() + b"\0"
        assert right in data
        data = data.replace(right, field + bytes([len(wrong), 0]) + wrong)
        data += bytes.fromhex("e07f1000ffffffff") + items + bytes.fromhex("feffdde000000000")
        paths.append(tmp_path / "in" / f"{number}.dcm")
        paths[-1].write_bytes(data)
    series = read_series(tmp_path / "in")
    planes = np.stack([plane for _, plane in series.planes()])
    assert syntax.endswith("50") or np.array_equal(planes, voxels)
    assert np.abs(planes.astype(int) - voxels).max() < 60
    mroi.pack(tmp_path / "in", tmp_path / "a.mroi")
    out = mroi.unpack(tmp_path / "a.mroi", tmp_path / "out").paths
    for path, plane in zip(out, planes, strict=True):
        ds = pydicom.dcmread(path)
        assert np.array_equal(ds.pixel_array, plane)
        assert ds.PatientName == "Doe^Jane"


# -- JPEG XL -----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [110, 112])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("colour", [False, True])
def test_jpeg_xl(tmp_path, number, dtype, frames, colour):
    voxels = phantoms.noise((frames, 16, 24, 3) if colour else (frames, 16, 24), dtype, high=250)
    ds = phantoms.enhanced(voxels[..., 0] if colour else voxels)
    phantoms.set_pixels(ds, voxels, colour=colour)
    ds.NumberOfFrames = frames
    phantoms.compress(
        ds, f"1.2.840.10008.1.2.4.{number}", lambda f: imagecodecs.jpegxl_encode(f, lossless=True)
    )
    (path,) = phantoms.write(tmp_path / "in", [ds])
    mroi.pack(path, tmp_path / "a.mroi")
    with mroi.open(tmp_path / "a.mroi") as volume:
        (found,) = stored_of(volume)
    assert np.array_equal(found.reshape(voxels.shape), voxels)
    (out,) = mroi.unpack(tmp_path / "a.mroi", tmp_path / "out").paths
    assert np.array_equal(pydicom.dcmread(out).pixel_array.reshape(voxels.shape), voxels)


def test_jpeg_in_jpeg_xl(tmp_path):
    smooth = np.add.outer(np.arange(32), np.arange(40)).astype("u1")
    jpeg = imagecodecs.jpeg8_encode(smooth, level=95)
    (ds,) = several(smooth[np.newaxis])
    phantoms.compress(ds, "1.2.840.10008.1.2.4.111", lambda _: imagecodecs.jpegxl_encode_jpeg(jpeg))
    ((_, plane),) = read_series(phantoms.write(tmp_path, [ds])).planes()
    assert np.abs(plane.astype(int) - imagecodecs.jpeg8_decode(jpeg)).max() <= 2


def test_jpeg_xl_larger_than_its_header_is_refused(tmp_path):
    (ds,) = several(phantoms.noise((1, 8, 8), "u1"))
    large = imagecodecs.jpegxl_encode(np.zeros((80, 8), "u1"), lossless=True)
    phantoms.compress(ds, "1.2.840.10008.1.2.4.110", lambda _: large)
    series = read_series(phantoms.write(tmp_path, [ds]))
    with pytest.raises(SourceError, match=r"\(8, 80\)"):
        list(series.planes())


# -- cleaned -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["SC_rgb_rle_16bit_2frame.dcm", "SC_rgb_rle_32bit.dcm", "SC_rgb_small_odd_big_endian.dcm",
     "SC_ybr_full_422_uncompressed.dcm", "image_dfl.dcm", "liver_1frame.dcm",
     "liver_expb_1frame.dcm", "SC_rgb_jpeg.dcm", "MR_small_bigendian.dcm", "examples_overlay.dcm"],
)  # fmt: skip
def test_cleaned_files_have_the_same_pixels(tmp_path, name):
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip("not shipped with this pydicom")
    mroi.pack(open_input(path, metadata="clean"), tmp_path / "a.mroi")
    (out,) = mroi.unpack(tmp_path / "a.mroi", tmp_path / "out").paths
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(pydicom.dcmread(out).pixel_array, pydicom.dcmread(path).pixel_array)
    assert pydicom.dcmread(out).get("PatientName", "") == ""
