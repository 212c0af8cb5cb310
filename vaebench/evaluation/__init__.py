"""A trained model and a split, turned into named metrics with units; never imports training."""
