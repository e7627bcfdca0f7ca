"""Foreign code is trusted with nothing: whatever it raises becomes an error of ours."""

from __future__ import annotations

from mroi.errors import CodecError, MroiError, Terminated

__all__ = ["guarded"]


class guarded:  # noqa: N801 (callers write it like a function)
    """Turn whatever a codec raises, even `SystemExit` or a panic, into an error of ours.

    A class, as a generator would take longer than what is guarded: some stand around each chunk.

    Parameters
    ----------
    name : str
        What the message begins with: the name of the codec.
    error : type of CodecError
        What to raise; an `MroiError` passes as it is, and so does `KeyboardInterrupt`.
    rule : str
        Rule of the specification that is broken, if any.
    """

    __slots__ = ("_error", "_name", "_rule")

    def __init__(self, name: str, error: type[CodecError] = CodecError, rule: str = "") -> None:
        self._name, self._error, self._rule = name, error, rule

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, exc: BaseException | None, _trace: object) -> None:
        if exc is not None and not isinstance(exc, MroiError | KeyboardInterrupt | Terminated):
            raise self._error(f"{self._name}: {exc!r}", self._rule) from exc
