"""``mroi serve``: the files of a folder over HTTP."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Annotated

import typer

from mroi.batch.told import Outcome
from mroi.cli.options import Json, Quiet, Verbose
from mroi.cli.report import Report
from mroi.errors import Terminated, UsageError

EXAMPLES = """\
  mroi serve study/                        to programs on this machine, at port 8000
  mroi serve study/ --port 0 --json        at any port; the JSON line says which
  MROI_TOKEN=... mroi serve study/ --host 0.0.0.0
  curl -O localhost:8000/volumes/scan.mroi/slice/z/90.png
"""


def run(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Where the .mroi files are.")],
    *,
    host: Annotated[
        str, typer.Option(metavar="NAME", help="Where to listen; 0.0.0.0 is every interface.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="Which port; 0 takes a free one.")
    ] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="MROI_TOKEN",
            metavar="TEXT",
            help="What clients must send. Better in the environment, where others do not see it.",
        ),
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(
            "--cors", metavar="ORIGIN", help="Site whose pages may read, such as https://a.org."
        ),
    ] = None,
    max_size: Annotated[
        int,
        typer.Option(
            "--max-size", min=1, metavar="MB", help="MB of voxels that a request may ask for."
        ),
    ] = 256,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs", "-j", min=0, metavar="N", help="Requests at once; 0 takes the processors."
        ),
    ] = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json: Json = False,
) -> None:
    """Serve the files of a folder over HTTP, until Ctrl-C or SIGTERM.

    Slices, patches and time series, as pictures and as numbers, NIfTI images, what `mroi info`
    says, and ranges of the files themselves. Only this machine is answered, unless --host says
    otherwise; then give a token, and put a server before this one that speaks TLS.
    """
    for module in ("starlette", "uvicorn"):
        if find_spec(module) is None:
            raise UsageError(f"{module} is not installed: pip install 'mroi[serve]'")
    from mroi.serve.app import make_app
    from mroi.serve.server import listen
    from mroi.serve.server import run as serve

    report = Report("serve", json=json, quiet=quiet, verbose=verbose)
    address = listen(host, port)
    with address.socket:
        app = make_app(
            folder,
            token=token,
            origins=cors or (),
            hosts=address.hosts(host),
            most=max_size * 10**6,
            threads=jobs or os.cpu_count() or 1,
            access=report.detail if verbose else None,
            complain=lambda text: report.say(f"mroi: {text}"),
        )
        if token is None and not address.is_loopback:
            report.warn("warning", "every machine that reaches this one can read; see --token")
        text = f"{folder} -> {address.url}  (Ctrl-C ends it)"
        record = {"folder": folder, "url": address.url, "token": token is not None}
        try:
            serve(app, address, lambda: report.tell(Outcome(record, text)))
        except (KeyboardInterrupt, Terminated):
            report.detail("ended")
