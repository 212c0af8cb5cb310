"""Loading data sets: splits, subsets, order, and the real files where they are."""

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from miniature_files import Miniature

from vaebench.data import idx
from vaebench.data.catalog import fingerprint, locate
from vaebench.data.linear_gaussian import linear_gaussian_draw, linear_gaussian_truth
from vaebench.data.sources import Split, load
from vaebench.data.vision import torchvision_module
from vaebench.errors import DataInvalid, DataMissing
from vaebench.grid.axes import DATASETS


def rows(split: Split) -> set[bytes]:
    return {image.numpy().tobytes() for image in split.images}


def test_digits_are_the_promised_split() -> None:
    data = load("digits")
    choice = DATASETS["digits"]
    assert (data.name, data.shape, data.levels) == ("digits", choice.shape, choice.levels)
    assert (len(data.train), len(data.valid), len(data.test)) == (1437, 0, 360)
    assert data.train.images.dtype == torch.uint8
    assert int(data.train.images.max()) == 16
    assert data.checksum == fingerprint("digits")
    assert not rows(data.train) & rows(data.test)
    assert data.train.labels is not None
    assert data.test.labels is not None
    train, test = (torch.bincount(labels) for labels in (data.train.labels, data.test.labels))
    assert ((test / (train + test) - 0.2).abs() < 0.01).all()


def test_the_digits_split_is_pinned() -> None:
    found = hashlib.sha256(b"".join(sorted(rows(load("digits").test)))).hexdigest()
    assert found[:16] == "d974870049d11559"


def test_other_digits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn import datasets

    bunch = datasets.load_digits()
    bunch.images[5, 0, 0] += 1
    monkeypatch.setattr(datasets, "load_digits", lambda: bunch)
    with pytest.raises(DataInvalid, match="must have SHA-256 65e5b461"):
        load("digits")


def test_subsets_are_nested_and_not_the_first_of_the_file() -> None:
    whole, part = load("digits"), load("digits", train_size=100, test_size=50)
    assert torch.equal(part.train.images, whole.train.images[:100])
    assert torch.equal(part.test.images, whole.test.images[:50])
    assert part.test.labels is not None
    assert len(part.test.labels.unique()) == 10
    assert part.checksum == whole.checksum


def test_validation_images_are_the_tail_of_the_training_files(
    miniature: Miniature, tmp_path: Path
) -> None:
    miniature.write(tmp_path / "mnist")
    data = load("mnist", tmp_path, valid_size=12)
    assert rows(data.valid) == {image.tobytes() for image in miniature.images[18:30]}
    assert rows(data.train) == {image.tobytes() for image in miniature.images[:18]}
    assert rows(data.test) == {image.tobytes() for image in miniature.images[30:]}


@pytest.mark.parametrize("zipped", [False, True])
def test_labels_stay_with_their_images(miniature: Miniature, tmp_path: Path, zipped: bool) -> None:
    miniature.write(tmp_path / "mnist", zipped=zipped)
    data = load("mnist", tmp_path, valid_size=5)
    label_of = dict(
        zip((image.tobytes() for image in miniature.images), miniature.labels, strict=True)
    )
    for split in (data.train, data.valid, data.test):
        assert split.labels is not None
        assert split.labels.dtype == torch.int64
        told = [label_of[image.numpy().tobytes()] for image in split.images]
        assert split.labels.tolist() == told


def test_test_images_in_class_order_come_out_mixed(tmp_path: Path) -> None:
    images = np.arange(200, dtype=np.uint8).reshape(200, 1, 1).repeat(2, 1)
    labels = np.arange(200) // 20
    np.savez(tmp_path / "ordered.npz", train=images, test=images, test_labels=labels)
    first = load(str(tmp_path / "ordered.npz"), test_size=40).test.labels
    assert first is not None
    assert len(first.unique()) >= 8


def test_validation_images_of_data_in_class_order_leave_no_class_out(tmp_path: Path) -> None:
    images = np.arange(200, dtype=np.uint8).reshape(200, 1, 1).repeat(2, 1)
    labels = np.arange(200) // 20
    np.savez(tmp_path / "ordered.npz", train=images, train_labels=labels, test=images)
    data = load(str(tmp_path / "ordered.npz"), valid_size=40)
    for split, most in ((data.train, 160), (data.valid, 40)):
        assert split.labels is not None
        assert len(split.labels) == most
        assert len(split.labels.unique()) >= 8
    assert rows(data.train).isdisjoint(rows(data.valid))


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ({"train_size": 31}, "train_size must be between 2 and the 30 images of the split; got 31"),
        ({"train_size": 1}, "train_size must be between 2"),
        ({"test_size": 11}, "test_size must be between 2 and the 10 images of the split; got 11"),
        ({"test_size": 0}, "test_size must be"),
        ({"valid_size": 29}, "valid_size must leave at least 2 of the 30 training images; got 29"),
        ({"valid_size": -1}, "valid_size must leave"),
        ({"valid_size": 1}, "valid_size must be between 2"),
        ({"valid_size": 10, "train_size": 21}, "train_size must be between 2 and the 20 images"),
    ],
)
def test_sizes_that_there_are_not(
    miniature: Miniature, tmp_path: Path, sizes: dict[str, int], text: str
) -> None:
    miniature.write(tmp_path / "mnist")
    with pytest.raises(ValueError, match=text):
        load("mnist", tmp_path, **sizes)  # type: ignore[arg-type]  # not every option is an int


def test_absent_files_are_told() -> None:
    with pytest.raises(DataMissing, match="vaebench data fetch mnist"):
        load("mnist")


def test_a_file_damaged_after_a_good_load_is_found(miniature: Miniature, tmp_path: Path) -> None:
    folder = miniature.write(tmp_path / "mnist")
    load("mnist", tmp_path)
    damaged = folder / "train-images-idx3-ubyte"
    content = bytearray(damaged.read_bytes())
    content[100] ^= 1
    damaged.write_bytes(content)
    os.utime(damaged, (1, 1))
    with pytest.raises(DataInvalid, match=r"(?s)train-images.*SHA-256.*vaebench data fetch mnist"):
        load("mnist", tmp_path)


def test_a_checked_file_is_not_hashed_again(
    miniature: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    miniature.write(tmp_path / "mnist")
    load("mnist", tmp_path)

    def refuse(*_: object) -> bytes:
        raise AssertionError("hashed again")

    monkeypatch.setattr(idx, "read_content", refuse)
    assert len(load("mnist", tmp_path).train) == 30


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0\x08", bytes([0, 0, 9, 1, 0, 0, 0, 1, 5]), bytes([0, 0, 8, 1, 0, 0, 0, 2, 5])],
)
def test_bytes_that_are_no_idx_file(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"IDX|reshape"):
        idx.parse_idx(content)


def test_linear_gaussian_images_follow_their_model() -> None:
    W, mu, sigma = linear_gaussian_truth()
    train, test = (images.reshape(len(images), -1) for images in linear_gaussian_draw())
    assert (train.shape, test.shape) == ((10_000, 64), (2_000, 64))
    covariance = W @ W.T + sigma**2 * np.eye(64)
    spread = np.sqrt(np.diag(covariance))
    for images in (train, test):
        assert (np.abs(images.mean(0) - mu) < 4.5 * spread / np.sqrt(len(images))).all()
    whitened = np.linalg.solve(np.linalg.cholesky(covariance), (train - mu).T)
    # The eigenvalues of white noise's covariance lie within (1 +- sqrt(D/N))^2 (Marchenko-Pastur).
    eigenvalues = np.linalg.eigvalsh(np.cov(whitened))
    edge = np.sqrt(64 / len(train))
    assert (1 - edge) ** 2 - 0.02 < eigenvalues[0]
    assert eigenvalues[-1] < (1 + edge) ** 2 + 0.02


def test_linear_gaussian_truth_is_what_its_text_says() -> None:
    W, _, sigma = linear_gaussian_truth()
    lengths = 2.0 ** (1 - np.arange(8) / 4)
    np.testing.assert_allclose(W.T @ W, np.diag(lengths**2), atol=1e-12)
    np.testing.assert_allclose(W.sum(axis=0), 0, atol=1e-12)
    assert sigma == 0.3


def test_linear_gaussian_loads_as_real_pixels() -> None:
    data = load("linear-gaussian", valid_size=100, train_size=500)
    assert (data.levels, data.shape) == (None, (1, 8, 8))
    assert data.train.images.dtype == torch.float32
    assert (len(data.train), len(data.valid), len(data.test)) == (500, 100, 2000)
    assert data.train.labels is None


@pytest.mark.mnist
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_real_files_are_read_as_torchvision_reads_them(
    name: str, real_data: Path, tmp_path: Path
) -> None:
    located = locate(name, real_data)
    # Un-gzipped under the names that torchvision expects; the training files need only be there.
    raw = tmp_path / located.facts.folder
    raw.mkdir(parents=True)
    for path, file in zip(located.paths, located.facts.files, strict=True):
        content = path.read_bytes() if file.name.startswith("t10k") else b""
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        (raw / file.name).write_bytes(content)
    classes = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
    theirs = getattr(torchvision_module("datasets"), classes[name])(tmp_path, train=False)
    ours = load(name, real_data)
    assert ours.shape == DATASETS[name].shape
    assert len(ours.train) == DATASETS[name].train_images
    order = np.random.default_rng(271_828).permutation(len(theirs.data))
    assert torch.equal(ours.test.images[:, 0], theirs.data[order])
    assert ours.test.labels is not None
    assert torch.equal(ours.test.labels, theirs.targets[order])


@pytest.mark.mnist
def test_the_real_mnist_has_its_known_moments(real_data: Path) -> None:
    images = load("mnist", real_data).train.images
    counts = torch.bincount(images.flatten(), minlength=256).double()
    pixels = torch.arange(256).double() / 255
    mean = (counts * pixels).sum() / counts.sum()
    variance = (counts * (pixels - mean) ** 2).sum() / counts.sum()
    assert float(mean) == pytest.approx(0.130660, abs=1e-6)
    assert float(variance.sqrt()) == pytest.approx(0.308108, abs=1e-6)
    assert int((images == 0).all(dim=0).sum()) == 67
