"""A user's own data: what is taken, and the one message for each way to be wrong."""

import io
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from vaebench.data import own_data
from vaebench.data.catalog import facts_of
from vaebench.data.own_data import Reading, from_arrays, keep_arrays
from vaebench.data.sources import load
from vaebench.errors import DataInvalid, DataMissing
from vaebench.system import memory

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
    with pytest.raises(ValueError, match="valid_size must be between 2 and the 5 images"):
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
        ({"test": grey()}, "must hold an array 'train'; it holds test"),
        ({"train": grey(), "zest": grey()}, "unknown array 'zest'; the names must be train"),
        ({"train": with_nan(4), "test": grey()}, "'train' is float32, and sample 4 is not finite;"),
        (
            {"train": grey() / 255, "test": grey()},
            "'train' is float64; for images declare the range",
        ),
        (
            {"train": grey().astype(int) + 1000, "test": grey()},
            "from 10.. to 12..; grey levels must be 0",
        ),
        ({"train": -1 - grey().astype(int), "test": grey()}, 'kind = "counts"'),
        ({"train": grey()[0, 0], "test": grey()}, r"'train' must have shape N x D.*it has \(4,\)"),
        ({"train": grey()[..., None, None], "test": grey()}, r"has shape \(6, 3, 4, 1, 1\)"),
        ({"train": grey()[..., None].repeat(2, 3), "test": grey()}, r"shape \(6, 3, 4, 2\)"),
        ({"train": grey()[:, :0], "test": grey()}, r"it has \(6, 0, 4\)"),
        ({"train": grey(), "test": grey()[:, :2]}, "must have images of one shape"),
        ({"train": grey(), "test": grey()[:0]}, "at least 2 examples; 'test' has 0"),
        ({"train": grey()[:1], "test": grey()}, "at least 2 examples; 'train' has 1"),
        ({"train": grey(), "valid": grey()[:0], "test": grey()}, "'valid' has 0"),
        (
            {"train": grey(top=16), "test": changed(grey(top=16), (3, 0, 0), 200), "levels": 16},
            "with 16 levels a pixel must be 0 ... 15; sample 3 of 'test' holds 200",
        ),
        (
            {"train": grey()[:1].repeat(5, 0), "test": grey()},
            "'train' must hold samples that differ",
        ),
        ({"train": grey(), "test": np.zeros_like(grey())}, "'test' must hold samples that differ"),
        ({"train": grey(), "test": grey(), "levels": 1}, "'levels' must be between 2 and 256"),
        ({"train": grey(), "test": grey(), "levels": 2.5}, "'levels' must be one integer"),
        ({"train": grey(), "test": grey(), "levels": [2, 3]}, "'levels' must be one integer"),
        (
            {"train": grey(), "test": grey(), "train_labels": [1, 2]},
            "must be one integer for each example",
        ),
        ({"train": grey(), "train_labels": np.eye(6)}, r"one-hot labels with numpy\.argmax"),
        ({"train": grey(), "train_labels": np.array(["a", "b"] * 3)}, r"names with numpy\.unique"),
        ({"train": np.full((6, 2), 1e300)}, "overflow single precision"),
        ({"train": 1e25 * np.arange(12.0).reshape(6, 2)}, "overflow single precision"),
        ({"train": 1e9 + np.arange(12.0).reshape(6, 2)}, "column 0 .* single precision"),
        ({"train": grey(), "test": grey(), "test_labels": np.ones(6)}, "is float64 of shape"),
        ({"train": np.array(["a", "b"]), "test": grey()}, "'train' must hold numbers; it is <U1"),
        ({"train": np.uint8(3), "test": grey()}, r"'train' must have shape.*it has \(\)"),
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
    with pytest.raises(DataInvalid, match=r"cannot be read as an \.npz file: Object arrays"):
        load(path)
    assert not (tmp_path / "sprung").exists()


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    good = Path(saved(tmp_path, train=grey(), test=grey())).read_bytes()
    path = tmp_path / "bad.npz"
    for content in (b"", b"<html>", good[: len(good) // 2], good[:80] + b"x" * 30 + good[110:]):
        path.write_bytes(content)
        with pytest.raises(DataInvalid, match=r"bad.npz cannot be read as an .npz file"):
            load(str(path))


def test_a_header_that_announces_too_much_is_no_array(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (2**62, 3, 4)}
    )
    with zipfile.ZipFile(tmp_path / "vast.npz", "w") as archive:
        archive.writestr("train.npy", header.getvalue())
    with pytest.raises(DataInvalid, match=r"cannot be read as an \.npz file"):
        load(str(tmp_path / "vast.npz"))


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.npz"
    np.savez_compressed(path, train=np.zeros((1000, 30, 30), np.uint8), test=grey())
    monkeypatch.setattr(own_data, "available_memory", lambda: 100_000)
    with pytest.raises(
        DataInvalid, match=r"needs 900,\d+ bytes of memory, but only 100,000 bytes are free"
    ):
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
    assert data.note == "10 colour images were read as grey; set channels = 3 to keep the colours"
    colour = load(str(own), reading=Reading(channels=3))
    assert colour.note is None
    assert colour.shape == (3, 3, 4)
    assert colour.checksum != data.checksum
    first = np.asarray(Image.open(own / "train" / "0.png")).transpose(2, 0, 1)
    assert any(np.array_equal(image, first) for image in colour.train.images.numpy())
    with pytest.raises(DataInvalid, match=r"must be 1 \(grey\) or 3; got 2"):
        load(str(own), reading=Reading(channels=2))


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
        DataInvalid,
        match=r"3\.png is 5 pixels high .* one size: .*0\.png is 3 high and 4 wide",
    ):
        load(str(own))
    big.write_bytes(b"GIF89a no")
    with pytest.raises(DataInvalid, match=r"3\.png cannot be read as an image"):
        load(str(own))
    big.write_bytes((own / "train" / "0.png").read_bytes()[:-30])
    with pytest.raises(DataInvalid, match=r"3\.png is a damaged image"):
        load(str(own))
    Image.fromarray(np.zeros((3, 4), np.float32)).save(big.with_suffix(".tif"))
    big.unlink()
    with pytest.raises(DataInvalid, match="an 8-bit or 16-bit image"):
        load(str(own))


def test_a_folder_needs_both_splits(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match=r"must hold images \(.*\), or train/ and test/"):
        load(str(tmp_path))
    (tmp_path / "train").mkdir()
    with pytest.raises(DataInvalid, match=r"needs train/ with images in it \(\.bmp, "):
        load(str(tmp_path))


def test_a_folder_without_test_images_holds_a_fifth_out(tmp_path: Path) -> None:
    own = folder(tmp_path / "own")
    shutil.rmtree(own / "test")
    found = load(str(own))
    assert (len(found.train), len(found.test)) == (4, 2)
    assert found.note is not None
    assert "no test split" in found.note
    (own / "test").mkdir()
    with pytest.raises(DataInvalid, match=r"needs test/ with images in it"):
        load(str(own))


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_table_in_another_encoding_is_converted_by_the_line_in_the_message(
    tmp_path: Path, encoding: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("größe,b\n1,2\n3,4\n5,7\n7,8\n", encoding=encoding)
    with pytest.raises(DataInvalid, match=f"not text in UTF-8; .*encoding='{encoding}'"):
        load(str(path))


def test_values_that_no_file_of_numbers_can_hold_are_refused_before_writing(
    tmp_path: Path,
) -> None:
    for values in (np.array([[1, None]] * 6, dtype=object), np.zeros((6, 2), "datetime64[D]")):
        with pytest.raises(DataInvalid, match="data: 'train' must hold numbers"):
            keep_arrays({"train": values}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_images_in_and_out_of_classes_do_not_mix(tmp_path: Path) -> None:
    own = folder(tmp_path / "own", classes=True)
    (own / "test" / "class-1" / "1.png").rename(own / "test" / "1.png")
    with pytest.raises(DataInvalid, match="all in class folders or all outside"):
        load(str(own))


def test_a_vast_image_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_data, "available_memory", lambda: 1000)
    own = folder(tmp_path / "own", size=(40, 30))
    with pytest.raises(DataInvalid, match="needs 7,200 bytes of memory, but only 1,000 bytes"):
        load(str(own))


def test_two_distinct_values_are_two_levels(tmp_path: Path) -> None:
    """The same picture in three files: 0 and 1, 0 and 255, and declared as levels."""
    bits = grey(top=2)
    plain = load(saved(tmp_path, train=bits, test=bits))
    for high, low in ((255, 0), (7, 3)):
        stored = np.where(bits == 1, high, low).astype(np.uint8)
        scaled = load(saved(tmp_path, train=stored, test=stored))
        assert scaled.levels == 2
        assert torch.equal(scaled.train.images, plain.train.images)
        assert scaled.checksum != plain.checksum


@pytest.mark.parametrize(
    ("convert", "reading"),
    [
        (lambda x: x.astype(np.int64), {}),
        (lambda x: (x / 255).astype(np.float32), {"range": (0.0, 1.0)}),
        (lambda x: x / 127.5 - 1, {"range": (-1.0, 1.0)}),
        (lambda x: x.reshape(len(x), -1), {"shape": (3, 4)}),
        (lambda x: x[:, None], {"layout": "channels_first"}),
        (lambda x: x[..., None], {}),
    ],
)
def test_images_in_other_types_ranges_and_shapes(
    tmp_path: Path, convert: Callable[[NDArray[Any]], NDArray[Any]], reading: dict[str, Any]
) -> None:
    images = grey(20)
    expected = load(saved(tmp_path, train=images, test=images))
    other = saved(tmp_path, train=convert(images), test=convert(images))
    found = load(other, reading=Reading(**reading))
    assert found.levels == 256
    assert torch.equal(found.train.images, expected.train.images)


def test_bools_are_two_levels(tmp_path: Path) -> None:
    images = grey(top=2).astype(bool)
    assert load(saved(tmp_path, train=images, test=images)).levels == 2


@pytest.mark.parametrize(
    ("array", "reading", "text"),
    [
        (grey() / 255, {"range": (0.0, 0.5)}, "not one of the 256 grey levels between 0 and 0.5"),
        (grey() / 300, {"range": (0.0, 1.0)}, "or set kind = 'real'"),
        (grey(), {"shape": (2, 4)}, r"rows of 8 numbers for shape = \[2, 4\]"),
        (grey()[:, None], {}, "set the other layout"),
        (grey() / 2, {"kind": "counts"}, "counts must be integers"),
        (grey().astype(int) - 9, {"kind": "counts"}, "counts must be 0 ..."),
        (np.full((6, 3), np.inf), {}, "sample 0 is not finite"),
    ],
)
def test_readings_that_do_not_fit(array: NDArray[Any], reading: dict[str, Any], text: str) -> None:
    with pytest.raises(DataInvalid, match=text):
        from_arrays("data", {"train": array, "test": array}, Reading(**reading))


def test_floats_in_rows_are_real_and_integers_never_counts() -> None:
    rows = np.random.default_rng(1).normal(size=(20, 5))
    real = from_arrays("data", {"train": rows, "test": rows}, Reading())
    assert (real.kind, real.levels, real.train.images.shape) == ("real", None, (20, 1, 1, 5))
    whole = grey(20).reshape(20, -1)
    assert from_arrays("data", {"train": whole, "test": whole}, Reading()).kind == "images"
    counts = from_arrays("data", {"train": whole, "test": whole}, Reading(kind="counts"))
    assert (counts.kind, counts.levels) == ("counts", None)
    assert np.array_equal(counts.train.images[:, 0, 0], whole)


def test_without_a_test_split_a_fifth_is_held_out() -> None:
    rows = np.arange(60, dtype=float).reshape(20, 3)
    found = from_arrays("data", {"train": rows, "train_labels": np.arange(20)}, Reading())
    assert (len(found.train.images), len(found.test.images)) == (16, 4)
    assert found.note is not None
    assert "4 of 20" in found.note
    both = np.concatenate([found.train.images, found.test.images])[:, 0, 0]
    assert sorted(both[:, 0].tolist()) == rows[:, 0].tolist()
    assert found.test.labels is not None
    assert np.array_equal(found.test.labels * 3, found.test.images[:, 0, 0, 0])
    with pytest.raises(DataInvalid, match="at least 4 examples; it has 3"):
        from_arrays("data", {"train": rows[:3]}, Reading())


@pytest.mark.parametrize(
    "names",
    [
        {
            "train_images": "train",
            "train_labels": "train_labels",
            "val_images": "valid",
            "val_labels": "valid_labels",
            "test_images": "test",
            "test_labels": "test_labels",
        },
        {
            "x_train": "train",
            "y_train": "train_labels",
            "x_test": "test",
            "y_test": "test_labels",
        },
    ],
    ids=["MedMNIST", "Keras"],
)
def test_the_array_names_of_other_projects(tmp_path: Path, names: dict[str, str]) -> None:
    arrays = {
        name: np.arange(6)[:, None] if name.endswith("labels") else grey(seed=place)
        for place, name in enumerate(names.values())
    }
    own = load(saved(tmp_path, **arrays))
    theirs = load(saved(tmp_path, **{name: arrays[ours] for name, ours in names.items()}))
    assert theirs.checksum == own.checksum
    assert torch.equal(theirs.train.images, own.train.images)
    assert theirs.train.labels is not None


def test_the_array_names_of_dsprites(tmp_path: Path) -> None:
    path = tmp_path / "sprites.npz"
    metadata = np.array({"author": "x"}, dtype=object)
    np.savez(path, imgs=grey(40, top=2), latents_classes=np.zeros((40, 6)), metadata=metadata)
    data = load(str(path))
    assert (data.levels, len(data.train), len(data.test)) == (2, 32, 8)


def table(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_a_table_of_real_numbers(tmp_path: Path) -> None:
    rows = np.random.default_rng(2).normal(size=(30, 3)).round(4)
    lines = [f"{a},{b},{c},{'ab'[i % 2]}" for i, (a, b, c) in enumerate(rows)]
    path = table(tmp_path / "air.csv", "\n".join(["x,y,z,label", *lines]))
    data = load(path)
    assert (data.kind, data.levels, data.shape) == ("real", None, (1, 1, 3))
    assert data.columns == ("x", "y", "z")
    assert (len(data.train), len(data.test)) == (24, 6)
    for row, label in zip(data.train.images[:, 0, 0], data.train.labels, strict=True):
        place = np.flatnonzero(np.abs(rows - row.numpy()).max(1) < 1e-6)
        assert (place % 2 == int(label)).all()
        assert len(place) == 1
    assert facts_of(path).kind == "real"


def test_a_table_names_its_splits(tmp_path: Path) -> None:
    text = "a,b,split\n1,2,train\n3,4,test\n5,6,train\n7,9,test\n"
    data = load(table(tmp_path / "t.csv", text))
    assert sorted(data.train.images[:, 0, 0].tolist()) == [[1, 2], [5, 6]]
    with pytest.raises(DataInvalid, match="'split' holds 'dev'"):
        load(table(tmp_path / "t.csv", text.replace("3,4,test", "3,4,dev")))


def test_a_parquet_table_is_that_of_a_csv(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame(np.random.default_rng(3).integers(0, 9, (20, 4)), columns=list("abcd"))
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    counts = Reading(kind="counts")
    one, other = (load(str(tmp_path / f"t.{e}"), reading=counts) for e in ("csv", "parquet"))
    assert one.kind == "counts"
    assert torch.equal(one.train.images, other.train.images)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,x\n2,y\n3,z\n4,w\n", "column 'b' holds .*, not numbers"),
        ("a,b\n1,2\n2,\n3,4\n4,4\n", "column 'b' has no value in line 3"),
        ("a,b\n\n1,2\n\n3,\n4,4\n", "column 'b' has no value in line 5"),
        ("a,b\n1,2\n3,inf\n4,4\n", "column 'b' has an infinite value in line 3"),
        ("a;b\n1;2\n3;4\n", r"semicolons.*sep=';'\)\.to_csv\('data\.csv'"),
        ("a;b\n1,5;2\n3;4\n", r"sep=';', decimal=','\)"),
        ("a\tb\n1\t2\n3\t4\n", "separated by tabs"),
        ("", "cannot be read as a table"),
        ("label\nx\ny\n", "at least one column of numbers"),
        ("a,label\n1,x\n2,\n3,y\n4,x\n", "column 'label' has no value in line 3"),
        ("a,b\n", "must have a row for each example"),
    ],
)
def test_tables_that_are_no_data_set(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataInvalid, match=message):
        load(table(tmp_path / "t.csv", text))


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("x.mat", r"scipy\.io\.loadmat"),
        ("x.npy", r"np\.load"),
        ("x.pt", "weights_only=True"),
        ("x.amat", r"np\.loadtxt"),
        ("x.h5", "h5py"),
        ("x.zip", "unpack_archive"),
        ("x.tar.gz", "unpack_archive"),
        ("x.csv.gz", r"read_csv\("),
        ("x.json", r"read_json\("),
        ("x.bin", "use an .npz, .csv or .parquet"),
        ("cifar/data_batch_1", "torchvision:CIFAR10.*--data-dir"),
        ("parts/0.parquet", r"read_parquet\("),
    ],
)
def test_a_file_that_exists_is_not_called_missing(tmp_path: Path, name: str, advice: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"content")
    dataset = str(path.parent if "/" in name else path)
    with pytest.raises(DataInvalid, match=advice):
        load(dataset)


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, train=grey(), test=grey())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load("~/own.npz").name == "own.npz"


def test_a_flat_folder_is_split_by_seed(tmp_path: Path) -> None:
    own = folder(tmp_path / "own", classes=True)
    flat = tmp_path / "flat"
    for file in own.rglob("*.png"):
        target = flat / file.parent.name / f"{file.parent.parent.name}-{file.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)
    data = load(str(flat))
    assert (len(data.train), len(data.test)) == (8, 2)
    assert data.train.labels is not None
    assert set(data.train.labels.tolist()) == {0, 1}


def test_mixed_sizes_are_resized_or_cropped(tmp_path: Path) -> None:
    own = folder(tmp_path / "own", size=(8, 4))
    wide = np.zeros((4, 16, 3), np.uint8)
    wide[:, 8:] = 255
    Image.fromarray(wide).save(own / "train" / "0.png")
    with pytest.raises(DataInvalid, match=r"set resize = \[4, 16\]"):
        load(str(own))
    squeezed = load(str(own), reading=Reading(resize=(4, 4)))
    cropped = load(str(own), reading=Reading(resize=(4, 4), crop=True))
    assert squeezed.shape == cropped.shape == (1, 4, 4)
    image = next(
        image for image in cropped.train.images if set(image.unique().tolist()) == {0, 255}
    )
    assert image[0, 0].tolist() == [0, 0, 255, 255]
    assert not torch.equal(squeezed.train.images, cropped.train.images)


def test_sixteen_bit_images_keep_their_upper_byte(tmp_path: Path) -> None:
    own = folder(tmp_path / "own")
    deep = (np.arange(12, dtype=np.uint16).reshape(3, 4) << 8) + 77
    for file in own.rglob("*.png"):
        Image.fromarray(deep + (int(file.stem) << 12)).save(file)
    data = load(str(own))
    assert np.arange(12).tolist() in [image.flatten().tolist() for image in data.train.images]


class Pairs(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """A torch data set as a user writes it: images in [0, 1] with the channel first."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(grey(12)[index : index + 1] / np.float32(255)), index % 3


def test_arrays_tensors_and_torch_data_sets_from_python(tmp_path: Path) -> None:
    images = grey(12)
    paths = {
        keep_arrays({"train": each, "test": each}, tmp_path)
        for each in (images, torch.from_numpy(images))
    }
    assert len(paths) == 1
    expected = load(str(paths.pop()))
    kept = keep_arrays({"train": Pairs(), "test": Pairs()}, tmp_path)
    found = load(str(kept), reading=Reading(range=(0.0, 1.0), layout="channels_first"))
    assert torch.equal(found.train.images, expected.train.images)
    assert found.train.labels is not None
    assert sorted(set(found.train.labels.tolist())) == [0, 1, 2]
    with pytest.raises(DataInvalid, match=r"must be one of train, .*; got 'x'"):
        keep_arrays({"x": images}, tmp_path)
    with pytest.raises(DataInvalid, match="'train' must be an array"):
        keep_arrays({"train": 3}, tmp_path)


def test_labels_of_one_split_or_of_one_class_are_reported_at_once() -> None:
    arrays = {"train": grey(), "test": grey(seed=1), "train_labels": np.arange(6)}
    note = from_arrays("data", arrays, Reading()).note
    assert note is not None
    assert "only one of train and test" in note
    one = {"train_labels": np.ones(6, int), "test_labels": np.ones(6, int)}
    note = from_arrays("data", arrays | one, Reading()).note
    assert note is not None
    assert "one class" in note


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1,2\n3,4\n5,6\n7,8\n", "the first row must hold the names"),
        (",x,y\n0,1.5,2\n1,3,4\n2,5,6\n", "index=False"),
    ],
    ids=["no header", "an index without a name"],
)
def test_a_table_whose_columns_have_no_names_is_refused(
    text: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(DataInvalid, match=words):
        load(table(tmp_path / "t.csv", text))


def test_a_misspelt_file_is_answered_with_its_neighbour(tmp_path: Path) -> None:
    saved(tmp_path, train=grey(), test=grey())
    with pytest.raises(DataMissing, match=r"^there is no .*owm\.npz' \(did you mean .*own\.npz"):
        load(str(tmp_path / "owm.npz"))


def test_a_pipe_is_called_a_pipe(tmp_path: Path) -> None:
    for name in ("x.csv", "x.npz", "x"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(DataInvalid, match="not a pipe or a device"):
            load(str(tmp_path / name))


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_table_larger_than_free_memory_is_refused_from_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(3_000, 4)), columns=list("abcd"))
    if name.endswith("csv"):
        rows.to_csv(tmp_path / name, index=False)
    else:
        rows.to_parquet(tmp_path / name)
    assert len(load(str(tmp_path / name)).train) == 2_400
    monkeypatch.setattr(own_data, "available_memory", lambda: 50_000)
    monkeypatch.setattr(Path, "read_bytes", None)  # only the header may be read
    with pytest.raises(DataInvalid, match=r"only 50,000 bytes are free"):
        load(str(tmp_path / name))


def test_free_memory_is_the_smaller_of_the_machine_and_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert memory.available_memory() is None
    (tmp_path / "meminfo").write_text("MemFree:  1 kB\nMemAvailable:  7000 kB\n")
    assert memory.available_memory() == 7_000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("500\n")
    assert memory.available_memory() == 7_000 * 1024
    (tmp_path / "memory.max").write_text("5000\n")
    assert memory.available_memory() == 4_500


def test_the_names_of_classes_are_kept(tmp_path: Path) -> None:
    own = folder(tmp_path / "own", classes=True)
    data = load(str(own))
    assert data.classes == tuple(sorted({path.parent.name for path in own.rglob("*.png")}))
    text = "x,label\n" + "".join(f"{i},{'dog' if i % 2 else 'cat'}\n" for i in range(10))
    assert load(table(tmp_path / "t.csv", text)).classes == ("cat", "dog")
