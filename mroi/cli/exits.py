"""Exit codes: what a script can tell from `$?`.

Documented in ``mroi --help``; the numbers never change their meaning.
"""

from __future__ import annotations

from enum import IntEnum

from mroi.errors import (
    CodecUnavailableError,
    DecodeError,
    FormatError,
    MissingVoxelsError,
    SourceError,
    UsageError,
)

__all__ = ["ExitCode", "code_of"]


class ExitCode(IntEnum):
    """What became of a command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_INPUT = 3
    DAMAGED = 4
    NO_CODEC = 5
    NO_OUTPUT = 6
    SOME_FAILED = 8
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143

    @property
    def meaning(self) -> str:
        """The line of the documentation."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.OK: "all went well",
    ExitCode.FAILED: "failed: another reason, or several reasons",
    ExitCode.USAGE: "wrong arguments",
    ExitCode.NO_INPUT: "an input does not exist, cannot be read or is no image",
    ExitCode.DAMAGED: "a file is damaged, is no valid .mroi file, lacks voxels that are asked for, "
    "or is not equal to its source",
    ExitCode.NO_CODEC: "the codec of a file is not installed",
    ExitCode.NO_OUTPUT: "an output exists already or cannot be written",
    ExitCode.SOME_FAILED: "some files failed, others did not",
    ExitCode.HUNG_UP: "the terminal was closed (SIGHUP)",
    ExitCode.INTERRUPTED: "interrupted (SIGINT)",
    ExitCode.TERMINATED: "terminated (SIGTERM)",
}


def code_of(error: Exception, source: str) -> ExitCode:
    """Return the code for an error that occurred while working on `source`."""
    match error:
        case CodecUnavailableError():
            return ExitCode.NO_CODEC
        case FormatError() | DecodeError() | MissingVoxelsError():
            return ExitCode.DAMAGED
        case SourceError():
            return ExitCode.NO_INPUT
        case UsageError():
            return ExitCode.USAGE
        case OSError() if error.filename is not None and str(error.filename) == source:
            return ExitCode.NO_INPUT
        case OSError():
            return ExitCode.NO_OUTPUT
        case _:
            return ExitCode.FAILED
