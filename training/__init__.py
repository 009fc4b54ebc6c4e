"""Recipes, datasets, augmentation, evaluation and the command lines."""
