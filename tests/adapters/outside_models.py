"""Models as people write them outside vaebench; nothing of it is imported here."""

import math

import torch
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal


class LinearVAE(nn.Module):
    """A linear Gaussian VAE with distributions of its own; sigma 0.5."""

    def __init__(self, pixels: int, size: int = 3) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.to_mean, self.decoder = nn.Linear(pixels, size), nn.Linear(size, pixels)
        self.log_variance = nn.Parameter(torch.full((size,), -1.0))
        self.prior = Independent(Normal(torch.zeros(size), torch.ones(size)), 1)

    def encode(self, x):
        mean = self.to_mean(x.flatten(1))
        deviation = (0.5 * self.log_variance).exp().expand_as(mean)
        return Independent(Normal(mean, deviation), 1)

    def decode(self, z):
        mean = self.decoder(z).view(len(z), 1, 1, -1)
        return Independent(Normal(mean, torch.full_like(mean, 0.5)), 3)


class PlainVAE(nn.Module):
    """An MLP that returns tensors, as most public code does, on 8 x 8 images."""

    def __init__(self, logits: bool = False) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.hidden, self.heads = nn.Linear(64, 32), nn.Linear(32, 4)
        self.decoder = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 64))
        self.logits = logits
        with torch.no_grad():
            self.heads.weight.mul_(4)
            self.decoder[-1].weight.mul_(6)

    def encode(self, x):
        mean, log_variance = self.heads(self.hidden(x).relu()).chunk(2, 1)
        return mean, log_variance - 2

    def decode(self, z):
        output = self.decoder(z)
        return output if self.logits else output.sigmoid()


class Losses(PlainVAE):
    """A Bernoulli or Gaussian VAE whose loss may have a planted error."""

    prior = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)

    def __init__(self, error: str, gaussian: bool = False) -> None:
        super().__init__()
        self.error, self.gaussian = error, gaussian

    def encode(self, x):
        mean, log_variance = super().encode(x.flatten(1))
        return Independent(Normal(mean, (0.5 * log_variance).exp()), 1)

    def decode(self, z):
        mean = super().decode(z).view(-1, 1, 8, 8)
        if self.gaussian:
            return Independent(Normal(mean, torch.full_like(mean, 0.2)), 3)
        return Independent(Bernoulli(mean, validate_args=False), 3)

    def own_loss(self, x):
        q = self.encode(x)
        z = q.rsample()
        mean, scale = q.base_dist.loc, q.base_dist.scale
        kl = 0.5 * (scale**2 + mean**2 - 1 - 2 * scale.log()).sum(1)
        recon = -self.decode(z).log_prob(x)
        if self.error == "mean":
            recon = recon / 64
        if self.error == "no constant":
            recon = recon - 32 * math.log(2 * math.pi * 0.2**2)
        weights = {"beta": 4.0, "sign": -1.0}
        return (recon + weights.get(self.error, 1.0) * kl).mean()


def plain():
    return PlainVAE()


def fails():
    raise RuntimeError("no weights here")
