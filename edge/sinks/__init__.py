"""Where results go: one small file a kind of sink, all alike (see `base.Sink`)."""
