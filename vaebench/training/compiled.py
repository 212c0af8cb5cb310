"""A training step compiled as a whole: loss, gradient and update as one program.

Compiling takes some seconds a design and makes the step of a small VAE three times as fast, of one
of MNIST's size 1.7 times; `worth_compiling` says from how many steps on that is repaid. Results
differ by rounding only, which is checked before a compiled step is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.func import functional_call

from vaebench.grid.cell import Cell
from vaebench.model.vae import VAE
from vaebench.training.optimizer import AdamState, PackOptimizer
from vaebench.training.products import use_own_products
from vaebench.training.step import Step, StepTerms, training_loss

__all__ = ["TOLERANCE", "NotCompiled", "compiled_step", "worth_compiling"]

_FEWEST_STEPS = {"cpu": 5_000, "cuda": 300_000}
"""On a CPU milliseconds are saved a step, and some seconds are spent on a design's first compiling.
On a GPU, where steps are replayed anyhow, a tenth of a millisecond may be saved: an estimate, not
measured yet."""

_OPTIONS = {
    "cpu": {
        "compile_threads": 1,
        # Python between the operations costs a small step a tenth.
        "cpp_wrapper": True,
    },
    "cuda": {
        "compile_threads": 1,
        # What does not depend on each other in one launch: all updates of the weights, say.
        "combo_kernels": True,
        # An activation is the end of its product, not worked out anew for each that reads it.
        "realize_reads_threshold": 1,
        "realize_acc_reads_threshold": 64,
        "realize_opcount_threshold": 1000,
    },
}

_SMALL_PRODUCT = 2**23
"""Multiplications up to which a product on a GPU costs its launch and little else."""


TOLERANCE = {"float32": 1e-3, "bfloat16": 1e-2}
"""How far a compiled or replayed step may be from the one as it is, as a share of what moves.

A number of bfloat16 is rounded by up to 0.004 of itself, and a sum in another order may round so.
"""


class NotCompiled(Exception):
    """A step could not be compiled here, or its numbers were not those of the eager one."""


def worth_compiling(steps: int, device_type: str) -> bool:
    """Whether so many steps of training repay compiling on ``cpu``, ``cuda`` or another type."""
    return steps >= _FEWEST_STEPS.get(device_type, math.inf)


def compiled_step(
    vae: VAE,
    cells: Sequence[Cell],
    weights: Tensor,
    optimizer: PackOptimizer,
    x: Tensor,
    noise: Tensor,
) -> Step:
    """The training step as one program for batches of the shapes of ``x`` and ``noise``.

    The operations of one step on this batch are written down and compiled together. Weights and
    Adam's moments are arguments that it updates; everything else of the model is constant.

    Raises:
        NotCompiled: there is no compiler, it can't do this design, or the numbers differ.
    """
    traced = _Traced(vae, cells, weights, optimizer)
    device_type = x.device.type
    try:
        # Two seconds to import, which only a long training repays.
        from torch import _inductor
        from torch._guards import TracingContext, tracing
        from torch._subclasses import FakeTensorMode
        from torch.fx.experimental.proxy_tensor import make_fx
        from torch.fx.experimental.symbolic_shapes import ShapeEnv

        arguments = [*_trial(optimizer), x, noise]
        sums = {} if device_type == "cpu" else _AS_SUMS
        graph = make_fx(traced.step, decomposition_table=sums)(*arguments)
        if device_type == "cpu":
            use_own_products(graph.graph, x, len(arguments) - 2, optimizer)
        for node in graph.graph.nodes:
            node.meta.clear()  # what tracing noted of shapes; the compiler finds them anew
        # The compiler looks into its cache only where a context says that no shape varies.
        with tracing(TracingContext(FakeTensorMode(shape_env=ShapeEnv()))):
            program: Callable[..., Sequence[Tensor]] = _inductor.compile(
                graph, [*_trial(optimizer), x, noise], options=_OPTIONS[device_type]
            )
        outcome = _outcome(program, _trial(optimizer), x, noise)
    except Exception as error:  # whatever a compiler stumbles over, training goes on without it
        first_line = str(error).partition("\n")[0]
        raise NotCompiled(f"{type(error).__name__}: {first_line}") from error
    expected = _outcome(traced.step, _trial(optimizer), x, noise)
    tolerance = TOLERANCE[cells[0].precision]
    for ours, theirs in zip(outcome, expected, strict=True):
        if not float((ours - theirs).norm()) <= tolerance * float(theirs.norm()) + 1e-5:
            raise NotCompiled("its numbers are not those of the same operations one by one")
    state = optimizer.state.tensors()

    def step(x: Tensor, noise: Tensor) -> Tensor:
        (numbers,) = program(*state, *optimizer.next_pace(), x, noise)
        return numbers

    return step


def _product(a: Tensor, b: Tensor) -> Any:
    """A small matrix product as a sum, which a compiler melts together with what is around it.

    `benchmarks/README.md` has how many launches that leaves. A larger product is left as it is.
    """
    if len(a) * b.numel() > _SMALL_PRODUCT:
        return NotImplemented
    return (a.unsqueeze(2) * b.unsqueeze(0)).sum(1)


def _product_and_bias(bias: Tensor, a: Tensor, b: Tensor) -> Any:
    product = _product(a, b)
    return product if product is NotImplemented else bias + product


_AS_SUMS: dict[OpOverload[..., Any], Callable[..., Any]] = {
    torch.ops.aten.mm.default: _product,
    torch.ops.aten.addmm.default: _product_and_bias,
}


class _Traced(nn.Module):
    """A step as a function of the state and the batch, tensors in and tensors out."""

    def __init__(
        self, vae: VAE, cells: Sequence[Cell], weights: Tensor, optimizer: PackOptimizer
    ) -> None:
        super().__init__()
        self.vae, self._cells, self._weights, self._optimizer = vae, cells, weights, optimizer
        self._names = [f"vae.{name}" for name, p in vae.named_parameters() if p.requires_grad]

    def forward(self, x: Tensor, noise: Tensor) -> StepTerms:
        return training_loss(self.vae, self._cells, self._weights, x, noise)

    def step(self, *tensors: Tensor) -> list[Tensor]:
        """State, pace, pixels and noise to the stacked terms; updates the state."""
        *given, x, noise = tensors
        count = len(self._optimizer.state.tensors())
        adam, pace = AdamState.of(given[:count]), given[count:]
        weights = [weight.detach().requires_grad_() for weight in adam.weights]
        terms = functional_call(self, dict(zip(self._names, weights, strict=True)), (x, noise))
        gradients = torch.autograd.grad(terms.loss.sum(), weights, allow_unused=True)
        with torch.no_grad():
            strides = self._optimizer.traced_strides(pace)
            self._optimizer.traced_update(adam, gradients, strides)
        return [terms.stacked()]


def _trial(optimizer: PackOptimizer) -> list[Tensor]:
    """A copy of the state with a second moment of one, an update smooth in the gradient; a pace.

    From the zeros of the start Adam moves a weight by the sign of its gradient, which rounding may
    turn where the gradient is all but zero.
    """
    state = optimizer.state
    copies = [[t.clone() for t in part] for part in (state.weights, state.first_moments)]
    second = [torch.ones_like(t) for t in state.second_moments]
    return [*copies[0], *copies[1], *second, *optimizer.trial_pace()]


def _outcome(
    program: Callable[..., Sequence[Tensor]], state: Sequence[Tensor], x: Tensor, noise: Tensor
) -> list[Tensor]:
    """What a step gives, and how it moves each tensor of a state."""
    before = [tensor.clone() for tensor in state]
    numbers = program(*state, x, noise)
    return [*numbers, *(after - then for after, then in zip(state, before, strict=True))]
