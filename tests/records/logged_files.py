"""The operations of a save, and what a power failure may leave of them.

Only what a later sync protects is certain: the content of a file by a sync of the file, a name by a
sync of its folder. Every other operation may be lost, in any combination.
"""

import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vaebench.records.files import Files


@dataclass(frozen=True)
class Operation:
    """One change: create, write, replace, remove or make_folder; or a sync of a file or folder."""

    kind: str
    path: Path
    content: bytes = b""
    source: Path | None = None


class LoggedFiles(Files):
    """Files that write down what they do."""

    def __init__(self) -> None:
        self.log: list[Operation] = []
        self._paths: dict[int, Path] = {}

    def make_folder(self, path: Path) -> None:
        for folder in reversed([path, *path.parents]):
            if not folder.exists():
                self.log.append(Operation("make_folder", folder))
        super().make_folder(path)

    def create(self, path: Path) -> int:
        self.log.append(Operation("create", path))
        descriptor = super().create(path)
        self._paths[descriptor] = path
        return descriptor

    def write(self, descriptor: int, content: bytes) -> None:
        self.log.append(Operation("write", self._paths[descriptor], content))
        super().write(descriptor, content)

    def sync(self, descriptor: int) -> None:
        self.log.append(Operation("sync", self._paths[descriptor]))
        super().sync(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        self.log.append(Operation("replace", target, source=source))
        super().replace(source, target)

    def remove(self, path: Path) -> None:
        if path.exists():
            self.log.append(Operation("remove", path))
        super().remove(path)

    def sync_folder(self, folder: Path) -> None:
        self.log.append(Operation("sync_folder", folder))
        super().sync_folder(folder)


def _is_certain(operation: Operation, later: Sequence[Operation]) -> bool:
    if operation.kind.startswith("sync"):
        return True
    kind = "sync" if operation.kind == "write" else "sync_folder"
    place = operation.path if operation.kind == "write" else operation.path.parent
    # A file that was moved is synced under its first name.
    return any(each.kind == kind and each.path == place for each in later)


def after_a_power_failure(
    log: Sequence[Operation], before: Path, work: Path
) -> Iterator[tuple[Path, bool]]:
    """Yield, for each moment and each subset of lost operations, a copy with what is left.

    Args:
        log: the operations of a save under `before`, a copy of the folder as it was.
        work: where the copies are made.

    Yields:
        The copy in its state, and whether the save had ended.
    """
    for end in range(len(log) + 1):
        done = log[:end]
        open_ends = [n for n, each in enumerate(done) if not _is_certain(each, done[n + 1 :])]
        for count in range(len(open_ends) + 1):
            for lost in itertools.combinations(open_ends, count):
                shutil.rmtree(work, ignore_errors=True)
                shutil.copytree(before, work)
                _replay([each for n, each in enumerate(done) if n not in lost], before, work)
                yield work, end == len(log)


def _replay(log: Sequence[Operation], root: Path, copy: Path) -> None:
    """Repeat operations in a copy; one that needs a lost one is lost too."""

    def place(path: Path) -> Path:
        return copy / os.path.relpath(path, root)

    for each in log:
        path = place(each.path)
        if each.kind == "make_folder" and path.parent.is_dir():
            path.mkdir(exist_ok=True)
        elif each.kind == "create" and path.parent.is_dir():
            path.touch()
        elif each.kind == "write" and path.exists():
            with path.open("ab") as file:
                file.write(each.content)
        elif each.kind == "replace" and each.source is not None:
            source = place(each.source)
            if source.exists() and path.parent.is_dir():
                source.replace(path)
        elif each.kind == "remove":
            path.unlink(missing_ok=True)
