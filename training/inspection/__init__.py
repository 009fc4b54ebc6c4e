"""Checks of a dataset before training: balance, levels, duplicates, and what gives a class away."""
