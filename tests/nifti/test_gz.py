"""Gzip files of several members, and with something behind them, as gzip and nibabel read them."""

from __future__ import annotations

import gzip
import io

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mroi
from mroi.adapters.gz import GzipReader
from mroi.errors import SourceError

IMAGE = nib.Nifti1Image(np.arange(504, dtype="i2").reshape(9, 8, 7), np.eye(4))
BYTES = IMAGE.to_bytes()
ZIPPED = gzip.compress(BYTES, mtime=0)
TRAILING = [b"garbage!", bytes(100), b"\0\0text", b"\x1f"]


def read(data, size):
    reader = GzipReader(io.BytesIO(data), "x")
    parts = iter(lambda: reader.read(size), b"")
    return b"".join(parts), reader.trailing


NO_MEMBER = st.binary(max_size=20).filter(lambda b: not b.lstrip(b"\0").startswith(b"\x1f\x8b"))
MEMBERS = st.lists(st.binary(max_size=300), min_size=1, max_size=4)


@given(MEMBERS, st.integers(1, 400), st.integers(0, 5), NO_MEMBER)
def test_members_are_joined_and_what_follows_is_kept(parts, size, zeros, trailing):
    data = bytes(zeros).join(gzip.compress(part, mtime=0) for part in parts) + trailing
    assert read(data, size) == (b"".join(parts), trailing)


@given(st.binary(max_size=2000), st.integers(1, 500), st.data())
def test_every_cut_is_noticed(content, size, data):
    zipped = gzip.compress(content, mtime=0)
    cut = data.draw(st.integers(0, len(zipped) - 1))
    with pytest.raises(SourceError, match="damaged gzip"):
        read(zipped[:cut], size)


@given(st.binary(min_size=1, max_size=500), st.data())
def test_changed_bytes_are_noticed(content, data):
    zipped = bytearray(gzip.compress(content, mtime=0))
    place = data.draw(st.integers(10, len(zipped) - 1))  # not in the header, which has no checksum
    zipped[place] ^= data.draw(st.integers(1, 255))
    try:
        found, _ = read(bytes(zipped), 100)
    except SourceError:
        return
    assert found == content  # two streams may mean the same


def test_much_is_made_of_little_in_pieces():
    zipped = gzip.compress(bytes(50 << 20))
    reader = GzipReader(io.BytesIO(zipped), "x")
    sizes = set()
    total = 0
    while data := reader.read(1 << 16):
        sizes.add(len(data))
        total += len(data)
    assert (total, max(sizes)) == (50 << 20, 1 << 16)


@pytest.mark.parametrize("trailing", TRAILING)
@pytest.mark.parametrize("ending", [".nii.gz", ".img.gz"])
def test_bytes_after_the_stream_are_taken_and_kept(tmp_path, trailing, ending):
    path = tmp_path / f"a{ending}"
    pair = []
    if ending == ".img.gz":
        nib.save(nib.Nifti1Pair(np.asarray(IMAGE.dataobj), np.eye(4)), tmp_path / "a.img")
        for name in ("a.hdr", "a.img"):
            pair.append((tmp_path / name).read_bytes())
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(pair[-1], mtime=0) + trailing)
            (tmp_path / name).unlink()
    else:
        path.write_bytes(ZIPPED + trailing)
    result = mroi.pack(path, tmp_path / "a.mroi")
    count = len(trailing) * (2 if ending == ".img.gz" else 1)
    assert result.warnings == (f"{count:,} bytes after the gzip stream are kept",)
    with mroi.open(tmp_path / "a.mroi") as volume:
        np.testing.assert_array_equal(volume.unscaled[...], IMAGE.dataobj)
        assert volume.reader.find_metadata(b"nIFt", 3) == trailing
    report = mroi.verify(tmp_path / "a.mroi", against=path)
    compared = report.comparison
    assert report.ok
    assert compared.equal
    restored = mroi.unpack(tmp_path / "a.mroi", tmp_path / f"back{ending}")
    assert restored.proven
    for found in restored.paths:
        whole = found.read_bytes()
        assert read(whole, 1 << 20)[1] == trailing
        assert read(whole, 1 << 20)[0] in (BYTES, *pair)
    plain = mroi.unpack(tmp_path / "a.mroi", tmp_path / f"plain{ending.removesuffix('.gz')}")
    assert plain.proven
    assert trailing == b"\x1f" or trailing not in plain.paths[-1].read_bytes()[-len(trailing) :]


def test_a_difference_behind_the_stream_is_one(tmp_path):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(ZIPPED + b"garbage!")
    mroi.pack(path, tmp_path / "a.mroi")
    path.write_bytes(ZIPPED + b"garbage?")
    compared = mroi.verify(tmp_path / "a.mroi", against=path).comparison
    assert not compared.same_metadata
