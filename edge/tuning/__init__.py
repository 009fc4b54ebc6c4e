"""What `edge.tune` is made of: every threshold tried at once, and the choice among them."""
