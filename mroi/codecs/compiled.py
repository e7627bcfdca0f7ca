"""Compilation of the kernels of codecs: by numba, on the user's machine, once.

What is compiled is kept in the user's cache, where all virtual environments with the same sources
and the same numba find it (``NUMBA_CACHE_DIR`` names another folder). Where nothing can be kept,
each process compiles. The folder may be deleted at any time.

Kernels are called from Python and kept; steps are parts of kernels, compiled with them.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numba
import numba.core.caching
import numba.core.runtime.nrt
import numpy as np
from numba.core import event
from typing_extensions import override

__all__ = ["Integer", "inlined", "kernel", "part", "reordering_step", "step"]

_LOG = logging.getLogger("mroi.codecs")

Integer = int | np.integer[Any]
"""In a tuple that kernels make."""

_njit: Any = numba.njit
_caching: Any = numba.core.caching  # untyped; numba offers no other way to name a folder
_runtime: Any = numba.core.runtime.nrt.rtsys
_WITHIN = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # nothing else calls it
_BORROWING = {**_WITHIN, "_nrt": False}  # no references are counted: that would take most time


def kernel(function: Callable[..., Any]) -> Any:  # numba has no type for it
    """Return `function` compiled when first called: integers as written, without the GIL."""
    dispatcher = _njit(nogil=True)(function)
    try:
        dispatcher._cache = _Kept(function)  # noqa: SLF001  # what its `enable_caching` does
    except (RuntimeError, OSError):
        _LOG.debug("there is no folder to keep what is compiled")
    return dispatcher


def step(function: Callable[..., Any]) -> Any:
    """Return `function` as a step of kernels. It makes no array, and returns none."""
    return _njit(**_BORROWING)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Return `function` as a step that becomes part of each kernel: a call has its price."""
    return _njit(forceinline=True, **_BORROWING)(function)


def reordering_step(function: Callable[..., Any]) -> Any:
    """Return `function` as a step whose sums of floats are added in any order."""
    return _njit(fastmath={"reassoc", "nsz", "contract"}, **_BORROWING)(function)


def part(function: Callable[..., Any]) -> Any:
    """Return `function` to be written into the kernel or step that calls it, once.

    It may make arrays if its caller may. Being compiled with its caller alone, it takes less time
    to compile than a step.
    """
    return _njit(inline="always")(function)


# --- what is kept ---


@cache
def _fingerprint(path: str) -> str:
    """Return what the compiler is, and the sources of its family, which a kernel may call."""
    codecs, kernel = Path(__file__).parent, Path(path)
    is_ours = kernel.is_relative_to(codecs)
    family = codecs / kernel.relative_to(codecs).parts[0] if is_ours else codecs
    digest = hashlib.sha256(f"{version('numba')} {version('llvmlite')}".encode())
    shared = codecs / "calv" / "coder.py"
    for source in (Path(__file__), shared, *sorted(family.rglob("*.py")), kernel):
        digest.update(hashlib.sha256(source.read_bytes()).digest())
    return digest.hexdigest()[:16]


class _Folder(_caching._CacheLocator):  # type: ignore[misc]  # noqa: SLF001
    """Where a kernel is kept: the sources are in the name, so what lies there is never stale."""

    def __init__(self, function: Callable[..., Any], path: str) -> None:
        self._py_file = path  # numba names it where a kernel cannot be kept
        self._line = function.__code__.co_firstlineno
        self._stamp = _fingerprint(path)

    @override
    def get_cache_path(self) -> str:
        chosen = os.environ.get("NUMBA_CACHE_DIR")
        if chosen:
            return str(Path(chosen) / f"mroi-{self._stamp}")
        from platformdirs import user_cache_path

        return str(user_cache_path("mroi") / f"kernels-{self._stamp}")

    @override
    def get_source_stamp(self) -> str:
        return self._stamp

    @override
    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    @override
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> _Folder | None:
        try:
            folder = cls(py_func, py_file)
            folder.ensure_cache_path()
        except OSError:  # there is no source, or no place to write
            return None
        return folder


class _Reduced(_caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (_Folder,)


class _Kept(_caching.FunctionCache):  # type: ignore[misc]
    """What is kept of a kernel. What cannot be read or written is compiled, nothing else."""

    _impl_class = _Reduced

    @override
    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            # Not what the method overridden does first: only compiling needs all that numba has,
            # and to import it takes longer than all else.
            _runtime.initialize(target_context)
            return self._load_overload(sig, target_context)
        except Exception as exc:  # noqa: BLE001  # pickle raises anything on damaged files
            _LOG.debug("cannot read what is kept in %s: %s", self.cache_path, exc)
            with suppress(OSError):
                self.flush()
            return None

    @override
    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as exc:  # a full disk
            _LOG.debug("cannot keep what is compiled in %s: %s", self.cache_path, exc)


class _Announcement(event.Listener):
    """Says once that something is being compiled, which takes seconds."""

    def __init__(self) -> None:
        self._said = False

    @override
    def on_start(self, event: event.Event) -> None:
        ours = event.data["dispatcher"].py_func.__module__.startswith("mroi.codecs.")
        if ours and not self._said:
            self._said = True
            _LOG.info("preparing the codec, which takes some 10 seconds, once")

    @override
    def on_end(self, event: event.Event) -> None:
        pass


event.register("numba:compile", _Announcement())  # type: ignore[no-untyped-call]
