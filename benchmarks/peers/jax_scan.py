"""The same VAE in JAX: one jitted program scans over the batches of an epoch."""

from __future__ import annotations

import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers.workload import Weights, Workload

__all__ = ["train_jax"]

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


def _initial(key, work):
    """PyTorch's initial values: uniform within 1/sqrt(fan_in)."""
    sizes = (
        (work.hidden, work.pixels),
        (2 * work.latent_dim, work.hidden),
        (work.hidden, work.latent_dim),
        (work.pixels, work.hidden),
    )
    weights = []
    for size_out, size_in in sizes:
        key, one, two = jax.random.split(key, 3)
        bound = size_in**-0.5
        weights.append(jax.random.uniform(one, (size_in, size_out), minval=-bound, maxval=bound))
        weights.append(jax.random.uniform(two, (size_out,), minval=-bound, maxval=bound))
    return weights


def _loss(weights, x, noise, beta):
    w1, b1, w2, b2, w3, b3, w4, b4 = weights
    mean, log_variance = jnp.split(jax.nn.relu(x @ w1 + b1) @ w2 + b2, 2, axis=-1)
    z = mean + jnp.exp(0.5 * log_variance) * noise
    logits = jax.nn.relu(z @ w3 + b3) @ w4 + b4
    error = (jax.nn.softplus(logits) - x * logits).sum(-1)
    kl = 0.5 * (jnp.exp(log_variance) - 1 - log_variance + mean**2).sum(-1)
    return (error + beta * kl).mean()


def _adam(state, gradients, step, learning_rate):
    weights, first, second = state
    updated = []
    for w, g, m, v in zip(weights, gradients, first, second, strict=True):
        m = _BETA1 * m + (1 - _BETA1) * g
        v = _BETA2 * v + (1 - _BETA2) * g * g
        rate = learning_rate / (1 - _BETA1**step)
        w = w - rate * m / (jnp.sqrt(v / (1 - _BETA2**step)) + _EPSILON)
        updated.append((w, m, v))
    return tuple([part[i] for part in updated] for i in range(3))


@partial(jax.jit, static_argnames=("batch_size", "latent_dim"), donate_argnums=(0,))
def _epoch(state, images, key, step, learning_rate, beta, *, batch_size, latent_dim):
    order_key, noise_key = jax.random.split(key)
    full = len(images) // batch_size * batch_size  # a scan has no short batch
    order = jax.random.permutation(order_key, len(images))[:full].reshape(-1, batch_size)
    noise = jax.random.normal(noise_key, (*order.shape, latent_dim))

    def one_step(carry, inputs):
        state, step = carry
        indices, eps = inputs
        loss, gradients = jax.value_and_grad(_loss)(state[0], images[indices], eps, beta)
        return (_adam(state, gradients, step + 1, learning_rate), step + 1), loss

    (state, step), losses = jax.lax.scan(one_step, (state, step), (order, noise))
    return state, step, losses


def train_jax(work: Workload, seed: int, *, warm_up: bool = True) -> tuple[float, Weights]:
    """Train; ``warm_up`` compiles the program in an epoch that is not timed."""
    images = jnp.asarray(work.train.reshape(len(work.train), -1), jnp.float32) / 255
    sizes = {"batch_size": work.batch_size, "latent_dim": work.latent_dim}
    numbers = (jnp.float32(work.learning_rate), jnp.float32(work.beta))
    if warm_up:
        jax.block_until_ready(_epoch(*_start(work, seed), *numbers, **sizes)[2])
    state, images, key, step = _start(work, seed)
    begin = time.perf_counter()
    for key_of_epoch in jax.random.split(key, work.epochs):
        state, step, losses = _epoch(state, images, key_of_epoch, step, *numbers, **sizes)
        losses.sum().item()  # the sum of an epoch, as the other loops compute it
    seconds = time.perf_counter() - begin
    return seconds, _weights(state[0])


def _start(work, seed):
    images = jnp.asarray(work.train.reshape(len(work.train), -1), jnp.float32) / 255
    key = jax.random.key(seed)
    weights = _initial(key, work)
    state = (weights, [jnp.zeros_like(w) for w in weights], [jnp.zeros_like(w) for w in weights])
    return state, images, jax.random.fold_in(key, 1), jnp.float32(0)


def _weights(weights) -> Weights:
    """Back to PyTorch's ``(out, in)``."""
    return [np.array(w).T.copy() for w in weights]
