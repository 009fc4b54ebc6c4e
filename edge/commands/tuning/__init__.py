"""The parts of `semanticac-edge tune`: every threshold tried at once, and the choice among them."""
