"""A whole evaluation: what it gives, what it is made from, and its pictures."""

import math
import time

import numpy as np
import pytest
import torch
from scored_models import cell, grey_split, made, random_grey, real_split, source

from vaebench.evaluation.annealing import Annealing
from vaebench.evaluation.evaluate import Evaluation, evaluate
from vaebench.evaluation.pictures import pictures, small_decoder
from vaebench.evaluation.split import EvaluationSplit
from vaebench.grid.cell import Cell
from vaebench.model.vae import VAE
from vaebench.records.metrics import METRICS, metric_choice

LABELS = torch.arange(40) % 4
TRAIN = grey_split(random_grey(60), labels=torch.arange(60) % 4)
TEST = grey_split(random_grey(40, seed=91), labels=LABELS)
FROM_TRAINING = {
    "train_seconds",
    "step_ms_median",
    "step_ms_p95",
    "samples_per_second",
    "pack_size",
    "peak_memory_mib",
}


def evaluated(
    design: Cell,
    train: EvaluationSplit = TRAIN,
    test: EvaluationSplit = TEST,
    vae: VAE | None = None,
) -> Evaluation:
    vae = made(design, (1, 4, 4), levels=test.levels) if vae is None else vae
    return evaluate(vae, design, train, test, source())


def test_every_metric_is_there_with_its_unit_or_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "vaebench.evaluation.evaluate.Annealing", lambda: Annealing(2, 5, leapfrog_steps=2)
    )
    monkeypatch.setattr("vaebench.evaluation.local._STEPS", 2)
    settings = {"iw_images": 10, "ais_images": 4, "local_images": 3, "tsne_points": 40}
    begin = time.perf_counter()
    result = evaluated(cell(iw_samples=20, **settings))
    elapsed = time.perf_counter() - begin
    # A bracket is measured of models that were not trained here.
    expected = set(METRICS) - FROM_TRAINING - {"elbo_se", "nonzero_codes", "ais_bracket"}
    assert set(result.metrics) == expected | {
        "elbo_train",
        "reconstruction_error_train",
        "kl_train",
    }
    for name, metric in result.metrics.items():
        assert metric.unit == metric_choice(name).unit, name
        assert metric.value is not None, name
    assert 0 < (result.metrics["tsne_seconds"].value or 0) < elapsed
    assert result.metrics["iw_bound"].n == 10
    assert result.metrics["ais_bound"].n == 4
    assert result.metrics["amortization_gap"].n == 3
    assert result.arrays["iw_curve_k"].tolist() == [1, 10, 20]
    curve, bound = result.arrays["iw_curve"], result.metrics["iw_bound"].value
    assert curve[-1] == pytest.approx(bound, rel=1e-6)
    assert curve[0] < curve[1] < curve[2]
    assert result.arrays["kl_per_dimension"].shape == (2,)
    assert result.arrays["tsne"].shape == (40, 2)
    assert result.arrays["tsne_labels"].tolist() == LABELS.tolist()
    assert "tsne_classes" not in result.arrays


def test_what_was_not_asked_for_is_absent_with_the_reason() -> None:
    result = evaluated(cell(iw_samples=0, tsne_points=0))
    for name in ("iw_bound", "iw_samples", "iw_se", "iw_ess", "posterior_gap"):
        assert result.metrics[name].reason_code == "not_requested"
    assert "tsne" not in result.arrays
    assert "iw_curve" not in result.arrays


@pytest.mark.parametrize("posterior", ["diagonal", "full", "delta"])
@pytest.mark.parametrize(
    ("likelihood", "sigma"),
    [
        ("bernoulli", None),
        ("continuous_bernoulli", None),
        ("categorical", None),
        ("gaussian", "optimal"),
        ("laplace", "per_pixel"),
        ("logistic", "predicted"),
        ("student_t", "learned"),
    ],
)
def test_every_design_is_evaluated(posterior: str, likelihood: str, sigma: str | None) -> None:
    design = cell(
        architecture="mlp", posterior=posterior, likelihood=likelihood, sigma=sigma, iw_samples=3
    )
    result = evaluated(design)
    absent = {name for name, metric in result.metrics.items() if metric.value is None}
    assert ("elbo" in absent) == (posterior == "delta")
    assert ("bits_per_dim" in absent) == (posterior == "delta" or likelihood == "bernoulli")
    assert ("sigma_fitted" in absent) == (sigma is None)
    assert ("kl_per_dimension" in result.arrays) == (posterior != "delta")
    assert ("nonzero_codes" in result.metrics) == (posterior == "delta")


def test_the_same_generator_gives_the_same_numbers() -> None:
    design = cell(iw_samples=5, tsne_points=40, sigma="optimal")
    first, again = evaluated(design), evaluated(design)
    for name, metric in first.metrics.items():
        assert metric == again.metrics[name] or name.endswith("_seconds"), name
    assert set(first.arrays) == set(again.arrays)
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[name])


def test_an_optimal_scale_is_that_of_one_code_of_each_training_image() -> None:
    design = cell(sigma="optimal")
    vae, x = made(design, (1, 4, 4)).train(), TRAIN.pixels.unsqueeze(0)
    noise = torch.randn((1, 1, len(TRAIN), 2), generator=source())
    with torch.no_grad():
        residual = x.unsqueeze(1) - vae.decode(vae.encode(x).rsample(noise)).mean
    fitted = evaluated(design, vae=vae).metrics["sigma_fitted"].value
    assert fitted == pytest.approx(residual.square().mean().sqrt().item(), rel=1e-5)
    assert not vae.training  # a network with dropout is evaluated without it


def test_nothing_is_fitted_on_test_images() -> None:
    design = cell(sigma="optimal")
    inverted = grey_split(16 - random_grey(40, seed=91), labels=LABELS)
    sigmas = [evaluated(design, test=t).metrics["sigma_fitted"].value for t in (TEST, inverted)]
    assert sigmas[0] == sigmas[1]
    brighter = grey_split(16 - random_grey(60) // 4, labels=TRAIN.labels)
    assert evaluated(design, train=brighter).metrics["sigma_fitted"].value != sigmas[0]


def test_the_twins_on_training_images_are_those_of_training_images() -> None:
    vae = made(cell(), (1, 4, 4), {"decoder.bias": 0.5})
    metrics = evaluated(cell(), vae=vae).metrics
    normal = torch.distributions.Normal(0.5, 0.2)
    for name, split in (("elbo", TEST), ("elbo_train", TRAIN)):
        exact = normal.log_prob(split.pixels).sum(1).mean().item()
        assert metrics[name].value == pytest.approx(exact, rel=1e-5)
        assert metrics[name].n == len(split)


def test_the_gap_is_between_the_bounds_of_the_same_images() -> None:
    # A decoder that ignores the code: log p(x) is known, and the gap is the KL of the posterior.
    vae = made(cell(), (1, 4, 4), {"decoder.bias": 0.5, "encoder.spread": [-0.5, 0.5]})
    metrics = evaluated(cell(iw_samples=2_000, iw_images=25), vae=vae).metrics
    exact = torch.distributions.Normal(0.5, 0.2).log_prob(TEST.pixels[:25]).sum(1).mean().item()
    assert metrics["iw_bound"].value == pytest.approx(exact, abs=0.02)
    kl = metrics["kl"].value
    assert kl is not None
    assert kl > 0.05
    assert metrics["posterior_gap"].value == pytest.approx(kl, abs=0.02)


def test_an_empty_test_split_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        evaluated(cell(), test=TEST.first(0))


def test_one_test_image_is_evaluated() -> None:
    result = evaluated(cell(iw_samples=4, tsne_points=40), test=TEST.first(1))
    assert result.metrics["elbo"].value is not None
    assert result.metrics["elbo"].se is None
    assert result.metrics["mutual_information"].value == pytest.approx(0, abs=1e-9)
    assert result.metrics["iw_se"].value is None
    assert "too few" in str(result.metrics["tsne_trustworthiness"].reason)
    assert "interpolations" not in result.arrays
    assert len(result.arrays["originals"]) == 1


def test_data_without_labels_are_evaluated() -> None:
    train, test = grey_split(random_grey(60)), grey_split(random_grey(40))
    result = evaluated(cell(tsne_points=40), train, test)
    assert result.metrics["knn_accuracy"].reason == "the data have no labels"
    assert "tsne" in result.arrays
    assert "tsne_labels" not in result.arrays


def test_real_valued_data_are_evaluated_without_pictures() -> None:
    design = cell(dataset="linear-gaussian", sigma="optimal")
    result = evaluated(design, real_split(torch.randn(50, 16)), real_split(torch.randn(30, 16)))
    assert result.metrics["elbo"].value is not None
    assert "originals" not in result.arrays


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_broken_model_gives_reasons_and_no_numbers(poison: float) -> None:
    vae = made(cell(), (1, 4, 4), {"encoder.mean.weight": poison})
    result = evaluated(cell(iw_samples=3, tsne_points=40), vae=vae)
    for name in ("elbo", "kl", "mse", "iw_bound", "iw_se", "mutual_information", "knn_accuracy"):
        assert result.metrics[name].value is None, name
        assert "not finite" in str(result.metrics[name].reason), name
    zero = made(cell(), (1, 4, 4))
    zero.fixed_scale.zero_()
    result = evaluated(cell(iw_samples=3), vae=zero)
    assert result.metrics["elbo"].value is None
    assert "gives no density" in "; ".join(note.text for note in result.warnings)


def test_pictures_show_what_the_model_says() -> None:
    design = cell(latent_dim=3)
    decoder = np.zeros((16, 3))
    decoder[5, 2], decoder[6, 0] = 1.0, 0.5
    weights = {"decoder.weight": decoder, "decoder.bias": 0.5}
    vae = made(design, (1, 4, 4), weights)
    shown = pictures(vae, TEST, torch.tensor([0.3, 0.0, 0.9]), source())
    shapes = {name: array.shape for name, array in shown.items()}
    assert shapes == {
        "originals": (10, 4, 4),
        "reconstructions": (10, 4, 4),
        "prior_samples": (36, 4, 4),
        "interpolations": (4, 9, 4, 4),
        "traversal": (8, 8, 4, 4),
    }
    assert {array.dtype for array in shown.values()} == {np.dtype(np.uint8)}
    np.testing.assert_array_equal(
        shown["originals"].reshape(10, 16), (TEST.pixels[:10] * 255).round()
    )
    assert (shown["reconstructions"] == 128).all()
    # The two dimensions of highest KL, at the quantiles of the prior; nothing else moves.
    traversal = shown["traversal"].reshape(8, 8, 16).astype(float)
    quantiles = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(8) + 0.5) / 8).numpy()
    for pixel, values in ((5, quantiles[:, None]), (6, 0.5 * quantiles[None, :])):
        expected = np.round(np.clip(0.5 + values, 0, 1) * 255) + np.zeros((8, 8))
        np.testing.assert_allclose(traversal[..., pixel], expected, atol=1)
    assert (np.delete(traversal, (5, 6), axis=-1) == 128).all()


def test_an_interpolation_runs_from_one_reconstruction_to_another() -> None:
    design = cell(architecture="mlp", hidden=(8,))
    shown = pictures(made(design, (1, 4, 4)), TEST, None, source())
    assert "traversal" not in shown
    ends = shown["interpolations"][:, [0, -1]].astype(int)
    images = shown["reconstructions"].astype(int)
    assert np.abs(ends[:, 0] - images[:4]).max() <= 1
    assert np.abs(ends[:, 1] - images[4:8]).max() <= 1


def test_colour_pictures_have_their_channels_last() -> None:
    split = grey_split(random_grey(10, (3, 4, 5)))
    shown = pictures(made(cell(), (3, 4, 5)), split, torch.ones(2), source())
    assert shown["originals"].shape == (10, 4, 5, 3)
    first = split.pixels[0].reshape(3, 4, 5).movedim(0, -1)
    np.testing.assert_array_equal(shown["originals"][0], (first * 255).round())
    assert shown["traversal"].shape == (8, 8, 4, 5, 3)


def test_prior_samples_have_the_width_of_the_prior() -> None:
    design = cell(prior_scale=0.1, latent_dim=1)
    vae = made(design, (1, 4, 4), {"decoder.weight": np.ones((16, 1)), "decoder.bias": 0.5})
    samples = pictures(vae, TEST, None, source())["prior_samples"][:, 0, 0] / 255
    assert samples.std() == pytest.approx(0.1, rel=0.3)
    assert samples.mean() == pytest.approx(0.5, abs=0.06)


def test_a_validation_split_changes_no_other_number() -> None:
    design = cell(iw_samples=5, tsne_points=40, sigma="optimal")
    vae, valid = made(design, (1, 4, 4)), grey_split(random_grey(30, seed=5))
    plain = evaluate(vae, design, TRAIN, TEST, source())
    chosen = evaluate(vae, design, TRAIN, TEST, source(), valid)
    for name, metric in plain.metrics.items():
        if name.endswith(("_selection", "_held_out")):
            assert metric.n == 20
            assert chosen.metrics[name].n == (30 if name.endswith("_selection") else 40)
        else:
            assert metric == chosen.metrics[name] or name.endswith("_seconds"), name
    for name, array in plain.arrays.items():
        np.testing.assert_array_equal(array, chosen.arrays[name])


def test_annealing_tells_what_a_poor_importance_weighted_bound_misses() -> None:
    """A decoder that ignores the code has log p(x) in closed form; this q(z|x) is far from p(z)."""
    design = cell(iw_samples=3, iw_images=30, ais_images=25)
    vae = made(design, (1, 4, 4), {"decoder.bias": 0.5, "encoder.spread": [-6.0, -6.0]})
    result = evaluated(design, vae=vae)
    exact = torch.distributions.Normal(0.5, 0.2).log_prob(TEST.pixels[:25]).sum(1).mean().item()
    assert result.metrics["ais_bound"].value == pytest.approx(exact, abs=1e-3)
    missed = exact - result.arrays["iw_bound_by_image"][:25].mean()
    assert missed > 1
    assert result.metrics["iw_shortfall"].value == pytest.approx(missed, abs=1e-3)
    assert result.metrics["iw_shortfall"].n == 25
    alone = evaluated(cell(ais_images=2), vae=vae).metrics["iw_shortfall"]
    assert "no iw_bound of all these images" in str(alone.reason)


@pytest.mark.parametrize(("iw_samples", "warned"), [(8, True), (400, False)])
def test_a_small_k_is_said_to_be_too_small(iw_samples: int, warned: bool) -> None:
    design = cell(iw_samples=iw_samples)
    notes = evaluated(design, vae=made(design, (1, 4, 4), {"decoder.bias": 0.5})).warnings
    assert any(note.code == "too_few_samples" for note in notes) == warned


def test_a_map_keeps_its_images_and_reconstructions_for_the_first_seed() -> None:
    first = evaluated(cell(tsne_points=40)).arrays
    assert first["tsne_images"].shape == first["tsne_reconstructions"].shape == (40, 4, 4)
    shown = first["originals"]
    np.testing.assert_array_equal(first["tsne_images"][: len(shown)], shown)
    np.testing.assert_array_equal(
        first["tsne_reconstructions"][: len(shown)], first["reconstructions"]
    )
    assert "tsne_images" not in evaluated(cell(tsne_points=40, seed=1)).arrays
    assert "decoder_kind" not in evaluated(cell(tsne_points=40, seed=1)).arrays


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_decoder_for_the_page_decodes_as_the_model_does(likelihood: str) -> None:
    scale = 0.1 if likelihood == "gaussian" else None
    design = cell(architecture="mlp", hidden=(6,), likelihood=likelihood, sigma=scale)
    vae = made(design, (1, 4, 4), levels=TEST.levels)
    arrays = small_decoder(vae)
    activation, output = arrays["decoder_kind"].tolist()
    assert (activation, output) == (0, 0 if likelihood == "bernoulli" else 1)
    codes = torch.tensor([[0.3, -1.2], [2.0, 0.5]])
    hidden = codes.double()
    count = sum(name.startswith("decoder_weight_") for name in arrays)
    for i in range(count):
        weight = torch.tensor(arrays[f"decoder_weight_{i}"] * arrays[f"decoder_scale_{i}"])
        hidden = hidden @ weight.double().T + torch.tensor(arrays[f"decoder_bias_{i}"])
        hidden = hidden.relu() if i < count - 1 else hidden
    hidden = hidden.sigmoid() if output == 0 else hidden
    truth = vae.decode(codes[None, None]).mean[0, 0].detach().double()
    torch.testing.assert_close(hidden, truth, atol=0.02, rtol=0.0)


def test_no_decoder_for_the_page_of_another_network() -> None:
    others = (
        {"latent_dim": 3},
        {"activation": "gelu"},
        {"likelihood": "categorical", "sigma": None},
    )
    for axes in others:
        design = cell(**{"architecture": "mlp", "hidden": (6,), **axes})
        assert small_decoder(made(design, (1, 4, 4), levels=TEST.levels)) == {}
    assert small_decoder(made(cell(), (1, 4, 4), levels=TEST.levels)) == {}
