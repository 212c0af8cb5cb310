"""`vaebench doctor`: describe the machine, or list the damaged files of a store."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vaebench.cli.options import FOLDER, Command, require_stores
from vaebench.cli.output import leave, say
from vaebench.errors import ExitCode, NothingToReport
from vaebench.grid.values import plural

if TYPE_CHECKING:
    from vaebench.records.store import Damage, Store


_MOST_NAMES = 10


@click.command(cls=Command, short_help="Describe the machine, or check a store for damage.")
@click.argument("store", required=False, type=FOLDER, metavar="[DIR]")
def doctor(store: Path | None) -> None:
    """Print the machine, versions and devices; with DIR, the damaged files of this store."""
    if store is None:
        # Imported by name, because it imports torch, which this module must not import.
        for line in importlib.import_module("vaebench.runner.machine").description():
            say(line)
        return
    from vaebench.records.store import Store

    require_stores(store)
    if not any((store / room).is_dir() for room in ("cells", "facts")):
        raise NothingToReport(
            f"{store} is not a store: it has no folder cells or facts with records"
        )
    damages = Store(store).check()
    for damage in damages:
        say(str(damage))
    obstacles = list(Store(store).obstacles())
    for obstacle in obstacles:
        say(f"{obstacle.filename}: {obstacle.strerror}")
    newer = sum(damage.kind == "newer" for damage in damages)
    counts = {"damaged": len(damages) - newer, "of a newer vaebench": newer}
    counts["in the way of the next run"] = len(obstacles)
    found = ", ".join(f"{count} {words}" for words, count in counts.items() if count)
    for line in _unfinished(Store(store), damages):
        say(line)
    say(f"{store}: {found or 'nothing is damaged'}")
    if damages or obstacles:
        leave([ExitCode.DAMAGED])


def _unfinished(store: Store, damages: Sequence[Damage]) -> Iterator[str]:
    """Yield lines about unfinished cells and what the next run of the grid does about them."""
    states = store.states()
    redone = {each.name for each in damages if each.kind in ("damaged", "edited", "arrays")}
    redone |= {name for name, state in states.items() if state in ("interrupted", "unavailable")}
    if redone:
        names = ", ".join(sorted(redone)[:_MOST_NAMES]) + ", …" * (len(redone) > _MOST_NAMES)
        yield f"unfinished: the next run of the grid trains {plural(len(redone), 'cell')}: {names}"
    failed = sum(state in ("failed", "diverged", "timeout") for state in states.values())
    if failed:
        yield f"{plural(failed, 'cell')} failed, diverged or timed out: retry with --retry-failed"
    files = store.checkpoints.glob("*.checkpoint")
    kept = {path.stem.removesuffix(".previous") for path in files}
    if kept:
        yield f"{plural(len(kept), 'checkpoint')}: the next run resumes these trainings"
