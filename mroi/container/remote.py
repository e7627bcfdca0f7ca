"""A file on a server, read in absolute ranges through fsspec (extra ``remote``).

A server may do anything: it gets no more time than is sensible, and no more is taken from it than
what was asked for and one block. What it did wrong is said as a `SourceError`, if it is still so
after some tries where that may help; that there is no such file, as for one on disk, as a
`FileNotFoundError`. So is a file that becomes another between two reads.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from errno import ECONNRESET, ENOENT, EPIPE
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, BinaryIO, Self, cast

from typing_extensions import override

from mroi.container.cache import DiskCache
from mroi.errors import MroiError, SourceError, TruncatedError, UsageError
from mroi.text import counted

if TYPE_CHECKING:
    from aiohttp import ClientResponse

__all__ = ["UrlSource"]

_FIRST = 1 << 14  # what is asked for first: a reader of a small head needs nothing else
_BLOCK = 1 << 23  # what is read and thrown away at most, of a server that ignores ranges
_PIECE = 1 << 16
_TIMEOUT = 20.0
_RATE = 1 << 14  # bytes per second; a server that is slower is given up
_CACHED = 1 << 16  # bytes of a block that is kept on disk
_TRIES = 4
_PAUSE = 0.25  # seconds before the second try, about; twice as many before each further one
_LONGEST_PAUSE = 10.0
_BUSY = (408, 429, 500, 502, 503, 504)
_NO_FILE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_RANGE = re.compile(r"bytes (?:([0-9]{1,18})-([0-9]{1,18})|\*)/([0-9]{1,18}|\*)")

Take = Callable[[bytes], object]
Known = tuple[int | None, str]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the head of an answer promises: bytes to skip, bytes to take, size of the file."""

    skip: int
    size: int | None
    total: int | None


class _PassingError(SourceError):
    """What another try may do better; `pause` is what the server asked to wait, in seconds."""

    pause = 0.0


class _WriteError(MroiError):
    """What came could not be written: no fault of the server."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class UrlSource:
    """A URL.

    Parameters
    ----------
    url : str
        What fsspec can open: ``https://``, ``s3://``, ...; its configuration (headers, credentials)
        holds here, too.
    timeout : float
        Seconds to wait for a connection, for an answer, and for the next bytes of it. A read as a
        whole may take a second more for each 16 KiB.
    cache : DiskCache, optional
        Where what is read is kept, if the server says which state of the file it is.
    known : (int or None, str)
        Size and state of the file, of a copy that must be of the same.

    Raises
    ------
    UsageError
        If what the protocol needs is not installed.
    """

    is_remote = True

    def __init__(
        self,
        url: str,
        *,
        timeout: float = _TIMEOUT,
        cache: DiskCache | None = None,
        known: Known = (None, ""),
    ) -> None:
        self.name = url
        self._timeout = timeout
        self._cache = cache
        self._size, self._state = known
        self._first = b""
        self._pid = 0
        self._connect()

    def _connect(self) -> None:
        """Look up the file system; anew in a forked process, which cannot use what it inherited."""
        if self._pid == os.getpid():
            return
        try:
            import fsspec  # type: ignore[import-not-found, import-untyped, unused-ignore]

            self._filesystem, self._path = cast("tuple[Any, str]", fsspec.core.url_to_fs(self.name))
        except ImportError as exc:
            raise UsageError(f"{self.name}: {exc}; reading URLs needs mroi[remote]") from exc
        except Exception as exc:  # of any plug-in of fsspec
            raise UsageError(f"{self.name}: {exc}") from exc
        self._is_http = "http" in _protocols(self._filesystem)
        self._pid = os.getpid()

    def size(self) -> int:
        """Return the number of bytes; the first of them come with the answer."""
        if self._size is None:
            parts: list[bytes] = []
            self._fetch(0, _FIRST, parts.append)
            self._first = b"".join(parts)
        if self._size is None:
            raise self._error("does not say how large the file is")
        return self._size

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly `size` bytes, with at most one request unless it has to be tried again."""
        data = self._first[offset : offset + size]
        if len(data) != size:
            if self._cache is not None and self._size is not None and self._state:
                data = self._read_blocks(self._cache, offset, min(offset + size, self._size))
            else:
                data = self._request(offset, size)
        if len(data) != size:
            raise TruncatedError(
                f"{self.name}: got {len(data):,} of {size:,} bytes", "LAY-4", offset + len(data)
            )
        return data

    def _request(self, offset: int, size: int) -> bytes:
        parts: list[bytes] = []
        self._fetch(offset, size, parts.append)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_blocks(self, cache: DiskCache, offset: int, stop: int) -> bytes:
        """Return bytes of whole blocks that were kept, or are from now on."""
        if stop <= offset:
            return b""
        size = cast("int", self._size)
        numbers = range(offset // _CACHED, -(-stop // _CACHED))
        keys = {n: f"{self.name}\0{self._state}\0{size}\0{n}" for n in numbers}
        blocks = {n: block for n in numbers if (block := cache.get(keys[n])) is not None}
        missing = [n for n in numbers if n not in blocks]
        if missing:  # one request, even if some between them are there
            first, end = missing[0] * _CACHED, min((missing[-1] + 1) * _CACHED, size)
            data = self._request(first, end - first)
            if len(data) != end - first:
                raise self._error(f"sent {len(data):,} of {end - first:,} bytes")
            for n in range(missing[0], missing[-1] + 1):
                at = n * _CACHED - first
                if n not in blocks:
                    cache.put(keys[n], data[at : at + _CACHED])
                blocks[n] = data[at : at + _CACHED]
        start = numbers[0] * _CACHED
        return b"".join(blocks[n] for n in numbers)[offset - start : stop - start]

    def copy_to(self, file: BinaryIO) -> None:
        """Write the whole file to another, with one request more."""
        size = self.size()
        done = 0

        def take(data: bytes) -> None:
            nonlocal done
            try:
                file.write(data)
            except OSError as exc:
                raise _WriteError(exc) from exc
            done += len(data)

        try:
            self._fetch(0, size, take)
        except _WriteError as exc:
            raise exc.reason from None
        if done != size:
            raise self._error(f"sent {done:,} of {size:,} bytes")

    def close(self) -> None:
        """Do nothing: connections belong to fsspec."""

    @override
    def __reduce__(self) -> tuple[Callable[..., Self], tuple[object, ...]]:
        limit = None if self._cache is None else (self._cache.limit, self._cache.folder)
        known = (self._size, self._state)
        return _rebuild, (self.name, self._timeout, limit, known)  # type: ignore[return-value]

    # -- what the protocols have in common ---------------------------------------------------

    def _error(self, what: str) -> SourceError:
        return SourceError(f"{self.name}: the server {what}")

    def _fetch(self, offset: int, size: int, take: Take) -> None:
        """Give the bytes of a range, as far as the file has them; learn the size of the file."""
        if size <= 0:
            return
        self._connect()
        if not self._is_http:
            self._fetch_any(offset, size, take)
            return
        from fsspec.asyn import sync

        done = 0

        def received(data: bytes) -> None:
            nonlocal done
            take(data)
            done += len(data)

        for tries in range(1, _TRIES + 1):
            try:
                left = size - done
                sync(self._filesystem.loop, self._fetch_http, offset + done, left, received)
            except _PassingError as exc:
                if tries == _TRIES or exc.pause > _LONGEST_PAUSE:
                    raise SourceError(f"{exc.message} (tried {counted(tries, 'time')})") from exc
                pause = _PAUSE * 2 ** (tries - 1) * random.uniform(0.5, 1.5)  # noqa: S311
                time.sleep(max(pause, exc.pause))
            else:
                return

    def _fetch_any(self, offset: int, size: int, take: Take) -> None:
        try:
            if self._size is None:
                self._learn_any(self._filesystem.info(self._path))
            for start in range(offset, offset + size, _BLOCK):
                stop = min(start + _BLOCK, offset + size)
                take(self._filesystem.cat_file(self._path, start=start, end=stop)[: stop - start])
        except (MroiError, OSError):
            raise
        except Exception as exc:  # each plug-in of fsspec has its own
            raise SourceError(f"{self.name}: {type(exc).__name__}: {exc}") from exc

    def _learn_any(self, found: Mapping[str, Any]) -> None:
        """Take size and state from what fsspec says of a file; each plug-in has its own words."""
        size = found.get("size")
        self._size = None if size is None else int(size)
        names = ("ETag", "etag", "LastModified", "mtime", "modified", "last_modified")
        state = next((found[name] for name in names if found.get(name)), "")
        self._state = str(state).strip('"')

    # -- HTTP ------------------------------------------------------------------------------------

    async def _fetch_http(self, offset: int, size: int, take: Take) -> None:
        with self._saying(size) as count:
            filesystem = self._filesystem
            session = await filesystem.set_session()
            options = self._options(offset, size)
            async with session.get(filesystem.encode_url(self._path), **options) as response:
                answer = self._interpret(response, offset, size)
                self._learn(answer.total, _state_of(response.headers))
                if answer.size is None and self._size is not None:
                    answer = _Answer(answer.skip, max(0, min(size, self._size - offset)), None)
                await self._receive(response, answer, size, take, count)
                response.close()  # whatever else it would send

    def _options(self, offset: int, size: int) -> dict[str, Any]:
        """Return the arguments of a request, with what fsspec was configured with."""
        from aiohttp import ClientTimeout

        given = dict(self._filesystem.kwargs)
        headers = {
            **given.pop("headers", {}),
            "Range": f"bytes={offset}-{offset + size - 1}",
            "Accept-Encoding": "identity",  # ranges are those of the file, not of a gzip stream
        }
        wait = self._timeout
        total = 3 * wait + size / _RATE
        timeout = ClientTimeout(total=total, connect=wait, sock_read=wait)
        return {**given, "headers": headers, "timeout": timeout}

    def _interpret(self, response: ClientResponse, offset: int, size: int) -> _Answer:
        """Return what an answer promises; refuse one that is of no use."""
        status, headers = response.status, response.headers
        if status in _NO_FILE:
            raise FileNotFoundError(ENOENT, f"not on the server ({status})", self.name)
        if status in _BUSY:
            error = _PassingError(f"{self.name}: the server answers {_status_text(status)}")
            error.pause = _pause_of(headers.get("Retry-After", ""))
            raise error
        if status not in (200, 206, 416):
            hint = "; it wants credentials" if status in (401, 403, 407) else ""
            raise self._error(f"answers {_status_text(status)}{hint}")
        if (encoding := headers.get("Content-Encoding", "identity")).lower() != "identity":
            raise self._error(f"compresses what it sends ({encoding[:20]!r}), so that ranges fail")
        if status == 200:
            length = headers.get("Content-Length", "")
            total = int(length) if re.fullmatch("[0-9]{1,18}", length) else None
            return self._interpret_whole(total, offset, size)
        stated = headers.get("Content-Range", "")
        found = _RANGE.fullmatch(stated.strip())
        total = int(found[3]) if found is not None and found[3] != "*" else None
        if status == 416 and total is not None and total <= offset:
            return _Answer(0, 0, total)
        if found is None or found[1] is None or status == 416:
            raise self._error(f"answers {status} with the range {stated[:60]!r}")
        start, stop = int(found[1]), int(found[2]) + 1
        if start != offset or not start < stop <= offset + size:
            raise self._error(
                f"sends bytes {start:,} to {stop - 1:,}, asked for {offset:,} to "
                f"{offset + size - 1:,}"
            )
        if total is not None and stop < min(offset + size, total):
            raise self._error(f"sends {stop - start:,} bytes, asked for {size:,}")
        return _Answer(0, stop - start, total)

    def _interpret_whole(self, total: int | None, offset: int, size: int) -> _Answer:
        """Return the part that is wanted of an answer that is the whole file."""
        if offset > _BLOCK:
            raise self._error(
                f"ignores ranges: it sends the whole file for the {size:,} bytes at {offset:,}; "
                "download it first"
            )
        return _Answer(offset, None if total is None else max(0, min(size, total - offset)), total)

    def _learn(self, total: int | None, state: str) -> None:
        """Take size and state of the file from an answer, or compare them."""
        if self._size is None:
            self._size = total
        elif total not in (None, self._size):
            raise self._error(f"has another file now: of {total:,} bytes, it had {self._size:,}")
        if not self._state:
            self._state = state
        elif state[:1] == self._state[:1] and state != self._state:  # the same kind of statement
            raise self._error("has another file now: it has changed since it was opened")

    async def _receive(
        self, response: ClientResponse, answer: _Answer, asked: int, take: Take, count: list[int]
    ) -> None:
        """Give the bytes of an answer to `take`, and count them in the first item of `count`."""
        wanted = asked if answer.size is None else answer.size
        skip = answer.skip if wanted else 0
        while skip and (data := await response.content.read(min(skip, _PIECE))):
            skip -= len(data)
        while count[0] < wanted:
            data = await response.content.read(min(wanted - count[0], _PIECE))
            if not data:
                if answer.size is None:
                    return
                raise _PassingError(
                    f"{self.name}: the server sent {count[0]:,} of {wanted:,} bytes, then closed"
                )
            count[0] += len(data)
            take(data)

    @contextmanager
    def _saying(self, size: int) -> Iterator[list[int]]:
        """Turn what aiohttp raises into what the server did; gives a counter of bytes received."""
        import aiohttp

        count, start = [0], time.monotonic()
        try:
            yield count
        except (MroiError, FileNotFoundError):
            raise
        except TimeoutError as exc:
            seconds = time.monotonic() - start
            some = f"sent {count[0]:,} of {size:,} bytes" if count[0] else "did not answer"
            raise self._error(f"{some} in {seconds:.0f} seconds") from exc
        except aiohttp.ClientConnectorError as exc:
            raise SourceError(f"{self.name}: cannot connect: {exc.strerror or exc}") from exc
        except (
            aiohttp.ClientPayloadError,
            aiohttp.ServerDisconnectedError,
            ConnectionError,
        ) as exc:
            some = f"sent {count[0]:,} of {size:,} bytes" if count[0] else "sent nothing"
            raise _PassingError(
                f"{self.name}: the server {some}, then closed the connection"
            ) from exc
        except aiohttp.ClientOSError as exc:
            error = SourceError if exc.errno not in (ECONNRESET, EPIPE) else _PassingError
            raise error(f"{self.name}: {exc.strerror or _printable(str(exc))}") from exc
        except aiohttp.TooManyRedirects as exc:
            last = f", lastly to {exc.history[-1].headers.get('Location')}" if exc.history else ""
            raise self._error(
                f"redirects {len(exc.history)} times{_printable(last)}: is it a circle?"
            ) from exc
        except aiohttp.ClientResponseError as exc:
            raise self._error(
                f"sent an answer that is not HTTP: {_printable(exc.message)}"
            ) from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise SourceError(f"{self.name}: {type(exc).__name__}: {_printable(str(exc))}") from exc


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _status_text(status: int) -> str:
    """Return a status with its standard name, not the one that the server gives."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _state_of(headers: Mapping[str, str]) -> str:
    """Return what an answer says of the state of the file: "E" and a tag, or "M" and a date."""
    if tag := headers.get("ETag", "").removeprefix("W/"):
        return f"E{tag}"
    date = headers.get("Last-Modified", "")
    return f"M{date}" if date else ""


def _pause_of(text: str) -> float:
    """Return the seconds of a ``Retry-After``; none of one that has a date."""
    return float(text) if re.fullmatch("[0-9]{1,6}", text) else 0.0


def _printable(text: str) -> str:
    """Return the start of a text from outside, without what moves the cursor of a terminal."""
    return "".join(c if c.isprintable() else " " for c in text[:200])


def _rebuild(url: str, timeout: float, cache: tuple[int, str] | None, known: Known) -> UrlSource:
    kept = None if cache is None else DiskCache(*cache)
    return UrlSource(url, timeout=timeout, cache=kept, known=known)
