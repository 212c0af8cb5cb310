"""Every operation on files that a store does, in one place, and the error that names them.

A store asks a `Files` for each step, so that a test can let any single one of them fail.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vaebench.errors import StorageError

__all__ = ["Files", "storing", "write_whole"]

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Files:
    """The operations of the operating system that a store stands on, one method each."""

    def make_folder(self, path: Path) -> None:
        """Make a folder and those above it, unless it is there."""
        path.mkdir(parents=True, exist_ok=True)

    def names(self, folder: Path) -> list[str]:
        """Return what is in a folder."""
        return os.listdir(folder)  # noqa: PTH208 - iterdir would build 10,000 paths for names

    def create(self, path: Path) -> int:
        """Open a file that must not be there yet; return its descriptor."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(path, flags, 0o666)

    def write(self, descriptor: int, content: bytes) -> None:
        """Write all of the content."""
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    def sync(self, descriptor: int) -> None:
        """Wait until what was written is on the disk."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a descriptor; after an error it is closed all the same."""
        os.close(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        """Give a file its final name, in place of what had that name."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Remove a file, unless there is none."""
        path.unlink(missing_ok=True)

    def read(self, path: Path) -> bytes:
        """Return a file's bytes."""
        return path.read_bytes()

    def sync_folder(self, folder: Path) -> None:
        """Wait until the folder's names are on the disk."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            # Network and FUSE file systems may not offer this for folders at all.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(descriptor)

    def open_lock(self, path: Path) -> int:
        """Open the file that carries the lock, made if it is not there."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)

    def lock(self, descriptor: int, wait: bool) -> None:
        """Take the lock, which the system frees when its holder ends, however it ends.

        Raises:
            BlockingIOError: another process holds it, and `wait` is false.
        """
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))

    def mark(self, descriptor: int, content: bytes) -> None:
        """Make the content all that stands in an open file."""
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, content, 0)


def write_whole(files: Files, path: Path, content: bytes) -> None:
    """Write a new file to the disk; after an error nothing of it is left.

    A file of this name that an earlier failure left behind is removed first. A failed sync is
    final: the system may have dropped the pages, so a second one on this file proves nothing.
    """
    files.remove(path)
    descriptor = files.create(path)
    try:
        try:
            files.write(descriptor, content)
            files.sync(descriptor)
        finally:
            files.close(descriptor)
    except BaseException:
        with suppress(OSError):
            files.remove(path)
        raise


@contextmanager
def storing(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError within into a StorageError that says what was tried, where, and why not."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise _refused(action, path, error) from error


def _refused(action: str, path: Path, error: OSError) -> StorageError:
    number = error.errno or errno.EIO
    told = f"cannot {action}: {os.strerror(number)} ({errno.errorcode.get(number, number)})"
    if number in _FULL:
        told += f", {_free_bytes(path):,} bytes are free; free some space and run it again"
    return StorageError(number, told, str(error.filename or path))


def _free_bytes(path: Path) -> int:
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free
