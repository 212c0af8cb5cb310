"""The operations of the operating system do what the store relies on."""

import errno
import os
from pathlib import Path

import pytest

from vaebench.records.files import Files, completed


def test_a_mark_replaces_the_one_before_it(tmp_path: Path) -> None:
    descriptor = Files().open_lock(tmp_path / ".lock")
    for content in (b"1234567", b"89", b""):
        Files().mark(descriptor, content)
        assert (tmp_path / ".lock").read_bytes() == content
    os.close(descriptor)


def test_the_links_of_a_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert Files().links(tmp_path) == []
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    assert Files().links(tmp_path) == ["link"]
    assert Files().links(tmp_path / "absent") == []
    assert Files().links(tmp_path / "file") == []


def test_only_folders_are_synced_or_locked_as_folders(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for operation in (Files().sync_folder, Files().open_folder):
        with pytest.raises(NotADirectoryError):
            operation(tmp_path / "file")


def test_a_file_is_created_once_and_never_through_a_link(tmp_path: Path) -> None:
    os.close(Files().create(tmp_path / "new"))
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("new", "link"):
        with pytest.raises(FileExistsError):
            Files().create(tmp_path / name)
    with pytest.raises(OSError, match="symbolic links") as refused:
        Files().open_lock(tmp_path / "link")
    assert refused.value.errno == errno.ELOOP
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("size", [0, 9, 10, 11])
def test_a_file_of_at_most_the_given_size_is_read_whole(tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(b"x" * size)
    if size <= 10:
        assert Files().read(tmp_path / "file", most=10) == b"x" * size
    else:
        with pytest.raises(OSError, match="larger than 10 bytes"):
            Files().read(tmp_path / "file", most=10)


def test_no_descriptor_is_left_to_programs_that_are_started(tmp_path: Path) -> None:
    descriptors = [
        Files().create(tmp_path / "new"),
        Files().open_lock(tmp_path / ".lock"),
        Files().open_folder(tmp_path),
    ]
    for descriptor in descriptors:
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)


def test_a_completed_file_can_be_read_by_everybody_and_a_failed_one_is_absent(
    tmp_path: Path,
) -> None:
    with completed(tmp_path / "table.csv") as part:
        part.write_text("whole")
    assert (tmp_path / "table.csv").read_text() == "whole"
    assert (tmp_path / "table.csv").stat().st_mode & 0o777 == 0o644
    with pytest.raises(RuntimeError), completed(tmp_path / "table.csv") as part:  # noqa: PT012
        part.write_text("half")
        raise RuntimeError
    assert (tmp_path / "table.csv").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
