"""Data sets that torchvision reads from its own files."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from vaebench.data.acquire import fetch
from vaebench.data.catalog import facts_of, locate
from vaebench.data.sources import load
from vaebench.data.vision import torchvision_module
from vaebench.errors import DataMissing
from vaebench.grid.cell import Cell, cell_id

DATA = os.environ.get("VAEBENCH_DATA")


def idx(array: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes."""
    header = [0, 0, 8, array.ndim]
    return bytes(header) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


@pytest.fixture
def kmnist(tmp_path: Path) -> Path:
    raw = tmp_path / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for split, count in (("train", 30), ("t10k", 10)):
        images = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = draw.integers(0, 10, count, dtype=np.uint8)
        (raw / f"{split}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


def test_a_set_in_torchvisions_layout(kmnist: Path) -> None:
    data = load("torchvision:KMNIST", kmnist)
    assert (data.shape, data.levels, len(data.train), len(data.test)) == ((1, 28, 28), 256, 30, 10)
    assert data.train.labels is not None
    facts = facts_of("torchvision:KMNIST", None, kmnist)
    assert facts.checksum == data.checksum
    name = cell_id(Cell(dataset="torchvision:KMNIST"), facts.checksum)
    assert name.startswith("torchvision_KMNIST-")


def test_fake_data_need_no_files() -> None:
    data = load("torchvision:FakeData")
    assert (data.shape, len(data.train), len(data.test)) == ((3, 32, 32), 1_000, 200)
    assert data.checksum == load("torchvision:FakeData").checksum


@pytest.mark.mnist
@pytest.mark.parametrize(
    ("theirs", "ours"), [("MNIST", "mnist"), ("FashionMNIST", "fashion-mnist")]
)
def test_torchvision_reads_the_same_images_as_we_do(theirs: str, ours: str, tmp_path: Path) -> None:
    if not DATA:
        pytest.skip("needs VAEBENCH_DATA")
    for path in locate(ours, Path(DATA)).paths:
        target = tmp_path / theirs / "raw" / path.name.removesuffix(".gz")
        target.parent.mkdir(parents=True, exist_ok=True)
        packed = path.read_bytes()
        target.write_bytes(gzip.decompress(packed) if path.suffix == ".gz" else packed)
    one = load(f"torchvision:{theirs}", tmp_path, train_size=100, test_size=100)
    other = load(ours, Path(DATA), train_size=100, test_size=100)
    assert torch.equal(one.train.images, other.train.images)
    assert torch.equal(one.test.images, other.test.images)


def test_absent_files_and_unknown_names_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VAEBENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DataMissing, match="vaebench data fetch torchvision:SVHN"):
        load("torchvision:SVHN", tmp_path)
    with pytest.raises(DataMissing, match=r"CIFAR10, .*; got 'Cityscapes'"):
        load("torchvision:Cityscapes", tmp_path)


def test_a_damaged_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchvision compares its pickled files with checksums before it opens them."""
    monkeypatch.delenv("VAEBENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    batches = tmp_path / "cifar-10-batches-py"
    batches.mkdir()
    for number in range(1, 6):
        (batches / f"data_batch_{number}").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(DataMissing, match="corrupted"):
        load("torchvision:CIFAR10", tmp_path)


def test_fetch_lets_torchvision_download(kmnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are there, so nothing is downloaded; a refused connection is reported."""
    assert fetch("torchvision:KMNIST", kmnist) == kmnist
    module = torchvision_module("datasets")

    def refuse(self: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(module.QMNIST, "download", refuse)
    with pytest.raises(DataMissing, match="could not download QMNIST: no network"):
        fetch("torchvision:QMNIST", kmnist)
