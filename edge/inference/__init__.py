"""From samples to scores: front end, bundle, interpreter and streaming classifier."""
