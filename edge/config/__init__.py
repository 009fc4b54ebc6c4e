"""Options from flags, a TOML file and the environment, and the listener they describe."""
