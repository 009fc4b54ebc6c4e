"""From the scores of windows to events: when a sound begins, when it ends, what is reported."""
