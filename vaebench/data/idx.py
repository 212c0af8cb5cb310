"""Reading IDX files, the format of MNIST, raw or gzipped.

A file is read once, and the same bytes are hashed and parsed: a file that is replaced between a
check and a read cannot be used unchecked.
torchvision reads such files without comparing a checksum, and not gzipped.
"""

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from vaebench.errors import DataInvalid

GZIP_MAGIC = b"\x1f\x8b"
_UNSIGNED_BYTES = 8


@dataclass(frozen=True)
class IdxFile:
    """A file whose content is pinned: name, SHA-256 and size in bytes, all un-gzipped."""

    name: str
    sha256: str
    size: int


_verified: set[tuple[Path, str, int, int]] = set()
"""(path, SHA-256, size, mtime in ns) of the files this process has hashed and found right."""


def read_content(stream: BinaryIO, expected: IdxFile, where: str) -> bytes:
    """The checked content of `expected`, from a stream that may be gzipped.

    Never holds more than the pinned size and one byte, whatever the stream would unpack to.

    Args:
        stream: a seekable binary stream at its beginning.
        expected: what the content has to be.
        where: what an error message calls the stream.

    Raises:
        DataInvalid: the content is another one, is cut short, or goes on after the pinned size.
    """
    content = _unpacked(stream, expected, where)
    if hashlib.sha256(content).hexdigest() != expected.sha256:
        raise DataInvalid(
            f"{where} must hold {expected.name} with SHA-256 {expected.sha256}; "
            f"its content is another one"
        )
    return content


def _unpacked(stream: BinaryIO, expected: IdxFile, where: str) -> bytes:
    magic = stream.read(len(GZIP_MAGIC))
    stream.seek(0)
    try:
        if magic == GZIP_MAGIC:
            with gzip.GzipFile(fileobj=stream) as unzipped:
                content = unzipped.read(expected.size + 1)
        else:
            content = stream.read(expected.size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataInvalid(f"{where} is a damaged gzip file: {error}") from error
    if len(content) != expected.size:
        size = "more" if len(content) > expected.size else f"{len(content):,}"
        raise DataInvalid(
            f"{where} must hold {expected.name} of {expected.size:,} bytes; it holds {size}"
        )
    return content


def read_idx(path: Path, expected: IdxFile) -> NDArray[np.uint8]:
    """Read one file, raw or gzipped; hashed unless this process has already found it right.

    Raises:
        DataInvalid: the file's content is not the pinned one, or can't be read.
    """
    try:
        with path.open("rb") as stream:
            stat = path.stat()
            key = (path, expected.sha256, stat.st_size, stat.st_mtime_ns)
            if key in _verified:
                return parse_idx(_unpacked(stream, expected, str(path)))
            content = read_content(stream, expected, str(path))
    except OSError as error:
        raise DataInvalid(f"{path} can't be read: {error.strerror or error}") from error
    _verified.add(key)
    return parse_idx(content)


def parse_idx(content: bytes) -> NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes.

    The format: two zero bytes, the type, the number of dimensions, each dimension as a big-endian
    32-bit integer, the values in row-major order.

    >>> parse_idx(bytes([0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 2, 5, 7]))
    array([[5, 7]], dtype=uint8)

    Raises:
        ValueError: the bytes are not of that form.
    """
    if len(content) < 4 or content[:3] != bytes([0, 0, _UNSIGNED_BYTES]):
        raise ValueError("an IDX file of unsigned bytes begins with 00 00 08")
    begin = 4 * (1 + content[3])
    shape = [int(n) for n in np.frombuffer(content[4:begin], dtype=">u4")]
    values = np.frombuffer(content, dtype=np.uint8, offset=begin)
    return values.reshape(shape)
