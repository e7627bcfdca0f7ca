"""Validators, preconditions and ranges of HTTP (RFC 9110, sections 8.8, 13 and 14)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from mroi.serve.faults import RefusedError

__all__ = ["Validators", "find_range", "is_allowed_host"]

_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_RANGE = re.compile(r"bytes=\s*(?:([0-9]{1,18})\s*-\s*([0-9]{1,18})?|-\s*([0-9]{1,18}))\s*")


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells one state of a resource from another.

    Attributes
    ----------
    tag : str
        Its entity tag, quoted; equal tags mean equal bytes.
    seconds : int
        When it was last changed, since 1970.
    """

    tag: str
    seconds: int

    @property
    def modified(self) -> str:
        """The date of the last change, as HTTP writes it."""
        return format_datetime(datetime.fromtimestamp(self.seconds, UTC), usegmt=True)

    @property
    def headers(self) -> dict[str, str]:
        """What a client keeps, to ask with later."""
        return {"ETag": self.tag, "Last-Modified": self.modified}

    def precondition(self, headers: Mapping[str, str]) -> int | None:
        """Return 412 or 304 where a request is for another state, or for none but another.

        Parameters
        ----------
        headers : mapping
            Of a GET or HEAD request, names in lower case.
        """
        if (wanted := headers.get("if-match")) is not None:
            if not self._is_one_of(wanted, strongly=True):
                return 412
        else:
            since = _seconds(headers.get("if-unmodified-since"))
            if since is not None and self.seconds > since:
                return 412
        if (known := headers.get("if-none-match")) is not None:
            return 304 if self._is_one_of(known, strongly=False) else None
        since = _seconds(headers.get("if-modified-since"))
        return 304 if since is not None and self.seconds <= since else None

    def allows_range(self, headers: Mapping[str, str]) -> bool:
        """Whether ``If-Range``, if there is one, is about this state."""
        wanted = headers.get("if-range")
        return wanted is None or wanted.strip() in (self.tag, self.modified)

    def _is_one_of(self, field: str, *, strongly: bool) -> bool:
        if field.strip() == "*":
            return True
        tags = _TAG.findall(field)
        return any(tag == self.tag and not (strongly and weak) for weak, tag in tags)


def _seconds(date: str | None) -> float | None:
    """Return a date of a header as seconds since 1970; None for one that is none."""
    if date is None:
        return None
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def find_range(field: str | None, size: int) -> range | None:
    """Return the bytes that a ``Range`` header asks for, None for all.

    A field that is no range of bytes, or several of them, is ignored, as a server may.

    Parameters
    ----------
    field : str or None
        The header.
    size : int
        Bytes there are.

    Raises
    ------
    RefusedError
        With status 416, if there are no such bytes.
    """
    found = None if field is None else _RANGE.fullmatch(field.strip())
    if found is None:
        return None
    first, last, suffix = (None if text is None else int(text) for text in found.groups())
    if suffix is not None:
        first, last = max(0, size - suffix), None
    if first is None or (last is not None and last < first):
        return None
    stop = size if last is None else min(last + 1, size)
    if first >= stop:
        raise RefusedError(416, f"there are no such bytes: the file has {size:,}")
    return range(first, stop)


def is_allowed_host(field: str | None, names: frozenset[str]) -> bool:
    """Whether a ``Host`` header names one of `names`, with or without a port.

    A server that only this machine reaches must ask: a page of any site can let its own name lead
    to it, and the browser then takes what it answers for a part of that site (DNS rebinding).
    """
    host = re.sub(r":[0-9]*$", "", (field or "").strip().lower())
    return host.removeprefix("[").removesuffix("]") in names
