"""The application at an address, until a signal ends it."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp
from typing_extensions import override

from mroi.errors import UsageError

__all__ = ["Address", "listen", "run"]

_PATIENCE = 5  # seconds that answers have to end, once the server shall


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens.

    Attributes
    ----------
    socket : socket
        Bound, and listening.
    url : str
        Of the server.
    is_loopback : bool
        Whether only this machine reaches it.
    """

    socket: socket.socket
    url: str
    is_loopback: bool

    def hosts(self, host: str) -> frozenset[str] | None:
        """Return the names it may be called by, None for any: see `is_allowed_host`."""
        if not self.is_loopback:
            return None
        return frozenset({"localhost", "127.0.0.1", "::1", host.lower()})


def listen(host: str, port: int) -> Address:
    """Start to listen.

    Parameters
    ----------
    host : str
        Name or number of an interface.
    port : int
        0 takes one that is free.

    Raises
    ------
    UsageError
        If that is not possible.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, place = found[0]
        made = socket.create_server(place[:2], family=family)
    except (OSError, UnicodeError, OverflowError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise UsageError(f"cannot listen at {host}, port {port}: {reason}") from exc
    # Said to be TCP, or asyncio lets the end of each answer wait for an acknowledgement, 40 ms.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=made.detach())
    number, real = bound.getsockname()[:2]
    shown = f"[{number}]" if ":" in number else number
    is_loopback = ipaddress.ip_address(number.partition("%")[0]).is_loopback
    return Address(bound, f"http://{shown}:{real}/", is_loopback)


def run(app: ASGIApp, address: Address, started: Callable[[], object]) -> None:
    """Answer requests until SIGINT or SIGTERM; what is being sent then has some seconds to end.

    Parameters
    ----------
    app : ASGI application
        What answers.
    address : Address
        Where; closed afterwards.
    started : callable
        Called once requests are answered.
    """

    class Server(uvicorn.Server):
        @override
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started()

    # Answers that fail midway are not finished, on purpose, and were complained of already.
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_PATIENCE,
        h11_max_incomplete_event_size=1 << 16,
    )
    with address.socket:
        Server(config).run(sockets=[address.socket])


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("ASGI callable returned without completing")
