"""The importance-weighted bound of models whose log p(x) is known, and its statistics."""

import math

import numpy as np
import pytest
import torch
from scored_models import cell, grey_split, made, random_grey, source

from vaebench.evaluation.importance import (
    importance_bound,
    importance_metrics,
    log_weights,
    why_too_few_samples,
)
from vaebench.truth.ppca import LinearVAE


def linear_truth() -> LinearVAE:
    random = np.random.default_rng(60)
    W, mu = random.normal(0, 0.6, (8, 2)), random.normal(0, 0.5, 8)
    return LinearVAE.with_optimal_encoder(W, mu, 0.4)


def test_weights_give_the_exact_log_likelihood_of_a_linear_vae() -> None:
    truth = linear_truth()
    assert truth.rotation_gap > 0.01
    x = torch.from_numpy(truth.simulate(60, np.random.default_rng(61))[0]).float()
    weights = {
        "encoder.mean.weight": truth.V,
        "encoder.mean.bias": -truth.V @ truth.mu,
        "encoder.spread": np.log(truth.posterior_variance),
        "decoder.weight": truth.W,
        "decoder.bias": truth.mu,
    }
    design = cell(dataset="linear-gaussian", sigma=0.4)
    vae = made(design, (1, 1, 8), weights, levels=None)
    told: list[int] = []
    found = log_weights(vae, x, 2_000, source(), told.append)
    assert found.shape == (60, 2_000)
    assert found.dtype == torch.float64
    assert told[-1] == 60
    result = importance_bound(found)
    np.testing.assert_allclose(result.bound, truth.log_likelihood(x), atol=0.05)
    # The mean log-weight is the ELBO; the curve climbs from it to log p(x).
    elbo = truth.bound(x).elbo.mean()
    curve = [result.curve[k].mean().item() for k in sorted(result.curve)]
    assert list(result.curve) == [1, 10, 100, 1000, 2000]
    assert curve[0] == pytest.approx(elbo, abs=0.01)
    assert curve[0] < curve[1] < curve[2] + 1e-3
    assert ((result.effective_share > 0.3) & (result.effective_share <= 1)).all()


@pytest.mark.parametrize("k", [1, 3, 250])
def test_weights_do_not_depend_on_how_they_are_cut_into_blocks(
    k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = made(cell(), (1, 4, 4), {"decoder.bias": 0.5})
    pixels = grey_split(random_grey(7)).pixels
    whole = log_weights(vae, pixels, k, source())
    monkeypatch.setattr("vaebench.evaluation.importance._BLOCK_NUMBERS", 600)
    cut = log_weights(vae, pixels, k, source())
    assert whole.shape == cut.shape == (7, k)
    # This decoder ignores the code: every weight of an image is the same, in any block.
    torch.testing.assert_close(whole, cut, rtol=1e-6, atol=1e-5)
    assert (whole.std(1, correction=0) < 1e-5).all()


def test_equal_weights_are_all_effective_and_one_alone_is_one_of_k() -> None:
    equal = importance_bound(torch.full((2, 20), -700.0, dtype=torch.float64))
    torch.testing.assert_close(equal.effective_share, torch.ones(2, dtype=torch.float64))
    for values in equal.curve.values():
        torch.testing.assert_close(values, torch.full((2,), -700.0, dtype=torch.float64))
    one = torch.full((1, 20), -2_000.0, dtype=torch.float64)
    one[0, 7] = -100
    result = importance_bound(one)
    assert result.effective_share.item() == pytest.approx(1 / 20)
    assert result.bound.item() == pytest.approx(-100 - math.log(20))
    # Of two groups of ten, one has the weight and the other has ten small ones.
    assert result.curve[10].item() == pytest.approx((-100 - math.log(10) - 2_000) / 2)


def test_groups_are_disjoint_and_of_one_size() -> None:
    weights = torch.randn(3, 25, generator=source(), dtype=torch.float64)
    curve = importance_bound(weights).curve
    assert list(curve) == [1, 10, 25]
    torch.testing.assert_close(curve[1], weights.mean(1))
    groups = [weights[:, :10], weights[:, 10:20]]
    expected = sum(g.exp().mean(1).log() for g in groups) / 2
    torch.testing.assert_close(curve[10], expected)


def test_metrics_say_what_is_known_of_one_image_and_of_many() -> None:
    weights = torch.randn(4, 6, generator=source(), dtype=torch.float64)
    metrics = importance_metrics(importance_bound(weights), 6)
    bound = weights.exp().mean(1).log()
    assert metrics["iw_bound"].value == pytest.approx(bound.mean().item())
    assert metrics["iw_se"].value == pytest.approx(bound.std().item() / 2)
    assert metrics["iw_samples"].value == 6
    one = importance_metrics(importance_bound(weights[:1]), 6)
    assert one["iw_se"].reason == "one image has no standard error"
    broken = importance_metrics(importance_bound(torch.full((3, 6), math.nan)), 6)
    assert broken["iw_bound"].value is None
    assert broken["iw_se"].reason == "the value is not finite"


def test_no_weight_no_image_and_no_density_are_refused() -> None:
    vae, pixels = made(cell(), (1, 4, 4)), grey_split(random_grey(3)).pixels
    with pytest.raises(ValueError, match="must be at least 1; got 0"):
        log_weights(vae, pixels, 0, source())
    with pytest.raises(ValueError, match="at least one image"):
        log_weights(vae, pixels[:0], 5, source())
    delta = made(cell(posterior="delta"), (1, 4, 4))
    with pytest.raises(ValueError, match="no importance weights"):
        log_weights(delta, pixels, 5, source())


@pytest.mark.parametrize(("effective", "too_few"), [(9.9, True), (10.1, False)])
def test_k_is_too_small_if_fewer_than_ten_samples_count(effective: float, too_few: bool) -> None:
    """Equal weights on a part of the samples and none on the others: that part is what counts."""
    share = effective / 10.0
    weights = torch.full((1_000, 200), -1e9, dtype=torch.float64)
    weights[:, :10] = 0.0
    extra = round(1_000 * abs(share - 1) * 10)
    weights[:extra, 10 if share > 1 else 9] = 0.0 if share > 1 else -1e9
    reason = why_too_few_samples(importance_bound(weights))
    assert (reason is not None) == too_few


@pytest.mark.parametrize(("rise", "too_few"), [(0.45, False), (0.55, True)])
def test_k_is_too_small_if_the_curve_still_rises(rise: float, too_few: bool) -> None:
    """One group of 1,000 outweighs the four others: L(5,000) - L(1,000) is known."""
    weights = torch.zeros(3, 5_000, dtype=torch.float64)
    weights[:, :1_000] = _height_for(rise)
    result = importance_bound(weights)
    found = (result.curve[5_000] - result.curve[1_000]).mean()
    assert float(found) == pytest.approx(rise, abs=1e-6)
    assert (why_too_few_samples(result) is not None) == too_few


def _height_for(rise: float) -> float:
    """The log-weight h of one group in five with log((e^h + 4) / 5) - h / 5 = rise."""
    low, high = 0.0, 10.0
    for _ in range(100):
        h = (low + high) / 2
        low, high = (h, high) if np.log((np.exp(h) + 4) / 5) - h / 5 < rise else (low, h)
    return low
