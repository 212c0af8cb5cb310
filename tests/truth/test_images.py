import numpy as np
import pytest

from vaebench.truth import images
from vaebench.truth.images import as_images, blocks


def test_blocks_are_all_rows_once_and_in_order(monkeypatch):
    monkeypatch.setattr(images, "_BLOCK_NUMBERS", 10)
    matrix = np.arange(21, dtype=np.uint8).reshape(7, 3)
    parts = list(blocks(matrix))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert all(part.dtype == np.float64 for part in parts)
    np.testing.assert_array_equal(np.concatenate(parts), matrix)


def test_an_image_larger_than_a_block_is_a_block(monkeypatch):
    monkeypatch.setattr(images, "_BLOCK_NUMBERS", 2)
    assert [part.shape for part in blocks(np.zeros((2, 3)))] == [(1, 3), (1, 3)]


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,), (2, 2, 2)], ids=str)
def test_only_a_non_empty_matrix_is_taken(shape):
    with pytest.raises(ValueError, match="non-empty matrix"):
        as_images(np.zeros(shape))


def test_the_number_of_pixels_must_fit():
    with pytest.raises(ValueError, match="must have 4 pixels, like the model; got 3"):
        as_images(np.zeros((2, 3)), 4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_images_must_be_finite(bad):
    with pytest.raises(ValueError, match="must be finite"):
        as_images([[0.0, bad]])
