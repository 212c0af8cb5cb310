"""`vaebench show`: print the state of a store, or one record."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from vaebench.cli.options import FOLDER, Command, json_option, match_cell, require_stores
from vaebench.cli.output import json_rows, leave, say, say_json, say_unused
from vaebench.errors import ExitCode, RecordError, StorageError
from vaebench.grid.values import plural

if TYPE_CHECKING:
    from vaebench.records.schema import FactRecord


_MOST_ROWS = 60


@click.command(cls=Command, short_help="Print the state of a store, or one record.")
@click.argument("store", type=FOLDER, metavar="DIR")
@click.argument("cell", required=False)
@json_option
def show(store: Path, cell: str | None, as_json: bool) -> None:
    """Print the state of the store DIR, or the record of CELL.

    CELL may be the beginning of a cell's name.
    """
    from vaebench.analysis.frame import load_with_damage
    from vaebench.analysis.timing import read_timings
    from vaebench.cli.console import frame_text, timings_text
    from vaebench.records.store import Store

    require_stores(store)
    facts = {fact.record_id: fact for fact in Store(store).read_facts()[0]}
    if cell is not None:
        _show_one(store, match_cell(cell, [*Store(store).states(), *facts], store), facts, as_json)
        return
    frame, damages = load_with_damage(store, every_file=True)
    states = dict(zip(frame["cell_id"], frame["status"], strict=True))
    records = [each for each in damages if each.path.match("cells/*/record.json")]
    states |= {damage.name: damage.kind for damage in records}
    if not states and not facts:
        say(f"vaebench: there is no record in {store}", err=True)
        leave([ExitCode.NOTHING])
    timings = read_timings([store])
    unused = list(dict.fromkeys(map(str, (*damages, *timings.damaged))))
    findings = sum(fact.kind == "finding" for fact in facts.values())
    if as_json:
        document = {"store": str(store), "states": states, "cells": json_rows(frame)}
        say_json({**document, "facts": list(facts), "unused": unused})
    else:
        if states:
            say(frame_text(frame, most_rows=_MOST_ROWS))
        if not timings.frame.empty:
            say(timings_text(timings.frame))
        if findings:
            judge = shlex.join(["vaebench", "reproduce", "--no-train", "-o", str(store)])
            say(f"{plural(findings, 'record')} of findings without cells: see `{judge}`")
    leave(say_unused(unused))


def _show_one(store: Path, name: str, facts: dict[str, FactRecord], as_json: bool) -> None:
    from vaebench.cli.console import fact_text, record_text
    from vaebench.records.schema import CellRecord
    from vaebench.records.store import Store

    cells = Store(store)
    try:
        record = facts[name] if name in facts else cells.read(name)
    except StorageError as error:
        _leave_damaged(error)
    if as_json:
        say_json(record.model_dump(mode="json", by_alias=True))
    else:
        say(record_text(record) if isinstance(record, CellRecord) else fact_text(record))
    try:
        if name not in facts:
            cells.arrays(name)
    except (RecordError, StorageError) as error:
        _leave_damaged(error)


def _leave_damaged(error: Exception) -> NoReturn:
    say_unused([str(error)])
    sys.exit(ExitCode.DAMAGED)
