"""The audit that the options of the command line ask for: a described loss, or a function."""

from vaebench.auditing.form import Audit
from vaebench.auditing.words import RECONSTRUCTIONS, audit_reductions
from vaebench.errors import AuditError
from vaebench.grid.user_code import load_function


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
    order: str | None = None,
    pixel_range: tuple[float, float] | None = None,
) -> Audit:
    """Return the audit that ``--recon ... --pixels ...`` or ``--loss module:function`` asks for.

    A function needs ``latent`` and ``x_shape`` (or ``pixels``, for flat images), a description
    needs ``recon`` and ``pixels``.

    Raises:
        AuditError: something is missing or wrong.
        UserCodeError: the function cannot be imported.
    """
    if (recon is None) == (loss is None):
        raise AuditError("Describe the loss with --recon, or name it with --loss; one of the two.")
    if loss is not None:
        from vaebench.auditing.probe import audit

        shape = x_shape or ((pixels,) if pixels is not None else None)
        if shape is None or latent is None:
            raise AuditError("--loss needs --latent and the image's shape (--x-shape or --pixels).")
        return audit(
            load_function(loss),
            x_shape=shape,
            latent_dim=latent,
            batch_size=batch or 4,
            order=None if order is None else [_entry(word.strip()) for word in order.split(",")],
            pixel_range=pixel_range,
        )
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


def _entry(word: str) -> str | float:
    try:
        return float(word)
    except ValueError:
        return word
