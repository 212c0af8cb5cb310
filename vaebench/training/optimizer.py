"""Adam over the members of a pack, each with its own learning rate and weight decay."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vaebench.grid.cell import Cell
from vaebench.model.vae import VAE

__all__ = ["AdamState", "PackOptimizer"]

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
"""The defaults of `torch.optim.Adam`."""

_SCALE_RATE = 10.0
"""A learned scale is a few numbers on a log axis: it moves ten times as fast as the weights."""


@dataclass(frozen=True)
class AdamState:
    """Stacked weights, a tensor a parameter, and Adam's running means of gradient and square."""

    weights: Sequence[Tensor]
    first_moments: Sequence[Tensor]
    second_moments: Sequence[Tensor]

    def tensors(self) -> list[Tensor]:
        """All of them, in this order."""
        return [*self.weights, *self.first_moments, *self.second_moments]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> AdamState:
        """From what `tensors` gives."""
        count = len(tensors) // 3
        return cls(tensors[:count], tensors[count : 2 * count], tensors[2 * count :])


class PackOptimizer:
    """Adam (Kingma and Ba 2015) with its usual constants.

    The stacked weights stay the tensors that the network computes with. Members that share rate
    and decay are updated by one call of torch's fused kernel; a member whose loss is no longer
    finite is dropped and stays as it is from then on, and the others never notice. Weight decay is
    coupled (added to the gradient) and leaves biases and scales alone.
    """

    def __init__(self, vae: VAE, cells: Sequence[Cell]) -> None:
        named = [(name, p) for name, p in vae.named_parameters() if p.requires_grad]
        self._cells = cells
        self.weights = [p for _, p in named]
        weights = [p.detach() for p in self.weights]
        self.state = AdamState(
            weights, [torch.zeros_like(w) for w in weights], [torch.zeros_like(w) for w in weights]
        )
        # Members are updated together for as long as they are, so they share their count.
        self.steps = torch.zeros((), device=weights[0].device)
        self._decays = [_decays(name) for name, _ in named]
        self._rates = [_SCALE_RATE if name.endswith("raw_scale") else 1.0 for name, _ in named]
        self._gradients: Sequence[Tensor | None] = ()
        self._members: Sequence[int] = range(len(cells))
        self._factor = 1.0
        # On a GPU the rates are tensors, which a step that is replayed reads anew.
        self._on_gpu = self.steps.is_cuda
        self._member_rates = torch.tensor(
            [cell.learning_rate for cell in cells], device=self.steps.device
        )
        self._strides = torch.zeros(len(cells) + 1)
        # The memory of both: after a product has emptied the caches, scalars of torch and of numpy
        # take many times as long.
        on_cpu = self.steps.device.type == "cpu"
        self._numbers = (_memory(self.steps), _memory(self._strides)) if on_cpu else None
        self._groups = self._grouped()

    def _grouped(self) -> dict[tuple[float, float], _Group]:
        groups: dict[tuple[float, float], _Group] = {}
        for member in self._updated():
            for key, slot in self._slots_of(member):
                rate = key[0] * self._factor
                made = torch.tensor(rate, device=self.steps.device) if self._on_gpu else rate
                groups.setdefault(key, _Group(made, [])).slots.append(slot)
        return groups

    def _updated(self) -> Sequence[int | None]:
        """The members that are updated, each as tensors of its own; None for all in one."""
        alike = len({(cell.learning_rate, cell.weight_decay) for cell in self._cells}) == 1
        whole = self._on_gpu and alike and len(self._members) == len(self._cells)
        return [None] if whole else self._members

    def store_by_columns(self, index: int) -> None:
        """Store a stack of weight matrices and their moments column by column.

        The numbers and shapes stay; a product that reads columns is faster. Before the first step.
        """
        parts = [list(part) for part in (self.state.first_moments, self.state.second_moments)]
        parameter = self.weights[index]
        parameter.data = _by_columns(parameter.data)
        for part in parts:
            part[index] = _by_columns(part[index])
        self.state = AdamState([p.detach() for p in self.weights], *parts)
        self._groups = self._grouped()

    def set_factor(self, factor: float) -> None:
        """Set every member's learning rate to its own times ``factor``."""
        self._factor = factor
        for member in self._members:
            self._member_rates[member] = self._cells[member].learning_rate * factor
        for key, group in self._groups.items():
            if isinstance(group.rate, Tensor):
                group.rate.fill_(key[0] * factor)
            else:
                group.rate = key[0] * factor

    def step(self, gradients: Sequence[Tensor | None]) -> None:
        """Update the members that are still trained by the stacked weights' gradients."""
        self._gradients = gradients
        self.steps.add_(1)
        for (_, decay), group in self._groups.items():
            used = [
                (slot, _laid_out_as(slot.weight, self._of(gradient, slot.member)))
                for slot in group.slots
                if (gradient := gradients[slot.index]) is not None
            ]
            if not used:
                continue
            # The kernel itself: what `torch.optim.Adam` does around it costs more than the update
            # of a small VAE.
            torch._fused_adam_(
                [slot.weight for slot, _ in used],
                [gradient for _, gradient in used],
                [slot.first_moment for slot, _ in used],
                [slot.second_moment for slot, _ in used],
                [],
                [self.steps for _ in used],
                lr=group.rate,
                beta1=_BETA1,
                beta2=_BETA2,
                weight_decay=decay,
                eps=_EPSILON,
                amsgrad=False,
                maximize=False,
            )

    def next_pace(self) -> list[Tensor]:
        """Begin a step that is taken by `traced_update`: what its program is called with.

        Returns:
            On a CPU the strides themselves, the same tensor at each call. Elsewhere, where a number
            that Python works out would have to be sent there, the count of steps, which the program
            has to raise, and the members' learning rates, ``(P,)``: `traced_strides` works them out
            there.
        """
        self._gradients = ()
        if self._numbers is None:
            return [self.steps, self._member_rates]
        steps, strides = self._numbers
        steps[0] += 1
        count = steps[0]
        scale = self._factor / (1 - _BETA1**count)
        for member in self._members:
            strides[member] = self._cells[member].learning_rate * scale
        strides[-1] = (1 - _BETA2**count) ** -0.5
        return [self._strides]

    def trial_pace(self) -> list[Tensor]:
        """What `next_pace` might give; each member's is another, so that none is taken for one."""
        spread = torch.linspace(0.5, 1.5, len(self._cells) + 1, device=self.steps.device)
        return [spread] if self._numbers is not None else [torch.ones_like(self.steps), spread[:-1]]

    def traced_strides(self, pace: Sequence[Tensor]) -> Tensor:
        """The strides of a step from its pace, in operations that a compiler can melt together.

        Returns:
            ``(P + 1,)`` float32: each member's learning rate over the first moment's bias
            correction, 0 for one that was dropped; last 1 over the square root of the second's.
        """
        if self._numbers is not None:
            return pace[0]
        steps, rates = pace
        count = steps + 1
        steps.copy_(count)
        # With expm1, since 1 - 0.999 has four digits left in float32.
        first, second = (-torch.expm1(count * math.log(beta)) for beta in (_BETA1, _BETA2))
        return torch.cat((rates / first, second.rsqrt().view(1)))

    def traced_update(
        self, state: AdamState, gradients: Sequence[Tensor | None], strides: Tensor
    ) -> None:
        """The update of ``state`` in operations that a compiler can melt together.

        It rounds in other places than `step`, and does the same for all members at once.
        """
        parts = zip(
            state.weights,
            state.first_moments,
            state.second_moments,
            gradients,
            self._rates,
            self._decays,
            strict=True,
        )
        for weight, first, second, gradient, rate, decays in parts:
            if gradient is None:
                continue
            a_member = (-1, *[1] * (weight.dim() - 1))
            stride = strides[:-1].view(a_member)
            if decays and any(cell.weight_decay for cell in self._cells):
                decay = weight.new_tensor([cell.weight_decay for cell in self._cells])
                gradient = gradient + decay.view(a_member) * weight
            mean = first + (1 - _BETA1) * (gradient - first)
            square = _BETA2 * second + (1 - _BETA2) * gradient * gradient
            moved = weight - rate * stride * mean / (square.sqrt() * strides[-1] + _EPSILON)
            if len(self._cells) > 1:
                # Of a dropped member the gradient need not be finite: 0 times it is no 0.
                moved = torch.where(stride > 0, moved, weight)
            first.copy_(mean)
            second.copy_(square)
            weight.copy_(moved)

    def drop(self, member: int) -> None:
        """Train this member no longer."""
        self._members = [each for each in self._members if each != member]
        self._strides[member] = 0
        self._member_rates[member] = 0
        self._groups = self._grouped()

    def is_finite(self, member: int) -> bool:
        """Whether all of a member's weights are finite."""
        return all(bool(self._of(w, member).isfinite().all()) for w in self.state.weights)

    def gradient_norm(self, member: int) -> float | None:
        """The Euclidean norm of a member's last gradient; None after `next_pace`."""
        gradients = [self._of(g, member) for g in self._gradients if g is not None]
        return float(nn.utils.get_total_norm(gradients)) if gradients else None

    def _of(self, stacked: Tensor, member: int | None) -> Tensor:
        """One member's part; a single cell's weights need not be stacks: a user's own are not."""
        return stacked if member is None or len(self._cells) == 1 else stacked[member]

    def _slots_of(self, member: int | None) -> Iterator[tuple[tuple[float, float], _Slot]]:
        cell = self._cells[member or 0]
        parts = zip(
            self.state.weights, self.state.first_moments, self.state.second_moments, strict=True
        )
        for index, stacks in enumerate(parts):
            rate, decay = cell.learning_rate * self._rates[index], self._decays[index]
            slot = _Slot(member, index, *(self._of(stacked, member) for stacked in stacks))
            yield (rate, cell.weight_decay if decay else 0.0), slot


@dataclass(frozen=True)
class _Slot:
    """What the kernel updates as one tensor: one member's part of a stacked weight.

    On a CPU never the whole stack, though that were one tensor for many: a member is updated by the
    same call as when it is trained alone.
    """

    member: int | None
    index: int
    weight: Tensor
    first_moment: Tensor
    second_moment: Tensor


@dataclass
class _Group:
    """What is updated by one call: the slots of one rate and one decay."""

    rate: float | Tensor
    slots: list[_Slot]


def _memory(numbers: Tensor) -> memoryview[float]:
    return memoryview(numbers.view(-1).numpy().data)


def _by_columns(stack: Tensor) -> Tensor:
    return stack.mT.contiguous().mT


def _laid_out_as(weight: Tensor, gradient: Tensor) -> Tensor:
    """The gradient in the memory layout of the weight: Adam's kernel reads both in order."""
    if gradient.stride() == weight.stride():
        return gradient
    return torch.empty_like(weight).copy_(gradient)


def _decays(name: str) -> bool:
    return not name.endswith(("bias", "raw_scale", "spread"))
