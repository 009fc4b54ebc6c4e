"""Datasets, training, evaluation and their command lines."""
