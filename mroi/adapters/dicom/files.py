"""DICOM files on disk: whether a file is one, and its bytes, inflated if it is gzipped.

A file is DICOM if it has ``DICM`` after its preamble, or if it starts with the first element of a
data set: such files, older than Part 10 or stripped of its header, are common.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from mroi.adapters.dicom.part10 import deflated_from
from mroi.adapters.gz import GZIP, GzipReader, open_inflated
from mroi.errors import SourceError

__all__ = ["is_dicom", "is_dicom_start", "mapped", "opened", "stamp_of"]

START = 132
"""Bytes of a file that tell whether it is DICOM."""

_VRS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR "
    b"US UT UV".split()
)
_GROUPS = {0x0002, 0x0008}
"""Groups that a data set can start with: file meta information, or identification."""
_FIRST_ELEMENT = 0x0100
_FIRST_LENGTH = 1 << 16
_BLOCK = 1 << 20


def is_dicom_start(start: bytes) -> bool:
    """Whether these are the first bytes of a DICOM file: 132, or all of a shorter one.

    Examples
    --------
    >>> is_dicom_start(bytes(128) + b"DICM")
    True
    >>> is_dicom_start(bytes([8, 0, 5, 0]) + b"CS" + bytes([10, 0]) + b"ISO_IR 100")
    True
    >>> is_dicom_start((348).to_bytes(4, "little") + bytes(128))
    False
    """
    if start[128:132] == b"DICM":
        return True
    if len(start) < 8:
        return False
    orders: tuple[Literal["little", "big"], ...] = ("little", "big")
    for order in orders:
        group, element = (int.from_bytes(start[i : i + 2], order) for i in (0, 2))
        if group not in _GROUPS or element >= _FIRST_ELEMENT:
            continue
        if start[4:6] in _VRS:
            return True
        length = int.from_bytes(start[4:8], "little")  # implicit: no VR, little-endian
        if order == "little" and length < _FIRST_LENGTH and length % 2 == 0:
            return True
    return False


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, gzipped or not.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(START)
        if not start.startswith(GZIP):
            return is_dicom_start(start)
    try:
        with open_inflated(path) as inflated:
            return is_dicom_start(inflated.read(START))
    except SourceError:  # a damaged gzip file
        return False


Stamp = tuple[int, ...]
"""What of a file changes when its bytes do, or another takes its place."""


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a file as it is now."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file, or a temporary one with what it inflates to.

    Raises
    ------
    SourceError
        If the file is a damaged gzip file, or a damaged one of the deflated transfer syntax.
    OSError
        If it cannot be read.
    """
    with ExitStack() as stack:
        file = stack.enter_context(open_inflated(path))
        if isinstance(file, GzipReader):
            unpacked = cast("BinaryIO", stack.enter_context(tempfile.TemporaryFile(prefix="mroi-")))
            shutil.copyfileobj(file, unpacked, _BLOCK)
            if file.trailing.strip(b"\0"):
                raise SourceError(f"{path.name}: {len(file.trailing)} bytes after the gzip stream")
            unpacked.seek(0)
            file = unpacked
        if start := deflated_from(file):
            whole = cast("BinaryIO", stack.enter_context(tempfile.TemporaryFile(prefix="mroi-")))
            whole.write(file.read(start))
            _inflate(file, whole, path.name)
            whole.seek(0)
            file = whole
        yield file


def _inflate(source: BinaryIO, target: BinaryIO, name: str) -> None:
    """Inflate what is left of a file of the deflated transfer syntax."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        while not inflater.eof:
            data = inflater.unconsumed_tail or source.read(_BLOCK)
            target.write(inflater.decompress(data, _BLOCK))
            if not data:
                raise SourceError(f"{name}: its deflated data set is truncated")
    except zlib.error as exc:
        raise SourceError(f"{name}: its deflated data set is damaged: {exc}") from exc


@contextmanager
def mapped(path: Path) -> Iterator[Any]:
    """Map a file: a length in it that lies cannot ask for more memory than the file has.

    Raises
    ------
    SourceError
        If the file is empty, or a damaged gzip file.
    """
    with opened(path) as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise SourceError(f"{path.name} is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as found:
            yield found
