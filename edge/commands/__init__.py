"""Commands of `semanticac-edge`: modules with `DESCRIPTION`, `add_arguments` and `run`."""
