"""`vaebench time`: time training steps on CPU and GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vaebench.cli.options import (
    Command,
    Function,
    given_options,
    report_options,
    store_option,
    wait_option,
    whole_numbers,
)
from vaebench.cli.output import codes_of, leave, say, say_unused
from vaebench.errors import NothingToReport, WrongStep

if TYPE_CHECKING:
    from vaebench.runner.timing import TimingSummary


def _swept(option: str, parameter: str, about: str) -> Callable[[Function], Function]:
    return click.option(option, parameter, callback=whole_numbers, metavar="N[,N]", help=about)


@click.command("time", cls=Command, short_help="Time training steps on CPU and GPU.")
@store_option("results/time")
@click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="NAME[,NAME]",
    help="cpu, cuda, cuda:1 or mps; 'available' uses all devices [default].",
)
@_swept("--latent-dim", "latent_dims", "Latent dimensions to sweep.")
@_swept("--batch-size", "batch_sizes", "Batch sizes to sweep.")
@_swept("--width", "widths", "Widths of the hidden layer to sweep.")
@click.option(
    "--precision",
    default="float32",
    show_default=True,
    metavar="NAME[,NAME]",
    help="float32 or bfloat16; the sweep is repeated for each.",
)
@click.option(
    "--pack",
    "pack_sizes",
    callback=whole_numbers,
    default="1",
    show_default=True,
    metavar="N[,N]",
    help="Number of cells trained together; the sweep is repeated for each.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=4.0,
    show_default=True,
    help="Approximate duration of one timing, which has 10 to 2,000 steps.",
)
@click.option(
    "--steps", type=click.IntRange(10), help="Number of steps per timing, instead of --seconds."
)
@click.option(
    "--threads", type=click.IntRange(1), help="Number of torch threads [default: one per core]."
)
@click.option("--eager", is_flag=True, help="Time the uncompiled step that a short training uses.")
@click.option("--again", is_flag=True, help="Repeat timings that already have a record.")
@wait_option
@report_options("reports/STORE")
def time_command(
    output: Path | None,
    devices: tuple[str, ...],
    precision: str,
    no_report: bool,
    report_dir: Path | None,
    **options: Any,
) -> None:
    """Time training steps on CPU and GPU: median, spread, images per second, memory.

    The model is a Bernoulli VAE with one hidden layer. The images have MNIST's shape and are
    generated from a fixed seed, so no data are needed. Each timing runs alone in a new process,
    after a warm-up; the time of a step includes all work on the device. The timed step is the one
    that a long training uses: compiled on a CPU, captured as a CUDA graph on a GPU. The time to
    compile is recorded separately. --eager times the uncompiled step, which a short training uses.

    The sizes are swept one at a time through latent dimension 32, batch 128 and width 400.
    By default all three sizes are swept (2 to 10,000, 20 to 8,192, 100 to 1,600), which takes about
    five minutes per device on two cores. If sizes are given, only those are swept:

    vaebench time --device cpu,cuda --batch-size 20,128,1024,8192

    The spread is the interquartile range over blocks of steps divided by their median. A time with
    a spread above 10 % is marked as noisy; above 25 % none is given. If the command is repeated,
    only steps without a record are timed.
    """
    from vaebench.records.store import Store
    from vaebench.runner.timing import time_steps

    if {"--steps", "--seconds"} <= set(given_options()):
        raise click.UsageError(
            "--seconds cannot be used with --steps, both set the duration: remove one of them"
        )
    root = output or Path("results") / "time"
    named = tuple(name for text in devices for name in text.split(",")) or ("available",)
    try:
        summary = time_steps(
            root, devices=named, precisions=tuple(precision.split(",")), echo=say, **options
        )
    except WrongStep as error:
        option = "pack" if error.axis == "pack_size" else error.axis
        raise click.UsageError(f"--{option.replace('_', '-')}: {error.why}") from error
    _print_summary(summary, root)
    if summary.signal is None and not no_report and summary.storage_error is None:
        from vaebench.report.report import write_report

        try:
            say(f"report: {write_report(root, report_dir)}")
        except NothingToReport:
            say("no report was written: there are no records")
    unused = say_unused(map(str, Store(root).check())) if summary.signal is None else set()
    leave(codes_of(summary) | unused, summary.signal)


def _print_summary(summary: TimingSummary, root: Path) -> None:
    from vaebench.analysis.timing import read_timings
    from vaebench.cli.console import timings_text

    if not summary.measured and summary.storage_error is None and summary.signal is None:
        say(f"nothing to time: all timings ({len(summary.kept)}) have a record in {root}")
    frame = read_timings([root]).frame  # the files that are not used are named at the end
    if not frame.empty:
        say(f"\n{timings_text(frame)}\n")
    states = ", ".join(f"{count} {state}" for state, count in summary.states().items())
    say(f"timings: {states or 'none'}")
    if not frame.empty and (frame["verdict"] == "too noisy").any():
        say("  repeat timings that were too noisy with --again, when the machine is idle")
    if "failed" in summary.states():
        say("  repeat failed timings with --again")
    if summary.storage_error is not None:
        say(f"vaebench: {summary.storage_error}", err=True)
    say(f"records: {root}")
    if summary.signal is not None:
        say(f"vaebench: stopped; finished timings are kept in {root}", err=True)
