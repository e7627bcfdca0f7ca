"""A web server on this machine that answers ranges of files and counts requests and bytes."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

__all__ = ["Counts", "serve"]


@dataclass
class Counts:
    """What was asked since the counts were last set to 0.

    Attributes
    ----------
    url : str
        Of the folder.
    requests, bytes : int
        Of all methods; of bodies only.
    """

    url: str
    requests: int = 0
    bytes: int = 0

    def reset(self) -> None:
        """Begin again."""
        self.requests = self.bytes = 0


@contextmanager
def serve(folder: Path) -> Iterator[Counts]:
    """Serve the files of a folder."""
    counts = Counts("")
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            path = folder / unquote(self.path).lstrip("/")
            if not path.is_file():
                self._send(HTTPStatus.NOT_FOUND, b"", 0)
                return
            data, size = b"", path.stat().st_size
            wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            start, stop = 0, size
            if wanted and wanted[1]:
                start, stop = int(wanted[1]), min(int(wanted[2] or size - 1) + 1, size)
            elif wanted:
                start = max(size - int(wanted[2]), 0)
            if with_body:
                with path.open("rb") as file:
                    file.seek(start)
                    data = file.read(stop - start)
            status = HTTPStatus.PARTIAL_CONTENT if wanted else HTTPStatus.OK
            extra = {"Content-Range": f"bytes {start}-{stop - 1}/{size}"} if wanted else {}
            self._send(status, data, stop - start, extra)

        def _send(
            self, status: HTTPStatus, data: bytes, size: int, extra: dict[str, str] | None = None
        ) -> None:
            with lock:
                counts.requests += 1
                counts.bytes += len(data)
            self.send_response(status)
            for name, value in {"Accept-Ranges": "bytes", **(extra or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    counts.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield counts
    finally:
        server.shutdown()
        server.server_close()
