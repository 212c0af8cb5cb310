"""pythae's VAE with its default network (784-512-20) in its own trainer."""

from __future__ import annotations

import logging
import tempfile
import time

import numpy as np
import torch
from pythae.data.datasets import BaseDataset
from pythae.models import BetaVAE, BetaVAEConfig
from pythae.trainers import BaseTrainer, BaseTrainerConfig

from benchmarks.peers.workload import Weights, Workload

__all__ = ["HIDDEN", "PYTHAE_BATCH", "train_pythae"]

HIDDEN = 512
"""Width of the hidden layers of pythae's default networks."""

PYTHAE_BATCH = BaseTrainerConfig().per_device_train_batch_size
"""pythae's default batch size."""


def train_pythae(work: Workload, seed: int) -> tuple[float, Weights]:
    """Train with the trainer's own epochs, without saving and without copies of the best model.

    Raises:
        ValueError: the workload is not of the width that pythae's default network has.
    """
    if work.hidden != HIDDEN:
        raise ValueError(f"pythae's default network has {HIDDEN} hidden units; got {work.hidden}")
    logging.getLogger("pythae").setLevel(logging.ERROR)
    torch.manual_seed(seed)
    images = torch.from_numpy(work.train).unsqueeze(1) / 255
    config = BetaVAEConfig(
        input_dim=(1, 28, 28),
        latent_dim=work.latent_dim,
        reconstruction_loss="bce",
        beta=work.beta,
    )
    model = BetaVAE(config)
    with tempfile.TemporaryDirectory() as folder:
        settings = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=work.epochs,
            per_device_train_batch_size=work.batch_size,
            learning_rate=work.learning_rate,
            no_cuda=True,
            seed=seed,
        )
        trainer = BaseTrainer(model, BaseDataset(images, torch.zeros(len(images))), None, settings)
        trainer.prepare_training()
        begin = time.perf_counter()
        for epoch in range(1, work.epochs + 1):
            trainer.train_step(epoch)
        seconds = time.perf_counter() - begin
    return seconds, _weights(model)


def _weights(model: BetaVAE) -> Weights:
    encoder, decoder = model.encoder, model.decoder
    layers = (
        (encoder.layers[0][0],),
        (encoder.embedding, encoder.log_var),
        (decoder.layers[0][0],),
        (decoder.layers[1][0],),
    )
    joined = []
    for parts in layers:
        joined.append(np.concatenate([part.weight.detach().numpy() for part in parts]))
        joined.append(np.concatenate([part.bias.detach().numpy() for part in parts]))
    return joined
