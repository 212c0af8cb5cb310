"""Imported once by the fork server, to load what torch loads at its first use."""

import torch

# The first optimizer of a process imports torch's compiler, which takes a second.
torch.optim.SGD([torch.zeros(1)], lr=1.0)
