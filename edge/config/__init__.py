"""Options from flags, a TOML file and the environment, and factories of the listener's parts."""
