"""A miniature of MNIST's four files, in place of the pinned ones, and the real ones where found."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from miniature_files import Miniature, idx_bytes

from vaebench.data import acquire, catalog
from vaebench.data.catalog import FileSet
from vaebench.data.idx import IdxFile


@pytest.fixture(autouse=True)
def _no_data_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAEBENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def miniature(monkeypatch: pytest.MonkeyPatch) -> Miniature:
    """`mnist` is four small files for this test: 30 training and 10 test images of 4x4 pixels."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (40, 4, 4), dtype=np.uint8)
    labels = random.integers(0, 10, 40, dtype=np.uint8)
    contents = {
        "train-images-idx3-ubyte": idx_bytes(images[:30]),
        "train-labels-idx1-ubyte": idx_bytes(labels[:30]),
        "t10k-images-idx3-ubyte": idx_bytes(images[30:]),
        "t10k-labels-idx1-ubyte": idx_bytes(labels[30:]),
    }
    files = tuple(
        IdxFile(name, hashlib.sha256(content).hexdigest(), len(content))
        for name, content in contents.items()
    )
    sets = {"mnist": FileSet("mnist", "MNIST/raw", ("mnist",), (), files)}
    monkeypatch.setattr(catalog, "FILE_SETS", sets)
    monkeypatch.setattr(acquire, "FILE_SETS", sets)
    return Miniature(contents, images, labels)


# Read at collection: the fixture above takes the variable away for every test.
_REAL = os.environ.get("VAEBENCH_DATA")


@pytest.fixture
def real_data() -> Path:
    """The folder of the real MNIST and Fashion-MNIST files."""
    if _REAL is None or not (Path(_REAL) / "MNIST" / "raw").is_dir():
        pytest.skip("needs the MNIST files: set VAEBENCH_DATA to the folder that holds MNIST/raw")
    return Path(_REAL).resolve()
