"""One cell of vaebench from top to bottom, in plain PyTorch: read it to learn what a cell does.

This file trains a Bernoulli VAE on the 8x8 digits that scikit-learn contains and computes its
ELBO on the test images. It uses nothing of vaebench. A test checks that vaebench gets the same
ELBO for the same cell (``docs/one_cell.toml``) within 1e-4 nats::

    python docs/one_cell.py
    vaebench run docs/one_cell.toml --no-report

The comments say how one seed becomes initial weights, the order of the images and all noise.
"""

import hashlib
import math

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

# The cell: one value of every axis that matters here.
SEED = 0
EPOCHS = 30
BATCH_SIZE = 64
LEARNING_RATE = 2e-3
HIDDEN = 128
LATENT_DIM = 8
GREY_LEVELS = 17  # digits have the grey levels 0 to 16; level k is the pixel value k / 16


def generator(purpose: str) -> torch.Generator:
    """Return an independent random generator for one purpose of the seed.

    The first 8 bytes of SHA-256("SEED/purpose"), without their last bit, seed the generator.
    Weights, order and noise therefore never share random numbers, and seeds 0 and 1 are unrelated.
    """
    digest = hashlib.sha256(f"{SEED}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def load_images() -> tuple[Tensor, Tensor]:
    """Return the training images (1437, 64) and the test images (360, 64), grey, in [0, 1].

    The split (80/20 by class) and the order of the images within each part are fixed: they are
    the same for every seed, so cells that differ in their seed are scored on the same images.
    """
    digits = load_digits()
    parts = train_test_split(
        np.arange(len(digits.target)), test_size=0.2, stratify=digits.target, random_state=0
    )
    splits = []
    for rows in parts:
        shuffled = rows[np.random.default_rng(271_828).permutation(len(rows))]
        levels = digits.images[shuffled].reshape(len(rows), -1)
        splits.append(torch.tensor(levels, dtype=torch.float32) / (GREY_LEVELS - 1))
    return splits[0], splits[1]


def binarize(grey: Tensor, source: torch.Generator) -> Tensor:
    """Draw 0 or 1 for each pixel; its grey value is the probability of a 1."""
    return (torch.rand(grey.shape, generator=source) < grey).float()


def linear(size_in: int, size_out: int, source: torch.Generator) -> nn.Linear:
    """Return a linear layer with PyTorch's initial values, U(-1/sqrt(size_in), 1/sqrt(size_in)).

    The values come from our own generator, first the weight, then the bias.
    """
    layer = nn.Linear(size_in, size_out)
    bound = 1 / math.sqrt(size_in)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=source)
        layer.bias.uniform_(-bound, bound, generator=source)
    return layer


class VAE(nn.Module):
    """q(z|x) = N(mean(x), diag exp(log_variance(x))), p(z) = N(0, I), p(x|z) = Bernoulli."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        # One generator, "weights", gives all weights: encoder first, then decoder.
        source = generator("weights")
        self.encoder = nn.Sequential(
            linear(pixels, HIDDEN, source), nn.ReLU(), linear(HIDDEN, 2 * LATENT_DIM, source)
        )
        self.decoder = nn.Sequential(
            linear(LATENT_DIM, HIDDEN, source), nn.ReLU(), linear(HIDDEN, pixels, source)
        )

    def terms(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two terms of the negative ELBO of each image, in nats.

        Args:
            x: binary pixels, (B, D).
            noise: standard normal numbers, (B, LATENT_DIM), one code for each image.

        Returns:
            The reconstruction error -log p(x|z) and KL(q(z|x) || p(z)), both (B,).
        """
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        # The reparameterisation: z is a sample of q(z|x) and a differentiable function of it.
        z = mean + torch.exp(log_variance / 2) * noise
        logits = self.decoder(z)
        # log p(x|z) = sum over pixels of x log p + (1 - x) log (1 - p): all constants are here.
        error = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
        # Between Gaussians the KL has a closed form (Kingma and Welling 2014, appendix B).
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(-1)
        return error, kl


def train(vae: VAE, images: Tensor) -> None:
    """Maximise the ELBO with Adam; print the mean ELBO of each epoch.

    Three generators are advanced: "order" draws one permutation at the start of each epoch;
    "pixels" binarises the images of a batch again at each visit; "noise" draws their codes.
    The last batch of an epoch is smaller (1437 = 22 * 64 + 29) and is used too.
    """
    order, pixels, noise = (generator(purpose) for purpose in ("order", "pixels", "noise"))
    optimizer = torch.optim.Adam(vae.parameters(), lr=LEARNING_RATE)
    for epoch in range(EPOCHS):
        total = 0.0
        for rows in torch.randperm(len(images), generator=order).split(BATCH_SIZE):
            x = binarize(images[rows], pixels)
            error, kl = vae.terms(x, torch.randn(len(x), LATENT_DIM, generator=noise))
            loss = (error + kl).mean()  # nats per image; beta would multiply kl here, only here
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        print(f"epoch {epoch + 1}: training ELBO {-total / len(images):.2f} nats per image")


@torch.no_grad()
def evaluate(vae: VAE, images: Tensor) -> dict[str, float]:
    """Return the test metrics: means over the images, and the standard error of the ELBO.

    The test images are binarised once with a fixed seed, the same for every cell and every seed.
    The codes are drawn from the generator "evaluation" of the cell's seed, one for each image.
    The code is a sample, not the posterior mean: the mean would give a number that is not a bound.
    """
    x = binarize(images, torch.Generator().manual_seed(20_160_619))
    error, kl = vae.terms(x, torch.randn(len(x), LATENT_DIM, generator=generator("evaluation")))
    elbo = -(error + kl).double()
    return {
        "elbo": elbo.mean().item(),
        "elbo_se": elbo.std().item() / math.sqrt(len(x)),
        "reconstruction_error": error.double().mean().item(),
        "kl": kl.double().mean().item(),
        # The pixels are binary, so the ELBO bounds the log-probability of the image itself.
        "bits_per_dim": -elbo.mean().item() / (x.shape[1] * math.log(2)),
    }


def main() -> dict[str, float]:
    """Train and score the cell; print and return its metrics."""
    torch.set_num_threads(1)  # one thread, as each worker of vaebench on a CPU
    train_images, test_images = load_images()
    vae = VAE(train_images.shape[1])
    train(vae, train_images)
    metrics = evaluate(vae, test_images)
    for name, value in metrics.items():
        print(f"{name:<22}{value:10.4f}")
    return metrics


if __name__ == "__main__":
    main()
