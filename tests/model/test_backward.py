"""Every backward pass that is written by hand, against finite differences in float64."""

import ast
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.func import functional_call

import vaebench
from vaebench.model.networks import Sizes, build_networks
from vaebench.model.posterior import Diagonal, Full

TESTED = {"_KlToPrior", "_MemberwiseAffine", "_LogProb"}
"""The last one by the gradients of the Bernoulli family in `test_likelihoods`."""


def drawn(*shape: int) -> Tensor:
    source = torch.Generator().manual_seed(3 + len(shape))
    return torch.randn(shape, generator=source, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0])
def test_the_gradient_of_the_kl_to_the_prior(scale: float) -> None:
    prior_scale = torch.full((2, 1, 1), scale, dtype=torch.float64)

    def kl(mean: Tensor, log_variance: Tensor) -> Tensor:
        return Diagonal(mean, log_variance).kl_per_dimension(prior_scale)

    assert gradcheck(kl, (drawn(2, 3, 4), drawn(2, 3, 4)))
    at_prior = torch.zeros(2, 3, 4, dtype=torch.float64).requires_grad_()
    assert gradcheck(kl, (at_prior, at_prior.detach().clone().requires_grad_()))


def test_the_gradient_of_the_kl_of_a_full_covariance() -> None:
    prior_scale = torch.full((1, 1, 1), 0.7, dtype=torch.float64)

    def kl(mean: Tensor, log_diagonal: Tensor, below: Tensor) -> Tensor:
        q = Full(mean, log_diagonal, below.tril(-1))
        return q.kl(prior_scale).sum() + q.kl_per_dimension(prior_scale).sum()

    assert gradcheck(kl, (drawn(1, 2, 3), drawn(1, 2, 3), drawn(1, 2, 3, 3)))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_gradient_of_a_packs_layers(activation: str) -> None:
    """Two members: a pack of one takes torch's own product."""
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    encoder, _ = build_networks("mlp", Sizes((1, 2, 3), 2, 4, 1), (4,), activation, generators)
    encoder.double()
    names, weights = zip(*encoder.named_parameters(), strict=True)

    def output(x: Tensor, *values: Tensor) -> Tensor:
        return functional_call(encoder, dict(zip(names, values, strict=True)), (x,))

    assert gradcheck(output, (drawn(2, 3, 6), *(w.detach().requires_grad_() for w in weights)))


def test_every_backward_written_by_hand_is_tested() -> None:
    found = set()
    for path in Path(vaebench.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                methods = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
                if {"forward", "backward"} <= methods:
                    found.add(node.name)
    assert found == TESTED
