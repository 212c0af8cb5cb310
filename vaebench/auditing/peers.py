"""The sigma that well-known VAE code sets by its reductions alone.

Each row states how a library's own loss is reduced and weighted, as read in the file named in its
source; its sigma is computed from these words by `audit_reductions`, never typed in.
"""

from dataclasses import dataclass
from functools import cached_property

from vaebench.auditing.form import Audit
from vaebench.auditing.words import audit_reductions

__all__ = ["HiddenSigma", "hidden_sigmas"]


@dataclass(frozen=True)
class HiddenSigma:
    """The Gaussian loss of one library, in the terms of `audit_reductions`.

    ``pixels``, ``latent_dim`` and ``batch_size`` are those of ``setting``; ``formula`` is the loss
    per image with SSE the squared error summed over pixels and KL summed over latents.
    """

    peer: str
    setting: str
    formula: str
    source: str
    recon: str
    kl: str
    pixels: int
    latent_dim: int
    batch_size: int
    recon_weight: float = 1.0
    kl_weight: float = 1.0

    @cached_property
    def audit(self) -> Audit:
        """The audit of this description."""
        return audit_reductions(
            self.recon,
            self.kl,
            kl_weight=self.kl_weight,
            recon_weight=self.recon_weight,
            pixels=self.pixels,
            latent_dim=self.latent_dim,
            batch_size=self.batch_size,
        )

    @property
    def sigma(self) -> float:
        """The effective sigma, in units of the pixel that the loss sees."""
        sigma = self.audit.sigma
        if sigma is None:
            raise ValueError(f"{self.peer} has no sigma: {self.audit.verdict}")
        return sigma

    @property
    def moves_with(self) -> tuple[str, ...]:
        """The sizes on which this sigma depends: batch size, latent dimension, image size."""
        audit = self.audit
        moves = {
            "batch size": audit.depends_on_batch,
            "latent dimension": audit.depends_on_latent,
            "image size": audit.depends_on_image,
        }
        return tuple(name for name, moving in moves.items() if moving)


_MNIST = {"pixels": 784, "latent_dim": 16, "batch_size": 64}
_COLOUR_64 = {"pixels": 12288, "latent_dim": 128, "batch_size": 64}
_BS_BETAS = (0.01, 1.0, 100.0)


def hidden_sigmas() -> list[HiddenSigma]:
    """Return the default of every known library, or a named setting."""
    return [
        HiddenSigma(
            "pythae", "mse, from v0.1.2", "SSE/2 + KL",
            "clementchadebec/benchmark_VAE, models/vae/vae_model.py",
            "half-sse", "sum", **_MNIST,
        ),
        HiddenSigma(
            "pythae", "mse, up to v0.1.1", "SSE + KL",
            "clementchadebec/benchmark_VAE, models/vae/vae_model.py at v0.1.1",
            "mse-sum", "sum", **_MNIST,
        ),
        HiddenSigma(
            "disentanglement_lib", "l2_loss", "SSE + KL",
            "google-research/disentanglement_lib, methods/shared/losses.py",
            "mse-sum", "sum", pixels=4096, latent_dim=10, batch_size=64,
        ),
        HiddenSigma(
            "kianzohoury/VAE", "kl_weight 1", "SSE + KL",
            "kianzohoury/VAE, train.py", "mse-sum", "sum", **_MNIST,
        ),
        HiddenSigma(
            "disentangling-vae", "rec_dist gaussian", "255 SSE + KL",
            "YannDubs/disentangling-vae, disvae/models/losses.py",
            "mse-sum", "sum", pixels=4096, latent_dim=10, batch_size=64, recon_weight=255.0,
        ),
        HiddenSigma(
            "PyTorch-VAE", "64x64 colour, training", "SSE/D + 0.00025 KL",
            "AntixK/PyTorch-VAE, models/vanilla_vae.py and configs/vae.yaml",
            "mse-mean", "sum", kl_weight=0.00025, **_COLOUR_64,
        ),
        HiddenSigma(
            "PyTorch-VAE", "64x64 colour, validation", "SSE/D + KL",
            "AntixK/PyTorch-VAE, experiment.py (M_N = 1)",
            "mse-mean", "sum", **_COLOUR_64,
        ),
        HiddenSigma(
            "lightning-bolts", "CIFAR-10, latent_dim 256 (default)", "SSE/D + 0.1 KL/L",
            "Lightning-Universe/lightning-bolts, basic_vae_module.py",
            "mse-mean", "mean", pixels=3072, latent_dim=256, batch_size=256, kl_weight=0.1,
        ),
        HiddenSigma(
            "lightning-bolts", "CIFAR-10, latent_dim 2", "SSE/D + 0.1 KL/L",
            "Lightning-Universe/lightning-bolts, basic_vae_module.py",
            "mse-mean", "mean", pixels=3072, latent_dim=2, batch_size=256, kl_weight=0.1,
        ),
        HiddenSigma(
            "disent", "loss_reduction mean, beta 0.001, z_size 25, 64x64 colour",
            "SSE/D + beta KL/L",
            "nmichlo/disent, experiment/config/config.yaml and nn/loss/reduction.py",
            "mse-mean", "mean", pixels=12288, latent_dim=25, batch_size=256, kl_weight=0.001,
        ),
        *(
            HiddenSigma(
                "BS-VAE", f"fixed arm, beta {beta:g}", "SSE + beta KL",
                "overnap/BS-VAE, model.py", "mse-sum", "sum",
                pixels=12288, latent_dim=64, batch_size=64, kl_weight=beta,
            )
            for beta in _BS_BETAS
        ),
        HiddenSigma(
            "sigma-vae-pytorch", "mse_vae (its bad example), batch 128, 28x28 colour",
            "SSE/(B D) + KL, KL summed over the batch",
            "orybkin/sigma-vae-pytorch, model.py",
            "mse-mean", "total", pixels=2352, latent_dim=20, batch_size=128,
        ),
    ]  # fmt: skip
