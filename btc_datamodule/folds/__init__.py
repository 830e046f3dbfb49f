"""All folds of a split: each fitted, tested and predicted by itself, joined and scored."""
