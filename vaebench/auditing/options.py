"""Audit a described loss or a Python function, with the options of `vaebench audit`."""

from typing import Any

from vaebench.auditing.form import Audit
from vaebench.auditing.words import RECONSTRUCTIONS, audit_reductions
from vaebench.errors import AuditError
from vaebench.grid.user_code import load_function


def audit_options(
    *,
    recon: str | None = None,
    loss: str | None = None,
    pixels: int | None = None,
    latent: int | None = None,
    batch: int | None = None,
    x_shape: tuple[int, ...] | None = None,
    order: str | None = None,
    pixel_range: tuple[float, float] | None = None,
    **weights: Any,
) -> Audit:
    """Audit the loss given by ``--recon ... --pixels ...`` or by ``--loss module:function``.

    Args:
        recon: name of the reconstruction term of a described loss, which also needs ``pixels``.
        loss: a Python function, which also needs ``latent``, and ``x_shape`` or ``pixels``.
        pixels, latent, batch: pixels per image, latent dimensions, images per batch.
        x_shape, order, pixel_range: arguments of `vaebench.auditing.probe.audit`.
        weights: further arguments of `audit_reductions`, for a described loss.

    Raises:
        AuditError: an option is missing or wrong.
        UserCodeError: the function cannot be imported.
    """
    if (recon is None) == (loss is None):
        raise AuditError(
            "The loss must be given either by --recon or by --loss; got "
            f"{'neither' if loss is None else 'both'}."
        )
    if loss is not None:
        from vaebench.auditing.probe import audit

        shape = x_shape or ((pixels,) if pixels is not None else None)
        if shape is None or latent is None:
            raise AuditError(
                "--loss must be used with --latent and with the shape of an image; "
                f"got no {'--latent' if latent is None else '--x-shape or --pixels'}."
            )
        return audit(
            load_function(loss),
            x_shape=shape,
            latent_dim=latent,
            batch_size=batch or 4,
            order=None if order is None else [_entry(word.strip()) for word in order.split(",")],
            pixel_range=pixel_range,
        )
    if pixels is None and recon in RECONSTRUCTIONS:
        raise AuditError("--recon must be used with --pixels, the pixels per image; got none.")
    return audit_reductions(
        recon or "", pixels=pixels or 0, latent_dim=latent, batch_size=batch, **weights
    )


def _entry(word: str) -> str | float:
    try:
        return float(word)
    except ValueError:
        return word
