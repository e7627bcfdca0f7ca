"""Compilation of the kernels of calv: by numba, on the user's machine, once.

What is compiled is cached on disk beside this package, or, where that cannot be written, in
numba's own folder of the user. Where that cannot be written either it is compiled in each process.
A kernel is compiled again when its own file has changed, not when one that it calls has: delete
``__pycache__`` after a change to `coder`, `fitting`, `lanes`, `planes` or `regression`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numba
from numba.core import event
from typing_extensions import override

__all__ = ["inlined", "kernel", "reordering_kernel"]

_LOG = logging.getLogger("mroi.calv")


def kernel(function: Callable[..., Any]) -> Any:  # numba has no type for it
    """Return `function` compiled when first called: integers as written, without the GIL."""
    return _compiled(function)


def reordering_kernel(function: Callable[..., Any]) -> Any:
    """Return `function` compiled like a kernel, but sums of floats are added in any order."""
    return _compiled(function, fastmath={"reassoc", "nsz", "contract"})


def inlined(function: Callable[..., Any]) -> Any:
    """Return `function` to be made part of each kernel that calls it: a call has its price."""
    return numba.njit(forceinline=True)(function)


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    try:
        return numba.njit(cache=True, nogil=True, **options)(function)
    except (RuntimeError, OSError):  # there is no folder to cache in
        return numba.njit(nogil=True, **options)(function)


class _Announcement(event.Listener):
    """Says once that something is being compiled, which takes seconds."""

    def __init__(self) -> None:
        self._said = False

    @override
    def on_start(self, event: event.Event) -> None:
        ours = event.data["dispatcher"].py_func.__module__.startswith("mroi.codecs.calv")
        if ours and not self._said:
            self._said = True
            _LOG.info("preparing the codec, which takes some 10 seconds, once")

    @override
    def on_end(self, event: event.Event) -> None:
        pass


event.register("numba:compile", _Announcement())  # type: ignore[no-untyped-call]
