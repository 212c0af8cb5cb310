"""`vaebench merge`: stores and bundles become one store."""

from __future__ import annotations

from pathlib import Path

import click

from vaebench.cli.options import FOLDER, Command, require_stores, wait_option
from vaebench.cli.output import leave, say, say_unused
from vaebench.errors import ExitCode
from vaebench.grid.values import plural


@click.command(cls=Command, short_help="Merge stores and bundles into one store.")
@click.argument(
    "sources", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="STORE..."
)
@click.option("-o", "--output", type=FOLDER, required=True, help="The store to add records to.")
@wait_option
def merge(sources: tuple[Path, ...], output: Path, wait: bool) -> None:
    """Add the records of stores, and of bundles that `vaebench export --bundle` wrote, to a store.

    All files are checked first; damaged records are named and left out (exit code 4). Nothing is
    overwritten: a record that the store has stays. Records that differ from the one that is kept
    are named (exit code 1).
    """
    from vaebench.records.bundle import merge as merged

    require_stores(*sources)
    found = merged(sources, output, wait=wait)
    same = f"; {found.equal:,} equal to what is kept" if found.equal else ""
    say(f"{plural(found.written, 'record')} added to {output}{same}")
    for line in found.conflicts:
        say(f"vaebench: conflict: {line}", err=True)
    codes = {ExitCode.SOME_FAILED} if found.conflicts else set()
    leave(codes | say_unused(found.unused))
