"""Convert the arrays of a record to the bytes of an `.npz` and back, without pickle."""

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaebench.errors import ArraysDamaged

Arrays = Mapping[str, NDArray[Any]]

_MOST_BYTES = 1 << 30
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, OverflowError, MemoryError)
_DIMENSIONS: dict[str, tuple[int, ...]] = {
    "tsne": (2,),
    "tsne_labels": (1,),
    "kl_per_dimension": (1,),
    "code_spectrum": (1,),
    "step_ms": (1,),
    "iw_curve": (1,),
    "iw_curve_k": (1,),
    "tsne_images": (3, 4),
    "tsne_reconstructions": (3, 4),
    "originals": (3, 4),
    "reconstructions": (3, 4),
    "prior_samples": (3, 4),
    "interpolations": (4, 5),
    "traversal": (4, 5),
}
"""Numbers of dimensions of arrays that figures use; images may have a last one for colours."""


def pack(arrays: Arrays) -> bytes:
    """Return the arrays as a compressed `.npz`; equal arrays give equal bytes.

    Raises:
        TypeError: an array holds Python objects, which only pickle could store.
        ValueError: a name has other characters than letters, digits and underscores.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in sorted(arrays):
            if not (name.isascii() and name.isidentifier()):
                rule = "the name of an array must consist of letters, digits and underscores"
                raise ValueError(f"{rule}; got {name!r}")
            array = np.asarray(arrays[name], order="C")
            if array.dtype.hasobject:
                rule = "arrays must hold plain numbers or text"
                raise TypeError(f"{rule}; {name!r} has dtype {array.dtype}")
            npy = io.BytesIO()
            np.lib.format.write_array(npy, array, allow_pickle=False)
            # A fixed time, so that equal arrays give equal bytes.
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, npy.getvalue(), compresslevel=6)
    return packed.getvalue()


def unpack(packed: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of an `.npz`, by name.

    Raises:
        ArraysDamaged: the bytes are not a complete `.npz`, unpack to more than 1 GiB, or hold
            objects, or a known array has an impossible shape.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            unpacked_bytes = sum(entry.file_size for entry in archive.infolist())
            if unpacked_bytes > _MOST_BYTES:
                raise ArraysDamaged(
                    f"arrays may have at most 1 GiB; these have {unpacked_bytes:,} bytes"
                )
            for entry in archive.infolist():
                _check_header(archive, entry)
        with np.load(io.BytesIO(packed), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, KeyError, NotImplementedError, *_BROKEN) as error:
        raise ArraysDamaged(f"arrays must be a complete .npz of plain numbers: {error}") from error
    for name in arrays.keys() & _DIMENSIONS.keys():
        shape = arrays[name].shape
        labelled = arrays.get("tsne_labels", arrays[name])
        is_map = name != "tsne" or shape == (len(labelled), 2)
        if len(shape) not in _DIMENSIONS[name] or 0 in shape or not is_map:
            raise ArraysDamaged(f"the array {name!r} has the impossible shape {shape}")
    return arrays


def _check_header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Raise ArraysDamaged if the shape in a header does not match the size of the data.

    NumPy would allocate memory for the shape in the header.
    """
    with archive.open(entry) as file:
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[np.lib.format.read_magic(file)]
        shape, _, dtype = read(file)
        if math.prod(shape) * dtype.itemsize != entry.file_size - file.tell():
            raise ArraysDamaged(
                f"{entry.filename} has shape {shape} in its header, but its data have another size"
            )
