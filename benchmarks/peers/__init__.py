"""The same small VAE trained by vaebench and by what a person would use in its place."""
