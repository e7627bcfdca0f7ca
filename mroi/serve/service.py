"""From a request to a reply, whatever is asked: no framework, no socket."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from urllib.parse import quote

from mroi._version import __version__
from mroi.errors import UsageError
from mroi.serve.answers import ANSWERS, KINDS, Answer, Asked, content_of, json_bytes
from mroi.serve.faults import RefusedError, fault_of
from mroi.serve.folder import Folder, Served
from mroi.serve.http import Validators, find_range, is_allowed_host
from mroi.serve.parameters import Parameters

__all__ = ["LOG", "MOST", "Reply", "Request", "Service"]

MOST = 1 << 28  # bytes of voxels that one request may ask for, by default
_MOST_LISTED = 10_000
LOG = logging.getLogger("mroi.serve")


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked.

    Attributes
    ----------
    route : str
        ``index``, ``list``, ``file``, or a name of `mroi.serve.answers.ANSWERS`.
    path : mapping
        What the path of the URL says; ``name`` is that of the file.
    query : tuple of (str, str)
        Parameters.
    headers : mapping
        Names in lower case.
    is_head : bool
        Whether only the head of the answer is wanted.
    """

    route: str
    path: Mapping[str, str] = field(default_factory=dict)
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    is_head: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What is sent: a body that is whole, or one that comes in parts and may yet fail."""

    status: int
    headers: dict[str, str]
    body: bytes | Iterator[bytes] = b""


class Service:
    """What is behind the URLs; may be shared by threads.

    Parameters
    ----------
    folder : Folder
        The files.
    token : str, optional
        What a client must have.
    hosts : frozenset of str, optional
        Names of the server that are taken, any by default.
    most : int
        Bytes of voxels that one request may ask for.
    complain : callable
        Called with a text about each fault of the server; the log by default.
    """

    def __init__(
        self,
        folder: Folder,
        *,
        token: str | None = None,
        hosts: frozenset[str] | None = None,
        most: int = MOST,
        complain: Callable[[str], object] = LOG.error,
    ) -> None:
        if token is not None and not (token and token.isascii() and token.isprintable()):
            raise UsageError("a token has printable ASCII characters, at least one")
        self.folder = folder
        self._token = token
        self._hosts = hosts
        self._most = most
        self._complain = complain
        self._root = f"{folder.path}{os.sep}"

    def refuse(self, headers: Mapping[str, str]) -> Reply | None:
        """Return what a client is told that may not ask here, None for others."""
        if self._hosts is not None and not is_allowed_host(headers.get("host"), self._hosts):
            host = headers.get("host", "")[:100]
            return self.failed(RefusedError(403, f"this is not the server {host!r}"))
        if self._token is None:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        wanted = self._token.encode()
        if scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode("utf-8", "surrogateescape"), wanted
        ):
            return None
        reply = self.failed(RefusedError(401, "a token is needed: Authorization: Bearer TOKEN"))
        return Reply(401, {**reply.headers, "WWW-Authenticate": "Bearer"}, reply.body)

    def respond(self, request: Request) -> Reply:
        """Return the reply; an error is one, too."""
        try:
            return self._respond(request)
        except Exception as exc:  # noqa: BLE001  (whatever it is, the server goes on)
            return self.failed(exc)

    def _respond(self, request: Request) -> Reply:
        if request.route == "index":
            Parameters(request.query, "")
            return _json(200, _index())
        if request.route == "list":
            return _json(200, self._list(Parameters(request.query, "after limit")))
        served = self.folder.find(request.path["name"])
        if request.route == "file":
            return self._file(served, request)
        ask = ANSWERS[request.route][1]
        kinds = KINDS.get(request.route)
        if kinds and request.path["kind"] not in kinds:
            raise RefusedError(
                404, f"no .{request.path['kind'][:20]} of this: there are {_or(kinds)}"
            )
        answer = ask(Asked(served, request.path, request.query, self._most))
        return _replied(answer, _derived(served, request), request)

    def _file(self, served: Served, request: Request) -> Reply:
        Parameters(request.query, "")
        validators, field = served.validators, request.headers.get("range")
        if request.is_head or not validators.allows_range(request.headers):
            field = None
        if validators.precondition(request.headers) is not None:
            field = None
        try:
            wanted = find_range(field, served.size)
        except RefusedError as exc:
            reply = self.failed(exc)
            headers = {**reply.headers, "Content-Range": f"bytes */{served.size}"}
            return Reply(exc.status, headers, reply.body)
        return _replied(content_of(served, wanted), validators, request)

    def _list(self, given: Parameters) -> dict[str, object]:
        limit = given.integer("limit", 1000, 1, _MOST_LISTED)
        found = self.folder.list(given.text("after") or "", limit + 1)
        volumes = [
            {
                "name": listed.name,
                "size": listed.size,
                "modified": listed.modified,
                "file": f"/files/{quote(listed.name)}",
                "volume": f"/volumes/{quote(listed.name)}",
            }
            for listed in found[:limit]
        ]
        more = found[limit - 1].name if len(found) > limit else None
        return {"volumes": volumes, "after": more}

    def failed(self, error: Exception) -> Reply:
        """Return what is told of an error; one that is the fault of the server is logged."""
        status, record = fault_of(error, self._root)
        if status == 500:
            self._complain(f"{type(error).__name__}: {error}")
            if os.environ.get("MROI_TRACEBACK"):
                self._complain("".join(traceback.format_exception(error)))
        return _json(status, {"error": record})

    def parts(self, body: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the parts of a body until one fails: that is logged, and raised as refused."""
        try:
            yield from body
        except Exception as exc:
            self._complain(f"an answer was cut short: {exc}")
            raise RefusedError(500, "cut short") from exc


def _replied(answer: Answer, validators: Validators, request: Request) -> Reply:
    """Return the reply for an answer, which need not be made if the client has it already."""
    headers = {**validators.headers, "Cache-Control": "private, no-cache", **answer.headers}
    status = validators.precondition(request.headers)
    if status is not None:
        return Reply(status, validators.headers)
    headers["Content-Type"] = answer.media_type
    if answer.size is not None:
        headers["Content-Length"] = str(answer.size)
    if request.is_head:
        return Reply(answer.status, headers)
    body = answer.body()
    if isinstance(body, bytes):
        headers["Content-Length"] = str(len(body))
        return Reply(answer.status, headers, body)
    first = next(body, b"")  # before anything is sent: most of what fails fails here
    return Reply(answer.status, headers, chain((first,), body))


def _derived(served: Served, request: Request) -> Validators:
    """Return the validators of what is made of a file: of the file, what is asked, and mroi."""
    own = served.validators
    asked = (own.tag, __version__, request.route, sorted(request.path.items()), request.query)
    digest = hashlib.sha256(repr(asked).encode("utf-8", "backslashreplace")).hexdigest()
    return Validators(f'"{digest[:32]}"', own.seconds)


def _json(status: int, value: object) -> Reply:
    body = json_bytes(value)
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
    }
    return Reply(status, headers, body)


def _index() -> dict[str, object]:
    """Return what a client can ask for."""
    paths = {"list": "/volumes", "file": "/files/{name}"}
    paths |= {route: f"/volumes/{{name}}/{path}" for route, (path, _) in ANSWERS.items()}
    return {"server": "mroi", "version": __version__, "paths": paths}


def _or(kinds: Sequence[str]) -> str:
    return ", ".join(f".{kind}" for kind in kinds)
