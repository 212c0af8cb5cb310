"""Adapters: present trained VAEs of other code to `evaluation` as a `vaebench.model.vae.VAE`."""
