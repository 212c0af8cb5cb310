"""Arrays as npz bytes: equal bytes for equal arrays, and never pickle."""

import io
import zipfile
from contextlib import suppress

import numpy as np
import pytest

from vaebench.errors import ArraysDamaged
from vaebench.records.arrays import pack, unpack

ARRAYS = {
    "tsne": np.linspace(-1, 1, 10, dtype=np.float32).reshape(5, 2),
    "labels": np.arange(5),
    "images": np.zeros((0, 3), np.uint8),
    "scalar": np.float64(2.5),
}


def test_arrays_come_back_with_shape_and_dtype() -> None:
    back = unpack(pack(ARRAYS))
    assert back.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert back[name].dtype == array.dtype
        assert back[name].shape == np.shape(array)
        np.testing.assert_array_equal(back[name], array)


def test_same_arrays_give_the_same_bytes_whatever_clock_or_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = pack(ARRAYS)
    monkeypatch.setattr("time.time", lambda: 2e9)
    turned = dict(reversed(ARRAYS.items()))
    turned["tsne"] = np.asfortranarray(turned["tsne"])
    assert pack(turned) == first
    turned["labels"] = turned["labels"] + 1
    assert pack(turned) != first


def test_numpy_reads_them_without_us() -> None:
    with np.load(io.BytesIO(pack(ARRAYS)), allow_pickle=False) as archive:
        assert sorted(archive.files) == sorted(ARRAYS)


def test_objects_are_refused_on_the_way_in() -> None:
    with pytest.raises(TypeError, match="'bad' has dtype object"):
        pack({"bad": np.array([{}, None], dtype=object)})


def test_objects_are_refused_on_the_way_out() -> None:
    packed = io.BytesIO()
    np.savez(packed, bad=np.array([{}, None], dtype=object))
    with pytest.raises(ArraysDamaged, match="plain numbers"):
        unpack(packed.getvalue())


@pytest.mark.parametrize("name", ["../up", "a/b", "", "a.b", "naïve", "1st"])
def test_names_are_plain_words(name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits and underscores"):
        pack({name: np.zeros(1)})


@pytest.mark.parametrize("packed", [b"", b"PK", pack(ARRAYS)[:-30], b"\0" * 100])
def test_what_is_no_npz_is_damaged(packed: bytes) -> None:
    with pytest.raises(ArraysDamaged):
        unpack(packed)


@pytest.mark.parametrize("size", [(1 << 30) + 1, 1 << 40])
def test_a_bomb_is_refused_before_it_unpacks(size: int) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w") as archive:
        archive.writestr("a.npy", b"")
        archive.infolist()[0].file_size = size
    with pytest.raises(ArraysDamaged, match=f"at most 1 GiB.*{size:,}"):
        unpack(bomb.getvalue())


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_both_versions_of_numpys_header_are_read(version: tuple[int, int]) -> None:
    npy, packed = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array(npy, ARRAYS["tsne"], version=version)
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("tsne.npy", npy.getvalue())
    np.testing.assert_array_equal(unpack(packed.getvalue())["tsne"], ARRAYS["tsne"])


@pytest.mark.parametrize(
    ("names", "dimensions"),
    [
        ("tsne_labels kl_per_dimension code_spectrum step_ms iw_curve iw_curve_k", {1}),
        ("tsne", {2}),
        ("originals reconstructions prior_samples tsne_images tsne_reconstructions", {3, 4}),
        ("interpolations traversal", {4, 5}),
        ("of_a_newer_version", {1, 2, 3, 4, 5, 6}),
    ],
)
def test_a_known_array_has_the_dimensions_of_its_figure(names: str, dimensions: set[int]) -> None:
    for name in names.split():
        accepted = set()
        for count in range(1, 7):
            with suppress(ArraysDamaged):
                unpack(pack({name: np.zeros((2,) * count)}))
                accepted.add(count)
        assert accepted == dimensions


def test_a_map_has_two_numbers_for_each_label() -> None:
    labels = {"tsne_labels": np.zeros(5)}
    unpack(pack(labels | {"tsne": np.zeros((5, 2))}))
    for shape in ((4, 2), (5, 3), (5, 1)):
        with pytest.raises(ArraysDamaged, match="'tsne' has the impossible shape"):
            unpack(pack(labels | {"tsne": np.zeros(shape)}))
