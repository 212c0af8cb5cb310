"""Audits by probing: peers' losses and wrong losses, written as small Python functions."""

import itertools
import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    AffineTransform,
    ContinuousBernoulli,
    Laplace,
    Normal,
    SigmoidTransform,
    StudentT,
    TransformedDistribution,
    Uniform,
    kl_divergence,
)
from torch.nn import functional as F

from vaebench.auditing import Audit, audit_options, hidden_sigmas
from vaebench.auditing.peers import HiddenSigma
from vaebench.auditing.probe import audit
from vaebench.errors import AuditError

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
SHAPE, LATENTS = (1, 4, 6), 5
PIXELS = 24


def look(loss: Loss, **options: object) -> Audit:
    return audit(loss, **{"x_shape": SHAPE, "latent_dim": LATENTS, **options})


def kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL per image, shape (batch,)."""
    return 0.5 * (mu.square() + logvar.exp() - logvar - 1).sum(dim=1)


def sse(x: Tensor, decoded: Tensor) -> Tensor:
    """Squared error per image, shape (batch,)."""
    return (x - decoded).square().flatten(1).sum(dim=1)


def with_kl(recon: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """The loss of a reconstruction term per image and the right KL, averaged over the batch."""
    return lambda x, decoded, mu, logvar: (recon(x, decoded) + kl(mu, logvar)).mean()


def with_latent(term: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """The loss of half the squared error and some latent term per image."""
    return lambda x, decoded, mu, logvar: (0.5 * sse(x, decoded) + term(mu, logvar)).mean()


HALF_SSE = with_kl(lambda x, y: 0.5 * sse(x, y))


# --- peers ------------------------------------------------------------------------------------


def mean_mse_summed_kl(weight: float) -> Loss:
    def loss(x: Tensor, decoded: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        divergence = -0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp(), dim=1)
        return F.mse_loss(decoded, x) + weight * divergence.mean()

    return loss


def mean_mse_mean_kl(weight: float) -> Loss:
    def loss(x: Tensor, decoded: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        prior = Normal(torch.zeros_like(mu), torch.ones_like(mu))
        divergence = kl_divergence(Normal(mu, torch.exp(logvar / 2)), prior)
        return F.mse_loss(decoded, x, reduction="mean") + weight * divergence.mean()

    return loss


def sse_beta_kl(recon: float, beta: float) -> Loss:
    return lambda x, y, mu, logvar: recon * sse(x, y).mean() + beta * kl(mu, logvar).mean()


def mean_mse_total_kl(x: Tensor, decoded: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    rec = torch.nn.MSELoss()(decoded, x)
    return rec - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


PEER_LOSSES: dict[tuple[str, str], Loss] = {
    ("pythae", "mse, from v0.1.2"): HALF_SSE,
    ("pythae", "mse, up to v0.1.1"): sse_beta_kl(1.0, 1.0),
    ("disentanglement_lib", "l2_loss"): sse_beta_kl(1.0, 1.0),
    ("kianzohoury/VAE", "kl_weight 1"): sse_beta_kl(1.0, 1.0),
    ("disentangling-vae", "rec_dist gaussian"): lambda x, y, mu, logvar: (
        F.mse_loss(y * 255, x * 255, reduction="sum") / 255 / len(x) + kl(mu, logvar).mean()
    ),
    ("PyTorch-VAE", "64x64 colour, training"): mean_mse_summed_kl(0.00025),
    ("PyTorch-VAE", "64x64 colour, validation"): mean_mse_summed_kl(1.0),
    ("lightning-bolts", "CIFAR-10, latent_dim 256 (default)"): mean_mse_mean_kl(0.1),
    ("lightning-bolts", "CIFAR-10, latent_dim 2"): mean_mse_mean_kl(0.1),
    ("disent", "loss_reduction mean, beta 0.001, z_size 25, 64x64 colour"): mean_mse_mean_kl(0.001),
    ("BS-VAE", "fixed arm, beta 0.01"): sse_beta_kl(1.0, 0.01),
    ("BS-VAE", "fixed arm, beta 1"): sse_beta_kl(1.0, 1.0),
    ("BS-VAE", "fixed arm, beta 100"): sse_beta_kl(1.0, 100.0),
    (
        "sigma-vae-pytorch",
        "mse_vae (its bad example), batch 128, 28x28 colour",
    ): mean_mse_total_kl,
}


@pytest.mark.parametrize("row", hidden_sigmas(), ids=lambda row: f"{row.peer}: {row.setting}")
def test_words_and_probe_agree_on_every_peer(row: HiddenSigma) -> None:
    batch = row.batch_size if "total" in row.kl else 2
    probed = audit(
        PEER_LOSSES[row.peer, row.setting],
        x_shape=(row.pixels,),
        latent_dim=row.latent_dim,
        batch_size=batch,
    )
    told = row.audit
    assert probed.sigma == pytest.approx(told.sigma, rel=1e-6)
    assert probed.beta_at_unit_sigma == pytest.approx(told.beta_at_unit_sigma, rel=1e-6)
    if told.missing_constant is not None:
        assert probed.missing_constant == pytest.approx(told.missing_constant, rel=1e-6)
    for name in ("kl_sign_ok", "kl_reduction", "recon_reduction", "is_elbo", "scale", "verdict",
                 "depends_on_batch", "depends_on_latent", "depends_on_image"):  # fmt: skip
        assert getattr(probed, name) == getattr(told, name), name


# --- correct bounds ---------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.05, 0.3, 2.0])
def test_a_complete_gaussian_elbo_is_recognised(sigma: float) -> None:
    found = look(with_kl(lambda x, y: -Normal(y, sigma).log_prob(x).flatten(1).sum(dim=1)))
    assert found.is_elbo
    assert found.sigma == pytest.approx(sigma, rel=1e-6)
    assert found.missing_constant == 0.0
    assert "every constant is included" in found.verdict


@pytest.mark.parametrize(
    ("recon", "family"),
    [
        (lambda x, y: -Laplace(y, 0.2).log_prob(x), "laplace"),
        (lambda x, y: F.binary_cross_entropy(y, x, reduction="none"), "bernoulli"),
        (lambda x, y: F.binary_cross_entropy_with_logits(y, x, reduction="none"), "bernoulli"),
        (lambda x, y: -ContinuousBernoulli(probs=y).log_prob(x), "continuous_bernoulli"),
        (lambda x, y: -ContinuousBernoulli(logits=y).log_prob(x), "continuous_bernoulli"),
    ],
    ids=["laplace", "bce", "bce logits", "cb", "cb logits"],
)
def test_other_families_are_recognised(
    recon: Callable[[Tensor, Tensor], Tensor], family: str
) -> None:
    found = look(with_kl(lambda x, y: recon(x, y).flatten(1).sum(dim=1)))
    assert found.family == family
    assert found.is_elbo
    assert found.missing_constant == pytest.approx(0.0, abs=1e-6)
    assert found.sigma == (pytest.approx(0.2) if family == "laplace" else None)


def test_the_dropped_constant_is_named() -> None:
    found = audit(HALF_SSE, x_shape=(1, 28, 28), latent_dim=8)
    assert found.is_elbo
    assert found.missing_constant == pytest.approx(392 * math.log(2 * math.pi), rel=1e-9)
    assert "per image, averaged over the batch; the constant 720.448 nats" in found.verdict
    assert (found.depends_on_batch, found.depends_on_latent, found.depends_on_image) == (
        False,
        False,
        False,
    )


def test_sum_over_the_batch_is_the_same_bound() -> None:
    found = look(lambda x, y, mu, logvar: (0.5 * sse(x, y) + kl(mu, logvar)).sum())
    assert found.is_elbo
    assert found.scale == "per image, summed over the batch"
    assert found.missing_constant == pytest.approx(PIXELS / 2 * math.log(2 * math.pi))


def test_a_wide_prior_is_an_elbo_too() -> None:
    found = look(
        with_latent(
            lambda mu, logvar: kl_divergence(
                Normal(mu, (logvar / 2).exp()), Normal(torch.zeros_like(mu), 3.0)
            ).sum(dim=1)
        )
    )
    assert found.is_elbo
    assert found.missing_constant == pytest.approx(PIXELS / 2 * math.log(2 * math.pi))
    assert any("prior N(0, s^2 I) with s = 3" in note for note in found.notes)


def test_a_kl_without_its_minus_one() -> None:
    found = look(
        with_kl(lambda x, y: -Normal(y, 1.0).log_prob(x).flatten(1).sum(dim=1) + LATENTS / 2)
    )
    assert found.missing_constant == pytest.approx(-LATENTS / 2)
    assert "the KL lacks its -1 per latent" in found.verdict


# --- losses that are written differently -------------------------------------------------------


def nll(density: Callable[[Tensor], torch.distributions.Distribution]) -> Loss:
    """The full negative ELBO of a decoder whose density is made from its output."""
    return with_kl(lambda x, y: -density(y).log_prob(x).flatten(1).sum(dim=1))


def logistic(location: Tensor, scale: float) -> torch.distributions.Distribution:
    return TransformedDistribution(
        Uniform(torch.zeros_like(location), 1.0),
        [SigmoidTransform().inv, AffineTransform(location, scale)],
    )


@pytest.mark.parametrize("scale", [0.03, 0.2, 1.5])
@pytest.mark.parametrize(
    ("family", "density"),
    [("logistic", logistic), ("student_t", lambda y, scale: StudentT(5.0, y, scale))],
)
def test_an_exact_density_of_another_family_is_an_elbo(
    family: str, density: Callable[..., torch.distributions.Distribution], scale: float
) -> None:
    found = look(nll(lambda y: density(y, scale)))
    assert (found.family, found.is_elbo) == (family, True)
    assert found.sigma == pytest.approx(scale, rel=1e-4)
    assert found.missing_constant == pytest.approx(0.0, abs=1e-3)
    doubled = look(
        lambda x, y, mu, lv: nll(lambda y: density(y, scale))(x, y, mu, lv) + kl(mu, lv).mean()
    )
    assert doubled.is_elbo is False
    assert "weighted by 2" in doubled.verdict


def test_what_is_not_recognised_is_not_called_wrong() -> None:
    cauchy = look(nll(lambda y: torch.distributions.Cauchy(y, 0.1)))
    assert cauchy.is_elbo is None
    assert cauchy.verdict.startswith("Not recognised")
    assert "is a negative ELBO            unknown" in cauchy.text()
    sampled = look(with_latent(lambda mu, lv: kl(mu, lv).clamp(min=1.0)))
    assert sampled.is_elbo is None


@pytest.mark.parametrize("delta", [0.3, 0.7, 0.9])
def test_huber_is_not_taken_for_a_gaussian(delta: float) -> None:
    loss = with_kl(lambda x, y: F.huber_loss(y, x, delta=delta, reduction="none").flatten(1).sum(1))
    found = look(loss)
    assert found.family is None
    assert found.is_elbo is None
    assert found.probed.startswith("up to 0.9")


def test_a_trainable_tensor_in_the_loss_is_reported() -> None:
    log_sigma = torch.tensor(-1.2, dtype=torch.float64, requires_grad=True)
    found = look(nll(lambda y: Normal(y, log_sigma.exp())))
    assert found.sigma == pytest.approx(math.exp(-1.2))
    (note,) = [each for each in found.notes if "trainable" in each]
    assert "now -1.2" in note
    assert "training changes it" in note
    assert not any("trainable" in each for each in look(HALF_SSE).notes)
    fixed = look(nll(lambda y: Normal(y, log_sigma.detach().exp())))
    assert not any("trainable" in each for each in fixed.notes)


def pytorch_example(recon_x: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    bce = F.binary_cross_entropy(recon_x, x.view(-1, PIXELS), reduction="sum")
    return bce - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())


def test_the_order_of_the_pytorch_example() -> None:
    found = look(pytorch_example, decoded_shape=(PIXELS,))
    assert (found.family, found.is_elbo) == ("bernoulli", True)
    assert any("loss(recon, x, mu, logvar), by the names" in note for note in found.notes)
    unnamed = look(lambda *values: pytorch_example(*values), decoded_shape=(PIXELS,))
    assert (unnamed.family, unnamed.is_elbo) == ("bernoulli", True)
    assert any("recognised if it is called as loss(recon, x" in note for note in unnamed.notes)
    told = look(pytorch_example, decoded_shape=(PIXELS,), order=("recon", "x", "mu", "logvar"))
    assert told.is_elbo
    assert not any("called as" in note for note in told.notes)


@pytest.mark.parametrize("role", ["std", "var", "logstd"])
def test_a_kl_of_a_standard_deviation_or_variance(role: str) -> None:
    def spread(value: Tensor) -> Tensor:
        return {"std": value, "var": value.sqrt(), "logstd": value.exp()}[role]

    def loss(x: Tensor, recon: Tensor, mu: Tensor, value: Tensor) -> Tensor:
        q, p = Normal(mu, spread(value)), Normal(torch.zeros_like(mu), 1.0)
        return (0.5 * sse(x, recon) + kl_divergence(q, p).sum(dim=1)).mean()

    found = look(loss, order=("x", "recon", "mu", role))
    assert (found.is_elbo, found.sigma) == (True, pytest.approx(1.0))
    named: dict[str, object] = {}
    exec(  # noqa: S102 -- the name of a parameter is what is tested
        f"def named(x, recon, mu, {role}): return loss(x, recon, mu, {role})", {"loss": loss}, named
    )
    assert look(named["named"]).is_elbo  # type: ignore[arg-type]  # a loss, as made above


def test_a_decoder_with_two_outputs() -> None:
    def loss(x: Tensor, recon: Tensor, recon_logvar: Tensor, mu: Tensor, lv: Tensor) -> Tensor:
        density = Normal(recon, (recon_logvar / 2).exp())
        return (-density.log_prob(x).flatten(1).sum(dim=1) + kl(mu, lv)).mean()

    found = look(loss)
    assert (found.family, found.is_elbo) == ("predicted", True)
    assert "predicted variance" in found.verdict
    with pytest.raises(AuditError, match="x, recon, recon_logvar, mu, logvar"):
        look(loss, decoded_shape=(2 * PIXELS,))
    incomplete = look(
        lambda x, y, s, mu, lv: loss(x, y, s, mu, lv) + 3.0,
        order=("x", "recon", "recon_logvar", "mu", "logvar"),
    )
    assert incomplete.missing_constant == pytest.approx(-3.0)


def test_further_arguments_are_asked_for_and_passed() -> None:
    def loss(recon_x: Tensor, x: Tensor, mu: Tensor, logvar: Tensor, kld_weight: float) -> Tensor:
        return (0.5 * sse(x, recon_x) + kld_weight * kl(mu, logvar)).mean()

    with pytest.raises(AuditError, match=r"kld_weight.*a number for each further argument"):
        look(loss)
    found = look(loss, order=("recon", "x", "mu", "logvar", 4.0))
    assert found.sigma == pytest.approx(2.0)
    with pytest.raises(AuditError, match="order must contain"):
        look(loss, order=("x", "mu", "logvar"))
    with pytest.raises(AuditError, match="order must contain"):
        look(loss, order=("x", "recon", "mu", "lgvar"))


def test_pixels_from_minus_one_to_one() -> None:
    found = look(HALF_SSE, pixel_range=(-1.0, 1.0))
    assert (found.sigma, found.is_elbo) == (pytest.approx(1.0), True)
    assert any("in [0, 1] the scale is 0.500" in note for note in found.notes)
    assert found.probed.startswith("up to 1.9")
    assert found.missing_constant == pytest.approx(PIXELS / 2 * math.log(2 * math.pi))
    mapped = look(
        with_kl(
            lambda x, y: (
                F.binary_cross_entropy((y + 1) / 2, (x + 1) / 2, reduction="none")
                .flatten(1)
                .sum(dim=1)
            )
        )
    )
    assert (mapped.family, mapped.is_elbo) == ("bernoulli", True)
    assert any("pixels from -1 to 1" in note for note in mapped.notes)
    with pytest.raises(AuditError, match="low < high"):
        look(HALF_SSE, pixel_range=(1.0, -1.0))


# --- what is no bound -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("term", "words", "sign_ok"),
    [
        (lambda mu, lv: -kl(mu, lv), "the KL has the wrong sign", False),
        (lambda mu, lv: kl(mu, 2 * lv), "log of the standard deviation", None),
        (lambda mu, lv: 0.5 * (mu.square() + lv.exp() + lv).sum(1), r"by 1, 1 and -1", False),
        (lambda mu, _lv: 0.5 * mu.square().sum(1), "by 1, 0 and 0", True),
        (lambda mu, lv: kl(mu, lv).clamp(min=2.0), "not built from mu", None),
        (lambda mu, lv: (kl(mu, lv) - 3.0).abs(), "not built from mu", None),
        (lambda mu, lv: kl(mu, lv).square(), "not built from mu", None),
        (lambda mu, lv: kl(mu[:, :1], lv[:, :1]), "not built from mu", None),
    ],
    ids=["sign", "log std", "logvar sign", "mu only", "free bits", "capacity", "square", "one"],
)
def test_a_wrong_latent_term(
    term: Callable[[Tensor, Tensor], Tensor], words: str, sign_ok: bool | None
) -> None:
    found = look(with_latent(term))
    assert not found.is_elbo
    assert found.sigma is None
    assert words in found.verdict
    assert found.kl_sign_ok is sign_ok


def test_a_loss_that_ignores_its_kl() -> None:
    found = look(lambda x, y, *_latent: F.mse_loss(y, x))
    assert not found.is_elbo
    assert found.kl_reduction == "absent"
    assert found.sigma == 0.0
    assert "the KL does not enter" in found.verdict
    assert "No gradient reaches mu, logvar." in found.notes


@pytest.mark.parametrize(
    ("recon", "words"),
    [
        (lambda x, y: F.smooth_l1_loss(y, x, beta=0.1, reduction="none"), "not a squared error"),
        (lambda x, y: (x - y).square() * torch.arange(1, y.shape[-1] + 1), "one weight for all"),
        (lambda x, y: 0 * (x - y), "the reconstruction does not enter"),
        (lambda x, y: -(x - y).square(), "error has the wrong sign"),
    ],
    ids=["huber", "weighted pixels", "none", "sign"],
)
def test_a_wrong_reconstruction(recon: Callable[[Tensor, Tensor], Tensor], words: str) -> None:
    found = look(with_kl(lambda x, y: recon(x, y).flatten(1).sum(dim=1)))
    assert not found.is_elbo
    assert found.sigma is None
    assert words in found.verdict


@pytest.mark.parametrize(
    ("recon", "fitted_to"),
    [
        (lambda x, y: PIXELS / 2 * sse(x, y).log(), "image"),
        (lambda x, y: PIXELS / 2 * (sse(x, y) / PIXELS + 1e-5).log(), "image"),
        (lambda x, y: PIXELS / 2 * F.mse_loss(y, x).log(), "batch"),
    ],
)
def test_a_sigma_fitted_to_what_is_scored(
    recon: Callable[[Tensor, Tensor], Tensor], fitted_to: str
) -> None:
    found = look(with_kl(recon))
    assert not found.is_elbo
    assert f"sigma is fitted to the same {fitted_to}" in found.verdict


def test_terms_that_are_multiplied_are_no_bound() -> None:
    found = look(lambda x, y, mu, lv: (sse(x, y).mean() + 1) * (kl(mu, lv).mean() + 1))
    assert not found.is_elbo
    assert "not simply added" in found.verdict


def test_kl_divided_by_the_batch_again() -> None:
    found = look(lambda x, y, mu, lv: 0.5 * sse(x, y).mean() + kl(mu, lv).mean() / len(x))
    assert found.depends_on_batch
    assert not found.is_elbo
    assert found.kl_reduction.endswith("mean over the batch, divided by the batch again")


# --- awkward functions ------------------------------------------------------------------------


def test_changes_in_place_are_told_and_do_no_harm() -> None:
    def loss(x: Tensor, decoded: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        return (0.5 * decoded.sub_(x).square().flatten(1).sum(dim=1) + kl(mu, logvar)).mean()

    found = look(loss)
    assert found.is_elbo
    assert "The loss changes its arguments in place: recon." in found.notes


def test_a_random_loss_is_told_and_leaves_the_generator_alone() -> None:
    before = torch.random.get_rng_state()
    found = look(lambda *arguments: HALF_SSE(*arguments) + torch.randn(()).double())
    assert any("The loss is random" in note for note in found.notes)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_loss_that_counts_its_calls_is_refused() -> None:
    calls = itertools.count()
    with pytest.raises(AuditError, match="equal calls with equal seeds gave"):
        look(lambda *arguments: HALF_SSE(*arguments) * (1 + next(calls)))


def test_a_detached_kl_is_told() -> None:
    found = look(lambda x, y, mu, logvar: HALF_SSE(x, y, mu.detach(), logvar.detach()))
    assert "No gradient reaches mu, logvar." in found.notes


def test_a_loss_without_gradient_is_told() -> None:
    found = look(torch.no_grad()(HALF_SSE))
    assert any("No gradient passes through the loss" in note for note in found.notes)


@pytest.mark.parametrize("cast", [True, False], ids=["casts", "holds parameters"])
def test_a_float32_loss_is_read_all_the_same(cast: bool) -> None:
    weight = torch.ones(PIXELS, 1, requires_grad=True)

    def loss(x: Tensor, decoded: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        if cast:
            return HALF_SSE(x.float(), decoded.float(), mu.float(), logvar.float())
        return HALF_SSE(x, decoded, mu, logvar) + 0 * (x.flatten(1) @ weight).sum()

    found = look(loss)
    assert found.is_elbo
    assert found.sigma == pytest.approx(1.0, rel=1e-4)
    assert any("probed in float32" in note for note in found.notes) != cast


def test_a_fixed_size_is_not_told_and_not_fatal() -> None:
    def loss(x: Tensor, decoded: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        recon = F.binary_cross_entropy(decoded, x.view(-1, PIXELS), reduction="sum")
        return recon - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())

    found = look(loss, decoded_shape=(PIXELS,))
    assert found.is_elbo
    assert found.depends_on_image is None
    assert "The loss refused another size of: image." in found.notes
    assert "depends on image size         unknown" in found.text()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            lambda x, y, mu, lv: HALF_SSE(x, y, mu, lv) * math.nan,
            "finite at ordinary points",
        ),
        (lambda x, y, mu, lv: HALF_SSE(x, y, mu, lv) + lv.log().sum(), "is a variance"),
        (lambda _x, _y, mu, lv: kl(mu, lv), r"returned a tensor of shape \(4,\). Sum or average"),
        (
            lambda _x, _y, mu, lv: torch.complex(kl(mu, lv).sum(), mu.sum()),
            "it returned torch.complex",
        ),
        (lambda *_: 1.5, "must return a scalar tensor; it returned a float"),
        (lambda *_: None, "it returned a NoneType"),
        (lambda *_: {"loss": 1, "kl": 2}, r"Return one of its entries \(loss, kl\)"),
        (lambda *_: (1, 2), "Return the one that is minimised"),
        (
            lambda x, _y, mu, _lv: x @ mu,
            "must accept x, recon, mu, logvar of shapes .*RuntimeError",
        ),
        (lambda x: x, "it raised TypeError"),
        (lambda *_: sys.exit(3), "it raised SystemExit"),
        ("mse", "must be a function"),
    ],
    ids=[
        "nan",
        "variance",
        "vector",
        "complex",
        "float",
        "none",
        "dict",
        "tuple",
        "raises",
        "arity",
        "leaves",
        "text",
    ],
)
def test_a_broken_loss_gets_a_sentence(loss: Loss, message: str) -> None:
    with pytest.raises(AuditError, match=message):
        look(loss)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dim": 0}, "whole numbers >= 1; got 0"),
        ({"x_shape": (1, True)}, "whole numbers >= 1; got True"),
        ({"x_shape": 784}, "A shape must be a tuple"),
        ({"x_shape": ()}, "one number per pixel"),
        ({"decoded_shape": (48,)}, r"one number per pixel of x; the shapes are \(48,\)"),
    ],
)
def test_bad_shapes_get_a_sentence(options: dict[str, object], message: str) -> None:
    with pytest.raises(AuditError, match=message):
        look(HALF_SSE, **options)


@pytest.mark.parametrize("shape", [(1,), (3, 2, 2)])
def test_one_pixel_one_latent_one_image(shape: tuple[int, ...]) -> None:
    found = audit(HALF_SSE, x_shape=shape, latent_dim=1, batch_size=1)
    assert found.is_elbo
    assert found.scale == "per image, averaged over the batch"


def test_a_loss_named_on_the_command_line_with_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "script_loss.py").write_text(
        "def loss(recon, x, mu, std, beta):\n"
        "    kl = 0.5 * (mu**2 + std**2 - 2 * std.log() - 1).sum(1)\n"
        "    return (0.5 * (x - recon).pow(2).flatten(1).sum(1) + beta * kl).mean()\n"
    )
    monkeypatch.chdir(tmp_path)
    found = audit_options(
        loss="script_loss:loss", pixels=64, latent=4, order="recon, x, mu, std, 0.25"
    )
    assert "sigma = 0.500" in found.verdict


def test_a_loss_named_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_loss.py").write_text(
        "def loss(x, decoded, mu, logvar):\n"
        "    recon = 255 * (x - decoded).pow(2).flatten(1).sum(1)\n"
        "    return (recon + 0.5 * (mu**2 + logvar.exp() - logvar - 1).sum(1)).mean()\n"
    )
    monkeypatch.chdir(tmp_path)
    found = audit_options(loss="my_own_loss:loss", pixels=64, latent=4)
    assert "sigma = 0.0443" in found.verdict
