"""The VAE: networks that return distributions, and the bound computed from them.

Every tensor carries a leading *pack* dimension ``P``: the number of cells that are trained as one
program (usually 1). With ``S`` draws of the latent code, ``B`` images, ``Z`` latent dimensions and
``D`` pixels the shapes are ``x (P, B, D)``, ``noise`` and ``z (P, S, B, Z)``, log-probabilities
``(P, S, B)`` in nats, summed over pixels.
"""
