"""`vaebench run`: train the cells of a grid, record the results, and write the report."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vaebench.cli.options import (
    Command,
    data_dir_option,
    jobs_option,
    json_option,
    report_options,
    retry_option,
    store_option,
    wait_option,
)
from vaebench.cli.output import Echo, codes_of, leave, say, say_json, say_unused
from vaebench.grid.values import plural

if TYPE_CHECKING:
    from vaebench.runner.run import RunSummary


_MOST_ROWS = 40


@click.command(cls=Command, short_help="Train the VAEs of a grid and write a report.")
@click.argument("grid", default="quick")
@store_option("results/GRID")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="AXIS=VALUE[,VALUE]",
    help="Replace the values of an axis; may be repeated.",
)
@click.option("--device", help="Short for --set device=...; 'available' uses all devices.")
@click.option("--dry-run", is_flag=True, help="Print the plan and train nothing.")
@jobs_option
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Start workers on this machine or on a Ray cluster.",
)
@click.option(
    "--pack",
    "largest_pack",
    type=click.IntRange(1),
    metavar="N",
    help="Train up to N cells of equal shapes together [default: 6; 64 on a GPU].",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(0, min_open=True),
    default=math.inf,
    metavar="SECONDS",
    help="Stop a cell that takes longer [default: no limit].",
)
@click.option(
    "--keep-weights",
    is_flag=True,
    help="Save each model as weights.safetensors; train cells again whose file is missing.",
)
@click.option(
    "--evaluate-again",
    is_flag=True,
    help="Evaluate saved models again with the settings of GRID, without training.",
)
@retry_option
@wait_option
@report_options("reports/STORE")
@json_option
@data_dir_option
def run(
    grid: str,
    output: Path | None,
    settings: tuple[str, ...],
    device: str | None,
    dry_run: bool,
    no_report: bool,
    report_dir: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Train and evaluate every cell of GRID, record the results, and write the report.

    A cell is one value of every design choice: one VAE to train. GRID is the name of a packaged
    grid (`vaebench list grids`) or a TOML file; `quick` needs no download and takes one to two
    minutes on two cores. If the command is repeated, only cells without a record are trained.
    """
    from vaebench.grid.spec import Grid
    from vaebench.records.store import Store
    from vaebench.runner.run import run as run_grid

    if math.isnan(options["time_limit"]):
        raise click.UsageError("--time-limit must be a number of seconds; got nan")
    if dry_run and (as_json or options["evaluate_again"]):
        wrong = "--json" if as_json else "--evaluate-again"
        raise click.UsageError(f"--dry-run cannot be used with {wrong}: remove one of them")
    loaded = Grid.load(grid, overrides_of(settings, device))
    store = Store(output or Path("results") / loaded.name)
    if dry_run:
        from vaebench.cli.preview import preview

        leave(preview(loaded, store, options, say))
        return
    folder = None if no_report else report_folder(store.root, report_dir)
    echo = Echo(err=as_json)
    for note in loaded.notes:
        echo(f"note: {note}")
    summary = run_grid(loaded, store, echo=echo, **options)
    if not as_json:
        # The records are not read if nothing was trained and no report is wanted.
        _print_summary(summary, store.root, table=bool(summary.trained) or not no_report)
    page = write_report(summary, store.root, folder, echo)
    if as_json:
        _print_json(loaded.name, summary, store.root, page)
    leave_run(summary, echo)


def report_folder(store: Path, given: Path | None) -> Path:
    """Return the folder of the report; raise an error if it cannot be written."""
    from vaebench.report.target import check_target, default_target

    folder = given or default_target([store])
    check_target([store], folder)
    return folder


def write_report(
    summary: RunSummary, store: Path, folder: Path | None, echo: Callable[[str], None]
) -> Path | None:
    """Write the report and return the path of its page; return None if none is written."""
    if folder is None or summary.storage_error is not None:
        return None
    if summary.signal is not None:
        if "done" in summary.states():
            again = shlex.join(["vaebench", "report", str(store), "-o", str(folder)])
            echo(f"stopped before the report; `{again}` writes it")
        return None
    from vaebench.report.report import make_report

    page = make_report([store], folder).page
    echo(f"report: {page}")
    return page


def leave_run(summary: RunSummary, echo: Echo) -> None:
    """Exit with the code of a run."""
    codes = codes_of(summary) | ({echo.error.exit_code} if echo.error is not None else set())
    if summary.signal is None:
        codes |= say_unused(summary.unused)
        if summary.damaged:
            files = plural(summary.damaged, "damaged file")
            say(f"vaebench: {files} moved to .quarantine; these cells were trained again", err=True)
    leave(codes, summary.signal)


def overrides_of(settings: Sequence[str], device: str | None) -> dict[str, list[object]]:
    """Return the values of the options ``--set`` and ``--device`` by their axis.

    Raises:
        GridError: the axis or the value is missing.
        click.UsageError: an axis is set twice.
    """
    from vaebench.grid.spec import parse_override

    overrides: dict[str, list[object]] = {}
    for text in (*settings, *([f"device={device}"] if device else [])):
        axis, values = parse_override(text)
        if axis in overrides:
            raise click.UsageError(
                f"axis {axis!r} must be set only once: list all its values, {axis}=A,B"
            )
        overrides[axis] = values
    return overrides


def _print_summary(summary: RunSummary, root: Path, *, table: bool) -> None:
    from vaebench.cli.preview import duration

    if not summary.trained and summary.left == 0:
        say(f"nothing to train: all {len(summary.finished)} cells have a record in {root}")
    else:
        say(f"{plural(len(summary.trained), 'cell')} run in {duration(summary.seconds)}")
        # Stopped cells have no times in their records.
        if summary.worker_time is not None and summary.signal is None:
            say(summary.worker_time.text())
    states = summary.states()
    if table and summary.storage_error is None and states:
        from vaebench.analysis.recommendation import best
        from vaebench.cli.console import store_text

        say(f"\n{store_text(root, most_rows=_MOST_ROWS)}\n")
        for each in best(root):
            say(" ".join(each.lines()))
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    left = f", {summary.left} left" if summary.left else ""
    resume = "; the same command continues" if left or states.get("interrupted") else ""
    say(f"cells: {counts or 'none'}{left}{resume}")
    if set(states) & {"failed", "diverged", "timeout"}:
        say("  retry cells that failed, diverged or timed out with --retry-failed")
    if summary.storage_error is not None:
        say(f"vaebench: {summary.storage_error}", err=True)
    say(f"records: {root}")


def _print_json(name: str, summary: RunSummary, root: Path, page: Path | None) -> None:
    from vaebench.analysis.recommendation import best

    if summary.storage_error is not None:
        say(f"vaebench: {summary.storage_error}", err=True)
    counts = ("seconds", "trained", "finished", "left", "damaged", "signal", "storage_error")
    say_json(
        {
            "grid": name,
            "store": str(root),
            "report": None if page is None else str(page),
            "states": summary.states(),
            "recommendations": [each.document() for each in best(root)] if root.exists() else [],
            "unused": list(summary.unused),
            **{each: getattr(summary, each) for each in counts},
        }
    )
