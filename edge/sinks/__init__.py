"""Outputs of the listener, one module per kind; all subclass `base.Sink`."""
