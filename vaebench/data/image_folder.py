"""Read a user's folder of images."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaebench.data.own_data import SPLITS, OwnArrays, Reading, class_names, require_memory
from vaebench.errors import DataInvalid

_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".pgm": "PPM",
    ".ppm": "PPM",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L")


def folder_arrays(path: Path, reading: Reading) -> OwnArrays:
    """Read the images in ``train/``, ``test/`` and optionally ``valid/``, or in the folder itself.

    Without these folders all images below ``path`` are the training images. Without ``test/`` a
    fifth of these is held out for the test split by a fixed seed. In each case the images may be in
    one folder for each class. Images are in the order of their sorted paths.

    Raises:
        DataInvalid: a split is empty, a file is not an image, or the images differ in size.
    """
    if reading.channels not in (1, 3):
        raise DataInvalid(
            f"channels of an image folder must be 1 (grey) or 3; got {reading.channels}"
        )
    files = _files(path)
    labels, classes = _labels(path, files)
    digest = hashlib.sha256(f"channels {reading.channels}\n".encode())
    first: tuple[Path, tuple[int, int]] | None = None
    arrays: dict[str, NDArray[Any]] = dict(labels)
    coloured = 0
    for name, paths in files.items():
        first = first or (paths[0], _size(paths[0]))
        height, width = reading.resize or first[1][::-1]
        require_memory(str(path), len(paths) * height * width * reading.channels)
        images = []
        for file in paths:
            pixels, colour = _image(file, reading, first)
            images.append(pixels)
            coloured += colour
            digest.update(f"{file.relative_to(path).as_posix()}\n".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        arrays[name] = np.stack(images)
    note = f"{coloured:,} colour images were read as grey; set channels = 3 to keep the colours"
    of_two_levels = digest.copy()
    of_two_levels.update(b"two levels")  # older versions read such images with 256 levels
    return OwnArrays(
        str(path),
        arrays,
        replace(reading, layout="channels_first", range=(), shape=()),
        (digest.hexdigest(), of_two_levels.hexdigest()),
        note if reading.channels == 1 and coloured else None,
        classes=class_names(classes),
    )


def _files(path: Path) -> dict[str, list[Path]]:
    """Return the image files of each split, sorted, so that the file system does not matter."""
    if not any((path / name).is_dir() for name in SPLITS):
        whole = list(_image_files(path))
        if not whole:
            raise DataInvalid(
                f"{path}: an image folder must hold images ({', '.join(sorted(_FORMATS))}), or "
                "train/ and test/ with images; it holds neither"
            )
        return {"train": whole}
    files = {name: list(_image_files(path / name)) for name in SPLITS}
    for name in SPLITS:
        if not files[name] and (name == "train" or (path / name).is_dir()):
            raise DataInvalid(
                f"{path}: an image folder needs {name}/ with images in it "
                f"({', '.join(sorted(_FORMATS))}); it has none"
            )
    return {name: found for name, found in files.items() if found}


def _image_files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*"), key=lambda found: found.relative_to(folder).as_posix()):
        hidden = file.name.startswith(".")
        if file.suffix.lower() in _FORMATS and not hidden and file.is_file():
            yield file


def _labels(
    path: Path, files: Mapping[str, Sequence[Path]]
) -> tuple[dict[str, NDArray[np.int64]], list[str]]:
    """Return the class of each image, and the sorted names of the class folders."""
    flat = not any((path / name).is_dir() for name in SPLITS)
    inside = {
        split: [file.relative_to(path if flat else path / split) for file in paths]
        for split, paths in files.items()
    }
    every = [name for names in inside.values() for name in names]
    classes = sorted({name.parts[0] for name in every if len(name.parts) > 1})
    bare = [
        file
        for split, names in inside.items()
        for file, name in zip(files[split], names, strict=True)
        if len(name.parts) == 1
    ]
    if classes and bare:
        raise DataInvalid(
            f"{path}: the images must be all in class folders or all outside; {bare[0]} is in "
            f"none, but there is a class folder {classes[0]!r}"
        )
    if not classes:
        return {}, []
    return {
        f"{split}_labels": np.array([classes.index(name.parts[0]) for name in names], np.int64)
        for split, names in inside.items()
    }, classes


def _size(file: Path) -> tuple[int, int]:
    """Return width and height in pixels, from the header of the file."""
    with _opened(file) as picture:
        return int(picture.size[0]), int(picture.size[1])


def _image(
    file: Path, reading: Reading, first: tuple[Path, tuple[int, int]]
) -> tuple[NDArray[np.uint8], bool]:
    """Return one image ``(channels, H, W)`` and whether the file is in colour.

    The size is checked before the pixels are unpacked.
    """
    with _opened(file) as picture:
        if not reading.resize and picture.size != first[1]:
            (width, height), (first_width, first_height) = picture.size, first[1]
            raise DataInvalid(
                f"{file} is {height} pixels high and {width} wide, but all images must be of one "
                f"size: {first[0]} is {first_height} high and {first_width} wide; set "
                f"resize = [{first_height}, {first_width}]"
            )
        if picture.mode not in (*_EIGHT_BIT_MODES, *_SIXTEEN_BIT_MODES):
            raise DataInvalid(
                f"{file} must be an 8-bit or 16-bit image; its mode is {picture.mode!r}: convert it"
            )
        try:
            if picture.mode in _SIXTEEN_BIT_MODES:
                picture = _eight_bit(picture)
            # Many grey images are saved with three equal channels.
            coloured = picture.mode not in ("1", "L", "LA") and bool(
                np.ptp(np.asarray(picture.convert("RGB")), axis=-1).any()
            )
            picture = picture.convert("L" if reading.channels == 1 else "RGB")
            if reading.resize:
                picture = _resized(picture, reading)
            pixels = np.asarray(picture)
        except (OSError, SyntaxError, ValueError, zlib.error) as error:
            raise DataInvalid(f"{file} is a damaged image: {error}") from error
    return (pixels[None] if reading.channels == 1 else pixels.transpose(2, 0, 1)), coloured


def _eight_bit(picture: Any) -> Any:
    from PIL import Image

    return Image.fromarray((np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8))


def _resized(picture: Any, reading: Reading) -> Any:
    from PIL import Image, ImageOps

    height, width = reading.resize
    if reading.crop:
        return ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR)
    return picture.resize((width, height), Image.Resampling.BILINEAR)


def _opened(file: Path) -> Any:
    from PIL import Image

    try:
        return Image.open(file, formats=sorted(set(_FORMATS.values())))
    except Image.DecompressionBombError as error:
        raise DataInvalid(f"{file} is too large: {error}") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise DataInvalid(f"{file} cannot be read as an image: {error}") from error
