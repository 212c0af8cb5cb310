"""Images as tensors with a declared range, number of grey levels and binarisation."""
