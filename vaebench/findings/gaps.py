"""The posterior gap of a small VAE, split into amortisation gap and approximation gap.

A VAE with two latents and one tanh layer in encoder and decoder is trained on binarised digits of
scikit-learn. With two latents log p(x) is a two-dimensional integral, so both parts are exact apart
from the sampling noise of the ELBO. The amortisation gap is the gain in ELBO when q is optimised
for each image; the remaining gap is the approximation gap. Source: Cremer et al. 2018, Sec. 2.

Gradients are written out because this package does not import torch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logsumexp

from vaebench.findings.finding import Measured, Method
from vaebench.truth.images import Floats

_HIDDEN, _LATENTS, _PIXELS = 32, 2, 64
_SHAPES = (
    (_PIXELS + 1, _HIDDEN),  # encoder; the last row of each matrix is its bias
    (_HIDDEN + 1, 2 * _LATENTS),  # mean and log variance
    (_LATENTS + 1, _HIDDEN),  # decoder
    (_HIDDEN + 1, _PIXELS),  # logits
)


def _affine(x: Floats, weights: Floats) -> Floats:
    return np.asarray(x @ weights[:-1] + weights[-1])


def _weight_gradient(x: Floats, gradient: Floats) -> Floats:
    """Return the gradient with respect to weights and bias of an affine map.

    Args:
        x: inputs of the map.
        gradient: gradient with respect to its outputs.
    """
    return np.concatenate([x.T @ gradient, gradient.sum(0, keepdims=True)])


@dataclass(frozen=True)
class SmallVAE:
    """A VAE with Bernoulli pixels and prior N(0, I): two matrices each for encoder and decoder."""

    weights: tuple[Floats, ...]

    @classmethod
    def of(cls, flat: Floats) -> "SmallVAE":
        """Make a model from a flat vector of all weights."""
        ends = np.cumsum([rows * columns for rows, columns in _SHAPES])[:-1]
        return cls(tuple(w.reshape(s) for w, s in zip(np.split(flat, ends), _SHAPES, strict=True)))

    def encode(self, x: Floats) -> Floats:
        """Return mean and log variance of q(z|x), ``(N, 4)``."""
        return _affine(np.tanh(_affine(x, self.weights[0])), self.weights[1])

    def decode(self, z: Floats) -> tuple[Floats, Floats]:
        """Return the hidden layer ``(..., 32)`` and the logits ``(..., 64)`` for z ``(..., 2)``."""
        hidden = np.tanh(_affine(z, self.weights[2]))
        return hidden, _affine(hidden, self.weights[3])

    def log_likelihood(self, x: Floats, z: Floats) -> Floats:
        """Return log p(x|z) in nats, summed over pixels; ``x (..., 64)``, ``z (..., 2)``."""
        logits = self.decode(z)[1]
        return np.asarray((x * logits - np.logaddexp(0, logits)).sum(axis=-1))

    def elbo(self, x: Floats, q: Floats, noise: Floats) -> tuple[Floats, Floats, list[Floats]]:
        """Return the ELBO of each image, and the gradients of its sum over images.

        Args:
            x: images, ``(N, 64)``.
            q: means and log variances of the posterior of each image, ``(N, 4)``.
            noise: standard normal numbers, ``(S, N, 2)``.

        Returns:
            The ELBO ``(N,)`` in nats, its gradient with respect to ``q``, and its gradients with
            respect to the two matrices of the decoder.
        """
        mean, log_variance = q[:, :_LATENTS], q[:, _LATENTS:]
        deviation = np.exp(log_variance / 2)
        z = (mean + deviation * noise).reshape(-1, _LATENTS)
        hidden, logits = self.decode(z)
        pixels = np.tile(x, (len(noise), 1))
        likelihood = (pixels * logits - np.logaddexp(0, logits)).sum(axis=1)
        kl = 0.5 * (deviation**2 + mean**2 - 1 - log_variance).sum(axis=1)
        elbo = likelihood.reshape(len(noise), -1).mean(axis=0) - kl
        of_logits = (pixels - expit(logits)) / len(noise)
        of_hidden = (of_logits @ self.weights[3][:-1].T) * (1 - hidden**2)
        of_z = (of_hidden @ self.weights[2][:-1].T).reshape(noise.shape)
        of_log_variance = (of_z * noise).sum(0) * deviation / 2 - (deviation**2 - 1) / 2
        of_q = np.concatenate([of_z.sum(0) - mean, of_log_variance], axis=1)
        return elbo, of_q, [_weight_gradient(z, of_hidden), _weight_gradient(hidden, of_logits)]

    def gradient(self, x: Floats, noise: Floats) -> tuple[float, Floats]:
        """Return the mean ELBO of images, and its gradient with respect to all weights."""
        hidden = np.tanh(_affine(x, self.weights[0]))
        elbo, of_q, of_decoder = self.elbo(x, _affine(hidden, self.weights[1]), noise)
        of_hidden = (of_q @ self.weights[1][:-1].T) * (1 - hidden**2)
        every = [_weight_gradient(x, of_hidden), _weight_gradient(hidden, of_q), *of_decoder]
        return float(elbo.mean()), np.concatenate([g.ravel() for g in every]) / len(x)

    def log_evidence(self, x: Floats, width: float = 6.0, points: int = 121) -> Floats:
        """Return log p(x) of each image in nats, by the trapezoidal rule on a square grid."""
        line = np.linspace(-width, width, points)
        z = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, _LATENTS)
        log_prior = -0.5 * (z**2).sum(axis=1) - np.log(2 * np.pi)
        cell = 2 * np.log(line[1] - line[0])
        each = [logsumexp(self.log_likelihood(image, z) + log_prior) + cell for image in x]
        return np.array(each)


def _maximise(function: Callable[[Floats], tuple[float, Floats]], start: Floats, n: int) -> Floats:
    """Maximise a function that returns its value and gradient, by n iterations of L-BFGS."""

    def negative(flat: Floats) -> tuple[float, Floats]:
        value, gradient = function(flat)
        return -value, -gradient

    found = minimize(negative, start, jac=True, method="L-BFGS-B", options={"maxiter": n})
    return np.asarray(found.x)


def split_gap(steps: int = 200, images: int = 100) -> dict[str, float]:
    """Train the small VAE; return its ELBO, the ELBO of optimised q, and log p(x).

    All three are means over the first `images` training images, in nats.
    """
    from sklearn.datasets import load_digits

    x = (np.asarray(load_digits().data, np.float64) > 8).astype(np.float64)
    rng = np.random.default_rng(13)
    start = np.concatenate([(rng.normal(size=s) / np.sqrt(s[0])).ravel() for s in _SHAPES])
    noise = rng.standard_normal((4, len(x), _LATENTS))
    model = SmallVAE.of(_maximise(lambda w: SmallVAE.of(w).gradient(x, noise), start, steps))
    few, noise = x[:images], rng.standard_normal((64, images, _LATENTS))

    def of_codes(flat: Floats) -> tuple[float, Floats]:
        elbo, of_q, _ = model.elbo(few, flat.reshape(images, -1), noise)
        return float(elbo.sum()), of_q.ravel()

    encoded = model.encode(few)
    local = _maximise(of_codes, encoded.ravel(), steps).reshape(images, -1)
    fresh = rng.standard_normal((1000, images, _LATENTS))
    amortised, best = (float(model.elbo(few, q, fresh)[0].mean()) for q in (encoded, local))
    exact = float(model.log_evidence(few).mean())
    return {"amortised ELBO": amortised, "ELBO of local q": best, "log p(x)": exact}


def _amortisation_share() -> Measured:
    found = split_gap()
    amortised, best, exact = found.values()
    return (best - amortised) / (exact - amortised), "share", found


METHODS: dict[str, Method] = {"amortisation-dominates": Method(compute=_amortisation_share)}
"""The method of each finding in this module."""
