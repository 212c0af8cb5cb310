"""Write a store to one file (a bundle), and merge stores and bundles into one store.

A bundle is a ZIP archive of `<cells|facts>/<name>/` with `record.json` (deflated), `arrays.npz` and
`weights.safetensors` (stored), and `bundle.json`, which lists the SHA-256 of each file. It is read
as a `Store` whose files are entries of the archive; nothing is unpacked to the disk.
"""

import errno
import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vaebench.errors import BundleDamaged, NothingToReport, UsageError
from vaebench.records.files import Files, completed
from vaebench.records.schema import CellRecord, FactRecord, to_text
from vaebench.records.store import Damage, Store

_SCHEMA: Final = "vaebench/bundle/1"
_MANIFEST: Final = "bundle.json"
_ENTRY: Final = re.compile(
    r"(?:cells|facts)/[A-Za-z0-9](?:[A-Za-z0-9._-]{0,118}[A-Za-z0-9_-])?"
    r"/(?:record\.json|arrays\.npz|weights\.safetensors)"
)
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_MOST_EXPANSION: Final = 100
"""Largest ratio of unpacked to packed size; that of records is about 10."""
_MOST_MANIFEST_BYTES: Final = 1 << 28
_BROKEN: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
Found = CellRecord | FactRecord


def bundle(store: Path | str, file: Path | str) -> tuple[int, list[Damage]]:
    """Write the records of a store, with arrays and kept weights, into one file.

    The same records give the same bytes. Damaged records are left out.

    Returns:
        The number of records in the file, and the damage of the records that were left out.

    Raises:
        UsageError: the folder of the file does not exist, or the file is inside of the store.
        NothingToReport: the store has no undamaged record.
        StorageError: the store cannot be read.
        OSError: the file cannot be written.
    """
    root, target = Path(store), Path(file)
    if target.resolve().is_relative_to(root.resolve()):
        raise UsageError(f"the bundle must be outside of its store; got {target}")
    damages: list[Damage] = []
    sums: dict[str, str] = {}
    count = 0
    with completed(target) as part, zipfile.ZipFile(part, "w") as archive:
        for record in _sound(Store(root), damages):
            for name, content in _files(Store(root), record).items():
                sums[name] = hashlib.sha256(content).hexdigest()
                _add(archive, name, content)
            count += 1
        if not count:
            raise NothingToReport(f"there is no undamaged record in {root}")
        manifest = json.dumps({"schema": _SCHEMA, "files": sums}, indent=1)
        _add(archive, _MANIFEST, manifest.encode())
    return count, damages


def _files(store: Store, record: Found) -> dict[str, bytes]:
    """Return the contents of a record's files by their names in a bundle."""
    folder = f"{_room(record)}/{record.record_id}"
    arrays, weights = store.contents(record)
    files = {"record.json": to_text(record), "arrays.npz": arrays, "weights.safetensors": weights}
    return {f"{folder}/{name}": content for name, content in files.items() if content is not None}


def _room(record: Found) -> str:
    return "cells" if isinstance(record, CellRecord) else "facts"


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, date_time=_EPOCH)
    text = name.endswith(".json")  # the others are compressed already, or do not compress
    entry.compress_type = zipfile.ZIP_DEFLATED if text else zipfile.ZIP_STORED
    archive.writestr(entry, content, compresslevel=6)


class _Entries(Files):
    """The files of a bundle, for a `Store` that only reads."""

    def __init__(self, root: Path, archive: zipfile.ZipFile, sums: Mapping[str, str]) -> None:
        self._root, self._archive, self._sums = root, archive, sums

    def names(self, folder: Path) -> list[str]:
        """Return the names of the records in the folder ``cells`` or ``facts``."""
        room = folder.relative_to(self._root).as_posix() + "/"
        return sorted({n.split("/")[1] for n in self._sums if n.startswith(room)})

    def read(self, path: Path, most: int = 1 << 34) -> bytes:
        """Return the bytes of a file after checking its size and checksum."""
        name = path.relative_to(self._root).as_posix()
        if name not in self._sums:
            raise FileNotFoundError(errno.ENOENT, "not in the bundle", str(path))
        try:
            content = _content(self._archive, name, most)
        except _BROKEN as error:
            told = f"this file in the bundle is damaged: {error}"
            raise OSError(errno.EBADMSG, told, str(path)) from error
        if hashlib.sha256(content).hexdigest() != self._sums[name]:
            raise OSError(errno.EBADMSG, "the content differs from its checksum", str(path))
        return content


def _content(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Return the bytes of an entry, reading at most one byte more than its stated size."""
    size = archive.getinfo(name).file_size
    if size > most:
        raise OSError(errno.EFBIG, f"larger than {most:,} bytes", name)
    with archive.open(name) as file:
        return file.read(size + 1)


@contextmanager
def opened(source: Path | str) -> Iterator[Store]:
    """Open a folder or a bundle as a store to read.

    Raises:
        FileNotFoundError: the folder or file does not exist.
        BundleDamaged: the file is not a complete bundle.
    """
    path = Path(source)
    if path.is_dir():
        yield Store(path)
        return
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, "there is no such store or bundle", str(path))
    if not path.is_file():
        raise BundleDamaged(f"{path} must be a folder or a regular file")
    try:
        archive = zipfile.ZipFile(path)
    except _BROKEN as error:
        raise BundleDamaged(f"{path} must be a complete bundle: {error}") from error
    with archive:
        yield Store(path, _Entries(path, archive, _sums(path, archive)))


def _sums(path: Path, archive: zipfile.ZipFile) -> dict[str, str]:
    """Check the entries of a bundle and return the SHA-256 of each file from its list.

    Raises:
        BundleDamaged: an entry is not allowed in a bundle, or the list differs from the entries.
    """
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    odd = [name for name in names if name != _MANIFEST and not _ENTRY.fullmatch(name)]
    if odd:
        raise BundleDamaged(f"{path} must hold only files of records; it holds {odd[0]!r}")
    if len(set(names)) < len(names):
        raise BundleDamaged(f"{path} must hold each file once; one name appears twice")
    if any(entry.flag_bits & 1 or entry.external_attr >> 28 not in (0, 8) for entry in entries):
        raise BundleDamaged(f"{path} must not hold links or encrypted files")
    unpacked, size = sum(entry.file_size for entry in entries), path.stat().st_size
    if unpacked > _MOST_EXPANSION * size:
        rule = f"must unpack to at most {_MOST_EXPANSION} times its size"
        raise BundleDamaged(f"{path} {rule}; it has {size:,} bytes and unpacks to {unpacked:,}")
    try:
        listed = json.loads(_content(archive, _MANIFEST, _MOST_MANIFEST_BYTES))
        schema, sums = listed["schema"], dict(listed["files"])
    except (*_BROKEN, OSError, KeyError, ValueError, TypeError) as error:
        raise BundleDamaged(f"{path} must hold a valid {_MANIFEST}: {error}") from error
    if schema != _SCHEMA:
        raise BundleDamaged(f"{path} has the format {schema!r}; this vaebench reads {_SCHEMA!r}")
    if set(sums) != set(names) - {_MANIFEST}:
        raise BundleDamaged(f"the files in {path} must be those in its {_MANIFEST}; they differ")
    return sums


@dataclass(frozen=True)
class Merged:
    """The result of a merge.

    Attributes:
        written: the number of records that were added.
        equal: the number of records that are equal to an existing one or to one of another source.
        conflicts: a line for each record that differs from the kept version.
        unused: a line for each damaged file, whose record is not merged.
    """

    written: int
    equal: int
    conflicts: tuple[str, ...]
    unused: tuple[str, ...]


def merge(sources: Sequence[Path | str], output: Path | str, *, wait: bool = False) -> Merged:
    """Add the records of stores and bundles to a store; existing records are kept.

    All files are checked first; damaged records are left out. Of several versions of a record, that
    of `output` is kept, else the first finished one, else the first one. Repeating a merge changes
    nothing.

    Args:
        sources: results folders and bundles.
        output: the store; it is created if it does not exist.
        wait: wait if another process writes to it.

    Raises:
        FileNotFoundError: a source does not exist.
        BundleDamaged: a source is a file, but not a bundle.
        NothingToReport: the sources have no records.
        StoreBusy, StorageError: another process uses the store, or it cannot be written.
    """
    damages: list[Damage] = []
    holders: dict[tuple[str, str], list[tuple[bool, int]]] = {}
    with ExitStack() as stack:
        stores = [stack.enter_context(opened(source)) for source in sources]
        for place, store in enumerate(stores):
            for record in _sound(store, damages):
                unfinished = isinstance(record, CellRecord) and record.status.state != "done"
                key = (_room(record), record.record_id)
                holders.setdefault(key, []).append((unfinished, place))
        if not holders and not damages:
            raise NothingToReport(f"there is no record in {', '.join(map(str, sources))}")
        if not holders:  # there is nothing to create a store for
            return Merged(0, 0, (), tuple(map(str, damages)))
        target = stack.enter_context(Store(output).writing(wait))
        there = {(_room(record), record.record_id) for record in _sound(target, damages)}
        damaged = {damage.path.parent for damage in damages}
        written, equal, conflicts = 0, 0, list[str]()
        for (room, name), found in sorted(holders.items()):
            if target.root / room / name in damaged:
                continue
            versions = [stores[place] for _, place in sorted(found)]
            keeper = target if (room, name) in there else versions.pop(0)
            kept = _read(keeper, room, name)
            if keeper is not target:
                target.write(kept, *keeper.contents(kept))
                written += 1
            for store in versions:
                differing = _differing(kept, _read(store, room, name))
                equal += not differing
                if differing:
                    places = f"{store.root} and {keeper.root}"
                    text = f"{room}/{name} of {places} differ in {differing}; the second is kept"
                    conflicts.append(text)
    return Merged(written, equal, tuple(conflicts), tuple(map(str, damages)))


def _read(store: Store, room: str, name: str) -> Found:
    return store.read(name) if room == "cells" else store.read_fact(name)


def _sound(store: Store, damages: list[Damage]) -> Iterator[Found]:
    """Yield the records without damage, and append all damage to `damages`."""
    waiting: Found | None = None
    for each in store.inspect(weights=True):
        if isinstance(each, Damage):
            damages.append(each)
            if waiting is not None and each.name == waiting.record_id:
                waiting = None
            continue
        if waiting is not None:
            yield waiting
        waiting = each
    if waiting is not None:
        yield waiting


def _differing(one: Found, other: Found) -> str:
    """Return the fields in which two records differ, with names of metrics; '' if equal."""
    a, b = one.model_dump(mode="json"), other.model_dump(mode="json")
    fields = [name for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)]
    if "metrics" in fields:
        x, y = a["metrics"], b["metrics"]
        names = [name for name in sorted(x.keys() | y.keys()) if x.get(name) != y.get(name)]
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        fields[fields.index("metrics")] = f"metrics ({', '.join(names[:4])}{more})"
    return ", ".join(fields)
