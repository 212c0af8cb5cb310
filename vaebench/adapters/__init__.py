"""How a trained VAE that vaebench did not train becomes one that `evaluation` can score."""
