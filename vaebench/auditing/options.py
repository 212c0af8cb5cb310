"""From words on a command line to an audit: reductions, or the name of a Python function."""

from typing import TYPE_CHECKING

from vaebench.auditing.form import Audit
from vaebench.auditing.words import RECONSTRUCTIONS, audit_reductions
from vaebench.errors import AuditError, UserCodeError
from vaebench.grid.user_code import load_function

if TYPE_CHECKING:
    from vaebench.auditing.probe import Loss

__all__ = ["audit_options", "load_loss"]


def audit_options(
    *,
    recon: str | None = None,
    kl: str = "sum",
    kl_weight: float = 1.0,
    recon_weight: float = 1.0,
    pixels: int | None = None,
    latent: int | None = None,
    batch: int | None = None,
    sigma: float | None = None,
    loss: str | None = None,
    x_shape: tuple[int, ...] | None = None,
) -> Audit:
    """The audit that ``--recon ... --pixels ...`` or ``--loss module:function`` asks for.

    A loss needs ``latent`` and ``x_shape`` (or ``pixels``, for flat images); words need ``recon``
    and ``pixels``. Raises `AuditError` for anything missing or wrong.
    """
    if (recon is None) == (loss is None):
        raise AuditError("Describe the loss with --recon, or name it with --loss; one of the two.")
    if loss is not None:
        shape = x_shape or ((pixels,) if pixels is not None else None)
        if shape is None or latent is None:
            raise AuditError("--loss needs --latent and the image's shape (--x-shape or --pixels).")
        return _audit_named(loss, shape, latent, batch)
    if pixels is None and recon in RECONSTRUCTIONS:
        raise AuditError("--recon needs the number of pixels of an image (--pixels).")
    return audit_reductions(
        recon or "",
        kl,
        kl_weight=kl_weight,
        recon_weight=recon_weight,
        pixels=pixels or 0,
        latent_dim=latent,
        batch_size=batch,
        sigma=sigma,
    )


def _audit_named(name: str, x_shape: tuple[int, ...], latent: int, batch: int | None) -> Audit:
    from vaebench.auditing.probe import audit

    return audit(load_loss(name), x_shape=x_shape, latent_dim=latent, batch_size=batch or 4)


def load_loss(name: str) -> "Loss":
    """The function that ``module:function`` names; the working folder is searched too.

    Raises `AuditError` when the name is malformed, the module cannot be imported or has no such
    function.
    """
    try:
        loss: Loss = load_function(name)
    except UserCodeError as error:
        raise AuditError(f"The loss can't be had: {error}.") from error
    return loss
