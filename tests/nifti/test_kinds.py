"""What is no image is called what it is."""

from __future__ import annotations

import gzip
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

import mroi
from mroi.errors import SourceError


def picture(kind):
    file = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), "u1")).save(file, kind)
    return file.getvalue()


def archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr(zipfile.ZipInfo("a.dcm"), b"x")  # without the time of day
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.nii", b"", "is empty"),
        ("a.dcm", b"", "is empty"),
        ("a.nii.gz", gzip.compress(b"", mtime=0), "is empty"),
        ("a.dcm", b"dear reader", "is a text"),
        ("a.dcm.gz", gzip.compress(b"dear reader", mtime=0), "is a text"),
        ("a.nii", picture("PNG"), "is a PNG picture"),
        ("a.dcm", picture("JPEG"), "is a JPEG picture"),
        ("a.tif", picture("TIFF"), "is a TIFF picture"),
        ("a.zip", archive(), "is a ZIP archive"),
        ("a.mgz", gzip.compress((1).to_bytes(4, "big") + bytes(300), mtime=0), "is an MGH image"),
        ("a.nrrd", b"NRRD0004\n", "is an NRRD image"),
        ("a.nii", bytes(1000), "starts with zeros"),
        ("a.nii", b"\xfe\1\2\3" * 300, "starts with fe 01 02 03"),
    ],
)
def test_the_reason_is_the_real_one(tmp_path, name, data, reason):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match=f"not a NIfTI or DICOM image: it {reason}"):
        mroi.pack(tmp_path / name, tmp_path / "a.mroi")
