"""The arrays beside a record: named numpy arrays as the bytes of an `.npz`, without pickle."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaebench.errors import ArraysDamaged

__all__ = ["Arrays", "pack", "unpack"]

Arrays = Mapping[str, NDArray[Any]]

_EPOCH = (1980, 1, 1, 0, 0, 0)
_MOST_BYTES = 1 << 30


def pack(arrays: Arrays) -> bytes:
    """Return the arrays as a compressed `.npz`; equal arrays give equal bytes.

    Raises:
        TypeError: an array holds Python objects, which only pickle could store.
        ValueError: a name is not a plain word.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in sorted(arrays):
            entry = zipfile.ZipInfo(f"{_checked_name(name)}.npy", date_time=_EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, _npy(name, arrays[name]), compresslevel=6)
    return packed.getvalue()


def unpack(packed: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of an `.npz`, by name.

    Raises:
        ArraysDamaged: it is no whole `.npz`, unpacks to more than 1 GiB, or holds objects.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            unpacked_bytes = sum(entry.file_size for entry in archive.infolist())
        if unpacked_bytes > _MOST_BYTES:
            raise ArraysDamaged(f"arrays unpack to at most 1 GiB; these want {unpacked_bytes:,}")
        with np.load(io.BytesIO(packed), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ArraysDamaged(f"arrays are a whole .npz of plain numbers: {error}") from error


def _npy(name: str, array: NDArray[Any]) -> bytes:
    array = np.asarray(array, order="C")
    if array.dtype.hasobject:
        raise TypeError(f"arrays hold plain numbers or text; {name!r} has dtype {array.dtype}")
    npy = io.BytesIO()
    np.lib.format.write_array(npy, array, allow_pickle=False)
    return npy.getvalue()


def _checked_name(name: str) -> str:
    if not (name.isascii() and name.isidentifier()):
        raise ValueError(f"an array's name is letters, digits and underscores; got {name!r}")
    return name
