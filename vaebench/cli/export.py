"""`vaebench export`: the tidy table of a store as one file."""

from __future__ import annotations

from pathlib import Path

import click

from vaebench.cli.options import FOLDER, Command, require_stores
from vaebench.cli.output import leave, plural, say, say_unused
from vaebench.errors import ExitCode


@click.command(cls=Command, short_help="Write a store's tidy table as CSV or Parquet.")
@click.argument("store", type=FOLDER, metavar="DIR")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write: .csv or .parquet.",
)
def export(store: Path, output: Path) -> None:
    """Write the tidy table of a store: a row per cell, a column per axis or metric.

    A store without cells that holds timings (`vaebench time`) gives a row per timing.
    """
    from vaebench.analysis.frame import load_with_damage
    from vaebench.analysis.timing import load_timings_with_unused
    from vaebench.report.export import export as write_table

    require_stores(store)
    frame, damages = load_with_damage(store)
    unused = list(map(str, damages))
    if frame.empty and not unused:
        frame, unused = load_timings_with_unused(store)
    if frame.empty and not unused:
        say(f"vaebench: there is no record of a cell or timing in {store}", err=True)
        leave([ExitCode.NOTHING])
    if not frame.empty:
        say(f"{plural(len(frame), 'row')}: {write_table(frame, output)}")
    leave(say_unused(unused))
