"""`vaebench export`: write the table of a store, or the whole store, as one file."""

from __future__ import annotations

from pathlib import Path

import click

from vaebench.cli.options import FOLDER, Command, require_stores
from vaebench.cli.output import leave, say, say_unused
from vaebench.errors import ExitCode
from vaebench.grid.values import plural


@click.command(cls=Command, short_help="Write a store as a table or as one file.")
@click.argument("store", type=FOLDER, metavar="DIR")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the table, .csv or .parquet.",
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the whole store, which `vaebench merge` reads.",
)
def export(store: Path, output: Path | None, bundle: Path | None) -> None:
    """Write the table of a store: one row per cell, one column per axis or metric.

    For a store of `vaebench time`, the table has one row per timing. With --bundle all records,
    arrays and kept weights are written to one file with checksums.
    """
    if output is None and bundle is None:
        raise click.UsageError("an output file is required: add -o TABLE.csv or --bundle FILE")
    require_stores(store)
    codes: set[ExitCode] = set()
    if output is not None:
        codes |= _table(store, output)
    if bundle is not None:
        from vaebench.records.bundle import bundle as bundled

        count, damages = bundled(store, bundle)
        say(f"{plural(count, 'record')}: {bundle}")
        codes |= say_unused(map(str, damages))
    leave(codes)


def _table(store: Path, output: Path) -> set[ExitCode]:
    from vaebench.analysis.frame import load_with_damage
    from vaebench.analysis.timing import read_timings
    from vaebench.report.export import export as write_table

    frame, damages = load_with_damage(store)
    if frame.empty and not damages:
        timings = read_timings([store])
        frame, damages = timings.frame, list(timings.damaged)
    if frame.empty and not damages:
        say(f"vaebench: there is no record of a cell or timing in {store}", err=True)
        return {ExitCode.NOTHING}
    if not frame.empty:
        say(f"{plural(len(frame), 'row')}: {write_table(frame, output)}")
    return say_unused(map(str, damages))
