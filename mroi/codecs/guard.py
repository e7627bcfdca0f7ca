"""Foreign code is trusted with nothing: whatever it raises becomes an error of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mroi.errors import CodecError, MroiError

__all__ = ["guarded"]


@contextmanager
def guarded(name: str, error: type[CodecError] = CodecError, rule: str = "") -> Iterator[None]:
    """Turn what the codec `name` raises, even `SystemExit` or a panic, into an `error`."""
    try:
        yield
    except (MroiError, KeyboardInterrupt):
        raise
    except BaseException as exc:
        raise error(f"{name}: {exc!r}", rule) from exc
