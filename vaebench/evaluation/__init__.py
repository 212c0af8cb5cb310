"""Evaluate a trained model on a split: named metrics with units. Does not import training."""
