"""Training: recipes, model construction, batches, optimisers and callbacks."""
