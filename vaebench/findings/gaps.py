"""The posterior gap of a small VAE, split into amortisation and approximation.

A VAE with two latents and one tanh layer on each side is trained on binarised digits of
scikit-learn. With two latents log p(x) is an integral over a plane, so both parts are exact up to
the noise of the ELBO: optimising q for each image gives the amortisation gap, the rest is the
approximation gap. Source of the split: Cremer et al. 2018, Sec. 2.
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


def _of_weights(x: Floats, gradient: Floats) -> Floats:
    """Gradient of an affine map by its weights and bias, from that by its output."""
    return np.concatenate([x.T @ gradient, gradient.sum(0, keepdims=True)])


@dataclass(frozen=True)
class SmallVAE:
    """Four matrices: two of the encoder, two of the decoder; Bernoulli pixels, prior N(0, I)."""

    weights: tuple[Floats, ...]

    @classmethod
    def of(cls, flat: Floats) -> "SmallVAE":
        """The model whose weights are these numbers in a row."""
        ends = np.cumsum([rows * columns for rows, columns in _SHAPES])[:-1]
        return cls(tuple(w.reshape(s) for w, s in zip(np.split(flat, ends), _SHAPES, strict=True)))

    def encode(self, x: Floats) -> Floats:
        """Mean and log variance of q(z|x), ``(N, 4)``."""
        return _affine(np.tanh(_affine(x, self.weights[0])), self.weights[1])

    def log_likelihood(self, x: Floats, z: Floats) -> Floats:
        """Log p(x|z) in nats, summed over pixels; ``x (..., 64)``, ``z (..., 2)``."""
        logits = _affine(np.tanh(_affine(z, self.weights[2])), self.weights[3])
        return np.asarray((x * logits - np.logaddexp(0, logits)).sum(axis=-1))

    def elbo(self, x: Floats, q: Floats, noise: Floats) -> tuple[Floats, Floats, list[Floats]]:
        """The ELBO of each image under codes ``q (N, 4)``, and its summed gradients.

        Args:
            x: images, ``(N, 64)``.
            q: means and log variances of the codes.
            noise: standard normal numbers, ``(S, N, 2)``.

        Returns:
            The ELBO ``(N,)`` in nats, its gradient by ``q``, and those by the decoder's matrices.
        """
        mean, log_variance = q[:, :_LATENTS], q[:, _LATENTS:]
        deviation = np.exp(log_variance / 2)
        z = (mean + deviation * noise).reshape(-1, _LATENTS)
        hidden = np.tanh(_affine(z, self.weights[2]))
        logits = _affine(hidden, self.weights[3])
        pixels = np.tile(x, (len(noise), 1))
        likelihood = (pixels * logits - np.logaddexp(0, logits)).sum(axis=1)
        kl = 0.5 * (deviation**2 + mean**2 - 1 - log_variance).sum(axis=1)
        elbo = likelihood.reshape(len(noise), -1).mean(axis=0) - kl
        of_logits = (pixels - expit(logits)) / len(noise)
        of_hidden = (of_logits @ self.weights[3][:-1].T) * (1 - hidden**2)
        of_z = (of_hidden @ self.weights[2][:-1].T).reshape(noise.shape)
        of_log_variance = (of_z * noise).sum(0) * deviation / 2 - (deviation**2 - 1) / 2
        of_q = np.concatenate([of_z.sum(0) - mean, of_log_variance], axis=1)
        return elbo, of_q, [_of_weights(z, of_hidden), _of_weights(hidden, of_logits)]

    def gradient(self, x: Floats, noise: Floats) -> tuple[float, Floats]:
        """The mean ELBO of images under the encoder, and its gradient by all weights."""
        hidden = np.tanh(_affine(x, self.weights[0]))
        elbo, of_q, of_decoder = self.elbo(x, _affine(hidden, self.weights[1]), noise)
        of_hidden = (of_q @ self.weights[1][:-1].T) * (1 - hidden**2)
        every = [_of_weights(x, of_hidden), _of_weights(hidden, of_q), *of_decoder]
        return float(elbo.mean()), np.concatenate([g.ravel() for g in every]) / len(x)

    def log_evidence(self, x: Floats, width: float = 6.0, points: int = 121) -> Floats:
        """Log p(x) in nats of each image, by the trapezoidal rule on a square of the plane."""
        line = np.linspace(-width, width, points)
        z = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, _LATENTS)
        log_prior = -0.5 * (z**2).sum(axis=1) - np.log(2 * np.pi)
        cell = 2 * np.log(line[1] - line[0])
        each = [logsumexp(self.log_likelihood(image, z) + log_prior) + cell for image in x]
        return np.array(each)


def _maximise(function: Callable[[Floats], tuple[float, Floats]], start: Floats, n: int) -> Floats:
    """L-BFGS from `start`; the function returns a value and its gradient."""

    def negative(flat: Floats) -> tuple[float, Floats]:
        value, gradient = function(flat)
        return -value, -gradient

    found = minimize(negative, start, jac=True, method="L-BFGS-B", options={"maxiter": n})
    return np.asarray(found.x)


def split_gap(steps: int = 200, images: int = 100) -> dict[str, float]:
    """Train the small VAE and split its posterior gap, as means over training images in nats."""
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
"""How each finding of this module is measured."""
