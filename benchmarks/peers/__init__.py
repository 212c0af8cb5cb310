"""The same small VAE, trained by vaebench and by the code that people use otherwise."""
