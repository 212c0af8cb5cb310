"""`vaebench time`: training steps on CPU and GPU, from the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vaebench.cli.options import FOLDER
from vaebench.errors import ExitCode, NothingToReport, WrongStep

if TYPE_CHECKING:
    from vaebench.runner.timing import TimingSummary

__all__ = ["time_command"]


@click.command(
    "time",
    short_help="Time training steps on CPU and GPU.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("-o", "--output", type=FOLDER, help="The store [default: results/time].")
@click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="NAME[,NAME]",
    help="cpu, cuda, cuda:1, mps; 'available' takes all there are [default].",
)
@click.option("--latent-dim", metavar="N[,N]", help="Latent dimensions to sweep.")
@click.option("--batch-size", metavar="N[,N]", help="Batch sizes to sweep.")
@click.option("--width", metavar="N[,N]", help="Widths of the hidden layer to sweep.")
@click.option(
    "--precision",
    default="float32",
    show_default=True,
    metavar="NAME[,NAME]",
    help="float32, bfloat16: the sweep once in each.",
)
@click.option(
    "--pack",
    default="1",
    show_default=True,
    metavar="N[,N]",
    help="Cells trained as one program: the sweep once for each.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=4.0,
    show_default=True,
    help="About how long the steps of one timing take; 10 to 2,000 steps.",
)
@click.option("--steps", type=click.IntRange(10), help="So many steps a timing instead.")
@click.option("--threads", type=click.IntRange(1), help="Threads of torch [default: cores].")
@click.option("--again", is_flag=True, help="Time anew what has a record.")
@click.option("--wait", is_flag=True, help="Wait for another process that holds the store.")
@click.option("--no-report", is_flag=True, help="Leave the report out.")
@click.option("--report-dir", type=FOLDER, help="The report's folder [default: reports/STORE].")
def time_command(
    output: Path | None,
    devices: tuple[str, ...],
    latent_dim: str | None,
    batch_size: str | None,
    width: str | None,
    precision: str,
    pack: str,
    seconds: float,
    steps: int | None,
    threads: int | None,
    again: bool,
    wait: bool,
    no_report: bool,
    report_dir: Path | None,
) -> None:
    """Time training steps on CPU and GPU: median, spread, images a second, memory.

    The model is a Bernoulli VAE with one hidden layer; images of MNIST's shape are made up from
    a fixed seed, so no data are needed. Each timing is taken alone in a fresh process, after a
    warm-up, and the device has finished a step when its time ends. On a CPU it is the step of a
    short training; one of 5,000 steps and more is compiled and faster.

    The sizes are swept one at a time through latent dimension 32, batch 128 and width 400.
    Without a size all three are swept (2 to 10,000, 20 to 8,192, 100 to 1,600), which takes about
    two minutes a device on two cores; where sizes are given, only those are:

    vaebench time --device cpu,cuda --batch-size 20,128,1024,8192

    Spread is the interquartile range over blocks of steps divided by their median: above 10 % a
    number is marked, above 25 % none is given. Running it again times only what is missing.
    """
    from vaebench.records.store import Store
    from vaebench.runner.timing import time_steps

    _refuse_contradictions(no_report=no_report, report_dir=report_dir)
    root = output or Path("results") / "time"
    try:
        summary = time_steps(
            root,
            devices=tuple(name for text in devices for name in text.split(",")) or ("available",),
            latent_dims=_numbers("--latent-dim", latent_dim),
            batch_sizes=_numbers("--batch-size", batch_size),
            widths=_numbers("--width", width),
            precisions=tuple(precision.split(",")),
            pack_sizes=_numbers("--pack", pack) or (1,),
            seconds=seconds,
            steps=steps,
            threads=threads,
            again=again,
            wait=wait,
            echo=click.echo,
        )
    except WrongStep as error:
        option = "pack" if error.axis == "pack_size" else error.axis
        raise click.UsageError(f"--{option.replace('_', '-')}: {error.why}") from error
    _print_summary(summary, root)
    if summary.signal is not None:
        click.echo(f"vaebench: stopped; what was timed is kept in {root}", err=True)
        sys.exit(ExitCode.SIGNAL + summary.signal)
    if not no_report and summary.storage_error is None:
        _report(root, report_dir)
    damages = Store(root).check()
    for damage in damages:
        click.echo(f"vaebench: not used: {damage}", err=True)
    if summary.storage_error is not None or summary.damaged or damages:
        sys.exit(ExitCode.DAMAGED)
    if set(summary.states()) - {"done"}:
        sys.exit(ExitCode.SOME_FAILED)


def _refuse_contradictions(*, no_report: bool, report_dir: Path | None) -> None:
    """What is bounded twice, or both wanted and not, is a slip that nobody should have to guess."""
    given = click.get_current_context().get_parameter_source
    typed = click.core.ParameterSource.COMMANDLINE
    if given("seconds") is typed and given("steps") is typed:
        raise click.UsageError("--seconds and --steps both say how long a timing lasts: give one")
    if no_report and report_dir is not None:
        raise click.UsageError("--report-dir says where the report goes; --no-report, none")


def _numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise click.UsageError(
            f"{option} takes whole numbers with commas, like 20,128; got {text!r}"
        ) from error
    if min(numbers) < 1:
        raise click.UsageError(f"{option} takes numbers from 1; got {text!r}")
    return numbers


def _print_summary(summary: TimingSummary, root: Path) -> None:
    from vaebench.analysis.timing import load_timings_with_unused
    from vaebench.cli.console import timings_text

    if not summary.measured and summary.storage_error is None and summary.signal is None:
        click.echo(f"nothing to time: all of it ({len(summary.kept)}) has a record in {root}")
    frame, _ = load_timings_with_unused(root)  # what is not used is told last
    if not frame.empty:
        click.echo(f"\n{timings_text(frame)}\n")
    states = ", ".join(f"{count} {state}" for state, count in summary.states().items())
    click.echo(f"timings: {states or 'none'}")
    if not frame.empty and (frame["verdict"] == "too noisy").any():
        click.echo("  time what was too noisy anew with --again, when the machine is quiet")
    if "failed" in summary.states():
        click.echo("  try failed timings again with --again")
    if summary.storage_error is not None:
        click.echo(f"vaebench: {summary.storage_error}", err=True)
    click.echo(f"records: {root}")


def _report(root: Path, folder: Path | None) -> None:
    from vaebench.report.report import write_report

    try:
        click.echo(f"report: {write_report(root, folder)}")
    except NothingToReport:
        click.echo("there is nothing to report on")
