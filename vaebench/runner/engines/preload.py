"""Imported once by a fork server: its processes start with what torch loads at the first use."""

import torch

# The first optimizer of a process imports torch's compiler, which takes a second.
torch.optim.SGD([torch.zeros(1)], lr=1.0)
