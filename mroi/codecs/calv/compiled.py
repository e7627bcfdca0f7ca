"""Compilation of the kernels of calv: by numba, on the user's machine, once.

What is compiled is cached on disk beside this package, or, where that cannot be written, in
numba's own folder of the user. Where that cannot be written either it is compiled in each process.
A kernel is compiled again when its own file has changed, not when one that it calls has: delete
``__pycache__`` after a change to `coder` or `planes`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numba
from numba.core import event
from typing_extensions import override

__all__ = ["kernel"]

_LOG = logging.getLogger("mroi.calv")


def kernel(function: Callable[..., Any]) -> Any:  # numba has no type for it
    """Return `function` compiled when first called: integers as written, without the GIL."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except (RuntimeError, OSError):  # there is no folder to cache in
        return numba.njit(nogil=True)(function)


class _Announcement(event.Listener):
    """Says once that something is being compiled, which takes seconds."""

    def __init__(self) -> None:
        self._said = False

    @override
    def on_start(self, event: event.Event) -> None:
        ours = event.data["dispatcher"].py_func.__module__.startswith("mroi.codecs.calv")
        if ours and not self._said:
            self._said = True
            _LOG.info("preparing the calv codec (first run only)")

    @override
    def on_end(self, event: event.Event) -> None:
        pass


event.register("numba:compile", _Announcement())  # type: ignore[no-untyped-call]
