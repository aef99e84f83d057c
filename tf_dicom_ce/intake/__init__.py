"""Turns a source (folder, archive, PACS) into an index of its images, and a report on it."""
