"""`vaebench doctor`: the machine, and what is damaged in a store."""

from __future__ import annotations

import importlib
from pathlib import Path

import click

from vaebench.cli.options import FOLDER, Command, require_stores
from vaebench.cli.output import leave, say
from vaebench.errors import ExitCode, NothingToReport

__all__ = ["doctor"]


@click.command(cls=Command, short_help="Machine, versions, devices; a store's damage.")
@click.argument("store", required=False, type=FOLDER, metavar="[DIR]")
def doctor(store: Path | None) -> None:
    """Print machine, versions and devices; for a store, what is damaged."""
    if store is None:
        # By name: torch is imported, which the other commands of this folder must not need.
        for line in importlib.import_module("vaebench.runner.machine").description():
            say(line)
        return
    from vaebench.records.store import Store

    require_stores(store)
    if not any((store / room).is_dir() for room in ("cells", "facts")):
        raise NothingToReport(f"{store} is not a store: it holds no records")
    damages = Store(store).check()
    for damage in damages:
        say(str(damage))
    newer = sum(damage.kind == "newer" for damage in damages)
    counts = {"damaged": len(damages) - newer, "of a newer vaebench": newer}
    found = ", ".join(f"{count} {words}" for words, count in counts.items() if count)
    say(f"{store}: {found or 'nothing is damaged'}")
    if damages:
        leave([ExitCode.DAMAGED])
