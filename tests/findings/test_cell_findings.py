"""Each finding of cells, two-sided: a world that conforms, and one with a planted violation."""

import math
from dataclasses import replace

import numpy as np
import pytest
from planted import FAILED, HELD, evidence, noise
from sklearn.datasets import load_digits

from vaebench.findings.finding import assess
from vaebench.findings.latent import PUBLISHED_NLL
from vaebench.findings.registry import FINDINGS
from vaebench.findings.verdict import VERDICTS
from vaebench.truth.bounds import density_ceiling
from vaebench.truth.ppca import Spectrum

SHOWN, NOT_SHOWN = VERDICTS[2:4]
LOSSES = {1: 5.0, 2: 2.0, 3: 1.0, 4: 0.6, 8: 0.1, 16: 0.0, 30: 0.1, 32: 0.1, 64: 0.4, 100: 0.2}


def latents(*, long=None, gap=None, units=None, rate=0.0, halved=0.5, short_of_largest=9.0):
    """Sweeps of latent sizes: nats below the best after long training, and other columns.

    rate: nats that all sizes lose at a lower learning rate; halved: what the largest wins back.
    """
    losses = {**LOSSES, 1000: 3.0, 10_000: 7.0, **(long or {})}

    def numbers(cell):
        largest = cell.latent_dim >= (1000 if cell.dataset == "digits" else 10_000)
        short = cell.epochs in (20, 1)
        lost = short_of_largest if largest and short else losses[cell.latent_dim]
        if cell.learning_rate == (1e-3 if cell.dataset == "digits" else 3e-4):
            lost += rate - halved * largest
        elbo = -18.0 - lost + noise(cell, 0.01)
        return {
            "elbo": elbo,
            "iw_bound": elbo + 1.0,
            "elbo_train": elbo + {64: 0.9, **(gap or {})}.get(cell.latent_dim, 1.0),
            "active_units": (units or {}).get(cell.latent_dim, 8.0) + 0.0,
        }

    return numbers


def published(off):
    """The published curve, one size of it off by some nats."""

    def numbers(cell):
        nll = PUBLISHED_NLL[cell.latent_dim] + off * (cell.latent_dim == 10)
        return {"iw_bound": -nll + noise(cell, 0.01)}

    return numbers


def depths(*, autoencoder, vae, units):
    """Squared errors of the two by depth, and the active units of the VAE."""

    def numbers(cell):
        error = (autoencoder if cell.posterior == "delta" else vae)[len(cell.hidden)]
        return {
            "mse": error * (1 + noise(cell, 1e-3)),
            "active_units": float(units[len(cell.hidden)]),
        }

    return numbers


def sweep(*, kl=lambda s: 20 - 10 * s, mse=lambda s: 0.01 + s, best=0.14, learned=25.0):
    def numbers(cell):
        sigma = 0.15 if isinstance(cell.sigma, str) else cell.sigma
        elbo = 24 - 30 * math.log(sigma / best) ** 2 if isinstance(cell.sigma, float) else learned
        if cell.sigma == "per_pixel":
            elbo = 60.0
        return {
            "elbo": elbo + noise(cell, 0.05),
            "kl": kl(sigma),
            "mse": mse(sigma),
            "sigma_fitted": sigma,
        }

    return numbers


def design(**values):
    """Numbers by what an axis holds: design(elbo=("sigma", {0.1: 3.0}))."""

    def numbers(cell):
        made = {}
        for metric, (axis, by_value) in values.items():
            if getattr(cell, axis) in by_value:
                made[metric] = by_value[getattr(cell, axis)] + noise(cell, 1e-3)
        return made

    return numbers


def raised(axis, value, *, better=True):
    """Worlds in which this recipe changes the ELBO by 5 nats: as claimed, and the other way."""
    worlds = (design(elbo=(axis, {value: -20.0 + gain})) for gain in (5.0, -5.0))
    return tuple(worlds) if better else tuple(worlds)[::-1]


def is_recipe(cell):
    return cell.beta != 1.0 or cell.beta_schedule != "constant"


def clips(grey, dequantised):
    def numbers(cell):
        gains = dequantised if cell.dequantize else grey
        return {"elbo": gains[cell.pixel_clip] + noise(cell, 0.01)}

    return numbers


def samplers(vae, iwae):
    """Bounds and units by objective and number of samples."""

    def numbers(cell):
        bound, units = (iwae if cell.objective == "iwae" else vae)[cell.importance_samples]
        return {"iw_bound": bound + noise(cell, 0.01), "active_units": float(units)}

    return numbers


RISING, FALLING = {1e-2: 50.0, 1e-4: 70.0, 1e-6: 80.0}, {1e-2: 80.0, 1e-4: 70.0, 1e-6: 60.0}
SMALL_RISE = {1e-2: 50.0, 1e-4: 52.0, 1e-6: 53.0}
VAE, IWAE = {1: (-25.0, 19), 20: (-24.97, 20)}, {5: (-24.5, 22), 20: (-24.0, 25)}

DEEP_FAILS, DEEP_WORKS = ({1: 0.05, 2: 0.04, 4: 0.06, 8: 0.09}, dict.fromkeys((1, 2, 4, 8), 0.03))
FEWER = {1: 12, 2: 10, 4: 7, 8: 2}

# Name -> (a world that conforms, a world that violates the claim).
WORLDS = {
    "latent-three": (latents(), latents(long={3: 0.1})),
    "latent-two": (latents(), latents(long={2: 0.3})),
    "latent-plateau": (latents(), latents(long={32: 3.0})),
    "latent-ten-thousand": (latents(), latents(long={1000: 0.0})),
    "latent-ten-thousand-early": (latents(), latents(short_of_largest=0.0)),
    "latent-training-mends": (latents(), latents(short_of_largest=2.0)),
    "latent-lower-rate-mends": (latents(), latents(halved=-0.5)),
    "latent-more-is-better": (latents(), latents(long={4: 2.5})),
    "latent-no-overfitting": (latents(), latents(gap={64: 3.0})),
    "latent-thousand": (latents(), latents(long={1000: 9.0})),
    "latent-tutorial-network": (latents(), latents(long={10_000: 0.1})),
    "latent-tutorial-network-thousand": (latents(), latents(long={1000: 9.0})),
    "latent-ten-thousand-bound": (latents(), latents(long={10_000: 2.0})),
    "latent-published-curve": (published(1.0), published(3.0)),
    "active-units-are-the-manifold": (
        design(active_units=("latent_dim", {16: 8.0})),
        design(active_units=("latent_dim", {16: 16.0})),
    ),
    "deep-autoencoder-fails": (
        depths(autoencoder=DEEP_FAILS, vae=DEEP_FAILS, units=FEWER),
        depths(autoencoder=DEEP_WORKS, vae=DEEP_FAILS, units=FEWER),
    ),
    "deep-vae-is-worse": (
        depths(autoencoder=DEEP_WORKS, vae=DEEP_FAILS, units=FEWER),
        depths(autoencoder=DEEP_FAILS, vae=DEEP_WORKS, units=FEWER),
    ),
    "deep-decoders-collapse": (
        depths(autoencoder=DEEP_FAILS, vae=DEEP_FAILS, units=FEWER),
        depths(autoencoder=DEEP_FAILS, vae=DEEP_FAILS, units=dict.fromkeys(FEWER, 8)),
    ),
    "recipe-beta": raised("beta", 0.5, better=False),
    "recipe-warm-up": raised("beta_schedule", "linear:10"),
    "recipe-cyclical": raised("beta_schedule", "cyclical:4"),
    "recipe-free-bits": raised("free_bits", 0.25),
    "recipe-mixture": raised("prior", "mixture"),
    "recipe-vamp": raised("prior", "vamp"),
    "recipe-shallow": raised("hidden", (128,)),
    "recipes-raise-kl": (
        lambda cell: {"kl": 8.0 if is_recipe(cell) or cell.free_bits else 5.0},
        lambda cell: {"kl": 8.0 if is_recipe(cell) else 5.0},
    ),
    "latent-units-saturate": (latents(), latents(units={100: 40.0})),
    "sigma-lowers-rate": (sweep(), sweep(kl=lambda s: 10 * s)),
    "sigma-raises-distortion": (sweep(), sweep(mse=lambda s: 1 - s)),
    "learned-sigma-beats-fixed": (sweep(), sweep(learned=20.0)),
    "best-sigma-is-learned": (sweep(), sweep(best=0.4)),
    "learned-sigma-is-rms": (sweep(mse=lambda s: s**2), sweep(mse=lambda s: 4 * s**2)),
    "per-pixel-sigma-elbo": (sweep(), sweep(learned=70.0)),
    "beta-acts-as-sigma": (
        design(kl=("beta", {0.25: 17.0, 1.0: 17.1})),
        design(kl=("beta", {0.25: 12.0, 1.0: 17.1})),
    ),
    "clip-is-measured": (clips(RISING, SMALL_RISE), clips(FALLING, SMALL_RISE)),
    "clip-matters-less-dequantised": (clips(RISING, SMALL_RISE), clips(RISING, RISING)),
    "fixed-binarisation-costs": (
        design(elbo=("binarization", {"static": -24.0, "dynamic": -22.0})),
        design(elbo=("binarization", {"static": -22.0, "dynamic": -24.0})),
    ),
    "fixed-binarisation-overfits": (
        design(elbo_train=("binarization", {"static": -17.0, "dynamic": -19.5})),
        design(elbo_train=("binarization", {"static": -19.5, "dynamic": -17.0})),
    ),
    "posterior-mean-flatters": (
        design(reconstruction_error_at_mean=("latent_dim", {20: 12.0})),
        design(reconstruction_error_at_mean=("latent_dim", {20: 15.5})),
    ),
    "record-bits-add-up": (design(), design(bits_per_dim=("latent_dim", {16: 0.3}))),
    "information-below-log-n": (
        design(),
        design(mutual_information=("latent_dim", {16: 6.5})),
    ),
    "iwae-ordering": (samplers(VAE, IWAE), samplers(VAE, {**IWAE, 20: (-24.8, 25)})),
    "vae-gains-little-from-k": (samplers(VAE, IWAE), samplers({**VAE, 20: (-22.0, 20)}, IWAE)),
    "iwae-more-active-units": (samplers(VAE, IWAE), samplers(VAE, {**IWAE, 20: (-24.0, 15)})),
    "iwae-table-vae": (
        design(iw_bound=("latent_dim", {50: -87.0})),
        design(iw_bound=("latent_dim", {50: -95.0})),
    ),
    "iwae-whole-schedule": (
        design(iw_bound=("epochs", {3280: -86.5})),
        design(iw_bound=("epochs", {3280: -88.5})),
    ),
    "iwae-whole-schedule-units": (
        design(active_units=("epochs", {3280: 19.0})),
        design(active_units=("epochs", {3280: 25.0})),
    ),
    "posterior-gap-remains": (
        design(posterior_gap=("latent_dim", {16: 0.8})),
        design(posterior_gap=("latent_dim", {16: 0.0})),
    ),
    "delta-reconstructs-better": (
        design(mse=("posterior", {"diagonal": 0.2, "delta": 0.1})),
        design(mse=("posterior", {"diagonal": 0.1, "delta": 0.2})),
    ),
    "sparse-lambda-empties": (
        design(nonzero_codes=("sparsity", {100.0: 1.0})),
        design(nonzero_codes=("sparsity", {0.0: 1.0})),
    ),
    "sparse-lambda-costs": (
        design(mse=("sparsity", {0.0: 0.1, 1.0: 0.2, 10.0: 0.3, 100.0: 0.4})),
        design(mse=("sparsity", {0.0: 0.4, 1.0: 0.3, 10.0: 0.2, 100.0: 0.1})),
    ),
}


def judged(name, world, **more):
    finding = FINDINGS[name]
    budget = "full" if "quick" in finding.untested else "quick"
    return assess(finding, evidence(finding, world, budget=budget, **more), budget)


@pytest.mark.parametrize("name", WORLDS)
def test_a_conforming_world_reproduces_and_a_planted_violation_contradicts(name):
    finding = FINDINGS[name]
    budget = "full" if "quick" in finding.untested else "quick"
    conforming, violating = (evidence(finding, world, budget=budget) for world in WORLDS[name])
    good, bad = (assess(finding, each, budget) for each in (conforming, violating))
    assert good.judgement.verdict in HELD, good.statistic
    assert bad.judgement.verdict in FAILED, bad.statistic
    least = finding.least_seeds
    if least > 1:
        few = conforming.frame[conforming.frame["seed"] < least - 1]
        short = assess(finding, replace(conforming, frame=few), budget)
        assert short.judgement.verdict == "inconclusive"
        assert f"needs {least}" in short.judgement.reason


@pytest.mark.parametrize("name", WORLDS)
def test_a_store_that_lacks_a_design_never_turns_a_verdict(name):
    """The largest size, the longest training and the best sigma are those of the whole test."""
    finding = FINDINGS[name]
    budget = "full" if "quick" in finding.untested else "quick"
    for world in WORLDS[name]:
        whole = evidence(finding, world, budget=budget)
        verdict = assess(finding, whole, budget).judgement.verdict
        for design in whole.frame["design"].unique():
            part = replace(whole, frame=whole.frame[whole.frame["design"] != design])
            judged = assess(finding, part, budget).judgement
            truncated = {"reproduced": SHOWN, "contradicted": NOT_SHOWN}.get(verdict, verdict)
            assert judged.verdict in (verdict, truncated, "not tested"), (design, judged)


def test_trainings_without_a_common_seed_are_not_tested():
    finding = FINDINGS["latent-training-mends"]
    whole = evidence(finding, WORLDS[finding.name][0])
    frame = whole.frame
    short = frame["epochs"] == frame["epochs"].min()
    part = replace(whole, frame=frame[short == (frame["seed"] == 0)])
    judged = assess(finding, part, "quick").judgement
    assert (judged.verdict, judged.reason) == (
        "not tested",
        "no seed has all the cells that are compared",
    )


@pytest.mark.parametrize(
    ("name", "world"),
    [
        ("clip-matters-less-dequantised", clips(FALLING, RISING)),
        ("clip-matters-less-dequantised", lambda _: {"elbo": -20.0}),
    ],
)
def test_a_share_of_nothing_is_not_tested(name, world):
    found = judged(name, world).judgement
    assert found.verdict == "not tested"
    assert "must be positive in every seed" in found.reason


def test_a_clip_that_matters_the_other_way_round_matters():
    steep = {1e-2: 80.0, 1e-4: 0.0, 1e-6: -20.0}
    found = judged("clip-matters-less-dequantised", clips(SMALL_RISE, steep))
    assert found.judgement.verdict in FAILED


@pytest.mark.parametrize("name", ["latent-more-is-better", "latent-training-mends"])
def test_no_effect_at_all_is_no_effect(name):
    found = judged(name, lambda _: {"elbo": -20.0, "kl": 0.0})
    assert (found.statistic.low, found.statistic.high) == (0.0, 0.0)
    assert found.judgement.verdict in FAILED


def test_a_seed_without_a_finite_number_is_not_left_out():
    """Of equal numbers there is no rank correlation: the other seeds do not decide for them."""

    def world(cell):
        return {"kl": 20.0 if cell.seed < 1 else 20 - 10 * float(cell.sigma)}

    def numbers(cell):
        return world(cell) if isinstance(cell.sigma, float) else {"kl": 5.0}

    found = judged("sigma-lowers-rate", numbers)
    assert found.judgement.verdict == "inconclusive"
    assert found.judgement.reason == "the statistic is not finite"


def test_no_record_is_not_tested():
    few = judged("latent-three", WORLDS["latent-three"][0], seeds=0)
    assert few.judgement.verdict == "not tested"
    assert few.statistic is None


# The findings below read arrays, series or facts.


def with_ceiling(slack):
    def numbers(cell):
        sigma = cell.sigma if isinstance(cell.sigma, float) else 0.15
        return {
            "sigma_fitted": sigma,
            "elbo": density_ceiling(-0.5 * math.log(2 * math.pi), 64, sigma) - slack,
        }

    return numbers


@pytest.mark.parametrize(("slack", "verdict"), [(3.0, "reproduced"), (-0.1, "contradicted")])
def test_gaussian_ceiling(slack, verdict):
    found = judged("gaussian-ceiling", with_ceiling(slack))
    assert found.judgement.verdict == verdict
    cells = found.statistic.n

    def without_some(cell):
        return with_ceiling(slack)(cell) if cell.seed else {"elbo": None, "sigma_fitted": None}

    fewer = judged("gaussian-ceiling", without_some)
    assert fewer.judgement.verdict == verdict
    assert 0 < fewer.statistic.n < cells


@pytest.mark.parametrize(("step", "verdict"), [(-0.01, SHOWN), (0.01, NOT_SHOWN)])
def test_learned_sigma_falls(step, verdict):
    curve = [0.3 + step * i for i in range(20)]
    made = judged("learned-sigma-falls", sweep(), series=lambda _: {"sigma": curve})
    assert made.judgement.verdict == verdict


@pytest.mark.parametrize(
    ("variances", "verdict"), [([0.0, 0.95, 0.9, 0.02], SHOWN), ([0.5] * 4, NOT_SHOWN)]
)
def test_latents_used_or_not(variances, verdict):
    arrays = {"posterior_mean_variance": np.array(variances)}
    made = judged("latents-used-or-not", sweep(), arrays=lambda _: arrays)
    assert made.judgement.verdict == verdict


def test_of_latents_that_have_all_collapsed_none_is_used():
    arrays = {"posterior_mean_variance": np.zeros(4)}
    made = judged("latents-used-or-not", sweep(), arrays=lambda _: arrays)
    assert made.judgement.verdict == "not tested"


@pytest.mark.parametrize(
    ("curve", "verdict"), [([-26.0, -25.0, -24.8], "reproduced"), ([-24.0, -25.0], "contradicted")]
)
def test_bound_curve_rises(curve, verdict):
    made = judged("bound-curve-rises", design(), arrays=lambda _: {"iw_curve": np.array(curve)})
    assert made.judgement.verdict == verdict


FACTS = {"data-digits": {"bce_floor_test": 12.0, "bce_blind_test": 18.0}}


@pytest.mark.parametrize(
    ("name", "error", "verdict"),
    [
        ("grey-entropy-floor", 15.0, "reproduced"),
        ("grey-entropy-floor", 11.0, "contradicted"),
        ("better-than-blind", 15.0, SHOWN),
        ("better-than-blind", 19.0, NOT_SHOWN),
    ],
)
def test_bounds_of_the_data(name, error, verdict):
    world = design(reconstruction_error=("latent_dim", {20: error}))
    assert judged(name, world, facts=FACTS).judgement.verdict == verdict
    assert judged(name, world).judgement.verdict == "not tested"


EIGENVALUES = np.array([0.7, 0.6, 0.5, 0.4, *np.full(60, 0.01)])
SPECTRUM = Spectrum(np.zeros(64), EIGENVALUES, np.eye(64))
OPTIMUM = SPECTRUM.log_likelihood(8, SPECTRUM.ml_sigma(8)) + 0.7  # of the images that are evaluated
LINEAR_FACTS = {
    "data-digits": {"eigenvalues": EIGENVALUES.tolist(), "ppca_on_first": {"8": OPTIMUM}}
}


def linear(*, lost=0.5, sigma=1.0, units=0, below=1.0, above=0.001):
    exact = SPECTRUM.ml_sigma(8)

    def numbers(cell):
        if cell.sigma == "learned":
            reached = OPTIMUM - lost + noise(cell, 0.01)
            return {"elbo_train": reached, "sigma_fitted": exact * sigma + noise(cell, 1e-4)}
        rate = float(np.sum(SPECTRUM.rate(8, cell.sigma)))
        return {
            "kl_train": rate * below if rate else above,
            "active_units": SPECTRUM.active_units(cell.sigma, 8) + float(units),
        }

    return numbers


@pytest.mark.parametrize(
    ("name", "violation"),
    [
        ("linear-reaches-ppca", {"lost": 8.0}),
        ("linear-reaches-ppca", {"lost": -1.0}),
        ("linear-sigma", {"sigma": 1.3}),
        ("linear-active-units", {"units": 3}),
        ("no-collapse-below", {"below": 0.1}),
        ("collapse-above", {"above": 0.3}),
    ],
)
def test_the_linear_vae(name, violation):
    good = judged(name, linear(), facts=LINEAR_FACTS)
    assert good.judgement.verdict in HELD, good.statistic
    assert judged(name, linear(**violation), facts=LINEAR_FACTS).judgement.verdict in FAILED
    assert judged(name, linear()).judgement.verdict == "not tested"


REAL = np.round(load_digits().images[:36] / 16 * 255).astype(np.uint8)
STATIC = np.random.default_rng(0).integers(0, 256, (36, 8, 8)).astype(np.uint8)
MIXED = ((REAL.astype(int) + REAL[np.random.default_rng(1).permutation(36)]) // 2).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "axis", "worse"),
    [
        ("delta-samples-worse", "posterior", "delta"),
        ("per-pixel-samples-worse", "sigma", "per_pixel"),
    ],
)
def test_samples_by_their_distance_to_data(name, axis, worse):
    def arrays(of_worse, of_better):
        def kept(cell):
            images = of_worse if getattr(cell, axis) == worse else of_better
            drawn = np.random.default_rng(cell.seed).permutation(36)[:30]
            return {"prior_samples": images[drawn]}

        return kept

    assert judged(name, sweep(), arrays=arrays(STATIC, MIXED)).judgement.verdict in HELD
    assert judged(name, sweep(), arrays=arrays(MIXED, STATIC)).judgement.verdict in FAILED
    assert judged(name, sweep()).judgement.verdict == "not tested"


@pytest.mark.parametrize(
    ("images", "verdict"), [(MIXED, SHOWN), (REAL, NOT_SHOWN)], ids=["mixed", "real"]
)
def test_samples_in_between(images, verdict):
    arrays = {"prior_samples": images, "reconstructions": REAL}
    made = judged("samples-in-between", sweep(), arrays=lambda _: arrays)
    assert made.judgement.verdict == verdict, made.statistic


@pytest.mark.parametrize(("mixed", "verdict"), [(True, SHOWN), (False, NOT_SHOWN)])
def test_lines_in_between(mixed, verdict):
    weights = np.linspace(0, 1, 9) if mixed else np.zeros(9)
    pairs = zip(REAL[:4].astype(float), REAL[4:8].astype(float), strict=True)
    lines = [[(1 - w) * start + w * stop for w in weights] for start, stop in pairs]
    arrays = {"interpolations": np.round(lines).astype(np.uint8)}
    made = judged("lines-in-between", sweep(), arrays=lambda _: arrays)
    assert made.judgement.verdict == verdict, made.statistic


def unused(kl_of_unused):
    """Two units in use, and others whose posterior mean hardly varies."""
    arrays = {
        "kl_per_dimension": np.array([3.0, 2.0, *[kl_of_unused / 4] * 4]),
        "posterior_mean_variance": np.array([0.9, 0.8, *[0.009] * 4]),
    }
    return lambda _: arrays


@pytest.mark.parametrize(
    ("name", "held", "failed"),
    [
        ("latent-kl-too-high", SHOWN, NOT_SHOWN),
        ("latent-tutorial-network-kl", "reproduced", "contradicted"),
    ],
)
def test_only_the_kl_of_units_that_are_not_used_counts(name, held, failed):
    for kl, verdict in ((2.0, held), (0.01, failed)):
        found = judged(name, latents(), arrays=unused(kl))
        assert found.judgement.verdict == verdict
        assert found.statistic.value == pytest.approx(kl)
    assert judged(name, latents()).judgement.verdict == "not tested"


def test_the_loss_at_a_lower_rate_is_against_the_best_size_at_the_same_rate():
    """All sizes lose a nat at the lower rate, the largest a little less: that is a gain."""
    found = judged("latent-lower-rate-mends", latents(rate=1.0, halved=0.5))
    assert found.statistic.value == pytest.approx(0.5, abs=0.1)
    assert found.judgement.verdict == SHOWN


def test_the_reference_is_the_best_size_of_each_budget():
    """The best size moves from 8 after the short training to 16 after the long one."""

    def numbers(cell):
        short = cell.epochs == 20
        lost = {8: 0.0 if short else 2.0, 16: 2.0 if short else 0.0, 1000: 5.0 - 1.0 * (not short)}
        return {"elbo": -20 - lost.get(cell.latent_dim, 3.0) + noise(cell, 0.001)}

    found = judged("latent-training-mends", numbers)
    assert found.statistic.value == pytest.approx(1.0, abs=0.01)


def test_the_best_size_is_chosen_on_selection_images_and_compared_on_the_others():
    def numbers(cell):
        selection = {8: -18.0, 16: -17.0}.get(cell.latent_dim, -20.0)
        held_out = {8: -17.0, 16: -18.0}.get(cell.latent_dim, -21.0)
        return {"elbo_selection": selection, "elbo_held_out": held_out, "elbo": -17.5}

    found = judged("latent-three", numbers)
    assert found.statistic.value == pytest.approx(3.0)


@pytest.mark.parametrize(("off", "verdict"), [(0.02, SHOWN), (0.5, NOT_SHOWN)])
def test_the_moments_of_every_code_add_up(off, verdict):
    arrays = {"aggregate_second_moment": np.array([1.0, 1.0 + off, 0.99])}
    found = judged("moments-add-up", sweep(), arrays=lambda _: arrays)
    assert found.judgement.verdict == verdict
    assert judged("moments-add-up", sweep()).judgement.verdict == "not tested"


def test_samples_as_blurred_as_reconstructions_are_not_in_between():
    arrays = {"prior_samples": MIXED, "reconstructions": MIXED}
    found = judged("samples-in-between", sweep(), arrays=lambda _: arrays)
    assert found.judgement.verdict == NOT_SHOWN


ELSEWHERE = {
    "latent-kl-too-high",
    "latent-tutorial-network-kl",
    "moments-add-up",
    "gaussian-ceiling",
    "learned-sigma-falls",
    "latents-used-or-not",
    "bound-curve-rises",
    "grey-entropy-floor",
    "better-than-blind",
    "linear-reaches-ppca",
    "linear-sigma",
    "linear-active-units",
    "no-collapse-below",
    "collapse-above",
    "delta-samples-worse",
    "per-pixel-samples-worse",
    "samples-in-between",
    "lines-in-between",
}


def test_every_finding_of_cells_is_tested_here():
    cells = {name for name, finding in FINDINGS.items() if finding.kind == "cells"}
    assert cells == set(WORLDS) | ELSEWHERE


def test_the_margin_of_the_entry_decides_and_not_the_statistic():
    finding = FINDINGS["latent-three"]
    world = evidence(finding, WORLDS["latent-three"][0])
    strict = replace(finding, margins={"quick": type(finding.margins["quick"])(low=50.0)})
    assert assess(finding, world, "quick").judgement.verdict in HELD
    assert assess(strict, world, "quick").judgement.verdict in FAILED
