"""`vaebench advise`: search the best design for a data set within a time limit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vaebench.cli.options import (
    Command,
    data_dir_option,
    jobs_option,
    json_option,
    report_options,
    store_option,
    wait_option,
)
from vaebench.cli.output import Echo, say, say_json
from vaebench.cli.run import leave_run, overrides_of, report_folder, write_report
from vaebench.grid.values import plural

if TYPE_CHECKING:
    from vaebench.runner.advise import Advice


def _seconds(ctx: click.Context, param: click.Parameter, text: str) -> float:
    """Parse a duration in hours, minutes and seconds, such as 1h30m, to seconds."""
    del ctx, param
    found = re.fullmatch(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s?)?", text)
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    total = 3600 * hours + 60 * minutes + seconds
    if not total:
        raise click.BadParameter(f"a time must be written like 90s, 20m or 1h30m; got {text!r}")
    return float(total)


@click.command(cls=Command, short_help="Find the design to use for a data set.")
@click.argument("dataset")
@click.option(
    "--time", callback=_seconds, default="20m", show_default=True, help="Duration of the search."
)
@click.option(
    "--for",
    "purpose",
    type=click.Choice(["bound", "bits", "codes", "samples", "speed"]),
    help="Purpose, which sets the score [default: bits; bound for real values].",
)
@store_option("results/advise-DATASET")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="AXIS=VALUE[,VALUE]",
    help="Values of an axis to search, or one fixed value; may be repeated.",
)
@click.option("--device", help="Short for --set device=...")
@click.option("--dry-run", is_flag=True, help="Print the designs to search and train nothing.")
@jobs_option
@wait_option
@report_options("reports/STORE")
@json_option
@data_dir_option
def advise(
    dataset: str,
    output: Path | None,
    settings: tuple[str, ...],
    device: str | None,
    dry_run: bool,
    no_report: bool,
    report_dir: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Search the best latent dimension, sigma, likelihood and learning rate for DATASET.

    DATASET is a name (`vaebench list datasets`), torchvision:NAME, or the path of your own data.
    Many designs are trained for a few epochs, and the best ones longer and with more seeds. A
    design is selected on validation images and scored once on test images. If a search was
    stopped, the same command continues it; a larger --time extends it.
    """
    from vaebench.runner.advise import advise as search
    from vaebench.runner.advise import candidates, default_store

    overrides = overrides_of(settings, device)
    if dry_run:
        found = candidates(dataset, overrides, options["purpose"], options["data_dir"])
        for line in (*found.notes, f"{plural(len(found.cells), 'design')} to search:"):
            say(line)
        for cell in found.cells:
            say(f"  {found.label(cell)}")
        return
    store = output or default_store(dataset)
    folder = None if no_report else report_folder(store, report_dir)
    echo = Echo(err=as_json)
    advice = search(dataset, store, overrides=overrides, echo=echo, **options)
    if not as_json:
        say("")
        for line in advice.lines():
            say(line)
        say(f"records: {advice.store}")
    page = write_report(advice.summary, advice.store, folder, echo)
    if as_json:
        _print_json(dataset, advice, page)
    leave_run(advice.summary, echo)


def _print_json(dataset: str, advice: Advice, page: Path | None) -> None:
    say_json(
        {
            "dataset": dataset,
            "purpose": advice.purpose,
            "store": str(advice.store),
            "report": None if page is None else str(page),
            "recommendation": found.document() if (found := advice.recommendation) else None,
            "open": list(advice.open),
            "settled": advice.settled,
            "states": advice.summary.states(),
            "seconds": advice.summary.seconds,
            "signal": advice.summary.signal,
        }
    )
