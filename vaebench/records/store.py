"""`Store`: the records in one results folder, written completely or not at all by one writer.

cells/<cell_id>/record.json, arrays.npz     what a cell measured
cells/<cell_id>/weights.safetensors         its trained weights, if they are kept
facts/<record_id>/record.json, arrays.npz   a finding without a cell, or a timing
.checkpoints/                               unfinished trainings; removed with the cell's record
.incoming/                                  files being written; cleaned up by the next writer
.quarantine/                                damaged files, each with its reason
.lock                                       holds the process id of the writer

A writer holds the operating system's locks on the folder and on `.lock`. The folder may be a
symbolic link; links inside it are not followed for writing or deleting.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from numpy.typing import NDArray

from vaebench.errors import (
    ArraysDamaged,
    NewerSchema,
    RecordDamaged,
    RecordEdited,
    RecordError,
    RecordMissing,
    StorageError,
    StoreBusy,
    UsageError,
    WeightsMissing,
)
from vaebench.grid.values import RESERVED
from vaebench.records.arrays import Arrays, pack, unpack
from vaebench.records.files import Files, storing, write_whole
from vaebench.records.schema import CellRecord, FactRecord, State, from_text, to_text

DamageKind = Literal["damaged", "edited", "newer", "unreadable", "arrays", "weights"]
AnyRecord = TypeVar("AnyRecord", CellRecord, FactRecord, CellRecord | FactRecord)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,118}[A-Za-z0-9_-]|[A-Za-z0-9]")
_WEIGHTS = "weights.safetensors"
_PENDING = re.compile(r"(cells|facts)-(.+)\.npz")
_MOST_RECORD_BYTES = 10_000_000
_ROOMS = ("cells", "facts")
# Errors of file systems that cannot lock a folder, such as NFS.
_NO_FOLDER_LOCK = (errno.EBADF, errno.EINVAL, errno.ENOTSUP, errno.ENOLCK, errno.EISDIR)


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that cannot be used: the name of its record, the kind of damage and the reason."""

    path: Path
    name: str
    kind: DamageKind
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.kind}: {self.reason}"


class Store:
    """The records under one results folder.

    Reading needs no lock, changes nothing, and returns complete records only, also while another
    process writes. Writing is possible inside `with store.writing():`.
    """

    def __init__(self, root: Path | str, files: Files | None = None) -> None:
        self.root = Path(root)
        self._files = Files() if files is None else files
        self._held: tuple[tuple[int, Path], ...] = ()

    @classmethod
    def at(cls, place: "Store | Path | str | None", default: Path) -> "Store":
        """Return the given store, or the store of a folder: of `default` if none is given.

        Raises:
            UsageError: the name is empty, which would mean the working folder.
        """
        if isinstance(place, Store):
            return place
        if place is not None and not str(place):
            raise UsageError("the name of a folder must not be empty")
        return cls(default if place is None else place)

    @contextmanager
    def writing(self, wait: bool = False) -> Iterator["Store"]:
        """Lock the folder for writing; it is created if it does not exist.

        Unfinished files of a killed writer are completed or removed first. Workers must be started
        by spawn, not fork: a forked child would share the lock.

        Raises:
            StoreBusy: another process holds the lock, and `wait` is false.
            StorageError: the folder cannot be created or written, or there are `obstacles`.
        """
        with ExitStack() as locks:
            with storing("open the results folder for writing", self.root):
                _raise_first(self._misplaced([".lock"]))
                self._held = self._take_locks(wait, locks)
            lock, _ = self._held[-1]
            try:
                with storing("prepare the results folder", self.root):
                    _raise_first(self.obstacles())
                    self._files.make_folder(self._incoming)
                    self._sweep()
                yield self
            finally:
                self._held = ()
                with suppress(OSError):
                    self._files.mark(lock, b"")

    def write(
        self, record: AnyRecord, arrays: Arrays | bytes | None = None, weights: bytes | None = None
    ) -> AnyRecord:
        """Write a record and its arrays, completely or not at all; return the written record.

        The record gets the checksums of `arrays` (by name, or packed as `contents` gives them) and
        `weights` (the bytes of a safetensors file).
        Without any, a record that already names some keeps those in the folder; one that names
        none ends up without.

        Raises:
            StorageError: a file operation failed, or the existing record cannot be read. Either
                the existing record is unchanged or the new one is complete.
            NewerSchema: the existing record is of a newer vaebench; it is not replaced.
            ValueError: the name is not a safe folder name, or a number is not finite.
        """
        self._must_hold()
        # A record that cannot be read now may still be valid, so it is not replaced.
        with suppress(RecordMissing, RecordDamaged, RecordEdited):
            self._read(_room(record), record.record_id)
        folder = self._folder(_room(record), record.record_id)
        packed = arrays if isinstance(arrays, bytes) else pack(arrays) if arrays else None
        if packed is not None:
            record = record.model_copy(update={"arrays_sha256": _sha256(packed)})
        if weights is not None:
            record = record.model_copy(update={"weights_sha256": _sha256(weights)})
        text = to_text(record)
        with storing("write the record", folder):
            if len(text) > _MOST_RECORD_BYTES:
                raise OSError(errno.EFBIG, f"more than {_MOST_RECORD_BYTES:,} bytes")
            is_first = not folder.parent.exists()
            if weights is not None:
                self._place_weights(folder, weights)
            self._place(folder, text, packed)
            # The record must be certain before the arrays of the one before it are replaced.
            self._files.sync_folder(folder)
            # Until their arrays are in their place, readers find them in `.incoming`.
            if packed is not None:
                self._files.replace(self._pending(folder, "npz"), folder / "arrays.npz")
            elif record.arrays_sha256 is None:
                self._files.remove(folder / "arrays.npz")
            if isinstance(record, CellRecord) and record.weights_sha256 is None:
                self._files.remove(folder / _WEIGHTS)
            self._files.sync_folder(folder)
            self._files.sync_folder(folder.parent)
            if is_first:
                self._files.sync_folder(self.root)
        return record

    def read(self, cell_id: str) -> CellRecord:
        """Return the record of a cell.

        Raises:
            RecordMissing: the cell has no record.
            RecordError: the record cannot be used; the subclass tells why.
            StorageError: the file cannot be read.
        """
        record = self._read("cells", cell_id)
        if not isinstance(record, CellRecord):
            raise RecordDamaged(f"the record in a cell's folder has kind {record.kind!r}")
        return record

    def read_fact(self, record_id: str) -> FactRecord:
        """Return the record of a finding or a timing; raises as `read` does."""
        record = self._read("facts", record_id)
        if not isinstance(record, FactRecord):
            raise RecordDamaged(f"a record in facts must be a fact; its kind is {record.kind!r}")
        return record

    def iter_records(self) -> Iterator[CellRecord | Damage]:
        """Yield the record of each cell, or its damage, sorted by cell id."""
        return self._found("cells", self.read)

    def iter_facts(self) -> Iterator[FactRecord | Damage]:
        """Yield the record of each fact, or its damage, sorted by name."""
        return self._found("facts", self.read_fact)

    def read_all(self) -> tuple[list[CellRecord], list[Damage]]:
        """Return the records of all cells, and the damaged files."""
        return _separated(self.iter_records())

    def read_facts(self) -> tuple[list[FactRecord], list[Damage]]:
        """Return the records of all findings and timings, and the damaged files."""
        return _separated(self.iter_facts())

    def states(self) -> dict[str, State | DamageKind]:
        """Return the state of every cell with a record, or the kind of its damage."""
        return {
            each.name if isinstance(each, Damage) else each.cell_id: (
                each.kind if isinstance(each, Damage) else each.status.state
            )
            for each in self.iter_records()
        }

    def arrays(self, cell_id: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of a cell by name; empty if the cell has none.

        Raises:
            ArraysDamaged: the arrays are missing or do not have the checksum in the record.
            RecordMissing, RecordError, StorageError: as in `read`.
        """
        packed = self._packed("cells", self.read(cell_id))
        return {} if packed is None else unpack(packed)

    def weights(self, cell_id: str) -> bytes:
        """Return the bytes of a cell's safetensors file.

        Raises:
            WeightsMissing: they were not kept, or do not have the checksum in the record.
            RecordMissing, RecordError, StorageError: as in `read`.
        """
        return self._weights(self.read(cell_id))

    def contents(self, record: CellRecord | FactRecord) -> tuple[bytes | None, bytes | None]:
        """Return the bytes of the arrays and of the weights that a record names, None for none.

        Raises:
            ArraysDamaged, WeightsMissing, StorageError: they are not those that it names.
        """
        weights = None
        if isinstance(record, CellRecord) and record.weights_sha256 is not None:
            weights = self._weights(record)
        return self._packed(_room(record), record), weights

    @staticmethod
    def has_weights_beside(damage: Damage) -> bool:
        """Return whether weights were kept with a damaged record; then they are kept again."""
        with suppress(OSError):
            return damage.path.with_name(_WEIGHTS).exists()
        return False

    def inspect(self, weights: bool = False) -> Iterator[CellRecord | FactRecord | Damage]:
        """Yield every record, cells before facts, and all damage, including that of arrays.

        The files are read once. The damage of a record's arrays, and of its weights if `weights`
        is true, follows the record.
        """
        for room, found in (("cells", self.iter_records()), ("facts", self.iter_facts())):
            for each in found:
                yield each
                if not isinstance(each, Damage):
                    yield from self._lost_content(room, each, weights)

    def check(self) -> list[Damage]:
        """Return all damage in the folder, including arrays and weights, without changes."""
        return [each for each in self.inspect(weights=True) if isinstance(each, Damage)]

    def quarantine(self, path: Path, reason: str) -> Path:
        """Move a file into `.quarantine/`, next to a file with the reason; return its new path.

        Raises:
            ValueError: the file is not under this results folder.
            StorageError: the file cannot be moved.
        """
        self._must_hold()
        self._must_be_inside(path)
        folder = self.root / ".quarantine"
        with storing("quarantine the file", path):
            self._files.make_folder(folder)
            target = self._free_name(folder, "-".join(path.relative_to(self.root).parts))
            note = target.with_name(f"{target.name}.reason.txt")
            write_whole(self._files, note, f"{reason}\n".encode(errors="backslashreplace"))
            self._files.replace(path, target)
            self._files.sync_folder(folder)
        return target

    def set_aside(self, damages: Iterable[Damage]) -> list[Damage]:
        """Quarantine the damaged files that will never be readable, and return them.

        Records of a newer vaebench, files that cannot be read now, and records with damaged arrays
        are not moved.
        """
        aside = [damage for damage in damages if damage.kind in ("damaged", "edited")]
        for damage in aside:
            self.quarantine(damage.path, damage.reason)
        return aside

    @property
    def checkpoints(self) -> Path:
        """The folder of unfinished trainings; each file name begins with a cell id."""
        return self.root / ".checkpoints"

    def forget_checkpoints(self, cell_ids: Iterable[str]) -> None:
        """Remove the checkpoints of cells that now have a record."""
        for cell_id in cell_ids if self.checkpoints.is_dir() else ():
            for path in self.checkpoints.glob(f"{cell_id}.*.checkpoint"):
                with storing("remove a checkpoint", path):
                    self._files.remove(path)

    @property
    def _incoming(self) -> Path:
        return self.root / ".incoming"

    def _folder(self, room: str, name: str) -> Path:
        folder = self.root / room / _checked_name(name)
        self._must_be_inside(folder)
        return folder

    def require_places(self, cell_ids: Iterable[str]) -> None:
        """Refuse a file that lies where the folder of a cell belongs, before it is trained.

        Raises:
            StorageError: there is one.
        """
        for place in (self.root / "cells" / cell_id for cell_id in cell_ids):
            if place.exists() and not place.is_dir():
                told = "a file lies where the folder of a cell belongs; move it away"
                raise StorageError(errno.ENOTDIR, told, str(place))

    def _must_be_inside(self, path: Path) -> None:
        if not path.resolve().is_relative_to(self.root.resolve()):
            told = f"the path must be inside the store {self.root}"
            raise StorageError(errno.ELOOP, told, str(path))

    def _must_hold(self) -> None:
        if not self._held:
            raise RuntimeError("the store must be locked first: use `with store.writing():`")
        descriptor, path = self._held[0]
        with storing("check the lock", path):
            if not self._files.is_open_at(descriptor, path):
                told = "the locked folder or file was replaced: another process may be writing"
                raise StorageError(errno.ESTALE, told, str(path))

    def _take_locks(self, wait: bool, locks: ExitStack) -> tuple[tuple[int, Path], ...]:
        """Lock the folder, so that removing `.lock` has no effect, and then `.lock`.

        Returns the descriptors and paths; the first one must not be replaced.
        """
        self._files.make_folder(self.root)
        folder, path = self._files.open_folder(self.root), self.root / ".lock"
        locks.callback(os.close, folder)
        held = [(folder, self.root)]
        try:
            try:
                self._files.lock(folder, wait)
            except OSError as error:
                if error.errno not in _NO_FOLDER_LOCK:
                    raise
                held.clear()
            lock = self._files.open_lock(path)
            locks.callback(os.close, lock)
            self._files.lock(lock, wait)
        except BlockingIOError as error:
            raise StoreBusy(self.root, _holder(path)) from error
        self._files.mark(lock, str(os.getpid()).encode())
        return (*held, (lock, path))

    def obstacles(self) -> Iterator[StorageError]:
        """Yield an error for each link in the store, and each file where a folder belongs.

        Nothing is written to a store that has one.
        """
        names = (*_ROOMS, ".incoming", ".quarantine", ".checkpoints", ".lock")
        links = [self.root / name for name in self._files.links(self.root) if name in names]
        for room in _ROOMS:
            links += [self.root / room / name for name in self._files.links(self.root / room)]
        told = (
            "a store must not contain symbolic links: replace the link by the folder, or link "
            "the complete store"
        )
        yield from (StorageError(errno.ELOOP, told, str(link)) for link in links)
        yield from self._misplaced(names)

    def _misplaced(self, names: Iterable[str]) -> Iterator[StorageError]:
        for path in (self.root / name for name in names):
            try:
                mode = path.stat().st_mode  # once, since another process may create it now
            except OSError:
                continue
            kind, fits = (
                ("file", stat.S_ISREG(mode))
                if path.name == ".lock"
                else ("folder", stat.S_ISDIR(mode))
            )
            if not fits:
                told = f"a {kind} of the store belongs there; move away what is in its place"
                yield StorageError(errno.ENOTDIR, told, str(path))

    def _pending(self, folder: Path, suffix: str) -> Path:
        return self._incoming / f"{folder.parent.name}-{folder.name}.{suffix}"

    def _place_weights(self, folder: Path, weights: bytes) -> None:
        """Write weights before their record; weights without a record are never read."""
        pending = self._pending(folder, "safetensors")
        try:
            write_whole(self._files, pending, weights)
            self._files.make_folder(folder)
            self._files.replace(pending, folder / _WEIGHTS)
            self._files.sync_folder(folder)
        except BaseException:
            with suppress(OSError):
                self._files.remove(pending)
            raise

    def _place(self, folder: Path, text: bytes, packed: bytes | None) -> None:
        """Write a record and its arrays to the disk, then make the record visible by one rename."""
        pending, new = self._pending(folder, "npz"), self._pending(folder, "json")
        try:
            if packed is not None:
                write_whole(self._files, pending, packed)
            write_whole(self._files, new, text)
            # The names of the arrays must be on the disk before the record.
            self._files.sync_folder(self._incoming)
            self._files.make_folder(folder)
            self._files.replace(new, folder / "record.json")
        except BaseException:
            for leftover in (pending, new):
                with suppress(OSError):
                    self._files.remove(leftover)
            raise

    def _sweep(self) -> None:
        """Complete the records that a killed writer had written, and remove partial files."""
        if self.checkpoints.is_dir():
            for name in self._files.names(self.checkpoints):
                if name.endswith(".new"):
                    self._files.remove(self.checkpoints / name)
        for name in self._files.names(self._incoming):
            path = self._incoming / name
            arrays_of = _PENDING.fullmatch(name)
            if arrays_of is None:
                self._files.remove(path)
                continue
            # Arrays of a record that cannot be read now are left to the next writer.
            with suppress(StorageError):
                room, record = arrays_of.groups()
                if self._belongs(path, room, record):
                    self._files.replace(path, self.root / room / record / "arrays.npz")
                else:
                    self._files.remove(path)

    def _belongs(self, path: Path, room: str, name: str) -> bool:
        try:
            named = self._read(room, name).arrays_sha256
        except (RecordError, RecordMissing):
            return False
        return named == _sha256(self._files.read(path))

    def _read(self, room: str, name: str) -> CellRecord | FactRecord:
        path = self.root.joinpath(room, _checked_name(name), "record.json")
        with storing("read the record", path):
            try:
                text = self._files.read(path, _MOST_RECORD_BYTES)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise RecordMissing(f"no record {name!r} in {self.root / room}") from error
        record = from_text(text)
        if record.record_id != name:
            raise RecordDamaged(
                f"the record {record.record_id!r} is in the folder of another record"
            )
        return record

    def _found(self, room: str, read: Callable[[str], AnyRecord]) -> Iterator[AnyRecord | Damage]:
        names: list[str] = []
        with storing("list the results folder", self.root / room), suppress(FileNotFoundError):
            names = sorted(filter(_is_name, self._files.names(self.root / room)))
        for name in names:
            try:
                yield read(name)
            except RecordMissing:
                continue
            except (RecordError, StorageError) as error:
                path = self.root / room / name / "record.json"
                yield Damage(path, name, _damage_kind(error), str(error))

    def _lost_content(
        self, room: str, record: CellRecord | FactRecord, weights: bool
    ) -> Iterator[Damage]:
        """Yield the damage of the arrays of a record, and of its weights if `weights` is true."""
        checks: list[tuple[DamageKind, str, Callable[[], object]]] = [
            ("arrays", "arrays.npz", lambda: self._packed(room, record))
        ]
        if weights and isinstance(record, CellRecord) and record.weights_sha256 is not None:
            checks.append(("weights", _WEIGHTS, lambda: self._weights(record)))
        for kind, name, check in checks:
            path = self.root / room / record.record_id / name
            try:
                check()
            except StorageError as error:
                yield Damage(path, record.record_id, "unreadable", str(error))
            except (RecordError, RecordMissing, WeightsMissing) as error:
                yield Damage(path, record.record_id, kind, str(error))

    def _weights(self, record: CellRecord) -> bytes:
        again = "run its grid with --keep-weights to train it again and keep them"
        if record.weights_sha256 is None:
            raise WeightsMissing(f"no weights of {record.cell_id} were kept: {again}")
        path = self.root / "cells" / record.cell_id / _WEIGHTS
        found = self._read_if_there(path)
        if found is None or _sha256(found) != record.weights_sha256:
            raise WeightsMissing(f"{path} is missing or differs from its checksum: {again}")
        return found

    def _packed(self, room: str, record: CellRecord | FactRecord) -> bytes | None:
        """Return the bytes of a record's arrays, from its folder or from `.incoming`."""
        folder = self.root.joinpath(room, record.record_id)
        place, pending = folder / "arrays.npz", self._pending(folder, "npz")
        # Repeated if a writer has replaced the record but not yet its arrays; once is usual.
        for _ in range(5):
            if record.arrays_sha256 is None:
                return None
            for path in (place, pending, place):
                packed = self._read_if_there(path)
                if packed is not None and _sha256(packed) == record.arrays_sha256:
                    return packed
            # A writer may have replaced the record since it was read.
            record = self._read(room, record.record_id)
        raise ArraysDamaged(
            f"{place} is missing or differs from its checksum; "
            "the next `vaebench run` trains the cell again"
        )

    def _read_if_there(self, path: Path) -> bytes | None:
        with storing("read the file", path):
            try:
                return self._files.read(path)
            except FileNotFoundError:
                return None

    def _free_name(self, folder: Path, name: str) -> Path:
        taken = set(self._files.names(folder))
        tries = (name if number == 1 else f"{name}-{number}" for number in range(1, 1_000_000))
        return folder / next(each for each in tries if each not in taken)


def _raise_first(errors: Iterable[StorageError]) -> None:
    for error in errors:
        raise error


def _separated(found: Iterable[AnyRecord | Damage]) -> tuple[list[AnyRecord], list[Damage]]:
    """Split records and damage into two lists."""
    found = list(found)
    records = [each for each in found if not isinstance(each, Damage)]
    return records, [each for each in found if isinstance(each, Damage)]


def _room(record: CellRecord | FactRecord) -> str:
    return "cells" if isinstance(record, CellRecord) else "facts"


def _is_name(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and not RESERVED.fullmatch(name)


def _checked_name(name: str) -> str:
    if not _is_name(name):
        raise ValueError(
            f"the name of a record must have 1 to 120 of the characters A-Z a-z 0-9 . _ -, begin "
            f"with a letter or digit, not end with a dot, and not be reserved by Windows (nul, "
            f"con); got {name!r}"
        )
    return name


def _damage_kind(error: RecordError | StorageError) -> DamageKind:
    if isinstance(error, StorageError):
        return "unreadable"
    if isinstance(error, NewerSchema):
        return "newer"
    return "edited" if isinstance(error, RecordEdited) else "damaged"


def _holder(path: Path) -> int | None:
    """Return the process id in a lock file, or None."""
    try:
        told = Files().read(path, most=100).strip()
    except OSError:
        return None
    return int(told) if told.isdigit() else None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
