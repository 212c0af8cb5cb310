"""The sigma that the losses of well-known VAE code imply.

`peers.toml` describes how each library reduces and weights its loss; `audit_reductions` computes
sigma from this description.
"""

import tomllib
from dataclasses import dataclass, fields
from functools import cached_property
from importlib import resources
from typing import Any

from vaebench.auditing.form import Audit
from vaebench.auditing.words import audit_reductions


@dataclass(frozen=True)
class HiddenSigma:
    """The Gaussian loss of one library, as described in `peers.toml`.

    The fields from `recon` to `kl_weight` are arguments of `audit_reductions`.
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
        """Audit of the described loss."""
        described: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        for name in ("peer", "setting", "formula", "source"):
            del described[name]
        return audit_reductions(**described)

    @property
    def sigma(self) -> float:
        """Effective sigma in pixel units of the loss."""
        sigma = self.audit.sigma
        if sigma is None:
            raise ValueError(f"the loss of {self.peer} must have a sigma; {self.audit.verdict}")
        return sigma

    @property
    def moves_with(self) -> tuple[str, ...]:
        """Sizes on which sigma depends: batch size, latent dimension, image size."""
        sizes = {"batch": "batch size", "latent": "latent dimension", "image": "image size"}
        return tuple(n for size, n in sizes.items() if getattr(self.audit, f"depends_on_{size}"))


def hidden_sigmas() -> list[HiddenSigma]:
    """Return the losses of `peers.toml`: the default of each library, or a named setting."""
    text = resources.files("vaebench.auditing").joinpath("peers.toml").read_text("utf-8")
    return [HiddenSigma(**loss) for loss in tomllib.loads(text)["loss"]]
