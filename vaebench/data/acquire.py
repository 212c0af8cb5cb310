"""Download data sets, take them from a folder or archive, verify them and list them.

A file in a data folder is always complete and verified: it is written under a temporary name and
renamed after its SHA-256 was checked. Archives are read in memory, never extracted to disk.
"""

import fcntl
import gzip
import http.client
import io
import os
import stat
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, Literal, cast
from urllib.parse import urlsplit

from vaebench.data.catalog import FILE_SETS, FileSet, Located, file_set, locate, present, remedy
from vaebench.data.idx import GZIP_MAGIC, IdxFile, read_content
from vaebench.data.places import storage_folder
from vaebench.errors import DataInvalid, DataMissing
from vaebench.grid.axes import DATASETS, TORCHVISION_PREFIX
from vaebench.system.disk import naming

Say = Callable[[str], None]

_TORCHVISION_CLASSES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
_SOCKET_TIMEOUT_S = 30.0
_FILE_TIMEOUT_S = 900.0
_CHUNK = 1 << 16
_SLACK = 1 << 20
"""Largest number of bytes by which a gzipped file may exceed its content (headers, blocks)."""
_MAX_ARCHIVE = 256 * 2**20
_MAX_UNPACKED = 512 * 2**20
_MAX_MEMBERS = 10_000


def _silent(_: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class FileCheck:
    """One file of a data set, and the problem with its content or None."""

    path: Path
    fault: str | None


@dataclass(frozen=True)
class SetState:
    """A packaged data set: whether its files are present, and their folder."""

    name: str
    summary: str
    state: Literal["built in", "present", "absent"]
    folder: Path | None


def listing(data_dir: Path | None = None) -> tuple[SetState, ...]:
    """Return the state of every packaged data set, from file names; `verify` reads the files."""
    return tuple(_state(name, data_dir) for name in DATASETS)


def _state(name: str, data_dir: Path | None) -> SetState:
    summary = DATASETS[name].summary
    if name not in FILE_SETS:
        return SetState(name, summary, "built in", None)
    try:
        return SetState(name, summary, "present", locate(name, data_dir).folder)
    except DataMissing:
        return SetState(name, summary, "absent", None)


def verify(name: str, data_dir: Path | None = None) -> tuple[FileCheck, ...]:
    """Read every file of `mnist` or `fashion-mnist` and compare its SHA-256 with the pinned one.

    Raises:
        DataMissing: the files are in none of the places.
        ValueError: `name` is not a data set of files.
    """
    return _checks(locate(name, data_dir))


def require(name: str, data_dir: Path | None = None) -> None:
    """Compare the files of `mnist` or `fashion-mnist` with their pinned SHA-256.

    Raises:
        DataMissing: the files are in none of the places.
        DataInvalid: a file has the wrong content; the message lists all such files and the remedy.
    """
    faults = [check.fault for check in verify(name, data_dir) if check.fault is not None]
    if faults:
        raise DataInvalid("\n".join([*faults, remedy(name)]))


def _checks(located: Located) -> tuple[FileCheck, ...]:
    pairs = zip(located.paths, located.facts.files, strict=True)
    return tuple(FileCheck(path, _fault(path, file)) for path, file in pairs)


def _fault(path: Path, file: IdxFile) -> str | None:
    try:
        with path.open("rb") as stream:
            read_content(stream, file, str(path))
    except OSError as error:
        return f"cannot read {path}: {error.strerror or error}"
    except DataInvalid as error:
        return str(error)
    return None


def fetch(name: str, data_dir: Path | None = None, say: Say = _silent) -> Path:
    """Download a data set, unless its files are present and correct.

    The files of `mnist` and `fashion-mnist` come from torchvision's mirrors, tried one after the
    other, and must have the expected SHA-256. Data sets named ``torchvision:NAME`` are downloaded
    and checked by torchvision. One process downloads at a time; the others wait.

    Args:
        name: the name of the data set.
        data_dir: the data folder; `$VAEBENCH_DATA` or the user's cache folder by default.
        say: called with each line of progress.

    Returns:
        The folder that holds the files.

    Raises:
        DataMissing: every mirror failed for a file; the message says why, and what to do.
        OSError: the data folder cannot be written.
        ValueError: `name` is not a data set of files.
    """
    if name.startswith(TORCHVISION_PREFIX):
        storage_folder(data_dir).mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(storage_folder(data_dir), say):
            # Imported here because it imports torch, which nothing else in this module needs.
            from vaebench.data.torchvision_sets import fetch_torchvision

            return fetch_torchvision(name, data_dir)
    facts = file_set(name)
    folder = _prepared(facts, data_dir)
    with _one_at_a_time(folder, say):
        whole = _whole_copy(name, data_dir)
        if whole is not None:
            say(f"{name} is complete in {whole}")
            return whole
        for file in facts.files:
            path = present(folder, file)
            if path is None or _fault(path, file) is not None:
                _put(folder, file, _download(facts, file, folder, say))
    return folder


def _prepared(facts: FileSet, data_dir: Path | None) -> Path:
    folder = storage_folder(data_dir) / facts.folder
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _whole_copy(name: str, data_dir: Path | None) -> Path | None:
    try:
        located = locate(name, data_dir)
    except DataMissing:
        return None
    return None if any(check.fault for check in _checks(located)) else located.folder


@contextmanager
def _one_at_a_time(folder: Path, say: Say) -> Iterator[None]:
    """Hold the lock of the folder; the operating system releases it when the process ends."""
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is filling {folder}: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _put(folder: Path, file: IdxFile, content: bytes) -> None:
    part = folder / f"{file.name}.part"
    part.unlink(missing_ok=True)
    try:
        with naming(folder / file.name), part.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(folder / file.name)
    finally:
        part.unlink(missing_ok=True)


def _mirrors(facts: FileSet) -> list[str]:
    """Return torchvision's URLs for this data set, https first."""
    from vaebench.data.vision import torchvision_module

    mirrors: list[str] = getattr(
        torchvision_module("datasets"), _TORCHVISION_CLASSES[facts.name]
    ).mirrors
    return sorted(mirrors, key=lambda address: not address.startswith("https:"))


def _download(facts: FileSet, file: IdxFile, folder: Path, say: Say) -> bytes:
    faults = []
    for mirror in _mirrors(facts):
        address = f"{mirror}{file.name}.gz"
        say(f"downloading {address}")
        try:
            body = _body(address, file.size + _SLACK)
            return read_content(io.BytesIO(body), file, address)
        except (OSError, http.client.HTTPException, DataInvalid) as error:
            faults.append(f"  {address}: {error}")
    raise DataMissing(
        "\n".join(
            [
                f"{file.name} of {facts.name} could not be downloaded. Tried",
                *faults,
                f"Get the four files in another way and run `vaebench data add {facts.name} PATH`, "
                f"or put them, raw or .gz, into {folder}",
            ]
        )
    )


def _body(address: str, limit: int) -> bytes:
    """Download at most `limit` bytes from an address, within the time limits."""
    if urlsplit(address).scheme not in ("https", "http"):
        raise DataInvalid(f"a download address must begin with http or https; got {address}")
    deadline = time.monotonic() + _FILE_TIMEOUT_S
    opener = urllib.request.build_opener(_CarefulRedirects)
    body = bytearray()
    with opener.open(address, timeout=_SOCKET_TIMEOUT_S) as answer:
        while chunk := answer.read1(_CHUNK):
            body += chunk
            if len(body) > limit:
                raise DataInvalid(f"the server sent more than the expected {limit:,} bytes")
            if time.monotonic() > deadline:
                raise DataInvalid(f"the download took longer than {_FILE_TIMEOUT_S:.0f} s")
    return bytes(body)


class _CarefulRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to the same host, and from https only to https.

    A torchvision mirror without https can still be used, because every file is compared with the
    expected SHA-256.
    """

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.hostname != old.hostname or new.scheme not in ("https", old.scheme):
            raise urllib.error.URLError(f"refused a redirect to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def add(name: str, path: Path, data_dir: Path | None = None, say: Say = _silent) -> Path:
    """Copy the files of `mnist` or `fashion-mnist` from a folder or archive into the data folder.

    Args:
        name: the name of the data set.
        path: a folder, .zip, .tar or .tar.gz that holds the four IDX files at any depth, raw or
            gzipped. They are identified by their names and SHA-256.
        data_dir: the data folder; `$VAEBENCH_DATA` or the user's cache folder by default.
        say: called with each line of progress.

    Returns:
        The folder that now holds the files; nothing is written unless all four were found.

    Raises:
        DataMissing: `path` does not exist.
        DataInvalid: the archive is damaged, has unsafe members or is too large, or a file is
            missing or has the wrong content.
        OSError: the data folder cannot be written.
        ValueError: `name` is not a data set of files.
    """
    facts = file_set(name)
    contents = _gathered(facts, path)
    folder = _prepared(facts, data_dir)
    with _one_at_a_time(folder, say):
        for file in facts.files:
            _put(folder, file, contents[file.name])
    say(f"{name} is complete in {folder}")
    return folder


@dataclass(frozen=True)
class _Member:
    """A file in a folder or archive: its name, and a function that reads its first bytes."""

    name: str
    read: Callable[[int], bytes]


def _gathered(facts: FileSet, path: Path) -> dict[str, bytes]:
    wanted = {file.name: file for file in facts.files}
    contents: dict[str, bytes] = {}
    faults: dict[str, str] = {}
    try:
        for member in _members(path):
            name = _idx_name(member.name)
            if name not in wanted or name in contents:
                continue
            body = io.BytesIO(member.read(wanted[name].size + _SLACK))
            try:
                contents[name] = read_content(body, wanted[name], f"{member.name} in {path}")
            except DataInvalid as error:
                faults[name] = str(error)
    except _DAMAGED as error:
        raise DataInvalid(f"cannot read {path}: {error}") from error
    absent = [name for name in wanted if name not in contents]
    if absent:
        told = [f"  {faults.get(name, f'{name} (or {name}.gz) is not there')}" for name in absent]
        raise DataInvalid("\n".join([f"{path} does not hold all files of {facts.name}:", *told]))
    return contents


_DAMAGED = (
    OSError,
    EOFError,
    RuntimeError,  # zipfile raises it for encrypted members and unknown compression methods
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


def _idx_name(member: str) -> str:
    """Return the usual name of an IDX file: without .gz, and with a hyphen before "idx".

    >>> _idx_name("archive/train-images.idx3-ubyte.gz")
    'train-images-idx3-ubyte'
    """
    return PurePosixPath(member).name.removesuffix(".gz").replace(".idx", "-idx")


def _members(path: Path) -> Iterator[_Member]:
    if path.is_dir():
        return _folder_members(path)
    if not path.is_file():
        raise DataMissing(f"the folder or archive {path} does not exist")
    if path.stat().st_size > _MAX_ARCHIVE:
        raise DataInvalid(f"{path} must have at most {_MAX_ARCHIVE:,} bytes: it is another archive")
    if zipfile.is_zipfile(path):
        return _zip_members(path)
    return _tar_members(path)


def _folder_members(path: Path) -> Iterator[_Member]:
    files: list[Path] = []
    for file in path.rglob("*"):
        files.append(file)
        _check_count(path, len(files))
    for file in sorted(files):
        if file.is_file():
            yield _Member(file.relative_to(path).as_posix(), partial(_head, file))


def _head(file: Path, limit: int) -> bytes:
    with file.open("rb") as stream:
        return stream.read(limit)


def _zip_members(path: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        _check_count(path, len(infos))
        for info in infos:
            kind = stat.S_IFMT(info.external_attr >> 16)
            _check_member(path, info.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR))
        for info in infos:
            if not info.is_dir():
                yield _Member(info.filename, partial(_zip_head, archive, info))


def _zip_head(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    with archive.open(info) as stream:
        return stream.read(limit)


def _tar_members(path: Path) -> Iterator[_Member]:
    with path.open("rb") as raw, _unzipped(raw) as stream:
        capped = cast("IO[bytes]", _Capped(stream, path))
        with tarfile.open(fileobj=capped, mode="r|") as archive:
            for count, info in enumerate(archive, start=1):
                _check_count(path, count)
                _check_member(path, info.name, info.isreg() or info.isdir())
                if info.isreg():
                    yield _Member(info.name, partial(_tar_head, archive, info))


def _tar_head(archive: tarfile.TarFile, info: tarfile.TarInfo, limit: int) -> bytes:
    stream = archive.extractfile(info)
    return b"" if stream is None else stream.read(limit)


@contextmanager
def _unzipped(raw: BinaryIO) -> Iterator[Any]:
    magic = raw.read(len(GZIP_MAGIC))
    raw.seek(0)
    if magic != GZIP_MAGIC:
        yield raw
        return
    with gzip.GzipFile(fileobj=raw) as stream:
        yield stream


@dataclass
class _Capped:
    """A stream limited to `_MAX_UNPACKED` bytes, as a protection against gzip bombs."""

    stream: IO[bytes]
    path: Path
    given: int = 0

    def read(self, size: int) -> bytes:
        block = self.stream.read(size)
        self.given += len(block)
        if self.given > _MAX_UNPACKED:
            raise DataInvalid(f"{self.path} unpacks to more than {_MAX_UNPACKED:,} bytes")
        return block


def _check_count(path: Path, count: int) -> None:
    if count > _MAX_MEMBERS:
        raise DataInvalid(
            f"{path} must have at most {_MAX_MEMBERS:,} members: name the folder or archive of the "
            "four files"
        )


def _check_member(path: Path, name: str, ordinary: bool) -> None:
    """Raise DataInvalid for links, devices, and names that point outside the archive."""
    pure = PurePosixPath(name.replace("\\", "/"))
    outside = pure.is_absolute() or ".." in pure.parts or ":" in (pure.parts or ("",))[0]
    if outside:
        raise DataInvalid(f"{path} has a member {name!r} that points outside the archive")
    if not ordinary:
        raise DataInvalid(f"{path} has a member {name!r} that is neither a file nor a folder")
