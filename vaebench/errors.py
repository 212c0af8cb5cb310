"""The errors of vaebench, each with the exit code of the command line."""

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import ClassVar


class ExitCode(IntEnum):
    """The exit codes of the command line, which scripts rely on."""

    SOME_FAILED = 1
    USAGE = 2
    DATA = 3
    DAMAGED = 4
    NOTHING = 5
    CONTRADICTED = 6
    BUSY = 75
    SIGNAL = 128
    """The number of the signal is added to this code."""
    BROKEN_PIPE = 141


class VaebenchError(Exception):
    """Base class of the errors that end a command with a message instead of a traceback."""

    exit_code: ClassVar[ExitCode]


class UsageError(VaebenchError, ValueError):
    """A request is not valid; nothing was started."""

    exit_code = ExitCode.USAGE


# Grids and user code


@dataclass(frozen=True)
class Problem:
    """One problem in a grid file.

    Attributes:
        path: the key with the problem, for example ``axes.latent_dim[2]``.
        message: the rule and the value that breaks it.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class GridError(UsageError):
    """A grid is not valid; `problems` lists every problem in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class WrongStep(UsageError):
    """A training step cannot be timed: `axis` is a field of `TimedStep`, `why` the reason."""

    def __init__(self, axis: str, why: str) -> None:
        super().__init__(f"{axis}: {why}")
        self.axis, self.why = axis, why


class UserCodeError(UsageError):
    """A user's function cannot be imported by the given name."""


# Data


class DataMissing(VaebenchError):
    """The data were not found in the folders that were searched."""

    exit_code = ExitCode.DATA


class DataInvalid(VaebenchError):
    """The data were found but cannot be used; the message says what is wrong and where."""

    exit_code = ExitCode.DATA


# Runs and stores


class EngineError(VaebenchError):
    """Workers cannot be started; the message says why and what to do."""

    exit_code = ExitCode.USAGE


class WorkerStartError(EngineError):
    """Local workers ended while they started, for example because memory was full."""

    exit_code = ExitCode.SOME_FAILED


class StoreBusy(VaebenchError, RuntimeError):
    """Another process is writing to the store; `holder` is its process id, if known."""

    exit_code = ExitCode.BUSY

    def __init__(self, root: Path, holder: int | None) -> None:
        self.root, self.holder = root, holder
        who = "another process" if holder is None else f"process {holder}"
        super().__init__(
            f"{root} is in use by {who}; only one process may write to a store. "
            f"Wait for it with --wait, or choose another folder."
        )


class StorageError(VaebenchError, OSError):
    """A file operation of a store failed."""

    exit_code = ExitCode.USAGE

    def __str__(self) -> str:
        return f"{self.strerror}: {self.filename}"


class RecordMissing(VaebenchError, LookupError):
    """The store has no record with this name."""

    exit_code = ExitCode.USAGE


class WeightsMissing(VaebenchError, LookupError):
    """The weights of a cell were not kept, or were deleted."""

    exit_code = ExitCode.USAGE


class RecordError(VaebenchError, ValueError):
    """A file is not a valid record; the message says why."""

    exit_code = ExitCode.DAMAGED


class RecordDamaged(RecordError):
    """A record is incomplete or empty, has changed bits, or misses fields."""


class RecordEdited(RecordError):
    """A record was edited after it was written: its checksum does not match."""


class NewerSchema(RecordError):
    """A record was written by a newer version of vaebench; it is not changed."""


class ArraysDamaged(RecordDamaged):
    """The arrays of a record are missing, differ from their checksum, or are not plain numbers."""


class BundleDamaged(VaebenchError, ValueError):
    """A file that is not a whole bundle of a store; the message says why."""

    exit_code = ExitCode.DAMAGED


class OutputError(VaebenchError):
    """Standard output cannot be written, for example because the disk is full."""

    exit_code = ExitCode.SOME_FAILED


# Results


class NotComparable(UsageError):
    """Records must not be compared with each other; the message says why."""


class NothingToReport(VaebenchError, RuntimeError):
    """There are no records for a report; the message says what to run."""

    exit_code = ExitCode.NOTHING


class OnlyDamaged(NothingToReport):
    """There are records, but none can be used; the message says how many are damaged."""

    exit_code = ExitCode.DAMAGED


class UnknownFinding(UsageError):
    """No finding or family has this name; the message suggests the closest ones."""


class AuditError(UsageError):
    """A loss or its description cannot be audited; the message says why."""


def exit_code_of(error: BaseException) -> ExitCode | None:
    """Return the exit code of an error, or None if the error is a bug of the program.

    A file that cannot be read or written is a usage error; a full disk counts as a damaged
    store, because results could not be saved.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ExitCode.DAMAGED
    if isinstance(error, VaebenchError):
        return error.exit_code
    return ExitCode.USAGE if isinstance(error, OSError) else None


def error_text(error: BaseException) -> str:
    """Return the type and the message of an error of a user's code, whose message may fail too."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - whatever it is, the error is reported without a message
        message = "its message cannot be printed"
    return f"{type(error).__name__}: {message}"
