"""Every exception that mroi raises on purpose.

MroiError
  FormatError              the bytes break a numbered rule of the specification
    TruncatedError         the bytes end before the structure they promise
    ChecksumError          the bytes are not those that were written
    LimitError             legal, but larger than the caller agreed to read
  CodecError               a codec cannot be found, built or applied
    CodecUnavailableError  the file is fine, the codec is not installed
    DecodeError            a payload, or a parameter in the file, is not what its codec defines
  MissingVoxelsError       the file says that these voxels are not in it
  SourceError              an input (NIfTI, DICOM, mask, box) cannot be taken as it is
  UsageError               the caller broke the order or the meaning of calls
  WorkerError              a process that worked on a file ended before it was done

`Terminated` is none of these: a signal ended the program, which is nobody's error.

`MroiError.rule` is the id of the broken rule in ``spec/mroi-1.md`` ("" where no rule of the
format is concerned); `MroiError.offset` is the byte of the file it was found at, or None.
"""

from __future__ import annotations

from typing_extensions import override

__all__ = [
    "ChecksumError",
    "CodecError",
    "CodecUnavailableError",
    "DecodeError",
    "FormatError",
    "LimitError",
    "MissingVoxelsError",
    "MroiError",
    "SourceError",
    "Terminated",
    "TruncatedError",
    "UsageError",
    "WorkerError",
]


class Terminated(SystemExit):
    """A signal such as SIGTERM asked the program to end; nothing may take it for an error."""


class MroiError(Exception):
    """Base of all errors raised on purpose."""

    def __init__(self, message: str, rule: str = "", offset: int | None = None) -> None:
        super().__init__(
            message, rule, offset
        )  # args equal the signature, so errors can be pickled
        self.message = message
        self.rule = rule
        self.offset = offset

    @override
    def __str__(self) -> str:
        place = "" if self.offset is None else f" at byte {self.offset:,}"
        rule = f" [{self.rule}]" if self.rule else ""
        return f"{self.message}{place}{rule}"


class FormatError(MroiError):
    """The bytes break a numbered rule of the specification."""


class TruncatedError(FormatError):
    """The bytes end before the structure they promise."""


class ChecksumError(FormatError):
    """The bytes are not those that were written."""


class LimitError(FormatError):
    """The file is legal, but larger than the caller agreed to read."""


class CodecError(MroiError):
    """A codec cannot be found, built or applied."""


class CodecUnavailableError(CodecError):
    """The file is fine, but the codec it needs is not installed."""


class DecodeError(CodecError):
    """What a file holds for a codec, its parameters or a payload, is not what the codec defines."""


class MissingVoxelsError(MroiError):
    """The file says that these voxels are not in it."""


class SourceError(MroiError):
    """An input (NIfTI, DICOM, mask, box) cannot be taken as it is."""


class UsageError(MroiError):
    """The caller broke the order or the meaning of calls."""


class WorkerError(MroiError):
    """A process that worked on a file ended before it was done."""
