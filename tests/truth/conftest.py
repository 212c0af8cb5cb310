"""The real images that exact answers are known for; tests that need them are marked `mnist`."""

import gzip
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vaebench.truth.ppca import Spectrum, fit


@dataclass(frozen=True)
class RealImages:
    """Grey levels (N, 784) of both splits, and the spectrum of the training pixels."""

    train: NDArray[np.uint8]
    test: NDArray[np.uint8]
    spectrum: Spectrum

    @property
    def train_pixels(self) -> NDArray[np.float64]:
        return self.train / 255.0

    @property
    def test_pixels(self) -> NDArray[np.float64]:
        return self.test / 255.0


@pytest.fixture(scope="session")
def mnist() -> RealImages:
    folder = _folder() / "MNIST" / "raw"
    return _real(folder / "train-images-idx3-ubyte", folder / "t10k-images-idx3-ubyte")


@pytest.fixture(scope="session")
def fashion_mnist() -> RealImages:
    folder = _folder() / "fashion-mnist"
    return _real(folder / "train-images-idx3-ubyte.gz", folder / "t10k-images-idx3-ubyte.gz")


@pytest.fixture(params=["mnist", "fashion_mnist"])
def real(request: pytest.FixtureRequest) -> RealImages:
    return request.getfixturevalue(request.param)


def _folder() -> Path:
    folder = os.environ.get("VAEBENCH_DATA")
    if not folder:
        pytest.skip("needs real images: VAEBENCH_DATA is not set")
    return Path(folder)


def _real(train: Path, test: Path) -> RealImages:
    levels = _read_idx(train), _read_idx(test)
    return RealImages(*levels, fit(levels[0] / 255.0))


def _read_idx(path: Path) -> NDArray[np.uint8]:
    if not path.exists():
        pytest.skip(f"needs real images: no file {path}")
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    magic, count, height, width = np.frombuffer(content, ">i4", count=4)
    assert magic == 2051
    return np.frombuffer(content, np.uint8, offset=16).reshape(count, height * width)
