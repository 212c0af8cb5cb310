"""The named data sets, the folders searched for their files, and their checksums.

This module does not import torch, so that plans and listings are fast.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from vaebench.data.idx import IdxFile
from vaebench.data.image_folder import folder_arrays
from vaebench.data.linear_gaussian import linear_gaussian_fingerprint
from vaebench.data.own_data import OwnArrays, Reading
from vaebench.data.own_files import TABLES, explain_unusable, npz_arrays, table_arrays
from vaebench.data.places import places, storage_folder
from vaebench.errors import DataInvalid, DataMissing, UsageError
from vaebench.grid.axes import DATASETS, TORCHVISION_PREFIX
from vaebench.grid.values import closest

DIGITS_SHA256 = "65e5b4619795efb40c1082f4c350c049e4ad552200d369b6ae99e21eef5e72c5"
"""SHA-256 of scikit-learn's digits: the images as uint8, then the labels as int64."""

_DIGITS_SPLIT = "80/20 stratified by class, random_state 0"

_SIZES = MappingProxyType(
    {
        "train-images-idx3-ubyte": 47_040_016,
        "train-labels-idx1-ubyte": 60_008,
        "t10k-images-idx3-ubyte": 7_840_016,
        "t10k-labels-idx1-ubyte": 10_008,
    }
)


@dataclass(frozen=True)
class FileSet:
    """A data set that consists of four IDX files.

    Attributes:
        name: its name in a grid file.
        folder: torchvision's folder for it, below a data folder.
        other_folders: further folders below a data folder in which the files are searched.
        system_folders: folders outside the data folders, used by packages of the system.
        files: the expected files: train images, train labels, test images, test labels.
    """

    name: str
    folder: str
    other_folders: tuple[str, ...]
    system_folders: tuple[str, ...]
    files: tuple[IdxFile, ...]


def _files(*checksums: str) -> tuple[IdxFile, ...]:
    sized = zip(_SIZES.items(), checksums, strict=True)
    return tuple(IdxFile(name, sha256, size) for (name, size), sha256 in sized)


FILE_SETS: Mapping[str, FileSet] = MappingProxyType(
    {
        "mnist": FileSet(
            "mnist",
            "MNIST/raw",
            ("mnist",),
            (),
            _files(
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ),
        "fashion-mnist": FileSet(
            "fashion-mnist",
            "FashionMNIST/raw",
            ("fashion-mnist",),
            # Debian's package dataset-fashion-mnist.
            ("/usr/share/datasets/fashion-mnist",),
            _files(
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        ),
    }
)
"""The packaged data sets that are stored in files, by name."""


@dataclass(frozen=True)
class Located:
    """The paths of the files of a data set, all in `folder`, in the order of `FileSet.files`."""

    facts: FileSet
    folder: Path
    paths: tuple[Path, ...]


def locate(dataset: str, data_dir: Path | None = None) -> Located:
    """Return where the files of `mnist` or `fashion-mnist` are, without reading them.

    Raises:
        DataMissing: no folder has all four files; the message lists the folders and the remedies.
        UsageError: the data set has no files.
    """
    facts = file_set(dataset)
    tried = _candidates(facts, data_dir)
    for folder in tried:
        paths = tuple(present(folder, file) for file in facts.files)
        if all(path is not None for path in paths):
            return Located(facts, folder, tuple(path for path in paths if path is not None))
    raise DataMissing(_missing_text(facts, tried, data_dir))


def absent_data(datasets: Iterable[str], data_dir: Path | None = None) -> dict[str, str]:
    """Return which of the data sets of files were not found, each with the text of `locate`."""
    absent = {}
    for dataset in sorted(FILE_SETS.keys() & set(datasets)):
        try:
            locate(dataset, data_dir)
        except DataMissing as error:
            absent[dataset] = str(error)
    return absent


def file_set(dataset: str) -> FileSet:
    """Return the files of a data set.

    Raises:
        UsageError: the data set is not stored in files; the message lists those that are.
    """
    if dataset in FILE_SETS:
        return FILE_SETS[dataset]
    known = f"the data sets with files are {' and '.join(FILE_SETS)}"
    if dataset in DATASETS:
        raise UsageError(f"{dataset} is built in and needs no files; {known}")
    raise UsageError(f"{known}; got {dataset!r}")


def _candidates(facts: FileSet, data_dir: Path | None) -> tuple[Path, ...]:
    folders = (facts.folder, *facts.other_folders)
    below = [place / folder for place in places(data_dir) for folder in folders]
    return (*below, *(Path(folder) for folder in facts.system_folders))


def present(folder: Path, file: IdxFile) -> Path | None:
    """Return the path of `file` in `folder`, raw with the right size or gzipped, or None."""
    raw, zipped = folder / file.name, folder / f"{file.name}.gz"
    if raw.is_file() and (raw.stat().st_size == file.size or not zipped.is_file()):
        return raw
    return zipped if zipped.is_file() else None


def _missing_text(facts: FileSet, tried: tuple[Path, ...], data_dir: Path | None) -> str:
    return "\n".join(
        [
            f"{facts.name} was not found: no folder has its four files (raw or .gz).",
            "Looked in",
            *(f"  {folder} ({_lack(folder, facts)})" for folder in tried),
            "Two ways to get it:",
            f"  vaebench data fetch {facts.name}          downloads it",
            f"  vaebench data add {facts.name} PATH       copies it from a folder or archive",
            f"Both write it to {storage_folder(data_dir) / facts.folder}; choose another data "
            f"folder with --data-dir or $VAEBENCH_DATA.",
        ]
    )


def _lack(folder: Path, facts: FileSet) -> str:
    if not folder.is_dir():
        return "no such folder"
    absent = [file.name for file in facts.files if present(folder, file) is None]
    return f"without {', '.join(absent)}"


def kind_of(dataset: str) -> Literal["packaged", "torchvision", "npz", "table", "folder"]:
    """Return how a data set is stored: by its name, or by the file or folder at its path.

    Raises:
        DataMissing: the name is unknown and the file or folder does not exist.
        DataInvalid: the file or folder exists but its format is not supported.
    """
    if not dataset:
        raise DataMissing("the name of a data set must not be empty")
    if dataset in DATASETS:
        return "packaged"
    if dataset.startswith(TORCHVISION_PREFIX):
        return "torchvision"
    path = Path(dataset).expanduser()
    try:
        ending = path.suffix.lower()
        unusable = path.exists() and not (ending in (".npz", *TABLES) and path.is_file())
        why = explain_unusable(path) if unusable else None
        if why is not None:
            raise DataInvalid(why)
        if path.is_dir():
            return "folder"
        if path.is_file():
            return "npz" if ending == ".npz" else "table"
    except OSError as error:
        raise DataMissing(f"cannot open {dataset}: {error.strerror}") from error
    raise DataMissing(
        f"there is no data set {dataset!r}"
        f"{closest(dataset, _names_beside(path))}. A data set must be one of "
        f"{', '.join(DATASETS)}, torchvision:NAME, or "
        "the path of an .npz, .csv or .parquet file or of an image folder"
    )


def _names_beside(path: Path) -> list[str]:
    """Return names to suggest: packaged data sets, and the files in the same folder."""
    try:
        beside = [str(path.with_name(each.name)) for each in path.parent.iterdir()]
    except OSError:
        beside = []
    return [*DATASETS, *beside[:1_000]]


def own_arrays(dataset: str, data_dir: Path | None, reading: Reading) -> OwnArrays:
    """Read the arrays of a data set that is not packaged.

    Raises:
        DataMissing: the data set was not found.
        DataInvalid: the data cannot be used; the message says why.
    """
    kind, path = kind_of(dataset), Path(dataset).expanduser()
    if kind == "torchvision":
        from vaebench.data.torchvision_sets import torchvision_arrays

        return torchvision_arrays(dataset, data_dir, reading)
    if kind == "folder":
        return folder_arrays(path, reading)
    return npz_arrays(path, reading) if kind == "npz" else table_arrays(path, reading)


@dataclass(frozen=True)
class SetFacts:
    """Properties of a data set that are needed to plan a run.

    Attributes:
        checksum: SHA-256 of the content.
        shape: shape of an image, (C, H, W).
        kind: images, real or counts.
        levels: number of grey levels; None if the data are not images.
        train_images: number of training images, including those of a later validation split.
        test_images: number of test images.
        brings_valid: whether the data set comes with a validation split.
        note: what a user must know about the data, such as labels of one class only.
    """

    checksum: str
    shape: tuple[int, int, int]
    kind: Literal["images", "real", "counts"]
    levels: int | None
    train_images: int
    test_images: int
    brings_valid: bool = False
    note: str | None = None


def facts_of(
    dataset: str, reading: Reading | None = None, data_dir: Path | None = None
) -> SetFacts:
    """Return the properties of a data set; one that is not packaged is read and checked.

    Raises:
        DataMissing: the data set was not found.
        DataInvalid: the data cannot be used.
    """
    known = DATASETS.get(dataset)
    if known is not None:
        kind: Literal["images", "real"] = "real" if known.levels is None else "images"
        sizes = known.train_images, known.test_images
        return SetFacts(fingerprint(dataset), known.shape, kind, known.levels, *sizes)
    own = own_arrays(dataset, data_dir, reading or Reading()).splits()
    return SetFacts(
        own.checksum,
        own.train.images.shape[1:],
        own.kind,
        own.levels,
        len(own.train.images),
        len(own.test.images),
        brings_valid=own.valid is not None,
        note=own.note,
    )


def remedy(dataset: str) -> str:
    """Return instructions to get missing or wrong files of a packaged data set."""
    return (
        f"`vaebench data fetch {dataset}` downloads the right files; "
        f"`vaebench data add {dataset} PATH` copies them from a folder or archive"
    )


def fingerprint(dataset: str) -> str:
    """Return the SHA-256 that represents a packaged data set in cell ids, 64 hex digits.

    It is a constant, so the files need not be present; `load` compares them with it.

    Raises:
        KeyError: the data set is not packaged.
    """
    if dataset == "linear-gaussian":
        return linear_gaussian_fingerprint()
    if dataset == "digits":
        return _digest("digits", DIGITS_SHA256, _DIGITS_SPLIT)
    if dataset not in FILE_SETS:
        raise KeyError(
            f"a packaged data set needs a checksum in `fingerprint` or files in FILE_SETS, both in "
            f"data/catalog.py; {dataset!r} has neither"
        )
    return _digest(dataset, *(file.sha256 for file in FILE_SETS[dataset].files))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
