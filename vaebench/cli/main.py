"""The command line. Each command imports the modules that it needs when it is called."""

from __future__ import annotations

import errno
import io
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import click

from vaebench import __version__
from vaebench.cli.advise import advise
from vaebench.cli.audit import audit
from vaebench.cli.compare import compare
from vaebench.cli.data import data
from vaebench.cli.doctor import doctor
from vaebench.cli.encode import encode
from vaebench.cli.evaluate import evaluate
from vaebench.cli.export import export
from vaebench.cli.listing import list_
from vaebench.cli.merge import merge
from vaebench.cli.options import Group
from vaebench.cli.output import leave_unread, open_closed_streams, say, unwritten
from vaebench.cli.report import report
from vaebench.cli.reproduce import reproduce
from vaebench.cli.run import run
from vaebench.cli.show import show
from vaebench.cli.time_steps import time_command
from vaebench.errors import ExitCode, UsageError, VaebenchError, exit_code_of
from vaebench.system.terminal import adapt

_OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vaebench")
def cli() -> None:
    """Measure the effect of the design choices of a variational autoencoder (VAE).

    Start with `vaebench run`: it trains a small grid on images that need no download, and prints a
    table and writes a report. `vaebench list grids` lists the other grids, `vaebench list axes`
    the choices that can be varied, and `vaebench run --help` explains a command.
    """


for _command in (
    *(run, advise, report, compare, evaluate, encode, export, merge, reproduce, time_command),
    *(list_, show, data, doctor, audit),
):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the program with one of the documented exit codes."""
    open_closed_streams()
    adapt((sys.stdout, sys.stderr))
    try:
        _require_working_folder()
        with _leaving_on_signals():
            cli.main(arguments, prog_name="vaebench", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except (click.Abort, KeyboardInterrupt, _Terminated) as stop:
        say("vaebench: stopped", err=True)
        number = signal.SIGTERM if isinstance(stop, _Terminated) else signal.SIGINT
        sys.exit(ExitCode.SIGNAL + number)
    except click.ClickException as error:
        shown = io.StringIO()
        if isinstance(error, click.UsageError) and error.ctx is not None:
            error.ctx.color = True  # else click removes the escape sequences that `say` shows
        error.show(shown)
        say(shown.getvalue().rstrip("\n"), err=True)
        sys.exit(ExitCode.USAGE)
    except BrokenPipeError:
        leave_unread()
    except Exception as error:
        if isinstance(error, OSError) and error.filename is None and error.errno in _OUTPUT_ERRORS:
            error = unwritten(error)  # click prints help texts itself
        code = exit_code_of(error)
        if code is None:
            raise
        text = str(error)
        if isinstance(error, OSError) and not isinstance(error, VaebenchError) and error.filename:
            text = f"{error.filename}: {error.strerror}"
        say(f"vaebench: {text}", err=True)
        sys.exit(code)
    sys.exit(0)


def _require_working_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError as error:
        told = "the working folder no longer exists: change to another folder"
        raise UsageError(told) from error


class _Terminated(BaseException):
    """SIGTERM or SIGHUP; no SystemExit, which could also come from a function of the user."""


@contextmanager
def _leaving_on_signals() -> Iterator[None]:
    """Exit with the code of a signal on SIGTERM and SIGHUP; a run replaces these handlers."""

    def leave(*_: object) -> NoReturn:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
