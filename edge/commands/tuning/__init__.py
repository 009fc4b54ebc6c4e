"""Parts of `semanticac-edge tune`: a sweep over all thresholds, and the choice among them."""
