"""What can go wrong, each with the exit code of the BIDS execution specification.

Every message is one line that names the file or option at fault and what to do about it.
"""

import re
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the ``rela_bids`` command."""

    OK = 0
    SESSION_FAILED = 1
    INVALID_DATASET = 16
    NOTHING_MATCHED = 18
    USAGE = 64
    BAD_DATA = 65
    MISSING_INPUT = 66
    BUG = 70
    CANNOT_WRITE = 73


class RelaBidsError(Exception):
    """Base of all errors that are a user's to mend; one line, also if it quotes a library's."""

    exit_code = ExitCode.BUG

    def __str__(self) -> str:
        """The message without line breaks."""
        return re.sub(r"\s*[\r\n]\s*", " ", super().__str__())


class UsageError(RelaBidsError):
    """Options that contradict each other or name something that does not exist."""

    exit_code = ExitCode.USAGE


class InvalidDatasetError(RelaBidsError):
    """The input folder is not a BIDS dataset."""

    exit_code = ExitCode.INVALID_DATASET


class NothingMatchedError(RelaBidsError):
    """The labels or filters leave no session to process."""

    exit_code = ExitCode.NOTHING_MATCHED


class BadDataError(RelaBidsError):
    """A file was read and what it holds cannot be used."""

    exit_code = ExitCode.BAD_DATA


class MissingInputError(RelaBidsError):
    """A file that is needed is not there."""

    exit_code = ExitCode.MISSING_INPUT


class CannotWriteError(RelaBidsError):
    """An output or work folder cannot be written."""

    exit_code = ExitCode.CANNOT_WRITE
