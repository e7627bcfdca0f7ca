"""What was read of remote files, kept on disk up to a size; off unless somebody asks for it.

An entry is a block of one state of one file: a file that changes has other entries. Names are
digests, so that no address is in them. Whatever the disk does, the worst is that nothing is kept.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from hashlib import sha256
from pathlib import Path
from zlib import crc32

from mroi.errors import UsageError
from mroi.text import parse_size

__all__ = ["DiskCache", "default_cache_size"]

_HEADER = 4  # bytes before those of a block: their CRC
_KEPT = 0.8  # of the limit, once something has to go
_SHARE = 16  # others write here, too: so often in the limit, what is there is counted anew


def default_cache_size() -> int:
    """Return how many bytes are kept at most, as the environment variable ``MROI_CACHE`` says.

    Raises
    ------
    UsageError
        If it is not a size, such as ``2GB`` or 0.
    """
    text = os.environ.get("MROI_CACHE", "")
    try:
        return parse_size(text) if text else 0
    except ValueError as exc:
        raise UsageError(f"MROI_CACHE={text}: expected a size, such as 2GB") from exc


class DiskCache:
    """Blocks in a folder; threads and processes may share it.

    Parameters
    ----------
    limit : int
        Bytes that it may take.
    folder : path, optional
        By default one for caches of the user, which only that user can read.
    """

    def __init__(self, limit: int, folder: str | os.PathLike[str] | None = None) -> None:
        if folder is None:
            from platformdirs import user_cache_path

            folder = user_cache_path("mroi", appauthor=False) / "remote"
        self.folder = Path(folder)
        self.limit = limit
        self._lock = threading.Lock()
        self._room = 0  # bytes that may be written before those that are there are counted

    def get(self, key: str) -> bytes | None:
        """Return a block, None if it is not there or not what was written."""
        path = self._path(key)
        try:
            data = path.read_bytes()
            if _crc(data[_HEADER:]) != int.from_bytes(data[:_HEADER], "little"):
                path.unlink()
                return None
            os.utime(path)  # those that nobody wants go first
        except OSError:
            return None
        return data[_HEADER:]

    def put(self, key: str, data: bytes) -> None:
        """Keep a block, if that is possible."""
        size = len(data) + _HEADER
        if size > self.limit:
            return
        path = self._path(key)
        with contextlib.suppress(OSError):
            self._make_room(size)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            number, name = tempfile.mkstemp(dir=path.parent)
            try:
                with os.fdopen(number, "wb") as file:
                    file.write(_crc(data).to_bytes(_HEADER, "little") + data)
                Path(name).replace(path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise

    def _path(self, key: str) -> Path:
        name = sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        return self.folder / name[:2] / name[2:]

    def _make_room(self, size: int) -> None:
        """Delete the blocks that were not wanted for the longest time, if there are too many."""
        with self._lock:
            if self._room >= size:
                self._room -= size
                return
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = []
            for path in self.folder.glob("*/*"):
                with contextlib.suppress(OSError):
                    state = path.stat()
                    found.append((state.st_mtime_ns, state.st_size, path))
            taken = sum(entry[1] for entry in found)
            if taken + size > self.limit:
                for _, freed, path in sorted(found):
                    if taken + size <= _KEPT * self.limit:
                        break
                    with contextlib.suppress(OSError):
                        path.unlink()
                    taken -= freed
            self._room = max(0, min(self.limit - taken - size, self.limit // _SHARE))


def _crc(data: bytes) -> int:
    return crc32(data, 1)  # not 0 for a file that lost its bytes
