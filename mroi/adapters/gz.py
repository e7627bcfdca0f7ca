"""Gzip files in and out: read with what stands behind the stream, written without a date."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

from typing_extensions import override

from mroi.errors import SourceError

__all__ = ["GZIP", "GzipReader", "gzip_writer", "is_gzip", "open_inflated"]

GZIP = b"\x1f\x8b"
MAX_INFLATION = 1040
"""Bytes that deflate makes of one, at most: 1032 and some for what is around."""

_BLOCK = 1 << 18


class GzipReader(io.RawIOBase):
    """The inflated bytes of a gzip file of one member or several.

    Bytes behind the last member that are no member are kept, as ``gzip -d`` ignores them.

    Parameters
    ----------
    raw : binary file
        At its start; closed with this.
    name : str
        For messages.

    Attributes
    ----------
    trailing : bytes
        What stands behind the last member, once that was read to its end.

    Raises
    ------
    SourceError
        By `read`, if the stream is damaged or cut short.
    """

    def __init__(self, raw: BinaryIO, name: str) -> None:
        self._raw = raw
        self._name = name
        self._inflater: Any = _new_inflater()
        self._waiting = b""
        self.trailing = b""

    @override
    def readable(self) -> bool:
        return True

    @override
    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, none at the end; all of them for a negative size."""
        if size < 0:
            return b"".join(iter(lambda: self.read(_BLOCK), b""))
        while size and self._inflater is not None:
            if self._inflater.eof:
                self._next_member()
                continue
            data = self._waiting or self._raw.read(_BLOCK)
            try:
                found = self._inflater.decompress(data, size)
            except Exception as exc:  # zlib.error, or that of isal
                if not isinstance(exc, _errors()):
                    raise
                raise SourceError(f"{self._name}: damaged gzip file: {exc}") from exc
            self._waiting = self._inflater.unconsumed_tail
            if found:
                return cast("bytes", found)
            if not data and not self._inflater.eof:
                raise SourceError(f"{self._name}: damaged gzip file: the stream is truncated")
        return b""

    def _next_member(self) -> None:
        """Go on to the next member, or to the end if what follows is none."""
        rest = self._inflater.unused_data + self._raw.read(_BLOCK)
        if rest.lstrip(b"\0").startswith(GZIP):  # zeros may stand between members
            self._inflater, self._waiting = _new_inflater(), rest.lstrip(b"\0")
            return
        self._inflater = None
        parts = [rest]
        while parts[-1]:
            parts.append(self._raw.read(_BLOCK))
            if len(parts) > MAX_TRAILING // _BLOCK:
                raise SourceError(f"{self._name}: more than {MAX_TRAILING:,} bytes after its end")
        self.trailing = b"".join(parts)

    @override
    def close(self) -> None:
        self._raw.close()
        super().close()


MAX_TRAILING = 1 << 26


def _new_inflater() -> Any:
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.decompressobj(31)
    return isal_zlib.decompressobj(31)


def _errors() -> tuple[type[Exception], ...]:
    try:
        from isal import isal_zlib
    except ImportError:
        return (zlib.error,)
    return (zlib.error, cast("type[Exception]", isal_zlib.error))


def is_gzip(path: Path) -> bool:
    """Whether a file starts like a gzip file."""
    with path.open("rb") as file:
        return file.read(2) == GZIP


def open_inflated(path: Path) -> BinaryIO:
    """Open a file for reading, inflating it if it is gzipped."""
    file = path.open("rb")
    start = file.read(2)
    file.seek(0)
    return cast("BinaryIO", GzipReader(file, str(path))) if start == GZIP else file


def gzip_writer(raw: BinaryIO) -> BinaryIO:
    """Return a gzip file over `raw` that does not name the moment it was made."""
    try:
        from isal import igzip

        return cast("BinaryIO", igzip.IGzipFile("", "wb", compresslevel=2, fileobj=raw, mtime=0))
    except ImportError:
        return cast("BinaryIO", gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0))
