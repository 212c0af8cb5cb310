"""Audit a VAE loss: its effective sigma and beta, missing constants, and whether it is an ELBO.

A loss is either described in words (`vaebench.auditing.words`) or called as a Python function
(`vaebench.auditing.probe`). Only the second needs torch, so it is not imported here.
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
