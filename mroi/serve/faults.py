"""What an error is to a client: a status and an object for JSON."""

from __future__ import annotations

from http import HTTPStatus

from mroi.errors import CodecUnavailableError, MroiError, UsageError

__all__ = ["RefusedError", "fault_of"]


class RefusedError(MroiError):
    """A request that is not done, and the status that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.args = (status, message)
        self.status = status


def fault_of(error: Exception, root: str = "") -> tuple[int, dict[str, object]]:
    """Return the status of an error, and what a client is told of it.

    Parameters
    ----------
    error : Exception
        Of any kind; nothing is told of one that nobody expected.
    root : str
        The folder that is served, with a separator behind it: left out of messages.

    Returns
    -------
    int
        400 for a request that makes no sense, 404 for what is not there, 422 for what this file
        cannot give (it is damaged, lacks voxels, or holds more than the limits allow), 501 for a
        codec that is not installed, 503 where memory is short, 500 for the rest.
    dict
        ``status``, ``message``, and for errors of mroi ``rule`` and ``offset``.
    """
    status, message = _status_of(error)
    record: dict[str, object] = {"status": status, "message": message}
    if isinstance(error, MroiError):
        record |= {"rule": error.rule or None, "offset": error.offset}
    if root:
        record["message"] = message.replace(root, "")
    return status, record


def _status_of(error: Exception) -> tuple[int, str]:
    match error:
        case RefusedError():
            return error.status, error.message
        case UsageError():
            return HTTPStatus.BAD_REQUEST, error.message
        case CodecUnavailableError():
            return HTTPStatus.NOT_IMPLEMENTED, error.message
        case MroiError():
            return HTTPStatus.UNPROCESSABLE_ENTITY, error.message
        case IndexError():
            return HTTPStatus.NOT_FOUND, str(error)
        case MemoryError():
            return HTTPStatus.SERVICE_UNAVAILABLE, "not enough memory: ask for less"
        case OSError():
            reason = error.strerror or type(error).__name__
            return HTTPStatus.INTERNAL_SERVER_ERROR, f"the file cannot be read: {reason}"
        case _:
            return HTTPStatus.INTERNAL_SERVER_ERROR, "a fault of the server, which its log explains"
