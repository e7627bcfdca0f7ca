"""What cannot be packed is refused: early, by name, and with nothing left behind."""

from __future__ import annotations

import errno
import gzip
import io
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

import mroi

ARRAY = np.random.default_rng(5).integers(0, 99, (8, 9, 10), dtype=np.int16)


def image(version: int = 1, **fields) -> bytes:
    """Return an image with some fields of its header replaced."""
    header = (Nifti1Header if version == 1 else Nifti2Header)()
    header.set_data_shape(ARRAY.shape)
    header.set_data_dtype(np.int16)
    header["vox_offset"] = len(header.binaryblock) + 4
    for name, value in fields.items():
        header[name] = value
    return header.binaryblock + bytes(4) + ARRAY.tobytes(order="F")


WHOLE = image()
ZIPPED = gzip.compress(WHOLE, mtime=0)
BAD = {
    "empty.nii": b"",
    "short.nii": WHOLE[:3],
    "text.nii": b"dear reader, this is no image\n" * 40,
    "zeros.nii": bytes(1000),
    "half a header.nii": WHOLE[:340],
    "header alone.nii": WHOLE[:352],
    "cut.nii": WHOLE[:-1],
    "empty.nii.gz": b"",
    "gzip of nothing.nii.gz": gzip.compress(b""),
    "magic alone.nii.gz": ZIPPED[:2],
    "header alone.nii.gz": ZIPPED[:10],
    "cut.nii.gz": ZIPPED[: len(ZIPPED) // 2],
    "without checksum.nii.gz": ZIPPED[:-8],
    "cut in checksum.nii.gz": ZIPPED[:-3],
    "wrong checksum.nii.gz": ZIPPED[:-8] + bytes([ZIPPED[-8] ^ 1]) + ZIPPED[-7:],
    "wrong length.nii.gz": ZIPPED[:-1] + b"\1",
    "damaged.nii.gz": ZIPPED[:400] + b"\xff" * 20 + ZIPPED[420:],
    "followed by half a gzip file.nii.gz": ZIPPED + ZIPPED[:-9],
    "zipped cut image.nii.gz": gzip.compress(WHOLE[:-1]),
    "analyze.hdr": WHOLE[:344] + bytes(4),
    "other magic.nii": WHOLE[:344] + b"n+3\0" + WHOLE[348:],
    "no image beside.hdr": image(magic=b"ni1"),
    "no header beside.img": ARRAY.tobytes(),
    "no dimensions.nii": image(dim=[0, *ARRAY.shape, 1, 1, 1, 1]),
    "eight dimensions.nii": image(dim=[8, *ARRAY.shape, 1, 1, 1, 1]),
    "negative.nii": image(dim=[3, 8, -9, 10, 1, 1, 1, 1]),
    "empty axis.nii": image(dim=[3, 8, 0, 10, 1, 1, 1, 1]),
    "bits.nii": image(datatype=1),
    "no type.nii": image(datatype=0),
    "unknown type.nii": image(datatype=77),
    "far offset.nii": image(vox_offset=1e30),
    "offset beyond.nii": image(vox_offset=100_000),
    "huge.nii": image(dim=[7, *[32767] * 7]),
    "huge 2.nii": image(2, dim=[3, 2**40, 1, 1, 1, 1, 1, 1]),
    "huge 2 many.nii": image(2, dim=[3, 1, 1, 2**40, 1, 1, 1, 1]),
    "beyond 64 bits.nii": image(2, dim=[4, 2**62, 2**62, 4, 4, 1, 1, 1]),
    "huge.nii.gz": gzip.compress(image(dim=[7, *[32767] * 7])),
    "huge 2.nii.gz": gzip.compress(image(2, dim=[3, 1, 1, 2**40, 1, 1, 1, 1])),
    "negative 2.nii": image(2, dim=[3, -(2**62), 1, 1, 1, 1, 1, 1]),
}


@pytest.mark.parametrize("roi", ["full", "auto", mroi.Box((0, 0, 0), (1, 1, 1))], ids=str)
@pytest.mark.parametrize("name", BAD)
def test_bad_images_are_refused(name, roi, tmp_path):
    path = tmp_path / name
    path.write_bytes(BAD[name])
    tracemalloc.start()
    try:
        with pytest.raises(mroi.SourceError) as caught:
            mroi.pack(path, tmp_path / "out.mroi", codec="zstd", roi=roi)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert name.partition(".")[0] in str(caught.value)  # the file is named
    assert peak < 64 << 20
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(mroi.SourceError, match=tmp_path.name):
        mroi.pack(tmp_path, tmp_path / "out.mroi")
    with pytest.raises(OSError, match="nothing"):
        mroi.pack(tmp_path / "nothing.nii", tmp_path / "out.mroi")
    assert not list(tmp_path.iterdir())


def test_a_single_file_with_a_stranger_beside_it_is_refused(tmp_path):
    (tmp_path / "scan.hdr").write_bytes(WHOLE)
    (tmp_path / "scan.img").write_bytes(ARRAY.tobytes())
    with pytest.raises(mroi.SourceError):
        mroi.pack(tmp_path / "scan.img", tmp_path / "out.mroi")


@settings(max_examples=100)
@given(
    st.binary(max_size=80),
    st.integers(0, 540),
    st.sampled_from([1, 2]),
    st.booleans(),
)
def test_any_header_is_packed_exactly_or_refused(tmp_path_factory, change, at, version, swap):
    """Random bytes anywhere in a header."""
    folder = tmp_path_factory.mktemp("header")
    data = bytearray(image(version))
    if swap:
        size = 348 if version == 1 else 540
        kind = Nifti1Header if version == 1 else Nifti2Header
        data[:size] = kind(bytes(data[:size])).as_byteswapped(">").binaryblock
    data[at : at + len(change)] = change
    path = folder / "scan.nii"
    path.write_bytes(data)
    try:
        mroi.pack(path, folder / "scan.mroi", codec="zstd")
    except mroi.SourceError:
        assert [p.name for p in folder.iterdir()] == ["scan.nii"]
        return
    result = mroi.unpack(folder / "scan.mroi", folder / "back.nii")
    assert result.proven
    assert (folder / "back.nii").read_bytes() == bytes(data)


@pytest.mark.parametrize("where", ["header", "gap"])
def test_a_bomb_before_the_voxels_is_not_inflated(tmp_path, where):
    """A gzip file of 100 KB that would give 100 MB before the first voxel."""
    offset = 100 << 20 if where == "gap" else 352
    data = image(vox_offset=offset)
    path = tmp_path / "bomb.nii.gz"
    extra = 0 if where == "gap" else 60 << 20
    path.write_bytes(gzip.compress(data[:352] + bytes(offset - 352) + data[352:] + bytes(extra), 9))
    if where == "header":  # bytes after the voxels are kept, up to what readers take
        mroi.pack(path, tmp_path / "out.mroi", codec="zstd")
        return
    with pytest.raises(mroi.SourceError, match="offset"):
        mroi.pack(path, tmp_path / "out.mroi", codec="zstd")


def test_a_full_disk_while_restoring_leaves_nothing(tmp_path, monkeypatch):
    nib.Nifti1Image(ARRAY, np.eye(4)).to_filename(tmp_path / "scan.nii")
    mroi.pack(tmp_path / "scan.nii", tmp_path / "scan.mroi", codec="zstd")

    class Full(io.FileIO):
        def __init__(self, path, _shown, *, new) -> None:
            super().__init__(path, "x+")

        def write(self, data) -> int:
            if self.tell() + len(data) > 500:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    monkeypatch.setattr("mroi.container.parts.OutputFile", Full)
    for name in ("back.nii", "back.nii.gz"):
        with pytest.raises(OSError, match="No space left"):
            mroi.unpack(tmp_path / "scan.mroi", tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scan.mroi", "scan.nii"]
