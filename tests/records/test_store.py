"""One results folder: what is written comes back, and what is damaged is named and set aside."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faulty_files import FaultyFiles, fails_with

from vaebench.errors import (
    ArraysDamaged,
    NewerSchema,
    RecordDamaged,
    RecordMissing,
    StorageError,
    StoreBusy,
)
from vaebench.records.schema import CellRecord, FactRecord, Status, to_text
from vaebench.records.store import Store

RecordFactory = Callable[..., CellRecord]
ARRAYS = {"kl_per_dimension": np.arange(4, dtype=np.float32)}
EVIL_NAMES = [
    "../../x",
    "/etc/x",
    "a/b",
    "..",
    ".",
    ".hidden",
    "CON",
    "nul.txt",
    "dot.",
    "",
    "a\0b",
    "a\nb",
    "a\u202eb",
    "x" * 300,
    "🧪",
    "a b",
]


def everything_under(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_a_record_and_its_arrays_come_back(store: Store, make_record: RecordFactory) -> None:
    with store.writing():
        written = store.write(make_record(), ARRAYS)
    assert written.arrays_sha256 is not None
    assert store.read(written.cell_id) == written
    np.testing.assert_array_equal(
        store.arrays(written.cell_id)["kl_per_dimension"], ARRAYS["kl_per_dimension"]
    )
    assert sorted(everything_under(store.root)) == [
        ".lock",
        f"cells/{written.cell_id}/arrays.npz",
        f"cells/{written.cell_id}/record.json",
    ]
    assert store.check() == []


def test_the_same_record_gives_the_same_files(tmp_path: Path, make_record: RecordFactory) -> None:
    stores = [Store(tmp_path / name) for name in "ab"]
    for store in stores:
        with store.writing():
            store.write(make_record(), ARRAYS)
    assert everything_under(stores[0].root) == everything_under(stores[1].root)


def test_a_fact_comes_back_and_is_no_cell(store: Store, fact: FactRecord) -> None:
    with store.writing():
        store.write(fact)
    assert store.read_fact("kl-closed-form") == fact
    assert store.read_facts() == ([fact], [])
    assert store.read_all() == ([], [])


def test_records_and_states_come_in_order_of_names(
    store: Store, make_record: RecordFactory
) -> None:
    with store.writing():
        store.write(make_record(cell_id="b", status=Status(state="failed", reason="oom")))
        store.write(make_record(cell_id="c"))
        store.write(make_record(cell_id="a"))
    assert [record.cell_id for record in store.read_all()[0]] == ["a", "b", "c"]
    assert store.states() == {"a": "done", "b": "failed", "c": "done"}


def test_an_absent_folder_holds_nothing_and_is_not_made(store: Store) -> None:
    assert store.states() == {}
    assert store.read_all() == ([], [])
    assert store.check() == []
    with pytest.raises(RecordMissing, match="no record 'a'"):
        store.read("a")
    assert not store.root.exists()


def test_stray_files_and_unfinished_cells_are_no_records(store: Store) -> None:
    (store.root / "cells" / "unfinished").mkdir(parents=True)
    (store.root / "cells" / "README").write_text("mine")
    (store.root / "cells" / ".DS_Store").write_text("mine")
    assert store.states() == {}
    assert store.check() == []


def test_reading_writes_nothing(store: Store, make_record: RecordFactory) -> None:
    with store.writing():
        record = store.write(make_record(), ARRAYS)
    (store.root / "cells" / "bad").mkdir()
    (store.root / "cells" / "bad" / "record.json").write_bytes(b"{")
    before = everything_under(store.root)
    store.read_all(), store.states(), store.check(), store.arrays(record.cell_id)
    assert everything_under(store.root) == before


def test_each_damage_is_named_and_blocks_no_other(store: Store, make_record: RecordFactory) -> None:
    names = ("cut", "edited", "empty", "good", "missing-field", "moved", "newer", "zeros")
    with store.writing():
        for name in names:
            store.write(make_record(cell_id=name))
    paths = {name: store.root / "cells" / name / "record.json" for name in names}
    text = paths["good"].read_bytes()
    paths["cut"].write_bytes(text[:-200])
    paths["edited"].write_bytes(paths["edited"].read_bytes().replace(b"12.5", b"99.5"))
    paths["empty"].write_bytes(b"")
    paths["moved"].write_bytes(text)
    paths["newer"].write_text(json.dumps({"schema": "vaebench/record/3"}))
    paths["zeros"].write_bytes(b"\0" * len(text))
    paths["missing-field"].write_bytes(text.replace(b'"comparable":"density",', b""))
    assert store.states() == {
        "cut": "damaged",
        "edited": "edited",
        "empty": "damaged",
        "good": "done",
        "missing-field": "edited",
        "moved": "damaged",
        "newer": "newer",
        "zeros": "damaged",
    }
    records, damages = store.read_all()
    assert [record.cell_id for record in records] == ["good"]
    assert [damage.path for damage in damages] == [paths[n] for n in names if n != "good"]
    assert store.check() == damages
    with pytest.raises(NewerSchema, match="upgrade"):
        store.read("newer")


def test_damage_is_quarantined_with_its_reason_and_newer_is_not_touched(
    store: Store, make_record: RecordFactory
) -> None:
    with store.writing():
        for name in ("bad", "newer"):
            store.write(make_record(cell_id=name))
    paths = {name: store.root / "cells" / name / "record.json" for name in ("bad", "newer")}
    newer = b'{"schema":"vaebench/record/3"}'
    paths["newer"].write_bytes(newer)
    for number in (1, 2):
        paths["bad"].write_bytes(b"{" * number)
        with store.writing():
            aside = store.set_aside(store.check())
        assert [damage.name for damage in aside] == ["bad"]
        assert store.states() == {"newer": "newer"}
    assert paths["newer"].read_bytes() == newer
    kept = everything_under(store.root / ".quarantine")
    assert {name: kept[name] for name in kept if "reason" not in name} == {
        "cells-bad-record.json": b"{",
        "cells-bad-record.json-2": b"{{",
    }
    assert b"cut or damaged" in kept["cells-bad-record.json.reason.txt"]


def test_quarantine_stays_inside_the_folder(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    with store.writing(), pytest.raises(StorageError, match="must be inside the store"):
        store.quarantine(outside, "no reason")
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("name", EVIL_NAMES)
def test_unsafe_names_are_refused(store: Store, make_record: RecordFactory, name: str) -> None:
    with store.writing(), pytest.raises(ValueError, match="1 to 120 of"):
        store.write(make_record(cell_id=name))
    with pytest.raises(ValueError, match="1 to 120 of"):
        store.read(name)


def test_the_longest_name_is_written_with_arrays(store: Store, make_record: RecordFactory) -> None:
    with store.writing():
        store.write(make_record(cell_id="x" * 120), ARRAYS)
    assert store.check() == []


def test_arrays_of_others_or_none_are_damage_and_named(
    store: Store, make_record: RecordFactory
) -> None:
    with store.writing():
        name = store.write(make_record(), ARRAYS).cell_id
    path = store.root / "cells" / name / "arrays.npz"
    for break_it in (lambda: path.write_bytes(path.read_bytes()[:-1]), path.unlink):
        break_it()
        with pytest.raises(ArraysDamaged, match="missing or differs from its checksum"):
            store.arrays(name)
        assert [(each.path, each.kind) for each in store.check()] == [(path, "arrays")]
        assert store.states() == {name: "done"}


def test_rewriting_keeps_drops_or_changes_the_arrays(
    store: Store, make_record: RecordFactory
) -> None:
    with store.writing():
        first = store.write(make_record(), ARRAYS)
        store.write(first.model_copy(update={"grid": "other"}))
        assert list(store.arrays(first.cell_id)) == ["kl_per_dimension"]
        store.write(make_record(), {"other": np.zeros(1)})
        assert list(store.arrays(first.cell_id)) == ["other"]
        store.write(make_record())
        assert store.arrays(first.cell_id) == {}
    assert not (store.root / "cells" / first.cell_id / "arrays.npz").exists()


def test_objects_never_reach_the_disk(store: Store, make_record: RecordFactory) -> None:
    with store.writing(), pytest.raises(TypeError, match="dtype object"):
        store.write(make_record(), {"bad": np.array([None])})
    assert store.states() == {}


def test_a_store_is_changed_only_by_its_writer(store: Store, make_record: RecordFactory) -> None:
    with pytest.raises(RuntimeError, match=r"with store\.writing"):
        store.write(make_record())
    in_use = f"in use by process {os.getpid()}"
    with store.writing(), pytest.raises(StoreBusy, match=in_use) as busy:
        Store(store.root).writing().__enter__()
    assert busy.value.holder == os.getpid()
    with store.writing():
        store.write(make_record())
    with pytest.raises(RuntimeError, match=r"with store\.writing"):
        store.write(make_record())


def test_an_error_within_frees_the_folder(store: Store) -> None:
    with pytest.raises(KeyError), store.writing():
        raise KeyError
    with store.writing():
        assert (store.root / ".lock").read_text() == str(os.getpid())
    assert (store.root / ".lock").read_text() == ""


def test_an_unreadable_record_is_listed_and_others_go_on(
    store: Store, make_record: RecordFactory
) -> None:
    with store.writing():
        for name in "abc":
            store.write(make_record(cell_id=name))
    # Operation 1 lists the folder, 2 to 4 read the records.
    faulty = Store(store.root, FaultyFiles(3, fails_with(errno.EIO)))
    records, damages = faulty.read_all()
    assert [record.cell_id for record in records] == ["a", "c"]
    assert [(each.name, each.kind) for each in damages] == [("b", "unreadable")]
    assert "EIO" in damages[0].reason
    assert str(store.root / "cells" / "b" / "record.json") in damages[0].reason


def test_a_file_where_the_folder_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    store = Store(tmp_path / "file")
    with pytest.raises(StorageError, match=r"EEXIST|ENOTDIR"), store.writing():
        pass
    with pytest.raises(StorageError, match="ENOTDIR"):
        store.states()


def test_a_cells_folder_with_a_fact_inside_is_damage(store: Store, fact: FactRecord) -> None:
    folder = store.root / "cells" / fact.record_id
    folder.mkdir(parents=True)
    (folder / "record.json").write_bytes(to_text(fact))
    with pytest.raises(RecordDamaged, match="kind 'finding'"):
        store.read(fact.record_id)


def test_weights_belong_to_their_record_and_are_checked(
    tmp_path: Path, make_record: RecordFactory
) -> None:
    store = Store(tmp_path)
    with store.writing():
        store.write(make_record(cell_id="a"), weights=b"weights of a")
        kept = store.read("a")
        store.write(make_record(cell_id="a", grid="again", weights_sha256=kept.weights_sha256))
    assert (store.weights("a"), store.check()) == (b"weights of a", [])
    path = tmp_path / "cells" / "a" / "weights.safetensors"
    path.write_bytes(b"other weights")
    assert [(each.path, each.kind) for each in store.check()] == [(path, "weights")]
    assert list(store.inspect()) == [store.read("a")]
    with store.writing():
        store.write(make_record(cell_id="a"))
    assert not path.exists()
    assert b"weights_sha256" not in (path.parent / "record.json").read_bytes()


def test_a_record_has_at_most_ten_million_bytes(store: Store, make_record: RecordFactory) -> None:
    room = 10_000_000 - len(to_text(make_record(grid="x" * 9_000_000)))
    with store.writing():
        record = store.write(make_record(grid="x" * (9_000_000 + room)))
        path = store.root / "cells" / record.cell_id / "record.json"
        assert path.stat().st_size == 10_000_000
        with pytest.raises(StorageError, match="more than 10,000,000 bytes"):
            store.write(make_record(grid="x" * (9_000_001 + room)))
    assert store.read(record.cell_id) == record
