"""A state machine of the store: writes, kills, failures, damage, repair, and a second process."""

import errno
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from faulty_files import FaultyFiles, fails_with
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from made_records import cell_record

from vaebench.errors import StorageError, StoreBusy
from vaebench.records.store import Store

NAMES = st.sampled_from(["a", "b", "c"])
ERRORS = st.sampled_from([errno.ENOSPC, errno.EIO, errno.EACCES])
DAMAGES = st.sampled_from(["cut", "flip", "empty", "remove"])


class Killed(BaseException):
    """The process ended here: no operation follows."""


def _killed() -> None:
    raise Killed


class StoreMachine(RuleBasedStateMachine):
    """A folder, and for each name the versions that may be found in it.

    None stands for no usable record: absent, or damaged and named as such.
    """

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp()) / "store"
        self.possible: dict[str, set[int | None]] = {}
        self.damaged: set[str] = set()
        self.version = 0

    def teardown(self) -> None:
        shutil.rmtree(self.root.parent)

    def _write(self, store: Store, name: str) -> None:
        record = cell_record(cell_id=name, grid=str(self.version))
        arrays = {"kl_per_dimension": np.full(5, self.version, np.float32)}
        with store.writing():
            store.write(record, arrays if self.version % 3 else None)

    def _written(self, name: str) -> None:
        self.possible[name] = {self.version}
        self.damaged.discard(name)

    @rule(name=NAMES)
    def write(self, name: str) -> None:
        self.version += 1
        self._write(Store(self.root), name)
        self._written(name)

    @rule(name=NAMES, operation=st.integers(1, 40))
    def kill_in_a_write(self, name: str, operation: int) -> None:
        self.version += 1
        store = Store(self.root, FaultyFiles(operation, _killed, forever=True))
        try:
            self._write(store, name)
        except Killed:
            self.possible[name] = {self.version, *self.possible.get(name, {None})}
        else:
            self._written(name)

    @rule(name=NAMES, operation=st.integers(1, 40), number=ERRORS, forever=st.booleans())
    def fail_in_a_write(self, name: str, operation: int, number: int, forever: bool) -> None:
        self.version += 1
        store = Store(self.root, FaultyFiles(operation, fails_with(number), forever))
        try:
            self._write(store, name)
        except StorageError:
            self.possible[name] = {self.version, *self.possible.get(name, {None})}
        else:
            self._written(name)

    @rule(name=NAMES, damage=DAMAGES, file=st.sampled_from(["record.json", "arrays.npz"]))
    def damage(self, name: str, damage: str, file: str) -> None:
        path = self.root / "cells" / name / file
        if not path.exists() or (damage == "flip" and name in self.damaged):
            return  # a bit that is flipped twice is sound again
        content = path.read_bytes()
        if damage == "remove":
            path.unlink()
        elif damage == "flip" and content:
            place = len(content) // 2
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        else:
            path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
        if file == "record.json":
            self.possible[name] = {None}
            self.damaged.discard(name) if damage == "remove" else self.damaged.add(name)
        else:
            self.damaged.add(name)

    @rule()
    def set_damage_aside(self) -> None:
        with Store(self.root).writing() as store:
            aside = store.set_aside(store.check())
        for each in aside:
            self.possible[each.name] = {None}
            self.damaged.discard(each.name)

    @precondition(lambda self: self.root.exists())
    @rule(remove_the_lock_file=st.booleans())
    def a_second_process_starts_while_one_writes(self, remove_the_lock_file: bool) -> None:
        with Store(self.root).writing():
            if remove_the_lock_file:
                (self.root / ".lock").unlink()
            with pytest.raises(StoreBusy), Store(self.root).writing():
                pass

    @invariant()
    def every_record_is_whole_and_one_of_those_written(self) -> None:
        store = Store(self.root)
        records, damages = store.read_all()
        found = {record.cell_id: int(record.grid) for record in records}
        named = {each.name for each in damages}
        assert named <= self.damaged, "damage is named where it is, and nowhere else"
        for name, versions in self.possible.items():
            version = found.get(name)
            assert version in versions or (version is None and name in self.damaged), name
            # What was found once stays: a kill is undecided only until the next look.
            self.possible[name] = {version}
        for each in store.check():
            assert each.name in self.damaged, each
        for name, version in found.items():
            if name not in self.damaged:
                arrays = store.arrays(name)
                assert bool(arrays) == bool(version % 3)
                assert all((array == version).all() for array in arrays.values())


def run_machine(examples: int) -> None:
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_store_keeps_its_promises_for_500_steps() -> None:
    run_machine(10)


@pytest.mark.exhaustive
def test_the_store_keeps_its_promises_for_10_000_steps() -> None:
    run_machine(200)
