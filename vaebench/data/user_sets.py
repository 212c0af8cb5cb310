"""A user's own data: an .npz file or a folder of images, read as numpy arrays, never run.

Images are uint8 grey levels, `(N, C, H, W)`; labels int64 `(N,)` or None. Every complaint names
the file, the split and, where one image is at fault, its index or file.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaebench.errors import DataInvalid

__all__ = [
    "ArraySplit",
    "ArraySplits",
    "read_folder",
    "read_npz",
]

MAX_BYTES = 8 * 2**30
"""More than this is not unpacked from a user's file: data are held in memory."""

SPLITS = ("train", "valid", "test")
_ARRAYS = (*SPLITS, *(f"{split}_labels" for split in SPLITS), "levels")
_ACCEPTED = "accepted are uint8 grey levels, N x H x W or N x H x W x C with C = 1 or 3"
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What zipfile and numpy raise for damaged or encrypted files, for headers that announce more than
# there is, and (ValueError) for arrays of objects, whose values would be run rather than read.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)
_IMAGE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".pgm": "PPM"}
_IMAGE_FORMATS |= {".ppm": "PPM"}
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")


@dataclass(frozen=True)
class ArraySplit:
    """One split: `images` `(N, C, H, W)`, uint8 grey levels (float32 where the data are real
    numbers), and `labels` `(N,)` int64 or None."""

    images: NDArray[Any]
    labels: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class ArraySplits:
    """A whole data set in its original order; `levels` is None for real-valued pixels.

    `note` is what a reader of its results has to be told of how it was read.
    """

    train: ArraySplit
    test: ArraySplit
    levels: int | None
    checksum: str
    valid: ArraySplit | None = field(default=None)
    note: str | None = None


def read_npz(path: Path) -> ArraySplits:
    """Read `train`, `test`, optionally `valid`, `*_labels` and `levels` from an .npz file.

    Without `levels` there are 256 of them; 2 where every pixel is 0 or 1.

    Raises:
        DataInvalid: the file, an array or a sample is not as it must be.
    """
    arrays = _npz_arrays(path)
    splits = {name: _npz_split(path, name, arrays) for name in SPLITS if name in arrays}
    for name in ("train", "test"):
        if name not in splits:
            raise DataInvalid(f"{path} must hold an array {name!r}; it holds {_names(arrays)}")
    levels = _levels(path, arrays.get("levels"), splits)
    _check_splits(path, splits, levels)
    checksum = _arrays_digest(arrays)
    return ArraySplits(splits["train"], splits["test"], levels, checksum, splits.get("valid"))


def _names(arrays: Mapping[str, object]) -> str:
    return ", ".join(arrays) or "nothing"


def _npz_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        _check_members(path)
        with np.load(path, allow_pickle=False) as archive:
            _check_names(path, archive.files)
            arrays = {name: archive[name] for name in sorted(archive.files)}
    except _UNREADABLE as error:
        raise DataInvalid(f"{path} can't be read as an .npz file: {error}") from error
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise DataInvalid(f"{path}: {name!r} must hold numbers; it is {array.dtype}")
    return arrays


def _check_members(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(member.compress_type not in _COMPRESSIONS for member in members):
        raise DataInvalid(f"{path} must be compressed as numpy.savez_compressed does, or not")
    size = sum(member.file_size for member in members)
    if size > MAX_BYTES:
        raise DataInvalid(
            f"{path} unpacks to {size:,} bytes; at most {MAX_BYTES:,} are read into memory"
        )


def _check_names(path: Path, names: list[str]) -> None:
    unknown = [name for name in names if name not in _ARRAYS]
    if unknown:
        raise DataInvalid(
            f"{path} holds {unknown[0]!r}; the arrays of a data set are {', '.join(_ARRAYS)}"
        )


def _arrays_digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _npz_split(path: Path, name: str, arrays: Mapping[str, NDArray[Any]]) -> ArraySplit:
    array = arrays[name]
    if array.dtype != np.uint8:
        raise DataInvalid(f"{path}: {name!r} is {array.dtype}{_first_nan(array)}; {_ACCEPTED}")
    if array.ndim not in (3, 4) or 0 in array.shape[1:] or array.shape[3:] not in ((), (1,), (3,)):
        raise DataInvalid(f"{path}: {name!r} has shape {array.shape}; {_ACCEPTED}")
    images = array[:, None] if array.ndim == 3 else array.transpose(0, 3, 1, 2)
    return ArraySplit(images, _npz_labels(path, name, arrays))


def _first_nan(array: NDArray[Any]) -> str:
    if array.dtype.kind != "f" or array.size == 0 or array.ndim == 0:
        return ""
    at_fault = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
    return f", and sample {at_fault[0]} is not finite" if len(at_fault) else ""


def _npz_labels(
    path: Path, split: str, arrays: Mapping[str, NDArray[Any]]
) -> NDArray[np.int64] | None:
    labels = arrays.get(f"{split}_labels")
    if labels is None:
        return None
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != arrays[split].shape[:1]:
        raise DataInvalid(
            f"{path}: '{split}_labels' must be one integer an image, shape "
            f"{arrays[split].shape[:1]}; it is {labels.dtype} of shape {labels.shape}"
        )
    return labels.astype(np.int64)


def _levels(path: Path, given: NDArray[Any] | None, splits: Mapping[str, ArraySplit]) -> int:
    if given is None:
        # A file of zeros and ones is a binarised one: as levels of 256 it would be all but black.
        binary = all(split.images.size == 0 or split.images.max() <= 1 for split in splits.values())
        return 2 if binary else 256
    if given.size != 1 or not np.issubdtype(given.dtype, np.integer):
        raise DataInvalid(f"{path}: 'levels' must be one integer; it is {given.dtype}{given.shape}")
    levels = int(given.reshape(())[()])
    if not 2 <= levels <= 256:
        raise DataInvalid(f"{path}: 'levels' must lie between 2 and 256; it is {levels}")
    return levels


def _check_splits(path: Path, splits: Mapping[str, ArraySplit], levels: int) -> None:
    shape = splits["train"].images.shape[1:]
    for name, split in splits.items():
        if split.images.shape[1:] != shape:
            raise DataInvalid(
                f"{path}: all splits must have images of one shape (C, H, W); those of 'train' "
                f"are {shape}, those of {name!r} {split.images.shape[1:]}"
            )
        if len(split.images) < 2:
            raise DataInvalid(
                f"{path}: a split needs at least 2 images; {name!r} has {len(split.images)}"
            )
        _check_values(path, name, split.images, levels)


def _check_values(path: Path, name: str, images: NDArray[np.uint8], levels: int) -> None:
    if images.max() >= levels:
        sample = int(np.flatnonzero(images.reshape(len(images), -1).max(axis=1) >= levels)[0])
        raise DataInvalid(
            f"{path}: with {levels} levels a pixel is 0 ... {levels - 1}; sample {sample} of "
            f"{name!r} holds {images[sample].max()}"
        )
    if (images == images[0]).all():
        raise DataInvalid(f"{path}: {name!r} is constant: every sample equals sample 0")


def read_folder(path: Path, channels: int = 1) -> ArraySplits:
    """Read `train/`, `test/` and optionally `valid/`, perhaps with a folder a class in each.

    Args:
        path: the folder.
        channels: 1 for grey images, 3 for colour.

    Raises:
        DataInvalid: a split is empty, or a file is no image, or not of the size of the first.
    """
    _check_channels(channels)
    files = _folder_files(path)
    classes = _classes(path, files)
    splits: dict[str, ArraySplit] = {}
    first: tuple[Path, tuple[int, int]] | None = None
    coloured = 0
    for name, paths in files.items():
        first = first or (paths[0], _image_size(paths[0]))
        _check_total(path, len(paths), first[1], channels)
        read = [_image(file, channels, first) for file in paths]
        images = np.stack([pixels for pixels, _ in read])
        coloured += sum(colour for _, colour in read)
        splits[name] = ArraySplit(images, _class_labels(path / name, paths, classes))
    _check_splits(path, splits, levels=256)
    checksum = _folder_digest(path, files, channels)
    note = (
        f"{coloured:,} images in colour were read as grey; channels = 3 keeps their colours"
        if channels == 1 and coloured
        else None
    )
    return ArraySplits(splits["train"], splits["test"], 256, checksum, splits.get("valid"), note)


def _folder_digest(path: Path, files: Mapping[str, Sequence[Path]], channels: int) -> str:
    """SHA-256 over each image's name below the folder and its bytes, and the channels asked for."""
    digest = hashlib.sha256(f"channels {channels}\n".encode())
    for paths in files.values():
        for file in paths:
            digest.update(f"{file.relative_to(path).as_posix()}\n".encode())
            digest.update(hashlib.sha256(_bytes(file)).digest())
    return digest.hexdigest()


def _check_channels(channels: int) -> None:
    if channels not in (1, 3):
        raise DataInvalid(f"an image folder is read with channels 1 (grey) or 3; got {channels}")


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataInvalid(f"{file} can't be read: {error.strerror}") from error


def _folder_files(path: Path) -> dict[str, list[Path]]:
    files = {name: list(_image_files(path / name)) for name in SPLITS}
    for name in ("train", "test"):
        if not files[name]:
            raise DataInvalid(
                f"{path}: an image folder needs {name}/ with images in it "
                f"({', '.join(sorted(_IMAGE_FORMATS))}); it has none"
            )
    return {name: found for name, found in files.items() if found}


def _image_files(folder: Path) -> Iterator[Path]:
    # Sorted by name below the folder: the order must not depend on the file system.
    for file in sorted(folder.rglob("*"), key=lambda found: found.relative_to(folder).as_posix()):
        hidden = file.name.startswith(".")
        if file.suffix.lower() in _IMAGE_FORMATS and not hidden and file.is_file():
            yield file


def _classes(path: Path, files: Mapping[str, list[Path]]) -> list[str]:
    """The class folders of all splits, sorted; empty where the images lie in none."""
    names: set[str] = set()
    bare: list[Path] = []
    for split, paths in files.items():
        for file in paths:
            inside = file.relative_to(path / split).parts
            names.add(inside[0]) if len(inside) > 1 else bare.append(file)
    if names and bare:
        raise DataInvalid(
            f"{path}: either every image lies in a class folder or none does; {bare[0]} does not, "
            f"but there is a class folder {min(names)!r}"
        )
    return sorted(names)


def _class_labels(folder: Path, paths: list[Path], classes: list[str]) -> NDArray[np.int64] | None:
    if not classes:
        return None
    index = {name: number for number, name in enumerate(classes)}
    return np.array([index[file.relative_to(folder).parts[0]] for file in paths], dtype=np.int64)


def _check_total(path: Path, count: int, size: tuple[int, int], channels: int) -> None:
    total = count * size[0] * size[1] * channels
    if total > MAX_BYTES:
        raise DataInvalid(
            f"{path} unpacks to {total:,} bytes; at most {MAX_BYTES:,} are read into memory"
        )


def _image_size(file: Path) -> tuple[int, int]:
    """Width and height, from the file's header."""
    with _opened(file) as picture:
        return int(picture.size[0]), int(picture.size[1])


def _image(
    file: Path, channels: int, first: tuple[Path, tuple[int, int]]
) -> tuple[NDArray[np.uint8], bool]:
    """One image, `(channels, H, W)`, and whether the file's is in colour.

    Its size is checked before its pixels are unpacked.
    """
    with _opened(file) as picture:
        if picture.size != first[1]:
            raise DataInvalid(
                f"{file} is {_by(picture.size)}, but all images must be of one size: {first[0]} "
                f"is {_by(first[1])}"
            )
        if picture.mode not in _EIGHT_BIT_MODES:
            raise DataInvalid(
                f"{file} has pixels of mode {picture.mode!r}; accepted are 8-bit images"
            )
        try:
            pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
            # Many a grey image is saved with three equal channels.
            coloured = picture.mode not in ("1", "L", "LA") and bool(
                np.ptp(np.asarray(picture.convert("RGB")), axis=-1).any()
            )
        except (OSError, SyntaxError, ValueError, zlib.error) as error:
            raise DataInvalid(f"{file} is a damaged image: {error}") from error
    return (pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)), coloured


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _opened(file: Path) -> Any:
    from PIL import Image

    formats = [_IMAGE_FORMATS[suffix] for suffix in _IMAGE_FORMATS]
    try:
        return Image.open(file, formats=formats)
    except Image.DecompressionBombError as error:
        raise DataInvalid(f"{file} is too large an image: {error}") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise DataInvalid(f"{file} can't be read as an image: {error}") from error
