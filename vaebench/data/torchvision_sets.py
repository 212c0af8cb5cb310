"""Read data sets of `torchvision.datasets`, which are named ``torchvision:NAME``.

torchvision checks pickled files (CIFAR) and .mat files (SVHN) against its checksums before it reads
them; the other data sets consist of IDX files, plain binary files or no files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vaebench.data.own_data import OwnArrays, Reading, class_names
from vaebench.data.places import places, storage_folder
from vaebench.data.vision import torchvision_module
from vaebench.errors import DataMissing
from vaebench.grid.axes import TORCHVISION_PREFIX

_TRAIN = ({"train": True}, {"train": False})
_SPLIT = ({"split": "train"}, {"split": "test"})

TORCHVISION_SETS: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "CIFAR10": _TRAIN,
    "CIFAR100": _TRAIN,
    "EMNIST": ({"split": "balanced", "train": True}, {"split": "balanced", "train": False}),
    "FakeData": (
        {"size": 1_000, "image_size": (3, 32, 32)},
        {"size": 200, "image_size": (3, 32, 32), "random_offset": 1_000},
    ),
    "FashionMNIST": _TRAIN,
    "KMNIST": _TRAIN,
    "MNIST": _TRAIN,
    "QMNIST": _TRAIN,
    "SVHN": _SPLIT,
    "USPS": _TRAIN,
}
"""The arguments for the training and the test split of each supported class."""


def _check_name(dataset: str) -> str:
    name = dataset.removeprefix(TORCHVISION_PREFIX)
    if name not in TORCHVISION_SETS:
        raise DataMissing(
            f"a torchvision data set must be one of {', '.join(TORCHVISION_SETS)}; got {name!r}"
        )
    return name


def torchvision_arrays(dataset: str, data_dir: Path | None, reading: Reading) -> OwnArrays:
    """Read ``torchvision:NAME`` from the first data folder that has its files.

    Raises:
        DataMissing: the name is not supported, or no folder has the files.
    """
    name = _check_name(dataset)
    failures = []
    for root in places(data_dir):
        try:
            train, test = (_made(name, root, each, False) for each in TORCHVISION_SETS[name])
        except (RuntimeError, OSError) as error:  # also raised for a wrong checksum
            failures.append(f"  {root}: {error}")
        else:
            return OwnArrays(
                dataset,
                _as_arrays(train, test),
                reading,
                classes=class_names(list(map(str, getattr(train, "classes", ())))),
            )
    raise DataMissing(
        "\n".join(
            [
                f"torchvision cannot read {name}. Folders searched:",
                *failures,
                f"`vaebench data fetch {dataset}` downloads it into {storage_folder(data_dir)}",
            ]
        )
    )


def _made(name: str, root: Path, arguments: dict[str, Any], download: bool) -> Any:
    create = getattr(torchvision_module("datasets"), name)
    if name == "FakeData":
        return create(**arguments)
    return create(root=str(root), download=download, **arguments)


def _as_arrays(train: Any, test: Any) -> dict[str, Any]:
    arrays = {}
    for split, images in (("train", train), ("test", test)):
        pairs = [(np.asarray(image), label) for image, label in images]
        arrays[split] = np.stack([image for image, _ in pairs])
        arrays[f"{split}_labels"] = np.array([int(label) for _, label in pairs], np.int64)
    return arrays


def fetch_torchvision(dataset: str, data_dir: Path | None) -> Path:
    """Download ``torchvision:NAME`` with torchvision; return the folder.

    Raises:
        DataMissing: the name is not supported, or the download failed.
    """
    name, root = _check_name(dataset), storage_folder(data_dir)
    root.mkdir(parents=True, exist_ok=True)
    try:
        for arguments in TORCHVISION_SETS[name]:
            _made(name, root, arguments, True)
    except (RuntimeError, OSError) as error:
        raise DataMissing(f"torchvision could not download {name}: {error}") from error
    return root
