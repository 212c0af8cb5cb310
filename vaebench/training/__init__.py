"""Train a pack of cells (cells trained as one program); writes only checkpoints."""
