"""Training, measurement, description and comparison of the packaged model."""
