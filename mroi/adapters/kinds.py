"""What a file is that is no image for us, by its first bytes: for messages."""

from __future__ import annotations

__all__ = ["START", "describe_start"]

START = 540
"""Bytes that are enough to tell."""

_STARTS = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"PK\3\4", "a ZIP archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x89HDF", "an HDF5 file (MINC 2?)"),
    (b"CDF", "a NetCDF file (MINC 1?)"),
    (b"NRRD", "an NRRD image"),
    (b"ObjectType", "a MetaImage header"),
    (b"NDims", "a MetaImage header"),
    (b"\0\0\0\1", "an MGH image"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"%PDF", "a PDF document"),
    (b"SIMPLE  =", "a FITS image"),
    (b"\x89MROI", "an .mroi file"),
)


def describe_start(start: bytes) -> str:
    """Return what a file with these first bytes is, as a predicate.

    Examples
    --------
    >>> describe_start(b""), describe_start(bytes.fromhex("89504e470d0a"))
    ('is empty', 'is a PNG picture')
    >>> describe_start(b"dear reader"), describe_start(bytes([9, 1]))
    ('is a text', 'starts with 09 01')
    """
    if not start:
        return "is empty"
    for magic, kind in _STARTS:
        if start.startswith(magic):
            return f"is {kind}"
    if start[257:262] == b"ustar":
        return "is a tar archive"
    if not start.strip(b"\0"):
        return "starts with zeros"
    try:
        text = start[: len(start) - 4 * (len(start) >= START)].decode()
    except UnicodeDecodeError:
        return f"starts with {start[:8].hex(' ')}"
    is_text = text.replace("\n", "").replace("\r", "").replace("\t", "").isprintable()
    return "is a text" if is_text else f"starts with {start[:8].hex(' ')}"
