"""Effective sigma and beta of any VAE loss, its missing constants, and whether it is an ELBO.

Importing this needs no torch; `vaebench.auditing.probe`, which calls a Python function, does. (The
package is not called ``audit``: that is the function, `vaebench.audit`.)
"""

from vaebench.auditing.form import Audit
from vaebench.auditing.options import audit_options
from vaebench.auditing.peers import HiddenSigma, hidden_sigmas
from vaebench.auditing.words import KL_REDUCTIONS, RECONSTRUCTIONS, audit_reductions

__all__ = [
    "KL_REDUCTIONS",
    "RECONSTRUCTIONS",
    "Audit",
    "HiddenSigma",
    "audit_options",
    "audit_reductions",
    "hidden_sigmas",
]
