"""The spectrum of the covariance of the codes, which shows in how many directions they vary.

A count of active units depends on its threshold if the variances of many units are near it. The
spectrum and its effective rank have no threshold.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vaebench.records.schema import Metric, Note

SPECTRUM_IMAGES = 2_000
"""The largest number of test images for the covariance; the first ones are used."""


def code_spectrum(codes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the eigenvalues of the covariance (with 1/n) of codes ``(n, Z)``, largest first.

    Returns:
        ``(min(n, Z),)``; the other eigenvalues are zero. Empty if a code is not finite.
    """
    if not np.isfinite(codes).all():
        return np.empty(0)
    centred = codes.astype(np.float64)
    centred -= centred.mean(0)
    # Both products have the same non-zero eigenvalues; the smaller product is computed.
    wide = codes.shape[1] > len(codes)
    product = centred @ centred.T if wide else centred.T @ centred
    return np.asarray(np.linalg.eigvalsh(product / len(codes))[::-1].clip(min=0.0))


def effective_rank(spectrum: NDArray[np.float64], images: int) -> Metric:
    """Return (tr C)^2 / tr C^2 from the eigenvalues of C, also known as the participation ratio.

    It is between 1 and the number of latent dimensions. Codes that vary equally in r directions
    have rank r.
    """
    if not len(spectrum):
        return Metric.absent("effective_rank", Note.of("not_finite", "the codes are not finite"))
    if not spectrum[0] > 0:
        reason = Note.of("collapsed", "the posterior has collapsed: one code for all")
        return Metric.absent("effective_rank", reason)
    shares = spectrum / spectrum.sum()
    return Metric.measured("effective_rank", float(1 / np.square(shares).sum()), n=images)
