"""The bug zoo: each effect against what theory or an independent computation says of it."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from vaebench.auditing.zoo import BATCH, SIGMA, SPECIMENS, Subject, ZooCase, zoo, zoo_text
from vaebench.errors import AuditError


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject(seed=3, epochs=12)


@pytest.fixture(scope="module")
def cases(subject: Subject) -> dict[str, ZooCase]:
    return {case.name: case for case in zoo(subject=subject)}


def test_every_specimen_has_a_finite_effect_in_order(cases: dict[str, ZooCase]) -> None:
    assert list(cases) == [specimen.name for specimen in SPECIMENS]
    for case in cases.values():
        assert math.isfinite(case.effect)
        assert case.effect != 0


def test_the_right_number_is_the_elbo(subject: Subject, cases: dict[str, ZooCase]) -> None:
    drawn, x = subject.scored, subject.test
    with torch.no_grad():
        decoded = subject.gaussian.decode(drawn.z).mean[0]
    q = Normal(drawn.posterior.mean[0], drawn.z[0].std(dim=0).clamp(min=1e-9))
    log_likelihood = Normal(decoded, SIGMA).log_prob(x).sum(dim=2).mean(dim=0)
    # The posterior's width is estimated from its own samples here: good to a fraction of a nat.
    kl = kl_divergence(q, Normal(0.0, 1.0)).sum(dim=1)
    right = cases["constants-dropped"].right
    assert right == pytest.approx(float((log_likelihood - kl).mean()), abs=0.3)
    exact = log_likelihood - drawn.kl()[0]
    assert right == pytest.approx(float(exact.mean()), abs=1e-6)


def test_dropped_constants_are_the_normaliser(cases: dict[str, ZooCase]) -> None:
    dropped = 32 * math.log(2 * math.pi * SIGMA**2)
    assert cases["constants-dropped"].effect == pytest.approx(dropped, abs=1e-9)


@pytest.mark.parametrize("name", ["mean-for-sum", "kl-mean-over-latents", "kl-divided-by-batch"])
def test_a_wrong_weight_in_training_costs(cases: dict[str, ZooCase], name: str) -> None:
    assert cases[name].where == "training"
    assert cases[name].right == cases["constants-dropped"].right
    assert cases[name].effect < -0.5


def test_the_greater_the_wrong_weight_the_greater_the_cost(cases: dict[str, ZooCase]) -> None:
    assert cases["kl-divided-by-batch"].effect < cases["kl-mean-over-latents"].effect


def test_mean_for_sum_collapses_the_posterior(subject: Subject) -> None:
    kl = subject.scored.kl().mean(dim=1)
    assert kl[1] < 0.1 < 5 < kl[0]


def test_cross_entropy_lacks_at_least_log_2_a_pixel(cases: dict[str, ZooCase]) -> None:
    """The continuous Bernoulli's normaliser C is at least 2, at every mean."""
    assert cases["bce-on-grey"].effect < -64 * math.log(2)


def test_a_fitted_sigma_flatters(cases: dict[str, ZooCase]) -> None:
    whole, each = cases["sigma-from-test-set"], cases["sigma-from-each-image"]
    assert 0 < whole.effect < each.effect
    assert whole.right == each.right


def test_no_sigma_does_better_than_the_fitted_one(subject: Subject) -> None:
    residuals = subject.residuals(subject.test)
    fitted = float(residuals.square().mean().sqrt())

    def log_likelihood(sigma: float) -> float:
        scale = torch.tensor(sigma, dtype=torch.float64)
        return float(Normal(torch.zeros_like(scale), scale).log_prob(residuals).mean())

    assert log_likelihood(fitted) > max(log_likelihood(0.99 * fitted), log_likelihood(SIGMA))
    (case,) = zoo(["sigma-from-test-set"], subject=subject)
    kl = float(subject.scored.kl()[0].mean())
    assert case.wrong == pytest.approx(64 * log_likelihood(fitted) - kl, abs=1e-6)


def test_the_posterior_mean_flatters(cases: dict[str, ZooCase]) -> None:
    assert cases["elbo-at-mean"].effect > 1.0


def test_turned_weights_fall_below_the_elbo(subject: Subject, cases: dict[str, ZooCase]) -> None:
    case = cases["iwae-weights-turned"]
    assert case.wrong < float(subject.scored.log_weights()[0].mean()) < case.right


def test_batch_means_weigh_the_last_batch_too_much(
    subject: Subject, cases: dict[str, ZooCase]
) -> None:
    elbo = subject.right
    last = len(elbo) % BATCH
    batches = math.ceil(len(elbo) / BATCH)
    assert last > 0
    full, short = elbo[:-last].mean(), elbo[-last:].mean()
    expected = float(((batches - 1) * full + short) / batches)
    assert cases["mean-of-batch-means"].wrong == pytest.approx(expected, abs=1e-9)


def test_naming_a_specimen(subject: Subject) -> None:
    (case,) = zoo(["elbo-at-mean"], subject=subject)
    text = zoo_text([case])
    assert case.name == "elbo-at-mean"
    assert f"{case.effect:+.2f}" in text
    assert text.splitlines()[0].split()[:4] == ["specimen", "right", "wrong", "effect"]


def test_an_unknown_specimen_is_refused() -> None:
    with pytest.raises(AuditError, match=r"must be one of constants-.*; got unicorn"):
        zoo(["unicorn"])
