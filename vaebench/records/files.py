"""The file operations of a store, and the error that names the file.

A store calls a method of `Files` for each operation, so that a test can make any of them fail.
"""

import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vaebench.errors import StorageError, UsageError

_MOST_BYTES = 1 << 34


class Files:
    """The operations of the operating system that a store uses, one method each."""

    def make_folder(self, path: Path) -> None:
        """Make a folder and its parents, unless it exists."""
        path.mkdir(parents=True, exist_ok=True)

    def names(self, folder: Path) -> list[str]:
        """Return the names in a folder."""
        return os.listdir(folder)  # noqa: PTH208 - iterdir would build 10,000 paths for names

    def create(self, path: Path) -> int:
        """Create a file that must not exist; return its descriptor."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(path, flags, 0o666)

    def write(self, descriptor: int, content: bytes) -> None:
        """Write the complete content."""
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    def sync(self, descriptor: int) -> None:
        """Wait until the written data are on the disk."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a descriptor, also after an error."""
        os.close(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        """Rename a file, replacing a file at the target."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Remove a file if it exists."""
        path.unlink(missing_ok=True)

    def read(self, path: Path, most: int = _MOST_BYTES) -> bytes:
        """Return the bytes of a regular file.

        Raises:
            OSError: the file cannot be read, is not a regular file (EINVAL; a pipe or a device
                could block), or is larger than `most` bytes (EFBIG).
        """
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "not a regular file", str(path))
            if found.st_size > most:
                raise OSError(errno.EFBIG, f"larger than {most:,} bytes", str(path))
            return file.read()

    def sync_folder(self, folder: Path) -> None:
        """Wait until the names in a folder are on the disk."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            # Network and FUSE file systems may not support this for folders.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(descriptor)

    def links(self, folder: Path) -> list[str]:
        """Return the names of the symbolic links in a folder; empty if it does not exist."""
        try:
            with os.scandir(folder) as entries:
                return [entry.name for entry in entries if entry.is_symlink()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def open_folder(self, path: Path) -> int:
        """Open a folder, to lock it."""
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def is_open_at(self, descriptor: int, path: Path) -> bool:
        """Return whether the open file or folder is still the one at the path."""
        try:
            return os.path.samestat(os.fstat(descriptor), path.stat())
        except FileNotFoundError:
            return False

    def open_lock(self, path: Path) -> int:
        """Open the lock file; create it if it does not exist."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)

    def lock(self, descriptor: int, wait: bool) -> None:
        """Take the lock; the system releases it when the process ends for any reason.

        Raises:
            BlockingIOError: another process holds the lock, and `wait` is false.
        """
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))

    def mark(self, descriptor: int, content: bytes) -> None:
        """Replace the content of an open file."""
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, content, 0)


def write_whole(files: Files, path: Path, content: bytes) -> None:
    """Write a new file to the disk; after an error no part of it remains.

    A file of this name from an earlier failure is removed first. A failed sync is not repeated:
    the system may have dropped the data, so that a second sync would wrongly succeed.
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
def completed(file: Path) -> Iterator[Path]:
    """Give an empty file that takes the name of `file` at the end; after an error it is removed.

    Raises:
        UsageError: the folder of `file` does not exist, or `file` is a folder.
        OSError: the file cannot be made, or (StorageError) not be written; the error names it.
    """
    if not file.parent.is_dir():
        raise UsageError(f"there is no folder {file.parent} to write {file.name} to")
    if file.is_dir():
        raise UsageError(f"{file} is a folder; give the name of a file in it")
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".export-", suffix=file.suffix)
    os.close(handle)
    part = Path(name)
    try:
        with storing("write the file", file):
            yield part
        part.chmod(0o644)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def storing(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a StorageError with the action, the path and the cause."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        number = error.errno or errno.EIO
        why = error.strerror or os.strerror(number)
        told = f"cannot {action}: {why} ({errno.errorcode.get(number, number)})"
        if number in (errno.ENOSPC, errno.EDQUOT):
            there = next(each for each in (path, *path.absolute().parents) if each.exists())
            free = shutil.disk_usage(there).free
            told += f", {free:,} bytes are free; free some space and run it again"
        raise StorageError(number, told, str(error.filename or path)) from error
