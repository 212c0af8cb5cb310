"""The sigma that well-known VAE code sets by its reductions alone.

`peers.toml` states how each library's own loss is reduced and weighted; its sigma is computed from
these words by `audit_reductions`, never typed in.
"""

import tomllib
from dataclasses import dataclass
from functools import cached_property
from importlib import resources

from vaebench.auditing.form import Audit
from vaebench.auditing.words import audit_reductions


@dataclass(frozen=True)
class HiddenSigma:
    """The Gaussian loss of one library, in the terms of `audit_reductions`.

    The fields are those of `peers.toml`, which describes them.
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


def hidden_sigmas() -> list[HiddenSigma]:
    """Return the default of every known library, or a named setting."""
    text = resources.files("vaebench.auditing").joinpath("peers.toml").read_text("utf-8")
    return [HiddenSigma(**loss) for loss in tomllib.loads(text)["loss"]]
