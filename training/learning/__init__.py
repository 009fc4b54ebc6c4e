"""How a model learns: recipes, the model before training, batches, optimisers, callbacks."""
