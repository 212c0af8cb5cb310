"""A bundle gives back what went in; merging overwrites nothing; bad files are refused."""

import hashlib
import io
import json
import shutil
import stat
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_records import cell_record

from vaebench.errors import BundleDamaged, NothingToReport, UsageError
from vaebench.records.bundle import bundle, merge, opened
from vaebench.records.schema import Environment, FactRecord, Metric, Status
from vaebench.records.store import Store

ARRAYS = {"originals": np.arange(12, dtype=np.uint8).reshape(3, 2, 2), "tsne": np.ones((4, 2))}
NAMES = ("a-1", "b-2", "c-3")


def filled(root: Path, names: tuple[str, ...] = NAMES, **changes: Any) -> Path:
    store = Store(root)
    with store.writing():
        for name in names:
            store.write(cell_record(cell_id=name, **changes), ARRAYS, weights=b"w" + name.encode())
        store.write(FactRecord(kind="finding", record_id="fact", payload={"gap": 1e-9}))
    return root


def files(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_a_store_comes_back_byte_for_byte(tmp_path: Path) -> None:
    root = filled(tmp_path / "store")
    assert bundle(root, tmp_path / "all.bundle") == (4, [])
    found = merge([tmp_path / "all.bundle"], tmp_path / "copy")
    assert (found.written, found.equal, found.conflicts, found.unused) == (4, 0, (), ())
    assert files(tmp_path / "copy") == files(root)
    again = merge([tmp_path / "all.bundle", root], tmp_path / "copy")
    assert (again.written, again.equal) == (0, 8)
    assert files(tmp_path / "copy") == files(root)


def test_the_same_store_gives_the_same_bytes(tmp_path: Path) -> None:
    root = filled(tmp_path / "store")
    for name in ("one", "two"):
        bundle(root, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with zipfile.ZipFile(tmp_path / "one") as archive:
        # The first moment that a ZIP file can name, whenever the bundle is made.
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_disjoint_stores_are_joined(tmp_path: Path) -> None:
    one, two = filled(tmp_path / "one", NAMES[:2]), filled(tmp_path / "two", NAMES[2:])
    found = merge([one, two], tmp_path / "both")
    assert (found.written, found.equal) == (4, 1)  # the fact is in both
    assert [r.cell_id for r in Store(tmp_path / "both").read_all()[0]] == list(NAMES)
    assert Store(tmp_path / "both").check() == []


def test_a_record_that_is_there_stays_and_the_conflict_is_said(tmp_path: Path) -> None:
    one = filled(tmp_path / "one", NAMES[:1])
    metrics = {"elbo": Metric.measured("elbo", 99.0)}
    two = filled(tmp_path / "two", NAMES[:1], metrics=metrics, environment=Environment(cores=64))
    before = files(one)
    found = merge([two], one)
    assert files(one) == before
    assert found.written == 0
    (line,) = found.conflicts
    for word in ("cells/a-1", "environment", "metrics (elbo, kl, knn_accuracy)", str(one)):
        assert word in line
    found = merge([two, one], tmp_path / "three")
    assert len(found.conflicts) == 1
    assert Store(tmp_path / "three").read("a-1").metrics == metrics  # that of the first


@pytest.mark.parametrize(("count", "more"), [(4, ")"), (5, " and 1 more)"), (6, " and 2 more)")])
def test_four_differing_metrics_are_named_and_the_others_counted(
    tmp_path: Path, count: int, more: str
) -> None:
    names = ["elbo", "kl", "mse", "iw_bound", "active_units", "sigma_fitted"][:count]
    roots = [
        filled(
            tmp_path / str(value), NAMES[:1], metrics={n: Metric.measured(n, value) for n in names}
        )
        for value in (1.0, 2.0)
    ]
    (line,) = merge(roots, tmp_path / "both").conflicts
    shown = ", ".join(sorted(names)[:4])
    assert f"differ in metrics ({shown}{more};" in line


def test_a_finished_cell_is_preferred_to_one_that_was_interrupted(tmp_path: Path) -> None:
    stopped = Status(state="interrupted", reason="stopped by a signal")
    first = filled(tmp_path / "first", NAMES[:1], status=stopped)
    second = filled(tmp_path / "second", NAMES[:1])
    merge([first, second], tmp_path / "both")
    assert Store(tmp_path / "both").read("a-1").status.state == "done"


@pytest.mark.parametrize("name", ["record.json", "arrays.npz", "weights.safetensors"])
def test_what_is_damaged_is_named_and_left_out(tmp_path: Path, name: str) -> None:
    root = filled(tmp_path / "store")
    path = root / "cells" / "b-2" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    count, damages = bundle(root, tmp_path / "some")
    assert count == 3
    assert [damage.name for damage in damages] == ["b-2"]
    found = merge([root], tmp_path / "copy")
    assert found.written == 3
    assert "b-2" in found.unused[0]
    assert {r.cell_id for r in Store(tmp_path / "copy").read_all()[0]} == {"a-1", "c-3"}


def test_a_merge_of_damaged_records_only_creates_no_store(tmp_path: Path) -> None:
    root = filled(tmp_path / "store", NAMES[:1])
    records = list(root.glob("*/*/record.json"))
    for path in records:
        path.write_bytes(path.read_bytes()[:-9])
    found = merge([root], tmp_path / "copy")
    assert (found.written, len(found.unused)) == (0, len(records))
    assert not (tmp_path / "copy").exists()


def test_a_damaged_record_of_the_target_is_not_replaced(tmp_path: Path) -> None:
    root, target = filled(tmp_path / "store"), filled(tmp_path / "target", NAMES[:1])
    path = target / "cells" / "a-1" / "record.json"
    path.write_bytes(path.read_bytes()[:-9])
    before = path.read_bytes()
    found = merge([root], target)
    assert path.read_bytes() == before
    assert (found.written, len(found.unused)) == (2, 1)


def test_nothing_and_no_folder_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingToReport, match="no record"):
        merge([tmp_path / "empty"], tmp_path / "copy")
    with pytest.raises(NothingToReport, match="no undamaged record"):
        bundle(tmp_path / "empty", tmp_path / "file")
    assert not (tmp_path / "file").exists()
    assert not (tmp_path / "copy").exists()
    with pytest.raises(FileNotFoundError):
        merge([tmp_path / "none"], tmp_path / "copy")
    root = filled(tmp_path / "store")
    with pytest.raises(UsageError, match="outside of its store"):
        bundle(root, root / "cells" / "file")
    with pytest.raises(UsageError, match="no folder"):
        bundle(root, tmp_path / "none" / "file")


Change = Callable[[dict[str, tuple[zipfile.ZipInfo, bytes]]], None]


def rewritten(source: Path, target: Path, change: Change) -> Path:
    """A copy of a bundle whose entries a function has changed."""
    with zipfile.ZipFile(source) as old:
        entries = {entry.filename: (entry, old.read(entry)) for entry in old.infolist()}
    change(entries)
    with zipfile.ZipFile(target, "w") as new:
        for name, (entry, content) in entries.items():
            made = zipfile.ZipInfo(name)
            made.compress_type, made.external_attr = entry.compress_type, entry.external_attr
            new.writestr(made, content)
    return target


def listed(entries: dict[str, tuple[zipfile.ZipInfo, bytes]], name: str, content: bytes) -> None:
    """Add an entry that the bundle's list names with its right checksum."""
    entry, text = entries["bundle.json"]
    manifest = json.loads(text)
    manifest["files"][name] = hashlib.sha256(content).hexdigest()
    entries["bundle.json"] = entry, json.dumps(manifest).encode()
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    entries[name] = info, content


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/passwd",
        "cells/../../record.json",
        "cells/../record.json",
        "cells/a-1/../../../record.json",
        "cells\\a-1\\record.json",
        "cells/a-1/evil.py",
        "cells/a-1/sub/record.json",
        ".checkpoints/x",
        "cells/a./record.json",
    ],
)
def test_entries_that_no_bundle_has_are_refused(tmp_path: Path, name: str) -> None:
    bundle(filled(tmp_path / "store"), tmp_path / "good")
    bad = rewritten(tmp_path / "good", tmp_path / "bad", lambda e: listed(e, name, b"x"))
    before = set(tmp_path.rglob("*"))
    with pytest.raises(BundleDamaged, match="must hold only files of records"):
        merge([bad], tmp_path / "copy")
    assert set(tmp_path.rglob("*")) == before


def test_links_are_refused(tmp_path: Path) -> None:
    bundle(filled(tmp_path / "store"), tmp_path / "good")

    def link(entries: dict[str, tuple[zipfile.ZipInfo, bytes]]) -> None:
        entries["cells/a-1/arrays.npz"][0].external_attr = (stat.S_IFLNK | 0o777) << 16

    with pytest.raises(BundleDamaged, match="link"):
        merge([rewritten(tmp_path / "good", tmp_path / "bad", link)], tmp_path / "copy")


def test_regular_files_of_another_program_are_taken_and_encrypted_ones_refused(
    tmp_path: Path,
) -> None:
    bundle(filled(tmp_path / "store"), tmp_path / "good")

    def regular(entries: dict[str, tuple[zipfile.ZipInfo, bytes]]) -> None:
        for entry, _ in entries.values():
            entry.external_attr = (stat.S_IFREG | 0o644) << 16

    made = rewritten(tmp_path / "good", tmp_path / "regular", regular)
    assert merge([made], tmp_path / "copy").written == 4
    content = bytearray((tmp_path / "good").read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1  # the flags of the last file
    (tmp_path / "encrypted").write_bytes(content)
    with pytest.raises(BundleDamaged, match="links or encrypted files"):
        merge([tmp_path / "encrypted"], tmp_path / "copy")


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    bundle(filled(tmp_path / "store"), tmp_path / "good")
    name = "cells/d-4/record.json"
    bomb = rewritten(
        tmp_path / "good", tmp_path / "bomb", lambda e: listed(e, name, bytes(20_000_000))
    )
    assert bomb.stat().st_size < 100_000
    with pytest.raises(BundleDamaged, match="and unpacks to"):
        merge([bomb], tmp_path / "copy")


def test_a_bomb_that_lies_about_its_size_takes_no_memory(tmp_path: Path) -> None:
    """Its entry says 10 bytes and unpacks to 60 MB: only the stated size is unpacked."""
    bundle(filled(tmp_path / "store", NAMES[:1]), tmp_path / "good")
    size, name = 60_000_000, "cells/d-4/record.json"
    made = rewritten(tmp_path / "good", tmp_path / "bomb", lambda e: listed(e, name, bytes(size)))
    content = made.read_bytes()
    # In the local header and in the central directory.
    assert content.count(size.to_bytes(4, "little")) == 2
    made.write_bytes(content.replace(size.to_bytes(4, "little"), (10).to_bytes(4, "little")))
    tracemalloc.start()
    found = merge([made], tmp_path / "copy")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.written == 2
    assert "d-4" in found.unused[0]
    assert peak < 10_000_000


def test_a_bundle_that_was_cut_or_changed_is_found(tmp_path: Path) -> None:
    good = tmp_path / "good"
    bundle(filled(tmp_path / "store"), good)
    content, bad = good.read_bytes(), tmp_path / "bad"
    for length in (0, 1, len(content) // 2, len(content) - 1):
        bad.write_bytes(content[:length])
        with pytest.raises(BundleDamaged):
            merge([bad], tmp_path / "copy")
    for place in range(0, len(content), 97):
        flipped = bytearray(content)
        flipped[place] ^= 4
        bad.write_bytes(flipped)
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        try:
            merge([bad], tmp_path / "copy")
        except (BundleDamaged, OSError):
            continue
        whole = files(tmp_path / "store")
        copied = files(tmp_path / "copy")
        assert all(whole[name] == copied[name] for name in copied), place


@pytest.mark.parametrize("which", ["missing", "extra", "twice", "format", "no list"])
def test_a_list_that_does_not_fit_the_files_is_found(tmp_path: Path, which: str) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    bundle(filled(tmp_path / "store"), good)

    def change(entries: dict[str, tuple[zipfile.ZipInfo, bytes]]) -> None:
        if which == "missing":
            del entries["cells/b-2/arrays.npz"]
        elif which == "extra":
            entries["cells/d-4/record.json"] = zipfile.ZipInfo("x"), b"{}"
        elif which == "format":
            entry, text = entries["bundle.json"]
            entries["bundle.json"] = entry, text.replace(b"bundle/1", b"bundle/9")
        elif which == "no list":
            del entries["bundle.json"]

    rewritten(good, bad, change)
    if which == "twice":
        with zipfile.ZipFile(bad, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("cells/a-1/record.json", b"{}")
    with pytest.raises(BundleDamaged):
        merge([bad], tmp_path / "copy")


def test_other_files_are_no_bundles(tmp_path: Path) -> None:
    for name, content in (("text", b"elbo,kl\n"), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        with (
            pytest.raises(BundleDamaged, match="must be a complete bundle"),
            opened(tmp_path / name),
        ):
            pass
    packed = io.BytesIO()
    np.savez(packed, x=np.ones(3))
    (tmp_path / "npz").write_bytes(packed.getvalue())
    with (
        pytest.raises(BundleDamaged, match="must hold only files of records"),
        opened(tmp_path / "npz"),
    ):
        pass
    with pytest.raises(BundleDamaged, match="regular file"), opened("/dev/zero"):
        pass


def test_an_older_record_is_merged_in_todays_schema(tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "golden" / "record-1.json"
    old = json.loads(golden.read_text(encoding="utf-8"))["cell_id"]
    folder = tmp_path / "store" / "cells" / old
    folder.mkdir(parents=True)
    shutil.copy(golden, folder / "record.json")
    record = Store(tmp_path / "store").read(old)
    found = merge([tmp_path / "store"], tmp_path / "copy")
    assert found.written == 1
    assert Store(tmp_path / "copy").read(old) == record
