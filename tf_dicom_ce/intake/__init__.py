"""Where files come from: a source to an index of its images, and what was found in it."""
