"""Let each single file operation of a write fail: nothing partial, nothing stray, all named."""

import errno
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from faulty_files import OPERATIONS, FaultyFiles, fails_with

from vaebench.errors import StorageError
from vaebench.records.files import Files, storing, write_whole
from vaebench.records.schema import CellRecord, Note
from vaebench.records.store import Store

RecordFactory = Callable[..., CellRecord]
OLD, NEW = ({"kl_per_dimension": np.full(9, number, np.float32)} for number in (1, 2))


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def descriptors() -> int:
    return len(listing(Path("/proc/self/fd")))


def rewritten(store: Store, record: CellRecord, files: Files) -> StorageError | None:
    """Write the record anew through these files; return what went wrong."""
    try:
        with Store(store.root, files).writing() as faulty:
            faulty.write(record, NEW)
    except StorageError as error:
        return error
    return None


def until_clean(
    folder: Path, record: CellRecord, number: int, forever: bool, before: bool
) -> Iterator[tuple[Store, StorageError]]:
    """Yield a store and its error for each operation of a write that fails, in turn."""
    for first in range(1, 1000):
        store = Store(folder / str(first))
        if before:
            with store.writing():
                store.write(record.model_copy(update={"grid": "old"}), OLD)
        files = FaultyFiles(first, fails_with(number), forever)
        error = rewritten(store, record, files)
        if error is None and files.calls < first:
            return
        if error is not None:
            yield store, error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize("forever", [False, True], ids=["once", "for-ever"])
@pytest.mark.parametrize("before", [False, True], ids=["first", "again"])
def test_every_operation_may_fail(
    tmp_path: Path, make_record: RecordFactory, number: int, forever: bool, before: bool
) -> None:
    record = make_record()
    open_before = descriptors()
    failures = 0
    for store, error in until_clean(tmp_path, record, number, forever, before):
        failures += 1
        assert error.errno == number
        assert errno.errorcode[number] in str(error)
        assert str(tmp_path) in str(error)
        found = store.read_all()[0]
        assert [each.grid for each in found] in ([["old"], ["tiny"]] if before else [[], ["tiny"]])
        for each in found:
            value = 1 if each.grid == "old" else 2
            assert store.arrays(each.cell_id)["kl_per_dimension"][0] == value
        assert store.check() == []
        with store.writing():
            assert listing(store.root / ".incoming") == []
            store.write(record, NEW)
        assert store.read(record.cell_id).grid == "tiny"
        assert store.check() == []
    # Two files of five operations each, two renames, the lock and the folders.
    assert failures > 15
    assert descriptors() == open_before


def test_a_failure_once_leaves_no_temporary_file_even_before_the_next_writer(
    tmp_path: Path, make_record: RecordFactory
) -> None:
    for store, _ in until_clean(tmp_path, make_record(), errno.ENOSPC, False, True):
        incoming = store.root / ".incoming"
        left = listing(incoming) if incoming.exists() else []
        waiting = store.read_all()[0][0].grid == "tiny"
        assert left == [] or (waiting and [Path(name).suffix for name in left] == [".npz"])


def test_a_full_disk_says_how_much_is_free(tmp_path: Path, make_record: RecordFactory) -> None:
    error = rewritten(Store(tmp_path), make_record(), FaultyFiles(9, fails_with(errno.ENOSPC)))
    assert error is not None
    assert "bytes are free; free some space" in str(error)


def test_a_failed_sync_is_not_tried_again(tmp_path: Path) -> None:
    class Files(FaultyFiles):
        syncs = 0

        def sync(self, descriptor: int) -> None:
            self.syncs += 1
            raise OSError(errno.EIO, "sync")

    files = Files(0, fails_with(errno.EIO))
    with pytest.raises(OSError, match="sync"):
        write_whole(files, tmp_path / "file", b"content")
    assert files.syncs == 1
    assert listing(tmp_path) == []


def test_the_double_covers_the_whole_seam() -> None:
    assert set(OPERATIONS) == {name for name in dir(Files) if not name.startswith("_")}
    assert len(OPERATIONS) >= 12


def test_a_real_full_device_is_told(tmp_path: Path) -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(StorageError, match="ENOSPC") as told,
        storing("write", tmp_path / "f"),
    ):
        Files().write(full.fileno(), b"content")
    assert told.value.filename == str(tmp_path / "f")


def test_a_real_file_size_limit_leaves_nothing(tmp_path: Path, make_record: RecordFactory) -> None:
    record = make_record(warnings=[Note.of("data", "x" * 200_000)])
    store = Store(tmp_path / "results")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with pytest.raises(StorageError, match="EFBIG"), store.writing():
            store.write(record)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert store.states() == {}
    assert listing(store.root / ".incoming") == []


@pytest.mark.parametrize(
    "number", [errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG, errno.EROFS]
)
def test_other_refusals_are_named_with_path_and_errno(tmp_path: Path, number: int) -> None:
    faulty = Store(tmp_path, FaultyFiles(2, fails_with(number)))
    with pytest.raises(StorageError, match=errno.errorcode[number]) as told, faulty.writing():
        pytest.fail("the folder was taken")
    assert told.value.errno == number
    assert str(tmp_path) in str(told.value)


def test_a_folder_that_may_not_be_written_is_found_at_once(tmp_path: Path) -> None:
    faulty = Store(tmp_path, FaultyFiles(1, fails_with(errno.EACCES)))
    with pytest.raises(StorageError, match="EACCES"), faulty.writing():
        pytest.fail("the folder was taken")


def test_what_is_written_is_synced_by_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests replace `Files`; its own methods must do what they are called."""
    synced: list[str] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 - of a descriptor
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    write_whole(Files(), tmp_path / "new", b"content")
    Files().sync_folder(tmp_path)
    assert synced == [str(tmp_path / "new"), str(tmp_path)]


@pytest.mark.parametrize(
    ("number", "is_final"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)]
)
def test_a_file_system_may_lack_the_sync_of_folders_but_not_fail_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_final: bool
) -> None:
    def fails(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    before = descriptors()
    with pytest.raises(OSError, match="Input/output") if is_final else nullcontext():
        Files().sync_folder(tmp_path)
    assert descriptors() == before
