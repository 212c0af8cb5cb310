"""Grey levels to pixels: binarisation, dequantisation, and back again."""

import math

import pytest
import torch

from vaebench.data.pixels import (
    TrainingPixels,
    effective_levels,
    evaluation_pixels,
    grey_indices,
)

KINDS = ["none", "dynamic", "static", "threshold"]


def ramp(levels: int, copies: int = 500) -> torch.Tensor:
    """`(copies, 1, 1, levels)`: every image holds each grey level once."""
    return torch.arange(levels, dtype=torch.uint8).repeat(copies, 1).reshape(copies, 1, 1, levels)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("levels", [2, 17, 255, 256])
@pytest.mark.parametrize("dequantize", [False, True])
def test_levels_survive_the_way_to_pixels_and_back(levels: int, dequantize: bool) -> None:
    images = ramp(levels, copies=2000)
    pixels = evaluation_pixels(images, levels, "none", dequantize)
    assert pixels.dtype == torch.float32
    assert torch.equal(grey_indices(pixels, levels, dequantize), images.flatten(1).long())
    assert pixels.min() >= 0
    assert pixels.max() < 1 if dequantize else pixels.max() == 1


@pytest.mark.parametrize("levels", [17, 255, 256])
@pytest.mark.parametrize("u", [0.0, 1 - 2.0**-24])
def test_the_extremes_of_the_noise_stay_on_their_level(
    levels: int, u: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, u))
    images = ramp(levels, copies=1)
    pixels = evaluation_pixels(images, levels, "none", dequantize=True)
    assert torch.equal(grey_indices(pixels, levels, dequantize=True), images.flatten(1).long())


def test_grey_pixels_are_k_over_l_minus_1() -> None:
    pixels = evaluation_pixels(ramp(17, copies=1), 17, "none", dequantize=False)
    assert torch.allclose(pixels[0], torch.linspace(0, 1, 17))


def test_dequantised_pixels_fill_their_level_evenly() -> None:
    levels, copies = 17, 20_000
    pixels = evaluation_pixels(ramp(levels, copies), levels, "none", dequantize=True)
    u = pixels.double() * levels - torch.arange(levels)
    assert torch.allclose(
        u.mean(0), torch.tensor(0.5).double(), atol=5 * math.sqrt(1 / 12 / copies)
    )
    assert torch.allclose(u.var(0), torch.tensor(1 / 12).double(), rtol=0.05)


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_a_binarised_pixel_is_on_with_its_grey_value_as_probability(kind: str) -> None:
    copies = 4000
    images = ramp(17, copies)
    p = torch.arange(17) / 16
    held = TrainingPixels(images, 17, kind, dequantize=False)
    for pixels in (
        evaluation_pixels(images, 17, kind, dequantize=False),
        held.visit(torch.arange(copies), generator()),
    ):
        assert set(pixels.unique().tolist()) == {0.0, 1.0}
        assert ((pixels.mean(0) - p).abs() <= 4 * (p * (1 - p) / copies).sqrt()).all()


def test_threshold_cuts_at_one_half_and_includes_it() -> None:
    pixels = evaluation_pixels(ramp(17, copies=1), 17, "threshold", dequantize=False)
    assert pixels[0].tolist() == [0.0] * 8 + [1.0] * 9
    pixels = evaluation_pixels(ramp(256, copies=1), 256, "threshold", dequantize=False)
    assert pixels[0].sum() == 128


@pytest.mark.parametrize(("kind", "dequantize"), [*((k, False) for k in KINDS), ("none", True)])
def test_scored_pixels_are_one_draw_and_the_same_in_a_subset(kind: str, dequantize: bool) -> None:
    images = ramp(17)
    whole = evaluation_pixels(images, 17, kind, dequantize)
    assert torch.equal(whole, evaluation_pixels(images, 17, kind, dequantize))
    assert torch.equal(whole[:37], evaluation_pixels(images[:37], 17, kind, dequantize))


@pytest.mark.parametrize("kind", ["none", "static", "threshold"])
def test_what_is_not_redrawn_is_the_same_in_training_and_scoring(kind: str) -> None:
    images = ramp(17)
    held = TrainingPixels(images, 17, kind, dequantize=False)
    rows = torch.tensor([3, 1, 499])
    used = generator()
    before = used.get_state()
    batch = held.visit(rows, used)
    assert torch.equal(batch, evaluation_pixels(images, 17, kind, dequantize=False)[rows])
    assert torch.equal(used.get_state(), before)


@pytest.mark.parametrize(("kind", "dequantize"), [("dynamic", False), ("none", True)])
def test_redrawn_pixels_differ_by_visit_and_repeat_by_seed(kind: str, dequantize: bool) -> None:
    held = TrainingPixels(ramp(17), 17, kind, dequantize)
    rows, first = torch.arange(100), generator(1)
    a, b = held.visit(rows, first), held.visit(rows, first)
    assert not torch.equal(a, b)
    assert torch.equal(a, held.visit(rows, generator(1)))
    if dequantize:
        assert torch.equal(grey_indices(a, 17, True), grey_indices(b, 17, True))


def test_static_draws_are_the_seeds() -> None:
    images, rows = ramp(17), torch.arange(100)
    one, other = (TrainingPixels(images, 17, "static", False, seed=seed) for seed in (1, 2))
    assert not torch.equal(one.visit(rows, generator()), other.visit(rows, generator()))


def test_training_pixels_tell_their_size() -> None:
    held = TrainingPixels(torch.zeros(5, 3, 2, 4, dtype=torch.uint8), 256, "dynamic", False)
    assert (len(held), held.dimensions, held.levels) == (5, 24, 2)


def test_real_pixels_pass_through() -> None:
    images = torch.randn(6, 1, 2, 2, generator=generator())
    assert torch.equal(evaluation_pixels(images, None, "none", False), images.flatten(1))
    held = TrainingPixels(images, None, "none", dequantize=False)
    assert torch.equal(held.visit(torch.tensor([4]), generator()), images[4:5].flatten(1))
    assert held.levels is None


def test_effective_levels() -> None:
    assert [effective_levels(256, kind) for kind in KINDS] == [256, 2, 2, 2]
    assert effective_levels(None, "none") is None


@pytest.mark.parametrize(
    ("levels", "kind", "dequantize", "text"),
    [
        (None, "static", False, "only grey levels can be binarised, not real pixels; got static"),
        (None, "none", True, "only grey pixels can be dequantised; got real pixels"),
        (
            17,
            "dynamic",
            True,
            r"only grey pixels can be dequantised; got binarised pixels \(dynamic\)",
        ),
        (
            17,
            "dither",
            False,
            "binarization must be one of none, dynamic, static, threshold; got 'dith",
        ),
    ],
)
def test_settings_that_exclude_each_other(
    levels: int | None, kind: str, dequantize: bool, text: str
) -> None:
    images = torch.zeros(2, 1, 2, 2)
    with pytest.raises(ValueError, match=text):
        evaluation_pixels(images, levels, kind, dequantize)
    with pytest.raises(ValueError, match=text):
        TrainingPixels(images, levels, kind, dequantize)
