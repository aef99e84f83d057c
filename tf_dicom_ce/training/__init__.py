"""Training: the loop, and everything that a run records about itself."""
