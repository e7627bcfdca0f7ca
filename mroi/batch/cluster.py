"""A cluster of dask.distributed as an executor."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from mroi.errors import UsageError

__all__ = ["connect"]

_SECONDS = 20


@contextmanager
def connect(address: str) -> Iterator[Executor]:
    """Give an executor whose calls run on the workers of a cluster.

    They have to see the files under the names that they have here. A call whose worker is lost is
    made again by another one, three times by default.

    Parameters
    ----------
    address : str
        Of its scheduler, like ``tcp://10.0.0.1:8786``; or the name of a file that it wrote, see
        ``dask scheduler --scheduler-file``.

    Raises
    ------
    UsageError
        If dask.distributed is not installed (extra ``dask``), or no scheduler answers.
    """
    try:
        import distributed
    except ModuleNotFoundError as exc:
        raise UsageError(f"{exc.name} is not installed: pip install 'mroi[dask]'") from exc
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what is lost, results say
    make: Any = distributed.Client
    where: dict[str, Any] = (
        {"address": address} if "://" in address else {"scheduler_file": address}
    )
    try:
        client = make(**where, timeout=_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as exc:
        raise UsageError(f"no dask scheduler at {address}: {exc}") from exc
    try:
        executor = client.get_executor(pure=False)
        try:
            yield executor
        finally:
            executor.shutdown(wait=False)
    finally:
        client.close()
