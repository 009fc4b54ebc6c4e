"""The commands of `semanticac-edge`, a module each: `DESCRIPTION`, `add_arguments`, `run`."""
