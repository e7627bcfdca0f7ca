"""The Starlette application: routes and threads, no decisions (extra ``serve``)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request as WebRequest
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override

from mroi.limits import DEFAULT_LIMITS, Limits
from mroi.serve.answers import ANSWERS
from mroi.serve.faults import RefusedError
from mroi.serve.folder import Folder
from mroi.serve.service import LOG, MOST, Reply, Request, Service

__all__ = ["make_app"]

_ASKED = ("Authorization", "Range", "If-Match", "If-None-Match", "If-Range")
_TOLD = (
    "Accept-Ranges", "Content-Length", "Content-Range", "ETag", "Last-Modified", "X-Volume-Dtype",
    "X-Volume-Shape",
)  # fmt: skip
Say = Callable[[str], object]


def make_app(
    folder: str | os.PathLike[str],
    *,
    token: str | None = None,
    origins: Sequence[str] = (),
    hosts: frozenset[str] | None = None,
    most: int = MOST,
    threads: int = 4,
    limits: Limits = DEFAULT_LIMITS,
    access: Say | None = None,
    complain: Say = LOG.error,
) -> Starlette:
    """Return an ASGI application that serves a folder.

    Parameters
    ----------
    folder : path
        Every ``.mroi`` file below it is served.
    token : str, optional
        What clients must send as ``Authorization: Bearer TOKEN``.
    origins : sequence of str
        Other sites whose pages may read the answers (CORS); ``*`` for all.
    hosts : frozenset of str, optional
        Names of the server that are taken in ``Host``, any by default.
    most : int
        Bytes of voxels that one request may ask for.
    threads : int
        Requests that are worked on at once.
    limits : Limits
        What a file may make the server take.
    access : callable, optional
        Called with a line about each request.
    complain : callable
        Called with a text about each fault of the server; the log by default.

    Raises
    ------
    UsageError
        If there is no such folder, or the token is empty.
    """
    service = Service(
        Folder(folder, limits=limits),
        token=token,
        hosts=hosts,
        most=most,
        complain=complain,
    )
    middleware = [Middleware(partial(_Guard, service=service, is_shared=bool(origins)))]
    if origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "HEAD"],
            allow_headers=list(_ASKED),
            expose_headers=list(_TOLD),
        )
        middleware.insert(0, cors)
    if access is not None:
        middleware.insert(0, Middleware(partial(_Access, say=access)))
    paths = {"index": "/", "list": "/volumes", "file": "/files/{name:path}"}
    paths |= {name: f"/volumes/{{name:path}}/{path}" for name, (path, _) in ANSWERS.items()}
    limiter = anyio.CapacityLimiter(threads)
    return Starlette(
        routes=[
            Route(path, partial(_answer, service, name, limiter), methods=["GET"], name=name)
            for name, path in paths.items()
        ],
        middleware=middleware,
        exception_handlers={HTTPException: partial(_no_route, service)},
    )


async def _answer(
    service: Service, route: str, limiter: anyio.CapacityLimiter, web: WebRequest
) -> Response:
    request = Request(
        route,
        web.path_params,
        tuple(web.query_params.multi_items()),
        dict(web.headers),
        web.method == "HEAD",
    )
    reply = await anyio.to_thread.run_sync(service.respond, request, limiter=limiter)
    return _response(service, reply)


def _response(service: Service, reply: Reply) -> Response:
    if isinstance(reply.body, bytes):
        response = Response(reply.body, reply.status)
        response.raw_headers = []  # not the length of a body that HEAD leaves out
    else:
        response = _Parts(service.parts(reply.body), reply.status)
    response.headers.update(reply.headers)
    return response


async def _no_route(service: Service, web: WebRequest, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    allowed = {"Allow": "GET, HEAD"} if exc.status_code == 405 else {}
    said = exc.detail
    if exc.status_code == 404:
        of_file = ", ".join(path for path, _ in ANSWERS.values())
        is_volume = web.url.path.startswith("/volumes/")
        said = f"of a volume there are {of_file}" if is_volume else "/ lists the paths"
        said = f"{exc.detail}: {said}"
    reply = service.failed(RefusedError(exc.status_code, said))
    return _response(service, Reply(reply.status, {**reply.headers, **allowed}, reply.body))


class _Parts(StreamingResponse):
    """A body in parts; where one fails the connection ends, so that the client knows."""

    @override
    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except RefusedError:  # which was logged; what is not finished, the server closes
            return


class _Guard:
    """Lets nobody in who may not ask, and tells browsers what to do with answers."""

    def __init__(self, app: ASGIApp, service: Service, *, is_shared: bool) -> None:
        self._app = app
        self._service = service
        policy = b"cross-origin" if is_shared else b"same-origin"
        self._headers = [
            (b"x-content-type-options", b"nosniff"),
            (b"cross-origin-resource-policy", policy),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        refused = self._service.refuse(dict(WebRequest(scope).headers))
        app = self._app if refused is None else _response(self._service, refused)
        await app(scope, receive, with_headers)


class _Access:
    """Says a line about each request."""

    def __init__(self, app: ASGIApp, say: Say) -> None:
        self._app = app
        self._say = say

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status, size = monotonic(), 0, 0

        async def counted(message: Message) -> None:
            nonlocal status, size
            status = message.get("status", status)
            size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            target = scope.get("raw_path", b"")
            if scope["query_string"]:
                target += b"?" + scope["query_string"]
            shown = target.decode("ascii", "backslashreplace")
            milliseconds = 1000 * (monotonic() - start)
            self._say(f"{scope['method']} {shown} {status} {size:,} bytes {milliseconds:.0f} ms")
