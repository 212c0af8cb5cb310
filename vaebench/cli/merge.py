"""`vaebench merge`: merge stores and bundles into one store."""

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
@click.option(
    "-o",
    "--output",
    type=FOLDER,
    required=True,
    help="Folder of the store to which records are added.",
)
@wait_option
def merge(sources: tuple[Path, ...], output: Path, wait: bool) -> None:
    """Add the records of stores and of bundles (`vaebench export --bundle`) to one store.

    All files are checked first; damaged records are listed and left out (exit code 4). Existing
    records are never overwritten; records that differ from an existing one are listed (exit code
    1).
    """
    from vaebench.records.bundle import merge as merged

    require_stores(*sources)
    found = merged(sources, output, wait=wait)
    same = f"; {found.equal:,} equal to existing ones" if found.equal else ""
    say(f"{plural(found.written, 'record')} added to {output}{same}")
    for line in found.conflicts:
        say(f"vaebench: conflict: {line}", err=True)
    codes = {ExitCode.SOME_FAILED} if found.conflicts else set()
    leave(codes | say_unused(found.unused))
