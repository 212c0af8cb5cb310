"""Interpret, check and convert the arrays of a user's data set.

Every error names the source, the array and, if one example is invalid, its index.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray

from vaebench.errors import DataInvalid
from vaebench.grid.cell import Cell
from vaebench.system.memory import available_memory
from vaebench.system.terminal import capped

Array = NDArray[Any]
Kind = Literal["images", "real", "counts"]

SPLITS = ("train", "valid", "test")
ARRAY_NAMES = (*SPLITS, *(f"{split}_labels" for split in SPLITS), "levels")
_LARGEST_COUNT = 2**24
"""The largest count; larger integers are not exact in float32."""
_LARGEST_VALUE = 1e18
"""Largest absolute real value; squares of larger ones overflow float32."""
_LARGEST_LOSS = 1e-3
"""Largest rounding error of a column in float32, as a share of its standard deviation."""
_SPLIT_SEED = 577_215
_TEST_SHARE = 5
"""Share of the examples that become the test split if the data have none: one in five."""


@dataclass(frozen=True)
class Reading:
    """How a user's data are read; each field is the axis of the same name.

    Attributes:
        kind: ``images``, ``real``, ``counts``, or ``auto``: real for floats N x D, else images.
        channels: colour channels of an image folder, 1 (grey) or 3.
        layout: ``channels_last`` or ``channels_first``.
        range: lowest and highest value of float images; empty for other data.
        shape: (H, W) or (C, H, W) of images that are stored as rows; empty for other data.
        resize: (H, W) of an image folder's images; empty to leave them as they are.
        crop: whether to crop the centre of each image to the aspect ratio of ``resize``.
    """

    kind: str = "auto"
    channels: int = 1
    layout: str = "channels_last"
    range: tuple[float, ...] = ()
    shape: tuple[int, ...] = ()
    resize: tuple[int, ...] = ()
    crop: bool = False

    @classmethod
    def of(cls, cell: Cell) -> Self:
        """Return the settings in the axes of a cell."""
        return cls(**{name: getattr(cell, name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class ArraySplit:
    """The images and labels of one split.

    Attributes:
        images: ``(N, C, H, W)``; uint8 grey levels of images, else float32. A vector of D numbers
            is an image of shape (1, 1, D).
        labels: ``(N,)`` int64, or None.
    """

    images: Array
    labels: NDArray[np.int64] | None = None

    def rows(self, index: slice | NDArray[np.int64]) -> ArraySplit:
        """Return the examples with these indices."""
        return ArraySplit(self.images[index], None if self.labels is None else self.labels[index])


@dataclass(frozen=True)
class ArraySplits:
    """All splits of a data set, in its original order.

    Attributes:
        levels: number of grey levels; None for real-valued data and counts.
        checksum: SHA-256 of the content.
        note: a remark for readers of the results on how the data were read, or empty.
        columns: the names of the columns of a table, if the source has names.
        classes: the name of each label, if the source has names.
    """

    train: ArraySplit
    test: ArraySplit
    levels: int | None
    checksum: str
    valid: ArraySplit | None = None
    note: str | None = None
    kind: Kind = "images"
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class OwnArrays:
    """The arrays of a source as they were read, and how to interpret them.

    Attributes:
        source: the name used in messages: a path or "data".
        arrays: maps names of `ARRAY_NAMES` to arrays.
        reading: how to read the arrays.
        checksum: SHA-256 of the source in general, and for images with two levels; None to use
            that of the arrays.
        note, columns, classes: as in `ArraySplits`.
    """

    source: str
    arrays: Mapping[str, Array]
    reading: Reading
    checksum: tuple[str, str] | None = None
    note: str | None = None
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def splits(self) -> ArraySplits:
        """Convert and check the arrays; see `from_arrays`."""
        found = from_arrays(self.source, self.arrays, self.reading)
        notes = "; ".join(filter(None, (found.note, self.note))) or None
        checksum = self.checksum[found.levels == 2] if self.checksum else found.checksum
        named = replace(found, checksum=checksum, note=notes)
        return replace(named, columns=self.columns, classes=self.classes)


def require_memory(source: str, size: int) -> None:
    """Raise an error for data that do not fit into memory.

    Args:
        source: the name of the data in the message.
        size: size of the unpacked data in bytes, from their headers.

    Raises:
        DataInvalid: the size exceeds the free memory.
    """
    free = available_memory()
    if free is not None and size > free:
        raise DataInvalid(
            f"{source} needs {size:,} bytes of memory, but only {free:,} bytes are free: use "
            "a part of the data, smaller images or a smaller type, or free some memory"
        )


def from_arrays(source: str, arrays: Mapping[str, Array], reading: Reading) -> ArraySplits:
    """Convert and check arrays with the names of `ARRAY_NAMES`; only ``train`` is required.

    Without ``test``, a fifth of the examples is held out, by a fixed seed. Without ``levels`` the
    data have 256 grey levels, or 2 if the images hold only two distinct values.

    Args:
        source: the name used in messages: a path or "data".
        arrays: the arrays; see `Reading` for their shapes.
        reading: how to interpret them.

    Raises:
        DataInvalid: an array or an example is not valid.
    """
    if "train" not in arrays:
        held = ", ".join(arrays) or "nothing"
        raise DataInvalid(f"{source} must hold an array 'train'; it holds {held}")
    kind = _kind(arrays["train"], reading)
    splits = {
        name: ArraySplit(
            converted(f"{source}: {name!r}", arrays[name], kind, reading),
            _labels(source, name, arrays),
        )
        for name in SPLITS
        if name in arrays
    }
    if kind == "real" and arrays["train"].dtype != np.float32:
        _require_resolution(f"{source}: 'train'", arrays["train"])
    classes = splits["train"].labels
    notes = []
    if "test" in splits and (classes is None) != (splits["test"].labels is None):
        notes.append("only one of train and test has labels, so labels are not used")
    if classes is not None and len(np.unique(classes)) == 1:
        notes.append("all training labels are one class, so no label can be told from the codes")
    if "test" not in splits:
        splits |= _split_by_seed(source, splits["train"])
        notes.append(
            f"the data have no test split: {len(splits['test'].images):,} of "
            f"{len(arrays['train']):,} examples were held out, by a fixed seed"
        )
    digest = _digest(arrays)
    levels = None
    if kind == "images":
        levels = _declared_levels(source, arrays.get("levels"))
        if levels is None:
            levels, splits, changed = _found_levels(splits)
            if changed:  # The images are not those of the file, so their identity is another one.
                digest = hashlib.sha256(f"{digest} two levels".encode()).hexdigest()
    _check(source, splits, levels)
    train, test, valid = splits["train"], splits["test"], splits.get("valid")
    return ArraySplits(train, test, levels, digest, valid, "; ".join(notes) or None, kind)


def class_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return class names for records and plots, or none if there are more than 1,000."""
    return tuple(capped(name, 60) for name in names) if len(names) <= 1_000 else ()


def keep_arrays(data: Mapping[str, object], folder: Path) -> Path:
    """Write arrays to an .npz file named after the hash of their content; return its path.

    Args:
        data: maps names of `ARRAY_NAMES` to NumPy arrays, tensors or torch data sets.
        folder: the folder to write to.

    Raises:
        DataInvalid: a name is unknown, or a value is not an array.
    """
    if not isinstance(data, Mapping):
        raise DataInvalid(f"data must map names to arrays, such as 'train'; got {type(data)}")
    arrays: dict[str, Array] = {}
    for name, values in data.items():
        if name not in ARRAY_NAMES:
            known = ", ".join(ARRAY_NAMES)
            raise DataInvalid(f"data: the name of an array must be one of {known}; got {name!r}")
        arrays |= _plain_arrays(name, values)
    for name, array in arrays.items():
        _require_numbers(f"data: {name!r}", array)
    path = folder / "arrays" / f"{_digest(arrays)[:24]}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.stem}.{os.getpid()}.part")
        with part.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **cast("dict[str, Any]", arrays))
        part.replace(path)
    return path


def _require_numbers(where: str, array: Array) -> None:
    if array.dtype.kind not in "biuf":
        raise DataInvalid(
            f"{where} must hold numbers; it is {array.dtype}: convert it with astype(float), or "
            "names with numpy.unique(names, return_inverse=True)[1]"
        )


def _plain_arrays(name: str, values: object) -> dict[str, Array]:
    """Return one array, or the images and labels of a torch data set."""
    if hasattr(values, "detach"):
        values = cast(Any, values).detach().cpu().numpy()
    if hasattr(values, "__array__"):
        return {name: np.asarray(values)}
    if not (hasattr(values, "__getitem__") and hasattr(values, "__len__")):
        raise DataInvalid(
            f"data: {name!r} must be an array, a tensor or a data set; got {values!r:.80}"
        )
    whole = cast(Any, values)
    items = [whole[index] for index in range(len(whole))]
    if not (items and isinstance(items[0], tuple)):
        return {name: np.stack([np.asarray(item) for item in items])} if items else {}
    images = np.stack([np.asarray(item[0]) for item in items])
    return {name: images, f"{name}_labels": np.array([int(item[1]) for item in items])}


def _kind(train: Array, reading: Reading) -> Kind:
    if reading.kind != "auto":
        return cast(Kind, reading.kind)
    is_real = train.dtype.kind == "f" and train.ndim == 2 and not reading.range
    return "real" if is_real else "images"


def converted(where: str, array: Array, kind: Kind, reading: Reading) -> Array:
    """Return examples as ``(N, C, H, W)``: uint8 grey levels of images, else float32.

    Args:
        where: the name of the source and array in messages.
        array: the examples; see `Reading` for their shape.
        kind: what the numbers are.
        reading: how to interpret them.

    Raises:
        DataInvalid: the array or an example is not as it must be.
    """
    _require_numbers(where, array)
    if array.ndim < 2 or 0 in array.shape[1:]:
        raise DataInvalid(
            f"{where} must have shape N x D, N x H x W or N x H x W x C; it has {array.shape}"
        )
    if kind == "images":
        array = _grey_levels(where, array, reading)
    elif kind == "counts":
        array = _counts(where, array)
    else:
        finite = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        if not finite.all():
            raise DataInvalid(f"{where}: sample {np.flatnonzero(~finite)[0]} is not finite")
        with np.errstate(over="ignore"):
            single = array.astype(np.float32)
        if not (np.abs(single) <= _LARGEST_VALUE).all():
            raise DataInvalid(
                f"{where} holds {np.abs(array).max():.3g}, but squares of values above "
                f"{_LARGEST_VALUE:g} overflow single precision: divide the values by a constant"
            )
        array = single
    return _four_dimensional(where, array, reading)


def _require_resolution(where: str, array: Array) -> None:
    """Raise DataInvalid for a column of real values that loses its variation in float32."""
    rows = array.reshape(len(array), -1).astype(np.float64)
    spread, error = rows.std(axis=0), np.abs(rows - rows.astype(np.float32)).max(axis=0)
    wrong = (spread > 0) & (error > _LARGEST_LOSS * spread)
    if wrong.any():
        column = int(wrong.argmax())
        raise DataInvalid(
            f"{where}: column {column} (counted from 0) holds values such as "
            f"{rows[0, column]:.10g} with a standard deviation of {spread[column]:.3g}, which "
            "single precision does not resolve: subtract a constant from it or rescale it"
        )


def _grey_levels(where: str, array: Array, reading: Reading) -> NDArray[np.uint8]:
    """Return grey levels from integers 0 ... 255, bools, or floats with a declared range."""
    if array.dtype.kind == "f":
        return _levels_of_floats(where, array, reading)
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    if low < 0 or high > 255:
        raise DataInvalid(
            f"{where} holds integers from {low} to {high}; grey levels must be 0 ... 255. For "
            'counts set kind = "counts", for measurements kind = "real"'
        )
    return array.astype(np.uint8)


def _levels_of_floats(where: str, array: Array, reading: Reading) -> NDArray[np.uint8]:
    if not reading.range:
        finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
        first = "" if finite.all() else f", and sample {np.flatnonzero(~finite)[0]} is not finite"
        raise DataInvalid(
            f"{where} is {array.dtype}{first}; for images declare the range of the values, such as "
            'range = [0, 1], for measurements set kind = "real"'
        )
    low, high = reading.range
    scaled = (array.astype(np.float64) - low) / (high - low) * 255
    levels = np.round(scaled)
    wrong = ~(np.abs(scaled - levels) <= 0.01) | (levels < 0) | (levels > 255)
    at_fault = wrong.reshape(len(array), -1).any(axis=1)
    if at_fault.any():
        sample = int(np.flatnonzero(at_fault)[0])
        value = array[sample].reshape(-1)[wrong[sample].reshape(-1)][0]
        raise DataInvalid(
            f"{where}: sample {sample} holds {value:g}, which is not one of the 256 grey levels "
            f"between {low:g} and {high:g}; correct range, or set kind = 'real'"
        )
    return levels.astype(np.uint8)


def _counts(where: str, array: Array) -> NDArray[np.float32]:
    if array.dtype.kind not in "iu":
        raise DataInvalid(
            f"{where} is {array.dtype}; counts must be integers: convert with astype(int)"
        )
    if array.size and (array.min() < 0 or array.max() > _LARGEST_COUNT):
        raise DataInvalid(
            f"{where} holds integers from {array.min()} to {array.max()}; counts must be "
            f"0 ... {_LARGEST_COUNT:,}"
        )
    return array.astype(np.float32)


def _four_dimensional(where: str, array: Array, reading: Reading) -> Array:
    if reading.shape:
        shape = (1, *reading.shape)[-3:]
        if array.ndim != 2 or array.shape[1] != np.prod(shape):
            raise DataInvalid(
                f"{where} must have rows of {np.prod(shape)} numbers for shape = "
                f"{list(reading.shape)}; its shape is {array.shape}"
            )
        return array.reshape(-1, *shape)
    if array.ndim < 4:
        return array.reshape(len(array), 1, *(1, *array.shape[1:])[-2:])
    channels = array.shape[1 if reading.layout == "channels_first" else 3]
    if array.ndim > 4 or channels not in (1, 3):
        other = {"channels_last": 1, "channels_first": 3}[reading.layout]
        hint = "; set the other layout" if array.ndim == 4 and array.shape[other] in (1, 3) else ""
        raise DataInvalid(
            f"{where} has shape {array.shape}; with layout = {reading.layout!r} images must have 1 "
            f"or 3 channels{hint}"
        )
    return array if reading.layout == "channels_first" else array.transpose(0, 3, 1, 2)


def _labels(source: str, split: str, arrays: Mapping[str, Array]) -> NDArray[np.int64] | None:
    labels = arrays.get(f"{split}_labels")
    if labels is None:
        return None
    count = arrays[split].shape[:1]
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.dtype.kind not in "iu" or flat.shape != count:
        raise DataInvalid(
            f"{source}: '{split}_labels' must be one integer for each example, shape {count}; it "
            f"is {labels.dtype} of shape {labels.shape}: convert one-hot labels with "
            "numpy.argmax(labels, 1), names with numpy.unique(names, return_inverse=True)[1]; "
            "leave out labels of which an example has several"
        )
    return flat.astype(np.int64)


def _split_by_seed(source: str, whole: ArraySplit) -> dict[str, ArraySplit]:
    count = len(whole.images)
    held_out = max(2, count // _TEST_SHARE)
    if count - held_out < 2:
        raise DataInvalid(f"{source}: a data set needs at least 4 examples; it has {count}")
    order = np.random.default_rng(_SPLIT_SEED).permutation(count)
    return {
        "train": whole.rows(np.sort(order[held_out:])),
        "test": whole.rows(np.sort(order[:held_out])),
    }


def _digest(arrays: Mapping[str, Array]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _declared_levels(source: str, given: Array | None) -> int | None:
    if given is None:
        return None
    if given.size != 1 or given.dtype.kind not in "iu":
        raise DataInvalid(
            f"{source}: 'levels' must be one integer; it is {given.dtype}{given.shape}"
        )
    levels = int(given.reshape(())[()])
    if not 2 <= levels <= 256:
        raise DataInvalid(f"{source}: 'levels' must be between 2 and 256; it is {levels}")
    return levels


def _found_levels(splits: dict[str, ArraySplit]) -> tuple[int, dict[str, ArraySplit], bool]:
    """Return the number of levels; two distinct values are mapped to 0 and 1.

    The last item of the result is whether values were changed.
    """
    seen = np.zeros(256, dtype=bool)
    for split in splits.values():
        seen |= np.bincount(split.images.reshape(-1), minlength=256) > 0
    values = np.flatnonzero(seen)
    if len(values) > 2 or not len(values):
        return 256, splits, False
    if values[-1] <= 1:
        return 2, splits, False
    mapped = {
        name: replace(split, images=(split.images == values[-1]).astype(np.uint8))
        for name, split in splits.items()
    }
    return 2, mapped, True


def _check(source: str, splits: Mapping[str, ArraySplit], levels: int | None) -> None:
    shape = splits["train"].images.shape[1:]
    for name, split in splits.items():
        images = split.images
        if images.shape[1:] != shape:
            raise DataInvalid(
                f"{source}: all splits must have images of one shape (C, H, W), rows of D numbers "
                f"(1, 1, D); those of 'train' are {shape}, those of {name!r} {images.shape[1:]}"
            )
        if len(images) < 2:
            raise DataInvalid(
                f"{source}: a split must have at least 2 examples; {name!r} has {len(images)}"
            )
        if levels is not None and images.max() >= levels:
            top = images.reshape(len(images), -1).max(axis=1)
            sample = int(np.flatnonzero(top >= levels)[0])
            raise DataInvalid(
                f"{source}: with {levels} levels a pixel must be 0 ... {levels - 1}; sample "
                f"{sample} of {name!r} holds {top[sample]}"
            )
        if (images == images[0]).all():
            raise DataInvalid(f"{source}: {name!r} must hold samples that differ; all are equal")
