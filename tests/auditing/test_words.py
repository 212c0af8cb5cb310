"""Audits from words: sigma, constants and verdicts against hand-derived values."""

import math
import subprocess
import sys

import pytest

from vaebench.auditing import audit_options, audit_reductions, hidden_sigmas
from vaebench.auditing.words import KL_REDUCTIONS, RECONSTRUCTIONS
from vaebench.errors import AuditError, UsageError

# What peers' losses amount to, derived by hand: sigma^2 = b / (2 a) for L = a SSE + b KL.
PUBLISHED = [
    ("pythae", "mse, from v0.1.2", "1.000"),
    ("pythae", "mse, up to v0.1.1", "0.707"),
    ("disentanglement_lib", "l2_loss", "0.707"),
    ("kianzohoury/VAE", "kl_weight 1", "0.707"),
    ("disentangling-vae", "rec_dist gaussian", "0.0443"),
    ("PyTorch-VAE", "64x64 colour, training", "1.24"),
    ("PyTorch-VAE", "64x64 colour, validation", "78.4"),
    ("lightning-bolts", "CIFAR-10, latent_dim 256 (default)", "0.775"),
    ("lightning-bolts", "CIFAR-10, latent_dim 2", "8.76"),
    ("BS-VAE", "fixed arm, beta 0.01", "0.0707"),
    ("BS-VAE", "fixed arm, beta 100", "7.07"),
    ("sigma-vae-pytorch", "mse_vae (its bad example), batch 128, 28x28 colour", "388"),
]


@pytest.mark.parametrize(("peer", "setting", "printed"), PUBLISHED)
def test_hidden_sigma_is_the_published_one(peer: str, setting: str, printed: str) -> None:
    (row,) = [r for r in hidden_sigmas() if (r.peer, r.setting) == (peer, setting)]
    digits = len(printed.lstrip("0.").replace(".", ""))
    assert float(f"{row.sigma:.{digits}g}") == float(printed)
    assert f" = {printed}" in row.audit.verdict
    assert f"effective sigma               {printed}\n" in row.audit.text()


def test_disent_follows_its_formula() -> None:
    (row,) = [r for r in hidden_sigmas() if r.peer == "disent"]
    assert row.sigma == pytest.approx(math.sqrt(0.001 * row.pixels / (2 * row.latent_dim)))


def test_what_moves_a_hidden_sigma() -> None:
    moves = {(row.peer, row.setting.split(",")[0]): set(row.moves_with) for row in hidden_sigmas()}
    assert moves["pythae", "mse"] == set()
    assert moves["PyTorch-VAE", "64x64 colour"] == {"image size"}
    assert moves["lightning-bolts", "CIFAR-10"] == {"latent dimension", "image size"}
    assert moves["sigma-vae-pytorch", "mse_vae (its bad example)"] == {"batch size", "image size"}


def test_sigmas_span_four_orders_of_magnitude() -> None:
    sigmas = [row.sigma for row in hidden_sigmas()]
    assert 1e3 < max(sigmas) / min(sigmas) < 1e4


@pytest.mark.parametrize(
    ("recon", "sigma", "missing", "is_elbo"),
    [
        ("half-sse", None, 720.448, True),
        ("mse-sum", None, 392 * math.log(math.pi), True),
        ("gaussian-nll", 0.1, 0.0, True),
        ("gaussian-nll", 3.0, 0.0, True),
        ("laplace-nll", 0.2, 0.0, True),
        # There the normaliser is 0: none is missing, whether it is written or not.
        ("laplace-nll", 0.5, 0.0, True),
        ("l1-sum", None, 784 * math.log(2), True),
        ("bce-sum", None, 0.0, True),
        ("half-sse-total", None, None, False),
        ("mse-mean", None, 392 * math.log(2 * math.pi * 392), True),
    ],
)
def test_constant_and_verdict(
    recon: str, sigma: float | None, missing: float | None, is_elbo: bool
) -> None:
    audit = audit_reductions(recon, pixels=784, sigma=sigma, batch_size=64)
    assert audit.is_elbo is is_elbo
    assert (audit.missing_constant is None) == (missing is None)
    if missing is not None:
        assert audit.missing_constant == pytest.approx(missing, abs=1e-3)


def test_verdict_of_half_sse() -> None:
    assert audit_reductions("half-sse", pixels=784).verdict == (
        "This is the negative ELBO of a Gaussian decoder with sigma = 1.000, per image, "
        "averaged over the batch; the constant 720.448 nats is left out."
    )


def test_sum_over_the_batch_of_both_terms_is_an_elbo() -> None:
    audit = audit_reductions("half-sse-total", "total", pixels=784)
    assert audit.is_elbo
    assert audit.scale == "per image, summed over the batch"
    assert audit.sigma == pytest.approx(1.0)
    assert audit.missing_constant == pytest.approx(720.448, abs=1e-3)


def test_kl_divided_by_the_batch_is_no_elbo_of_one_model() -> None:
    audit = audit_reductions("half-sse-total", "sum", pixels=784, batch_size=100)
    assert audit.depends_on_batch
    assert not audit.is_elbo
    assert audit.sigma == pytest.approx(0.1)
    assert "not the ELBO of one model: at batch size 100" in audit.verdict


@pytest.mark.parametrize("beta", [0.5, 4.0])
def test_beta_is_told_from_sigma_by_the_normaliser(beta: float) -> None:
    proper = audit_reductions("gaussian-nll", sigma=0.1, kl_weight=beta, pixels=784)
    assert "beta-VAE objective" in proper.verdict
    assert proper.sigma == pytest.approx(0.1 * math.sqrt(beta))
    bernoulli = audit_reductions("bce-sum", kl_weight=beta, pixels=784)
    assert not bernoulli.is_elbo
    assert bernoulli.sigma is None
    assert bernoulli.beta_at_unit_sigma == pytest.approx(beta)


def test_a_common_factor_changes_the_number_and_not_the_optimum() -> None:
    audit = audit_reductions("half-sse", recon_weight=3.0, kl_weight=3.0, pixels=784)
    assert audit.sigma == pytest.approx(1.0)
    assert not audit.is_elbo
    assert audit.verdict.startswith("This is not an ELBO in nats, but 3 times the negative ELBO")


@pytest.mark.parametrize(("kl_weight", "words"), [(0.0, "plain autoencoder"), (-1.0, "wrong sign")])
def test_a_kl_that_does_not_pull(kl_weight: float, words: str) -> None:
    audit = audit_reductions("mse-sum", kl_weight=kl_weight, pixels=784)
    assert not audit.is_elbo
    assert audit.kl_sign_ok is not True
    assert words in audit.verdict


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recon": "mse"}, "reconstruction must be one of mse-mean.*; got 'mse'"),
        ({"recon": "mse-sum", "kl": "avg"}, "KL reduction must be one of .*; got 'avg'"),
        ({"recon": "mse-sum", "kl": "mean"}, "latent_dim must be given"),
        ({"recon": "mse-total"}, "batch_size must be given"),
        ({"recon": "mse-sum", "pixels": 0}, "pixels must be a whole number of at least 1"),
        ({"recon": "mse-sum", "pixels": True}, "pixels must be a whole number"),
        ({"recon": "mse-sum", "kl_weight": math.nan}, "kl_weight must be a finite number"),
        ({"recon": "mse-sum", "recon_weight": 0.0}, "recon_weight must be positive"),
        ({"recon": "mse-sum", "sigma": 1.0}, "sigma must not be given"),
        ({"recon": "gaussian-nll"}, "sigma must be given"),
        ({"recon": "gaussian-nll", "sigma": -1.0}, "sigma must be positive"),
    ],
)
def test_bad_words_get_a_sentence(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(AuditError, match=message):
        audit_reductions(**{"pixels": 784, **arguments})


@pytest.mark.parametrize("recon", RECONSTRUCTIONS)
@pytest.mark.parametrize("kl", KL_REDUCTIONS)
def test_every_pair_of_words_has_an_audit(recon: str, kl: str) -> None:
    sigma = 0.3 if recon.endswith(("nll", "nll-mean")) else None
    audit = audit_reductions(recon, kl, pixels=64, latent_dim=8, batch_size=16, sigma=sigma)
    assert audit.verdict.endswith(".")
    assert audit.recon_reduction.startswith("mean" if "-mean" in recon else "sum")
    assert audit.kl_reduction.startswith("mean" if kl.startswith("mean") else "sum")
    assert ("sum over the batch" in audit.kl_reduction) == kl.endswith("total")


class TestOptions:
    def test_the_well_known_setting(self) -> None:
        audit = audit_options(
            recon="mse-mean", kl="sum", kl_weight=0.00025, pixels=12288, latent=128
        )
        lines = audit.text().splitlines()
        assert "effective sigma               1.24" in lines
        assert "is a negative ELBO            no" in lines

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "got neither"),
            ({"recon": "mse-sum", "loss": "m:f"}, "got both"),
            ({"recon": "mse-sum"}, "must be used with --pixels"),
            ({"loss": "m:f", "pixels": 4}, "--loss must be used with --latent"),
            ({"loss": "m", "pixels": 4, "latent": 2}, "given as module:function; got 'm'"),
            ({"loss": "nosuch_module:f", "pixels": 4, "latent": 2}, "nosuch_module cannot be"),
            ({"loss": "math:nosuch", "pixels": 4, "latent": 2}, "math has no function 'nosuch'"),
        ],
    )
    def test_incomplete_options(self, options: dict[str, object], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            audit_options(**options)


def test_reading_words_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from vaebench.auditing import audit_reductions, hidden_sigmas\n"
        "print(round(max(row.sigma for row in hidden_sigmas())))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "388\n"


def test_a_loss_summed_over_the_batch_is_an_elbo_per_image() -> None:
    """Both terms are sums over 64 images, so the weight of the KL is 64, and 1 per image."""
    audit = audit_reductions("half-sse-total", "total", pixels=784, latent_dim=8, batch_size=64)
    assert audit.is_elbo
    assert audit.scale == "per image, summed over the batch"
