"""Foreign code is trusted with nothing: whatever it raises becomes an error of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mroi.errors import CodecError, MroiError, Terminated

__all__ = ["guarded"]


@contextmanager
def guarded(name: str, error: type[CodecError] = CodecError, rule: str = "") -> Iterator[None]:
    """Turn whatever a codec raises, even `SystemExit` or a panic, into an error of ours.

    Parameters
    ----------
    name : str
        What the message begins with: the name of the codec.
    error : type of CodecError
        What to raise; an `MroiError` passes as it is, and so does `KeyboardInterrupt`.
    rule : str
        Rule of the specification that is broken, if any.
    """
    try:
        yield
    except (MroiError, KeyboardInterrupt, Terminated):
        raise
    except BaseException as exc:
        raise error(f"{name}: {exc!r}", rule) from exc
