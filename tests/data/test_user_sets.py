"""A user's own data: what is taken, and the one message for each way to be wrong."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from vaebench.data import user_sets
from vaebench.data.sources import load
from vaebench.errors import DataInvalid

Arrays = dict[str, Any]


def grey(count: int = 6, *, top: int = 256, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, top, (count, 3, 4), dtype=np.uint8)


def saved(path: Path, **arrays: Any) -> str:
    np.savez(path / "own.npz", **arrays)
    return str(path / "own.npz")


def test_an_npz_of_grey_images(tmp_path: Path) -> None:
    train, test, labels = grey(), grey(4, seed=1), np.array([3, 1, 2, 0])
    data = load(saved(tmp_path, train=train, test=test, test_labels=labels))
    assert (data.name, data.shape, data.levels) == ("own.npz", (1, 3, 4), 256)
    assert data.train.labels is None
    found = {image.numpy().tobytes() for image in data.train.images}
    assert found == {image.tobytes() for image in train}
    assert data.test.labels is not None
    for image, label in zip(data.test.images, data.test.labels, strict=True):
        assert np.array_equal(test[np.flatnonzero(labels == int(label))[0]], image[0])


def test_colour_channels_come_first(tmp_path: Path) -> None:
    train = np.random.default_rng(0).integers(0, 256, (5, 2, 4, 3), dtype=np.uint8)
    data = load(saved(tmp_path, train=train, test=train))
    assert data.shape == (3, 2, 4)
    reds = {image[0].numpy().tobytes() for image in data.train.images}
    assert reds == {image[:, :, 0].tobytes() for image in train}


def test_the_files_own_validation_split_is_used(tmp_path: Path) -> None:
    path = saved(tmp_path, train=grey(8), valid=grey(5, seed=1), test=grey(4, seed=2))
    assert [len(load(path, valid_size=n).valid) for n in (0, 3)] == [5, 3]
    assert len(load(path, valid_size=3).train) == 8
    with pytest.raises(ValueError, match="valid_size must lie between 2 and the 5 images"):
        load(path, valid_size=6)


@pytest.mark.parametrize(
    ("top", "extra", "levels"),
    [(256, {}, 256), (2, {}, 2), (2, {"levels": 16}, 16), (16, {"levels": 16}, 16)],
)
def test_levels_are_told_or_known(
    tmp_path: Path, top: int, extra: dict[str, int], levels: int
) -> None:
    assert load(saved(tmp_path, train=grey(top=top), test=grey(top=top), **extra)).levels == levels


def changed(array: NDArray[np.uint8], index: tuple[int, ...], value: int) -> NDArray[np.uint8]:
    copy = array.copy()
    copy[index] = value
    return copy


def with_nan(sample: int) -> NDArray[np.float32]:
    images = grey().astype(np.float32) / 255
    images[sample, 1, 1] = np.nan
    return images


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"train": grey()}, "must hold an array 'test'; it holds train"),
        ({"train": grey(), "x_test": grey()}, "holds 'x_test'; the arrays of a data set are train"),
        ({"train": with_nan(4), "test": grey()}, "'train' is float32, and sample 4 is not finite;"),
        ({"train": grey() / 255, "test": grey()}, "'train' is float64; accepted are uint8 grey"),
        ({"train": grey().astype(int), "test": grey()}, "'train' is int64; accepted are uint8"),
        ({"train": grey()[0], "test": grey()}, r"'train' has shape \(3, 4\); accepted"),
        ({"train": grey()[..., None, None], "test": grey()}, r"has shape \(6, 3, 4, 1, 1\)"),
        ({"train": grey()[..., None].repeat(2, 3), "test": grey()}, r"shape \(6, 3, 4, 2\)"),
        ({"train": grey()[:, :0], "test": grey()}, r"has shape \(6, 0, 4\)"),
        ({"train": grey(), "test": grey()[:, :2]}, "must have images of one shape"),
        ({"train": grey(), "test": grey()[:0]}, "at least 2 images; 'test' has 0"),
        ({"train": grey()[:1], "test": grey()}, "at least 2 images; 'train' has 1"),
        ({"train": grey(), "valid": grey()[:0], "test": grey()}, "'valid' has 0"),
        (
            {"train": grey(top=16), "test": changed(grey(top=16), (3, 0, 0), 200), "levels": 16},
            "with 16 levels a pixel is 0 ... 15; sample 3 of 'test' holds 200",
        ),
        ({"train": grey()[:1].repeat(5, 0), "test": grey()}, "'train' is constant: every sample"),
        ({"train": grey(), "test": np.zeros_like(grey())}, "'test' is constant"),
        ({"train": grey(), "test": grey(), "levels": 1}, "'levels' must lie between 2 and 256"),
        ({"train": grey(), "test": grey(), "levels": 2.5}, "'levels' must be one integer"),
        ({"train": grey(), "test": grey(), "levels": [2, 3]}, "'levels' must be one integer"),
        ({"train": grey(), "test": grey(), "train_labels": [1, 2]}, "must be one integer an image"),
        ({"train": grey(), "test": grey(), "test_labels": np.ones(6)}, "it is float64 of shape"),
        ({"train": np.array(["a", "b"]), "test": grey()}, "'train' must hold numbers; it is <U1"),
        ({"train": np.uint8(3), "test": grey()}, r"'train' has shape \(\)"),
    ],
)
def test_arrays_that_are_no_data_set(tmp_path: Path, arrays: Arrays, text: str) -> None:
    with pytest.raises(DataInvalid, match=text):
        load(saved(tmp_path, **arrays))


class Trap:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_objects_are_refused_and_not_run(tmp_path: Path) -> None:
    trap = np.array([Trap(tmp_path / "sprung")], dtype=object)
    path = saved(tmp_path, train=trap, test=grey())
    with pytest.raises(DataInvalid, match=r"can't be read as an \.npz file: Object arrays"):
        load(path)
    assert not (tmp_path / "sprung").exists()


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    good = Path(saved(tmp_path, train=grey(), test=grey())).read_bytes()
    path = tmp_path / "bad.npz"
    for content in (b"", b"<html>", good[: len(good) // 2], good[:80] + b"x" * 30 + good[110:]):
        path.write_bytes(content)
        with pytest.raises(DataInvalid, match=r"bad.npz can't be read as an .npz file"):
            load(str(path))


def test_a_header_that_announces_too_much_is_no_array(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (2**62, 3, 4)}
    )
    with zipfile.ZipFile(tmp_path / "vast.npz", "w") as archive:
        archive.writestr("train.npy", header.getvalue())
    with pytest.raises(DataInvalid, match=r"can't be read as an \.npz file"):
        load(str(tmp_path / "vast.npz"))


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.npz"
    np.savez_compressed(path, train=np.zeros((1000, 30, 30), np.uint8), test=grey())
    monkeypatch.setattr(user_sets, "MAX_BYTES", 100_000)
    with pytest.raises(DataInvalid, match=r"unpacks to 900,\d+ bytes; at most 100,000"):
        load(str(path))


def test_an_npz_is_known_by_its_content(tmp_path: Path) -> None:
    arrays = {"train": grey(), "test": grey(seed=1)}
    path = saved(tmp_path, **arrays)
    np.savez_compressed(tmp_path / "again.npz", test=arrays["test"], train=arrays["train"])
    assert load(path).checksum == load(str(tmp_path / "again.npz")).checksum
    arrays["train"] = changed(arrays["train"], (0, 0, 0), int(arrays["train"][0, 0, 0]) ^ 1)
    assert load(saved(tmp_path, **arrays)).checksum != load(str(tmp_path / "again.npz")).checksum


def folder(path: Path, *, classes: bool = False, size: tuple[int, int] = (4, 3)) -> Path:
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 4)):
        for number in range(count):
            inside = path / split / (f"class-{number % 2}" if classes else "")
            inside.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(inside / f"{number}.png")
    return path


def test_an_image_folder_is_grey_unless_colour_is_asked_for(tmp_path: Path) -> None:
    own = folder(tmp_path / "own")
    data = load(str(own))
    assert (data.name, data.shape, data.levels) == ("own", (1, 3, 4), 256)
    assert (len(data.train), len(data.test)) == (6, 4)
    assert data.train.labels is None
    assert data.note == "10 images in colour were read as grey; channels = 3 keeps their colours"
    colour = load(str(own), channels=3)
    assert colour.note is None
    assert colour.shape == (3, 3, 4)
    assert colour.checksum != data.checksum
    first = np.asarray(Image.open(own / "train" / "0.png")).transpose(2, 0, 1)
    assert any(np.array_equal(image, first) for image in colour.train.images.numpy())
    with pytest.raises(DataInvalid, match=r"channels 1 \(grey\) or 3; got 2"):
        load(str(own), channels=2)


def test_grey_images_saved_with_three_equal_channels_are_grey(tmp_path: Path) -> None:
    own = folder(tmp_path / "own")
    for file in own.rglob("*.png"):
        Image.open(file).convert("L").convert("RGB").save(file)
    assert load(str(own)).note is None


def test_class_folders_are_labels(tmp_path: Path) -> None:
    own = folder(tmp_path / "own", classes=True)
    data = load(str(own))
    assert data.train.labels is not None
    for image, label in zip(data.train.images, data.train.labels, strict=True):
        inside = own / "train" / f"class-{int(label)}"
        kept = [np.asarray(Image.open(file).convert("L")) for file in inside.iterdir()]
        assert any(np.array_equal(image[0], other) for other in kept)
    assert torch.bincount(data.train.labels).tolist() == [3, 3]


def test_a_class_that_only_the_test_split_has_keeps_the_labels_in_step(tmp_path: Path) -> None:
    own = folder(tmp_path / "own", classes=True)
    (own / "train" / "class-0").rename(own / "train" / "class-2")
    data = load(str(own))
    assert data.train.labels is not None
    assert data.test.labels is not None
    assert set(data.train.labels.tolist()) == {1, 2}
    assert set(data.test.labels.tolist()) == {0, 1}


def test_the_fingerprint_of_a_folder_is_its_names_and_bytes(tmp_path: Path) -> None:
    one, other = folder(tmp_path / "one"), folder(tmp_path / "other")
    (other / "notes.txt").write_text("not an image")
    (other / "train" / ".hidden.png").write_text("nor this")
    assert load(str(one)).checksum == load(str(other)).checksum
    (other / "train" / "0.png").rename(other / "train" / "9.png")
    assert load(str(one)).checksum != load(str(other)).checksum


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    own = folder(tmp_path / "own")
    big = own / "train" / "3.png"
    Image.new("L", (5, 5)).save(big)
    with pytest.raises(
        DataInvalid, match=r"3\.png is 5x5, but all .* of one size: .*0\.png is 4x3"
    ):
        load(str(own))
    big.write_bytes(b"GIF89a no")
    with pytest.raises(DataInvalid, match=r"3\.png can't be read as an image"):
        load(str(own))
    big.write_bytes((own / "train" / "0.png").read_bytes()[:-30])
    with pytest.raises(DataInvalid, match=r"3\.png is a damaged image"):
        load(str(own))
    Image.fromarray(np.zeros((3, 4), np.uint16)).save(big)
    with pytest.raises(DataInvalid, match="accepted are 8-bit images"):
        load(str(own))


def test_a_folder_needs_both_splits(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(DataInvalid, match=r"needs train/ with images in it \(\.bmp, "):
        load(str(tmp_path))


def test_images_in_and_out_of_classes_do_not_mix(tmp_path: Path) -> None:
    own = folder(tmp_path / "own", classes=True)
    (own / "test" / "class-1" / "1.png").rename(own / "test" / "1.png")
    with pytest.raises(DataInvalid, match="either every image lies in a class folder or none"):
        load(str(own))


def test_a_vast_image_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_sets, "MAX_BYTES", 1000)
    own = folder(tmp_path / "own", size=(40, 30))
    with pytest.raises(DataInvalid, match="unpacks to 7,200 bytes; at most 1,000"):
        load(str(own))
