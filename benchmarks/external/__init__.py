"""Trained VAEs of other code bases, each by its own loop, scored by `vaebench evaluate`."""
