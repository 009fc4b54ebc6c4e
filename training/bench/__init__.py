"""Benchmarks of inference, listening and training: `python -m training.bench --help`."""
