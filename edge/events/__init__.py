"""From window scores to events: when a sound begins, when it ends, and what is reported."""
