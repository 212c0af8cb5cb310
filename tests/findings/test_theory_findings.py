"""Findings of mathematics, two-sided: as they are, and with the truth or the record perturbed."""

import math

import numpy as np
import pandas as pd
import pytest
from planted import FAILED, HELD

from vaebench.findings import estimators, gaps, linear, theory
from vaebench.findings.evidence import Evidence
from vaebench.findings.finding import assess, fact_payload
from vaebench.findings.registry import FINDINGS
from vaebench.truth import gaussian
from vaebench.truth.one_dimensional import gaussian_posterior_kl, marginal_kl, posterior_kl
from vaebench.truth.ppca import LinearVAE, Spectrum

MATHEMATICS = [name for name, finding in FINDINGS.items() if finding.kind == "mathematics"]
FALSE_CLAIMS = {"lambda-absorbed-as-printed", "sigma-is-root-half-beta"}


def judged(name, payload):
    finding = FINDINGS[name]
    evidence = Evidence(pd.DataFrame(), facts={finding.fact_id: payload})
    return assess(finding, evidence, "quick").judgement


@pytest.fixture(scope="module")
def payloads():
    return {name: fact_payload(FINDINGS[name]) for name in MATHEMATICS}


@pytest.mark.parametrize("name", MATHEMATICS)
def test_what_is_true_is_reproduced_and_what_is_false_is_contradicted(name, payloads):
    expected = FAILED if name in FALSE_CLAIMS else HELD
    assert judged(name, payloads[name]).verdict in expected


@pytest.mark.parametrize("name", MATHEMATICS)
def test_the_number_in_the_record_decides(name, payloads):
    margin = FINDINGS[name].margins["quick"]
    ends = [end for end in (margin.low, margin.high) if math.isfinite(end)]
    outside = {"at least": ends[0] - 1e-9, "at most": ends[-1] + 1e-9}
    value = outside["at most"] if math.isfinite(margin.high) else outside["at least"]
    planted = {**payloads[name], **dict.fromkeys(("value", "low", "high"), value)}
    held = {**payloads[name], **dict.fromkeys(("value", "low", "high"), ends[0])}
    assert judged(name, planted).verdict in FAILED
    assert judged(name, held).verdict in HELD


def test_a_computation_in_place_of_a_training_is_below_the_setting(payloads):
    found = judged("amortisation-dominates", payloads["amortisation-dominates"])
    assert found.verdict == "shown at this budget"


def test_a_record_of_another_revision_or_none_is_not_tested(payloads):
    old = {**payloads["mdl-bits"], "revision": 0}
    assert judged("mdl-bits", old).verdict == "not tested"
    assert assess(FINDINGS["mdl-bits"], Evidence(pd.DataFrame()), "quick").judgement.verdict == (
        "not tested"
    )


def test_a_record_with_words_for_numbers_is_not_tested(payloads):
    broken = {**payloads["mdl-bits"], "value": "small"}
    assert "instead of a number" in judged("mdl-bits", broken).reason


exact_kl, exact_rate, exact_bound = gaussian.kl, Spectrum.rate, LinearVAE.bound
exact_encode = LinearVAE.encode


class _Loose:
    """A bound that lost a nat of every image."""

    def __init__(self, elbo):
        self.elbo = elbo


# Name -> (object, attribute, what stands in its place).
PERTURBED = {
    "kl-closed-form": (theory.gaussian, "kl", lambda *a: 1.1 * exact_kl(*a)),
    "mdl-bits": (theory.gaussian, "kl", lambda *a: 0.9 * exact_kl(*a) ** 1.1),
    "one-dimension-posterior": (
        theory,
        "posterior_kl",
        lambda truth, sigma: posterior_kl(truth, sigma) / sigma**0.1,
    ),
    "one-dimension-marginal": (
        theory,
        "marginal_kl",
        lambda truth, sigma: marginal_kl(truth, sigma) / sigma,
    ),
    "one-dimension-gaussian": (
        theory,
        "gaussian_posterior_kl",
        lambda *a: 1.01 * gaussian_posterior_kl(*a),
    ),
    "continuous-bernoulli-normalised": (theory, "log_normaliser", lambda _: 0.0),
    "bernoulli-no-sigma": (theory, "replication_error", lambda m, w: m * w),
    "score-function-variance": (theory, "score_ratio", lambda **_: (0.5, 1.0)),
    "score-function-unbiased": (theory, "score_ratio", lambda **_: (5.0, 9.0)),
    "ppca-no-gap": (LinearVAE, "bound", lambda self, x: _Loose(exact_bound(self, x).elbo - 1)),
    "rotation-gap": (LinearVAE, "bound", lambda self, x: _Loose(exact_bound(self, x).elbo - 1)),
    "rotation-costs": (linear, "_rotation", np.eye),
    "sigma-fixed-point": (Spectrum, "ml_sigma", lambda self, _: 1.01 * self.collapse_sigma),
    "envelope": (Spectrum, "rate", lambda *a: 1.01 * exact_rate(*a)),
    "bound-rises-with-k": (
        LinearVAE,
        "log_likelihood",
        lambda self, x: exact_bound(self, x).elbo,
    ),
    "encoder-signal-falls": (
        estimators,
        "softmax",
        lambda x, axis: np.ones_like(x) / x.shape[axis],
    ),
    "decoder-signal-rises": (
        estimators,
        "softmax",
        lambda x, axis: x == x.max(axis, keepdims=True),
    ),
    "moments-add-up-linear": (LinearVAE, "encode", lambda self, x: 1.1 * exact_encode(self, x)),
    "amortisation-dominates": (gaps, "split_gap", lambda: {"a": -21.0, "b": -20.9, "c": -20.0}),
    "prior-sampling-fails": (theory, "_sampling_errors", lambda: (-0.2, -0.2)),
    "posterior-sampling-works": (theory, "_sampling_errors", lambda: (-40.0, -40.0)),
}


@pytest.mark.parametrize("name", PERTURBED)
def test_a_perturbed_truth_is_contradicted(name, monkeypatch):
    monkeypatch.setattr(*PERTURBED[name])
    assert judged(name, fact_payload(FINDINGS[name])).verdict in FAILED


def test_absorption_needs_the_variance_to_be_the_square():
    assert theory.absorption_error(lambda scale: scale**2) < 1e-12
    assert theory.absorption_error(lambda scale: scale) > 0.1
    assert theory.absorption_error(lambda _: 1.0) > 0.1


def test_absorption_sees_a_kl_that_forgets_the_prior(monkeypatch):
    monkeypatch.setattr(theory.gaussian, "kl_to_prior", _forgetful)
    assert judged("lambda-absorbed", fact_payload(FINDINGS["lambda-absorbed"])).verdict == (
        "contradicted"
    )


exact_kl_to_prior = gaussian.kl_to_prior


def _forgetful(mean, variance, prior_scale=1.0):
    return exact_kl_to_prior(mean, variance)


@pytest.mark.parametrize(("variance", "equal"), [(0.3, True), (0.15, False), (0.31, False)])
def test_only_one_variance_has_the_weights_of_the_beta_vae(variance, equal):
    assert (theory.trajectories(variance, beta=0.3) < 1e-9) is equal


def test_replication_is_the_inverse_weight_and_no_other():
    assert theory.replication_error(4, 0.25) < 1e-12
    assert theory.replication_error(4, 0.5) > 1e-3
