"""What users and file systems do to a store: nothing is lost, and every file is named."""

import errno
import io
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from small_stores import record, small_run

from vaebench.errors import ArraysDamaged, StorageError, StoreBusy
from vaebench.records.arrays import pack, unpack
from vaebench.records.files import Files
from vaebench.records.store import Store
from vaebench.report.report import make_report


class _Unreadable(Files):
    """Files of which those of one name cannot be read, as after `chmod 000` for its owner."""

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self, path: Path, *limits: int) -> bytes:
        if path.name == self.name and "seed0" in str(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return super().read(path, *limits)


@pytest.fixture
def copied(finished: Store, tmp_path: Path) -> Path:
    shutil.copytree(finished.root, tmp_path / "store")
    return tmp_path / "store"


def content(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["record.json", "arrays.npz"])
def test_a_file_that_cannot_be_read_is_not_a_file_that_is_absent(copied: Path, name: str) -> None:
    before = content(copied)
    summary, _ = small_run(Store(copied, _Unreadable(name)))
    assert summary.trained == {}
    assert len(summary.unused) == 1
    assert name in summary.unused[0]
    assert "EACCES" in summary.unused[0]
    assert content(copied) == before


def test_no_writer_replaces_a_record_that_it_cannot_read(store: Store) -> None:
    class Fails(Files):
        def read(self, path: Path, *limits: int) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    before = content(store.root)
    with Store(store.root, Fails()).writing() as other, pytest.raises(StorageError, match="EIO"):
        other.write(record("a", grid="another"))
    assert content(store.root) == before


def test_arrays_that_are_missing_are_named_before_the_cell_is_trained_again(copied: Path) -> None:
    (arrays,) = copied.glob("cells/*seed0*/arrays.npz")
    before = arrays.read_bytes()
    arrays.unlink()
    summary, lines = small_run(Store(copied))
    assert list(summary.trained.values()) == ["done"]
    (line,) = [line for line in lines if line.startswith("made again: ")]
    assert str(arrays) in line
    assert unpack(arrays.read_bytes()).keys() == unpack(before).keys()


# --- links ---------------------------------------------------------------------------------------

ROOMS = ("cells", "facts", ".incoming", ".quarantine", ".checkpoints", "cells/a")


@pytest.mark.parametrize("room", ROOMS)
def test_no_link_inside_a_store_is_followed(store: Store, tmp_path: Path, room: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("mine")
    place = store.root / room
    if place.exists():
        shutil.rmtree(place)
    place.symlink_to(outside)
    before = content(tmp_path)
    with pytest.raises(StorageError, match="symbolic link") as refused, store.writing():
        pass
    assert str(place) in str(refused.value)
    after = content(tmp_path)
    after.pop(store.root / ".lock", None)
    before.pop(store.root / ".lock", None)
    assert after == before


def test_a_link_that_appears_during_a_run_is_an_error_and_not_followed(
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    with store.writing():
        (store.root / "cells" / "new").symlink_to(tmp_path / "outside")
        with pytest.raises(StorageError, match="must be inside the store"):
            store.write(record("new"))
    assert list((tmp_path / "outside").iterdir()) == []


def test_the_store_itself_may_be_a_link(store: Store, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store.root)
    linked = Store(tmp_path / "link")
    with linked.writing():
        linked.write(record("d"))
    assert set(store.states()) == set("abcd")


# --- locks ---------------------------------------------------------------------------------------


def test_the_lock_holds_when_its_file_is_removed(store: Store) -> None:
    with store.writing():
        (store.root / ".lock").unlink()
        with pytest.raises(StoreBusy), Store(store.root).writing():
            pass
        store.write(record("d"))
    assert "d" in store.states()


def test_a_store_that_was_moved_away_is_not_written_at_its_old_path(
    store: Store, tmp_path: Path
) -> None:
    with store.writing():
        store.root.rename(tmp_path / "moved")
        with Store(store.root).writing() as other:
            other.write(record("other"))
            with pytest.raises(StorageError, match="replaced"):
                store.write(record("d"))
    assert set(Store(store.root).states()) == {"other"}


def test_a_file_system_that_cannot_lock_folders_uses_the_lock_file(store: Store) -> None:
    class LikeNfs(Files):
        def lock(self, descriptor: int, wait: bool) -> None:
            if os.path.isdir(f"/proc/self/fd/{descriptor}"):  # noqa: PTH112
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            super().lock(descriptor, wait)

    one, other = Store(store.root, LikeNfs()), Store(store.root, LikeNfs())
    with one.writing():
        with pytest.raises(StoreBusy), other.writing():
            pass
        (store.root / ".lock").unlink()
        with pytest.raises(StorageError, match="replaced"):
            one.write(record("d"))


# --- files that are none -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["record.json", "arrays.npz"])
def test_a_pipe_in_place_of_a_file_neither_hangs_nor_blocks_others(copied: Path, name: str) -> None:
    (path,) = copied.glob(f"cells/*seed0*/{name}")
    path.unlink()
    os.mkfifo(path)
    damages = Store(copied).check()
    assert [(each.path, each.kind) for each in damages] == [(path, "unreadable")]
    assert "regular file" in damages[0].reason
    summary, _ = small_run(Store(copied))
    assert (summary.trained, len(summary.unused)) == ({}, 1)


def test_a_record_of_any_size_is_refused_before_it_is_read(store: Store) -> None:
    path = store.root / "cells" / "a" / "record.json"
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    (damage,) = store.check()
    assert (damage.path, damage.kind) == (path, "unreadable")
    assert "10,000,000 bytes" in damage.reason


def npz(name: str, header: bytes, body: bytes = b"") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + header + body)
    return packed.getvalue()


def header(text: str) -> bytes:
    line = text.encode() + b"\n"
    return len(line).to_bytes(2, "little") + line


IMPOSSIBLE = {
    "too large": npz(
        "a", header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**12},)}}")
    ),
    "no header": npz("a", header("nonsense")),
    "no magic": npz("a", b""),
    "flat map": pack({"tsne": np.zeros(7)}),
    "labels of others": pack({"tsne": np.zeros((7, 2)), "tsne_labels": np.zeros(6)}),
    "no image": pack({"prior_samples": np.zeros((0, 8, 8), np.uint8)}),
    "deep": pack({"interpolations": np.zeros((1,) * 9)}),
}


@pytest.mark.parametrize("packed", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_impossible_arrays_are_damaged(packed: bytes) -> None:
    with pytest.raises(ArraysDamaged):
        unpack(packed)


@pytest.mark.parametrize("packed", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_a_report_names_a_cell_with_impossible_arrays_and_shows_the_others(
    copied: Path, tmp_path: Path, packed: bytes
) -> None:
    import hashlib

    store = Store(copied)
    name = next(name for name in store.states() if "seed0" in name)
    digest = hashlib.sha256(packed).hexdigest()
    with store.writing():
        store.write(store.read(name).model_copy(update={"arrays_sha256": digest}))
    (copied / "cells" / name / "arrays.npz").write_bytes(packed)
    made = make_report(copied, tmp_path / "report")
    assert any(name in line for line in made.unused)
    assert name in made.page.read_text(encoding="utf-8")
    assert "seed1" in (tmp_path / "report/tables/results.csv").read_text(encoding="utf-8")


def test_leftovers_of_a_killed_run_are_swept(store: Store) -> None:
    store.checkpoints.mkdir()
    (store.checkpoints / "a.123.new").write_bytes(b"half a checkpoint")
    (store.checkpoints / "a.123.checkpoint").write_bytes(b"a checkpoint")
    (store.root / ".incoming" / "cells-a.json").write_bytes(b"{")
    with store.writing():
        pass
    assert [path.name for path in store.checkpoints.iterdir()] == ["a.123.checkpoint"]
    assert list((store.root / ".incoming").iterdir()) == []


def test_a_file_in_place_of_a_cells_folder_is_named_before_the_cell_is_trained(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder,) = copied.glob("cells/*seed0*")
    shutil.rmtree(folder)
    folder.write_text("mine", encoding="utf-8")
    monkeypatch.setattr("vaebench.runner.run.Pool", None)  # nothing may be started
    with pytest.raises(StorageError, match="where the folder of a cell belongs") as refused:
        small_run(Store(copied))
    assert str(folder) in str(refused.value)
    assert folder.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("damage", ["a pipe", "other bytes"])
def test_one_file_of_weights_does_not_keep_the_others_from_being_evaluated(
    tmp_path: Path, damage: str
) -> None:
    store = Store(tmp_path)
    small_run(store, keep_weights=True)
    (path,) = tmp_path.glob("cells/*seed0*/weights.safetensors")
    path.unlink()
    if damage == "a pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"other bytes")
    summary, lines = small_run(store, evaluate_again=True)
    assert ["seed1" in name for name in summary.trained] == [True]
    assert [str(path) in line for line in summary.unused] == [True]
    assert not any(line.startswith("made again") for line in lines)
