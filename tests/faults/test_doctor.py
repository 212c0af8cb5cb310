"""`vaebench doctor` and `vaebench show` say what is unfinished or damaged, and what follows."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from small_stores import record

from vaebench.cli.main import cli
from vaebench.records.schema import Status
from vaebench.records.store import Store


def ask(*words: str) -> str:
    return CliRunner().invoke(cli, list(words)).output


@pytest.fixture
def unfinished(store: Store) -> Path:
    """a is done, b is damaged, c has failed, d was interrupted and has two checkpoints."""
    reason = {"reason": "because", "reason_code": "error"}
    with store.writing():
        store.write(record("c", status=Status(state="failed", **reason)))
        store.write(record("d", status=Status(state="interrupted", **reason)))
    (store.root / "cells/b/record.json").write_bytes(b"{")
    store.checkpoints.mkdir()
    for name in ("d.1234.checkpoint", "d.1234.previous.checkpoint"):
        (store.checkpoints / name).touch()
    return store.root


def test_doctor_says_what_is_unfinished_and_what_the_next_run_trains(unfinished: Path) -> None:
    out = ask("doctor", str(unfinished))
    assert "next run of the grid trains 2 cells: b, d" in out
    assert "1 cell failed" in out
    assert "--retry-failed" in out
    assert "1 checkpoint:" in out
    assert out.rstrip().endswith("1 damaged")


def test_a_finished_store_has_nothing_unfinished(store: Store) -> None:
    assert ask("doctor", str(store.root)) == f"{store.root}: nothing is damaged\n"


def test_show_of_a_cell_with_damaged_arrays_exits_4(store: Store) -> None:
    with store.writing():
        store.write(record("a", arrays_sha256="0" * 64))
    found = CliRunner().invoke(cli, ["show", str(store.root), "a"])
    assert found.exit_code == 4
    assert "arrays.npz" in found.output
