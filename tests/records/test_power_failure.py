"""After a power failure a record is whole or absent, whatever the disk had not written yet."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from logged_files import LoggedFiles, Operation, after_a_power_failure
from made_records import cell_record

from vaebench.records.store import Store

OLD, NEW = ({"kl_per_dimension": np.full(9, number, np.float32)} for number in (1, 2))


@pytest.mark.parametrize("before", [False, True], ids=["first", "again"])
@pytest.mark.parametrize("arrays", [NEW, {}], ids=["arrays", "none"])
def test_every_subset_of_unsynced_operations_leaves_the_old_record_or_the_new(
    tmp_path: Path, before: bool, arrays: dict[str, np.ndarray]
) -> None:
    root, copy, work = tmp_path / "store", tmp_path / "copy", tmp_path / "work"
    old, new = cell_record(grid="old"), cell_record(grid="new")
    with Store(root).writing() as store:
        if before:
            store.write(old, OLD)
    shutil.copytree(root, copy)
    files = LoggedFiles()
    with Store(root, files).writing() as store:
        store.write(new, arrays)
    log = [
        Operation(
            each.kind,
            copy / each.path.relative_to(root),
            each.content,
            None if each.source is None else copy / each.source.relative_to(root),
        )
        for each in files.log
    ]
    found, count = set(), 0
    for state, is_over in after_a_power_failure(log, copy, work):
        count += 1
        reopened = Store(state)
        with reopened.writing():
            pass
        assert reopened.check() == [], f"state {count}"
        records, _ = reopened.read_all()
        for record in records:
            kept = {name: a.tolist() for name, a in reopened.arrays(record.cell_id).items()}
            written = OLD if record.grid == "old" else arrays
            assert kept == {name: a.tolist() for name, a in written.items()}
        grids = tuple(record.grid for record in records)
        assert grids == ("new",) or not is_over, "a record that was written is certain"
        found.add(grids)
        assert list((state / ".incoming").iterdir()) == []
    assert count > len(log)
    assert found == ({("old",), ("new",)} if before else {(), ("new",)})
