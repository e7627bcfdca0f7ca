"""Any NIfTI image comes back byte for byte, and reads as nibabel reads it."""

from __future__ import annotations

import gzip
import io
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

import mroi
from mroi.format.datatypes import DATATYPES

NUMBERS = st.floats(width=32) | st.sampled_from([0.0, 1.0, -2.5, 1e-3, math.nan, math.inf])
SHIPPED = sorted(
    path
    for path in Path(nib.__file__).parent.joinpath("tests", "data").iterdir()
    if path.name.endswith((".nii", ".nii.gz", ".hdr"))
)


@st.composite
def images(draw: st.DrawFn) -> dict:
    """Return the parts of an image: header, what is between, voxels, what comes after."""
    version = draw(st.sampled_from([1, 2]))
    order = draw(st.sampled_from("<>"))
    is_pair = draw(st.booleans())
    kind = draw(st.sampled_from(list(DATATYPES.values())))
    ndim = draw(st.integers(1, 7))
    shape = tuple(draw(st.integers(1, 4 if axis < 3 else 2)) for axis in range(ndim))
    header = (Nifti1Header if version == 1 else Nifti2Header)(endianness=order)
    magic = {(1, False): b"n+1", (1, True): b"ni1", (2, False): b"n+2", (2, True): b"ni2"}
    header["magic"] = magic[version, is_pair]
    header["dim"] = [ndim, *shape, *[draw(st.sampled_from([0, 1]))] * (7 - ndim)]
    header["datatype"], header["bitpix"] = kind.code, 8 * kind.itemsize
    header["pixdim"] = [draw(st.sampled_from([-1, 1, 0])), *[draw(NUMBERS) for _ in range(7)]]
    header["scl_slope"] = draw(st.sampled_from([0, 1, -2.5, 0.1, math.nan, math.inf]))
    header["scl_inter"] = draw(st.sampled_from([0, 7.5, -1024]))
    header["qform_code"] = draw(st.sampled_from([0, 1, 4]))
    header["sform_code"] = draw(st.sampled_from([0, 2, 5]))
    broken = draw(st.booleans())
    for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
        header[name] = draw(NUMBERS if broken else st.floats(-0.5, 0.5, width=32))
    for name in ("srow_x", "srow_y", "srow_z"):
        header[name] = [draw(NUMBERS if broken else st.floats(-9, 9, width=32)) for _ in range(4)]
    header["xyzt_units"] = draw(st.integers(0, 127))
    gap = bytes(4)
    if draw(st.booleans()):  # an extension
        size = 16 * draw(st.integers(1, 3))
        numbers = np.array([size, 6], "i4").astype(f"{order}i4").tobytes()
        gap = b"\1\0\0\0" + numbers + draw(st.binary(min_size=size - 8, max_size=size - 8))
    gap += draw(st.binary(max_size=5))  # an odd offset
    before = draw(st.binary(max_size=9)) if is_pair else b""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = math.prod(shape) * kind.itemsize
    voxels = rng.bytes(size) if draw(st.booleans()) else bytes(size)
    header["vox_offset"] = len(before) if is_pair else len(header.binaryblock) + len(gap)
    return {
        "is_pair": is_pair,
        "header": header.binaryblock + gap,
        "image": before + voxels + draw(st.binary(max_size=9)),
    }


def zipped(data: bytes, how: str) -> bytes:
    if how == "members":
        half = len(data) // 2
        return gzip.compress(data[:half]) + gzip.compress(b"") + gzip.compress(data[half:])
    return gzip.compress(data) if how == "gzip" else data


def write(folder: Path, image: dict, how: str = "") -> tuple[Path, list[bytes]]:
    """Write an image; return the path to pack, and the bytes of its files, uncompressed."""
    gz = ".gz" if how else ""
    if not image["is_pair"]:
        path = folder / f"scan.nii{gz}"
        data = image["header"] + image["image"]
        path.write_bytes(zipped(data, how))
        return path, [data]
    path = folder / f"scan.hdr{gz}"
    path.write_bytes(zipped(image["header"], how))
    (folder / f"scan.img{gz}").write_bytes(zipped(image["image"], how))
    return path, [image["header"], image["image"]]


def restored(packed: Path, folder: Path, *, is_pair: bool) -> list[bytes]:
    target = folder / ("back.img" if is_pair else "back.nii")
    result = mroi.unpack(packed, target)
    assert result.proven
    return [path.read_bytes() for path in sorted(result.paths)]


@settings(max_examples=80)
@given(data=st.data())
def test_every_image_comes_back(tmp_path_factory, data):
    image = data.draw(images())
    folder = tmp_path_factory.mktemp("image")
    path, expected = write(folder, image, data.draw(st.sampled_from(["", "gzip", "members"])))
    packed = folder / "scan.mroi"
    options = {
        "roi": data.draw(st.sampled_from(["full", "tight"])),
        "slice_axis": data.draw(st.integers(0, 2)),
        "chunk": data.draw(st.sampled_from([None, 2, (2, 3, 1)])),
    }
    mroi.pack(path, packed, codec="zstd", **options)
    assert restored(packed, folder, is_pair=image["is_pair"]) == expected
    with np.errstate(all="ignore"):
        report = mroi.verify(packed, against=path)
        comparison = report.comparison
    assert report.ok
    assert "source" in report.digests
    assert comparison.equal
    check_against_nibabel(path, packed)


def check_against_nibabel(path: Path, packed: Path) -> None:
    """Compare values, type, shape and affine, where nibabel can read the image."""
    loaded = load(path)
    if loaded is None:
        return
    volume = mroi.open(packed)
    assert volume.shape == loaded.shape
    with np.errstate(all="ignore"):
        try:
            expected = np.asarray(loaded.dataobj)
        except (TypeError, ValueError, np.exceptions.DTypePromotionError):
            return  # colours with a slope
        ours = np.asarray(volume)
    assert ours.dtype == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(ours, expected.astype(ours.dtype))
    if np.isfinite(loaded.affine).all():
        assert np.array_equal(volume.affine, loaded.affine)


def load(path: Path):
    try:
        loaded = nib.load(path)
        loaded.affine  # noqa: B018 (broken quaternions show themselves here)
    except Exception:  # noqa: BLE001 (whatever it does not take)
        return None
    return loaded


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_files_of_others(path, tmp_path):
    """What nibabel ships for its own tests: packed and given back, or refused by name."""
    packed = tmp_path / "packed.mroi"
    try:
        mroi.pack(path, packed, codec="zstd")
    except mroi.SourceError as exc:
        problem = str(exc)
    else:
        problem = ""
    if problem:
        assert path.suffix == ".hdr"  # headers without an image beside them
        assert str(path) in problem
        assert not list(tmp_path.iterdir())
        return
    data = path.read_bytes()
    expected = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    assert restored(packed, tmp_path, is_pair=False) == [expected]
    check_against_nibabel(path, packed)


def test_most_files_of_others_are_taken():
    assert sum(path.suffix != ".hdr" for path in SHIPPED) >= 5


@pytest.mark.parametrize("name", ["SCAN.IMG", "scan.img", "scan.HDR", "scan.img.gz", "scan.x.hdr"])
def test_a_pair_is_found_from_either_half(name, tmp_path):
    image = nib.Nifti1Pair(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    file_map = nib.Nifti1Pair.make_file_map({"header": io.BytesIO(), "image": io.BytesIO()})
    image.to_file_map(file_map)
    parts = {kind: file_map[kind].fileobj.getvalue() for kind in ("header", "image")}
    base = name.removesuffix(".gz")
    other = {"IMG": "HDR", "img": "hdr", "HDR": "IMG", "hdr": "img"}[base.rpartition(".")[2]]
    beside = f"{base.rpartition('.')[0]}.{other}"
    for file, ending in ((name, base), (beside, beside)):
        data = parts["header" if ending.lower().endswith("hdr") else "image"]
        (tmp_path / file).write_bytes(gzip.compress(data) if file.endswith(".gz") else data)
    mroi.pack(tmp_path / name, tmp_path / "packed.mroi", codec="zstd")
    result = mroi.unpack(tmp_path / "packed.mroi", tmp_path / "back.hdr.gz")
    assert result.proven
    assert [gzip.decompress(p.read_bytes()) for p in sorted(result.paths)] == [*parts.values()]


def test_names_follow_the_source(tmp_path):
    image = nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.eye(4))
    image.to_filename(tmp_path / "scan.nii.gz")
    mroi.pack(tmp_path / "scan.nii.gz", tmp_path / "scan.mroi", codec="zstd")
    with pytest.raises(FileExistsError):
        mroi.unpack(tmp_path / "scan.mroi")
    (path,) = mroi.unpack(tmp_path / "scan.mroi", overwrite=True).paths
    assert path.name == "scan.nii.gz"
    for wrong in ("scan.img", "scan.txt", "scan"):
        with pytest.raises(mroi.UsageError):
            mroi.unpack(tmp_path / "scan.mroi", tmp_path / wrong)
    assert {p.name for p in tmp_path.iterdir()} == {"scan.nii.gz", "scan.mroi"}


@pytest.mark.parametrize(
    "dtype", [np.int16, np.float64, np.complex64, [*zip("RGB", ["u1"] * 3, strict=True)]]
)
@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 4, 5), (2, 2, 2, 3)])
def test_arrays_become_images(dtype, shape, tmp_path):
    array = np.arange(math.prod(shape) * 16, dtype=np.uint8)[
        : math.prod(shape) * np.dtype(dtype).itemsize
    ]
    array = array.view(dtype).reshape(shape)
    affine = np.array([[0, -2, 0, 9], [3, 0, 0, -4], [0, 0, 4, 1], [0, 0, 0, 1.0]])
    mroi.pack(array, tmp_path / "a.mroi", affine=affine, codec="zstd")
    assert not mroi.unpack(tmp_path / "a.mroi", tmp_path / "a.nii").proven
    loaded = nib.load(tmp_path / "a.nii")
    assert loaded.shape == shape
    assert np.asarray(loaded.dataobj).tobytes() == array.tobytes()
    assert np.array_equal(loaded.affine, affine)


def test_a_long_axis_or_a_large_number_needs_nifti_2(tmp_path):
    array = np.zeros((40_000, 1, 1), np.uint8)
    mroi.pack(array, tmp_path / "long.mroi", codec="zstd")
    mroi.unpack(tmp_path / "long.mroi", tmp_path / "long.nii")
    assert nib.load(tmp_path / "long.nii").shape == array.shape
    with mroi.create(tmp_path / "steep.mroi", (2, 2), np.uint8, slope=1e200) as writer:
        writer.write(np.ones((2, 2), np.uint8))
    mroi.unpack(tmp_path / "steep.mroi", tmp_path / "steep.nii")
    assert np.asarray(nib.load(tmp_path / "steep.nii").dataobj).max() == 1e200


@pytest.mark.parametrize("is_pair", [False, True])
def test_a_cropped_volume_becomes_an_image_of_its_own(tmp_path, is_pair):
    array = np.zeros((6, 7, 8), np.int16)
    array[2:4, 3:6, 1:7] = np.arange(36).reshape(2, 3, 6) + 1
    kind = nib.Nifti1Pair if is_pair else nib.Nifti1Image
    path = tmp_path / ("scan.img" if is_pair else "scan.nii")
    kind(array, np.diag([2, 3, 4, 1])).to_filename(path)
    mroi.pack(path, tmp_path / "scan.mroi", roi="tight", codec="zstd")
    with mroi.open(tmp_path / "scan.mroi") as volume:
        assert not mroi.unpack(volume.cropped, tmp_path / "part.nii").proven
    part = nib.load(tmp_path / "part.nii")
    assert np.array_equal(part.get_fdata(), array[2:4, 3:6, 1:7])
    assert part.affine[:3, 3].tolist() == [4, 9, 4]


def test_a_pair_whose_header_was_lost_becomes_a_single_file(tmp_path):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nib.Nifti1Pair(array, np.eye(4)).to_filename(tmp_path / "scan.img")
    mroi.pack(tmp_path / "scan.img", tmp_path / "scan.mroi", codec="zstd")
    data = bytearray((tmp_path / "scan.mroi").read_bytes())
    at = data.rindex(b"nIFt") - 4
    data[at : at + 8] = bytes(8)
    mroi.recover(bytes(data), tmp_path / "saved.mroi")
    with pytest.raises(mroi.UsageError):
        mroi.unpack(tmp_path / "saved.mroi", tmp_path / "back.img")
    assert not mroi.unpack(tmp_path / "saved.mroi", tmp_path / "back.nii").proven
    assert np.array_equal(nib.load(tmp_path / "back.nii").get_fdata(), array)


def test_restored_bytes_that_are_not_those_of_the_source_do_not_appear(tmp_path):
    """A file with a wrong digest of its source: nothing is left under the name."""
    from mroi.adapters.nifti import NiftiSource
    from mroi.container.builder import Metadata
    from mroi.packing.write import plan_pack, write_plan

    class Wrong(NiftiSource):
        def metadata(self):
            *frames, digest = super().metadata()
            changed = digest.payload[:-1] + bytes([digest.payload[-1] ^ 1])
            return [*frames, Metadata(digest.type, changed, digest.ordinal)]

    nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.eye(4)).to_filename(tmp_path / "a.nii")
    source = Wrong(tmp_path / "a.nii")
    write_plan(source, tmp_path / "a.mroi", plan_pack(source, codec="zstd"))
    with pytest.raises(mroi.ChecksumError) as caught:
        mroi.unpack(tmp_path / "a.mroi", tmp_path / "back.nii")
    assert caught.value.rule == "MET-2"
    assert {p.name for p in tmp_path.iterdir()} == {"a.nii", "a.mroi"}
    assert not mroi.verify(tmp_path / "a.mroi").ok
