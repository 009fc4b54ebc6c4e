"""From samples to scores: the front end, the bundle, its interpreter, the stream around them."""
