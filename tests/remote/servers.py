"""Servers for tests: real ones, on this machine, that do to each connection what they are told."""

from __future__ import annotations

import re
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import numpy as np

DATA = np.random.default_rng(0).bytes(300_000)
CLOSE = "close"


class Line:
    """One connection, seen from the server: what was asked for, and ways to answer."""

    def __init__(self, handler: socketserver.StreamRequestHandler) -> None:
        self.server = handler.server
        self.handler = handler
        self.start, self.stop = 0, len(DATA)
        self.method, self.path = "", ""

    def receive(self) -> bool:
        """Take a request; False if the other side has left."""
        lines = []
        while (line := self.handler.rfile.readline()) not in (b"", b"\r\n"):
            lines.append(line.decode())
        if not lines:
            return False
        self.method, target, _ = lines[0].split()
        self.path = unquote(target.partition("?")[0]).lstrip("/")
        wanted = re.search(r"range: bytes=(\d+)-(\d+)", "".join(lines), re.IGNORECASE)
        if wanted:
            self.start, self.stop = int(wanted[1]), int(wanted[2]) + 1
        self.server.asked.append((self.method, self.start, self.stop))
        return True

    def send(self, data: bytes) -> None:
        self.handler.wfile.write(data)
        self.server.sent += len(data)

    def head(self, status: str, **fields: object) -> None:
        lines = [f"HTTP/1.1 {status}", *(f"{k.replace('_', '-')}: {v}" for k, v in fields.items())]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def part(self, data: bytes = DATA, **changed: object) -> None:
        """Answer as a good server does, but for what is changed."""
        body = data[self.start : self.stop]
        if not body:
            self.head("416 Out", Content_Range=f"bytes */{len(data)}", Content_Length=0)
            return
        last = self.start + len(body) - 1
        fields = {
            "Content_Range": f"bytes {self.start}-{last}/{len(data)}",
            "Content_Length": len(body),
            **changed,
        }
        self.head("206 Partial Content", **{k: v for k, v in fields.items() if v is not None})
        self.send(body)


class Server(socketserver.ThreadingTCPServer):
    """Does to each connection what it is told to."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, behave: Callable[[Line], object]) -> None:
        self.asked: list[tuple[str, int, int]] = []
        self.sent = 0

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                line = Line(self)
                try:
                    while line.receive() and behave(line) is None:
                        pass
                except OSError:  # the other side has left
                    pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{self.root}/scan.mroi"


Start = Callable[[Callable[[Line], object]], Server]


@contextmanager
def running() -> Iterator[Start]:
    """Give a way to start servers, which end afterwards."""
    started = []

    def begin(behave: Callable[[Line], object]) -> Server:
        server = Server(behave)
        thread = threading.Thread(target=server.serve_forever, args=[0.05], daemon=True)
        thread.start()
        started.append((server, thread))
        return server

    yield begin
    for server, thread in started:
        server.shutdown()
        thread.join()
        server.server_close()


def whole(line: Line) -> str:
    """Answer as the simplest servers do: with the whole file, whatever was asked for."""
    line.head("200 OK", Content_Length=len(DATA))
    if line.method == "GET":
        line.send(DATA)
    return CLOSE


def files(line: Line) -> None:
    """Answer with ranges of the files of the folder one is in."""
    path = Path(line.path)
    if path.is_file():
        line.part(path.read_bytes())
    else:
        line.head("404 Not Found", Content_Length=0)
