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


_MOST_UNUSED = 100
_BY_URGENCY = (
    ExitCode.DATA,
    ExitCode.DAMAGED,
    ExitCode.CONTRADICTED,
    ExitCode.NOTHING,
    ExitCode.SOME_FAILED,
)


def say(text: str, err: bool = False) -> None:
    """Print a line without escape sequences; in ASCII if the terminal supports nothing else.

    Raises:
        OutputError: standard output cannot be written. Errors of standard error are ignored,
            since they cannot be reported.
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
    """Return an OutputError for standard output, and discard all further output."""
    _discard(sys.stdout)
    return OutputError(f"cannot write to standard output: {error.strerror}")


class Echo:
    """Prints the lines of a run, which continues if standard output fails.

    Attributes:
        error: why standard output could not be written, or None; also printed to standard error.
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

    Otherwise the next opened file would get the number of the stream and receive its text.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, "w", encoding="utf-8"))


def _discard(stream: TextIO) -> None:
    """Discard all further output of a stream, including the content of its buffer."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, stream.fileno())
    os.close(descriptor)


def say_json(document: object) -> None:
    """Print Python values as a JSON document."""
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
    """Print a line for each file that was not used, 100 at most, and return their exit code."""
    lines = list(lines)
    for line in lines[:_MOST_UNUSED]:
        say(f"vaebench: not used: {line}", err=True)
    if len(lines) > _MOST_UNUSED:
        say(f"vaebench: not used: {len(lines) - _MOST_UNUSED:,} more", err=True)
    return {ExitCode.DAMAGED} if lines else set()


def codes_of(summary: RunSummary | TimingSummary) -> set[ExitCode]:
    """Return the exit codes that apply to a run, without that of a signal."""
    codes = set()
    if summary.storage_error is not None or summary.damaged:
        codes.add(ExitCode.DAMAGED)
    if set(summary.states()) - {"done"}:
        codes.add(ExitCode.SOME_FAILED)
    return codes


def leave(codes: Collection[ExitCode], signal: int | None = None) -> None:
    """Exit with the most urgent of the given codes; return if there is none."""
    if signal is not None:
        sys.exit(ExitCode.SIGNAL + signal)
    for code in _BY_URGENCY:
        if code in codes:
            sys.exit(code)


def leave_unread() -> NoReturn:
    """Exit after the reader of a pipe has closed it, as in ``vaebench list axes | head``."""
    _discard(sys.stdout)
    sys.exit(ExitCode.BROKEN_PIPE)
