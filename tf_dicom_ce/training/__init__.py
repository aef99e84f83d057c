"""Training: what happens in a step, and what a run writes down about itself."""
