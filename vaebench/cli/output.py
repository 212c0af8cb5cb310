"""Output that all commands share: lines, JSON, unused files, and the exit code."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, NoReturn, TextIO

import click

from vaebench.errors import ExitCode, OutputError
from vaebench.grid.values import plain
from vaebench.system.terminal import printable

if TYPE_CHECKING:
    import pandas as pd

    from vaebench.runner.run import RunSummary
    from vaebench.runner.timing import TimingSummary


_BY_URGENCY = (
    ExitCode.DATA,
    ExitCode.DAMAGED,
    ExitCode.CONTRADICTED,
    ExitCode.NOTHING,
    ExitCode.SOME_FAILED,
)


def say(text: str, err: bool = False) -> None:
    """Print a line without escape sequences, in ASCII where the terminal has no more.

    Raises:
        OutputError: standard output cannot be written. Standard error that cannot be written is
            no error, since nothing could report it.
    """
    try:
        click.echo(printable(text), err=err)
    except BrokenPipeError:
        leave_unread()
    except OSError as error:
        if err:
            _discard(sys.stderr)
        else:
            raise unwritten(error) from error


def unwritten(error: OSError) -> OutputError:
    """Return the error of a standard output that cannot be written, and give up the rest of it."""
    _discard(sys.stdout)
    return OutputError(f"cannot write to standard output: {error.strerror}")


class Echo:
    """Prints the lines of a run; standard output that fails does not end the run.

    Attributes:
        error: why standard output could not be written, or None. It was printed to standard error.
    """

    def __init__(self, err: bool = False) -> None:
        self._err = err
        self.error: OutputError | None = None

    def __call__(self, text: str) -> None:
        try:
            say(text, err=self._err)
        except OutputError as error:
            self.error = error
            say(f"vaebench: {error}; the run continues", err=True)


def open_closed_streams() -> None:
    """Open the null device for each standard stream that the caller closed, as with ``2>&-``.

    Otherwise the next file would get its number, and text meant for the stream.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, "w", encoding="utf-8"))


def _discard(stream: TextIO) -> None:
    """Send the rest of a stream nowhere, also what its buffer still holds."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, stream.fileno())
    os.close(descriptor)


def say_json(document: object) -> None:
    """Print a JSON document of Python values."""
    say(json.dumps(document, indent=2, allow_nan=False))


def json_rows(frame: pd.DataFrame) -> list[dict[str, object]]:
    """Return the rows of a frame as Python values, without missing entries (None and nan)."""
    return [
        {
            str(name): plain(value)
            for name, value in row.items()
            if value is not None and value == value
        }
        for row in frame.to_dict("records")
    ]


def say_unused(lines: Iterable[str]) -> set[ExitCode]:
    """Name every file that was not used; return the exit code that applies if there is one."""
    lines = list(lines)
    for line in lines:
        say(f"vaebench: not used: {line}", err=True)
    return {ExitCode.DAMAGED} if lines else set()


def codes_of(summary: RunSummary | TimingSummary) -> set[ExitCode]:
    """Return the exit codes that apply to a run, apart from that of a signal."""
    codes = set()
    if summary.storage_error is not None or summary.damaged:
        codes.add(ExitCode.DAMAGED)
    if set(summary.states()) - {"done"}:
        codes.add(ExitCode.SOME_FAILED)
    return codes


def leave(codes: Collection[ExitCode], signal: int | None = None) -> None:
    """End the program with the most urgent of the exit codes that apply; return if none does."""
    if signal is not None:
        sys.exit(ExitCode.SIGNAL + signal)
    for code in _BY_URGENCY:
        if code in codes:
            sys.exit(code)


def leave_unread() -> NoReturn:
    """End the program after the reader of its output left, as in ``vaebench list axes | head``."""
    _discard(sys.stdout)
    sys.exit(ExitCode.BROKEN_PIPE)
