"""Read IDX files, the format of MNIST, raw or gzipped.

A file is read once, and the same bytes are hashed and parsed, so that no unchecked content is used
if the file is replaced in between.
torchvision is not used, because it reads such files without a checksum and not gzipped.
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
    """An expected file: its name, SHA-256 and size in bytes, all before compression."""

    name: str
    sha256: str
    size: int


_verified: set[tuple[Path, str, int, int]] = set()
"""(path, SHA-256, size, mtime in ns) of the files that this process has already verified."""


def read_content(stream: BinaryIO, expected: IdxFile, where: str) -> bytes:
    """Read the file `expected` from a stream that may be gzipped, and check its content.

    At most the expected size plus one byte is read, even if the stream unpacks to more.

    Args:
        stream: a seekable binary stream at its beginning.
        expected: the expected file.
        where: the name of the stream in error messages.

    Raises:
        DataInvalid: the content differs, is too short, or is longer than the expected size.
    """
    content = _unpacked(stream, expected, where)
    if hashlib.sha256(content).hexdigest() != expected.sha256:
        raise DataInvalid(
            f"{where} must hold {expected.name} with SHA-256 {expected.sha256}; its content differs"
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
    """Read one file, raw or gzipped; its hash is checked once per process.

    Raises:
        DataInvalid: the file cannot be read or has the wrong content.
    """
    try:
        with path.open("rb") as stream:
            stat = path.stat()
            key = (path, expected.sha256, stat.st_size, stat.st_mtime_ns)
            if key in _verified:
                return parse_idx(_unpacked(stream, expected, str(path)))
            content = read_content(stream, expected, str(path))
    except OSError as error:
        raise DataInvalid(f"cannot read {path}: {error.strerror or error}") from error
    _verified.add(key)
    return parse_idx(content)


def parse_idx(content: bytes) -> NDArray[np.uint8]:
    """Return the array in the bytes of an IDX file of unsigned bytes.

    The format: two zero bytes, the type, the number of dimensions, each dimension as a big-endian
    32-bit integer, the values in row-major order.

    >>> parse_idx(bytes([0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 2, 5, 7]))
    array([[5, 7]], dtype=uint8)

    Raises:
        ValueError: the bytes have another format.
    """
    if len(content) < 4 or content[:3] != bytes([0, 0, _UNSIGNED_BYTES]):
        raise ValueError("an IDX file of unsigned bytes must begin with the bytes 00 00 08")
    begin = 4 * (1 + content[3])
    shape = [int(n) for n in np.frombuffer(content[4:begin], dtype=">u4")]
    values = np.frombuffer(content, dtype=np.uint8, offset=begin)
    return values.reshape(shape)
