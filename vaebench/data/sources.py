"""Load a data set by its name or path, as tensors in three splits.

Every split is shuffled in one fixed order, the same for every cell. Its first N images are thus a
fair sample of it (files may be sorted by class), and a smaller subset is part of a larger one.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from vaebench.data.catalog import DIGITS_SHA256, fingerprint, locate, own_arrays, remedy
from vaebench.data.idx import read_idx
from vaebench.data.linear_gaussian import linear_gaussian_draw
from vaebench.data.own_data import ArraySplit, ArraySplits, Kind, Reading
from vaebench.errors import DataInvalid

_ORDER_SEED = 271_828
_SMALLEST_SPLIT = 2


@dataclass(frozen=True)
class Split:
    """Images and labels of one split.

    Attributes:
        images: `(N, C, H, W)`; grey levels 0 ... L-1 as uint8, or float32 for real-valued data.
        labels: `(N,)` int64, or None if the data have no labels.
    """

    images: Tensor
    labels: Tensor | None

    def __len__(self) -> int:
        """The number of images, N."""
        return len(self.images)


@dataclass(frozen=True)
class ImageData:
    """A data set in memory.

    Attributes:
        name: the name of a packaged data set, or the last part of the path.
        train, valid, test: disjoint splits; `valid` may be empty.
        levels: the number of grey levels L, or None for real-valued pixels.
        checksum: SHA-256 of all data; for packaged data `vaebench.data.catalog.fingerprint`.
        note: a remark for readers of the results on how the data were read, or empty.
        kind: images, real or counts; for real and counts, values are in the unit of the data.
        columns: the names of the columns of a table, if the source has names.
        classes: the name of each label, if the source has names.
    """

    name: str
    train: Split
    valid: Split
    test: Split
    levels: int | None
    checksum: str
    note: str | None = None
    kind: Kind = "images"
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


def load(
    dataset: str,
    data_dir: Path | None = None,
    train_size: int | None = None,
    valid_size: int = 0,
    test_size: int | None = None,
    reading: Reading | None = None,
) -> ImageData:
    """Load a data set by its name, or a user's data by their path.

    Args:
        dataset: a name, or the path of a file or image folder.
        data_dir: the folder that is searched first.
        train_size: number of training images, a fixed subset; by default all images that are not
            in the validation split.
        valid_size: number of images at the end of the training set that become the validation set;
            a user's data are first shuffled in a fixed order. If the data come with a validation
            split, the number of its images that are used (0: all).
        test_size: number of test images, a fixed subset; all by default.
        reading: how a user's data are read.

    Raises:
        DataMissing: the data were not found; the message lists the folders searched.
        DataInvalid: the data cannot be used; the message names the file or the sample.
        ValueError: a size is below 2 or exceeds the number of images.
    """
    if dataset in SOURCES:
        arrays = SOURCES[dataset](dataset, data_dir)
    else:
        arrays = own_arrays(dataset, data_dir, reading or Reading()).splits()
    if arrays.valid is None:
        if valid_size and dataset not in SOURCES:
            # A user's files may be sorted by class; unshuffled, their tail would miss classes.
            arrays = replace(arrays, train=_shuffled(arrays.train))
        arrays = _with_tail_as_valid(arrays, valid_size)
        valid_size = len(arrays.valid.images) if arrays.valid else 0
    valid = arrays.valid or arrays.train.rows(slice(0, 0))
    return ImageData(
        name=dataset if dataset in SOURCES else Path(dataset).name,
        train=_split(arrays.train, train_size, "train_size"),
        valid=_split(valid, valid_size or None, "valid_size"),
        test=_split(arrays.test, test_size, "test_size"),
        levels=arrays.levels,
        checksum=arrays.checksum,
        note=arrays.note,
        kind=arrays.kind,
        columns=arrays.columns,
        classes=arrays.classes,
    )


def _with_tail_as_valid(arrays: ArraySplits, size: int) -> ArraySplits:
    """Move the last `size` training images to the validation split."""
    rest = len(arrays.train.images) - size
    if size < 0 or rest < _SMALLEST_SPLIT:
        raise ValueError(
            f"valid_size must leave at least {_SMALLEST_SPLIT} of the "
            f"{len(arrays.train.images):,} training images; got {size}"
        )
    return replace(
        arrays,
        train=arrays.train.rows(slice(0, rest)),
        valid=arrays.train.rows(slice(rest, None)),
    )


def _shuffled(split: ArraySplit) -> ArraySplit:
    """Return the split in a fixed random order."""
    return split.rows(np.random.default_rng(_ORDER_SEED).permutation(len(split.images)))


def _split(arrays: ArraySplit, size: int | None, setting: str) -> Split:
    """Return the first `size` images of a split, in its fixed shuffled order."""
    count = len(arrays.images)
    if size is not None and not _SMALLEST_SPLIT <= size <= count:
        raise ValueError(
            f"{setting} must be between {_SMALLEST_SPLIT} and the {count:,} images of the split; "
            f"got {size}"
        )
    rows = np.random.default_rng(_ORDER_SEED).permutation(count)[:size]
    labels = None if arrays.labels is None else torch.from_numpy(arrays.labels[rows])
    return Split(torch.from_numpy(np.ascontiguousarray(arrays.images[rows])), labels)


def _idx_files(dataset: str, data_dir: Path | None) -> ArraySplits:
    located = locate(dataset, data_dir)
    pairs = zip(located.paths, located.facts.files, strict=True)
    try:
        images, labels, test_images, test_labels = (read_idx(path, file) for path, file in pairs)
    except DataInvalid as error:
        raise DataInvalid(f"{error}\n{remedy(dataset)}") from error
    return ArraySplits(
        train=ArraySplit(images[:, None], labels.astype(np.int64)),
        test=ArraySplit(test_images[:, None], test_labels.astype(np.int64)),
        levels=256,
        checksum=fingerprint(dataset),
    )


def _digits(dataset: str, _: Path | None) -> ArraySplits:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = bunch.images.astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    found = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    if found != DIGITS_SHA256:
        raise DataInvalid(
            f"scikit-learn's digits must have SHA-256 {DIGITS_SHA256}; the installed ones have "
            f"{found}: reinstall scikit-learn"
        )
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=0
    )
    return ArraySplits(
        train=ArraySplit(images[train], labels[train]),
        test=ArraySplit(images[test], labels[test]),
        levels=17,
        checksum=fingerprint(dataset),
    )


def _linear_gaussian(dataset: str, _: Path | None) -> ArraySplits:
    train, test = linear_gaussian_draw()
    checksum = fingerprint(dataset)
    return ArraySplits(ArraySplit(train), ArraySplit(test), None, checksum, kind="real")


SOURCES: Mapping[str, Callable[[str, Path | None], ArraySplits]] = MappingProxyType(
    {
        "digits": _digits,
        "mnist": _idx_files,
        "fashion-mnist": _idx_files,
        "linear-gaussian": _linear_gaussian,
    }
)
"""The function that reads each packaged data set, by its name in `DATASETS`."""
